//! What of a token is refused, and with which code.

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::*;
use crate::clock::Time;
use crate::error::Code;

const RSA: &[u8] = include_bytes!("fixtures/rsa.pem");
const RSA_PUBLIC: &str = include_str!("fixtures/rsa.pub.pem");
const OTHER_RSA: &[u8] = include_bytes!("fixtures/other_rsa.pem");
const P256: &[u8] = include_bytes!("fixtures/p256.pem");
const P256_PUBLIC: &str = include_str!("fixtures/p256.pub.pem");
const P384: &[u8] = include_bytes!("fixtures/p384.pem");
const P384_PUBLIC: &str = include_str!("fixtures/p384.pub.pem");
const ED25519: &[u8] = include_bytes!("fixtures/ed25519.pem");
const ED25519_PUBLIC: &str = include_str!("fixtures/ed25519.pub.pem");

const NOW: i64 = 1_767_225_600;

fn now() -> Time {
    Time::from_millisecond(NOW * 1000)
}

fn rules() -> Rules {
    Rules {
        key_name: "web".into(),
        max_token_days: 7,
        allowed_issuers: Vec::new(),
        allowed_audiences: Vec::new(),
        user_id_claim: None,
    }
}

fn signer(algorithm: Algorithm) -> EncodingKey {
    match algorithm {
        Algorithm::ES256 => EncodingKey::from_ec_pem(P256).unwrap(),
        Algorithm::ES384 => EncodingKey::from_ec_pem(P384).unwrap(),
        Algorithm::EdDSA => EncodingKey::from_ed_pem(ED25519).unwrap(),
        _ => EncodingKey::from_rsa_pem(RSA).unwrap(),
    }
}

fn sign(algorithm: Algorithm, kid: Option<&str>, claims: &Value) -> String {
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
    jsonwebtoken::encode(&header, claims, &signer(algorithm)).unwrap()
}

fn good() -> Value {
    json!({ "sub": "user-123", "iat": NOW, "exp": NOW + 3600 })
}

/// The good claims with some replaced; null removes.
fn with(changes: &Value) -> Value {
    let mut claims = good();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

fn jwk(algorithm: Algorithm, kid: &str) -> Value {
    let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&signer(algorithm), algorithm).unwrap()).unwrap();
    jwk["kid"] = json!(kid);
    jwk
}

#[test]
fn every_accepted_algorithm_verifies_with_a_key_of_its_type() {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    for (algorithm, public) in [
        (RS256, RSA_PUBLIC),
        (RS384, RSA_PUBLIC),
        (RS512, include_str!("fixtures/rsa.pkcs1.pub.pem")),
        (PS256, RSA_PUBLIC),
        (PS384, RSA_PUBLIC),
        (PS512, RSA_PUBLIC),
        (ES256, P256_PUBLIC),
        (ES384, P384_PUBLIC),
        (EdDSA, ED25519_PUBLIC),
    ] {
        let token = sign(algorithm, None, &good());
        let verified = verify(&token, &Keys::from_pem(public).unwrap(), &rules(), now()).unwrap();
        assert_eq!(verified.user_id, "user-123", "{algorithm:?}");
        assert_eq!(verified.expires_at.as_second(), NOW + 3600);
    }
}

#[test]
fn an_algorithm_that_does_not_fit_the_key_is_refused() {
    let rsa = Keys::from_pem(RSA_PUBLIC).unwrap();
    let p256 = Keys::from_pem(P256_PUBLIC).unwrap();
    for (token, keys) in [
        (sign(Algorithm::ES256, None, &good()), &rsa),
        (sign(Algorithm::EdDSA, None, &good()), &rsa),
        (sign(Algorithm::RS256, None, &good()), &p256),
        (sign(Algorithm::ES384, None, &good()), &p256),
    ] {
        assert_eq!(verify(&token, keys, &rules(), now()).unwrap_err().code(), Code::Unauthenticated);
    }
}

#[test]
fn tokens_without_an_asymmetric_signature_are_refused() {
    let keys = Keys::from_pem(RSA_PUBLIC).unwrap();
    let [_, payload, signature] =
        sign(Algorithm::RS256, None, &good()).split('.').map(str::to_owned).collect::<Vec<_>>().try_into().unwrap();
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    // The confusion that HS256 with the public key as its secret would be.
    let confused =
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &good(), &EncodingKey::from_secret(RSA_PUBLIC.as_bytes()))
            .unwrap();
    for token in [
        format!("{none}.{payload}."),
        format!("{none}.{payload}.{signature}"),
        confused,
        String::new(),
        "a.b.c".into(),
        format!("{payload}.{signature}"),
    ] {
        assert_eq!(verify(&token, &keys, &rules(), now()).unwrap_err().code(), Code::Unauthenticated, "{token}");
    }
}

