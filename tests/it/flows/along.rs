//! Steps that are executed together: with the request that starts a run, and with the step before them.

use std::time::Duration;

use diesel_async::RunQueryDsl;
use serde_json::{Value, json};

use super::stage::{Stage, entry, offer, send, wait};

/// A card, a decision by `amount`, and another card.
fn chain(template: &str) -> Value {
    let some = json!([{ "path": "some", "if": { "value": "variables.amount", "op": "gte", "to": 10 } }]);
    let mut thanks = send("thanks", "choose", template);
    thanks["path"] = json!("some");
    json!({
        "variables": [{ "name": "amount", "type": "number", "required": true }],
        "steps": [
            send("offer", "start", template),
            { "key": "choose", "parent": "offer", "type": "branch", "config": { "conditions": some } },
            thanks,
        ]
    })
}

const CARDS: &str = "SELECT user_id || ' ' || step_key AS value FROM cards ORDER BY 1";
const TOKENS: &str = "SELECT status || ' ' || step_key AS value FROM tokens ORDER BY 1";

#[tokio::test(flavor = "multi_thread")]
async fn the_cards_are_there_when_a_start_is_answered() {
    let stage = Stage::set().await;
    let flow = stage.flow(chain(&stage.template)).await;
    assert_eq!(stage.start(&flow, json!([entry("x", &json!("a"))])).await, ["accepted 1 0 0 0"]);
    assert_eq!(stage.column(CARDS).await, ["a offer", "a thanks"]);
    assert_eq!(stage.column(TOKENS).await, [""; 0]);
    assert_eq!(stage.column("SELECT status AS value FROM runs").await, ["completed"]);
    let changes = "SELECT head.version || ' ' || count(*) AS value FROM feed_heads AS head
        JOIN feed_changes AS change USING (environment_id, customer_id, version) GROUP BY head.version";
    assert_eq!(stage.column(changes).await, ["1 2"], "both come to the feed in one step");
    let told = "SELECT name || COALESCE(' ' || (payload::json #>> '{properties,stepKey}'), '') AS value
        FROM events ORDER BY xid, id";
    assert_eq!(
        stage.column(told).await,
        [
            "action-flow-started",
            "card-published",
            "action-flow-step-completed offer",
            "action-flow-step-completed choose",
            "card-published",
            "action-flow-step-completed thanks",
            "action-flow-completed",
        ],
        "events are in the order in which things happened"
    );
    let again = json!([entry("x", &json!(["a", "b"]))]);
    assert_eq!(stage.start(&flow, again).await, ["accepted 1 1 0 0"]);
    assert_eq!(stage.column(CARDS).await, ["a offer", "a thanks", "b offer", "b thanks"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn crowds_wait_behind_others() {
    let stage = Stage::set().await;
    let flow = stage.flow(chain(&stage.template)).await;
    let crowd: Vec<String> = (0..101).map(|n| format!("user-{n:03}")).collect();
    stage.start(&flow, json!([entry("crowd", &json!(crowd))])).await;
    assert_eq!(stage.column(CARDS).await, [""; 0]);
    let lanes = "SELECT lane || ' ' || step_key || ' ' || count(*) AS value FROM tokens GROUP BY lane, step_key";
    assert_eq!(stage.column(lanes).await, ["3 offer 101"]);
    stage.start(&flow, json!([entry("some", &json!(crowd[..100]))])).await;
    assert_eq!(stage.column(CARDS).await.len(), 200, "a hundred are no crowd");
    stage.test.settle().await;
    assert_eq!(stage.column(CARDS).await.len(), 402);
    assert_eq!(stage.column("SELECT DISTINCT status AS value FROM runs").await, ["completed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_makes_so_many_cards_and_leaves_the_rest_to_the_next() {
    let stage = Stage::set().await;
    // A hundred runs of five cards after each other: more than one transaction makes.
    let mut steps = vec![send("card-0", "start", &stage.template)];
    for n in 1..5 {
        steps.push(send(&format!("card-{n}"), &format!("card-{}", n - 1), &stage.template));
    }
    let mut definition = chain(&stage.template);
    definition["steps"] = json!(steps);
    let flow = stage.flow(definition).await;
    let some: Vec<String> = (0..100).map(|n| format!("user-{n:03}")).collect();
    stage.start(&flow, json!([entry("some", &json!(some))])).await;
    assert_eq!(stage.column(CARDS).await.len(), 400);
    assert_eq!(stage.column(TOKENS).await.len(), 100);
    stage.test.settle().await;
    assert_eq!(stage.column(CARDS).await.len(), 500);
    assert_eq!(stage.column("SELECT DISTINCT status AS value FROM runs").await, ["completed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_whose_card_breaks_begins_without_it() {
    let stage = Stage::set().await;
    let flow = stage.flow(offer(&stage.template)).await;
    // A rule that no card keeps stands for any defect of ours.
    let alter = async |change: &str| {
        let alter = format!("ALTER TABLE cards {change}");
        diesel::sql_query(alter).execute(&mut &*stage.test.app.read().await.unwrap()).await.unwrap();
    };
    alter("ADD CONSTRAINT cards_none_check CHECK (step_key <> 'offer')").await;
    assert_eq!(stage.start(&flow, json!([entry("x", &json!("a"))])).await, ["accepted 1 0 0 0"]);
    assert_eq!(stage.column(TOKENS).await, ["ready offer"]);
    let many: Vec<String> = (0..30).map(|n| format!("user-{n}")).collect();
    assert_eq!(stage.start(&flow, json!([entry("y", &json!(many))])).await, ["accepted 30 0 0 0"]);
    alter("DROP CONSTRAINT cards_none_check").await;
    stage.test.settle().await;
    assert_eq!(stage.column(CARDS).await.len(), 31);
    assert_eq!(stage.column("SELECT DISTINCT status AS value FROM runs").await, ["completed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_cut_off_anywhere_leaves_nothing_half() {
    let stage = Stage::set().await;
    let flow = stage.flow(chain(&stage.template)).await;
    let some: Vec<String> = (0..25).map(|n| format!("user-{n}")).collect();
    for n in 0..20_u64 {
        let invocation = n.to_string();
        let entries = json!([entry(&invocation, &json!(some))]);
        // The caller hangs up, wherever the start is by then, and asks again.
        let cut = Duration::from_millis(2 * n);
        let _ = tokio::time::timeout(cut, stage.start(&flow, entries.clone())).await;
        let begun = stage.start(&flow, entries).await.remove(0);
        assert!(["accepted 25 0 0 0", "duplicate 0 25 0 0"].contains(&begun.as_str()), "{begun}");
    }
    stage.test.settle().await;
    assert_eq!(stage.column(CARDS).await.len(), 20 * 25 * 2);
    assert_eq!(stage.events().await["action-flow-completed"], 20 * 25);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_comes_by_a_step_again_keeps_its_card() {
    let stage = Stage::set().await;
    let amount = json!([{ "name": "amount", "type": "number" }]);
    let steps = json!([send("offer", "start", &stage.template), wait("rest", "offer", "PT10M")]);
    let flow = stage.flow(json!({ "variables": amount, "steps": steps })).await;
    stage.start(&flow, json!([entry("moved", &json!("a"))])).await;
    stage.test.settle().await;
    let turned = json!([
        wait("rest", "start", "PT10M"),
        send("offer", "rest", &stage.template),
        send("thanks", "offer", &stage.template),
    ]);
    stage
        .graphql(
            "mutation($id: ID!, $definition: JSONObject!) {
                updateFlow(input: { id: $id, definition: $definition }) { flow { id } } }",
            json!({ "id": flow, "definition": { "variables": amount, "steps": turned } }),
        )
        .await;
    stage
        .graphql(
            "mutation($id: ID!) { publishFlow(input: { flowId: $id, runsInProgress: MOVE }) { version } }",
            json!({ "id": flow }),
        )
        .await;
    stage.test.settle().await;
    stage.test.advance(Duration::from_secs(600)).await;
    assert_eq!(stage.column(CARDS).await, ["a offer", "a thanks"]);
    assert_eq!(stage.column("SELECT flow_version || ' ' || status AS value FROM runs").await, ["2 completed"]);
}

/// A step that does not go along.
fn note() -> Value {
    json!({ "key": "note", "parent": "start", "type": "sendEvent", "config": { "eventName": "noted" } })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_that_breaks_leaves_the_step_before_it_alone() {
    let stage = Stage::set().await;
    let mut definition = offer(&stage.template);
    definition["steps"] = json!([note(), send("offer", "note", &stage.template)]);
    let flow = stage.flow(definition).await;
    let broken = "ALTER TABLE cards ADD CONSTRAINT cards_none_check CHECK (step_key <> 'offer')";
    diesel::sql_query(broken).execute(&mut &*stage.test.app.read().await.unwrap()).await.unwrap();
    stage.start(&flow, json!([entry("x", &json!("a"))])).await;
    stage.test.settle().await;
    for _ in 0..5 {
        stage.test.advance(Duration::from_secs(3600)).await;
    }
    let steps = "SELECT step_key || ' ' || status AS value FROM run_steps ORDER BY 1";
    assert_eq!(stage.column(steps).await, ["note completed", "offer failed"]);
    assert_eq!(stage.events().await["noted"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_sees_what_the_step_before_it_has_changed() {
    let stage = Stage::set().await;
    let update = json!({ "key": "move", "parent": "start", "type": "updateCustomer",
        "config": { "profile": { "city": "Graz" } } });
    let there = json!([{ "path": "there", "if": { "value": "profile.city", "op": "is", "to": "Graz" } }]);
    let choose =
        json!({ "key": "choose", "parent": "move", "type": "branch", "config": { "conditions": there.clone() } });
    let gone = json!([{ "path": "gone", "if": { "value": "steps.hello.status", "op": "is", "to": "cancelled" } }]);
    let mut hello = send("hello", "choose", &stage.template);
    hello["path"] = json!("there");
    let mut bye = send("bye", "look", &stage.template);
    bye["path"] = json!("gone");
    let mut definition = offer(&stage.template);
    definition["steps"] = json!([
        update,
        choose,
        hello,
        { "key": "take", "parent": "hello", "type": "cancelCards", "config": { "steps": ["hello"] } },
        { "key": "look", "parent": "take", "type": "branch", "config": { "conditions": gone } },
        bye,
    ]);
    let flow = stage.flow(definition).await;
    stage.start(&flow, json!([entry("x", &json!("a"))])).await;
    stage.test.settle().await;
    assert_eq!(stage.column(CARDS).await, ["a bye", "a hello"]);
    assert_eq!(stage.column("SELECT status AS value FROM runs").await, ["completed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_along_in_a_run_that_ends() {
    let stage = Stage::set().await;
    let mut definition = offer(&stage.template);
    let end = json!({ "key": "stop", "parent": "start", "type": "end" });
    definition["steps"] = json!([note(), send("late", "note", &stage.template), end]);
    let flow = stage.flow(definition).await;
    stage.start(&flow, json!([entry("x", &json!("a"))])).await;
    stage.test.settle().await;
    assert_eq!(stage.column(CARDS).await, [""; 0]);
    assert_eq!(stage.column(TOKENS).await, [""; 0]);
    assert_eq!(stage.column("SELECT status AS value FROM runs").await, ["completed"]);
}
