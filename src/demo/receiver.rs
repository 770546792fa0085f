//! The company's system that the demo plays: receives webhooks and verifies them as the documentation tells.

use std::collections::VecDeque;

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::clock::Time;
use crate::secret::{hmac_sha256, same};

/// The most requests that are kept.
const KEPT: usize = 100;

/// What was received, newest first.
#[derive(Default)]
pub struct Inbox(Mutex<VecDeque<Value>>);

impl Inbox {
    /// Verifies one request, keeps it, and tells how to answer.
    pub fn receive(&self, secret: &str, now: Time, headers: &HeaderMap, body: &Bytes) -> StatusCode {
        let verified = verify(secret, headers, body);
        let content: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let header =
            |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let entry = json!({
            "id": header("webhook-id"),
            "type": content.pointer("/data/analyticsEvent").cloned().unwrap_or(Value::Null),
            "receivedAt": now,
            "verified": verified,
            "body": content,
        });
        let mut inbox = self.0.lock();
        inbox.push_front(entry);
        inbox.truncate(KEPT);
        if verified { StatusCode::NO_CONTENT } else { StatusCode::UNAUTHORIZED }
    }

    pub fn list(&self) -> Vec<Value> {
        self.0.lock().iter().cloned().collect()
    }
}

/// Recreates `webhook-signature` over id, timestamp and the exact bytes of the body.
fn verify(secret: &str, headers: &HeaderMap, body: &[u8]) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let (Some(id), Some(timestamp), Some(signatures)) =
        (text("webhook-id"), text("webhook-timestamp"), text("webhook-signature"))
    else {
        return false;
    };
    let Some(key) = secret.strip_prefix("whsec_").and_then(|key| STANDARD.decode(key).ok()) else { return false };
    let expected = hmac_sha256(&key, &[id.as_bytes(), b".", timestamp.as_bytes(), b".", body]);
    signatures
        .split(' ')
        .filter_map(|part| STANDARD.decode(part.strip_prefix("v1,")?).ok())
        .any(|signature| same(&signature, &expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_vector_is_accepted_and_a_changed_body_is_not() {
        let secret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", "evt_00000000000000000000000000".parse().unwrap());
        headers.insert("webhook-timestamp", "1767225600".parse().unwrap());
        headers.insert("webhook-signature", "v1,tnr9MtQAa9hRwT1HTbc+TZHeB9vXBuEmFTcx4EiE/sU=".parse().unwrap());
        assert!(verify(secret, &headers, br#"{"ok":true}"#));
        assert!(!verify(secret, &headers, br#"{"ok":false}"#));
    }
}