#[test]
fn a_token_of_another_key_or_with_changed_claims_is_refused() {
    let keys = Keys::from_pem(RSA_PUBLIC).unwrap();
    let other =
        jsonwebtoken::encode(&Header::new(Algorithm::RS256), &good(), &EncodingKey::from_rsa_pem(OTHER_RSA).unwrap())
            .unwrap();
    assert_eq!(verify(&other, &keys, &rules(), now()).unwrap_err().code(), Code::Unauthenticated);

    let mine: Vec<String> = sign(Algorithm::RS256, None, &good()).split('.').map(str::to_owned).collect();
    let theirs: Vec<String> =
        sign(Algorithm::RS256, None, &with(&json!({ "sub": "admin" }))).split('.').map(str::to_owned).collect();
    let spliced = format!("{}.{}.{}", mine[0], theirs[1], mine[2]);
    assert_eq!(verify(&spliced, &keys, &rules(), now()).unwrap_err().code(), Code::Unauthenticated);
}

#[test]
fn critical_headers_are_refused() {
    let header = Header { crit: Some(vec!["b64".into()]), ..Header::new(Algorithm::RS256) };
    let token = jsonwebtoken::encode(&header, &good(), &signer(Algorithm::RS256)).unwrap();
    let keys = Keys::from_pem(RSA_PUBLIC).unwrap();
    assert_eq!(verify(&token, &keys, &rules(), now()).unwrap_err().code(), Code::Unauthenticated);
}

/// Each case: what the claims change, what the rules change, and the code of the refusal.
#[test]
fn claims() {
    const DAY: i64 = 86_400;
    let any = rules();
    let issuers = Rules { allowed_issuers: vec!["https://id.example".into()], ..rules() };
    let audiences = Rules { allowed_audiences: vec!["app".into(), "web".into()], ..rules() };
    let claim = Rules { user_id_claim: Some("customer".into()), ..rules() };
    let refused = Some(Code::Unauthenticated);
    let expired = Some(Code::TokenExpired);
    for (changes, rules, outcome) in [
        (json!({ "exp": null }), &any, refused),
        (json!({ "exp": "tomorrow" }), &any, refused),
        (json!({ "exp": NOW - 59, "iat": NOW - 600 }), &any, None),
        (json!({ "exp": NOW - 60, "iat": NOW - 600 }), &any, expired),
        (json!({ "exp": NOW - 600, "iss": "elsewhere" }), &issuers, expired),
        (json!({ "exp": NOW + 7 * DAY }), &any, None),
        (json!({ "exp": NOW + 7 * DAY + 1 }), &any, refused),
        (json!({ "exp": NOW + 7 * DAY, "iat": NOW - 1 }), &any, refused),
        (json!({ "exp": NOW + 7 * DAY + 30, "iat": null }), &any, None),
        (json!({ "exp": NOW + 7 * DAY + 61, "iat": null }), &any, refused),
        (json!({ "iat": NOW + 60 }), &any, None),
        (json!({ "iat": NOW + 61 }), &any, refused),
        (json!({ "iat": "now" }), &any, refused),
        (json!({ "nbf": NOW + 60 }), &any, None),
        (json!({ "nbf": NOW + 61 }), &any, refused),
        (json!({ "iss": "https://id.example" }), &issuers, None),
        (json!({ "iss": "https://id.example/" }), &issuers, refused),
        (json!({}), &issuers, refused),
        (json!({ "aud": "web" }), &audiences, None),
        (json!({ "aud": ["other", "app"] }), &audiences, None),
        (json!({ "aud": ["other"] }), &audiences, refused),
        (json!({}), &audiences, refused),
        (json!({ "aud": "anything", "iss": "anyone" }), &any, None),
        (json!({ "apiKey": "web" }), &any, None),
        (json!({ "apiKey": "other" }), &any, refused),
        (json!({ "apiKey": 5 }), &any, refused),
        (json!({ "sub": null }), &any, refused),
        (json!({ "sub": "" }), &any, refused),
        (json!({ "sub": ["user-123"] }), &any, refused),
        (json!({ "sub": "x".repeat(256) }), &any, None),
        (json!({ "sub": "x".repeat(257) }), &any, refused),
        (json!({ "sub": "line\nbreak" }), &any, refused),
        (json!({ "sub": 42 }), &any, None),
        (json!({ "customer": "c-1" }), &claim, None),
        (json!({}), &claim, refused),
    ] {
        let token = sign(Algorithm::ES256, None, &with(&changes));
        let result = verify(&token, &Keys::from_pem(P256_PUBLIC).unwrap(), rules, now());
        assert_eq!(result.err().map(|error| error.code()), outcome, "{changes}");
    }
}

