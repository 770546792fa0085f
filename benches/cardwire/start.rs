//! `/start`: how many flows are accepted durably in a second, beside pgbench committing the same rows.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::floor::{TABLES, alike};
use crate::load::drive;
use crate::report::{Report, millis, percentile};
use crate::subject::Subject;

const TIME: Duration = Duration::from_secs(6);
const TASKS: usize = 16;

pub async fn run(subject: &Subject, report: &mut Report) {
    report.section(
        "`POST /start`: flows accepted per second",
        "16 connections for 6 s, every flow for another new customer, its one step a card. An answered flow is durable and \
         done: customer, permanent idempotency key, start, run, card, feed and events are committed. The peer is pgbench, \
         which commits the same rows to tables of the same form with 16 clients and prepared statements, and does nothing \
         else.",
    );
    let token = subject.token("events").await;
    for (size, name) in [(1, "one flow per request"), (100, "100 flows per request")] {
        let ours = accepted(subject, &token, size).await;
        report.row(&format!("Cardwire, {name}"), &ours.0);
        report.row(&format!("Cardwire, {name}, latency"), &ours.1);
        subject.quiet("SELECT count(*) FROM cards").await;
        match pgbench(subject, size).await {
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
async fn pgbench(subject: &Subject, size: u64) -> Option<f64> {
    let bin = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/postgres-bin")).output().ok()?;
    let bin = String::from_utf8(bin.stdout).ok()?;
    let pgbench = std::path::Path::new(bin.trim()).join("pgbench");
    let script = std::env::temp_dir().join("cardwire-pgbench.sql");
    let (host, _) = subject.database();
    let prepare = Command::new("psql")
        .args(["-q", "-h", &host, "-U", "cardwire", "-d", "cardwire", "-c", &peer_tables()])
        .status()
        .ok()?;
    assert!(prepare.success(), "the peer's tables cannot be made");
    assert_eq!(subject.count("SELECT count(*) FROM peer.cards_of_one").await, 1, "a start to copy");
    fs::write(&script, peer_script(subject, size).await).ok()?;
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

/// Tables of the same form and indexes, and beside them the rows that one start has left.
fn peer_tables() -> String {
    let mut script = String::from(
        "DROP SCHEMA IF EXISTS peer CASCADE; CREATE SCHEMA peer;
         CREATE TABLE peer.one AS SELECT * FROM public.runs WHERE status = 'completed' LIMIT 1;",
    );
    for (table, rows) in TABLES {
        script.push_str(&alike("peer", table, "INCLUDING ALL EXCLUDING GENERATED"));
        script.push_str(&format!(
            "CREATE TABLE peer.{table}_of_one AS SELECT t.* FROM peer.one r JOIN public.{table} t ON {rows};"
        ));
    }
    script
}

/// One transaction with the rows of `size` starts: copies of real ones, with fresh keys.
async fn peer_script(subject: &Subject, size: u64) -> String {
    let mut script = String::from("BEGIN;\n");
    for (table, _) in TABLES {
        let columns = format!(
            "SELECT attname::text FROM pg_attribute WHERE attrelid = 'peer.{table}'::regclass AND attnum > 0 ORDER BY attnum"
        );
        let columns: Vec<String> = subject.rows(&columns).await.iter().map(|row| row.get(0)).collect();
        let values: Vec<&str> = columns.iter().map(|column| fresh(table, column).unwrap_or(column)).collect();
        let values = values.join(", ");
        script.push_str(&format!(
            "INSERT INTO peer.{table} SELECT {values} FROM peer.{table}_of_one, generate_series(1, {size});\n"
        ));
    }
    script.push_str("COMMIT;\n");
    script
}

/// What makes a copy of a row another: the columns that are unique in their table.
fn fresh(table: &str, column: &str) -> Option<&'static str> {
    match (table, column) {
        ("customers", "user_id") => Some("gen_random_uuid()::text"),
        ("customers" | "runs" | "cards" | "events", "id")
        | ("invocations" | "feed_heads" | "feed_changes", "customer_id")
        | ("starts", "lifecycle_id")
        | ("run_steps" | "cards", "run_id") => Some("gen_random_uuid()"),
        _ => None,
    }
}
