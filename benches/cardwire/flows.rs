//! Flows: runs a second of a chain of durable steps, alone, with a million timers waiting, and on DBOS; how late
//! timers fire; whole files; and what a tap feels of them.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use crate::floor;
use crate::load::drive;
use crate::report::{Report, millis, percentile};
use crate::subject::Subject;

const RUNS: usize = 20_000;
const PEER_RUNS: usize = 2_000;
const TIMERS: i64 = 1_000_000;
const LATE: usize = 2_000;
const ROWS: usize = 1_000_000;
const TAPS: usize = 200;
/// From the end of a tap to the next.
const PAUSE: Duration = Duration::from_millis(100);
/// So many groups of a hundred customers are asked for again.
const KNOWN: u64 = 50;

pub async fn run(subject: &Subject, report: &mut Report) {
    report.section(
        "Flows",
        "A run of the chain sends a card, branches on a variable and sends another card; nothing of it is seen before it \
         is on disk, and the three steps, their cards, events and feed are written in one transaction with the start. \
         Starts come with 100 customers in a request from 16 connections. The peer runs the same chain as a DBOS workflow \
         of three steps with 64 at once, whose cards are rows of one table, on the same Postgres. The floor inserts the \
         rows that those runs left into empty tables with the same indexes, from tables beside them, 200 runs in a \
         transaction on two connections: it begins with the finished rows, and never deletes or changes one. Accepted are starts of a flow that \
         waits, from 16 connections; each is durable. Timers are rows of \
         waits that are not due; late are two thousand beside them that come due within a moment. A file has one customer and one variable in each row, and its flow only waits, so \
         that the time is that of starting; two hundred taps are spread over twenty seconds of it. The demo's webhook is \
         disabled, so that no deliveries share the machine.",
    );
    switch_webhooks(subject, "disableWebhook").await;
    let bench = Bench::prepare(subject).await;
    let alone = bench.chains("alone", RUNS).await;
    report.row("card → branch → card, runs a second", format!("{alone:.0}"));
    let floor = floor::rows_of_runs(subject, "chain-alone-%").await;
    report.row("the floor: Postgres alone inserts the rows of as many runs, runs a second", format!("{floor:.0}"));
    if let Some(peer) = peer(subject) {
        report.row("the same chain on DBOS, runs a second", format!("{peer:.0} ({:.1} × as many here)", alone / peer));
    }
    for (name, customers) in [("new", u64::MAX), ("known", KNOWN)] {
        let accepted = bench.accepted(customers).await;
        report.row(&format!("starts accepted a second, 100 in a request, {name} customers"), format!("{accepted:.0}"));
    }
    bench.wait_for_a_million().await;
    let beside = bench.chains("beside", RUNS).await;
    report.row("the chain with 1 M timers waiting, runs a second", format!("{beside:.0}"));
    let (half, most) = bench.lateness().await;
    report.row("lateness of timers with 1 M waiting", format!("p50 {half:.0} ms, p99 {most:.0} ms"));
    let mut idle = bench.taps("idle").await;
    let (file, mut busy) = bench.file().await;
    report
        .row("file of 1 M rows, until all runs have begun", format!("{:.1} s ({:.0} rows/s)", file.seconds, file.rate));
    report
        .row("memory of the server before the file, and at its most", format!("{} MB, {} MB", file.before, file.most));
    for (what, taps) in [("idle", &mut idle), ("while the file is started", &mut busy)] {
        let (half, most) = (millis(percentile(taps, 0.5)), millis(percentile(taps, 0.99)));
        report.row(&format!("a tap, {what}"), format!("p50 {half}, p99 {most}"));
    }
    switch_webhooks(subject, "enableWebhook").await;
}

/// Asks the workbench's side of the server.
async fn ask(subject: &Subject, token: &str, query: &str, variables: &Value) -> Value {
    let request = subject.http.post(subject.url("/graphql")).bearer_auth(token);
    let answer = request.json(&json!({ "query": query, "variables": variables })).send().await.unwrap();
    let answer: Value = answer.json().await.unwrap();
    assert!(answer["errors"].is_null(), "{answer}");
    answer["data"].clone()
}