#[test]
fn the_user_id_is_the_configured_claim_as_text() {
    let keys = Keys::from_pem(P256_PUBLIC).unwrap();
    let configured = Rules { user_id_claim: Some("customer".into()), ..rules() };
    for (changes, rules, user_id) in [
        (json!({ "sub": 42 }), rules(), "42"),
        (json!({ "sub": "Zoë" }), rules(), "Zoë"),
        (json!({ "customer": "c-1" }), configured, "c-1"),
    ] {
        let token = sign(Algorithm::ES256, None, &with(&changes));
        assert_eq!(verify(&token, &keys, &rules, now()).unwrap().user_id, user_id);
    }
}

#[test]
fn the_key_id_chooses_from_a_set() {
    let set = json!({ "keys": [jwk(Algorithm::RS256, "one"), jwk(Algorithm::ES256, "two")] });
    let keys = Keys::from_inline_set(&set).unwrap();
    assert!(keys.knows("two") && !keys.knows("three"));
    for (algorithm, kid, accepted) in [
        (Algorithm::RS256, Some("one"), true),
        (Algorithm::ES256, Some("two"), true),
        (Algorithm::ES256, Some("one"), false),
        (Algorithm::ES256, Some("three"), false),
        (Algorithm::ES256, None, false),
    ] {
        let token = sign(algorithm, kid, &good());
        assert_eq!(verify(&token, &keys, &rules(), now()).is_ok(), accepted, "{algorithm:?} {kid:?}");
    }
    let only = Keys::from_inline_set(&json!({ "keys": [jwk(Algorithm::EdDSA, "one")] })).unwrap();
    assert!(verify(&sign(Algorithm::EdDSA, None, &good()), &only, &rules(), now()).is_ok());
    assert_eq!(unverified_key_id(&sign(Algorithm::EdDSA, Some("k"), &good())).as_deref(), Some("k"));
}

#[test]
fn the_algorithm_a_set_names_for_a_key_is_the_only_one() {
    let keys = Keys::from_inline_set(&json!({ "keys": [jwk(Algorithm::RS256, "one")] })).unwrap();
    assert!(verify(&sign(Algorithm::RS256, Some("one"), &good()), &keys, &rules(), now()).is_ok());
    assert!(verify(&sign(Algorithm::RS512, Some("one"), &good()), &keys, &rules(), now()).is_err());
}

#[test]
fn unusable_keys_are_refused_with_a_pointer() {
    for pem in [
        "",
        "nonsense",
        std::str::from_utf8(RSA).unwrap(),
        include_str!("fixtures/weak_rsa.pub.pem"),
        include_str!("fixtures/p521.pub.pem"),
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
    ] {
        assert_eq!(Keys::from_pem(pem).unwrap_err().code(), Code::ValidationFailed, "{pem}");
    }
    let mut encryption = jwk(Algorithm::RS256, "one");
    encryption["use"] = json!("enc");
    let mut mismatched = jwk(Algorithm::ES256, "one");
    mismatched["alg"] = json!("RS256");
    for (key, pointer) in [
        (json!({ "kty": "oct", "k": "c2VjcmV0" }), "/keys/1"),
        (json!({ "kty": "EC", "crv": "P-521", "x": "AA", "y": "AA" }), "/keys/1"),
        (json!("key"), "/keys/1"),
        (encryption, "/keys/1"),
        (mismatched, "/keys/1"),
    ] {
        let set = json!({ "keys": [jwk(Algorithm::RS256, "zero"), key] });
        let error = Keys::from_inline_set(&set).unwrap_err();
        assert_eq!(error.violations()[0].pointer.as_deref(), Some(pointer), "{set}");
        assert!(Keys::from_published_set(&set).is_ok(), "a published set may hold keys for others");
    }
    for set in [json!({}), json!({ "keys": [] }), json!([]), json!({ "keys": {} })] {
        assert!(Keys::from_inline_set(&set).is_err(), "{set}");
    }
}
