//! Batched files: an hour of a million events as NDJSON and Parquet.

use std::fs;
use std::time::{Duration, Instant};

use crate::report::Report;
use crate::subject::Subject;

const EVENTS: i64 = 1_000_000;

pub async fn run(subject: &Subject, report: &mut Report) {
    report.section(
        "Batched files: an hour of 1 M events",
        "A million copies of a recorded `action-flow-started` event lie in one hour of one environment. The server reads \
         them in order, trims them as the export settings say, and writes NDJSON (gzip) and Parquet (Snappy) in one pass, \
         in pieces, into Postgres.",
    );
    let token = subject.token("events").await;
    subject.start_flows(&token, &["export-sample".to_owned()]).await;
    subject.quiet("SELECT count(*) FROM events").await;
    // Far enough back that no hour of the running server is touched, and not so far that readers of events pass them over.
    let second = subject.count("SELECT extract(epoch FROM date_trunc('hour', now() - interval '1 day'))::bigint").await;
    let hour = format!("to_timestamp({second})");
    subject.count(&format!("WITH made AS (SELECT ensure_partitions('events', {hour}, 1), ensure_partitions('export_chunks', {hour}, 1)) SELECT count(*) FROM made")).await;
    let filled = subject
        .count(&format!(
            "WITH sample AS (SELECT * FROM events WHERE name = 'action-flow-started' ORDER BY xid DESC LIMIT 1), filled AS (
                 INSERT INTO events (environment_id, id, name, customer_id, end_user_id, occurred_at, received_at, is_test,
                                     flow_id, run_id, payload)
                 SELECT environment_id, gen_random_uuid(), name, customer_id, end_user_id, at, at, false, flow_id, run_id, payload
                 FROM sample, generate_series(1, {EVENTS}) AS number,
                      LATERAL (SELECT {hour} + number * interval '3 milliseconds' AS at) AS moment RETURNING 1)
             SELECT count(*) FROM filled"
        ))
        .await;
    assert_eq!(filled, EVENTS);
    // Webhooks and triggers look at them too, which is not what is measured.
    subject.read_all().await;
    let idle = memory(subject, "VmRSS");
    let begun = Instant::now();
    subject
        .count(&format!(
            "WITH sealed AS (INSERT INTO export_hours VALUES ({hour}, 0, pg_current_xact_id()::text::bigint)), due AS (
                 INSERT INTO exports (environment_id, hour, status, due_at)
                 SELECT environment_id, {hour}, 'waiting', now() FROM events WHERE received_at = {hour} + interval '3 milliseconds'
                 RETURNING 1)
             SELECT count(*) FROM due"
        ))
        .await;
    let mut peak = idle;
    let ready = format!("SELECT count(*) FROM exports WHERE hour = {hour} AND status = 'ready' AND events = {EVENTS}");
    while subject.count(&ready).await == 0 {
        peak = peak.max(memory(subject, "VmRSS"));
        assert!(begun.elapsed() < Duration::from_secs(600), "the files are not written");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let of = |column: &str| format!("SELECT {column} FROM exports WHERE hour = {hour}");
    let mib = |bytes: i64| format!("{:.1} MiB", bytes as f64 / 1_048_576.0);
    report.row("until both files are ready, with up to 1 s until the worker looks", format!("{seconds:.1} s"));
    report.row("events per second", format!("{:.0}/s", EVENTS as f64 / seconds));
    report.row("memory of the server, idle → peak", format!("{} → {}", mib(idle), mib(peak)));
    report.row("NDJSON (gzip)", mib(subject.count(&of("ndjson_bytes")).await));
    report.row("Parquet (Snappy)", mib(subject.count(&of("parquet_bytes")).await));
}

/// A figure of the server process in bytes.
fn memory(subject: &Subject, name: &str) -> i64 {
    let status = fs::read_to_string(format!("/proc/{}/status", subject.pid())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<i64>().ok());
    kib.unwrap_or(0) * 1024
}
