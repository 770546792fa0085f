//! Why an event was or was not sent, and sending past events again.

use std::time::Duration;

use cardwire::db::page::PageRequest;
use cardwire::error::Code;
use cardwire::ids::EventId;
use cardwire::webhooks::explain::{Explanation, Later, Mismatch, State, explain};
use cardwire::webhooks::replay::{self, Range, Replay};
use cardwire::webhooks::status;
use cardwire::webhooks::subscription::Subscription;
use serde_json::json;

use super::{Scene, ids, sorted, texts};
use crate::support::receiver::{Receiver, Reply};

async fn explained(scene: &Scene, event: EventId, subscription: &Subscription) -> Explanation {
    let request = PageRequest::new(None, None).unwrap();
    let page = explain(&scene.test.app, &scene.access, event, request).await.unwrap();
    page.rows.into_iter().find(|row| row.subscription.id == subscription.id).unwrap()
}

async fn state(scene: &Scene, event: EventId, subscription: &Subscription) -> State {
    explained(scene, event, subscription).await.state
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_of_a_delivery_is_explained() {
    let (scene, receiver) = (Scene::start().await, Receiver::start().await);
    let few = json!({ "maxRetries": 1, "disableAfterFailures": false });
    let subscription = scene.subscribe_with(&receiver, few).await;
    let first = scene.record("card-published").await;
    assert_eq!(state(&scene, first, &subscription).await, State::Recorded);
    receiver.reply_always(Some(Reply::Status(500)));
    scene.settle().await;
    let told = explained(&scene, first, &subscription).await;
    assert_eq!((told.state, told.later, told.attempts.len()), (State::Retrying, Some(Later::Retry), 1));
    let pause = told.next_attempt_at.unwrap().since(scene.test.app.clock().now());
    assert!((Duration::from_millis(4500)..=Duration::from_millis(5500)).contains(&pause), "{pause:?}");
    let (second, third) = (scene.record("card-published").await, scene.record("card-published").await);
    scene.settle().await;
    let told = explained(&scene, third, &subscription).await;
    assert_eq!((told.state, told.later, told.ahead), (State::Waiting, Some(Later::EndpointFails), 1));
    assert!(told.next_attempt_at.unwrap() > scene.test.app.clock().now());
    scene.advance(Duration::from_secs(6)).await;
    let told = explained(&scene, first, &subscription).await;
    assert_eq!((told.state, told.attempts.len()), (State::GivenUp, 2));
    receiver.reply_always(None);
    scene.advance(Duration::from_secs(60)).await;
    let told = explained(&scene, second, &subscription).await;
    assert_eq!((told.state, told.attempts[0].status), (State::Delivered, Some(200)));
    receiver.reply_always(Some(Reply::Status(500)));
    let last = scene.record("card-published").await;
    scene.settle().await;
    status::disable(&scene.test.app, &scene.access, subscription.id).await.unwrap();
    assert_eq!(state(&scene, last, &subscription).await, State::Dropped);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reason_why_not_is_told() {
    let (scene, receiver) = (Scene::start().await, Receiver::start().await);
    let early = scene.record("card-published").await;
    let live = scene.subscribe_with(&receiver, json!({ "includeTestEvents": false })).await;
    let off = scene.subscribe(&receiver).await;
    status::disable(&scene.test.app, &scene.access, off.id).await.unwrap();
    let test = scene.record_with("card-dismissed", |event| event.is_test = true).await;
    scene.settle().await;
    let told = explained(&scene, early, &live).await;
    assert_eq!((told.state, told.mismatches), (State::NotMatched, vec![Mismatch::Earlier]));
    let told = explained(&scene, test, &live).await;
    assert_eq!(told.mismatches, [Mismatch::Type, Mismatch::TestEvent]);
    let told = explained(&scene, test, &off).await;
    assert_eq!(told.mismatches, [Mismatch::Type, Mismatch::Disabled]);
    let stranger: EventId = scene.test.app.ids().make(scene.test.app.clock().now());
    let request = PageRequest::new(None, None).unwrap();
    let unknown = explain(&scene.test.app, &scene.access, stranger, request).await;
    assert_eq!(unknown.err().map(|error| error.code()), Some(Code::NotFound));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_attempts_of_a_batch_are_those_of_each_event_in_it() {
    let (scene, receiver) = (Scene::start().await, Receiver::start().await);
    let subscription = scene.subscribe_with(&receiver, json!({ "isBatched": true })).await;
    let events = scene.record_many(3).await;
    scene.settle().await;
    let told = explained(&scene, events[1], &subscription).await;
    assert_eq!((told.state, told.later), (State::Waiting, Some(Later::Batch)));
    scene.advance(Duration::from_secs(5)).await;
    for event in events {
        let told = explained(&scene, event, &subscription).await;
        assert_eq!((told.state, told.attempts.len()), (State::Delivered, 1));
    }
}

async fn replayed(scene: &Scene, subscription: &Subscription, types: Option<Vec<String>>) -> Replay {
    let now = scene.test.app.clock().now();
    let range = Range { from: now.minus(Duration::from_secs(3600)), to: now, types };
    let started = replay::start(&scene.test.app, &scene.access, subscription.id, range).await.unwrap();
    scene.settle().await;
    replay::read(&scene.test.app, &scene.access, started.id).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn past_events_are_sent_again_under_their_ids_and_new_ones_too() {
    let (scene, receiver) = (Scene::start().await, Receiver::start().await);
    let before = scene.record("card-published").await;
    let subscription = scene.subscribe(&receiver).await;
    let had = scene.record_many(3).await;
    let other = scene.record("card-completed").await;
    scene.record("card-dismissed").await;
    scene.settle().await;
    assert_eq!(receiver.received().len(), 4);
    scene.test.app.clock().advance(Duration::from_secs(60));
    let done = replayed(&scene, &subscription, Some(vec!["card-published".into()])).await;
    assert_eq!((done.status.as_str(), done.found, done.queued), ("completed", 4, 4));
    assert!((done.progress() - 1.0).abs() < f64::EPSILON);
    let expected = [&had[..], &had, &[before, other]].concat();
    assert_eq!(sorted(ids(&receiver.received())), texts(&expected));
    let bodies = receiver.received();
    let of = |id: EventId| bodies.iter().filter(move |sent| sent.header("webhook-id") == id.to_string());
    assert!(of(had[0]).all(|sent| Some(&sent.body) == of(had[0]).next().map(|first| &first.body)), "the same request");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_anyway_is_not_queued_twice() {
    let (scene, receiver) = (Scene::start().await, Receiver::start().await);
    let subscription = scene.subscribe(&receiver).await;
    receiver.reply_always(Some(Reply::Status(500)));
    let events = scene.record_many(12).await;
    scene.settle().await;
    scene.test.app.clock().advance(Duration::from_secs(1));
    let done = replayed(&scene, &subscription, None).await;
    assert_eq!((done.found, done.queued), (12, 0));
    receiver.reply_always(None);
    scene.advance(Duration::from_secs(3600)).await;
    let taken: Vec<_> = receiver.received().into_iter().filter(|sent| sent.status == 200).collect();
    assert_eq!(sorted(ids(&taken)), texts(&events));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_job_goes_on_as_the_receiver_takes_it_and_can_be_cancelled() {
    let (scene, receiver) = (Scene::start().await, Receiver::start().await);
    let subscription = scene.subscribe(&receiver).await;
    scene.record_many(1700).await;
    scene.settle().await;
    assert_eq!(receiver.received().len(), 1700);
    receiver.reply_always(Some(Reply::Status(500)));
    scene.test.app.clock().advance(Duration::from_secs(60));
    let (app, access) = (&scene.test.app, &scene.access);
    let running = replayed(&scene, &subscription, None).await;
    assert_eq!((running.status.as_str(), running.queued), ("running", 1000), "not more than the receiver has to take");
    let now = app.clock().now();
    let range = Range { from: now.minus(Duration::from_secs(60)), to: now, types: None };
    let second = replay::start(app, access, subscription.id, range).await;
    assert_eq!(second.err().map(|error| error.code()), Some(Code::Conflict), "one at a time");
    let cancelled = replay::cancel(app, access, running.id).await.unwrap();
    assert_eq!(cancelled.status, "cancelled");
    receiver.reply_always(None);
    for _ in 0..4 {
        scene.advance(Duration::from_secs(3600)).await;
    }
    let books = scene.books().await;
    assert_eq!((books.matched, books.delivered, books.retrying), (2700, 2700, 0));
    let listed = replay::list(app, access, subscription.id, PageRequest::new(None, None).unwrap()).await.unwrap();
    assert_eq!(listed.rows.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_are_checked() {
    let (scene, receiver) = (Scene::start().await, Receiver::start().await);
    let subscription = scene.subscribe(&receiver).await;
    let (app, access, now) = (&scene.test.app, &scene.access, scene.test.app.clock().now());
    let hour = Duration::from_secs(3600);
    for (range, pointer) in [
        (Range { from: now, to: now.minus(hour), types: None }, "/to"),
        (Range { from: now, to: now.plus(hour), types: None }, "/to"),
        (Range { from: now.minus(hour), to: now, types: Some(vec!["card-dismissed".into()]) }, "/types/0"),
    ] {
        let refused = replay::start(app, access, subscription.id, range).await.unwrap_err();
        assert_eq!(refused.violations()[0].pointer.as_deref(), Some(pointer));
    }
    status::disable(app, access, subscription.id).await.unwrap();
    let range = Range { from: now.minus(hour), to: now, types: None };
    assert_eq!(replay::start(app, access, subscription.id, range).await.unwrap_err().code(), Code::Conflict);
}
