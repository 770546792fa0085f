//! What a year of kept days costs those who look at the record of events.

use std::time::{Duration, Instant};

use crate::deliveries::{clear, execute, latency, subscribe};
use crate::receiver::Receiver;
use crate::report::{Report, millis, percentile};
use crate::subject::Subject;

const SAMPLES: usize = 300;
/// Days before today for which there are partitions then.
const DAYS: usize = 365;

pub async fn run(subject: &Subject, report: &mut Report) {
    report.section(
        "Latency with a year of days",
        "One flow at a time, from the answer of its start to the arrival of card-published at an endpoint; then pages of the \
         50 newest events, one after another. First with the days that a new installation has, then with those of a year \
         beside them, all empty: a look that opens them pays for each.",
    );
    let healthy = Receiver::start().await;
    subscribe(subject, &healthy.url, "card-published", 1).await;
    for (days, make) in [("few days", None), ("a year of days", Some(DAYS))] {
        if let Some(days) = make {
            execute(subject, &format!("SELECT ensure_partitions('events', now() - interval '{days} days', {days})"))
                .await;
            // As after a start of the server: its connections to the database are new.
            let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
            execute(subject, end).await;
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        report.row(&format!("{days}, start to webhook"), latency(subject, &healthy, SAMPLES).await);
        report.row(&format!("{days}, a page of events"), pages(subject).await);
    }
    clear(subject).await;
}

async fn pages(subject: &Subject) -> String {
    let token = subject.token("events").await;
    let mut taken = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let begun = Instant::now();
        let page = subject.http.get(subject.path("analytics?limit=50")).bearer_auth(&token).send().await.unwrap();
        assert_eq!(page.status(), 200);
        page.bytes().await.unwrap();
        taken.push(begun.elapsed());
    }
    let (median, late) = (percentile(&mut taken, 0.5), percentile(&mut taken, 0.99));
    format!("p50 {}, p99 {}", millis(median), millis(late))
}
