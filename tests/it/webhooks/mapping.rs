//! Scripts that give the body.

use std::time::Duration;

use cardwire::error::Code;
use cardwire::webhooks::{request_log, subscription, trial};
use serde_json::json;
use sha2::Sha256;

use super::{Scene, draft_of, ids};
use crate::support::receiver::Receiver;
use crate::support::world::with_loopback;

const SCRIPT: &str = "function map(payload) {
  return { who: payload.data.endUserId, event: payload.data.id, by: payload.webhookId, batched: payload.isBatched };
}";

#[tokio::test(flavor = "multi_thread")]
async fn the_script_gives_the_body_and_the_signature_covers_it() {
    use hmac::{Hmac, KeyInit, Mac};
    let (scene, receiver) = (Scene::start().await, Receiver::start().await);
    let subscription = scene.subscribe_with(&receiver, json!({ "mapping": SCRIPT })).await;
    let event = scene.record("card-published").await;
    scene.settle().await;
    let sent = receiver.received().remove(0);
    let expected = json!({ "who": "user-123", "event": event, "by": subscription.id, "batched": false });
    assert_eq!(sent.json(), expected);
    let secret = subscription.reveal(scene.test.app.vault()).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).unwrap();
    mac.update(&sent.body);
    assert_eq!(sent.header("x-cardwire-signature"), hex::encode(mac.finalize().into_bytes()));
    assert_eq!(sent.header("webhook-id"), event.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_fails_with_the_sample_is_refused_with_its_place() {
    let (scene, receiver) = (Scene::start().await, Receiver::start().await);
    let (app, access) = (&scene.test.app, &scene.access);
    for (source, place) in [
        ("function map(payload) {\n  return nothing.here;\n}", "line 2"),
        ("function map(payload) {\n  return [1];\n}", "must return an object"),
        ("function map(payload) { return", "line 1"),
        ("function other() {}", "map"),
        ("function map(payload) { for (;;) {} }", "map"),
    ] {
        let draft = draft_of(&json!({ "types": ["card-published"], "url": receiver.url(), "mapping": source }));
        let Err(error) = subscription::create(app, access, draft).await else { panic!("{source} was accepted") };
        assert_eq!((error.code(), error.violations()[0].pointer.as_deref()), (Code::MappingFailed, Some("/mapping")));
        assert!(error.to_string().contains(place) || place == "map", "{error}");
    }
    let long = draft_of(&json!({ "types": ["card-published"], "url": receiver.url(), "mapping": "x".repeat(70_000) }));
    assert_eq!(subscription::create(app, access, long).await.err().unwrap().code(), Code::ValidationFailed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_fails_later_is_a_failed_attempt_that_tells_nothing_of_the_customer() {
    let (scene, receiver) = (Scene::start().await, Receiver::start().await);
    let script = "function map(payload) {
  if (payload.data.endUserId === 'user-123' && !payload.data.platformContext.isTest) throw new Error('no ' + payload.data.endUserId);
  return { fine: true };
}";
    let subscription = scene.subscribe_with(&receiver, json!({ "mapping": script })).await;
    let (app, access) = (&scene.test.app, &scene.access);
    scene.record("card-published").await;
    scene.settle().await;
    assert!(receiver.received().is_empty(), "nothing leaves unmapped");
    let log = request_log::list(app, access, subscription.id, 1, None).await.unwrap().rows;
    let error = log[0].error.clone().unwrap();
    assert!(error.starts_with("mapping_failed (line 2, column ") && !error.contains("user-123"), "{error}");
    assert_eq!(scene.waiting().await, ["beyond 0 open 0 retries 1"]);
    let outcome = trial::send(app, access, subscription.id, None).await.unwrap();
    assert!(outcome.delivered, "{outcome:?}");
    subscription::update(app, access, subscription.id, draft_of(&json!({ "mapping": null }))).await.unwrap();
    scene.advance(Duration::from_secs(10)).await;
    assert_eq!(ids(&receiver.received()).len(), 2, "the test, and the event once the script is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_no_sandbox_can_start_nothing_leaves_unmapped_and_later_all_of_it_does() {
    let (scene, receiver) = (Scene::start().await, Receiver::start().await);
    scene.subscribe_with(&receiver, json!({ "mapping": SCRIPT })).await;
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("cardwire");
    let place = program.clone();
    let server = scene.test.beside(move |config| {
        with_loopback(config);
        config.program = place;
    });
    let server = server.await;
    let events = scene.record_many(3).await;
    server.settle().await;
    server.advance(Duration::from_secs(6)).await;
    assert!(receiver.received().is_empty(), "nothing leaves unmapped");
    let failed = "SELECT DISTINCT error AS value FROM webhook_requests";
    assert_eq!(scene.test.column(failed).await, ["mapping_busy"]);
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_cardwire"), &program).unwrap();
    server.advance(Duration::from_secs(60)).await;
    let received = receiver.received();
    assert_eq!(super::sorted(ids(&received)), super::texts(&events));
    assert!(received.iter().all(|sent| sent.json()["who"] == "user-123"), "as the script says");
    assert_eq!(scene.books().await.unaccounted, 0);
}
