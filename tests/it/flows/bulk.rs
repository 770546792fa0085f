//! Starts of many customers: files, lists, the test sender, and the progress of the tasks that carry them out.

use std::time::Duration;

use cardwire::flows::Starter;
use cardwire::worker::Worker;
use diesel_async::RunQueryDsl;
use serde_json::{Value, json};

use super::stage::{Stage, offer};
use crate::support::client::Answer;
use crate::support::socket::Socket;

async fn upload(stage: &Stage, flow: &str, call: &str, csv: &str) -> Answer {
    let authorization = format!("Bearer {}", stage.events);
    let headers = [("authorization", authorization.as_str()), ("content-type", "text/csv; charset=utf-8")];
    stage.test.client.send("POST", &stage.path(flow, call), &headers, csv).await
}

async fn task(stage: &Stage, flow: &str, answer: &Answer) -> Value {
    assert_eq!(answer.status, 202, "{}", answer.text);
    let id = answer.data()["taskId"].as_str().unwrap().to_owned();
    stage.test.client.get(&stage.events, &stage.path(flow, &format!("csv-task/{id}"))).await.data()
}

/// Sends an operation with a file, as the multipart convention has it: `$file` is the variable.
async fn with_file(stage: &Stage, token: &str, query: &str, variables: Value, csv: &str) -> Answer {
    let mut variables = variables;
    variables["file"] = Value::Null;
    let operations = json!({ "query": query, "variables": variables });
    let part = |head: &str, body: &str| format!("--limit\r\ncontent-disposition: form-data; {head}\r\n\r\n{body}\r\n");
    let body = [
        part("name=\"operations\"", &operations.to_string()),
        part("name=\"map\"", r#"{ "0": ["variables.file"] }"#),
        part("name=\"0\"; filename=\"rows.csv\"", csv),
        "--limit--\r\n".to_owned(),
    ];
    let authorization = format!("Bearer {token}");
    let mut headers = vec![("content-type", "multipart/form-data; boundary=limit")];
    if !token.is_empty() {
        headers.push(("authorization", authorization.as_str()));
    }
    stage.test.client.send("POST", "/graphql", &headers, body.concat()).await
}

const BULK: &str = "mutation($flow: ID!, $file: Upload!, $test: Boolean!) {
    bulkStartFlow(input: { flowId: $flow, csv: $file, isTest: $test }) { task { id kind status rowsTotal isTest } } }";

