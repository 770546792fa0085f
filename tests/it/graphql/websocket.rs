//! graphql-transport-ws: the order of messages, the close codes, the limits.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::socket::{Heard, Socket};
use crate::support::{TestApp, until};

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

/// What hostile peers do ends or slows their own connection, and nobody else's.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_peers_harm_only_themselves() {
    let test = TestApp::start().await;
    let mut honest = Socket::open(&test.origin, json!({})).await;
    let address: std::net::SocketAddr = test.origin.trim_start_matches("http://").parse().unwrap();

    // Many who say nothing.
    let mut idle = Vec::new();
    for _ in 0..500 {
        idle.push(Socket::connect(&test.origin).await);
    }
    // Some who send what is no websocket frame after the upgrade: an unmasked frame, a reserved opcode, a frame that
    // says it is larger than memory.
    for bytes in [
        &[0x81, 0x01, b'x'][..],
        &[0x83, 0x80, 0, 0, 0, 0],
        &[0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
    ] {
        let mut raw = raw_upgrade(address).await;
        raw.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(10), raw.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "{bytes:?} does not end the connection");
    }
    // One who floods: it is read at the pace that it may have, and answered in order.
    let mut flood = Socket::open(&test.origin, json!({})).await;
    for number in 0..300 {
        flood.say(json!({"type": "ping", "payload": {"n": number}})).await;
    }
    let began = std::time::Instant::now();
    for number in 0..300 {
        assert_eq!(flood.hear().await, json!({"type": "pong", "payload": {"n": number}}));
    }
    assert!(began.elapsed() > Duration::from_millis(500), "a flood is read at once");

    honest.subscribe("1", "{ __typename }", json!({})).await;
    assert_eq!(honest.next("1").await, json!({"__typename": "Query"}));
    let open = test.app.hub().sockets().count();
    assert!(open >= 502, "{open}");
    drop((idle, flood));
    until("everybody's place is free again", || test.app.hub().sockets().count() == 1).await;
}

/// A peer that never reads is ended with its socket; what it subscribed to is forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_never_reads_is_ended() {
    let test = TestApp::start().await;
    let address: std::net::SocketAddr = test.origin.trim_start_matches("http://").parse().unwrap();
    let mut raw = raw_upgrade(address).await;
    raw.write_all(&masked(&json!({"type": "connection_init"}).to_string())).await.unwrap();
    // Counting begins with the first look.
    test.client.get("", "/metrics").await;
    // Answers of half a megabyte each fill what the kernel holds for a peer; the write deadline is ten seconds.
    let query = "{ __schema { types { name description fields { name description args { name description type { name ofType { name ofType { name } } } } type { name ofType { name ofType { name } } } } } } }";
    for number in 0..40 {
        let subscribe = json!({"type": "subscribe", "id": number.to_string(), "payload": {"query": query}});
        raw.write_all(&masked(&subscribe.to_string())).await.unwrap();
    }
    let ended = async {
        while test.app.hub().sockets().count() > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), ended).await.expect("the peer is still there");
    let metrics = test.client.get("", "/metrics").await.text;
    assert!(metrics.contains("cardwire_websocket_slow_closes 1"), "it was not ended for reading too slowly");
}

/// The bytes of a text frame as clients send it.
fn masked(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap();
    let mut frame = vec![0x81, 0x80 | 126];
    frame.extend(length.to_be_bytes());
    frame.extend([0, 0, 0, 0]);
    frame.extend(text.as_bytes());
    frame
}

/// A connection that was upgraded, without a websocket client on it.
async fn raw_upgrade(address: std::net::SocketAddr) -> TcpStream {
    let mut raw = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET /graphql HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
    );
    raw.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(raw.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    raw
}
