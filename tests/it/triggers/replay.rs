//! Requests that the log keeps, started once more through the mapping of now.

use std::time::Duration;

use cardwire::triggers::request_log::Forgetter;
use cardwire::worker::Worker;
use serde_json::{Value, json};

use super::Stage;
use crate::support::world::text;

const REPLAY: &str = "mutation($trigger: ID!, $request: ID!) {
    replayTriggerRequest(input: { triggerId: $trigger, requestId: $request }) {
        flowInvocationId accepted duplicate ignored } }";

/// The last requests, newest first.
async fn requests(stage: &Stage) -> Vec<Value> {
    let seen = stage.look("recentRequests { id status replayable replayedAt flowInvocationId }").await;
    seen["recentRequests"].as_array().unwrap().clone()
}

async fn replay(stage: &Stage, request: &Value) -> Result<Value, Vec<String>> {
    let variables = json!({ "trigger": stage.trigger, "request": request["id"] });
    let answer = stage.world.test.client.graphql(&stage.world.session, REPLAY, variables).await;
    if answer.json()["errors"].is_array() {
        return Err(answer.errors());
    }
    Ok(answer.data()["replayTriggerRequest"].clone())
}

/// A live trigger whose mapping reads `customer.id`.
async fn live() -> Stage {
    let properties = json!({ "targetUserIds": { "path": "$.customer.id" }, "variables.amount": { "value": 3 } });
    let stage = Stage::set(json!({ "mapping": { "type": "structured", "properties": properties } })).await;
    stage.sample(json!({ "customer": { "id": "u" } })).await;
    assert_eq!(stage.mode("LIVE").await.as_deref(), Ok("live"));
    stage
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_mapping_did_not_understand_starts_once_it_is_mended_and_then_never_again() {
    let stage = live().await;
    let sent = stage.post(&json!({ "client": { "number": "77" } })).await;
    assert_eq!(sent.status, 422);
    let refused = requests(&stage).await.remove(0);
    assert_eq!((&refused["status"], &refused["replayable"]), (&json!(422), &json!(true)));
    assert_eq!(replay(&stage, &refused).await, Err(vec!["conflict".to_owned()]), "a paused trigger starts nothing");
    let source =
        "function map(p) { return { targetUserIds: (p.client || p.customer).number, variables: { amount: 4 } } }";
    stage.sample(json!({ "client": { "number": "1" } })).await;
    stage.update(json!({ "mapping": { "type": "script", "source": source } })).await;
    assert_eq!(stage.reactivate().await.as_deref(), Ok("live"));
    let begun = replay(&stage, &refused).await.unwrap();
    let id = text(&refused["id"]);
    assert_eq!(begun, json!({ "flowInvocationId": id, "accepted": 1, "duplicate": 0, "ignored": 0 }));
    let again = replay(&stage, &refused).await.unwrap();
    assert_eq!(again, json!({ "flowInvocationId": id, "accepted": 0, "duplicate": 1, "ignored": 0 }));
    assert_eq!(stage.runs().await, [r#"77 false {"amount": 4}"#]);
    assert!(requests(&stage).await[0]["replayedAt"].is_string());
    let audited = "SELECT action AS value FROM audit_entries WHERE action = 'trigger.replay'";
    assert_eq!(stage.world.test.column(audited).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_started_is_not_started_again_and_a_mapping_that_fails_pauses_nothing() {
    let stage = live().await;
    let invocation = text(&stage.post(&json!({ "customer": { "id": "17" } })).await.data()["flowInvocationId"]);
    let taken = requests(&stage).await.remove(0);
    let again = replay(&stage, &taken).await.unwrap();
    assert_eq!(again, json!({ "flowInvocationId": invocation, "accepted": 0, "duplicate": 1, "ignored": 0 }));
    let properties = json!({ "targetUserIds": { "path": "$.nobody" } });
    stage.update(json!({ "mapping": { "type": "structured", "properties": properties } })).await;
    assert_eq!(replay(&stage, &taken).await, Err(vec!["mapping_failed /targetUserIds".to_owned()]));
    assert_eq!(stage.look("mode").await["mode"], "live");
    assert_eq!(stage.runs().await, [r#"17 false {"amount": 3}"#]);
    assert_eq!(stage.mode("TEST").await.as_deref(), Ok("test"));
    let owner = stage.world.test.column("SELECT user_id AS value FROM members").await.remove(0);
    stage.update(json!({ "mapping": { "type": "none" } })).await;
    stage
        .post(&json!({ "targetUserIds": [owner, "stranger"], "flowInvocationId": "try", "variables": { "amount": 5 } }))
        .await;
    let tried = requests(&stage).await.remove(0);
    let again = replay(&stage, &tried).await.unwrap();
    assert_eq!(again, json!({ "flowInvocationId": "try", "accepted": 0, "duplicate": 1, "ignored": 1 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_kept_of_strangers_nor_of_what_is_large_or_old_and_nothing_in_the_clear() {
    let verification = json!({ "secret": "a shared secret", "algorithm": "sha1", "digest": "base64",
        "signature": { "header": "x-signature" }, "template": "[payload]" });
    let stage = Stage::set(json!({ "verification": verification })).await;
    assert_eq!(stage.post(&json!({ "targetUserIds": "stranger" })).await.status, 401);
    stage.update(json!({ "verification": null })).await;
    let owner = stage.world.test.column("SELECT user_id AS value FROM members").await.remove(0);
    let large =
        json!({ "targetUserIds": [owner], "variables": { "amount": 1 }, "metadata": { "note": "x".repeat(70_000) } });
    let answer = stage.post(&large).await;
    assert!(answer.status == 202 || answer.status == 422, "{}", answer.text);
    let headers = [("content-type", "application/json"), ("authorization", "Bearer hidden-token")];
    let body =
        json!({ "targetUserIds": [owner], "variables": { "amount": 1 }, "metadata": { "note": "in-the-clear" } });
    assert_eq!(stage.send("POST", &headers, &body.to_string()).await.status, 202);
    let kept: Vec<Value> = requests(&stage).await.iter().map(|one| one["replayable"].clone()).collect();
    assert_eq!(kept, [json!(true), json!(false), json!(false)]);
    let rows = "SELECT encode(kept, 'escape') AS value FROM trigger_requests WHERE kept IS NOT NULL";
    let sealed = stage.world.test.column(rows).await;
    assert!(sealed.len() == 1 && !sealed[0].contains("in-the-clear"), "{sealed:?}");
    stage.world.test.app.clock().advance(Duration::from_secs(7 * 24 * 3600 + 1));
    Forgetter.run(&stage.world.test.app).await.unwrap();
    assert_eq!(stage.world.test.column(rows).await, [""; 0], "its days are over");
    let lines = "SELECT status::text AS value FROM trigger_requests";
    assert_eq!(stage.world.test.column(lines).await.len(), 3, "the lines of the log stay");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_may_send_replays_a_live_trigger() {
    let stage = live().await;
    stage.post(&json!({ "customer": { "id": "17" } })).await;
    let taken = requests(&stage).await.remove(0);
    let variables = json!({ "trigger": stage.trigger, "request": taken["id"] });
    let client = &stage.world.test.client;
    let nobody = client.graphql_with(&[], REPLAY, variables.clone()).await;
    assert_eq!(nobody.errors(), ["unauthenticated"]);
    let powerless = stage.world.powerless_member().await;
    let refused = client.graphql(&powerless, REPLAY, variables).await;
    assert!(["forbidden", "not_found"].contains(&refused.errors()[0].as_str()), "{}", refused.text);
    let other = json!({ "trigger": stage.trigger, "request": "treq_01h455vb4pex5vsknk084sn02q" });
    assert_eq!(client.graphql(&stage.world.session, REPLAY, other).await.errors(), ["not_found"]);
}
