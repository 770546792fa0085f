//! `kill -9` at any moment loses nothing that was answered: the card is there after the restart, and its webhook
//! arrives, a repeat only with the same `webhook-id`.

mod delivery;
mod events;
mod flows;
pub mod process;
mod tasks;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::client::Client;
use crate::support::receiver::Receiver;
use crate::support::world::text;
use process::{PATIENCE, Process};

const KILLS: u64 = 4;

/// Starts flows one after another until the server is gone; the invocations that were answered.
async fn start_until_killed(client: Client, path: String, token: String, round: u64, lane: u64) -> Vec<String> {
    let mut answered = Vec::new();
    for number in 0.. {
        let invocation = format!("crash-{round}-{lane}-{number}");
        let body = json!({ "flows": [{ "flowInvocationId": invocation,
            "target": { "type": "user", "targetUserIds": format!("customer-{lane}-{number}") },
            "payload": { "variables": { "amount": "1" } } }] });
        match client.try_call(&token, "POST", &path, body).await {
            Some(answer) => {
                assert_eq!(answer.status, 200, "{}", answer.text);
                answered.push(invocation);
            }
            None => break,
        }
    }
    answered
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_nine_loses_nothing_that_was_answered() {
    let directory = process::directory("load");
    let receiver = Receiver::start().await;
    let mut process = Process::start(&directory).await;
    let hook = json!({ "types": ["card-published"], "url": receiver.url() });
    let made = process.client.call(&process.token("workbench").await, "POST", &process.path("webhook"), hook).await;
    assert_eq!(made.status, 200, "{}", made.text);

    let mut answered: BTreeSet<String> = BTreeSet::new();
    for round in 0..KILLS {
        let token = process.token("events").await;
        let path = process.path(&format!("action-flow/{}/start", text(&process.ready["flowConfigId"])));
        let lanes: Vec<_> = (0..4)
            .map(|lane| start_until_killed(process.client.clone(), path.clone(), token.clone(), round, lane))
            .collect();
        let killing = async {
            tokio::time::sleep(Duration::from_millis(150 + 170 * round)).await;
            process.kill();
        };
        let (lanes, ()) = tokio::join!(futures_util::future::join_all(lanes), killing);
        answered.extend(lanes.into_iter().flatten());
        process = Process::start(&directory).await;
    }
    assert!(answered.len() > 20, "the load was too small to mean anything: {}", answered.len());

    let deadline = Instant::now() + PATIENCE;
    let mut by_invocation: BTreeMap<String, BTreeSet<String>>;
    loop {
        by_invocation = BTreeMap::new();
        for request in receiver.received() {
            let invocation = text(&request.json()["data"]["platformContext"]["flowInvocationId"]);
            by_invocation.entry(invocation).or_default().insert(request.header("webhook-id").to_owned());
        }
        let missing: Vec<_> = answered.iter().filter(|invocation| !by_invocation.contains_key(*invocation)).collect();
        if missing.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "{} of {} webhooks were lost: {missing:?}", missing.len(), answered.len());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for (invocation, ids) in &by_invocation {
        assert_eq!(ids.len(), 1, "{invocation} has several events: {ids:?}");
    }
    let token = process.token("events").await;
    for invocation in &answered {
        let cards =
            process.client.get(&token, &process.path(&format!("cards?flowInvocationId={invocation}"))).await.data();
        assert_eq!(cards.as_array().unwrap().len(), 1, "{invocation}");
    }
    drop(process);
    let _ = fs::remove_dir_all(&directory);
}
