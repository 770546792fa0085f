//! `kill -9` under delivery load, against receivers that keep a ledger: nothing is lost, a repeat has the same id and
//! the same bytes, and comes only of what was under way when the server died. The same with the database torn away.
//!
//! `CARDWIRE_CRASH_KILLS` asks for more kills than the few of every run: at least twenty before a release.

use cardwire::db::embedded;
use cardwire::webhooks::reconcile::{self, Books};
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};

use super::*;
use crate::support::receiver::{Received, Reply};

const LANES: u64 = 4;
/// An acknowledgement is saved within so long. What was answered earlier before a kill is not sent again.
const UNACKNOWLEDGED: Duration = Duration::from_secs(2);

#[expect(clippy::disallowed_methods, reason = "how long a test runs is not the server's configuration")]
fn kills() -> u64 {
    std::env::var("CARDWIRE_CRASH_KILLS").map_or(3, |kills| kills.parse().unwrap())
}

/// Starts flows until told to end, whatever becomes of single requests; the invocations that were answered.
async fn start_while(running: &std::cell::Cell<bool>, process: &Process, round: u64, lane: u64) -> Vec<String> {
    let path = process.path(&format!("action-flow/{}/start", text(&process.ready["flowConfigId"])));
    let token = process.token("events").await;
    let mut answered = Vec::new();
    for number in 0.. {
        if !running.get() {
            break;
        }
        let invocation = format!("ledger-{round}-{lane}-{number}");
        let body = json!({ "flows": [{ "flowInvocationId": invocation,
            "target": { "type": "user", "targetUserIds": format!("customer-{lane}-{number}") },
            "payload": { "variables": { "amount": "1" } } }] });
        match process.client.try_call(&token, "POST", &path, body).await {
            Some(answer) if answer.status == 200 => answered.push(invocation),
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
    answered
}

async fn database(directory: &std::path::Path) -> AsyncPgConnection {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(url) = embedded::running(directory)
            && let Ok(conn) = AsyncPgConnection::establish(&url).await
        {
            return conn;
        }
        assert!(Instant::now() < deadline, "the database does not answer");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Receivers of one kind each: requests with one event, batches, and one that fails now and then.
struct Ledger {
    single: Receiver,
    batches: Receiver,
    failing: Receiver,
}

impl Ledger {
    async fn subscribe(process: &Process) -> Ledger {
        let (single, batches, failing) = (Receiver::start().await, Receiver::start().await, Receiver::start().await);
        failing.reply_next((0..4000).map(|number| Reply::Status(if number % 97 == 96 { 500 } else { 200 })));
        let token = process.token("workbench").await;
        for (receiver, batched) in [(&single, false), (&batches, true), (&failing, false)] {
            let hook = json!({ "types": ["card-published"], "url": receiver.url(), "isBatched": batched });
            let made = process.client.call(&token, "POST", &process.path("webhook"), hook).await;
            assert_eq!(made.status, 200, "{}", made.text);
        }
        Ledger { single, batches, failing }
    }

    /// Waits until each receiver took all that was answered, and nothing waits any more.
    async fn settle(&self, directory: &std::path::Path, answered: &BTreeSet<String>) -> Books {
        let deadline = Instant::now() + PATIENCE;
        for receiver in [&self.single, &self.batches, &self.failing] {
            loop {
                let came: BTreeSet<String> =
                    receiver.received().iter().filter(|took| took.status == 200).flat_map(invocations).collect();
                let lost = answered.difference(&came).count();
                if lost == 0 {
                    break;
                }
                assert!(Instant::now() < deadline, "{lost} of {} did not come", answered.len());
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        let conn = database(directory).await;
        loop {
            let books = reconcile::books(&conn).await.unwrap();
            assert_eq!(books.unaccounted, 0, "{books:?}");
            if books.fresh + books.open + books.retrying == 0 {
                return books;
            }
            assert!(Instant::now() < deadline, "something is stuck: {books:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Repeats have one body, each event stands in one request, and what was taken long before a kill came once.
    fn check(&self, kills: &[tokio::time::Instant]) {
        for receiver in [&self.single, &self.batches, &self.failing] {
            let mut requests: BTreeMap<String, Vec<Received>> = BTreeMap::new();
            for took in receiver.received() {
                requests.entry(took.header("webhook-id").to_owned()).or_default().push(took);
            }
            let mut carried: BTreeMap<String, &str> = BTreeMap::new();
            for (id, attempts) in &requests {
                assert!(attempts.iter().all(|attempt| attempt.body == attempts[0].body), "{id} has several bodies");
                for event in events(&attempts[0]) {
                    let other = carried.insert(event.clone(), id);
                    assert_eq!(other, None, "{event} came under two ids");
                }
                let taken: Vec<_> = attempts.iter().filter(|attempt| attempt.status == 200).collect();
                for pair in taken.windows(2) {
                    let excused = kills
                        .iter()
                        .any(|kill| pair[0].at <= *kill && *kill <= pair[1].at && *kill - pair[0].at < UNACKNOWLEDGED);
                    assert!(excused, "{id} was sent again after it was taken");
                }
            }
        }
    }
}

fn data(took: &Received) -> Vec<serde_json::Value> {
    match took.json()["data"].clone() {
        serde_json::Value::Array(batch) => batch,
        event => vec![event],
    }
}

fn events(took: &Received) -> Vec<String> {
    data(took).iter().map(|event| text(&event["id"])).collect()
}

fn invocations(took: &Received) -> Vec<String> {
    data(took).iter().map(|event| text(&event["platformContext"]["flowInvocationId"])).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_nine_under_delivery_load_loses_nothing_and_repeats_only_what_was_under_way() {
    let directory = process::directory("ledger");
    let mut process = Process::start(&directory).await;
    let ledger = Ledger::subscribe(&process).await;
    let (mut answered, mut killed) = (BTreeSet::new(), Vec::new());
    for round in 0..kills() {
        let token = process.token("events").await;
        let path = process.path(&format!("action-flow/{}/start", text(&process.ready["flowConfigId"])));
        let lanes: Vec<_> = (0..LANES)
            .map(|lane| start_until_killed(process.client.clone(), path.clone(), token.clone(), round, lane))
            .collect();
        let killing = async {
            // Not at the same moment of every round, nor of its batches.
            tokio::time::sleep(Duration::from_millis(300 + 431 * (round * 7 % 5))).await;
            process.kill();
            tokio::time::Instant::now()
        };
        let (lanes, at) = tokio::join!(futures_util::future::join_all(lanes), killing);
        answered.extend(lanes.into_iter().flatten());
        killed.push(at);
        process = Process::start(&directory).await;
    }
    assert!(answered.len() > 20, "the load was too small to mean anything: {}", answered.len());
    let books = ledger.settle(&directory, &answered).await;
    assert!(books.delivered >= 3 * i64::try_from(answered.len()).unwrap(), "{books:?}");
    ledger.check(&killed);
    drop(process);
    let _ = fs::remove_dir_all(&directory);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_breaks_away_loses_nothing() {
    let directory = process::directory("database");
    let process = Process::start(&directory).await;
    let ledger = Ledger::subscribe(&process).await;
    let running = std::cell::Cell::new(true);
    let starting = futures_util::future::join_all((0..LANES).map(|lane| start_while(&running, &process, 0, lane)));
    let mut torn = Vec::new();
    let tearing = async {
        for turn in 0..4 {
            tokio::time::sleep(Duration::from_millis(700)).await;
            torn.push(tokio::time::Instant::now());
            let mut conn = database(&directory).await;
            if turn % 2 == 0 {
                let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
                conn.batch_execute(cut).await.unwrap();
            } else {
                end_postgres(&directory);
            }
            torn.push(tokio::time::Instant::now());
            // What is taken while the database is away cannot be noted before it is back.
            let mut back = std::pin::pin!(database(&directory));
            while tokio::time::timeout(UNACKNOWLEDGED / 4, &mut back).await.is_err() {
                torn.push(tokio::time::Instant::now());
            }
            torn.push(tokio::time::Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(1500)).await;
        running.set(false);
    };
    let (lanes, ()) = tokio::join!(starting, tearing);
    let answered: BTreeSet<String> = lanes.into_iter().flatten().collect();
    assert!(answered.len() > 20, "the load was too small to mean anything: {}", answered.len());
    ledger.settle(&directory, &answered).await;
    ledger.check(&torn);
    drop(process);
    let _ = fs::remove_dir_all(&directory);
}

/// Ends PostgreSQL at once, as a crash of it would; the server starts it again.
fn end_postgres(directory: &std::path::Path) {
    let mut open = vec![directory.to_owned()];
    while let Some(below) = open.pop() {
        for entry in fs::read_dir(below).unwrap().flatten() {
            if entry.file_name() == "postmaster.pid" {
                let pid = fs::read_to_string(entry.path()).unwrap().lines().next().unwrap().parse().unwrap();
                let pid = rustix::process::Pid::from_raw(pid).unwrap();
                rustix::process::kill_process(pid, rustix::process::Signal::QUIT).unwrap();
                return;
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(entry.path());
            }
        }
    }
    panic!("PostgreSQL does not run");
}
