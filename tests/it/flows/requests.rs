//! *Send request* steps: what is sent, when it is repeated, which path the run takes, and what nobody knows.

use std::time::Duration;

use cardwire::flows::Performer;
use cardwire::worker::Worker;
use serde_json::{Value, json};

use crate::support::receiver::{Receiver, Reply};
use crate::support::world::World;

/// A flow that calls the receiver, with a step on each path.
async fn flow(world: &World, receiver: &Receiver, more: Value) -> String {
    let mut config = json!({ "url": format!("{}?user={{{{ run.flowInvocationId }}}}", receiver.url()), "timeoutSeconds": 1,
        "body": { "amount": "{{ variables.amount }}", "list": ["{{ run.isTest }}"] } });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let event = |key: &str, path: &str, properties: Value| {
        json!({ "key": key, "parent": "call", "path": path, "type": "sendEvent",
            "config": { "eventName": key, "properties": properties } })
    };
    let steps = json!([
        { "key": "call", "parent": "start", "type": "sendRequest", "config": config },
        event("good", "success", json!({ "order": "{{ steps.call.order }}", "status": "{{ steps.call.status }}" })),
        event("bad", "failure", json!({ "error": "{{ steps.call.error }}", "status": "{{ steps.call.status }}" })),
    ]);
    let variables = json!([{ "name": "amount", "type": "number" }]);
    world.create_flow("Call", json!({ "variables": variables, "steps": steps })).await
}

async fn start(world: &World, flow: &str, invocation: &str) {
    let body = json!({ "flows": [{ "flowInvocationId": invocation, "target": { "type": "user", "targetUserIds": "ana" },
        "payload": { "variables": { "amount": "12" } } }] });
    let path = world.path(&format!("action-flow/{flow}/start"));
    assert_eq!(world.test.client.call(&world.events, "POST", &path, body).await.status, 200);
    world.test.settle().await;
}

async fn custom_events(world: &World) -> Vec<String> {
    let query =
        "SELECT name || ' ' || (payload::jsonb ->> 'properties') AS value FROM events WHERE custom ORDER BY xid, id";
    world.test.column(query).await
}