/// Does the same to every webhook subscription: `disableWebhook` or `enableWebhook`.
async fn switch_webhooks(subject: &Subject, mutation: &str) {
    let token = subject.token("workbench").await;
    let query = "query($env: ID!) { webhookSubscriptions(environmentId: $env) { nodes { id } } }";
    let found = ask(subject, &token, query, &json!({ "env": subject.text("/environmentId") })).await;
    for hook in found["webhookSubscriptions"]["nodes"].as_array().unwrap() {
        let change = format!("mutation($id: ID!) {{ {mutation}(id: $id) {{ __typename }} }}");
        ask(subject, &token, &change, &json!({ "id": hook["id"] })).await;
    }
}

/// What became of a file.
struct File {
    seconds: f64,
    rate: f64,
    before: u64,
    most: u64,
}

struct Bench<'a> {
    subject: &'a Subject,
    events: String,
    chain: String,
    timer: String,
    waiting: String,
}

impl<'a> Bench<'a> {
    async fn prepare(subject: &'a Subject) -> Bench<'a> {
        let workbench = subject.token("workbench").await;
        let ask = async |query: &str, variables: Value| ask(subject, &workbench, query, &variables).await;
        let demo =
            ask("query($id: ID!) { flow(id: $id) { definition } }", json!({ "id": subject.text("/flowConfigId") }));
        let demo = demo.await["flow"]["definition"].clone();
        let make = async |name: &str, steps: Value, variables: &Value| {
            let create = "mutation($env: ID!, $name: String!, $definition: JSONObject!) {
                createFlow(input: { environmentId: $env, name: $name, definition: $definition }) { flow { id } } }";
            let definition = json!({ "variables": variables, "steps": steps });
            let variables = json!({ "env": subject.text("/environmentId"), "name": name, "definition": definition });
            let made = ask(create, variables).await["createFlow"]["flow"]["id"].clone();
            let publish = "mutation($id: ID!) { publishFlow(input: { flowId: $id }) { version } }";
            ask(publish, json!({ "id": made })).await;
            made.as_str().unwrap().to_owned()
        };
        let (mut first, mut last) = (demo["steps"][0].clone(), demo["steps"][0].clone());
        first["key"] = "offer".into();
        last["key"] = "thanks".into();
        last["parent"] = "choose".into();
        last["path"] = "some".into();
        let condition = json!({ "value": "variables.amount", "op": "gte", "to": 10 });
        let choose = json!({ "key": "choose", "parent": "offer", "type": "branch",
            "config": { "conditions": [{ "path": "some", "if": condition }] } });
        let wait = |duration: &str| {
            json!([{ "key": "rest", "parent": "start", "type": "wait",
                "config": { "for": "duration", "duration": duration } }])
        };
        let none = json!([]);
        Bench {
            subject,
            events: subject.token("events").await,
            chain: make("Chain", json!([first, choose, last]), &demo["variables"]).await,
            timer: make("Timer", wait("PT3S"), &none).await,
            waiting: make("Waiting", wait("P30D"), &none).await,
        }
    }

    async fn start(&self, flow: &str, customers: &[String]) {
        let url = self.subject.path(&format!("action-flow/{flow}/start"));
        let send = async |chunk: &[String]| {
            let entry = |customer: &String| {
                json!({ "target": { "type": "user", "targetUserIds": customer },
                    "payload": { "variables": { "amount": "12" } } })
            };
            let flows: Vec<Value> = chunk.iter().map(entry).collect();
            let request = self.subject.http.post(&url).bearer_auth(&self.events).json(&json!({ "flows": flows }));
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
        };
        stream::iter(customers.chunks(100)).for_each_concurrent(16, send).await;
    }

