//! Receivers that fail: retries, pauses, disabling, giving up.

use std::io::ErrorKind;
use std::time::Duration;

use cardwire::webhooks::{status, subscription};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Scene, draft_of, ids, sorted, texts};
use crate::support::receiver::{Receiver, Reply};

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_receiver_gets_one_request_at_a_time_and_in_the_end_everything() {
    let scene = Scene::start().await;
    let receiver = Receiver::start().await;
    scene.subscribe(&receiver).await;
    receiver.reply_always(Some(Reply::Status(500)));
    let first = scene.record("card-published").await;
    scene.settle().await;
    assert_eq!(receiver.received().len(), 1);
    let rest = scene.record_many(20).await;
    scene.settle().await;
    assert_eq!(receiver.received().len(), 1, "nothing during the pause");
    scene.advance(Duration::from_secs(6)).await;
    assert_eq!(receiver.received().len(), 2, "one probe");
    scene.advance(Duration::from_secs(5)).await;
    assert_eq!(receiver.received().len(), 2, "the gap has doubled");
    receiver.reply_always(None);
    scene.advance(Duration::from_secs(7)).await;
    let received = ids(&receiver.received());
    let expected = texts(&[&[first, first, first][..], &rest].concat());
    assert_eq!(sorted(received.clone()), expected, "the same id on repeats, and nothing lost");
    assert_eq!(received[..3], [first.to_string(), first.to_string(), first.to_string()]);
    assert_eq!(scene.waiting().await, ["beyond 0 open 0 retries 0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_of_one_delivery_have_one_body() {
    let scene = Scene::start().await;
    let receiver = Receiver::start().await;
    scene.subscribe(&receiver).await;
    receiver.reply_next([Reply::Status(404), Reply::StatusWith(302, "location", "http://127.0.0.1:1/".to_owned())]);
    scene.record("card-published").await;
    scene.settle().await;
    scene.advance(Duration::from_secs(6)).await;
    scene.advance(Duration::from_secs(11)).await;
    let received = receiver.received();
    assert_eq!(received.len(), 3);
    assert!(
        received.iter().all(|request| request.body == received[0].body),
        "the request id is the same in all attempts"
    );
    assert_ne!(received[0].header("webhook-timestamp"), received[2].header("webhook-timestamp"));
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_consecutive_failures_disable_and_enabling_starts_afresh() {
    let scene = Scene::start().await;
    let receiver = Receiver::start().await;
    let subscription = scene.subscribe_with(&receiver, json!({ "maxRetries": 2 })).await;
    receiver.reply_always(Some(Reply::Status(500)));
    scene.record_many(5).await;
    scene.settle().await;
    let at_once = receiver.received().len();
    for (hours, status) in [(1, "active"), (1, "disabled failures")] {
        scene.advance(Duration::from_secs(hours * 3600)).await;
        assert_eq!(scene.status(&subscription).await, status);
    }
    assert_eq!(receiver.received().len(), at_once + 2);
    assert_eq!(scene.waiting().await, ["beyond 0 open 0 retries 0"], "what waits is dropped");
    scene.record("card-published").await;
    scene.advance(Duration::from_secs(24 * 3600)).await;
    assert_eq!(receiver.received().len(), at_once + 2);

    receiver.reply_always(None);
    status::enable(&scene.test.app, &scene.access, subscription.id).await.unwrap();
    scene.settle().await;
    assert_eq!(receiver.received().len(), at_once + 2, "only new events");
    let fresh = scene.record("card-published").await;
    scene.settle().await;
    assert_eq!(ids(&receiver.received()).last(), Some(&fresh.to_string()));
    assert_eq!(scene.status(&subscription).await, "active");
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_three_attempts_span_about_two_days() {
    let scene = Scene::start().await;
    let receiver = Receiver::start().await;
    let subscription = scene.subscribe(&receiver).await;
    receiver.reply_always(Some(Reply::Status(503)));
    scene.record("card-published").await;
    scene.settle().await;
    let mut hours = 0;
    while scene.status(&subscription).await == "active" {
        scene.advance(Duration::from_secs(3600)).await;
        hours += 1;
        assert!(hours < 100, "never disabled");
    }
    assert!((36..72).contains(&hours), "{hours}");
    // An hour at a time skips some of the short first gaps.
    assert!((15..=23).contains(&receiver.received().len()), "{}", receiver.received().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_given_up_where_nothing_is_disabled() {
    let scene = Scene::start().await;
    let receiver = Receiver::start().await;
    let forgiving = json!({ "maxRetries": 1, "disableAfterFailures": false });
    let subscription = scene.subscribe_with(&receiver, forgiving).await;
    receiver.reply_next([Reply::Status(500), Reply::Status(500)]);
    let event = scene.record("card-published").await;
    scene.settle().await;
    scene.advance(Duration::from_secs(3600)).await;
    scene.advance(Duration::from_secs(48 * 3600)).await;
    assert_eq!(ids(&receiver.received()), [event.to_string(), event.to_string()]);
    assert_eq!(scene.status(&subscription).await, "active");
    assert_eq!(scene.waiting().await, ["beyond 0 open 0 retries 0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn gone_is_gone() {
    let scene = Scene::start().await;
    let receiver = Receiver::start().await;
    let subscription = scene.subscribe(&receiver).await;
    receiver.reply_next([Reply::Status(410)]);
    scene.record("card-published").await;
    scene.settle().await;
    assert_eq!(scene.status(&subscription).await, "disabled gone");
    let entries = scene.test.column("SELECT actor || ' ' || action AS value FROM audit_entries ORDER BY id").await;
    assert!(entries.contains(&"system:webhooks webhook-subscription.disable".to_owned()), "{entries:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_asks_for_a_pause_within_bounds() {
    let scene = Scene::start().await;
    let receiver = Receiver::start().await;
    scene.subscribe(&receiver).await;
    receiver.reply_next([Reply::StatusWith(429, "retry-after", "999999999999".to_owned())]);
    scene.record("card-published").await;
    scene.settle().await;
    scene.advance(Duration::from_secs(3 * 3600)).await;
    assert_eq!(receiver.received().len(), 1);
    scene.advance(Duration::from_secs(3601)).await;
    assert_eq!(receiver.received().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn disabling_drops_what_waits_and_deleting_comes_after() {
    let scene = Scene::start().await;
    let receiver = Receiver::start().await;
    let subscription = scene.subscribe(&receiver).await;
    let (app, access) = (&scene.test.app, &scene.access);
    assert!(status::delete(app, access, subscription.id).await.is_err());
    scene.record_many(3).await;
    let disabled = status::disable(app, access, subscription.id).await.unwrap();
    assert_eq!(disabled.disabled_reason.as_deref(), Some("member"));
    let again = status::disable(app, access, subscription.id).await.unwrap();
    assert_eq!(again.revision, disabled.revision, "a second time changes nothing");
    scene.settle().await;
    assert_eq!(receiver.received().len(), 0);
    status::delete(app, access, subscription.id).await.unwrap();
    assert!(subscription::read(app, access, subscription.id).await.is_err());
    scene.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn raising_the_retries_of_a_failing_subscription_counts_at_once() {
    let scene = Scene::start().await;
    let receiver = Receiver::start().await;
    let subscription = scene.subscribe_with(&receiver, json!({ "maxRetries": 1 })).await;
    receiver.reply_always(Some(Reply::Status(500)));
    scene.record("card-published").await;
    scene.settle().await;
    let draft = draft_of(&json!({ "maxRetries": 5 }));
    subscription::update(&scene.test.app, &scene.access, subscription.id, draft).await.unwrap();
    scene.advance(Duration::from_secs(3600)).await;
    assert_eq!(scene.status(&subscription).await, "active");
    assert_eq!(receiver.received().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_reset_is_a_failed_attempt() {
    let (scene, receiver) = (Scene::start().await, Receiver::that_resets().await);
    receiver.reply_next([Reply::Break]);
    let address = receiver.url().trim_start_matches("http://").trim_end_matches("/hook").to_owned();
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let ended = socket.read_to_end(&mut Vec::new()).await;
    assert_eq!(ended.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset), "the receiver resets");

    receiver.reply_next([Reply::Break]);
    scene.subscribe(&receiver).await;
    let event = scene.record("card-published").await;
    scene.settle().await;
    assert_eq!(scene.waiting().await, ["beyond 0 open 0 retries 1"]);
    scene.advance(Duration::from_secs(6)).await;
    let received = receiver.received();
    assert_eq!(ids(&received[1..]), [event.to_string(), event.to_string()]);
    let log = "SELECT coalesce(error, status::text) AS value FROM webhook_requests ORDER BY at";
    let outcomes = scene.test.column(log).await;
    assert!(["request_failed", "response_broken"].contains(&outcomes[0].as_str()), "{outcomes:?}");
    assert_eq!(outcomes[1], "200");
}
