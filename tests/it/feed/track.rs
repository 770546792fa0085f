//! Events that apps report, and what they do to cards.

use std::time::Duration;

use cardwire::clock::Time;
use serde_json::{Value, json};

use crate::support::socket::Socket;
use crate::support::world::{CUSTOMER, World};

const TRACK: &str = "mutation($e: [TrackedEventInput!]!){ trackEvents(events: $e) { ok processedIds } }";
const SEEN: &str = "6f8b9c2e-1f60-4b7e-8a3e-0c8f0a4b1d2e";

async fn track(world: &World, events: Value) -> Value {
    world.sdk(CUSTOMER, TRACK, json!({ "e": events })).await.data()["trackEvents"]["processedIds"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_is_unseen_until_it_was_displayed() {
    let world = World::start().await;
    let card = world.send_card("a", CUSTOMER).await;
    let mut socket = Socket::open(&world.test.origin, world.init(CUSTOMER)).await;
    let feed = "subscription($c: ID!){ feed(containerId: $c) { ... on FeedSnapshot { unseenCardIds } ... on FeedPatch { unseenCardIds upserts { reason } } } }";
    socket.subscribe("1", feed, json!({ "c": world.container })).await;
    assert_eq!(socket.next("1").await["feed"]["unseenCardIds"], json!([card]));
    let event = json!({ "id": SEEN, "name": "card-displayed", "containerId": world.container, "cardId": card,
        "streamContext": { "streamLength": 1, "colour": "red" } });
    assert_eq!(track(&world, json!([event])).await, json!([SEEN]));
    assert_eq!(socket.next("1").await["feed"], json!({ "unseenCardIds": [], "upserts": [{ "reason": "UPDATE" }] }));
    let payloads = world.test.column("SELECT payload AS value FROM events WHERE name = 'card-displayed'").await;
    let payload: Value = serde_json::from_str(&payloads[0]).unwrap();
    assert_eq!(payload["cardContext"]["cardInstanceId"], card);
    assert_eq!(payload["streamContext"], json!({ "streamId": world.stream, "streamName": "Home", "streamLength": 1 }));
    assert_eq!(payload["sdkContext"]["containerId"], world.container);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_counts_once_and_strange_ones_are_dropped() {
    let world = World::start().await;
    let card = world.send_card("a", CUSTOMER).await;
    let before = world.test.events().await.len();
    let id = |n: u32| format!("00000000-0000-4000-8000-00000000000{n}");
    let events = json!([
        { "id": id(1), "name": "stream-displayed", "containerId": world.container },
        { "id": id(1), "name": "stream-displayed", "containerId": world.container },
        { "id": id(2), "name": "card-completed", "cardId": card },
        { "id": id(3), "name": "unheard-of" },
        { "id": id(4), "name": "card-displayed", "cardId": "card_00000000000000000000000000" },
        { "id": id(5), "name": "video-played", "userId": "somebody-else" },
    ]);
    assert_eq!(track(&world, events.clone()).await, json!([id(1), id(1), id(2), id(3), id(4), id(5)]));
    assert_eq!(world.test.events().await[before..], ["stream-displayed"]);
    track(&world, events).await;
    assert_eq!(world.test.events().await.len(), before + 1, "a repeat is ignored");
    let answer = world.sdk(CUSTOMER, TRACK, json!({ "e": [{ "id": "7", "name": "video-played" }] })).await;
    assert_eq!(answer.errors(), ["validation_failed /events/0/id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_in_the_future_is_corrected_and_an_earlier_one_stays() {
    let world = World::start().await;
    let now = world.test.app.clock().now();
    let (later, earlier) = (now.plus(Duration::from_secs(3600)), now.minus(Duration::from_secs(3600)));
    let event = |id: u32, at: Time| {
        json!({ "id": format!("00000000-0000-4000-8000-00000000000{id}"),
        "name": "stream-displayed", "containerId": world.container, "timestamp": at })
    };
    track(&world, json!([event(1, later), event(2, earlier)])).await;
    let said = "SELECT payload::json ->> 'timestamp' AS value FROM events WHERE name = 'stream-displayed' ORDER BY id";
    assert_eq!(world.test.column(said).await, [now, earlier].map(|at| at.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_may_change_themself() {
    let world = World::start().await;
    let update = "mutation($i: UpdateMeInput!){ updateMe(input: $i) { userId name profile } }";
    let me =
        world.sdk(CUSTOMER, update, json!({ "i": { "profile": { "name": "Bo" } } })).await.data()["updateMe"].clone();
    assert_eq!((&me["userId"], &me["name"]), (&json!(CUSTOMER), &json!("Bo")));
    let answer = world.sdk(CUSTOMER, update, json!({ "i": { "profile": { "colour": "red" } } })).await;
    assert_eq!(answer.errors(), ["validation_failed /profile/colour"]);
}

const FAILED: &str = "mutation($e: [AnonymousEventInput!]!){ trackAnonymousEvents(events: $e) { ok processedIds } }";

fn failed(number: u32) -> Value {
    json!({ "id": format!("00000000-0000-4000-8000-0000000000{number:02}"), "name": "request-failed",
        "properties": { "operation": "feed", "statusCode": 503 } })
}

async fn track_anonymous(world: &World, key: &str, events: Value) -> crate::support::client::Answer {
    let headers = [("x-cardwire-api-key", key), ("x-cardwire-platform", "iOS")];
    world.test.client.graphql_with(&headers, FAILED, json!({ "e": events })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_without_a_customer_reports_failed_requests_alone() {
    let world = World::start().await;
    let customers = "SELECT count(*)::text AS value FROM customers";
    let (before, known) = (world.test.events().await.len(), world.test.column(customers).await);
    let other = json!({ "id": "00000000-0000-4000-8000-000000000099", "name": "stream-displayed" });
    let answer = track_anonymous(&world, "web", json!([failed(1), other, failed(1)])).await;
    let ids = &answer.data()["trackAnonymousEvents"]["processedIds"];
    assert_eq!(*ids, json!([failed(1)["id"], other["id"], failed(1)["id"]]));
    track_anonymous(&world, "web", json!([failed(1)])).await;
    assert_eq!(world.test.events().await[before..], ["request-failed"], "others are dropped, repeats ignored");
    let payloads = world.test.column("SELECT payload AS value FROM events WHERE name = 'request-failed'").await;
    let payload: Value = serde_json::from_str(&payloads[0]).unwrap();
    assert_eq!(payload.get("endUserId"), None);
    assert_eq!(payload["properties"], json!({ "operation": "feed", "statusCode": 503 }));
    assert_eq!(payload["sdkContext"]["platform"], "iOS");
    assert_eq!(payload["eventContext"]["ip"], "127.0.0.1");
    assert_eq!(world.test.column(customers).await, known, "no profile comes of it");
    assert_eq!(track_anonymous(&world, "nope", json!([failed(2)])).await.errors(), ["unauthenticated"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_reports_ten_failed_requests_a_minute() {
    let world = World::start().await;
    let before = world.test.events().await.len();
    let many = |range: std::ops::Range<u32>| Value::from(range.map(failed).collect::<Vec<_>>());
    let answer = track_anonymous(&world, "web", many(0..11)).await;
    assert_eq!(answer.errors(), ["validation_failed /events"]);
    track_anonymous(&world, "web", many(0..8)).await.data();
    assert_eq!(track_anonymous(&world, "web", many(10..13)).await.errors(), ["rate_limited"]);
    assert_eq!(world.test.events().await.len(), before + 8, "a call is taken whole or not at all");
    world.test.app.clock().advance(std::time::Duration::from_secs(6));
    track_anonymous(&world, "web", many(10..13)).await.data();
    assert_eq!(world.test.events().await.len(), before + 11);
}
