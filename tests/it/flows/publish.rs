//! What publishing does to runs in progress: they stay, move by the keys of their steps, or end.

use std::time::Duration;

use serde_json::{Value, json};

use super::stage::{Stage, entry, send, wait};

const UPDATE: &str = "mutation($id: ID!, $definition: JSONObject!) {
    updateFlow(input: { id: $id, definition: $definition }) { flow { id } } }";
const PUBLISH: &str =
    "mutation($id: ID!, $how: RunsInProgress!) { publishFlow(input: { flowId: $id, runsInProgress: $how }) {
    version task { id kind status rowsAccepted rowsRejected errors } } }";
const PREVIEW: &str = "query($id: ID!) {
    flowPublishPreview(flowId: $id) { strandedRuns waiting { version stepKey runs stranded } } }";

#[tokio::test(flavor = "multi_thread")]
async fn runs_in_progress_stay_move_or_end_when_a_version_is_published() {
    let stage = Stage::set().await;
    let steps =
        json!([wait("rest", "start", "PT10M"), wait("gone", "start", "PT20M"), send("card", "rest", &stage.template)]);
    let amount = json!([{ "name": "amount", "type": "number" }]);
    let flow = stage.flow(json!({ "variables": amount, "steps": steps })).await;
    stage.start(&flow, json!([entry("stranded", &json!("a"))])).await;
    stage.test.settle().await;
    let edit = |steps: Value| json!({ "id": flow, "definition": { "variables": amount, "steps": steps } });
    let other = stage.template("Other", "Moved: {{ amount }}").await;
    // `gone` is left out; a run that is there is stranded.
    stage.graphql(UPDATE, edit(json!([wait("rest", "start", "PT10M"), send("card", "rest", &other)]))).await;
    let seen = stage.graphql(PREVIEW, json!({ "id": flow })).await["flowPublishPreview"].clone();
    assert_eq!(
        seen,
        json!({ "strandedRuns": 1, "waiting": [
        { "version": 1, "stepKey": "gone", "runs": 1, "stranded": "there is no step `gone`" },
        { "version": 1, "stepKey": "rest", "runs": 1, "stranded": null } ] })
    );
    stage.graphql(PUBLISH, json!({ "id": flow, "how": "MOVE" })).await;
    stage.test.settle().await;
    let versions =
        "SELECT invocation || ' ' || flow_version || ' ' || status AS value FROM runs ORDER BY started_at, invocation";
    assert_eq!(stage.column(versions).await, ["stranded 1 running"]);

    stage.start(&flow, json!([entry("moved", &json!("b"))])).await;
    stage.test.settle().await;
    let third =
        json!([wait("rest", "start", "PT10M"), send("card", "rest", &stage.template), send("more", "rest", &other)]);
    stage.graphql(UPDATE, edit(third)).await;
    stage.graphql(PUBLISH, json!({ "id": flow, "how": "MOVE" })).await;
    stage.test.settle().await;
    assert_eq!(stage.column(versions).await, ["moved 3 running", "stranded 1 running"]);
    stage.test.advance(Duration::from_secs(600)).await;
    let cards = "SELECT invocation || ' ' || (definition #>> '{topCard,elements,0,attributes,text}') AS value FROM cards ORDER BY 1";
    assert_eq!(stage.column(cards).await, ["moved Hello there: 12", "moved Moved: 12", "stranded Hello there: 12"]);

    stage.start(&flow, json!([entry("cancelled", &json!("c"))])).await;
    stage.test.settle().await;
    stage.graphql(UPDATE, edit(json!([wait("rest", "start", "PT3H")]))).await;
    stage.graphql(PUBLISH, json!({ "id": flow, "how": "CANCEL" })).await;
    stage.test.settle().await;
    let states = "SELECT invocation || ' ' || status AS value FROM runs ORDER BY 1";
    assert_eq!(stage.column(states).await, ["cancelled cancelled", "moved completed", "stranded cancelled"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_moves_has_the_variables_of_the_new_version() {
    let stage = Stage::set().await;
    let rest = json!([wait("rest", "start", "PT10M"), send("card", "rest", &stage.template)]);
    let flow = stage.flow(json!({ "steps": rest })).await;
    stage.start(&flow, json!([entry("old", &json!("a"))])).await;
    stage.test.settle().await;
    let edit = |variable: Value| json!({ "id": flow, "definition": { "variables": [variable], "steps": rest } });
    let required = json!({ "name": "amount", "type": "number", "required": true });
    stage.graphql(UPDATE, edit(required)).await;
    let seen = stage.graphql(PREVIEW, json!({ "id": flow })).await["flowPublishPreview"].clone();
    let reason = "the variable `amount` is required, and runs of version 1 have none";
    let waiting = json!([{ "version": 1, "stepKey": "rest", "runs": 1, "stranded": reason }]);
    assert_eq!(seen, json!({ "strandedRuns": 1, "waiting": waiting }));
    stage.graphql(UPDATE, edit(json!({ "name": "amount", "type": "number", "default": 7 }))).await;
    let seen = stage.graphql(PREVIEW, json!({ "id": flow })).await["flowPublishPreview"].clone();
    assert_eq!(seen["strandedRuns"], 0);
    stage.graphql(PUBLISH, json!({ "id": flow, "how": "MOVE" })).await;
    stage.test.settle().await;
    stage.test.advance(Duration::from_secs(600)).await;
    let cards =
        "SELECT flow_version || ' ' || (definition #>> '{topCard,elements,0,attributes,text}') AS value FROM cards";
    assert_eq!(stage.column(cards).await, ["2 Hello there: 7"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_runs_move_some_at_a_time_and_the_task_counts_them() {
    let stage = Stage::set().await;
    let flow = stage.flow(json!({ "steps": [wait("rest", "start", "P1D"), wait("also", "start", "P1D")] })).await;
    let users: Vec<String> = (0..1_200).map(|n| format!("user-{n}")).collect();
    stage.start(&flow, json!([{ "target": { "type": "user", "targetUserIds": users } }])).await;
    stage.test.settle().await;
    let definition = json!({ "steps": [wait("rest", "start", "P1D"), wait("also", "start", "P2D")] });
    stage.graphql(UPDATE, json!({ "id": flow, "definition": definition })).await;
    let made = stage.graphql(PUBLISH, json!({ "id": flow, "how": "MOVE" })).await["publishFlow"].clone();
    assert_eq!(json!([made["version"], made["task"]["status"]]), json!([2, "PENDING"]));
    stage.test.settle().await;
    let query = "query($id: ID!) { flowTask(id: $id) { kind status rowsTotal rowsAccepted rowsRejected errors } }";
    let done = stage.graphql(query, json!({ "id": made["task"]["id"] })).await["flowTask"].clone();
    let expected = json!({ "kind": "MOVE", "status": "COMPLETE", "rowsTotal": 1_200, "rowsAccepted": 1_200,
        "rowsRejected": 0, "errors": [] });
    assert_eq!(done, expected);
    assert_eq!(stage.column("SELECT DISTINCT flow_version::text AS value FROM runs").await, ["2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_a_node_whose_clock_goes_ahead_is_not_overlooked() {
    let stage = Stage::set().await;
    let flow = stage.flow(json!({ "steps": [wait("rest", "start", "PT10M")] })).await;
    let ahead = Duration::from_secs(20);
    stage.test.app.clock().advance(ahead);
    stage.start(&flow, json!([entry("early", &json!("a"))])).await;
    stage.test.app.clock().set_back(ahead);
    stage.graphql(UPDATE, json!({ "id": flow, "definition": { "steps": [wait("rest", "start", "PT3H")] } })).await;
    stage.graphql(PUBLISH, json!({ "id": flow, "how": "CANCEL" })).await;
    stage.start(&flow, json!([entry("late", &json!("a"))])).await;
    stage.test.settle().await;
    let states = "SELECT invocation || ' ' || status AS value FROM runs ORDER BY 1";
    assert_eq!(stage.column(states).await, ["early cancelled", "late running"]);
}
