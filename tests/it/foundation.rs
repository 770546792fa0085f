//! What holds for every path of the server.

use crate::crash::process;
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

#[tokio::test(flavor = "multi_thread")]
async fn days_are_made_ahead_and_dropped_when_their_time_is_past() {
    let test = TestApp::start().await;
    let days = "SELECT right(inhrelid::regclass::text, 8) AS value FROM pg_inherits
        WHERE inhparent = 'feed_changes'::regclass ORDER BY 1";
    let has = async |day: &str| test.column(days).await.iter().any(|found| found == day);
    assert!(has("20251231").await && has("20260108").await && !has("20260109").await);
    test.advance(std::time::Duration::from_secs(5 * 24 * 3600)).await;
    assert!(!has("20251231").await && !has("20260104").await, "changes are kept for a day");
    assert!(has("20260105").await && has("20260113").await);
    let sampled = "SELECT DISTINCT concat_ws(' ', attname, attstattarget) AS value FROM pg_attribute
        JOIN pg_inherits ON attrelid IN (inhrelid, inhparent) AND inhparent = 'events'::regclass
        WHERE attname IN ('name', 'payload') ORDER BY 1";
    assert_eq!(test.column(sampled).await, ["name 20", "payload 0"], "every day as its table says");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_looks_at_a_running_server() {
    let directory = process::directory("doctor");
    let running = process::Process::start(&directory).await;
    let program = env!("CARGO_BIN_EXE_cardwire");
    let told = std::process::Command::new(program).args(["doctor", "--data-dir"]).arg(&directory).output().unwrap();
    let text = String::from_utf8_lossy(&told.stdout);
    assert!(told.status.success(), "{text}");
    for finding in ["ok    database: answers", "ok    clock:", "ok    schema: has the form of this version"] {
        assert!(text.contains(finding), "{finding} is not in {text}");
    }
    drop(running);
    std::fs::remove_dir_all(&directory).unwrap();
}
