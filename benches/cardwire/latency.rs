//! From the commit of a change to the subscriber: each start is timed until its card's patch arrives.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cardwire::ids::{CardId, Id};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::report::{Report, millis, percentile};
use crate::subject::Subject;

const QUERY: &str =
    "subscription($c: ID!) { feed(containerId: $c) { __typename ... on FeedPatch { upserts { card { id } } } } }";
const ROUNDS: usize = 400;
const GAP: Duration = Duration::from_millis(15);

pub async fn run(subject: &Subject, report: &mut Report) {
    report.section(
        "Commit to subscriber",
        "Each subscriber has a personal feed on a socket of its own. Cards are sent one at a time to random subscribers; \
         the time runs from the commit of the transaction that publishes the card, as Postgres notes it \
         (`track_commit_timestamp`, before the log is flushed to disk), to the moment the client on the same machine \
         has the patch. \"Answer to patch\" runs from the answer of `/start` instead, which comes after the commit. \
         Half load: flows for customers who do not listen, at half of the rate that was just measured. The floor is one \
         durable row written through a connection of its own under the same load, from its commit, noted in the same \
         way, to its answer.",
    );
    let token = subject.token("events").await;
    crate::feed::raise_file_limit();
    for (subscribers, load) in [(1000_usize, Load::Idle), (1000, Load::Half), (5000, Load::Idle), (5000, Load::Half)] {
        let background = load.begin(subject, &token).await;
        let (mut from_commit, mut from_answer) = measure(subject, &token, subscribers).await;
        let mut floor = floor(subject).await;
        drop(background);
        let name = load.name();
        report.row(
            &format!("{subscribers} subscribers, {name}, the floor: commit → its own answer"),
            format!("p50 {}, p99 {}", millis(percentile(&mut floor, 0.5)), millis(percentile(&mut floor, 0.99))),
        );
        report.row(
            &format!("{subscribers} subscribers, {name}, commit → patch"),
            format!(
                "p50 {}, p99 {}",
                millis(percentile(&mut from_commit, 0.5)),
                millis(percentile(&mut from_commit, 0.99))
            ),
        );
        report.row(
            &format!("{subscribers} subscribers, {name}, answer → patch"),
            format!(
                "p50 {}, p99 {}",
                millis(percentile(&mut from_answer, 0.5)),
                millis(percentile(&mut from_answer, 0.99))
            ),
        );
    }
}

/// What the server does beside.
#[derive(Clone, Copy)]
enum Load {
    Idle,
    /// Half of the flows a second that it was just seen to take, for customers who do not listen.
    Half,
}

impl Load {
    fn name(self) -> &'static str {
        match self {
            Load::Idle => "idle",
            Load::Half => "half load",
        }
    }

    async fn begin(self, subject: &Subject, token: &str) -> JoinSet<()> {
        let mut background = JoinSet::new();
        if let Load::Half = self {
            const BATCH: u32 = 20;
            let customers: Vec<String> = (0..BATCH).map(|index| format!("load-{index}")).collect();
            let began = Instant::now();
            let mut batches = 0;
            while began.elapsed() < Duration::from_secs(3) {
                subject.start_flows(token, &customers).await;
                batches += 1;
            }
            // Twice the time that a batch took when nothing else was asked.
            let pause = began.elapsed() / batches * 2;
            let (starts, token) = (subject.starts(), token.to_owned());
            background.spawn(async move {
                let mut ticks = tokio::time::interval(pause);
                loop {
                    ticks.tick().await;
                    starts.send(&token, &customers).await;
                }
            });
        }
        background
    }
}

/// A patch as a subscriber saw it.
struct Arrival {
    customer: usize,
    at: Instant,
    /// Microseconds of the wall clock.
    wall: i64,
    card: CardId,
}

#[expect(clippy::disallowed_methods, reason = "both ends read the wall clock of one machine")]
fn wall() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