async fn run_view(world: &World) -> Value {
    let query = "query($env: ID!) { flowRuns(environmentId: $env) { nodes { id status
        requests { stepKey status idempotencyKey attempts { attempt status httpStatus error } } openSteps { key status } } } }";
    world.ask(query, json!({ "env": world.env })).await["flowRuns"]["nodes"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_made_once_and_its_answer_is_mapped() {
    let world = World::start().await;
    let receiver = Receiver::start().await;
    receiver.reply_next([Reply::Body(201, r#"{"order":{"id":"o-7"}}"#.to_owned())]);
    let more = json!({ "headers": { "X-Who": "{{ run.flowInvocationId }}" }, "response": { "order": "$.order.id" } });
    let flow = flow(&world, &receiver, more).await;
    start(&world, &flow, "a b").await;
    let received = receiver.received();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].method, "POST");
    assert_eq!(received[0].json(), json!({ "amount": 12, "list": [false] }));
    assert_eq!(received[0].header("content-type"), "application/json");
    assert_eq!(received[0].header("x-who"), "a b");
    let view = run_view(&world).await;
    assert_eq!(view["status"], "COMPLETED");
    assert_eq!(view["requests"][0]["idempotencyKey"], received[0].header("idempotency-key"));
    assert_eq!(custom_events(&world).await, ["good {\"order\": \"o-7\", \"status\": 201}"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_repeated_with_pauses_and_the_same_key() {
    let world = World::start().await;
    let receiver = Receiver::start().await;
    receiver.reply_always(Some(Reply::Status(503)));
    let flow = flow(&world, &receiver, json!({})).await;
    start(&world, &flow, "x").await;
    for (after, requests) in [(0, 1), (1, 2), (4, 2), (1, 3), (24, 3), (1, 4), (600, 4)] {
        world.test.advance(Duration::from_secs(after)).await;
        assert_eq!(receiver.received().len(), requests, "after {after} s more");
    }
    let keys: std::collections::BTreeSet<String> =
        receiver.received().iter().map(|request| request.header("idempotency-key").to_owned()).collect();
    assert_eq!(keys.len(), 1);
    assert_eq!(custom_events(&world).await, ["bad {\"error\": null, \"status\": 503}"]);
    let statuses: Vec<Value> = run_view(&world).await["requests"][0]["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| json!([attempt["attempt"], attempt["status"], attempt["httpStatus"]]))
        .collect();
    assert_eq!(
        json!(statuses),
        json!([[1, "failed", 503], [2, "failed", 503], [3, "failed", 503], [4, "failed", 503]])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_better_later_is_not_repeated() {
    let world = World::start().await;
    let receiver = Receiver::start().await;
    receiver.reply_next([Reply::Status(404)]);
    let flow = flow(&world, &receiver, json!({})).await;
    start(&world, &flow, "x").await;
    assert_eq!(receiver.received().len(), 1);
    assert_eq!(custom_events(&world).await, ["bad {\"error\": null, \"status\": 404}"]);

    let steps =
        json!([{ "key": "call", "parent": "start", "type": "sendRequest", "config": { "url": "http://10.0.0.1/" } }]);
    let inner = world.create_flow("Inner", json!({ "steps": steps })).await;
    start(&world, &inner, "x").await;
    let message = "SELECT message AS value FROM run_steps WHERE status = 'failed'";
    assert_eq!(world.test.column(message).await, ["the request failed: destination_refused"]);
    assert_eq!(world.test.column("SELECT status AS value FROM runs ORDER BY id").await, ["completed", "failed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_nobody_recorded_is_unknown_and_in_the_end_a_member_decides() {
    let world = World::start().await;
    let receiver = Receiver::start().await;
    receiver.reply_always(Some(Reply::After(Duration::from_millis(300))));
    let flow = flow(&world, &receiver, json!({})).await;
    let body = json!({ "flows": [{ "flowInvocationId": "x", "target": { "type": "user", "targetUserIds": "ana" } }] });
    let path = world.path(&format!("action-flow/{flow}/start"));
    assert_eq!(world.test.client.call(&world.events, "POST", &path, body).await.status, 200);
    cardwire::flows::Engine.run(&world.test.app).await.unwrap();
    for _ in 0..10 {
        // The performer is dropped with its request under way, as by a crash, and the lease runs out.
        let dying = Performer::default();
        let _ = tokio::time::timeout(Duration::from_millis(150), dying.run(&world.test.app)).await;
        drop(dying);
        world.test.app.clock().advance(Duration::from_secs(7));
    }
    let resolve = "mutation($id: ID!, $how: RequestResolution!) {
        resolveRequest(input: { runId: $id, stepKey: \"call\", resolution: $how, body: { order: 1 } }) { run { id } } }";
    world.test.settle().await;
    let view = run_view(&world).await;
    assert_eq!(view["requests"][0]["status"], "unknown");
    assert_eq!(view["openSteps"], json!([{ "key": "call", "status": "waiting" }]));
    let attempts = view["requests"][0]["attempts"].as_array().unwrap().clone();
    assert_eq!(attempts.len(), 10);
    assert!(attempts.iter().all(|attempt| attempt["status"] == "unknown" && attempt["error"] == "interrupted"));
    let refused = world.refused(resolve, json!({ "id": view["id"], "how": "REPEAT" })).await;
    assert_eq!(refused, ["validation_failed /body"]);
    world.ask(resolve, json!({ "id": view["id"], "how": "SUCCEEDED" })).await;
    world.test.settle().await;
    assert_eq!(run_view(&world).await["status"], "COMPLETED");
    assert_eq!(world.refused(resolve, json!({ "id": view["id"], "how": "SUCCEEDED" })).await, ["conflict"]);
    let keys: std::collections::BTreeSet<String> =
        receiver.received().iter().map(|request| request.header("idempotency-key").to_owned()).collect();
    assert_eq!(keys.len(), 1, "every repeat can be recognised");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_carries_its_credential_or_is_not_made() {
    let world = World::start().await;
    let receiver = Receiver::start().await;
    let create = "mutation($env: ID!) { createOutgoingCredential(input: { environmentId: $env, name: \"theirs\",
        type: BASIC, username: \"ana\", password: \"pass\" }) { outgoingCredential { id } } }";
    let made = world.ask(create, json!({ "env": world.env })).await;
    let credential = made["createOutgoingCredential"]["outgoingCredential"]["id"].clone();
    let flow = flow(&world, &receiver, json!({ "credentialId": credential })).await;
    start(&world, &flow, "x").await;
    assert_eq!(receiver.received()[0].header("authorization"), "Basic YW5hOnBhc3M=");
    world.ask("mutation($id: ID!) { deleteOutgoingCredential(id: $id) { id } }", json!({ "id": credential })).await;
    start(&world, &flow, "y").await;
    assert_eq!(receiver.received().len(), 1, "nothing leaves without it");
    let told = custom_events(&world).await;
    assert_eq!(told.last().unwrap(), "bad {\"error\": \"credential_missing\", \"status\": null}");
}
