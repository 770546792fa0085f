//! The checks of the URL in their order, test and live mode, and the pause.

use std::time::Duration;

use serde_json::json;

use super::Stage;
use crate::support::world::text;

const STRUCTURED: &str = r#"{"type":"structured","properties":{"targetUserIds":{"path":"$.customer.id"},
    "flowInvocationId":{"path":"$.id"},"variables.amount":{"path":"$.total","default":"1"}}}"#;

async fn live(sample: serde_json::Value) -> Stage {
    let mapping: serde_json::Value = serde_json::from_str(STRUCTURED).unwrap();
    let stage = Stage::set(json!({ "mapping": mapping })).await;
    stage.sample(sample).await;
    assert_eq!(stage.mode("LIVE").await.as_deref(), Ok("live"));
    stage
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_trigger_starts_live_runs_once_for_each_invocation() {
    let stage = live(json!({ "id": "x", "customer": { "id": "u" }, "total": "5" })).await;
    let body = json!({ "id": "order-1", "customer": { "id": "17" }, "total": "12", "more": true });
    for method in ["POST", "PUT"] {
        let answer =
            stage.send(method, &[("content-type", "application/vnd.x+json; charset=utf-8")], &body.to_string()).await;
        assert_eq!((answer.status, answer.data()), (202, json!({ "flowInvocationId": "order-1" })));
    }
    let bare = stage.post(&json!({ "id": "order-2", "customer": { "id": "b" } })).await;
    assert_eq!(bare.status, 202, "{}", bare.text);
    assert_eq!(stage.runs().await, [r#"17 false {"amount": 12}"#, r#"b false {"amount": 1}"#]);
    let events = stage.world.test.column(
        "SELECT payload::jsonb #>> '{platformContext,triggerEventSource}' AS value FROM events WHERE name = 'action-flow-started'",
    );
    assert_eq!(events.await, ["webhook", "webhook"]);
    assert_eq!(stage.log().await, ["202 -", "202 -", "202 -"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_in_test_mode_reaches_test_users_only() {
    let stage = Stage::set(json!({})).await;
    let owner = stage.world.test.column("SELECT user_id AS value FROM members").await.remove(0);
    let body = json!({ "targetUserIds": [owner, "stranger"], "variables": { "amount": "3" } });
    let answer = stage.post(&body).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    assert!(text(&answer.data()["flowInvocationId"]).starts_with("finv_"));
    assert_eq!(stage.runs().await, [format!(r#"{owner} true {{"amount": 3}}"#)]);
    assert_eq!(stage.world.test.column("SELECT DISTINCT is_test::text AS value FROM events").await, ["true"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_check_has_its_answer_and_its_line_in_the_log() {
    let stage = Stage::set(json!({})).await;
    let json_type = ("content-type", "application/json");
    let good = json!({ "targetUserIds": "a" }).to_string();
    let large = format!("\"{}\"", "x".repeat(1 << 20));
    for (headers, body, status, error) in [
        (&[json_type][..], large.as_str(), 413, "payload_too_large"),
        (&[("content-type", "text/plain")], good.as_str(), 415, "unsupported_media_type"),
        (&[json_type], "{", 400, "invalid_json"),
        (&[json_type], "{\"a\":\"\\u0000\"}", 400, "invalid_json"),
        (&[json_type], "{}", 422, "mapping_failed /targetUserIds"),
        (&[json_type], r#"{"targetUserIds":["a"],"extra":1}"#, 422, "mapping_failed /extra"),
    ] {
        let answer = stage.send("POST", headers, body).await;
        assert_eq!((answer.status, answer.errors()), (status, vec![error.to_owned()]), "{body:.40}");
    }
    let unknown =
        stage.world.test.client.send("POST", "/hooks/trig_01h455vb4pex5vsknk084sn02q", &[json_type], good).await;
    assert_eq!((unknown.status, unknown.errors()), (404, vec!["not_found".to_owned()]));
    assert_eq!(
        stage.log().await,
        [
            "422 mapping_failed",
            "422 mapping_failed",
            "400 invalid_json",
            "400 invalid_json",
            "415 unsupported_media_type",
            "413 payload_too_large"
        ]
    );
    assert_eq!(stage.look("mode").await["mode"], "test");
    assert_eq!(stage.runs().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_that_are_not_listed_stay_outside() {
    let stage = Stage::set(json!({ "allowedAddresses": ["203.0.113.0/24", "2001:db8::1"] })).await;
    let refused = stage.post(&json!({ "targetUserIds": "a" })).await;
    assert_eq!((refused.status, refused.errors()), (403, vec!["address_not_allowed".to_owned()]));
    stage.update(json!({ "allowedAddresses": ["127.0.0.1"] })).await;
    assert_eq!(stage.post(&json!({ "targetUserIds": "a" })).await.status, 202);
    assert_eq!(stage.log().await, ["202 -", "403 address_not_allowed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_requests_wait_their_turn() {
    let stage = Stage::set(json!({})).await;
    let nothing = json!({});
    let posts = futures_util::future::join_all((0..210).map(|_| stage.post(&nothing))).await;
    let limited: Vec<_> = posts.iter().filter(|answer| answer.status == 429).collect();
    assert_eq!(limited.len(), 10);
    assert_eq!(limited[0].errors(), ["rate_limited"]);
    stage.world.test.app.clock().advance(Duration::from_secs(1));
    assert_eq!(stage.post(&json!({})).await.status, 422);
    assert_eq!(stage.log().await.len(), 50, "the log is bounded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_unlike_the_sample_pauses_a_live_trigger() {
    let stage = live(json!({ "id": "x", "customer": { "id": "u" } })).await;
    let odd = json!({ "id": "y", "customer": { "secret": "4111" } });
    let refused = stage.post(&odd).await;
    assert_eq!((refused.status, refused.errors()), (422, vec!["shape_mismatch".to_owned()]));
    let seen = stage.look("mode pausedReason pausedAt pausedShape").await;
    assert_eq!(seen["mode"], "paused");
    assert!(text(&seen["pausedReason"]).contains("$.customer.id"), "{seen}");
    assert_eq!(
        seen["pausedShape"],
        json!({ "$": "object", "$.customer": "object", "$.customer.secret": "string", "$.id": "string" })
    );
    let good = json!({ "id": "z", "customer": { "id": "u" } });
    let paused = stage.post(&good).await;
    assert_eq!((paused.status, paused.errors()), (409, vec!["trigger_paused".to_owned()]));
    assert_eq!(stage.mode("LIVE").await, Err(vec!["conflict".to_owned()]), "only after review");
    assert_eq!(stage.reactivate().await.as_deref(), Ok("live"));
    assert_eq!(stage.look("pausedReason").await["pausedReason"], json!(null));
    assert_eq!(stage.post(&good).await.status, 202);
    let audit = "SELECT action AS value FROM audit_entries WHERE action = 'trigger.pause'";
    assert_eq!(stage.world.test.column(audit).await, ["trigger.pause"]);
    assert_eq!(stage.runs().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn syntax_and_size_never_pause() {
    let stage = live(json!({ "id": "x", "customer": { "id": "u" } })).await;
    for body in ["{", "[1,"] {
        assert_eq!(stage.send("POST", &[("content-type", "application/json")], body).await.status, 400);
    }
    assert_eq!(stage.send("POST", &[], "{}").await.status, 415);
    assert_eq!(stage.look("mode").await["mode"], "live");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_trigger_and_one_of_an_archived_flow_do_not_exist() {
    let stage = live(json!({ "id": "x", "customer": { "id": "u" } })).await;
    let good = json!({ "id": "z", "customer": { "id": "u" } });
    assert_eq!(stage.mode("DISABLED").await.as_deref(), Ok("disabled"));
    assert_eq!(stage.post(&good).await.status, 404);
    assert_eq!(stage.mode("LIVE").await, Err(vec!["conflict".to_owned()]));
    assert_eq!(stage.mode("TEST").await.as_deref(), Ok("test"));
    assert_eq!(stage.post(&good).await.status, 202);
    let query = "mutation($id: ID!) { archiveFlow(input: { flowId: $id }) { flow { id } } }";
    stage.world.ask(query, json!({ "id": stage.world.flow })).await;
    assert_eq!(stage.post(&good).await.status, 404);
}
