//! What holds for every path of the server.

use crate::support::TestApp;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_healthy_and_ready() {
    let test = TestApp::start().await;
    for path in ["/healthz", "/readyz", "/metrics"] {
        let answer = test.client.send("GET", path, &[], "").await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        assert!(answer.headers.contains_key("x-request-id"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_path_is_answered_in_the_envelope() {
    let test = TestApp::start().await;
    let answer = test.client.send("GET", "/nowhere", &[], "").await;
    assert_eq!((answer.status, answer.errors()), (404, vec!["not_found".to_owned()]));
    let answer = test.client.send("DELETE", "/healthz", &[], "").await;
    assert_eq!((answer.status, answer.errors()), (405, vec!["method_not_allowed".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_requests_settles_and_stops() {
    let test = TestApp::start().await;
    test.settle().await;
    assert_eq!(test.events().await, Vec::<String>::new());
    test.stop().await;
}
