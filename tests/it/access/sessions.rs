//! §3.2: signing in and out, sessions, and what guessing meets.

use std::time::Duration;

use serde_json::json;

use super::{EMAIL, Office, PASSWORD, ok, text};
use crate::support::client::Answer;

const ME: &str = "{ viewer { member { email } } }";
const SIGN_IN: &str = "mutation($input: SignInInput!) { signIn(input: $input) { sessionToken member { email groupIds } } }";

async fn sign_in(office: &Office, email: &str, password: &str) -> Answer {
    let input = json!({ "input": { "email": email, "password": password } });
    office.test.client.graphql_with(&[], SIGN_IN, input).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_signs_in_and_out() {
    let office = Office::open().await;
    let answer = sign_in(&office, " Ana@Example.com ", PASSWORD).await;
    let token = text(&ok(&answer)["signIn"]["sessionToken"]);
    assert_ne!(token, office.owner);
    assert_eq!(office.ask_as(&token, ME, json!({})).await["viewer"]["member"]["email"], EMAIL);

    office.ask_as(&token, "mutation { signOut { ok } }", json!({})).await;
    assert_eq!(office.refused_as(&token, ME, json!({})).await, ["unauthenticated"]);
    office.ask(ME, json!({})).await;
    assert_eq!(office.audit().await, ["instance.set-up organisation", "member.sign-in member", "member.sign-out member"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_uses_the_cookie_with_a_header_no_foreign_page_can_send() {
    let office = Office::open().await;
    let answer = sign_in(&office, EMAIL, PASSWORD).await;
    let cookie = answer.headers["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.starts_with("cardwire_session=cws_") && cookie.contains("HttpOnly") && cookie.contains("SameSite"));
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let client = &office.test.client;
    let with = client.graphql_with(&[("cookie", &cookie), ("x-cardwire-csrf", "1")], ME, json!({})).await;
    assert_eq!(ok(&with)["viewer"]["member"]["email"], EMAIL);
    let without = client.graphql_with(&[("cookie", &cookie)], ME, json!({})).await;
    assert_eq!(without.errors(), ["unauthenticated"]);
    let bearer = format!("Bearer {}", office.owner);
    let both = [("cookie", cookie.as_str()), ("x-cardwire-csrf", "1"), ("authorization", bearer.as_str())];
    assert_eq!(client.graphql_with(&both, ME, json!({})).await.errors(), ["bad_request"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_for_lack_of_activity_and_use_keeps_it() {
    let office = Office::open().await;
    for _ in 0..3 {
        office.test.app.clock().advance(Duration::from_secs(29 * 60));
        office.ask(ME, json!({})).await;
    }
    office.test.app.clock().advance(Duration::from_secs(30 * 60));
    assert_eq!(office.refused(ME, json!({})).await, ["token_expired"]);
    assert_eq!(office.refused(ME, json!({})).await, ["unauthenticated"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_failures_lock_an_address_for_a_quarter_of_an_hour() {
    let office = Office::open().await;
    for address in [EMAIL, "nobody@example.com"] {
        for _ in 0..10 {
            assert_eq!(sign_in(&office, address, "wrong password").await.errors(), ["unauthenticated"], "{address}");
        }
        let locked = sign_in(&office, address, PASSWORD).await;
        assert_eq!(locked.errors(), ["rate_limited"], "{address}");
    }
    office.test.app.clock().advance(Duration::from_secs(15 * 60 - 1));
    assert_eq!(sign_in(&office, EMAIL, PASSWORD).await.errors(), ["rate_limited"]);
    office.test.app.clock().advance(Duration::from_secs(1));
    ok(&sign_in(&office, EMAIL, PASSWORD).await);
    assert_eq!(office.audit().await, ["instance.set-up organisation", "member.sign-in member"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_at_once_are_counted_before_they_are_tried() {
    let office = Office::open().await;
    let guesses = (0..16).map(|_| sign_in(&office, EMAIL, "wrong password"));
    let refusals: Vec<_> = futures_util::future::join_all(guesses).await.iter().flat_map(Answer::errors).collect();
    assert_eq!(refusals.iter().filter(|refusal| *refusal == "unauthenticated").count(), 10);
    assert_eq!(refusals.iter().filter(|refusal| *refusal == "rate_limited").count(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_forgotten_with_success_and_with_time() {
    let office = Office::open().await;
    for _ in 0..9 {
        sign_in(&office, EMAIL, "wrong password").await;
    }
    ok(&sign_in(&office, EMAIL, PASSWORD).await);
    for _ in 0..9 {
        sign_in(&office, EMAIL, "wrong password").await;
    }
    office.test.app.clock().advance(Duration::from_secs(15 * 60));
    for _ in 0..9 {
        sign_in(&office, EMAIL, "wrong password").await;
    }
    ok(&sign_in(&office, EMAIL, PASSWORD).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_token_is_nobody() {
    let office = Office::open().await;
    for token in ["cws_unknown", "unknown", "a.b.c", ""] {
        assert_eq!(office.refused_as(token, ME, json!({})).await, ["unauthenticated"], "{token}");
    }
    let basic = [("authorization", "Basic YTpi")];
    assert_eq!(office.test.client.graphql_with(&basic, ME, json!({})).await.errors(), ["unauthenticated"]);
    assert_eq!(office.test.client.graphql_with(&[], ME, json!({})).await.errors(), ["unauthenticated"]);
}
