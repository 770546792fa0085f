//! `kill -9` while a file is being started: after the restarts every row has begun one run, and none two.

use serde_json::Value;

use super::*;

const ROWS: usize = 20_000;

async fn progress(process: &Process, path: &str) -> Value {
    process.client.get(&process.token("events").await, path).await.data()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_goes_on_after_every_crash_and_starts_nothing_twice() {
    let directory = process::directory("tasks");
    let mut process = Process::start(&directory).await;
    let flow = make_waiting_flow(&process).await;
    let rows: String = (0..ROWS).map(|row| format!("row-{row},{row}\n")).collect();
    let csv = format!("target.targetUserIds,payload.metadata.row\n{rows}");
    let authorization = format!("Bearer {}", process.token("events").await);
    let headers = [("authorization", authorization.as_str()), ("content-type", "text/csv")];
    let path = process.path(&format!("action-flow/{flow}/csv-task"));
    let sent = process.client.send("POST", &path, &headers, csv).await;
    assert_eq!(sent.status, 202, "{}", sent.text);
    let path = format!("{path}/{}", text(&sent.data()["taskId"]));

    let mut interrupted = 0;
    for round in 0..4 {
        tokio::time::sleep(Duration::from_millis(200 + 150 * round)).await;
        process.kill();
        process = Process::start(&directory).await;
        interrupted += usize::from(progress(&process, &path).await["status"] != "complete");
    }
    assert!(interrupted > 0, "the file was too small to be interrupted");
    let deadline = Instant::now() + PATIENCE;
    let done = loop {
        let task = progress(&process, &path).await;
        if task["status"] == "complete" {
            break task;
        }
        assert!(Instant::now() < deadline, "the file does not come to its end: {task}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let counts = json!([done["rowsTotal"], done["rowsAccepted"], done["rowsIgnored"], done["errors"]]);
    assert_eq!(counts, json!([ROWS, ROWS, 0, []]), "each row began one run");
    drop(process);
    let _ = fs::remove_dir_all(&directory);
}

/// A flow that only waits, so that all work is that of starting.
async fn make_waiting_flow(process: &Process) -> String {
    let token = process.token("workbench").await;
    let rest = json!({ "key": "rest", "parent": "start", "type": "wait",
        "config": { "for": "duration", "duration": "P1D" } });
    let create = "mutation($env: ID!, $definition: JSONObject!) {
        createFlow(input: { environmentId: $env, name: \"Waiting\", definition: $definition }) { flow { id } } }";
    let variables = json!({ "env": process.ready["environmentId"], "definition": { "steps": [rest] } });
    let made = process.client.graphql(&token, create, variables).await.data();
    let flow = text(&made["createFlow"]["flow"]["id"]);
    let publish = "mutation($id: ID!) { publishFlow(input: { flowId: $id }) { version } }";
    process.client.graphql(&token, publish, json!({ "id": flow })).await.data();
    flow
}