async fn measure(subject: &Subject, token: &str, subscribers: usize) -> (Vec<Duration>, Vec<Duration>) {
    let (told, mut arrived) = mpsc::unbounded_channel();
    let mut sockets = JoinSet::new();
    let ready = Arc::new(tokio::sync::Semaphore::new(0));
    for index in 0..subscribers {
        let customer = format!("latency-{subscribers}-{index}");
        let (token, url, container) = (
            subject.customer_token(&customer),
            subject.url("/graphql").replace("http", "ws"),
            subject.text("/containerId"),
        );
        let (told, ready) = (told.clone(), ready.clone());
        sockets.spawn(async move { listen(index, &url, &token, &container, &ready, &told).await });
        if index % 50 == 49 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let all = u32::try_from(subscribers).unwrap();
    let settled = tokio::time::timeout(Duration::from_secs(60), ready.acquire_many(all)).await;
    settled.expect("every subscriber gets its snapshot").unwrap().forget();
    let mut answered: HashMap<usize, Instant> = HashMap::new();
    let (mut arrivals, mut from_answer) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let index = (round * 7919) % subscribers;
        subject.start_flows(token, &[format!("latency-{subscribers}-{index}")]).await;
        answered.insert(index, Instant::now());
        let arrival: Arrival =
            tokio::time::timeout(Duration::from_secs(10), arrived.recv()).await.expect("a patch").unwrap();
        if let Some(answered) = answered.remove(&arrival.customer) {
            from_answer.push(arrival.at.saturating_duration_since(answered));
        }
        arrivals.push((arrival.card, arrival.wall));
        tokio::time::sleep(GAP).await;
    }
    sockets.abort_all();
    let commits = commits(subject).await;
    let from_commit = arrivals.iter().map(|(card, wall)| {
        let committed = commits.get(card).copied().unwrap_or(i64::MAX);
        Duration::from_micros(u64::try_from(wall - committed).expect("a patch comes after its commit"))
    });
    (from_commit.collect(), from_answer)
}

/// From the commit of one row to the answer that it is committed.
async fn floor(subject: &Subject) -> Vec<Duration> {
    let (client, connection) = tokio_postgres::connect(&subject.database().1, tokio_postgres::NoTls).await.unwrap();
    let driving = async { connection.await.unwrap() };
    let asking = async {
        client.batch_execute("CREATE TABLE IF NOT EXISTS floor (number bigint PRIMARY KEY)").await.unwrap();
        client.batch_execute("TRUNCATE floor").await.unwrap();
        let insert = client.prepare("INSERT INTO floor VALUES ($1)").await.unwrap();
        let committed = "SELECT (extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000000)::bigint
                         FROM floor WHERE number = $1";
        let committed = client.prepare(committed).await.unwrap();
        let mut latencies = Vec::new();
        for number in 0..i64::try_from(ROUNDS).unwrap() {
            client.execute(&insert, &[&number]).await.unwrap();
            let answered = wall();
            let committed: i64 = client.query_one(&committed, &[&number]).await.unwrap().get(0);
            latencies.push(Duration::from_micros(u64::try_from(answered - committed).unwrap_or(0)));
            tokio::time::sleep(GAP / 3).await;
        }
        drop(client);
        latencies
    };
    tokio::join!(asking, driving).0
}

/// When each card was published, in microseconds of the wall clock.
async fn commits(subject: &Subject) -> HashMap<CardId, i64> {
    let rows = subject
        .rows(
            "SELECT card_id::text, (extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000000)::bigint
             FROM feed_changes WHERE op = 'publish'",
        )
        .await;
    rows.iter()
        .map(|row| {
            let card: String = row.get(0);
            (CardId::from_uuid(uuid::Uuid::parse_str(&card).unwrap()), row.get(1))
        })
        .collect()
}

async fn listen(
    index: usize,
    url: &str,
    token: &str,
    container: &str,
    ready: &tokio::sync::Semaphore,
    arrivals: &mpsc::UnboundedSender<Arrival>,
) {
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "graphql-transport-ws".parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    let init =
        json!({ "type": "connection_init", "payload": { "apiKey": "web", "authToken": token, "platform": "Web" } });
    let subscribe =
        json!({ "id": "1", "type": "subscribe", "payload": { "query": QUERY, "variables": { "c": container } } });
    socket.send(Message::Text(init.to_string().into())).await.unwrap();
    socket.send(Message::Text(subscribe.to_string().into())).await.unwrap();
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        let (at, wall) = (Instant::now(), wall());
        let message: Value = serde_json::from_str(&text).unwrap();
        let feed = &message["payload"]["data"]["feed"];
        match feed["__typename"].as_str() {
            Some("FeedSnapshot") => ready.add_permits(1),
            Some("FeedPatch") => {
                let card = feed["upserts"][0]["card"]["id"].as_str().unwrap_or_default();
                let _ = arrivals.send(Arrival { customer: index, at, wall, card: CardId::parse(card).unwrap() });
            }
            _ => assert!(message["type"] != "error", "{message}"),
        }
    }
}
