//! Setting a trigger up: samples, captures, previews, trials, and what is refused.

use std::time::Duration;

use serde_json::{Value, json};

use super::Stage;
use crate::support::world::text;

#[tokio::test(flavor = "multi_thread")]
async fn the_next_request_becomes_the_sample() {
    let stage = Stage::set(json!({})).await;
    let arm = "mutation($id: ID!) { armTriggerCapture(triggerId: $id) { trigger { captureUntil } } }";
    let armed = stage.world.ask(arm, json!({ "id": stage.trigger })).await;
    assert_eq!(armed["armTriggerCapture"]["trigger"]["captureUntil"], "2026-01-01T00:10:00.000Z");
    let headers = [("content-type", "application/json"), ("authorization", "Bearer hidden"), ("x-topic", "paid")];
    assert_eq!(stage.send("PUT", &headers, "{").await.status, 400, "the window stays open");
    let sent = stage.send("PUT", &headers, r#"{"order":{"customer":"u-1"}}"#).await;
    assert_eq!((sent.status, sent.data()), (202, json!({ "captured": true })));
    let seen = stage.look("sample sampleHeaders captureUntil").await;
    assert_eq!(seen["sample"], json!({ "order": { "customer": "u-1" } }));
    assert_eq!(seen["sampleHeaders"]["x-topic"], "paid");
    assert_eq!(seen["sampleHeaders"]["authorization"], Value::Null);
    assert_eq!(seen["captureUntil"], Value::Null);
    assert_eq!(stage.post(&json!({ "order": {} })).await.status, 422, "the window has closed");
    stage.world.ask(arm, json!({ "id": stage.trigger })).await;
    stage.world.test.app.clock().advance(Duration::from_secs(601));
    assert_eq!(stage.post(&json!({ "late": 1 })).await.status, 422, "the window has ended");
    stage.world.ask(arm, json!({ "id": stage.trigger })).await;
    let cancel = "mutation($id: ID!) { cancelTriggerCapture(triggerId: $id) { trigger { captureUntil } } }";
    stage.world.ask(cancel, json!({ "id": stage.trigger })).await;
    assert_eq!(stage.post(&json!({ "cancelled": 1 })).await.status, 422);
    assert_eq!(stage.runs().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_is_previewed_with_the_place_of_its_faults() {
    let stage = Stage::set(json!({})).await;
    let env = stage.world.env.clone();
    let preview = async |mapping: Value, sample: Value| {
        let query = "query($input: PreviewMappingInput!) { previewMapping(input: $input) { output errors { path message line column } } }";
        let input = json!({ "environmentId": env, "sample": sample, "mapping": mapping, "headers": { "x-a": "b" } });
        stage.world.ask(query, json!({ "input": input })).await["previewMapping"].clone()
    };
    let script = |source: &str| json!({ "type": "script", "source": source });
    let good =
        preview(script("function map(p, h) { return { targetUserIds: p.id, metadata: h } }"), json!({ "id": 7 })).await;
    assert_eq!(good, json!({ "output": { "targetUserIds": ["7"], "metadata": { "x-a": "b" } }, "errors": [] }));
    let bad = preview(script("function map(p) {\n  return p.nobody.id\n}"), json!({})).await;
    assert_eq!((bad["output"].clone(), bad["errors"][0]["line"].clone()), (Value::Null, json!(2)));
    assert!(bad["errors"][0]["column"].is_i64(), "{bad}");
    let surprise = preview(script("function map() { return { targetUserIds: 'a', extra: 1 } }"), json!({})).await;
    assert_eq!(surprise["errors"][0]["path"], "/extra");
    let query = "query($env: ID!) { defaultMappingScript(environmentId: $env) }";
    let preset = text(&stage.world.ask(query, json!({ "env": env })).await["defaultMappingScript"]);
    let mapped = preview(script(&preset), json!({ "targetUserIds": "a", "variables": { "amount": 1 }, "x": 1 })).await;
    assert_eq!(mapped["output"], json!({ "targetUserIds": ["a"], "variables": { "amount": 1 } }));
    let query = "query($env: ID!, $sample: JSON!) { mappableProperties(environmentId: $env, sample: $sample) { path type example } }";
    let sample = json!({ "a": { "b": 1 } });
    assert_eq!(
        stage.world.ask(query, json!({ "env": env, "sample": sample })).await["mappableProperties"],
        json!([{ "path": "$.a", "type": "object", "example": { "b": 1 } }, { "path": "$.a.b", "type": "number", "example": 1 }])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_mapping_is_tried_on_the_saved_sample() {
    let stage = Stage::set(json!({})).await;
    let test = "mutation($id: ID!) { testTrigger(triggerId: $id) { flowInvocationId accepted ignored } }";
    let variables = json!({ "id": stage.trigger });
    let none = stage.world.test.client.graphql(&stage.world.session, test, variables.clone()).await;
    assert_eq!(none.errors(), ["conflict"]);
    let owner = stage.world.test.column("SELECT user_id AS value FROM members").await.remove(0);
    stage.sample(json!({ "who": owner, "id": "same" })).await;
    let source =
        "function map(p) { return { targetUserIds: [p.who, 'x'], flowInvocationId: p.id, variables: { amount: 2 } } }";
    let saved = stage.update(json!({ "mapping": { "type": "script", "source": source } })).await;
    assert_eq!(saved["warnings"], json!([]));
    for _ in 0..2 {
        let outcome = stage.world.ask(test, variables.clone()).await["testTrigger"].clone();
        assert_eq!((outcome["accepted"].clone(), outcome["ignored"].clone()), (json!(1), json!(1)));
    }
    assert_eq!(stage.runs().await.len(), 2);
    let broken = stage
        .update(json!({ "mapping": { "type": "script", "source": "function map(p) { return p.who.x.y }" } }))
        .await;
    assert_eq!(broken["warnings"][0]["line"], 1);
    assert_eq!(stage.mode("LIVE").await, Err(vec!["mapping_failed".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_written_and_never_read() {
    let verification = json!({ "secret": "a shared secret", "algorithm": "sha1", "digest": "base64",
        "signature": { "header": "x-signature" }, "template": "[payload]" });
    let stage = Stage::set(json!({ "verification": verification })).await;
    let seen = stage.look("verification").await;
    assert_eq!(seen["verification"]["algorithm"], "sha1");
    assert!(!seen.to_string().contains("a shared secret") && seen["verification"]["secret"].is_null());
    let rows = "SELECT verification::text || encode(secret, 'escape') AS value FROM triggers WHERE secret IS NOT NULL";
    assert!(!stage.world.test.column(rows).await[0].contains("a shared secret"));
    let mut kept = verification.clone();
    kept.as_object_mut().unwrap().remove("secret");
    kept["algorithm"] = json!("sha256");
    assert_eq!(stage.update(json!({ "verification": kept })).await["trigger"]["verification"]["algorithm"], "sha256");
    assert_eq!(stage.update(json!({ "verification": null })).await["trigger"]["verification"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_disabled_trigger_is_deleted_and_the_api_trigger_never() {
    let stage = Stage::set(json!({})).await;
    let session = stage.world.session.clone();
    let delete = "mutation($id: ID!) { deleteTrigger(id: $id) { id } }";
    let variables = json!({ "id": stage.trigger });
    let refused = stage.world.test.client.graphql(&session, delete, variables.clone()).await;
    assert_eq!(refused.errors(), ["conflict"]);
    stage.mode("DISABLED").await.unwrap();
    stage.world.ask(delete, variables.clone()).await;
    assert_eq!(stage.world.test.client.graphql(&session, delete, variables).await.errors(), ["not_found"]);
    let api = stage.world.test.column("SELECT id::text AS value FROM triggers").await;
    assert_eq!(api.len(), 1, "the api trigger stays");
    let query = "query($id: ID!) { flow(id: $id) { triggers { id kind mode url } } }";
    let flow = stage.world.ask(query, json!({ "id": stage.world.flow })).await;
    let api = flow["flow"]["triggers"][0].clone();
    assert_eq!(
        (api["kind"].as_str(), api["mode"].as_str(), api["url"].clone()),
        (Some("api"), Some("live"), Value::Null)
    );
    let refused = stage.world.test.client.graphql(&session, delete, json!({ "id": api["id"] })).await;
    assert_eq!(refused.errors(), ["conflict"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_that_is_not_published_has_no_live_trigger() {
    let stage = Stage::set(json!({})).await;
    let query = "mutation($env: ID!) { createFlow(input: { environmentId: $env, name: \"New\" }) { flow { id } } }";
    let flow = text(&stage.world.ask(query, json!({ "env": stage.world.env })).await["createFlow"]["flow"]["id"]);
    let query = "mutation($flow: ID!) { createTrigger(input: { flowId: $flow }) { trigger { id } } }";
    let trigger = text(&stage.world.ask(query, json!({ "flow": flow })).await["createTrigger"]["trigger"]["id"]);
    let other = Stage { trigger, ..stage };
    assert_eq!(other.mode("LIVE").await, Err(vec!["not_published".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloned_flow_has_its_triggers_at_other_urls_and_none_of_them_live() {
    let stage = Stage::set(json!({ "name": "Orders", "allowedAddresses": ["10.0.0.0/8"] })).await;
    let world = &stage.world;
    assert_eq!(stage.mode("LIVE").await, Ok("live".to_owned()));
    let clone = "mutation($id: ID!) { cloneFlow(input: { flowId: $id }) { flow { id triggers {
        id kind mode name url allowedAddresses } } } }";
    let copy = world.ask(clone, json!({ "id": world.flow })).await["cloneFlow"]["flow"].clone();
    let triggers = copy["triggers"].as_array().unwrap();
    let kinds: Vec<&Value> = triggers.iter().map(|trigger| &trigger["kind"]).collect();
    assert_eq!(kinds.len(), 2, "{copy}");
    let copied = triggers.iter().find(|trigger| trigger["kind"] == "webhook").unwrap();
    assert_eq!((&copied["mode"], &copied["name"]), (&json!("test"), &json!("Orders")));
    assert_eq!(copied["allowedAddresses"], json!(["10.0.0.0/8"]));
    assert_ne!(copied["id"], json!(stage.trigger));
}
