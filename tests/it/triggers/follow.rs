//! The workbench hears of captured samples and of pauses.

use std::time::Duration;

use serde_json::{Value, json};

use super::Stage;
use crate::support::socket::Socket;

const CAPTURED: &str = "subscription($id: ID!) { triggerSampleCaptured(triggerId: $id) { id sample captureUntil } }";
const PAUSED: &str =
    "subscription($env: ID!) { triggerPaused(environmentId: $env) { id mode pausedReason pausedShape } }";

async fn open(stage: &Stage, token: &str) -> Socket {
    Socket::open(&stage.world.test.origin, json!({ "authToken": token })).await
}

/// What is heard within a moment, if anything.
async fn heard(socket: &mut Socket, field: &str) -> Option<Value> {
    let next = tokio::time::timeout(Duration::from_millis(700), socket.next("1")).await.ok()?;
    Some(next[field].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_captured_sample_is_told_of_and_a_pasted_one_is_not() {
    let stage = Stage::set(json!({})).await;
    let mut socket = open(&stage, &stage.world.session).await;
    socket.subscribe("1", CAPTURED, json!({ "id": stage.trigger })).await;
    let arm = "mutation($id: ID!) { armTriggerCapture(triggerId: $id) { trigger { id } } }";
    // Until the follower stands, captures may go by unheard.
    let first = loop {
        stage.world.test.app.clock().advance(Duration::from_secs(1));
        stage.world.ask(arm, json!({ "id": stage.trigger })).await;
        assert_eq!(stage.post(&json!({ "order": 1 })).await.data(), json!({ "captured": true }));
        if let Some(heard) = heard(&mut socket, "triggerSampleCaptured").await {
            break heard;
        }
    };
    assert_eq!(first, json!({ "id": stage.trigger, "sample": { "order": 1 }, "captureUntil": null }));
    stage.world.test.app.clock().advance(Duration::from_secs(1));
    stage.sample(json!({ "pasted": true })).await;
    assert_eq!(heard(&mut socket, "triggerSampleCaptured").await, None);
    stage.world.ask(arm, json!({ "id": stage.trigger })).await;
    stage.post(&json!({ "order": 2 })).await;
    assert_eq!(socket.next("1").await["triggerSampleCaptured"]["sample"], json!({ "order": 2 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_pause_is_told_of_with_its_reason() {
    let stage = Stage::set(json!({})).await;
    stage.sample(json!({ "targetUserIds": "a" })).await;
    assert_eq!(stage.mode("LIVE").await.as_deref(), Ok("live"));
    let mut socket = open(&stage, &stage.world.session).await;
    socket.subscribe("1", PAUSED, json!({ "env": stage.world.env })).await;
    let mut told = Vec::new();
    while told.len() < 2 {
        stage.world.test.app.clock().advance(Duration::from_secs(1));
        assert_eq!(stage.post(&json!({ "other": true })).await.status, 422);
        told.extend(heard(&mut socket, "triggerPaused").await);
        assert_eq!(stage.reactivate().await.as_deref(), Ok("live"));
    }
    for pause in told {
        assert_eq!((&pause["id"], &pause["mode"]), (&json!(stage.trigger), &json!("paused")));
        assert!(pause["pausedReason"].as_str().unwrap().contains("mapping_failed"), "{pause}");
        assert!(pause["pausedShape"].is_object(), "{pause}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_see_triggers_follows_none() {
    let stage = Stage::set(json!({})).await;
    let powerless = stage.world.powerless_member().await;
    for (query, variables) in [(CAPTURED, json!({ "id": stage.trigger })), (PAUSED, json!({ "env": stage.world.env }))]
    {
        let mut socket = open(&stage, &powerless).await;
        socket.subscribe("1", query, variables).await;
        let answer = socket.hear().await;
        let code = &answer["payload"][0]["extensions"]["code"];
        assert!(answer["type"] == "error" && (code == "not_found" || code == "forbidden"), "{answer}");
    }
}