    /// Runs of the chain a second, from the first request to the last step.
    async fn chains(&self, name: &str, runs: usize) -> f64 {
        let customers: Vec<String> = (0..runs).map(|n| format!("chain-{name}-{n}")).collect();
        let began = self.subject.count("SELECT (extract(epoch FROM clock_timestamp()) * 1e6)::bigint").await;
        self.start(&self.chain, &customers).await;
        // Looking on costs the machine as little as can be: the end is read from the rows.
        while self.subject.count("SELECT count(*) FROM tokens WHERE status = 'ready'").await > 0 {
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        let ended = format!(
            "SELECT (extract(epoch FROM max(finished_at)) * 1e6)::bigint FROM runs
             WHERE user_id LIKE 'chain-{name}-%' HAVING count(finished_at) = {runs}"
        );
        runs as f64 * 1e6 / (self.subject.count(&ended).await - began) as f64
    }

    /// Starts accepted a second, of the flow that waits: nothing is executed beside. There are so many groups of customers.
    async fn accepted(&self, groups: u64) -> f64 {
        let url = self.subject.path(&format!("action-flow/{}/start", self.waiting));
        let (http, token) = (self.subject.http.clone(), self.events.clone());
        let outcome = drive(16, Duration::from_secs(5), move |number| {
            let (http, url, token) = (http.clone(), url.clone(), token.clone());
            async move {
                let group = number % groups;
                let entry =
                    |n: u64| json!({ "target": { "type": "user", "targetUserIds": format!("accepted-{group}-{n}") } });
                let flows: Vec<Value> = (0..100).map(entry).collect();
                let request = http.post(&url).bearer_auth(&token).json(&json!({ "flows": flows }));
                assert_eq!(request.send().await.unwrap().status(), 200);
            }
        });
        outcome.await.per_second * 100.0
    }

    /// Puts a million waits beside, by copying one that is real.
    async fn wait_for_a_million(&self) {
        self.start(&self.waiting, &["waiting".to_owned()]).await;
        let waiting = "SELECT count(*) FROM tokens WHERE status = 'waiting'";
        while self.subject.count(waiting).await == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let copy = format!(
            "WITH one AS (SELECT runs.*, tokens.wake_at, tokens.step_key FROM runs JOIN tokens
                          ON tokens.environment_id = runs.environment_id AND run_id = runs.id
                          WHERE tokens.status = 'waiting' LIMIT 1),
                  fresh AS (SELECT gen_random_uuid() AS run_id, n FROM generate_series(1, {TIMERS}) AS n),
                  begun AS (INSERT INTO runs (environment_id, id, flow_id, flow_version, lifecycle_id, batch_id, customer_id,
                                              user_id, invocation, is_test, status, open_steps, started_at)
                            SELECT environment_id, run_id, flow_id, flow_version, lifecycle_id, batch_id, customer_id,
                                   user_id, invocation, is_test, status, open_steps, started_at FROM one, fresh),
                  queued AS (INSERT INTO tokens (environment_id, run_id, step_key, status, lane, wake_at)
                             SELECT environment_id, run_id, step_key, 'waiting', 2, wake_at + n * interval '1 second'
                             FROM one, fresh RETURNING 1)
             SELECT count(*) FROM queued"
        );
        assert_eq!(self.subject.count(&copy).await, TIMERS);
    }

