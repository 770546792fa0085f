//! Ten thousand peers that only take place.

use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use crate::crash::process::{Process, directory};
use crate::support::socket::Socket;

const CROWD: usize = 10_000;
/// More than this must not stay of a crowd that has left, in kilobytes.
const LEFT_BEHIND: u64 = 16 * 1024;

async fn come(origin: &str, count: usize) -> Vec<Socket> {
    stream::iter(0..count).map(|_| Socket::connect(origin)).buffer_unordered(64).collect().await
}

async fn left(server: &Process) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while server.metric("cardwire_connections_open").await > 1.0 {
        assert!(Instant::now() < deadline, "places are not given back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Peers that say nothing are let in, harm nobody, are sent away in time, and leave nothing behind.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_idle_sockets_harm_nobody_and_leave_nothing() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let directory = directory("crowd");
    let server = Process::start(&directory).await;
    let origin = server.ready["origin"].as_str().unwrap();
    let mut honest = Socket::open(origin, json!({})).await;

    let mut crowd = come(origin, CROWD).await;
    assert_eq!(crowd.len(), CROWD);
    honest.subscribe("1", "{ __typename }", json!({})).await;
    assert_eq!(honest.next("1").await, json!({ "__typename": "Query" }));
    assert_eq!(honest.hear().await["type"], "complete");
    let mut last = crowd.pop().unwrap();
    assert_eq!(last.close_code().await, 4408, "who says nothing in time is sent away");
    drop((crowd, last));
    left(&server).await;

    let before = server.memory();
    drop(come(origin, CROWD / 2).await);
    left(&server).await;
    let after = server.memory();
    assert!(after < before + LEFT_BEHIND, "memory grew from {before} to {after} KB");
    honest.subscribe("2", "{ __typename }", json!({})).await;
    assert_eq!(honest.next("2").await, json!({ "__typename": "Query" }));
    server.kill();
    std::fs::remove_dir_all(&directory).unwrap();
}
