//! What receivers get.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cardwire::ids::RequestId;
use cardwire::webhooks::{request_log, rotation, status, subscription, trial};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::Sha256;

use super::{Scene, draft_of, ids, sorted, texts};
use crate::support::receiver::{Received, Receiver, Reply};

/// Verification as a receiver would write it, from the specification alone.
fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).unwrap();
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

fn own_signature(secret: &str, request: &Received) -> String {
    hex::encode(hmac(secret.as_bytes(), &request.body))
}

fn standard_signature(secret: &str, request: &Received) -> String {
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let (id, at) = (request.header("webhook-id"), request.header("webhook-timestamp"));
    let message = [format!("{id}.{at}.").as_bytes(), &request.body].concat();
    format!("v1,{}", STANDARD.encode(hmac(&key, &message)))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_arrives_signed_in_both_ways() {
    let scene = Scene::start().await;
    let receiver = Receiver::start().await;
    let headers = json!({ "headers": { "My-Custom-Header": "123" } });
    let subscription = scene.subscribe_with(&receiver, headers).await;
    let event = scene.record("card-completed").await;
    scene.record("card-dismissed").await;
    scene.settle().await;

    let received = receiver.received();
    assert_eq!(ids(&received), [event.to_string()]);
    let request = &received[0];
    assert_eq!(request.method, "POST");
    assert_eq!(request.header("content-type"), "application/json; charset=utf-8");
    assert_eq!(request.header("my-custom-header"), "123");
    assert!(request.header("user-agent").starts_with("Cardwire/"));
    let secret = subscription.reveal(scene.test.app.vault()).unwrap();
    assert_eq!(request.header("x-cardwire-signature"), own_signature(secret.expose(), request));
    assert_eq!(request.header("webhook-signature"), standard_signature(secret.expose(), request));
    assert_eq!(request.header("webhook-timestamp"), scene.test.app.clock().now().as_second().to_string());
    let body = request.json();
    assert_eq!(body["environmentId"], scene.env.to_string());
    assert_eq!(body["webhookId"], subscription.id.to_string());
    assert_eq!(body["isBatched"], false);
    assert!(body["requestId"].as_str().unwrap().parse::<RequestId>().is_ok());
    assert_eq!(body["data"]["id"], event.to_string());
    assert_eq!(body["data"]["properties"]["values"], json!({ "choice": "yes", "accept": null }));
    assert_eq!(scene.waiting().await, ["beyond 0 open 0 retries 0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_a_subscription_asks_for_reaches_it() {
    let scene = Scene::start().await;
    let receiver = Receiver::start().await;
    scene.record("card-published").await;
    let narrow = json!({ "includeTestEvents": false, "includeRequestPayload": false, "includeCardResponse": false, "method": "PUT" });
    scene.subscribe_with(&receiver, narrow).await;
    let event = scene.record("card-published").await;
    scene.record_with("card-published", |event| event.is_test = true).await;
    scene.settle().await;
    let received = receiver.received();
    assert_eq!(ids(&received), [event.to_string()], "neither the event before it nor the test");
    assert_eq!(received[0].method, "PUT");
    let data = &received[0].json()["data"];
    assert_eq!(data["properties"], json!({ "buttonName": "accept" }));
    assert_eq!(data["platformContext"], json!({ "isTest": false, "flowInvocationId": "order-17" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_of_a_burst_arrives_once_at_every_receiver() {
    let scene = Scene::start().await;
    let (first, second) = (Receiver::start().await, Receiver::start().await);
    scene.subscribe(&first).await;
    scene.subscribe(&second).await;
    let events = texts(&scene.record_many(300).await);
    scene.settle().await;
    assert_eq!(sorted(ids(&first.received())), events);
    assert_eq!(sorted(ids(&second.received())), events);
    assert_eq!(scene.waiting().await, vec!["beyond 0 open 0 retries 0"; 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_go_when_full_or_after_five_seconds() {
    let scene = Scene::start().await;
    let receiver = Receiver::start().await;
    scene.subscribe_with(&receiver, json!({ "isBatched": true })).await;
    scene.record_many(103).await;
    scene.settle().await;
    let full = receiver.received();
    assert_eq!(full.len(), 1);
    assert_eq!(full[0].json()["data"].as_array().unwrap().len(), 100);
    assert_eq!(full[0].json()["isBatched"], true);
    assert_eq!(full[0].header("webhook-id"), full[0].json()["requestId"].as_str().unwrap());
    receiver.reply_next([Reply::Status(500)]);
    scene.advance(Duration::from_secs(5)).await;
    assert_eq!(receiver.received()[1].json()["data"].as_array().unwrap().len(), 3);
    scene.advance(Duration::from_secs(6)).await;
    let received = receiver.received();
    assert_eq!(received[2].body, received[1].body, "a batch is retried as a whole");
    assert_eq!(received.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_breaks_no_check() {
    let scene = Scene::start().await;
    let receiver = Receiver::start().await;
    let subscription = scene.subscribe(&receiver).await;
    let (app, vault) = (&scene.test.app, scene.test.app.vault());
    let old = subscription.reveal(vault).unwrap();
    let rotated = rotation::rotate(app, &scene.access, subscription.id, None).await.unwrap();
    let new = rotated.reveal(vault).unwrap();
    assert_ne!(old.expose(), new.expose());
    scene.record("card-published").await;
    scene.settle().await;
    let both = receiver.received().remove(0);
    assert_eq!(both.header("x-cardwire-signature"), own_signature(old.expose(), &both));
    assert_eq!(both.header("x-cardwire-signature-next"), own_signature(new.expose(), &both));
    let expected = [&new, &old].map(|secret| standard_signature(secret.expose(), &both)).join(" ");
    assert_eq!(both.header("webhook-signature"), expected);

    rotation::finish(app, &scene.access, subscription.id).await.unwrap();
    scene.record("card-published").await;
    scene.settle().await;
    let after = receiver.received().remove(1);
    assert_eq!(after.header("x-cardwire-signature"), own_signature(new.expose(), &after));
    assert!(!after.headers.contains_key("x-cardwire-signature-next"));

    rotation::rotate(app, &scene.access, subscription.id, Some(1)).await.unwrap();
    scene.test.app.clock().advance(Duration::from_secs(3600));
    scene.record("card-published").await;
    scene.settle().await;
    assert!(!receiver.received()[2].headers.contains_key("x-cardwire-signature-next"), "the overlap is over");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_is_sent_now_logged_whole_and_counts_for_nothing() {
    let scene = Scene::start().await;
    let (receiver, other) = (Receiver::start().await, Receiver::start().await);
    let subscription = scene.subscribe_with(&receiver, json!({ "testUrl": other.url() })).await;
    let app = &scene.test.app;
    status::disable(app, &scene.access, subscription.id).await.unwrap();
    other.reply_next([Reply::Status(500)]);
    let failed = trial::send(app, &scene.access, subscription.id, None).await.unwrap();
    assert_eq!((failed.delivered, failed.status), (false, Some(500)));
    app.clock().advance(Duration::from_secs(1));
    let good = trial::send(app, &scene.access, subscription.id, Some("card-completed")).await.unwrap();
    assert!(good.delivered);
    scene.settle().await;
    assert_eq!(receiver.received().len(), 0);
    let received = other.received();
    assert_eq!(received.iter().map(Received::event).collect::<Vec<_>>(), ["card-published", "card-completed"]);
    assert_eq!(received[1].json()["data"]["platformContext"]["isTest"], true);
    let secret = subscription.reveal(app.vault()).unwrap();
    assert_eq!(received[1].header("x-cardwire-signature"), own_signature(secret.expose(), &received[1]));
    assert_eq!(scene.test.events().await, Vec::<String>::new());
    let log = request_log::list(app, &scene.access, subscription.id, 10, None).await.unwrap().rows;
    assert_eq!(log.len(), 2);
    assert!(log.iter().all(|entry| entry.is_test));
    assert_eq!(log[0].request_body.as_deref().unwrap().as_bytes(), received[1].body);
    let unknown = trial::send(app, &scene.access, subscription.id, Some("card-eaten")).await.unwrap_err();
    assert_eq!(unknown.violations()[0].parameter, Some("type"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_has_a_sample() {
    let scene = Scene::start().await;
    let receiver = Receiver::start().await;
    let subscription = scene.subscribe(&receiver).await;
    let names = cardwire::events::names::SERVER.iter().chain(cardwire::events::names::SDK);
    for name in names {
        trial::send(&scene.test.app, &scene.access, subscription.id, Some(name)).await.unwrap();
        assert_eq!(receiver.received().last().unwrap().event(), *name);
    }
    trial::send(&scene.test.app, &scene.access, subscription.id, Some("custom:paid")).await.unwrap();
    let data = &receiver.received().last().unwrap().json()["data"];
    assert_eq!((&data["eventType"], &data["eventName"]), (&json!("custom"), &json!("paid")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_real_requests_tells_names_and_sizes_only() {
    let scene = Scene::start().await;
    let receiver = Receiver::start().await;
    let subscription = scene.subscribe_with(&receiver, json!({ "headers": { "x-key": "hush" } })).await;
    let event = scene.record("card-published").await;
    receiver.reply_next([Reply::StatusWith(503, "retry-after", "1".to_owned())]);
    scene.settle().await;
    scene.advance(Duration::from_secs(6)).await;
    let (app, access) = (&scene.test.app, &scene.access);
    let page = request_log::list(app, access, subscription.id, 1, None).await.unwrap();
    assert!(page.more);
    let newest = &page.rows[0];
    let oldest = request_log::list(app, access, subscription.id, 1, Some(&newest.cursor())).await.unwrap();
    assert!(!oldest.more);
    let oldest = &oldest.rows[0];
    assert_eq!((newest.attempt, newest.status), (2, Some(200)));
    assert_eq!((oldest.attempt, oldest.status), (1, Some(503)));
    assert_eq!(oldest.request_id, newest.request_id);
    assert_eq!((oldest.event_id, oldest.events), (Some(event), 1));
    assert_eq!(oldest.request_headers["x-key"], serde_json::Value::Null);
    assert!(oldest.request_headers.get("webhook-signature").is_some());
    assert_eq!((&oldest.request_body, &oldest.response_body), (&None, &None));
    assert_eq!(usize::try_from(oldest.request_bytes).unwrap(), receiver.received()[0].body.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_url_is_used_from_the_next_request_on() {
    let scene = Scene::start().await;
    let (before, after) = (Receiver::start().await, Receiver::start().await);
    let subscription = scene.subscribe(&before).await;
    scene.record("card-published").await;
    scene.settle().await;
    let draft = draft_of(&json!({ "url": after.url() }));
    subscription::update(&scene.test.app, &scene.access, subscription.id, draft).await.unwrap();
    scene.record("card-published").await;
    scene.settle().await;
    assert_eq!((before.received().len(), after.received().len()), (1, 1));
}
