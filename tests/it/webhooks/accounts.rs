//! The books: every delivery comes to one end or waits, and a lost one is seen.

use std::time::Duration;

use cardwire::webhooks::{reconcile, status};
use diesel::sql_query;
use diesel_async::RunQueryDsl;
use serde_json::json;

use super::Scene;
use crate::support::receiver::{Receiver, Reply};

/// Every end and every way of waiting, as numbers: matched, delivered, given up, dropped, fresh, open, retrying.
async fn sums(scene: &Scene) -> [i64; 7] {
    let books = scene.books().await;
    [books.matched, books.delivered, books.given_up, books.dropped, books.fresh, books.open, books.retrying]
}

async fn execute(scene: &Scene, statement: &str) {
    sql_query(statement).execute(&mut &*scene.test.app.read().await.unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_come_to_one_end_each() {
    let scene = Scene::start().await;
    let receiver = Receiver::start().await;
    let few = json!({ "maxRetries": 1, "disableAfterFailures": false });
    let subscription = scene.subscribe_with(&receiver, few).await;
    scene.record_many(3).await;
    scene.settle().await;
    assert_eq!(sums(&scene).await, [3, 3, 0, 0, 0, 0, 0]);
    receiver.reply_always(Some(Reply::Status(500)));
    scene.record("card-published").await;
    scene.settle().await;
    assert_eq!(sums(&scene).await, [4, 3, 0, 0, 0, 0, 1]);
    assert_eq!(scene.books().await.failing, 1);
    let started = scene.test.app.clock().now();
    scene.record_many(2).await;
    scene.settle().await;
    assert_eq!(sums(&scene).await, [6, 3, 0, 0, 2, 0, 1]);
    assert_eq!(scene.books().await.oldest, Some(started));
    scene.advance(Duration::from_secs(6)).await;
    assert_eq!(sums(&scene).await, [6, 3, 1, 0, 2, 0, 0], "its second attempt was its last");
    status::disable(&scene.test.app, &scene.access, subscription.id).await.unwrap();
    scene.settle().await;
    assert_eq!(sums(&scene).await, [6, 3, 1, 2, 0, 0, 0]);
    status::enable(&scene.test.app, &scene.access, subscription.id).await.unwrap();
    receiver.reply_always(Some(Reply::Status(410)));
    scene.record("card-published").await;
    scene.settle().await;
    assert_eq!(sums(&scene).await, [7, 3, 2, 2, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_accounted_for_by_their_events() {
    let scene = Scene::start().await;
    let receiver = Receiver::start().await;
    scene.subscribe_with(&receiver, json!({ "isBatched": true })).await;
    receiver.reply_next([Reply::Status(200), Reply::Status(500)]);
    scene.record_many(150).await;
    scene.settle().await;
    assert_eq!(sums(&scene).await, [150, 100, 0, 0, 50, 0, 0]);
    scene.advance(Duration::from_secs(5)).await;
    assert_eq!(sums(&scene).await, [150, 100, 0, 0, 0, 0, 50]);
    scene.advance(Duration::from_secs(6)).await;
    assert_eq!(sums(&scene).await, [150, 150, 0, 0, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_is_seen() {
    let scene = Scene::start().await;
    let receiver = Receiver::start().await;
    scene.subscribe(&receiver).await;
    receiver.reply_always(Some(Reply::Status(500)));
    scene.test.app.clock().advance(Duration::from_secs(120));
    scene.record_many(2).await;
    scene.settle().await;
    let conn = scene.test.app.read().await.unwrap();
    let since = scene.test.app.clock().now().minus(Duration::from_secs(60));
    assert_eq!(reconcile::unmatched(&conn, since).await.unwrap(), 0);
    execute(&scene, "DELETE FROM webhook_retries").await;
    assert_eq!(scene.books().await.unaccounted, 2, "retries that vanished");
    execute(&scene, "DELETE FROM webhook_deliveries WHERE seq = 2").await;
    assert_eq!(reconcile::unmatched(&conn, since).await.unwrap(), 1, "an event that was passed over");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_sees_what_waits() {
    let scene = Scene::start().await;
    // The first look begins the recording.
    scene.test.client.send("GET", "/metrics", &[], "").await;
    let receiver = Receiver::start().await;
    scene.subscribe(&receiver).await;
    receiver.reply_always(Some(Reply::Status(500)));
    scene.record_many(4).await;
    scene.settle().await;
    scene.advance(Duration::from_secs(4)).await;
    scene.advance(Duration::from_secs(20)).await;
    let shown = scene.test.client.send("GET", "/metrics", &[], "").await.text;
    for gauge in [
        "unaccounted",
        "waiting_fresh",
        "waiting_open",
        "waiting_retry",
        "failing_endpoints",
        "fanout_lag_events",
        "oldest_seconds",
    ] {
        assert!(shown.contains(&format!("cardwire_webhook_{gauge} ")), "{gauge} is not in {shown}");
    }
    for kind in ["attempts_total{outcome=\"status\"}", "attempt_seconds"] {
        assert!(shown.contains(&format!("cardwire_webhook_{kind}")), "{kind} is not in {shown}");
    }
}
