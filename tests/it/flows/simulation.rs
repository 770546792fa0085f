//! Simulation: what a draft would do, and that nothing of it is done.

use serde_json::{Value, json};

use super::stage::{Stage, send, wait};

const SIMULATE: &str = "query($id: ID!, $user: String!, $payload: JSONObject, $until: DateTime, $assume: JSONObject) {
    simulateFlow(flowId: $id, userId: $user, payload: $payload, until: $until, assume: $assume) {
        status steps { key type status startedAt finishedAt wakesAt path message input output card } } }";

/// How many rows every table has.
async fn rows(stage: &Stage) -> Vec<String> {
    let count = "SELECT relname || ' ' || (xpath('/row/c/text()', query_to_xml(
            format('SELECT count(*) AS c FROM %I', relname), false, true, '')))[1]::text AS value
        FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') ORDER BY 1";
    stage.column(count).await
}

/// An offer; who answers is looked up elsewhere and thanked, who does not is remembered.
async fn draft(stage: &Stage) -> String {
    let on = |path: &str, mut step: Value| {
        step["path"] = path.into();
        step
    };
    let score = json!({ "value": "steps.call.body.score", "op": "gte", "to": 10 });
    let steps = json!([
        send("offer", "start", &stage.template),
        { "key": "reply", "parent": "offer", "type": "wait", "config": { "for": "cardAction", "step": "offer",
            "events": ["card-completed"], "timeout": "P3D" } },
        on("timeout", wait("rest", "reply", "PT1H")),
        { "key": "note", "parent": "rest", "type": "sendEvent", "config": { "eventName": "silent",
            "properties": { "amount": "{{ variables.amount }}" } } },
        { "key": "call", "parent": "reply", "path": "matched", "type": "sendRequest", "config": {
            "url": "https://scores.example/{{ steps.offer.response.choice }}", "method": "GET" } },
        on("success", json!({ "key": "choose", "parent": "call", "type": "branch",
            "config": { "conditions": [{ "path": "high", "if": score }] } })),
        on("high", send("thanks", "choose", &stage.template)),
        { "key": "rename", "parent": "thanks", "type": "updateCustomer", "config": { "profile": { "city": "Bern" } } },
        { "key": "close", "parent": "rename", "type": "cancelCards", "config": { "steps": ["thanks"] } },
    ]);
    let variables = json!([{ "name": "amount", "type": "number", "required": true }]);
    let flow = stage.draft(json!({ "variables": variables, "steps": steps })).await;
    let users = json!({ "data": [{ "id": "ana", "profile": { "name": "Ana" } }] });
    let made = stage.test.client.call(&stage.events, "POST", &format!("/v1/{}/users", stage.env), users).await;
    assert_eq!(made.status, 200, "{}", made.text);
    flow
}

fn asked(flow: &str, more: &Value) -> Value {
    let mut variables = json!({ "id": flow, "user": "ana", "payload": { "variables": { "amount": "12" } } });
    variables.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    variables
}

/// `key status path time` of each step; the time at which it ended, or would go on.
fn brief(simulation: &Value) -> Vec<String> {
    let steps = simulation["steps"].as_array().unwrap().iter();
    let of = |step: &Value, name: &str| step[name].as_str().map(str::to_owned);
    let brief = |step: &Value| {
        let time = of(step, "finishedAt").or_else(|| of(step, "wakesAt")).unwrap();
        let path = of(step, "path").unwrap_or_else(|| "-".to_owned());
        format!("{} {} {path} {}", step["key"].as_str().unwrap(), step["status"].as_str().unwrap(), &time[..16])
    };
    steps.map(brief).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_is_played_with_a_clock_of_its_own_and_nothing_is_done() {
    let stage = Stage::set().await;
    let flow = draft(&stage).await;
    stage.test.settle().await;
    let before = rows(&stage).await;
    assert!(before.len() > 40, "{before:?}");

    let silent = stage.graphql(SIMULATE, asked(&flow, &json!({}))).await["simulateFlow"].clone();
    assert_eq!(silent["status"], "COMPLETED");
    let expected = [
        "offer completed - 2026-01-01T00:00",
        "reply completed timeout 2026-01-04T00:00",
        "rest completed - 2026-01-04T01:00",
        "note completed - 2026-01-04T01:00",
    ];
    assert_eq!(brief(&silent), expected, "{silent}");
    assert_eq!(silent["steps"][0]["card"]["topCard"]["elements"][0]["attributes"]["text"], "Hello Ana: 12");
    assert_eq!(silent["steps"][3]["input"]["properties"], json!({ "amount": 12 }));

    let assume = json!({ "reply": { "event": "card-completed", "buttonName": "yes", "values": { "choice": "blue" },
        "after": "PT2H" }, "call": { "status": 200, "body": { "score": 12 } } });
    let answered = stage.graphql(SIMULATE, asked(&flow, &json!({ "assume": assume }))).await["simulateFlow"].clone();
    let expected = [
        "offer completed - 2026-01-01T00:00",
        "reply completed matched 2026-01-01T02:00",
        "call completed success 2026-01-01T02:00",
        "choose completed high 2026-01-01T02:00",
        "thanks completed - 2026-01-01T02:00",
        "rename completed - 2026-01-01T02:00",
        "close completed - 2026-01-01T02:00",
    ];
    assert_eq!(brief(&answered), expected, "{answered}");
    assert_eq!(answered["steps"][6]["output"], json!({ "cancelled": 1 }));

    let early = json!({ "until": "2026-01-02T00:00:00Z" });
    let early = stage.graphql(SIMULATE, asked(&flow, &early)).await["simulateFlow"].clone();
    assert_eq!(early["status"], "RUNNING");
    assert_eq!(brief(&early), ["offer completed - 2026-01-01T00:00", "reply waiting - 2026-01-04T00:00"]);

    stage.test.settle().await;
    assert_eq!(rows(&stage).await, before, "a simulation leaves no row behind");
    let city = stage.column("SELECT coalesce(city, 'none') AS value FROM customers WHERE user_id = 'ana'").await;
    assert_eq!(city, ["none"], "and changes none");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_simulation_that_makes_no_sense_is_refused() {
    let stage = Stage::set().await;
    let flow = draft(&stage).await;
    let refused = async |more: Value| stage.refused(SIMULATE, asked(&flow, &more)).await;
    assert_eq!(refused(json!({ "user": "nobody" })).await, ["not_found /userId"]);
    assert_eq!(refused(json!({ "payload": {} })).await, ["validation_failed /payload/variables/amount"]);
    assert_eq!(refused(json!({ "until": "2025-01-01T00:00:00Z" })).await, ["validation_failed /until"]);
    assert_eq!(refused(json!({ "assume": { "x": {} } })).await, ["validation_failed /assume/x"]);
    assert_eq!(refused(json!({ "assume": { "offer": {} } })).await, ["validation_failed /assume/offer"]);
    let wrong = json!({ "assume": { "reply": { "event": "card-eaten" }, "call": { "status": 9 } } });
    assert_eq!(
        refused(wrong).await,
        ["validation_failed /assume/call/status", "validation_failed /assume/reply/event"]
    );
    let by_role = stage.test.client.graphql(&stage.events, SIMULATE, asked(&flow, &json!({}))).await;
    assert_eq!(by_role.errors().len(), 1, "who may not edit flows may not play them: {}", by_role.text);
}