async fn users_with_cards(stage: &Stage) -> Vec<String> {
    stage.column("SELECT user_id || ' ' || (detail ->> 'amount') AS value FROM cards ORDER BY 1").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_starts_its_good_rows_and_reports_the_bad_ones() {
    let stage = Stage::set().await;
    let flow = stage.flow(offer(&stage.template)).await;
    let csv = "target.targetUserIds,payload.variables.amount,flowInvocationId,payload.cardOptions.priority\r\n\
        a,1,,\r\nb;c,2,mine,3\r\n,3,,\r\nd,many,,\r\ne,5\r\nf,\"6\",,11\r\n\"g\"\"h\",7,,\r\n";
    let answer = upload(&stage, &flow, "csv-task", csv).await;
    assert_eq!(task(&stage, &flow, &answer).await["status"], "pending");
    stage.test.settle().await;
    let done = task(&stage, &flow, &answer).await;
    let counts = [&done["status"], &done["rowsTotal"], &done["rowsAccepted"], &done["rowsIgnored"]];
    assert_eq!(json!(counts), json!(["complete", 7, 3, 0]));
    let bad: Vec<&Value> = done["errors"].as_array().unwrap().iter().map(|error| &error["row"]).collect();
    assert_eq!(json!(bad), json!([4, 6, 5, 7]), "{}", done["errors"]);
    let of_five = done["errors"][2]["message"].as_str().unwrap();
    assert!(of_five.contains("payload.variables.amount"), "{of_five}");
    assert_eq!(users_with_cards(&stage).await, ["a 1", "b 2", "c 2", "g\"h 7"]);
    assert_eq!(stage.column("SELECT DISTINCT trigger_source AS value FROM cards").await, ["csv"]);
    let id = done["taskId"].as_str().unwrap();
    let invocations = stage.column("SELECT DISTINCT invocation AS value FROM runs ORDER BY 1").await;
    assert_eq!(invocations, ["mine".to_owned(), format!("{id}:2"), format!("{id}:8")]);
    assert_eq!(stage.column("SELECT part::text AS value FROM flow_task_parts").await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_make_no_sense_are_refused_as_a_whole() {
    let stage = Stage::set().await;
    let flow = stage.flow(offer(&stage.template)).await;
    for (csv, faults) in [("", 1), ("colour,size\n1,2\n", 3), ("target.targetUserIds,target.targetUserIds\n", 1)] {
        let answer = upload(&stage, &flow, "csv-task", csv).await;
        assert_eq!(answer.status, 400, "{csv}: {}", answer.text);
        assert_eq!(answer.errors().len(), faults, "{csv}");
    }
    let json = stage.test.client.call(&stage.events, "POST", &stage.path(&flow, "csv-task"), json!({})).await;
    assert_eq!(json.status, 415);
    let draft = stage.draft(offer(&stage.template)).await;
    let answer = upload(&stage, &draft, "csv-task", "target.targetUserIds\na\n").await;
    assert_eq!(answer.errors(), ["not_published"]);
    assert_eq!(stage.column("SELECT id::text AS value FROM flow_tasks").await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_goes_on_where_it_was_cut_off_and_starts_nothing_twice() {
    let stage = Stage::set().await;
    let flow = stage.flow(offer(&stage.template)).await;
    let mut csv = "target.targetUserIds,payload.variables.amount\n".to_owned();
    for row in 0..3_000 {
        csv.push_str(&format!("user-{row},{row}\n"));
    }
    let answer = upload(&stage, &flow, "csv-task", &csv).await;
    for cut in 0..12 {
        // The worker is dropped at whichever await it has reached by then, and its lease runs out.
        let _ = tokio::time::timeout(Duration::from_millis(10 + 30 * cut), Starter.run(&stage.test.app)).await;
        stage.test.app.clock().advance(Duration::from_secs(31));
    }
    stage.test.settle().await;
    let done = task(&stage, &flow, &answer).await;
    let counts = [&done["status"], &done["rowsTotal"], &done["rowsAccepted"], &done["rowsIgnored"]];
    assert_eq!(json!(counts), json!(["complete", 3000, 3000, 0]));
    assert_eq!(
        stage.column("SELECT count(*) || ' ' || count(DISTINCT user_id) AS value FROM runs").await,
        ["3000 3000"]
    );
    assert_eq!(stage.column("SELECT count(*)::text AS value FROM cards").await, ["3000"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn test_files_reach_test_users_and_the_test_sender_names_its_flows() {
    let stage = Stage::set().await;
    let flow = stage.draft(offer(&stage.template)).await;
    let owner = &stage.owner_id;
    let csv = format!("target.targetUserIds,payload.variables.amount\n{owner},1\nstranger,2\n");
    let answer = upload(&stage, &flow, "csv-task/test", &csv).await;
    stage.test.settle().await;
    let done = task(&stage, &flow, &answer).await;
    assert_eq!(json!([done["rowsAccepted"], done["rowsIgnored"]]), json!([1, 1]));
    assert_eq!(stage.column("SELECT user_id || is_test AS value FROM cards").await, [format!("{owner}true")]);

    let query = "mutation($env: ID!, $file: Upload!) {
        sendTestBatch(input: { environmentId: $env, csv: $file }) { task { id isTest flowId } } }";
    let csv =
        format!("flowConfigId,target.targetUserIds,payload.variables.amount\n{flow},{owner},1\nflow_x,{owner},2\n");
    let answer = with_file(&stage, &stage.owner, query, json!({ "env": stage.env }), &csv).await;
    let made = &answer.json()["data"]["sendTestBatch"]["task"];
    assert_eq!(json!([made["isTest"], made["flowId"]]), json!([true, null]), "{}", answer.text);
    stage.test.settle().await;
    let query = "query($id: ID!) { flowTask(id: $id) { status rowsAccepted rowsRejected errors } }";
    let done = stage.graphql(query, json!({ "id": made["id"] })).await["flowTask"].clone();
    assert_eq!(json!([done["status"], done["rowsAccepted"], done["rowsRejected"]]), json!(["COMPLETE", 1, 1]));
    assert_eq!(done["errors"][0]["row"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manual_start_reaches_customers_who_exist() {
    let stage = Stage::set().await;
    let flow = stage
        .flow(json!({ "steps": [{ "key": "rest", "parent": "start", "type": "wait",
        "config": { "for": "duration", "duration": "PT1H" } }] }))
        .await;
    let users = json!({ "data": [{ "id": "ana" }, { "id": "bo", "profile": { "name": "Bo" } }] });
    let path = format!("/v1/{}/users", stage.env);
    assert_eq!(stage.test.client.call(&stage.events, "POST", &path, users).await.status, 200);
    let ids = json!(["ana", "bo", "nobody"]);
    let query = "query($env: ID!, $ids: [String!]!) {
        manualStartPreview(environmentId: $env, customerIds: $ids) { count limit exceedsLimit } }";
    let preview = stage.graphql(query, json!({ "env": stage.env, "ids": ids })).await["manualStartPreview"].clone();
    assert_eq!(preview, json!({ "count": 2, "limit": 10_000, "exceedsLimit": false }));
    let query = "mutation($flow: ID!, $ids: [String!]!) {
        startFlowForCustomers(input: { flowId: $flow, customerIds: $ids }) { task { id rowsTotal rowsIgnored } } }";
    let made = stage.graphql(query, json!({ "flow": flow, "ids": ids })).await;
    assert_eq!(made["startFlowForCustomers"]["task"]["rowsIgnored"], 1);
    stage.test.settle().await;
    let started = "SELECT user_id || ' ' || source AS value FROM runs JOIN batches ON batches.id = batch_id ORDER BY 1";
    assert_eq!(stage.column(started).await, ["ana manual", "bo manual"]);
    let id = made["startFlowForCustomers"]["task"]["id"].as_str().unwrap().to_owned();
    assert_eq!(stage.column("SELECT DISTINCT invocation AS value FROM runs").await, [id], "one invocation");
    let path = stage.path(&flow, "cancel");
    let body = json!({ "flowInvocationId": made["startFlowForCustomers"]["task"]["id"] });
    assert_eq!(stage.test.client.call(&stage.events, "POST", &path, body).await.data()["runs"], 2);
    let many: Vec<String> = (0..10_001).map(|n| n.to_string()).collect();
    assert_eq!(stage.refused(query, json!({ "flow": flow, "ids": many })).await, ["validation_failed /customerIds"]);
    let draft = stage.draft(offer(&stage.template)).await;
    assert_eq!(stage.refused(query, json!({ "flow": draft, "ids": ["ana"] })).await, ["not_published"]);
    let offered = stage
        .graphql(
            "query($env: ID!) { startableFlows(environmentId: $env) { nodes { id } } }",
            json!({ "env": stage.env }),
        )
        .await;
    assert_eq!(offered["startableFlows"]["nodes"], json!([{ "id": flow }]), "the draft is not offered");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_erased_before_their_turn_is_not_brought_back() {
    let stage = Stage::set().await;
    let flow = stage.flow(offer(&stage.template)).await;
    let users = json!({ "data": [{ "id": "ana" }, { "id": "bo" }] });
    stage.test.client.call(&stage.events, "POST", &format!("/v1/{}/users", stage.env), users).await;
    let query = "mutation($flow: ID!) {
        startFlowForCustomers(input: { flowId: $flow, customerIds: [\"ana\", \"bo\"] }) { task { id } } }";
    let made = stage.graphql(query, json!({ "flow": flow })).await;
    stage
        .column("WITH gone AS (DELETE FROM customers WHERE user_id = 'ana' RETURNING 1) SELECT 'x' AS value FROM gone")
        .await;
    stage.test.settle().await;
    let query = "query($id: ID!) { flowTask(id: $id) { rowsTotal rowsAccepted rowsIgnored rowsRejected } }";
    let done = stage.graphql(query, json!({ "id": made["startFlowForCustomers"]["task"]["id"] })).await;
    // Bo has no amount, which the flow requires.
    let expected = json!({ "rowsTotal": 2, "rowsAccepted": 0, "rowsIgnored": 1, "rowsRejected": 1 });
    assert_eq!(done["flowTask"], expected);
    assert_eq!(stage.column("SELECT user_id AS value FROM customers WHERE user_id IN ('ana', 'bo')").await, ["bo"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_workbench_uploads_a_file_and_follows_it_to_its_end() {
    let stage = Stage::set().await;
    let flow = stage.flow(offer(&stage.template)).await;
    let csv = "\u{feff}target.targetUserIds,payload.variables.amount\na,1\nb,2\n";
    let variables = json!({ "flow": flow, "test": false });
    let answer = with_file(&stage, &stage.owner, BULK, variables.clone(), csv).await;
    let made = answer.json()["data"]["bulkStartFlow"]["task"].clone();
    let expected = json!({ "id": made["id"], "kind": "CSV", "status": "PENDING", "rowsTotal": 2, "isTest": false });
    assert_eq!(made, expected, "{}", answer.text);
    let mut socket = Socket::open(&stage.test.origin, json!({ "authToken": stage.owner })).await;
    let query = "subscription($id: ID!) { taskProgress(taskId: $id) { status rowsAccepted } }";
    socket.subscribe("1", query, json!({ "id": made["id"] })).await;
    assert_eq!(socket.next("1").await["taskProgress"], json!({ "status": "PENDING", "rowsAccepted": 0 }));
    stage.test.settle().await;
    assert_eq!(socket.next("1").await["taskProgress"], json!({ "status": "COMPLETE", "rowsAccepted": 2 }));
    assert_eq!(socket.hear().await["type"], "complete");
    let listed = stage
        .graphql(
            "query($env: ID!, $flow: ID!) {
        flowTasks(environmentId: $env, flowId: $flow) { nodes { id status } } }",
            json!({ "env": stage.env, "flow": flow }),
        )
        .await;
    assert_eq!(listed["flowTasks"]["nodes"], json!([{ "id": made["id"], "status": "COMPLETE" }]));

    assert_eq!(with_file(&stage, "", BULK, variables.clone(), csv).await.status, 401, "nobody sends files unknown");
    let refused = with_file(&stage, &stage.workbench, BULK, variables, csv).await;
    assert_eq!(refused.errors(), ["forbidden"], "a credential of another role");
    let missing = stage.refused(BULK, json!({ "flow": flow, "test": false, "file": "rows" })).await;
    assert_eq!(missing.len(), 1, "a file is no text");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_cancelled_starts_no_more() {
    let stage = Stage::set().await;
    let flow = stage.flow(offer(&stage.template)).await;
    let answer = upload(&stage, &flow, "csv-task", "target.targetUserIds,payload.variables.amount\na,1\n").await;
    let id = answer.data()["taskId"].clone();
    let cancel = "mutation($id: ID!) { cancelFlowTask(id: $id) { task { status errors } } }";
    let over = stage.graphql(cancel, json!({ "id": id })).await["cancelFlowTask"]["task"].clone();
    let told = json!([{ "row": null, "message": "the task was cancelled" }]);
    assert_eq!(over, json!({ "status": "FAILED", "errors": told }));
    stage.test.settle().await;
    assert_eq!(stage.column("SELECT id::text AS value FROM runs").await, [""; 0]);
    assert_eq!(stage.column("SELECT part::text AS value FROM flow_task_parts").await, [""; 0]);
    assert_eq!(stage.refused(cancel, json!({ "id": id })).await, ["conflict"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_cancelled_while_rows_are_started_undoes_them() {
    let stage = Stage::set().await;
    let flow = stage.flow(offer(&stage.template)).await;
    let rows: String = (0..1_200).map(|row| format!("user-{row},{row}\n")).collect();
    let csv = format!("target.targetUserIds,payload.variables.amount\n{rows}");
    let id = upload(&stage, &flow, "csv-task", &csv).await.data()["taskId"].clone();
    let (locked, begin) = tokio::sync::oneshot::channel();
    let app = &stage.test.app;
    let stopping = app.transact(async |tx| {
        let lock = diesel::sql_query("LOCK TABLE invocations IN SHARE ROW EXCLUSIVE MODE");
        lock.execute(&mut tx.conn()).await?;
        locked.send(()).unwrap();
        let waiting = "SELECT count(*)::text AS value FROM pg_locks
             WHERE NOT granted AND relation = 'invocations'::regclass";
        while stage.column(waiting).await != ["2"] {
            tokio::task::yield_now().await;
        }
        let cancel = "mutation($id: ID!) { cancelFlowTask(id: $id) { task { status } } }";
        stage.graphql(cancel, json!({ "id": id })).await;
        Ok(())
    });
    let starting = async {
        begin.await.unwrap();
        Starter.run(app).await
    };
    let (stopped, started) = tokio::join!(stopping, starting);
    stopped.unwrap();
    started.unwrap();
    stage.test.settle().await;
    assert_eq!(stage.column("SELECT status AS value FROM flow_tasks").await, ["failed"]);
    for table in ["runs", "customers", "events", "flow_task_parts"] {
        assert_eq!(stage.column(&format!("SELECT count(*)::text AS value FROM {table}")).await, ["0"], "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_flow_is_archived_meanwhile_fails_and_says_so() {
    let stage = Stage::set().await;
    let flow = stage.flow(offer(&stage.template)).await;
    let answer = upload(&stage, &flow, "csv-task", "target.targetUserIds,payload.variables.amount\na,1\n").await;
    let archive = "mutation($id: ID!) { archiveFlow(input: { flowId: $id }) { flow { id } } }";
    stage.graphql(archive, json!({ "id": flow })).await;
    stage.test.settle().await;
    let done = task(&stage, &flow, &answer).await;
    assert_eq!(done["status"], "failed");
    assert_eq!(done["errors"].as_array().unwrap().len(), 1, "{done}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_bounded_by_rows_and_by_its_size() {
    let stage = Stage::set().await;
    let flow = stage.flow(offer(&stage.template)).await;
    let unclosed = format!("target.targetUserIds,payload.variables.amount\na,\"{}", "x\n".repeat(200_000));
    let answer = upload(&stage, &flow, "csv-task", &unclosed).await;
    assert!(answer.status == 400 && answer.text.contains("a quote is not closed"), "{}", answer.text);
    assert_eq!(stage.column("SELECT id::text AS value FROM flow_tasks").await, [""; 0], "nothing is left of it");
    let long = format!("target.targetUserIds,payload.variables.amount\na,{}\nb,1\n", "1".repeat(140_000));
    let answer = upload(&stage, &flow, "csv-task", &long).await;
    stage.test.settle().await;
    let done = task(&stage, &flow, &answer).await;
    let told = json!([{ "row": 2, "message": "the row takes more than 128 KiB" }]);
    assert_eq!(json!([done["rowsAccepted"], done["errors"]]), json!([1, told]), "the next row is not lost");
}
