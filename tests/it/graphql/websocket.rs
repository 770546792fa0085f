//! graphql-transport-ws: the order of messages, the close codes, the limits.

use std::time::Duration;

use serde_json::json;

use crate::support::TestApp;
use crate::support::socket::{Heard, Socket};

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_runs_after_the_acknowledgement() {
    let test = TestApp::start().await;
    let mut socket = Socket::open(&test.origin, json!({})).await;
    socket.subscribe("1", "{ __typename }", json!({})).await;
    assert_eq!(socket.next("1").await, json!({"__typename": "Query"}));
    assert_eq!(socket.hear().await, json!({"type": "complete", "id": "1"}));
    socket.say(json!({"type": "ping", "payload": {"a": 1}})).await;
    assert_eq!(socket.hear().await, json!({"type": "pong", "payload": {"a": 1}}));
    socket.say(json!({"type": "pong"})).await;
    socket.say(json!({"type": "complete", "id": "unknown"})).await;
    socket.subscribe("1", "{ a: __typename }", json!({})).await;
    assert_eq!(socket.next("1").await, json!({"a": "Query"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_operation_leaves_the_socket_open() {
    let test = TestApp::start().await;
    let mut socket = Socket::open(&test.origin, json!({})).await;
    for (query, code) in
        [("{ nothing }", "bad_request"), ("{", "bad_request"), (&"{a".repeat(200), "query_too_complex")]
    {
        socket.subscribe("1", query, json!({})).await;
        let message = socket.hear().await;
        assert_eq!((&message["type"], &message["id"]), (&json!("error"), &json!("1")), "{message}");
        assert_eq!(message["payload"][0]["extensions"]["code"], code, "{message}");
    }
    socket.subscribe("1", "{ me { userId } }", json!({})).await;
    let message = socket.hear().await;
    assert_eq!(message["payload"]["errors"][0]["extensions"]["code"], "unauthenticated", "{message}");
    assert_eq!(socket.hear().await["type"], "complete");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mistake_has_its_close_code() {
    let test = TestApp::start().await;
    let init = json!({"type": "connection_init"}).to_string();
    let subscribe = json!({"type": "subscribe", "id": "1", "payload": {"query": "{ __typename }"}}).to_string();
    let refused = json!({"type": "connection_init", "payload": {"authToken": "nonsense"}}).to_string();
    let wrong = json!({"type": "connection_init", "payload": {"authToken": 7}}).to_string();
    let large = json!({"type": "ping", "payload": {"x": "x".repeat(300 * 1024)}}).to_string();
    for (frames, code) in [
        (vec!["nonsense"], 4400),
        (vec!["{\"type\":\"start\"}"], 4400),
        (vec![wrong.as_str()], 4400),
        (vec![subscribe.as_str()], 4401),
        (vec![refused.as_str()], 4403),
        (vec![init.as_str(), init.as_str()], 4429),
        (vec![init.as_str(), "{\"type\":\"subscribe\",\"id\":\"1\",\"payload\":{\"query\":7}}"], 4400),
        (vec![large.as_str()], 1009),
    ] {
        let mut socket = Socket::connect(&test.origin).await;
        for frame in &frames {
            socket.say_text(frame).await;
        }
        let shown: Vec<&str> = frames.iter().map(|frame| &frame[..frame.len().min(60)]).collect();
        assert_eq!(socket.close_code().await, code, "{shown:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_sub_protocol_is_not_spoken() {
    let test = TestApp::start().await;
    let mut socket = Socket::connect_as(&test.origin, None).await.unwrap();
    assert_eq!(socket.close_code().await, 4406);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_closes_sockets_with_1012() {
    let test = TestApp::start().await;
    let mut socket = Socket::open(&test.origin, json!({})).await;
    let stopping = test.stop();
    let hearing = async {
        assert!(matches!(socket.hear_any().await, Heard::Closed(1012, _)));
    };
    let ended = tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(stopping, hearing) }).await;
    assert!(ended.is_ok(), "the server does not stop");
}
