//! The messages and close codes of the sub-protocol `graphql-transport-ws`.

use async_graphql::{Response, ServerError};
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::{Code, Error};

/// The name by which client and server agree on this protocol.
pub const SUB_PROTOCOL: &str = "graphql-transport-ws";

/// A close reason has room for this many bytes.
const LONGEST_REASON: usize = 123;

/// What a client says.
#[derive(Debug, PartialEq)]
pub enum ClientMessage {
    Init { payload: Value },
    Ping { payload: Option<Value> },
    Pong,
    Subscribe { id: String, payload: Value },
    Complete { id: String },
}

/// Why a connection ends. The codes are those that the reference client of the protocol acts on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    pub code: u16,
    pub reason: String,
}

impl Close {
    fn new(code: u16, reason: impl Into<String>) -> Close {
        let mut reason = reason.into();
        let mut end = reason.len().min(LONGEST_REASON);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        reason.truncate(end);
        Close { code, reason }
    }

    pub fn malformed(reason: &str) -> Close {
        Close::new(4400, reason)
    }

    pub fn unauthorized() -> Close {
        Close::new(4401, "Unauthorized")
    }

    /// Credentials that were refused. Clients fetch a new token and come again.
    pub fn forbidden(reason: impl Into<String>) -> Close {
        Close::new(4403, reason)
    }

    pub fn revoked() -> Close {
        Close::forbidden("unauthenticated: the credentials no longer hold")
    }

    pub fn unknown_protocol() -> Close {
        Close::new(4406, "Subprotocol not acceptable")
    }

    pub fn too_slow_to_start() -> Close {
        Close::new(4408, "Connection initialisation timeout")
    }

    pub fn reused(id: &str) -> Close {
        Close::new(4409, format!("Subscriber for {id} already exists"))
    }

    pub fn second_init() -> Close {
        Close::new(4429, "Too many initialisation requests")
    }

    pub fn too_large(limit: usize) -> Close {
        Close::new(1009, format!("Messages may have {limit} bytes"))
    }

    pub fn leaving() -> Close {
        Close::new(1012, "Service restart")
    }

    pub fn try_again_later(reason: &str) -> Close {
        Close::new(1013, reason)
    }

    pub fn silent() -> Close {
        Close::new(1001, "Nothing was heard for too long")
    }

    /// How a refused `connection_init` ends the connection.
    pub fn refusing(error: &Error) -> Close {
        match error.code() {
            Code::BadRequest | Code::ValidationFailed => Close::malformed(&told(error)),
            Code::RateLimited => Close::try_again_later(&told(error)),
            code if code.status() >= 500 => Close::try_again_later("Try again later"),
            _ => Close::forbidden(told(error)),
        }
    }
}

fn told(error: &Error) -> String {
    let detail = error.violations().first().map_or("", |violation| violation.detail.as_str());
    format!("{}: {detail}", error.code().word())
}

impl ClientMessage {
    /// Reads a frame. The protocol closes the connection for everything that is not one of its messages.
    pub fn read(text: &str) -> Result<ClientMessage, Close> {
        let Ok(Value::Object(mut message)) = serde_json::from_str(text) else {
            return Err(Close::malformed("Invalid message received"));
        };
        let payload = message.remove("payload");
        let kind = message.get("type").and_then(Value::as_str).unwrap_or_default();
        match kind {
            "connection_init" => match payload {
                None | Some(Value::Null) => Ok(ClientMessage::Init { payload: json!({}) }),
                Some(payload @ Value::Object(_)) => Ok(ClientMessage::Init { payload }),
                Some(_) => Err(Close::malformed("\"connection_init\" expects an object as payload")),
            },
            "ping" => Ok(ClientMessage::Ping { payload }),
            "pong" => Ok(ClientMessage::Pong),
            "subscribe" => match (id(&message), payload) {
                (Some(id), Some(payload @ Value::Object(_))) => Ok(ClientMessage::Subscribe { id, payload }),
                _ => Err(Close::malformed("\"subscribe\" expects an id and an object as payload")),
            },
            "complete" => match id(&message) {
                Some(id) => Ok(ClientMessage::Complete { id }),
                None => Err(Close::malformed("\"complete\" expects an id")),
            },
            _ => Err(Close::malformed("Invalid message type")),
        }
    }
}

fn id(message: &serde_json::Map<String, Value>) -> Option<String> {
    message.get("id").and_then(Value::as_str).filter(|id| !id.is_empty()).map(str::to_owned)
}

/// What the server says.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage<'a> {
    ConnectionAck,
    Ping {
        payload: Value,
    },
    Pong {
        #[serde(skip_serializing_if = "Option::is_none")]
        payload: Option<Value>,
    },
    Next {
        id: &'a str,
        payload: &'a Response,
    },
    Error {
        id: &'a str,
        payload: &'a [ServerError],
    },
    Complete {
        id: &'a str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_strictly() {
        let read = |text: &str| ClientMessage::read(text).map_err(|close| close.code);
        assert_eq!(read(r#"{"type":"connection_init"}"#), Ok(ClientMessage::Init { payload: json!({}) }));
        assert_eq!(
            read(r#"{"type":"ping","payload":{"a":1}}"#),
            Ok(ClientMessage::Ping { payload: Some(json!({"a":1})) })
        );
        assert_eq!(read(r#"{"type":"complete","id":"1"}"#), Ok(ClientMessage::Complete { id: "1".into() }));
        for text in [
            "",
            "[]",
            "{}",
            r#"{"type":"start","id":"1"}"#,
            r#"{"type":"connection_init","payload":"x"}"#,
            r#"{"type":"subscribe","payload":{}}"#,
            r#"{"type":"subscribe","id":1,"payload":{}}"#,
            r#"{"type":"subscribe","id":"","payload":{}}"#,
            r#"{"type":"subscribe","id":"1"}"#,
            r#"{"type":"complete"}"#,
        ] {
            assert_eq!(read(text), Err(4400), "{text}");
        }
    }

    #[test]
    fn messages_are_written_as_the_protocol_says() {
        let text = |message: &ServerMessage<'_>| serde_json::to_string(message).unwrap();
        assert_eq!(text(&ServerMessage::ConnectionAck), r#"{"type":"connection_ack"}"#);
        assert_eq!(text(&ServerMessage::Pong { payload: None }), r#"{"type":"pong"}"#);
        assert_eq!(text(&ServerMessage::Complete { id: "1" }), r#"{"type":"complete","id":"1"}"#);
    }

    #[test]
    fn reasons_fit_into_a_close_frame() {
        assert!(Close::reused(&"ä".repeat(200)).reason.len() <= 123);
        assert_eq!(Close::refusing(&Error::new(Code::TokenExpired, "the token has expired")).code, 4403);
        assert_eq!(Close::refusing(&Error::new(Code::BadRequest, "no such platform")).code, 4400);
        assert_eq!(Close::refusing(&Error::internal("x")), Close::try_again_later("Try again later"));
    }
}
