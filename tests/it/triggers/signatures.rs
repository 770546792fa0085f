//! Signed requests: the schemes of well-known senders, and every change of one byte.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};

use super::Stage;
use crate::support::node;

const BODY: &str = r#"{"targetUserIds":"a","variables":{"amount":1}}"#;

fn sha256(key: &str, text: &str) -> Vec<u8> {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn sha1(key: &str, text: &str) -> Vec<u8> {
    let mut mac = Hmac::<sha1::Sha1>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// The name of a sender, what it is set up with, and the headers of its request.
type Sender = (&'static str, Value, Vec<(&'static str, String)>);

fn senders() -> Vec<Sender> {
    let now = "1767225600";
    vec![
        (
            "stripe",
            json!({ "secret": "whsec_x", "algorithm": "sha256", "digest": "hex", "toleranceSeconds": 300,
                "signature": { "header": "Stripe-Signature", "parsePrefix": "v1=" },
                "timestamp": { "header": "Stripe-Signature", "parsePrefix": "t=" }, "template": "[timestamp].[payload]" }),
            vec![(
                "stripe-signature",
                format!("t={now},v1={},v0=00", hex::encode(sha256("whsec_x", &format!("{now}.{BODY}")))),
            )],
        ),
        (
            "github",
            json!({ "secret": "s", "algorithm": "sha256", "digest": "hex",
                "signature": { "header": "x-hub-signature-256", "parsePrefix": "sha256=" }, "template": "[payload]" }),
            vec![("x-hub-signature-256", format!("sha256={}", hex::encode(sha256("s", BODY))))],
        ),
        (
            "github, old",
            json!({ "secret": "s", "algorithm": "sha1", "digest": "hex",
                "signature": { "header": "x-hub-signature", "parsePrefix": "sha1=" }, "template": "[payload]" }),
            vec![("x-hub-signature", format!("sha1={}", hex::encode(sha1("s", BODY))))],
        ),
        (
            "slack",
            json!({ "secret": "s", "algorithm": "sha256", "digest": "hex", "toleranceSeconds": 300,
                "signature": { "header": "x-slack-signature", "parsePrefix": "v0=" },
                "timestamp": { "header": "x-slack-request-timestamp" }, "template": "v0:[timestamp]:[payload]" }),
            vec![
                ("x-slack-signature", format!("v0={}", hex::encode(sha256("s", &format!("v0:{now}:{BODY}"))))),
                ("x-slack-request-timestamp", now.to_owned()),
            ],
        ),
        (
            "shopify",
            json!({ "secret": "s", "algorithm": "sha256", "digest": "base64",
                "signature": { "header": "x-shopify-hmac-sha256" }, "template": "[payload]" }),
            vec![("x-shopify-hmac-sha256", STANDARD.encode(sha256("s", BODY)))],
        ),
        (
            "sha1 in base64",
            json!({ "secret": "s", "algorithm": "sha1", "digest": "base64",
                "signature": { "header": "x-signature" }, "template": "[payload]" }),
            vec![("x-signature", STANDARD.encode(sha1("s", BODY)))],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn signed_requests_are_taken_and_changed_ones_are_not() {
    let stage = Stage::set(json!({})).await;
    let mut wrong = Vec::new();
    for (sender, verification, headers) in senders() {
        stage.update(json!({ "verification": verification })).await;
        let send = async |headers: &[(&'static str, String)], body: &str| {
            stage.world.test.app.clock().advance(std::time::Duration::from_millis(40));
            let mut all = vec![("content-type", "application/json")];
            all.extend(headers.iter().map(|(name, value)| (*name, value.as_str())));
            stage.send("POST", &all, body).await
        };
        let good = send(&headers, BODY).await;
        if good.status != 202 {
            wrong.push(format!("{sender}: {} {}", good.status, good.text));
        }
        if send(&[], BODY).await.errors() != ["invalid_signature"] {
            wrong.push(format!("{sender} without a signature"));
        }
        for place in (0..BODY.len()).step_by(7) {
            let mut changed = BODY.as_bytes().to_vec();
            changed[place] ^= 1;
            let answer = send(&headers, std::str::from_utf8(&changed).unwrap()).await;
            if (answer.status, answer.errors()) != (401, vec!["invalid_signature".to_owned()]) {
                wrong.push(format!("{sender}, byte {place} of the body: {}", answer.status));
            }
        }
        let (name, value) = &headers[0];
        let signature = value.rfind("v1=").map_or(value.len() - 20, |start| start + 10);
        for place in signature..signature + 8 {
            let mut changed = value.clone().into_bytes();
            changed[place] = if changed[place] == b'0' { b'1' } else { b'0' };
            let mut headers = headers.clone();
            headers[0] = (*name, String::from_utf8(changed).unwrap());
            let answer = send(&headers, BODY).await;
            if answer.status != 401 {
                wrong.push(format!("{sender}, byte {place} of the header: {}", answer.status));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_vector_of_the_first_ten_minutes() {
    let verification = json!({ "secret": "whsec_test", "algorithm": "sha256", "digest": "hex",
        "signature": { "header": "stripe-signature", "parsePrefix": "v1=" },
        "timestamp": { "header": "stripe-signature", "parsePrefix": "t=" }, "template": "[timestamp].[payload]" });
    let stage = Stage::set(json!({ "verification": verification })).await;
    let header = "t=1767225600,v1=fb465e799758e287e908328d741e57b33f728c2a64fc53e26cc50786a4770bf5";
    let signed = [("content-type", "application/json"), ("stripe-signature", header)];
    let answer = stage.send("POST", &signed, r#"{"ok":true}"#).await;
    assert_eq!(answer.errors()[0].split(' ').next(), Some("mapping_failed"), "the signature was accepted");
    let answer = stage.send("POST", &signed, r#"{"ok":false}"#).await;
    assert_eq!((answer.status, answer.errors()), (401, vec!["invalid_signature".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_request_is_refused_where_a_tolerance_is_set() {
    let (_, verification, headers) = senders().remove(0);
    let stage = Stage::set(json!({ "verification": verification })).await;
    let all = [("content-type", "application/json"), (headers[0].0, headers[0].1.as_str())];
    assert_eq!(stage.send("POST", &all, BODY).await.status, 202);
    stage.world.test.app.clock().advance(std::time::Duration::from_secs(301));
    assert_eq!(stage.send("POST", &all, BODY).await.errors(), ["invalid_signature"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_signed_by_the_packages_of_their_senders_are_taken_and_no_byte_of_them_may_change() {
    let directory = node::packages("signatures");
    let stage = Stage::set(json!({})).await;
    let answer = async |ask: &Value| {
        if ask["do"] == "set" {
            stage.update(json!({ "verification": ask["settings"] })).await;
            return Value::Null;
        }
        stage.world.test.app.clock().advance(std::time::Duration::from_millis(20));
        let mut headers = vec![("content-type", "application/json")];
        let own = ask["headers"].as_object().unwrap();
        headers.extend(own.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap())));
        json!(stage.send("POST", &headers, ask["body"].as_str().unwrap()).await.status)
    };
    node::run(&directory.join("sign.mjs"), &json!({ "now": 1_767_225_600 }), answer).await;
}
