//! Bad neighbours: whatever other receivers do, a healthy one gets its events as soon as ever.

use std::time::Duration;

use cardwire::events::consumer::Reader;
use cardwire::realtime::Work;
use cardwire::webhooks::deliver::Deliverer;
use cardwire::webhooks::fanout::Fanout;
use cardwire::worker::{AnyWorker, Runner};
use serde_json::json;
use tokio::time::Instant;

use super::Scene;
use crate::support::receiver::{Receiver, Reply};
use crate::support::until;

const PATIENCE: Duration = Duration::from_secs(5);
/// Shorter medians are those of an idle machine, and say nothing beside those of a busy one.
const FLOOR: Duration = Duration::from_millis(25);

fn start(scene: &Scene) -> Runner {
    Runner::start(&scene.test.app, vec![AnyWorker::new(Reader::new(Fanout)), AnyWorker::new(Deliverer::default())])
}

/// Records an event of which only the healthy receiver hears, and tells how long it was on its way.
async fn one_delivery(scene: &Scene, healthy: &Receiver) -> Duration {
    let before = healthy.received().len();
    let started = Instant::now();
    scene.record("card-completed").await;
    scene.test.app.wake(Work::Fanout);
    while healthy.received().len() == before {
        assert!(started.elapsed() < PATIENCE, "a healthy receiver waits for bad ones");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    started.elapsed()
}

async fn median(scene: &Scene, healthy: &Receiver) -> Duration {
    let mut taken = Vec::new();
    for _ in 0..30 {
        taken.push(one_delivery(scene, healthy).await);
    }
    taken.sort();
    taken[taken.len() / 2]
}

/// The resident memory of this process in bytes.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_bad_receivers_slow_no_other_down() {
    let scene = Scene::start().await;
    let healthy = Receiver::start().await;
    scene.subscribe_with(&healthy, json!({ "types": ["card-completed"] })).await;
    let replies = [
        Reply::Hang,
        Reply::Trickle,
        Reply::Flood,
        Reply::GzipBomb,
        Reply::Break,
        Reply::StatusWith(500, "retry-after", "99999999999999999999".to_owned()),
        Reply::StatusWith(302, "location", "http://127.0.0.1:1/".to_owned()),
        Reply::StatusWith(429, "retry-after", "Fri, 31 Dec 9999 23:59:59 GMT".to_owned()),
        Reply::Hang,
    ];
    let mut bad = vec![(Receiver::that_resets().await, Reply::Break)];
    for reply in replies {
        bad.push((Receiver::start().await, reply));
    }
    for (receiver, reply) in &bad {
        receiver.reply_always(Some(reply.clone()));
        for _ in 0..5 {
            scene.subscribe_with(receiver, json!({ "types": ["card-published"] })).await;
        }
    }
    let runner = start(&scene);
    let quiet = median(&scene, &healthy).await;
    let at_first = memory();
    scene.record_many(60).await;
    scene.test.app.wake(Work::Fanout);
    until("every bad receiver is called", || bad.iter().all(|(receiver, _)| !receiver.received().is_empty())).await;
    let mut noisy = Duration::ZERO;
    for _ in 0..3 {
        // Those that failed are tried again.
        scene.test.app.clock().advance(Duration::from_secs(30));
        noisy = noisy.max(median(&scene, &healthy).await);
    }
    assert!(noisy <= 2 * quiet.max(FLOOR), "{noisy:?} beside bad receivers, {quiet:?} without");
    let grown = memory().saturating_sub(at_first) / 1_000_000;
    assert!(grown < 100, "memory grew by {grown} MB");
    runner.stop(Duration::from_millis(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receivers_that_were_quick_and_hang_now_leave_room_for_others() {
    let scene = Scene::start().await;
    let healthy = Receiver::start().await;
    scene.subscribe_with(&healthy, json!({ "types": ["card-completed"] })).await;
    let mut quick = Vec::new();
    for _ in 0..10 {
        let receiver = Receiver::start().await;
        // So many successes open the whole window.
        receiver.reply_next((0..260).map(|_| Reply::Status(200)));
        receiver.reply_always(Some(Reply::Hang));
        scene.subscribe_with(&receiver, json!({ "types": ["card-published"] })).await;
        quick.push(receiver);
    }
    scene.record_many(520).await;
    let runner = start(&scene);
    until("all of them hang", || quick.iter().all(|receiver| receiver.received().len() > 268)).await;
    for _ in 0..20 {
        one_delivery(&scene, &healthy).await;
    }
    let hanging: usize = quick.iter().map(|receiver| receiver.received().len() - 260).sum();
    assert!(hanging < 1200, "an environment leaves half of all requests to others: {hanging}");
    runner.stop(Duration::from_millis(10)).await;
}
