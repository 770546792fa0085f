//! A client of graphql-transport-ws.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// The longest a test waits for a message that must come.
const PATIENCE: Duration = Duration::from_secs(10);

/// One websocket.
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// What came, or how the socket ended.
#[derive(Debug, PartialEq)]
pub enum Heard {
    Json(Value),
    Closed(u16, String),
}

impl Socket {
    /// Connects without saying anything yet.
    pub async fn connect(origin: &str) -> Socket {
        Socket::connect_as(origin, Some("graphql-transport-ws")).await.unwrap()
    }

    pub async fn connect_as(origin: &str, protocol: Option<&str>) -> Result<Socket, tungstenite::Error> {
        let mut request = format!("{}/graphql", origin.replace("http", "ws")).into_client_request()?;
        if let Some(protocol) = protocol {
            request.headers_mut().insert("sec-websocket-protocol", protocol.parse().unwrap());
        }
        let (stream, _) = tokio_tungstenite::connect_async(request).await?;
        Ok(Socket { stream })
    }

    /// Connects, presents the payload, and waits for the acknowledgement.
    pub async fn open(origin: &str, payload: Value) -> Socket {
        let mut socket = Socket::connect(origin).await;
        socket.say(json!({ "type": "connection_init", "payload": payload })).await;
        assert_eq!(socket.hear().await["type"], "connection_ack");
        socket
    }

    pub async fn say(&mut self, message: Value) {
        self.say_text(&message.to_string()).await;
    }

    pub async fn say_text(&mut self, text: &str) {
        self.stream.send(Message::Text(text.into())).await.unwrap();
    }

    pub async fn subscribe(&mut self, id: &str, query: &str, variables: Value) {
        self.say(json!({ "id": id, "type": "subscribe", "payload": { "query": query, "variables": variables } })).await;
    }

    /// The next protocol message, which must come; pings are passed over.
    pub async fn hear(&mut self) -> Value {
        match self.hear_any().await {
            Heard::Json(value) => value,
            closed @ Heard::Closed(..) => panic!("the socket was closed: {closed:?}"),
        }
    }

    /// `payload.data` of the next message, which must be a `next` of this operation.
    pub async fn next(&mut self, id: &str) -> Value {
        let message = self.hear().await;
        assert_eq!((&message["type"], &message["id"]), (&json!("next"), &json!(id)), "{message}");
        assert!(message["payload"]["errors"].is_null(), "{message}");
        message["payload"]["data"].clone()
    }

    pub async fn hear_any(&mut self) -> Heard {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.stream.next()).await.expect("nothing came");
            match message {
                Some(Ok(Message::Text(text))) => return Heard::Json(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(frame))) => {
                    let frame = frame.map(|frame| (frame.code.into(), frame.reason.to_string()));
                    let (code, reason) = frame.unwrap_or((1005, String::new()));
                    return Heard::Closed(code, reason);
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Heard::Closed(1006, String::new()),
            }
        }
    }

    /// The code with which the server closes, passing over what it says before.
    pub async fn close_code(&mut self) -> u16 {
        loop {
            if let Heard::Closed(code, _) = self.hear_any().await {
                return code;
            }
        }
    }

    /// Tells that nothing comes for a short while.
    pub async fn silent_for(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.stream.next()).await.is_err()
    }
}
