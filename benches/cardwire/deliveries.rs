//! Deliveries from a backlog that stands ready, to few and many endpoints, beside endpoints that hang, and the cost of
//! an event as subscriptions grow.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::post;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::report::{Report, millis, percentile};
use crate::subject::Subject;

/// Deliveries of one measurement.
const DELIVERIES: usize = 40_000;
/// Samples of a latency.
const SAMPLES: usize = 300;
const HANGING: usize = 50;
const LONGEST: Duration = Duration::from_secs(180);

/// A receiver on this machine: counts, notes when each came, and hangs when told to.
struct Endpoint {
    url: String,
    count: Arc<AtomicU64>,
    last: Arc<Mutex<Option<Instant>>>,
    hangs: Arc<AtomicBool>,
    serving: tokio::task::JoinHandle<()>,
}

impl Endpoint {
    async fn start() -> Endpoint {
        let (count, last) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(None)));
        let hangs = Arc::new(AtomicBool::new(false));
        let (counting, noting, hanging) = (count.clone(), last.clone(), hangs.clone());
        let answer = move |_: axum::body::Bytes| {
            let (counting, noting, hanging) = (counting.clone(), noting.clone(), hanging.clone());
            async move {
                counting.fetch_add(1, Ordering::Relaxed);
                *noting.lock() = Some(Instant::now());
                if hanging.load(Ordering::Relaxed) {
                    std::future::pending::<()>().await;
                }
                "ok"
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let router = Router::new().route("/hook", post(answer));
        #[expect(clippy::disallowed_methods, reason = "aborted when the endpoint is dropped")]
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Endpoint { url, count, last, hangs, serving }
    }

    async fn wait_for(&self, count: u64) -> Instant {
        let deadline = Instant::now() + LONGEST;
        while self.count.load(Ordering::Relaxed) < count {
            assert!(Instant::now() < deadline, "{} of {count} came", self.count.load(Ordering::Relaxed));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.last.lock().unwrap_or_else(Instant::now)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

pub async fn run(subject: &Subject, report: &mut Report) {
    report.section(
        "Webhook deliveries from a backlog",
        "Every delivery stands in its log when the measurement begins; the time runs to the last answer. Each is signed \
         twice and written to the request log, durably. CPU is that of the server process, bytes are the growth of the \
         database and of its write-ahead log.",
    );
    for endpoints in [1, 10, 200] {
        backlog(subject, report, endpoints).await;
    }
    report.section(
        "Webhook latency beside endpoints that hang",
        "One flow at a time, from the answer of its start to the arrival of card-published at a healthy endpoint, alone \
         and beside 50 endpoints that take requests and never answer, each with a backlog.",
    );
    neighbours(subject, report).await;
    report.section(
        "Cost of an event as subscriptions grow",
        "Time of the fan-out from the insert of 2,000 events, of which no subscription wants any, to the reader's place \
         behind them: matching alone.",
    );
    for subscriptions in [1, 10, 100, 1000] {
        matching(subject, report, subscriptions).await;
    }
}

async fn subscribe(subject: &Subject, url: &str, kind: &str, count: usize) {
    let token = subject.token("workbench").await;
    let body = json!({ "types": [kind], "url": url });
    for _ in 0..count {
        let made = subject.http.post(subject.path("webhook")).bearer_auth(&token).json(&body).send().await.unwrap();
        assert_eq!(made.status(), 200, "{}", made.text().await.unwrap());
    }
}

/// Takes every subscription away.
async fn clear(subject: &Subject) {
    execute(subject, "DELETE FROM webhook_subscriptions").await;
}

async fn execute(subject: &Subject, statement: &str) {
    let (client, connection) = tokio_postgres::connect(&subject.database().1, tokio_postgres::NoTls).await.unwrap();
    let driving = async { connection.await.unwrap() };
    let doing = async {
        client.batch_execute(statement).await.unwrap();
        drop(client);
    };
    tokio::join!(doing, driving);
}

/// Records events as an operation would, all in one transaction.
async fn record(subject: &Subject, name: &str, count: usize) {
    let env = "(SELECT id FROM environments ORDER BY created_at LIMIT 1)";
    let payload = payload(name).to_string().replace('\'', "''");
    execute(
        subject,
        &format!(
            "INSERT INTO events (environment_id, id, name, end_user_id, occurred_at, received_at, is_test, payload)
             SELECT {env}, gen_random_uuid(), '{name}', 'user-1', now(), now(), false, '{payload}'
             FROM generate_series(1, {count})"
        ),
    )
    .await;
}

/// An envelope of a usual size.
fn payload(name: &str) -> Value {
    json!({ "id": "evt_00000000000000000000000000", "analyticsEvent": name, "endUserId": "user-1",
        "properties": { "values": { "choice": "yes" }, "buttonName": "accept" }, "padding": "x".repeat(900) })
}

/// The processor time of the server so far.
fn cpu(subject: &Subject) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", subject.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    // A tick is a hundredth of a second on every Linux.
    Duration::from_millis(ticks * 10)
}

async fn backlog(subject: &Subject, report: &mut Report, endpoints: usize) {
    let endpoint = Endpoint::start().await;
    subscribe(subject, &endpoint.url, "stream-displayed", endpoints).await;
    execute(subject, "UPDATE webhook_streams SET paused_until = now() + interval '1 hour'").await;
    record(subject, "stream-displayed", DELIVERIES / endpoints).await;
    let wanted = i64::try_from(DELIVERIES / endpoints * endpoints).unwrap();
    while subject.count("SELECT coalesce(sum(head - cursor), 0)::bigint FROM webhook_streams").await < wanted {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let sizes = "SELECT (pg_database_size(current_database()))::bigint";
    let wal = "SELECT (pg_current_wal_lsn() - '0/0')::bigint";
    let before = (cpu(subject), subject.count(sizes).await, subject.count(wal).await);
    let started = Instant::now();
    execute(subject, "UPDATE webhook_streams SET paused_until = NULL").await;
    let ended = endpoint.wait_for(u64::try_from(wanted).unwrap()).await;
    let time = ended.duration_since(started).as_secs_f64();
    subject.quiet("SELECT sum(delivered)::bigint FROM webhook_streams").await;
    let after = (cpu(subject), subject.count(sizes).await, subject.count(wal).await);
    let each = |bytes: i64| bytes / wanted;
    report.row(
        &format!("{endpoints} endpoints"),
        format!(
            "{:.0} deliveries/s, {:.0} µs of CPU, {} bytes of database and {} of log each",
            wanted as f64 / time,
            (after.0 - before.0).as_secs_f64() * 1e6 / wanted as f64,
            each(after.1 - before.1),
            each(after.2 - before.2),
        ),
    );
    clear(subject).await;
}

async fn latency(subject: &Subject, healthy: &Endpoint) -> Vec<Duration> {
    let token = subject.token("events").await;
    let mut taken = Vec::with_capacity(SAMPLES);
    for sample in 0..SAMPLES {
        let before = healthy.count.load(Ordering::Relaxed);
        subject.start_flows(&token, &[format!("neighbour-{sample}")]).await;
        let answered = Instant::now();
        taken.push(healthy.wait_for(before + 1).await.saturating_duration_since(answered));
    }
    taken
}

async fn neighbours(subject: &Subject, report: &mut Report) {
    let (healthy, hanging) = (Endpoint::start().await, Endpoint::start().await);
    hanging.hangs.store(true, Ordering::Relaxed);
    subscribe(subject, &healthy.url, "card-published", 1).await;
    for beside in [0, HANGING] {
        if beside > 0 {
            subscribe(subject, &hanging.url, "video-completed", beside).await;
            record(subject, "video-completed", 500).await;
            hanging.wait_for(u64::try_from(beside).unwrap()).await;
        }
        let mut taken = latency(subject, &healthy).await;
        let (median, late) = (percentile(&mut taken, 0.5), percentile(&mut taken, 0.99));
        report.row(&format!("{beside} hang"), format!("p50 {}, p99 {}", millis(median), millis(late)));
    }
    clear(subject).await;
}

async fn matching(subject: &Subject, report: &mut Report, subscriptions: usize) {
    const EVENTS: usize = 2000;
    subscribe(subject, "http://127.0.0.1:9/", "video-completed", subscriptions).await;
    let passed =
        "SELECT count(*) FROM events e, consumers c WHERE c.name = 'webhooks' AND (e.xid, e.id) > (c.xid, c.event_id)";
    subject.quiet(passed).await;
    let started = Instant::now();
    record(subject, "stream-displayed", EVENTS).await;
    // A start rings the bell that the insert did not.
    let token = subject.token("events").await;
    subject.start_flows(&token, &["bell".to_owned()]).await;
    while subject.count(passed).await > 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let each = started.elapsed().as_secs_f64() * 1e6 / EVENTS as f64;
    report.row(&format!("{subscriptions} subscriptions"), format!("{each:.0} µs an event"));
    clear(subject).await;
}