    /// How late waits end, in milliseconds: half of them, and the 99th of a hundred.
    async fn lateness(&self) -> (f64, f64) {
        let customers: Vec<String> = (0..LATE).map(|n| format!("late-{n}")).collect();
        self.start(&self.timer, &customers).await;
        let ended = "SELECT count(*) FROM run_steps
             JOIN runs ON runs.environment_id = run_steps.environment_id AND runs.id = run_id
             WHERE step_key = 'rest' AND user_id LIKE 'late-%'";
        while self.subject.count(ended).await < i64::try_from(LATE).unwrap() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let share = |share: f64| {
            format!(
                "SELECT (1000 * percentile_cont({share}) WITHIN GROUP (
                     ORDER BY extract(epoch FROM run_steps.finished_at - run_steps.started_at) - 3))::bigint
                 FROM run_steps JOIN runs ON runs.environment_id = run_steps.environment_id AND runs.id = run_id
                 WHERE step_key = 'rest' AND user_id LIKE 'late-%'"
            )
        };
        (self.subject.count(&share(0.5)).await as f64, self.subject.count(&share(0.99)).await as f64)
    }

    /// Sends a file, waits until all of its runs have begun, and taps meanwhile.
    async fn file(&self) -> (File, Vec<Duration>) {
        let before = self.memory("VmRSS");
        // The high-water mark begins anew: that of the chains is no matter of the file.
        std::fs::write(format!("/proc/{}/clear_refs", self.subject.pid()), "5").unwrap();
        let rows: String = (0..ROWS).map(|n| format!("row-{n},{n}\n")).collect();
        let csv = format!("target.targetUserIds,payload.metadata.row\n{rows}");
        let url = self.subject.path(&format!("action-flow/{}/csv-task", self.waiting));
        let began = Instant::now();
        let request = self.subject.http.post(&url).bearer_auth(&self.events).header("content-type", "text/csv");
        let answer: Value = request.body(csv).send().await.unwrap().json().await.unwrap();
        let task = format!("{url}/{}", answer["data"]["taskId"].as_str().unwrap_or_else(|| panic!("{answer}")));
        let ended = async {
            loop {
                let answer = self.subject.http.get(&task).bearer_auth(&self.events).send().await.unwrap();
                let answer: Value = answer.json().await.unwrap();
                match answer["data"]["status"].as_str() {
                    Some("complete") => break assert_eq!(answer["data"]["rowsAccepted"], ROWS),
                    Some("failed") | None => panic!("{answer}"),
                    _ => tokio::time::sleep(Duration::from_millis(200)).await,
                }
            }
        };
        let ((), taps) = tokio::join!(ended, self.taps("busy"));
        let seconds = began.elapsed().as_secs_f64();
        let rate = ROWS as f64 / seconds;
        (File { seconds, rate, before, most: self.memory("VmHWM") }, taps)
    }

    /// A line of the server's memory, in megabytes.
    fn memory(&self, line: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.subject.pid())).unwrap_or_default();
        let found =
            status.lines().find_map(|text| text.strip_prefix(line)?.split_whitespace().nth(1)?.parse::<u64>().ok());
        found.unwrap_or_default() / 1024
    }

    /// How long customers wait for the answer to a tap.
    async fn taps(&self, name: &str) -> Vec<Duration> {
        let customers: Vec<String> = (0..TAPS).map(|n| format!("tap-{name}-{n}")).collect();
        self.subject.start_flows(&self.events, &customers).await;
        let there = format!("SELECT count(*) FROM cards WHERE user_id LIKE 'tap-{name}-%'");
        while self.subject.count(&there).await < i64::try_from(TAPS).unwrap() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let mut taps = Vec::with_capacity(TAPS);
        for customer in &customers {
            let container = self.subject.text("/containerId");
            let feed = "query($c: ID!) { feed(containerId: $c) { cards { id } } }";
            let held = self.app(customer, feed, json!({ "c": container })).await;
            let card = held["data"]["feed"]["cards"][0]["id"].clone();
            let complete = "mutation($c: ID!, $id: ID!) { completeCard(input: { containerId: $c, cardId: $id,
                buttonName: \"accept\", values: { choice: \"yes\" } }) { ok } }";
            let began = Instant::now();
            let answer = self.app(customer, complete, json!({ "c": container, "id": card })).await;
            taps.push(began.elapsed());
            assert_eq!(answer["data"]["completeCard"]["ok"], true, "{answer}");
            tokio::time::sleep(PAUSE).await;
        }
        taps
    }

    /// An operation of a customer's app.
    async fn app(&self, customer: &str, query: &str, variables: Value) -> Value {
        let request =
            self.subject.http.post(self.subject.url("/graphql")).bearer_auth(self.subject.customer_token(customer));
        let request = request.header("x-cardwire-api-key", self.subject.text("/sdkKey/name"));
        let body = json!({ "query": query, "variables": variables });
        request.json(&body).send().await.unwrap().json().await.unwrap()
    }
}

/// Runs a second of the chain on DBOS, in a database of its own on the same Postgres.
fn peer(subject: &Subject) -> Option<f64> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/flows");
    if !directory.join("node_modules").exists() {
        let install = Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&directory).status();
        assert!(install.expect("the peer needs Node with npm").success());
    }
    let (host, _) = subject.database();
    let make = ["-q", "-h", &host, "-U", "cardwire", "-d", "cardwire", "-c", "CREATE DATABASE peer_dbos"];
    assert!(Command::new("psql").args(make).status().ok()?.success(), "the peer's database cannot be made");
    let url = format!("postgresql://cardwire@localhost/peer_dbos?host={host}");
    let output =
        Command::new("node").arg(directory.join("bench.mjs")).arg(url).arg(PEER_RUNS.to_string()).output().ok()?;
    let told: Value = serde_json::from_slice(&output.stdout).ok()?;
    Some(told["count"].as_f64()? / told["seconds"].as_f64()?)
}
