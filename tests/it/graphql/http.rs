//! GraphQL over HTTP: methods, media types, statuses and limits.

use serde_json::{Value, json};

use crate::support::TestApp;
use crate::support::client::Answer;

const JSON: (&str, &str) = ("content-type", "application/json");
const MODERN: (&str, &str) = ("accept", "application/graphql-response+json");

async fn post(test: &TestApp, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Answer {
    test.client.send("POST", "/graphql", headers, body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_answered_in_the_preferred_media_type() {
    let test = TestApp::start().await;
    let body = json!({"query": "{ __typename }"}).to_string();
    for (accept, kind) in [
        ("application/graphql-response+json", "application/graphql-response+json; charset=utf-8"),
        ("*/*", "application/json; charset=utf-8"),
    ] {
        let answer = post(&test, &[JSON, ("accept", accept)], body.clone()).await;
        assert_eq!((answer.status, answer.json()), (200, json!({"data": {"__typename": "Query"}})));
        assert_eq!(answer.headers["content-type"], kind);
        assert!(answer.headers.contains_key("x-request-id"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn get_runs_queries_only() {
    let test = TestApp::start().await;
    let get = async |query: &str| test.client.send("GET", &format!("/graphql?{query}"), &[MODERN], "").await;
    let answer = get("query=%7B__typename%7D").await;
    assert_eq!((answer.status, answer.json()["data"]["__typename"].clone()), (200, json!("Query")));
    let answer = get("query=mutation%7B__typename%7D").await;
    assert_eq!((answer.status, answer.errors()), (405, vec!["method_not_allowed".to_owned()]));
    assert_eq!(answer.headers["allow"], "GET, POST");
    assert_eq!(get("query=%7B__typename%7D&variables=x").await.errors(), ["invalid_json /variables"]);
    let answer = test.client.send("PUT", "/graphql", &[JSON], "{}").await;
    assert_eq!((answer.status, answer.errors()), (405, vec!["method_not_allowed".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_foreign_page_could_send_is_not_executed() {
    let test = TestApp::start().await;
    let body = json!({"query": "{ __typename }"}).to_string();
    for kind in ["text/plain", "application/x-www-form-urlencoded"] {
        let answer = post(&test, &[("content-type", kind)], body.clone()).await;
        assert_eq!((answer.status, answer.errors()), (415, vec!["unsupported_media_type".to_owned()]), "{kind}");
    }
    // Files come from those who are known, and a page cannot make a browser say who that is: a cookie alone is refused.
    let multipart = ("content-type", "multipart/form-data; boundary=x");
    for more in [&[][..], &[("cookie", "cardwire_session=cws_x")]] {
        let answer = post(&test, &[&[multipart], more].concat(), body.clone()).await;
        assert_eq!((answer.status, answer.errors()), (401, vec!["unauthenticated".to_owned()]), "{more:?}");
    }
    assert_eq!(post(&test, &[], body).await.status, 415);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_the_status_of_their_code_for_the_modern_media_type() {
    let test = TestApp::start().await;
    let deep = "{a".repeat(40) + &"}".repeat(40);
    let aliases: String = (0..40).map(|n| format!("a{n}: __typename ")).collect();
    let mut nested = json!(1);
    for _ in 0..40 {
        nested = json!([nested]);
    }
    // What is no GraphQL request has its status in plain JSON too; what cannot be executed is told in the body.
    let malformed = [
        (b"{\"query\"".to_vec(), "invalid_json"),
        (vec![b'"', 0xff, b'"'], "invalid_json"),
        (b"[{\"query\":\"{ __typename }\"}]".to_vec(), "bad_request"),
        (b"7".to_vec(), "bad_request"),
        (b"{}".to_vec(), "bad_request /query"),
        (b"{\"query\":7}".to_vec(), "bad_request /query"),
        (json!({"query": "{ __typename }", "variables": "x"}).to_string().into_bytes(), "bad_request /variables"),
        (
            json!({"query": "{ __typename }", "variables": {"x": nested}}).to_string().into_bytes(),
            "validation_failed /variables/x",
        ),
        ("[".repeat(100_000).into_bytes(), "invalid_json"),
    ];
    let documents = [
        (json!({"query": "{"}).to_string().into_bytes(), "bad_request"),
        (json!({"query": "{ nothing }"}).to_string().into_bytes(), "bad_request"),
        (json!({"query": "subscription { a }"}).to_string().into_bytes(), "bad_request"),
        (
            json!({"query": "{ a: __typename }", "operationName": "X"}).to_string().into_bytes(),
            "bad_request /operationName",
        ),
        (json!({"query": deep}).to_string().into_bytes(), "query_too_complex"),
        (json!({"query": format!("{{ {aliases} }}")}).to_string().into_bytes(), "query_too_complex"),
    ];
    let cases = malformed.map(|case| (case, 400)).into_iter().chain(documents.map(|case| (case, 200)));
    for ((body, code), plain_status) in cases {
        let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
        let modern = post(&test, &[JSON, MODERN], body.clone()).await;
        assert_eq!((modern.status, modern.errors()), (400, vec![code.to_owned()]), "{shown}");
        assert_eq!(modern.json().get("data"), None, "{shown}");
        let plain = post(&test, &[JSON], body).await;
        assert_eq!((plain.status, plain.errors()), (plain_status, vec![code.to_owned()]), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_large_a_body_is_refused() {
    let test = TestApp::with(|config| config.body_limit = 4096).await;
    let body = json!({"query": format!("{{ __typename }} #{}", "x".repeat(5000))}).to_string();
    let answer = post(&test, &[JSON], body).await;
    assert_eq!((answer.status, answer.errors()), (413, vec!["payload_too_large".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_valid_token_is_told_by_status_too() {
    let test = TestApp::start().await;
    let answer = test.client.graphql_with(&[], "{ me { userId } }", Value::Null).await;
    assert_eq!((answer.status, answer.errors()), (401, vec!["unauthenticated".to_owned()]));
    let answer = test.client.graphql("nonsense", "{ __typename }", Value::Null).await;
    assert_eq!((answer.status, answer.errors()), (401, vec!["unauthenticated".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn introspection_can_be_turned_off() {
    let query = "{ __schema { queryType { name } } }";
    let test = TestApp::start().await;
    let answer = test.client.graphql_with(&[], query, Value::Null).await;
    assert_eq!(answer.data()["__schema"]["queryType"]["name"], "Query");
    let test = TestApp::with(|config| config.introspection = false).await;
    let answer = test.client.graphql_with(&[], query, Value::Null).await;
    assert!(!answer.text.contains("queryType\":{"), "{}", answer.text);
}
