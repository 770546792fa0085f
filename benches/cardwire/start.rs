//! `/start`: how many flows are accepted durably in a second, beside pgbench committing the same rows.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::load::drive;
use crate::report::{Report, millis, percentile};
use crate::subject::Subject;

const TIME: Duration = Duration::from_secs(6);
const TASKS: usize = 16;

pub async fn run(subject: &Subject, report: &mut Report) {
    report.section(
        "`POST /start`: flows accepted per second",
        "16 connections for 6 s, every flow for another new customer. An answered flow is durable: customer, permanent \
         idempotency key, start, run, token and `action-flow-started` event are committed. The flow engine sends the cards at \
         the same time on the same two cores. The peer is pgbench, which commits the same rows to tables of the same \
         form with 16 clients and prepared statements, and does nothing else.",
    );
    let token = subject.token("events").await;
    for (size, name) in [(1, "one flow per request"), (100, "100 flows per request")] {
        let ours = accepted(subject, &token, size).await;
        report.row(&format!("Cardwire, {name}"), &ours.0);
        report.row(&format!("Cardwire, {name}, latency"), &ours.1);
        subject.quiet("SELECT count(*) FROM cards").await;
        match pgbench(subject, size) {
            Some(theirs) => {
                report.row(&format!("pgbench, {name}"), format!("{theirs:.0} flows/s"));
                report.row(&format!("ratio, {name}"), format!("{:.0} %", 100.0 * ours.2 / theirs));
            }
            None => report.row(&format!("pgbench, {name}"), "not measured: pgbench did not run to its end"),
        }
    }
}

async fn accepted(subject: &Subject, token: &str, size: u64) -> (String, String, f64) {
    let url = subject.path(&format!("action-flow/{}/start", subject.text("/flowConfigId")));
    let (http, token) = (subject.http.clone(), token.to_owned());
    let run = format!("s{size}");
    let mut outcome = drive(TASKS, TIME, move |number| {
        let (http, url, token, run) = (http.clone(), url.clone(), token.clone(), run.clone());
        async move {
            let flows: Vec<Value> = (0..size)
                .map(|index| {
                    json!({ "flowInvocationId": format!("{run}-{number}-{index}"),
                            "target": { "type": "user", "targetUserIds": format!("{run}-{number}-{index}") },
                            "payload": { "variables": { "amount": "12" } } })
                })
                .collect();
            let answer = http.post(&url).bearer_auth(&token).json(&json!({ "flows": flows })).send().await.unwrap();
            assert_eq!(answer.status(), 200);
            answer.bytes().await.unwrap();
        }
    })
    .await;
    let flows = outcome.per_second * size as f64;
    let latency = format!(
        "p50 {}, p99 {}",
        millis(percentile(&mut outcome.latencies, 0.5)),
        millis(percentile(&mut outcome.latencies, 0.99))
    );
    (format!("{flows:.0} flows/s"), latency, flows)
}

/// The same rows by pgbench; flows per second.
fn pgbench(subject: &Subject, size: u64) -> Option<f64> {
    let bin = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/postgres-bin")).output().ok()?;
    let bin = String::from_utf8(bin.stdout).ok()?;
    let pgbench = std::path::Path::new(bin.trim()).join("pgbench");
    let script = std::env::temp_dir().join("cardwire-pgbench.sql");
    fs::write(&script, peer_script(size)).ok()?;
    let (host, _) = subject.database();
    let prepare = Command::new("psql")
        .args(["-q", "-h", &host, "-U", "cardwire", "-d", "cardwire", "-c", PEER_TABLES])
        .status()
        .ok()?;
    assert!(prepare.success(), "the peer's tables cannot be made");
    let output = Command::new(pgbench)
        .args(["-n", "-M", "prepared", "-c", "16", "-j", "2", "-T", "6", "-h", &host, "-U", "cardwire", "-f"])
        .arg(&script)
        .arg("cardwire")
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.starts_with("tps"))?;
    let per_second: f64 = line.split_whitespace().nth(2)?.parse().ok()?;
    Some(per_second * size as f64)
}

/// Tables of the same form and indexes as those that a start writes to.
const PEER_TABLES: &str = "
DROP SCHEMA IF EXISTS peer CASCADE; CREATE SCHEMA peer;
CREATE TABLE peer.customers (LIKE public.customers INCLUDING ALL);
CREATE TABLE peer.invocations (LIKE public.invocations INCLUDING ALL);
CREATE TABLE peer.runs (LIKE public.runs INCLUDING ALL);
CREATE TABLE peer.starts (LIKE public.starts INCLUDING ALL);
CREATE TABLE peer.tokens (LIKE public.tokens INCLUDING ALL);
CREATE TABLE peer.events (LIKE public.events INCLUDING ALL);
CREATE TABLE peer.sample AS SELECT 1 AS one;
CREATE TABLE peer.customer AS SELECT * FROM public.customers LIMIT 1;
CREATE TABLE peer.invocation AS SELECT * FROM public.invocations LIMIT 1;
CREATE TABLE peer.run AS SELECT * FROM public.runs LIMIT 1;
CREATE TABLE peer.start AS SELECT * FROM public.starts LIMIT 1;
CREATE TABLE peer.token AS SELECT (jsonb_populate_record(NULL::public.tokens, jsonb_build_object(
    'environment_id', environment_id, 'run_id', id, 'step_key', 'offer', 'status', 'ready', 'lane', 2,
    'wake_at', started_at, 'attempts', 0))).* FROM public.runs LIMIT 1;
CREATE TABLE peer.event AS SELECT * FROM public.events WHERE name = 'action-flow-started' LIMIT 1;";

/// One transaction with the rows of `size` starts: a copy of a real row each, with fresh keys.
fn peer_script(size: u64) -> String {
    let mut script = String::from("BEGIN;\n");
    let fresh = [
        ("customers", "customer", "id, user_id", "gen_random_uuid(), gen_random_uuid()::text"),
        ("invocations", "invocation", "customer_id, invocation_id", "gen_random_uuid(), gen_random_uuid()::text"),
        ("runs", "run", "id", "gen_random_uuid()"),
        ("starts", "start", "lifecycle_id", "gen_random_uuid()"),
        ("tokens", "token", "run_id", "gen_random_uuid()"),
        ("events", "event", "id", "gen_random_uuid()"),
    ];
    for (table, source, columns, values) in fresh {
        // hstore-free way to copy a row with other keys: through jsonb.
        let keys: Vec<&str> = columns.split(", ").collect();
        let values: Vec<&str> = values.split(", ").collect();
        let pairs: Vec<String> = keys.iter().zip(&values).map(|(key, value)| format!("'{key}', {value}")).collect();
        script.push_str(&format!(
            "INSERT INTO peer.{table} SELECT (jsonb_populate_record(source, jsonb_build_object({}))).* \
             FROM peer.{source} source, generate_series(1, {size});\n",
            pairs.join(", ")
        ));
    }
    script.push_str("COMMIT;\n");
    script
}
