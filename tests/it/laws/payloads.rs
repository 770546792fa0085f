//! What integrators parse does not change by accident: one payload of every event in the catalogue, as it is signed
//! and exported.

use std::collections::BTreeMap;
use std::time::Duration;

use cardwire::events::names;
use regex::Regex;
use serde_json::{Value, json};

use crate::support::world::{CUSTOMER, World, text};

/// Events of parts that are not there yet.
const LATER: &[&str] =
    &["notification-sent", "notification-failed", "notification-suppressed", "segment-entered", "segment-exited"];

async fn act(world: &World, field: &str, card: &str, more: &str) {
    let input = format!(
        "containerId: \"{}\", cardId: \"{card}\", userLocalTimestamp: \"2026-01-01T13:00:00.591+13:00\"{more}",
        world.container
    );
    let answer =
        world.sdk(CUSTOMER, &format!("mutation {{ {field}(input: {{ {input} }}) {{ ok }} }}"), json!({})).await;
    assert_eq!(answer.data()[field]["ok"], true, "{field}: {}", answer.text);
}

async fn start(world: &World, flow: &str, options: Value) {
    let body = json!({ "flows": [{ "target": { "type": "user", "targetUserIds": CUSTOMER },
        "payload": { "variables": { "amount": "12" }, "metadata": { "campaign": "spring" },
            "notificationDetail": { "title": "Hi" }, "cardOptions": options } }] });
    let path = world.path(&format!("action-flow/{flow}/start"));
    let answer = world.test.client.call(&world.events, "POST", &path, body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    world.test.settle().await;
}

/// Everything that a customer can do to cards, and that time does to them.
async fn live(world: &World) {
    let card = world.send_card("completed", CUSTOMER).await;
    act(world, "snoozeCard", &card, ", interval: \"PT1M\"").await;
    world.test.advance(Duration::from_secs(61)).await;
    act(world, "voteCard", &card, ", direction: UP").await;
    act(world, "voteCard", &card, ", direction: DOWN, reason: OTHER, message: \"too loud\"").await;
    let path = world.path(&format!("action-flow/{}/variables", world.flow));
    let update = json!({ "flowInvocationId": "completed", "variables": { "amount": 13 } });
    assert_eq!(world.test.client.call(&world.events, "PUT", &path, update).await.data()["cards"], 1);
    report(world, &card).await;
    act(world, "completeCard", &card, ", buttonName: \"accept\", values: { choice: \"yes\" }").await;
    let card = world.send_card("dismissed", CUSTOMER).await;
    act(world, "dismissCard", &card, "").await;
    start(world, &world.flow, json!({ "embargo": "2026-01-01T00:05:00Z", "expires": "2026-01-01T00:10:00Z" })).await;
    world.test.advance(Duration::from_secs(300)).await;
    world.test.advance(Duration::from_secs(300)).await;
    world.send_card("cancelled", CUSTOMER).await;
    let cancel = world.path("cards/cancel?flowInvocationId=cancelled");
    assert_eq!(world.test.client.call(&world.events, "PUT", &cancel, json!({})).await.status, 200);
}

/// What an app reports of itself.
async fn report(world: &World, card: &str) {
    const TRACK: &str = "mutation($e: [TrackedEventInput!]!){ trackEvents(events: $e) { processedIds } }";
    let events: Vec<Value> = names::SDK
        .iter()
        .enumerate()
        .map(|(number, name)| {
            json!({ "id": format!("00000000-0000-4000-8000-{number:012}"), "name": name, "cardId": card,
                "containerId": world.container })
        })
        .collect();
    let answer = world.sdk(CUSTOMER, TRACK, json!({ "e": events })).await;
    assert_eq!(answer.data()["trackEvents"]["processedIds"].as_array().unwrap().len(), names::SDK.len());
}

/// Flows that fail and that are stopped.
async fn flows(world: &World) {
    let step = |config: Value| json!({ "variables": [], "steps": [{ "key": "card", "parent": "start", "type": "sendCard", "config": config }] });
    let without_amount = world.create_flow("Fails", step(json!({ "templateId": world.template }))).await;
    start(world, &without_amount, json!({})).await;
    let waits = json!({ "steps": [{ "key": "wait", "parent": "start", "type": "wait", "config": { "for": "duration", "duration": "P1D" } }] });
    let waits = world.create_flow("Waits", waits).await;
    start(world, &waits, json!({})).await;
    let run = world.test.column("SELECT invocation AS value FROM runs WHERE status = 'running'").await;
    let path = world.path(&format!("action-flow/{waits}/cancel"));
    let body = json!({ "flowInvocationId": run[0] });
    assert_eq!(world.test.client.call(&world.events, "POST", &path, body).await.status, 200);
}

/// Ids change whenever a test makes one more; their kinds do not.
fn redacted(payload: &str) -> Value {
    let ids = Regex::new(r"\b([a-z]+)_[0-9a-hjkmnp-tv-z]{26}\b").unwrap();
    serde_json::from_str(&ids.replace_all(payload, "${1}_…")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_has_its_payload() {
    let world = World::start().await;
    live(&world).await;
    flows(&world).await;
    let mut payloads: BTreeMap<String, Value> = BTreeMap::new();
    for payload in world.test.column("SELECT payload AS value FROM events ORDER BY xid DESC, id DESC").await {
        let payload = redacted(&payload);
        payloads.insert(text(&payload["analyticsEvent"]), payload);
    }
    let all = names::SERVER.iter().chain(names::SDK).copied();
    let missing: Vec<&str> = all.filter(|name| !payloads.contains_key(*name) && !LATER.contains(name)).collect();
    assert_eq!(missing, Vec::<&str>::new(), "no test makes these events");
    insta::assert_json_snapshot!(payloads);
}
