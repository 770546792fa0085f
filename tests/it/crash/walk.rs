//! The first ten minutes with `kill -9` in every step: while a request is on its way, and right after its answer.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::process::{self, PATIENCE, Process};
use crate::support::receiver::Receiver;
use crate::support::world::text;

const FEED: &str = "query($c: ID!) { feed(containerId: $c) { cards { id } } }";
const COMPLETE: &str = "mutation($c: ID!, $id: ID!) {
    completeCard(input: { containerId: $c, cardId: $id, buttonName: \"accept\", values: { choice: \"yes\" } }) { ok } }";
/// How long after sending a request the server is killed; none waits for the answer.
const MOMENTS: [Option<u64>; 6] = [Some(0), Some(2), Some(5), Some(9), Some(15), None];

async fn start(process: &Process, token: &str, invocation: &str) -> Option<String> {
    let path = process.path(&format!("action-flow/{}/start", text(&process.ready["flowConfigId"])));
    let body = json!({ "flows": [{ "flowInvocationId": invocation,
        "target": { "type": "user", "targetUserIds": process.ready["customerId"] },
        "payload": { "variables": { "amount": "12" } } }] });
    let answer = process.client.try_call(token, "POST", &path, body).await?;
    assert_eq!(answer.status, 200, "{}", answer.text);
    Some(text(&answer.data()["flows"][0]["status"]))
}

async fn complete(process: &Process, card: &str) -> Option<Value> {
    let answer = process.app(COMPLETE, json!({ "c": process.ready["containerId"], "id": card })).await?;
    Some(answer.json())
}

async fn held(process: &Process) -> Vec<String> {
    let page = process.app(FEED, json!({ "c": process.ready["containerId"] })).await.unwrap().data();
    page["feed"]["cards"].as_array().unwrap().iter().map(|card| text(&card["id"])).collect()
}

/// Kills the server at a moment of the request, or after its answer, and starts it again.
async fn killed_during<T>(
    process: Process,
    directory: &Path,
    moment: Option<u64>,
    request: impl AsyncFnOnce(&Process) -> Option<T>,
) -> (Process, Option<T>) {
    let answer = match moment {
        None => request(&process).await,
        Some(millis) => tokio::time::timeout(Duration::from_millis(millis), request(&process)).await.ok().flatten(),
    };
    process.kill();
    (Process::start(directory).await, answer)
}

/// Waits until the feed holds exactly one card.
async fn the_card(process: &Process) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let cards = held(process).await;
        if let [card] = cards.as_slice() {
            return card.clone();
        }
        assert!(Instant::now() < deadline && cards.is_empty(), "not one card: {cards:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_step_of_the_walk_is_lost_or_done_twice() {
    let directory = process::directory("walk");
    let receiver = Receiver::start().await;
    let mut process = Process::start(&directory).await;
    let hook = json!({ "types": ["card-published", "card-completed"], "url": receiver.url() });
    let made = process.client.call(&process.token("workbench").await, "POST", &process.path("webhook"), hook).await;
    assert_eq!(made.status, 200, "{}", made.text);

    let mut cards = Vec::new();
    for (round, moment) in MOMENTS.into_iter().enumerate() {
        let invocation = format!("order-{round}");
        let token = process.token("events").await;
        let answer;
        (process, answer) =
            killed_during(process, &directory, moment, async |process| start(process, &token, &invocation).await).await;
        let again = start(&process, &process.token("events").await, &invocation).await.unwrap();
        assert!(again == "duplicate" || answer.is_none(), "an answered start was forgotten: {again}");
        let card = the_card(&process).await;

        let answer;
        (process, answer) =
            killed_during(process, &directory, moment, async |process| complete(process, &card).await).await;
        let again = complete(&process, &card).await.unwrap();
        let closed = again["errors"][0]["extensions"]["code"] == "card_closed";
        assert!(closed || answer.is_none(), "an answered completion was forgotten: {again}");
        assert!(closed || again["data"]["completeCard"]["ok"] == true, "{again}");
        assert_eq!(held(&process).await, Vec::<String>::new());
        cards.push(card);
    }
    every_webhook_came(&receiver, &cards).await;
    drop(process);
    let _ = fs::remove_dir_all(&directory);
}

/// Each card was published once and completed once, whatever was sent again.
async fn every_webhook_came(receiver: &Receiver, cards: &[String]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut seen = BTreeSet::new();
        for request in receiver.received() {
            let event = request.json()["data"].clone();
            let card = text(&event["cardContext"]["cardInstanceId"]);
            seen.insert((card, text(&event["analyticsEvent"]), request.header("webhook-id").to_owned()));
        }
        if seen.len() == 2 * cards.len() {
            let named: BTreeSet<_> = seen.iter().map(|(card, event, _)| (card.as_str(), event.as_str())).collect();
            assert_eq!(named.len(), seen.len(), "an event came under two ids: {seen:?}");
            return;
        }
        assert!(
            seen.len() < 2 * cards.len() && Instant::now() < deadline,
            "{} of {}: {seen:?}",
            seen.len(),
            2 * cards.len()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
