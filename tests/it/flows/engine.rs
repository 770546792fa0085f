//! Runs: forks, waits, ends, failures, and what a crash leaves behind.

use std::time::Duration;

use cardwire::flows::Engine;
use cardwire::worker::Worker;
use serde_json::{Value, json};

use super::stage::{Stage, content, counts, entry, offer, send, wait};

const HOUR: Duration = Duration::from_secs(3600);

/// A flow with the variable `amount` and these steps.
fn flow_of(steps: &Value) -> Value {
    json!({ "variables": [{ "name": "amount", "type": "number" }, { "name": "due", "type": "date" }], "steps": steps })
}

/// A flow whose card is sent by a round of the engine, and not with the start: something comes before it that does not go
/// along.
fn noted_offer(template: &str) -> Value {
    let note = json!({ "key": "note", "parent": "start", "type": "sendEvent", "config": { "eventName": "noted" } });
    flow_of(&json!([note, send("offer", "note", template)]))
}

/// The keys of finished steps, and their states, in the order of the alphabet.
async fn steps(stage: &Stage) -> Vec<String> {
    stage.column("SELECT step_key || ' ' || status AS value FROM run_steps ORDER BY 1").await
}

async fn run_states(stage: &Stage) -> Vec<String> {
    stage.column("SELECT status AS value FROM runs ORDER BY id").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_runs_all_children_and_the_run_ends_with_the_last() {
    let stage = Stage::set().await;
    let steps_of_flow = json!([
        send("one", "start", &stage.template),
        send("two", "one", &stage.template),
        wait("rest", "one", "PT1H"),
        send("three", "rest", &stage.template),
    ]);
    let flow = stage.flow(flow_of(&steps_of_flow)).await;
    stage.start(&flow, json!([entry("x", &json!("a"))])).await;
    stage.test.settle().await;
    assert_eq!(steps(&stage).await, ["one completed", "two completed"]);
    assert_eq!(run_states(&stage).await, ["running"]);
    stage.test.advance(HOUR - Duration::from_secs(1)).await;
    assert_eq!(steps(&stage).await.len(), 2);
    stage.test.advance(Duration::from_secs(1)).await;
    assert_eq!(steps(&stage).await, ["one completed", "rest completed", "three completed", "two completed"]);
    assert_eq!(run_states(&stage).await, ["completed"]);
    assert_eq!(
        stage.events().await,
        counts(&[
            ("action-flow-completed", 1),
            ("action-flow-started", 1),
            ("action-flow-step-completed", 4),
            ("card-published", 3)
        ])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_until_a_time_that_has_passed_is_no_wait() {
    let stage = Stage::set().await;
    let until = |key: &str, parent: &str, until: &str| json!({ "key": key, "parent": parent, "type": "wait", "config": { "for": "until", "until": until } });
    let steps_of_flow = json!([
        until("past", "start", "2020-01-01T00:00:00Z"),
        until("due", "past", "{{ variables.due }}"),
        until("broken", "start", "{{ variables.amount }} o'clock"),
    ]);
    let flow = stage.flow(flow_of(&steps_of_flow)).await;
    let mut start = entry("x", &json!("a"));
    start["payload"]["variables"]["due"] = json!("2026-01-01T01:00:00Z");
    stage.start(&flow, json!([start])).await;
    stage.test.settle().await;
    assert_eq!(steps(&stage).await, ["broken failed", "past completed"]);
    stage.test.advance(HOUR).await;
    assert_eq!(steps(&stage).await, ["broken failed", "due completed", "past completed"]);
    assert_eq!(run_states(&stage).await, ["failed"], "one branch failed");
    assert_eq!(
        stage.events().await,
        counts(&[
            ("action-flow-failed", 1),
            ("action-flow-started", 1),
            ("action-flow-step-completed", 2),
            ("action-flow-step-failed", 1)
        ])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_stops_waits_of_other_branches() {
    let stage = Stage::set().await;
    let steps_of_flow = json!([
        wait("long", "start", "P30D"),
        send("late", "long", &stage.template),
        wait("short", "start", "PT1H"),
        { "key": "stop", "parent": "short", "type": "end" },
    ]);
    let flow = stage.flow(flow_of(&steps_of_flow)).await;
    stage.start(&flow, json!([entry("x", &json!("a"))])).await;
    stage.test.settle().await;
    stage.test.advance(HOUR).await;
    assert_eq!(steps(&stage).await, ["short completed", "stop completed"]);
    assert_eq!(run_states(&stage).await, ["completed"]);
    assert_eq!(stage.column("SELECT step_key AS value FROM tokens").await, [""; 0]);
    stage.test.advance(24 * 31 * HOUR).await;
    assert_eq!(
        stage.events().await,
        counts(&[("action-flow-completed", 1), ("action-flow-started", 1), ("action-flow-step-completed", 2)])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_that_cannot_be_made_ends_its_branch_only() {
    let stage = Stage::set().await;
    let steps_of_flow = json!([
        { "key": "bad", "parent": "start", "type": "sendCard",
          "config": { "templateId": stage.template, "variables": { "amount": "no number" } } },
        send("after", "bad", &stage.template),
        send("good", "start", &stage.template),
    ]);
    let flow = stage.flow(flow_of(&steps_of_flow)).await;
    stage.start(&flow, json!([entry("x", &json!("a"))])).await;
    stage.test.settle().await;
    assert_eq!(steps(&stage).await, ["bad failed", "good completed"]);
    assert_eq!(run_states(&stage).await, ["failed"]);
    assert_eq!(
        stage.events().await,
        counts(&[
            ("action-flow-failed", 1),
            ("action-flow-started", 1),
            ("action-flow-step-completed", 1),
            ("action-flow-step-failed", 1),
            ("card-error", 1),
            ("card-published", 1)
        ])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_takes_what_its_mapping_gives_before_what_the_run_has() {
    let stage = Stage::set().await;
    let steps_of_flow = json!([{ "key": "offer", "parent": "start", "type": "sendCard",
        "config": { "templateId": stage.template, "variables": { "amount": "{{ payload.metadata.sum }}" } } }]);
    let flow = stage.flow(flow_of(&steps_of_flow)).await;
    let mut mapped = entry("mapped", &json!("a"));
    mapped["payload"]["metadata"] = json!({ "sum": 99 });
    stage.start(&flow, json!([mapped, entry("plain", &json!("b"))])).await;
    stage.test.settle().await;
    let texts = "SELECT definition #>> '{topCard,elements,0,attributes,text}' AS value FROM cards ORDER BY user_id";
    assert_eq!(stage.column(texts).await, ["Hello there: 99", "Hello there: 12"]);
    assert_eq!(stage.events().await["card-published"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn engines_side_by_side_make_each_card_once() {
    let stage = Stage::set().await;
    let flow = stage.flow(offer(&stage.template)).await;
    let users: Vec<String> = (0..250).map(|n| format!("user-{n}")).collect();
    stage.start(&flow, json!([entry("crowd", &json!(users))])).await;
    for _ in 0..3 {
        let rounds = futures_util::future::join_all((0..4).map(|_| Engine.run(&stage.test.app))).await;
        for round in rounds {
            round.unwrap();
        }
    }
    stage.test.settle().await;
    assert_eq!(
        stage.events().await,
        counts(&[
            ("action-flow-completed", 250),
            ("action-flow-started", 250),
            ("action-flow-step-completed", 250),
            ("card-published", 250)
        ])
    );
    assert_eq!(stage.column("SELECT id::text AS value FROM cards").await.len(), 250);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_dies_anywhere_leaves_no_half_step() {
    let stage = Stage::set().await;
    let flow = stage.flow(noted_offer(&stage.template)).await;
    for invocation in 0..20 {
        stage.start(&flow, json!([entry(&invocation.to_string(), &json!(["a", "b"]))])).await;
        // The round is dropped at whichever await it has reached by then.
        let cut = Duration::from_micros(400 * invocation);
        let _ = tokio::time::timeout(cut, Engine.run(&stage.test.app)).await;
    }
    // Waits until the database has noticed that the last dropped round is gone.
    stage.column("SELECT step_key AS value FROM tokens FOR UPDATE").await;
    stage.test.settle().await;
    assert_eq!(
        stage.events().await,
        counts(&[
            ("action-flow-completed", 40),
            ("action-flow-started", 40),
            ("action-flow-step-completed", 80),
            ("card-published", 40),
            ("noted", 40)
        ])
    );
    assert_eq!(stage.column("SELECT step_key AS value FROM tokens").await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_cannot_be_executed_holds_nobody_up_and_fails_in_the_end() {
    let stage = Stage::set().await;
    let flow = stage.flow(noted_offer(&stage.template)).await;
    stage.start(&flow, json!([entry("x", &json!(["bad"]))])).await;
    stage.start(&flow, json!([entry("x", &json!(["good", "fine"]))])).await;
    // A request that lost its versions stands for any defect of ours.
    stage.column(
        "WITH broken AS (UPDATE batches SET templates = '7' WHERE id = (SELECT batch_id FROM runs WHERE user_id = 'bad')
         RETURNING id) SELECT id::text AS value FROM broken",
    )
    .await;
    stage.test.settle().await;
    let states = "SELECT user_id || ' ' || status AS value FROM runs ORDER BY 1";
    assert_eq!(stage.column(states).await, ["bad running", "fine completed", "good completed"]);
    for _ in 0..5 {
        stage.test.advance(HOUR).await;
    }
    assert_eq!(stage.column(states).await, ["bad failed", "fine completed", "good completed"]);
    assert_eq!(
        stage.events().await,
        counts(&[
            ("action-flow-completed", 2),
            ("action-flow-failed", 1),
            ("action-flow-started", 3),
            ("action-flow-step-completed", 4),
            ("action-flow-step-failed", 1),
            ("card-published", 2),
            ("noted", 2)
        ])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_run_stays_with_the_drafts_of_its_start() {
    let stage = Stage::set().await;
    let definition = flow_of(&json!([wait("rest", "start", "PT1H"), send("offer", "rest", &stage.template)]));
    let flow = stage.draft(definition).await;
    let query = "mutation($id: ID!, $content: JSONObject!) {
        updateCardTemplate(input: { id: $id, content: $content }) { cardTemplate { id } } }";
    let edit = |headline: &'static str| json!({ "id": stage.template, "content": content(headline) });
    stage.graphql(query, edit("Draft {{ amount }}")).await;
    stage.send(&flow, "test", json!([entry("x", &json!(stage.owner_id))])).await;
    stage.test.settle().await;
    stage.graphql(query, edit("Later {{ amount }}")).await;
    let empty = json!({ "id": flow, "definition": { "steps": [] } });
    let update = "mutation($id: ID!, $definition: JSONObject!) {
        updateFlow(input: { id: $id, definition: $definition }) { flow { id } } }";
    stage.graphql(update, empty).await;
    stage.test.advance(HOUR).await;
    let texts = "SELECT definition #>> '{topCard,elements,0,attributes,text}' AS value FROM cards";
    assert_eq!(stage.column(texts).await, ["Draft 12"]);
    assert_eq!(stage.events().await["card-published"], 1);
}
