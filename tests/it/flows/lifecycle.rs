//! Definitions: drafts, versions, publication, cloning, archiving, deletion; and runs that are stopped.

use diesel_async::RunQueryDsl;
use serde_json::{Value, json};

use super::stage::{Stage, content, counts, entry, offer, send, wait};
use crate::support::until_async;

const FLOW: &str = "query($id: ID!) { flow(id: $id) { status publishedVersion draftVersion revision definition } }";

async fn flow(stage: &Stage, id: &str) -> Value {
    stage.graphql(FLOW, json!({ "id": id })).await["flow"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn editing_a_published_flow_opens_a_draft_and_leaves_the_version_in_force() {
    let stage = Stage::set().await;
    let id = stage.draft(offer(&stage.template)).await;
    let state = |flow: &Value| format!("{} {} {}", flow["status"], flow["publishedVersion"], flow["draftVersion"]);
    assert_eq!(state(&flow(&stage, &id).await), "\"DRAFT\" null 1");
    assert_eq!(stage.publish(&id).await, 1);
    assert_eq!(state(&flow(&stage, &id).await), "\"PUBLISHED\" 1 null");
    let update = "mutation($id: ID!, $definition: JSONObject!, $revision: Int) {
        updateFlow(input: { id: $id, definition: $definition, expectedRevision: $revision }) { flow { revision } } }";
    let definition = json!({ "steps": [{ "key": "end", "parent": "start", "type": "end" }] });
    stage.graphql(update, json!({ "id": id, "definition": definition })).await;
    let edited = flow(&stage, &id).await;
    assert_eq!(state(&edited), "\"CHANGED\" 1 2");
    assert_eq!(edited["definition"], definition);
    stage.start(&id, json!([entry("x", &json!("a"))])).await;
    stage.test.settle().await;
    assert_eq!(stage.events().await["card-published"], 1, "version 1 still sends its card");

    let stale = json!({ "id": id, "definition": definition, "revision": 1 });
    assert_eq!(stage.refused(update, stale).await, ["conflict /expectedRevision"]);
    assert_eq!(stage.publish(&id).await, 2);
    let publish = "mutation($id: ID!) { publishFlow(input: { flowId: $id }) { version } }";
    assert_eq!(stage.refused(publish, json!({ "id": id })).await, ["conflict"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_is_refused_with_every_fault() {
    let stage = Stage::set().await;
    let create = "mutation($env: ID!, $definition: JSONObject!) {
        createFlow(input: { environmentId: $env, name: \"\", definition: $definition }) { flow { id } } }";
    let definition = json!({ "steps": [
        { "key": "a", "parent": "b", "type": "end" },
        { "key": "a", "parent": "start", "type": "sendCard", "config": { "templateId": "x" } },
    ] });
    assert_eq!(
        stage.refused(create, json!({ "env": stage.env, "definition": definition })).await,
        [
            "validation_failed /name",
            "validation_failed /definition/steps/1/config/templateId",
            "validation_failed /definition/steps/1/key",
            "validation_failed /definition/steps/0/parent",
        ]
    );
    let create = create.replace("name: \"\"", "name: \"x\"");
    let unknown = json!({ "steps": [send("a", "start", "tmpl_01h455vb4pex5vsknk084sn02q")] });
    assert_eq!(
        stage.refused(&create, json!({ "env": stage.env, "definition": unknown })).await,
        ["validation_failed /definition/steps/0/config/templateId"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_is_not_published_with_a_template_that_is_not() {
    let stage = Stage::set().await;
    let create = "mutation($env: ID!, $content: JSONObject!) {
        createCardTemplate(input: { environmentId: $env, name: \"Draft\", content: $content }) { cardTemplate { id } } }";
    let made = stage.graphql(create, json!({ "env": stage.env, "content": content("Hi") })).await;
    let template = made["createCardTemplate"]["cardTemplate"]["id"].as_str().unwrap().to_owned();
    let id = stage.draft(offer(&template)).await;
    let publish = "mutation($id: ID!) { publishFlow(input: { flowId: $id }) { version } }";
    let refused = stage.refused(publish, json!({ "id": id })).await;
    assert_eq!(refused, ["not_published /definition/steps/0/config/templateId"]);
    let empty = stage.draft(json!({})).await;
    assert_eq!(stage.refused(publish, json!({ "id": empty })).await, ["validation_failed /definition/steps"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_in_use_is_kept_until_its_flows_are_archived() {
    let stage = Stage::set().await;
    let id = stage.flow(offer(&stage.template)).await;
    let delete = "mutation($id: ID!) { deleteCardTemplate(id: $id) { id } }";
    assert_eq!(stage.refused(delete, json!({ "id": stage.template })).await, ["in_use"]);
    let archive = "mutation($id: ID!) { archiveFlow(input: { flowId: $id }) { flow { status } } }";
    let archived = stage.graphql(archive, json!({ "id": id })).await;
    assert_eq!(archived["archiveFlow"]["flow"]["status"], "ARCHIVED");
    stage.graphql(delete, json!({ "id": stage.template })).await;
    let gone = stage.send(&id, "start", json!([entry("x", &json!("a"))])).await;
    assert_eq!(gone.status, 404, "the trigger URL of an archived flow does not exist");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_has_the_definition_and_nothing_else() {
    let stage = Stage::set().await;
    let id = stage.flow(offer(&stage.template)).await;
    let clone = "mutation($id: ID!) { cloneFlow(input: { flowId: $id }) { flow { id name status definition triggers { kind } } } }";
    let copy = stage.graphql(clone, json!({ "id": id })).await["cloneFlow"]["flow"].clone();
    assert_ne!(copy["id"], Value::from(id.as_str()));
    assert_eq!((copy["name"].as_str(), copy["status"].as_str()), (Some("Copy of Flow"), Some("DRAFT")));
    assert_eq!(copy["definition"], offer(&stage.template));
    assert_eq!(copy["triggers"], json!([{ "kind": "api" }]));
    stage.graphql("mutation($id: ID!) { deleteFlow(id: $id) { id } }", json!({ "id": copy["id"] })).await;
    assert_eq!(stage.refused(FLOW, json!({ "id": copy["id"] })).await, ["not_found"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_cancelled_with_their_waits_and_cards() {
    let stage = Stage::set().await;
    let steps = json!([send("offer", "start", &stage.template), wait("rest", "offer", "P1D")]);
    let definition = json!({ "variables": [{ "name": "amount", "type": "number" }], "steps": steps });
    let id = stage.flow(definition).await;
    stage.start(&id, json!([entry("x", &json!(["a", "b"])), entry("y", &json!("a"))])).await;
    stage.test.settle().await;
    let path = stage.path(&id, "cancel");
    let cancel = async |body: Value| stage.test.client.call(&stage.events, "POST", &path, body).await;
    assert_eq!(cancel(json!({})).await.status, 400);
    assert_eq!(cancel(json!({ "flowInvocationId": "nothing" })).await.status, 404);
    let stopped = cancel(json!({ "flowInvocationId": "x", "cancelCards": true })).await.data();
    assert_eq!(stopped, json!({ "runs": 2, "cards": 2 }));
    assert_eq!(cancel(json!({ "flowInvocationId": "x" })).await.data(), json!({ "runs": 0, "cards": 0 }));
    stage.test.advance(std::time::Duration::from_secs(86_400)).await;
    assert_eq!(
        stage.events().await,
        counts(&[
            ("action-flow-cancelled", 2),
            ("action-flow-completed", 1),
            ("action-flow-started", 3),
            ("action-flow-step-completed", 4),
            ("card-cancelled", 2),
            ("card-published", 3)
        ])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rest_lists_changes_and_publishes_flows() {
    let stage = Stage::set().await;
    let id = stage.draft(offer(&stage.template)).await;
    let base = format!("/v1/{}/action-flow", stage.env);
    let client = &stage.test.client;
    let listed = client.get(&stage.events, &format!("{base}?status=draft&limit=10")).await.data();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!((listed[0]["flowConfigId"].as_str(), listed[0]["draftVersion"].as_i64()), (Some(id.as_str()), Some(1)));
    assert_eq!(client.get(&stage.events, &format!("{base}?status=published")).await.data(), json!([]));
    assert_eq!(client.get(&stage.events, &format!("{base}?limit=0")).await.status, 400);
    let detail = client.get(&stage.workbench, &format!("{base}/{id}")).await.data();
    assert_eq!(detail["steps"], offer(&stage.template)["steps"]);
    assert_eq!(detail["triggers"][0]["kind"], "api");
    let changes = json!({ "name": "New", "metadata": { "team": "a" } });
    let forbidden = client.call(&stage.events, "PUT", &format!("{base}/{id}"), changes.clone()).await;
    assert_eq!(forbidden.status, 403);
    let changed = client.call(&stage.workbench, "PUT", &format!("{base}/{id}"), changes).await.data();
    assert_eq!((changed["name"].as_str(), &changed["metadata"]), (Some("New"), &json!({ "team": "a" })));
    let published = client.call(&stage.workbench, "POST", &stage.path(&id, "publish"), Value::Null).await;
    assert_eq!(published.data(), json!({ "version": 1 }));
    assert_eq!(stage.events().await, counts(&[]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_beginning_while_its_flow_is_stopped_is_not_overlooked() {
    let stage = Stage::set().await;
    let archive = "mutation($id: ID!) { archiveFlow(input: { flowId: $id, cancelRuns: true }) { flow { id } } }";
    let publish = "mutation($id: ID!) { publishFlow(input: { flowId: $id, runsInProgress: CANCEL }) { version } }";
    let delete = "mutation($id: ID!) { deleteFlow(id: $id) { id } }";
    let edit = "mutation($id: ID!, $definition: JSONObject!) {
        updateFlow(input: { id: $id, definition: $definition }) { flow { id } } }";
    let waits = async |kind: &str| {
        let waiting = format!(
            "SELECT count(*)::text AS value FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
             WHERE datname = current_database() AND NOT granted AND locktype = '{kind}'"
        );
        stage.column(&waiting).await != ["0"]
    };
    for (stop, error, state) in
        [(archive, Value::Null, "cancelled"), (publish, Value::Null, "cancelled"), (delete, json!("in_use"), "running")]
    {
        let steps = |duration: &str| json!({ "steps": [wait("rest", "start", duration)] });
        let id = stage.flow(steps("P1D")).await;
        stage.graphql(edit, json!({ "id": id, "definition": steps("P2D") })).await;
        let holder = stage.test.app.read().await.unwrap();
        for statement in ["BEGIN", "LOCK TABLE invocations IN SHARE ROW EXCLUSIVE MODE"] {
            diesel::sql_query(statement).execute(&mut &*holder).await.unwrap();
        }
        let starting = stage.start(&id, json!([entry(&id, &json!("a"))]));
        let stopping = async {
            until_async("the start is held up", async || waits("relation").await).await;
            stage.test.client.graphql(&stage.owner, stop, json!({ "id": id })).await.json()
        };
        let releasing = async {
            until_async("who stops the flow waits for the start", async || waits("advisory").await).await;
            diesel::sql_query("COMMIT").execute(&mut &*holder).await.unwrap();
        };
        let (started, stopped, ()) = tokio::join!(starting, stopping, releasing);
        assert_eq!(started, ["accepted 1 0 0 0"]);
        assert_eq!(stopped["errors"][0]["extensions"]["code"], error, "{stopped}");
        stage.test.settle().await;
        let runs = format!("SELECT status AS value FROM runs WHERE invocation = '{id}'");
        assert_eq!(stage.column(&runs).await, [state], "{stop}");
    }
}
