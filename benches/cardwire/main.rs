//! What Cardwire does in a second, beside a peer or a floor in the same run. `make bench` writes docs/benchmarks.md.
//!
//! The server is the binary that is deployed (profile `dist`) in a process of its own, on its private durable cluster; the
//! load comes from here. Both share the machine, and with it the database.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a failed bench ends, and a bench speaks to the terminal"
)]

mod deliveries;
mod exports;
mod feed;
mod floor;
mod flows;
mod latency;
mod load;
mod page;
mod receiver;
mod report;
mod scripts;
mod start;
mod startup;
mod subject;
mod webhooks;
mod year;

use report::Report;
use subject::Subject;

#[tokio::main]
async fn main() {
    let only: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|word| word == name);
    let mut report = Report::new();
    if wanted("startup") {
        startup::run(&mut report).await;
    }
    let subject = Subject::start().await;
    if wanted("start") {
        start::run(&subject, &mut report).await;
    }
    if wanted("latency") {
        latency::run(&subject, &mut report).await;
    }
    if wanted("feed") {
        feed::run(&subject, &mut report).await;
    }
    if wanted("page") {
        page::run(&subject, &mut report).await;
    }
    if wanted("flows") {
        flows::run(&subject, &mut report).await;
    }
    if wanted("scripts") {
        scripts::run(&subject, &mut report).await;
    }
    if wanted("webhooks") {
        webhooks::run(&subject, &mut report).await;
    }
    if wanted("deliveries") {
        deliveries::run(&subject, &mut report).await;
    }
    if wanted("exports") {
        exports::run(&subject, &mut report).await;
    }
    if wanted("year") {
        year::run(&subject, &mut report).await;
    }
    report.write();
}
