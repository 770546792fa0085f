//! `kill -9` during runs of several steps: each ends once, as it would have without a crash; a card is made once;
//! a request is repeated only with the same `idempotency-key`.

use serde_json::Value;

use super::*;

const MOST_STARTS: usize = 40;

/// Starts runs until the server is gone, which is killed so long after the third was answered; those that were answered.
pub(super) async fn start_until_killed(
    process: Process,
    path: String,
    token: String,
    round: u64,
    after: Duration,
) -> Vec<String> {
    let third = tokio::sync::Notify::new();
    let client = process.client.clone();
    let killing = async {
        third.notified().await;
        tokio::time::sleep(after).await;
        process.kill();
    };
    let starting = start_until_gone(client, path, token, round, &third);
    tokio::join!(starting, killing).0
}

async fn start_until_gone(
    client: Client,
    path: String,
    token: String,
    round: u64,
    third: &tokio::sync::Notify,
) -> Vec<String> {
    let mut answered = Vec::new();
    for number in 0..MOST_STARTS {
        let invocation = format!("steps-{round}-{number}");
        let body = json!({ "flows": [{ "flowInvocationId": invocation,
            "target": { "type": "user", "targetUserIds": format!("walker-{round}-{number}") },
            "payload": { "variables": { "amount": "1" } } }] });
        match client.try_call(&token, "POST", &path, body).await {
            Some(answer) => {
                assert_eq!(answer.status, 200, "{}", answer.text);
                answered.push(invocation);
                if answered.len() == 3 {
                    third.notify_one();
                }
            }
            None => break,
        }
    }
    answered
}

pub(super) async fn graphql(process: &Process, token: &str, query: &str, variables: Value) -> Value {
    let answer = process.client.graphql(token, query, variables).await.json();
    assert!(answer["errors"].is_null(), "{answer}");
    answer["data"].clone()
}

/// Card, request, branch, card.
async fn make_flow(process: &Process, receiver: &Receiver) -> String {
    let token = process.token("workbench").await;
    let of_demo = graphql(
        process,
        &token,
        "query($id: ID!) { flow(id: $id) { definition } }",
        json!({ "id": process.ready["flowConfigId"] }),
    )
    .await;
    let demo = &of_demo["flow"]["definition"];
    let card = |key: &str, parent: &str| {
        let mut step = demo["steps"][0].clone();
        step["key"] = key.into();
        step["parent"] = parent.into();
        step
    };
    let mut last = card("last", "choose");
    last["path"] = "ok".into();
    let condition = json!({ "value": "steps.call.status", "op": "eq", "to": 200 });
    let steps = json!([
        card("first", "start"),
        { "key": "call", "parent": "first", "type": "sendRequest",
          "config": { "url": receiver.url(), "timeoutSeconds": 1, "body": { "who": "{{ run.flowInvocationId }}" } } },
        { "key": "choose", "parent": "call", "path": "success", "type": "branch",
          "config": { "conditions": [{ "path": "ok", "if": condition }] } },
        last,
    ]);
    let made = graphql(process, &token,
        "mutation($env: ID!, $definition: JSONObject!) {
            createFlow(input: { environmentId: $env, name: \"Steps\", definition: $definition }) { flow { id } } }",
        json!({ "env": process.ready["environmentId"], "definition": { "variables": demo["variables"], "steps": steps } }))
    .await;
    let flow = text(&made["createFlow"]["flow"]["id"]);
    graphql(
        process,
        &token,
        "mutation($id: ID!) { publishFlow(input: { flowId: $id }) { version } }",
        json!({ "id": flow }),
    )
    .await;
    flow
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_of_several_steps_end_as_without_a_crash() {
    let directory = process::directory("steps");
    let receiver = Receiver::start().await;
    let mut process = Process::start(&directory).await;
    let flow = make_flow(&process, &receiver).await;
    let mut answered = Vec::new();
    for round in 0..3 {
        let token = process.token("events").await;
        let path = process.path(&format!("action-flow/{flow}/start"));
        let after = Duration::from_millis(60 + 130 * round);
        answered.extend(start_until_killed(process, path, token, round, after).await);
        process = Process::start(&directory).await;
    }
    assert!(answered.len() > 5, "the load was too small to mean anything: {}", answered.len());

    let token = process.token("workbench").await;
    let query = "query($env: ID!, $flow: ID!) { flowRuns(environmentId: $env, flowId: $flow, first: 200) { nodes {
        flowInvocationId status steps { key status path } } } }";
    let variables = json!({ "env": process.ready["environmentId"], "flow": flow });
    let deadline = Instant::now() + PATIENCE;
    let runs = loop {
        let runs = graphql(&process, &token, query, variables.clone()).await["flowRuns"]["nodes"].clone();
        let runs = runs.as_array().unwrap().clone();
        if runs.iter().all(|run| run["status"] != "RUNNING") {
            break runs;
        }
        assert!(Instant::now() < deadline, "some runs did not end: {runs:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let begun: BTreeSet<String> = runs.iter().map(|run| text(&run["flowInvocationId"])).collect();
    assert_eq!(begun.len(), runs.len(), "an invocation began one run");
    assert!(answered.iter().all(|invocation| begun.contains(invocation)), "what was answered is not lost");
    let whole = json!([{ "key": "first", "status": "completed", "path": null },
        { "key": "call", "status": "completed", "path": "success" },
        { "key": "choose", "status": "completed", "path": "ok" },
        { "key": "last", "status": "completed", "path": null }]);
    for run in &runs {
        assert_eq!((&run["status"], &run["steps"]), (&json!("COMPLETED"), &whole), "{run}");
    }
    let mut keys: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for request in receiver.received() {
        keys.entry(text(&request.json()["who"])).or_default().insert(request.header("idempotency-key").to_owned());
    }
    assert!(keys.values().all(|keys| keys.len() == 1), "a request has one key: {keys:?}");
    assert_eq!(keys.keys().cloned().collect::<BTreeSet<_>>(), begun);
    let token = process.token("events").await;
    for invocation in &begun {
        let path = process.path(&format!("cards?flowInvocationId={invocation}"));
        let cards = process.client.get(&token, &path).await.data();
        assert_eq!(cards.as_array().unwrap().len(), 2, "{invocation}: each card once");
    }
    drop(process);
    let _ = fs::remove_dir_all(&directory);
}
