//! Signed, logged deliveries to a receiver on this machine.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::receiver::Receiver;
use crate::report::Report;
use crate::subject::Subject;

/// Events that wait when the measurement begins.
const CUSTOMERS: usize = 10_000;
const LONGEST: Duration = Duration::from_secs(60);

pub async fn run(subject: &Subject, report: &mut Report) {
    report.section(
        "Webhook deliveries per second",
        "One endpoint on this machine that answers 200 at once; every delivery is signed twice and written to the request \
         log. 10,000 cards are sent, and the time runs from the first delivery to the last, while the flows \
         are still being started on the same two cores. The floor is the same client posting the same number of bytes to the \
         same receiver without a database.",
    );
    let receiver = Receiver::start().await;
    let url = receiver.url.clone();
    let workbench = subject.token("workbench").await;
    let body = json!({ "types": ["card-published"], "url": url });
    let made = subject.http.post(subject.path("webhook")).bearer_auth(workbench).json(&body).send().await.unwrap();
    assert_eq!(made.status(), 200, "{}", made.text().await.unwrap());

    let events = subject.token("events").await;
    let customers: Vec<String> = (0..CUSTOMERS).map(|index| format!("hook-{index}")).collect();
    let ((), (seen, time)) = tokio::join!(subject.start_flows(&events, &customers), arrivals(&receiver));
    let ours = seen as f64 / time;
    report.row("Cardwire, one endpoint", format!("{ours:.0} deliveries/s ({seen} of {CUSTOMERS} in {time:.1} s)"));
    let floor = bare_posts(subject, &url).await;
    report.row("bare posts by the same client", format!("{floor:.0} requests/s"));
    report.row("ratio", format!("{:.0} %", 100.0 * ours / floor));
}

/// How many deliveries have come, and the seconds from the first to the last.
async fn arrivals(receiver: &Receiver) -> (u64, f64) {
    let (mut first, mut last) = (None, Instant::now());
    let (mut seen, deadline) = (0, Instant::now() + LONGEST);
    while seen < CUSTOMERS as u64 && Instant::now() < deadline {
        let now = receiver.count();
        if now > seen {
            first.get_or_insert_with(Instant::now);
            last = Instant::now();
            seen = now;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    (seen, last.duration_since(first.unwrap_or(last)).as_secs_f64().max(0.001))
}

async fn bare_posts(subject: &Subject, url: &str) -> f64 {
    let (http, url, body) = (subject.http.clone(), url.to_owned(), "x".repeat(1200));
    let outcome = crate::load::drive(64, Duration::from_secs(5), move |_| {
        let (http, url, body) = (http.clone(), url.clone(), body.clone());
        async move {
            http.post(&url).body(body).send().await.unwrap().bytes().await.unwrap();
        }
    })
    .await;
    outcome.per_second
}
