//! Deliveries from a backlog that stands ready, to few and many endpoints, beside endpoints that hang, and the cost of
//! an event as subscriptions grow.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::receiver::Receiver;
use crate::report::{Report, millis, percentile};
use crate::subject::Subject;

/// Deliveries of one measurement.
const DELIVERIES: usize = 60_000;
/// Samples of a latency.
const SAMPLES: usize = 500;
const HANGING: usize = 50;
/// Events of which no subscription wants any.
const UNWANTED: usize = 20_000;

pub async fn run(subject: &Subject, report: &mut Report) {
    report.section(
        "Webhook deliveries from a backlog",
        "Every delivery stands in its log when the measurement begins; the time runs to the last answer. Each is signed \
         twice and written to the request log, durably. Each endpoint is a subscription of its own on one receiver, which reads \
         requests and answers with fixed bytes. CPU is that of the server process and of its Postgres, bytes are the \
         growth of the database and of its write-ahead log.",
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
        "20,000 events in one transaction, of which no subscription wants any: from its commit until the fan-out, and \
         beside it the readers of triggers and of waiting flows, have passed them. Then one flow at a time as above, \
         beside as many subscriptions that want nothing of it.",
    );
    for subscriptions in [1, 10, 100, 1000] {
        matching(subject, report, subscriptions).await;
    }
}

pub async fn subscribe(subject: &Subject, url: &str, kind: &str, count: usize) {
    let token = subject.token("workbench").await;
    let body = json!({ "types": [kind], "url": url });
    for _ in 0..count {
        let made = subject.http.post(subject.path("webhook")).bearer_auth(&token).json(&body).send().await.unwrap();
        assert_eq!(made.status(), 200, "{}", made.text().await.unwrap());
    }
}

/// Takes every subscription away.
pub async fn clear(subject: &Subject) {
    execute(subject, "DELETE FROM webhook_subscriptions").await;
}

pub async fn execute(subject: &Subject, statement: &str) {
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
             SELECT {env}, gen_random_uuid(), '{name}', 'user-1', now(), date_trunc('milliseconds', now()), false, '{payload}'
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

/// The processor time so far of the server, and of the processes below it: its Postgres.
fn cpu(subject: &Subject) -> [Duration; 2] {
    let mut processes = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let fields: Vec<u64> =
            stat.rsplit(") ").next().unwrap().split(' ').map(|field| field.parse().unwrap_or(0)).collect();
        // A tick is a hundredth of a second on every Linux. Children that ended are in their parent's account.
        let ticks: u64 = fields[11..15].iter().sum();
        processes.push((pid, fields[1], Duration::from_millis(ticks * 10)));
    }
    let mut below = vec![u64::from(subject.pid())];
    let mut sums = [Duration::ZERO; 2];
    while let Some(parent) = below.pop() {
        for (pid, of, time) in &processes {
            if u64::from(*pid) == parent && parent == u64::from(subject.pid()) {
                sums[0] += *time;
            } else if *of == parent {
                sums[1] += *time;
                below.push(u64::from(*pid));
            }
        }
    }
    sums
}

/// What the machine has spent so far: time of the server and of Postgres, bytes of the database and of its log.
async fn spent(subject: &Subject) -> [f64; 4] {
    let bytes = subject
        .rows("SELECT pg_database_size(current_database())::bigint, (pg_current_wal_lsn() - '0/0')::bigint")
        .await
        .remove(0);
    let [server, postgres] = cpu(subject).map(|time| time.as_secs_f64() * 1e6);
    [server, postgres, bytes.get::<_, i64>(0) as f64, bytes.get::<_, i64>(1) as f64]
}

async fn backlog(subject: &Subject, report: &mut Report, endpoints: usize) {
    let receiver = Receiver::start().await;
    subscribe(subject, &receiver.url, "stream-displayed", endpoints).await;
    execute(subject, "UPDATE webhook_streams SET paused_until = now() + interval '1 hour'").await;
    record(subject, "stream-displayed", DELIVERIES / endpoints).await;
    let wanted = u64::try_from(DELIVERIES / endpoints * endpoints).unwrap();
    let waiting = "SELECT coalesce(sum(head - cursor), 0)::bigint FROM webhook_streams";
    while u64::try_from(subject.count(waiting).await).unwrap() < wanted {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    execute(subject, "CHECKPOINT").await;
    let before = spent(subject).await;
    let started = Instant::now();
    execute(subject, "UPDATE webhook_streams SET paused_until = NULL").await;
    let time = receiver.wait_for(wanted).await.duration_since(started).as_secs_f64();
    subject.quiet("SELECT sum(delivered)::bigint FROM webhook_streams").await;
    let after = spent(subject).await;
    let [server, postgres, database, log] = std::array::from_fn(|index| (after[index] - before[index]) / wanted as f64);
    report.row(
        &format!("{endpoints} endpoints"),
        format!(
            "{:.0} deliveries/s; each {server:.0} µs of CPU in the server and {postgres:.0} µs in Postgres, {database:.0} \
             bytes of database and {log:.0} of log",
            wanted as f64 / time
        ),
    );
    clear(subject).await;
}

pub async fn latency(subject: &Subject, healthy: &Receiver, samples: usize) -> String {
    let token = subject.token("events").await;
    let mut taken = Vec::with_capacity(samples);
    for sample in 0..samples {
        let before = healthy.count();
        subject.start_flows(&token, &[format!("neighbour-{sample}")]).await;
        let answered = Instant::now();
        taken.push(healthy.wait_for(before + 1).await.saturating_duration_since(answered));
    }
    let (median, late) = (percentile(&mut taken, 0.5), percentile(&mut taken, 0.99));
    format!("p50 {}, p99 {}", millis(median), millis(late))
}

async fn neighbours(subject: &Subject, report: &mut Report) {
    let (healthy, hanging) = (Receiver::start().await, Receiver::start().await);
    hanging.hang();
    subscribe(subject, &healthy.url, "card-published", 1).await;
    for beside in [0, HANGING] {
        if beside > 0 {
            subscribe(subject, &hanging.url, "video-completed", beside).await;
            record(subject, "video-completed", 500).await;
            hanging.wait_for(u64::try_from(beside).unwrap()).await;
        }
        report.row(&format!("{beside} hang"), latency(subject, &healthy, SAMPLES).await);
    }
    clear(subject).await;
}

async fn matching(subject: &Subject, report: &mut Report, subscriptions: usize) {
    let healthy = Receiver::start().await;
    subscribe(subject, "http://127.0.0.1:9/", "video-completed", subscriptions).await;
    subject.read_all().await;
    record(subject, "stream-displayed", UNWANTED).await;
    let started = Instant::now();
    // A start rings the bell that the insert did not.
    let token = subject.token("events").await;
    subject.start_flows(&token, &["bell".to_owned()]).await;
    subject.read_all().await;
    let each = started.elapsed().as_secs_f64() * 1e6 / UNWANTED as f64;
    subscribe(subject, &healthy.url, "card-published", 1).await;
    let latency = latency(subject, &healthy, SAMPLES / 5).await;
    report.row(&format!("{subscriptions} subscriptions"), format!("{each:.1} µs an event; {latency}"));
    clear(subject).await;
}
