//! `kill -9` while events start flows: each event starts its flow once, whatever was killed.

use serde_json::Value;

use super::flows::{graphql, start_until_killed};
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn each_event_starts_its_flow_once() {
    let directory = process::directory("events");
    let mut process = Process::start(&directory).await;
    let token = process.token("workbench").await;
    let env = text(&process.ready["environmentId"]);
    let source = text(&process.ready["flowConfigId"]);
    let steps =
        json!({ "variables": [], "steps": [{ "key": "done", "parent": "start", "type": "end", "config": {} }] });
    let made = graphql(
        &process,
        &token,
        "mutation($env: ID!, $definition: JSONObject!) {
            createFlow(input: { environmentId: $env, name: \"Second\", definition: $definition }) { flow { id } } }",
        json!({ "env": env, "definition": steps }),
    )
    .await;
    let flow = text(&made["createFlow"]["flow"]["id"]);
    let publish = "mutation($id: ID!) { publishFlow(input: { flowId: $id }) { version } }";
    graphql(&process, &token, publish, json!({ "id": flow })).await;
    let script = "function map(e) { return { targetUserIds: e.endUserId } }";
    let input = json!({ "flowId": flow, "kind": "EVENT", "eventName": "action-flow-started",
        "actionFlowConfigId": source, "mapping": { "type": "script", "source": script } });
    let make = "mutation($input: CreateTriggerInput!) { createTrigger(input: $input) { trigger { id } } }";
    let trigger = graphql(&process, &token, make, json!({ "input": input })).await["createTrigger"]["trigger"].clone();
    let mode = "mutation($id: ID!) { setTriggerMode(input: { id: $id, mode: LIVE }) { trigger { mode } } }";
    graphql(&process, &token, mode, json!({ "id": trigger["id"] })).await;

    let mut answered = Vec::new();
    for round in 0..3 {
        let token = process.token("events").await;
        let path = process.path(&format!("action-flow/{source}/start"));
        let after = Duration::from_millis(50 + 120 * round);
        answered.extend(start_until_killed(process, path, token, round, after).await);
        process = Process::start(&directory).await;
    }
    assert!(answered.len() > 5, "the load was too small to mean anything: {}", answered.len());

    let token = process.token("workbench").await;
    let users = async |flow: &str| -> Vec<String> {
        let query = "query($env: ID!, $flow: ID!) { flowRuns(environmentId: $env, flowId: $flow, first: 200) {
            nodes { userId } } }";
        let seen = graphql(&process, &token, query, json!({ "env": env, "flow": flow })).await;
        let nodes: Vec<Value> = seen["flowRuns"]["nodes"].as_array().unwrap().clone();
        let mut users: Vec<String> = nodes.iter().map(|run| text(&run["userId"])).collect();
        users.retain(|user| user.starts_with("walker-"));
        users.sort();
        users
    };
    let expected = users(&source).await;
    assert!(expected.len() >= answered.len());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = users(&flow).await;
        if seen == expected {
            break;
        }
        assert!(Instant::now() < deadline, "{seen:?} is not {expected:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // Nobody is started a second time by what is found again after a restart.
    process.kill();
    process = Process::start(&directory).await;
    let token = process.token("workbench").await;
    let query = "query($id: ID!) { trigger(id: $id) { recentEvents { outcome } } }";
    let seen = graphql(&process, &token, query, json!({ "id": trigger["id"] })).await;
    let outcomes = seen["trigger"]["recentEvents"].as_array().unwrap().clone();
    assert!(outcomes.iter().all(|one| one["outcome"] == "started"), "{outcomes:?}");
    drop(process);
    let _ = fs::remove_dir_all(&directory);
}
