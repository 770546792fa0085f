//! Event triggers: what happens starts flows, once for each event, and members see why and why not.

use serde_json::{Value, json};

use crate::support::world::{CUSTOMER, World, text};

const MAKE: &str =
    "mutation($input: CreateTriggerInput!) { createTrigger(input: $input) { trigger { id kind mode } } }";
const MODE: &str = "mutation($id: ID!, $mode: TriggerMode!) {
    setTriggerMode(input: { id: $id, mode: $mode }) { trigger { mode } } }";

async fn make(world: &World, flow: &str, event: &str, settings: Value) -> String {
    let mut input = json!({ "flowId": flow, "kind": "EVENT", "eventName": event });
    for (name, value) in settings.as_object().unwrap() {
        input[name] = value.clone();
    }
    let made = world.ask(MAKE, json!({ "input": input })).await["createTrigger"]["trigger"].clone();
    assert_eq!((made["kind"].as_str(), made["mode"].as_str()), (Some("event"), Some("disabled")));
    text(&made["id"])
}

async fn live(world: &World, trigger: &str) {
    world.ask(MODE, json!({ "id": trigger, "mode": "LIVE" })).await;
}

/// A live trigger.
async fn trigger(world: &World, flow: &str, event: &str, settings: Value) -> String {
    let id = make(world, flow, event, settings).await;
    live(world, &id).await;
    id
}

/// A published flow that ends at once.
async fn quiet_flow(world: &World, name: &str) -> String {
    let steps = json!([{ "key": "done", "parent": "start", "type": "end", "config": {} }]);
    let variables =
        json!([{ "name": "buttonName", "type": "string" }, { "name": "choice", "type": "string", "default": "-" }]);
    world.create_flow(name, json!({ "variables": variables, "steps": steps })).await
}

/// A published flow that records a custom event.
async fn telling_flow(world: &World, name: &str, event: &str) -> String {
    let steps = json!([{ "key": "tell", "parent": "start", "type": "sendEvent",
        "config": { "eventName": event, "properties": { "from": name } } }]);
    world.create_flow(name, json!({ "variables": [], "steps": steps })).await
}

async fn complete(world: &World, card: &str, customer: &str) {
    let mutation = format!(
        "mutation {{ completeCard(input: {{ containerId: \"{}\", cardId: \"{card}\",
            userLocalTimestamp: \"2026-01-01T13:00:00.591+13:00\", buttonName: \"accept\",
            values: {{ choice: \"yes\" }} }}) {{ ok }} }}",
        world.container
    );
    let answer = world.sdk(customer, &mutation, json!({})).await;
    assert_eq!(answer.data()["completeCard"]["ok"], true, "{}", answer.text);
    world.test.settle().await;
}

/// Customer, test mark, hops and variables of the runs of a flow, oldest first.
async fn runs(world: &World, flow: &str) -> Vec<String> {
    let query =
        "query($env: ID!, $flow: ID!) { flowRuns(environmentId: $env, flowId: $flow, first: 200) { nodes { id } } }";
    let seen = world.ask(query, json!({ "env": world.env, "flow": flow })).await;
    let count = seen["flowRuns"]["nodes"].as_array().unwrap().len();
    let uuid = uuid_of(flow);
    let rows = world
        .test
        .column(&format!(
            "SELECT user_id || ' ' || is_test || ' ' || hops || ' ' || coalesce(runs.variables, starts.variables)::jsonb::text AS value
             FROM runs JOIN starts USING (environment_id, lifecycle_id) WHERE flow_id = '{uuid}' ORDER BY runs.id"
        ))
        .await;
    assert_eq!(rows.len(), count);
    rows
}

fn uuid_of(id: &str) -> String {
    use cardwire::ids::{FlowId, Id};
    id.parse::<FlowId>().unwrap().uuid().to_string()
}

/// The outcomes that a trigger tells of, newest first.
async fn outcomes(world: &World, trigger: &str) -> Vec<String> {
    let query = "query($id: ID!) { trigger(id: $id) { recentEvents { eventId outcome detail flowInvocationId } } }";
    let seen = world.ask(query, json!({ "id": trigger })).await;
    seen["trigger"]["recentEvents"].as_array().unwrap().iter().map(|one| text(&one["outcome"])).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_starts_the_flow_once_for_its_customer_with_its_properties() {
    let world = World::start().await;
    let flow = quiet_flow(&world, "Thanks").await;
    let id = make(&world, &flow, "card-completed", json!({})).await;
    let early = world.send_card("early", CUSTOMER).await;
    complete(&world, &early, CUSTOMER).await;
    live(&world, &id).await;
    world.test.settle().await;
    assert_eq!(runs(&world, &flow).await, [""; 0], "what was recorded before the trigger went live starts nothing");

    let card = world.send_card("order-17", CUSTOMER).await;
    complete(&world, &card, CUSTOMER).await;
    let run = format!("{CUSTOMER} false 1 {{\"choice\": \"-\", \"buttonName\": \"accept\"}}");
    assert_eq!(runs(&world, &flow).await, [run]);
    world.test.settle().await;
    assert_eq!(runs(&world, &flow).await.len(), 1);
    assert_eq!(outcomes(&world, &id).await, ["started"]);

    let started = world
        .test
        .column(
            "SELECT payload AS value FROM events WHERE name = 'action-flow-started'
             AND payload::json #>> '{platformContext,triggerEventSource}' = 'event'",
        )
        .await;
    let started: Value = serde_json::from_str(&started[0]).unwrap();
    let event = world
        .test
        .column("SELECT payload::json ->> 'id' AS value FROM events WHERE name = 'card-completed' ORDER BY xid DESC")
        .await;
    assert_eq!(started["platformContext"]["flowInvocationId"], event[0].as_str(), "the event is the invocation");
    let seen = world
        .test
        .column(
            "SELECT payload #>> '{trigger,event,id}' AS value FROM starts WHERE payload #>> '{trigger,kind}' = 'event'",
        )
        .await;
    assert_eq!(seen, [event[0].clone()], "the run sees the event");
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_scopes_and_mappings_decide() {
    let world = World::start().await;
    let flow = quiet_flow(&world, "Mapped").await;
    let elsewhere = quiet_flow(&world, "Elsewhere").await;
    let path = json!({ "type": "structured", "properties": { "targetUserIds": { "path": "$.endUserId" },
        "variables.choice": { "path": "$.properties.values.choice" }, "flowInvocationId": { "value": "mine" } } });
    let script = |source: &str| json!({ "type": "script", "source": source });
    let chosen = |to: &str| json!({ "value": "properties.values.choice", "op": "is", "to": to });
    let completed = "card-completed";
    let structured = trigger(&world, &flow, completed, json!({ "mapping": path, "where": chosen("yes") })).await;
    let other = trigger(&world, &flow, completed, json!({ "where": chosen("no") })).await;
    let scoped = json!({ "cardTemplateId": world.template, "actionFlowConfigId": world.flow,
        "mapping": script("function map(e) { return { targetUserIds: e.endUserId, variables: { choice: e.cardContext.cardTemplateName } } }") });
    let scoped = trigger(&world, &flow, completed, scoped).await;
    let unscoped = trigger(&world, &flow, completed, json!({ "actionFlowConfigId": elsewhere })).await;
    let endless =
        trigger(&world, &flow, completed, json!({ "mapping": script("function map() { for (;;) {} }") })).await;
    let crowd = "function map(e) { return { targetUserIds: [e.endUserId, 'another'] } }";
    let crowd = trigger(&world, &flow, completed, json!({ "mapping": script(crowd) })).await;
    let card = world.send_card("order-17", CUSTOMER).await;
    complete(&world, &card, CUSTOMER).await;
    let mut started = runs(&world, &flow).await;
    started.sort();
    let run = |choice: &str| format!("{CUSTOMER} false 1 {{\"choice\": \"{choice}\"}}");
    assert_eq!(started, [run("Offer"), run("yes")]);
    for (trigger, expected) in [
        (&structured, &["started"][..]),
        (&other, &["condition"]),
        (&scoped, &["started"]),
        (&unscoped, &[]),
        (&endless, &["mapping_failed"]),
        (&crowd, &["mapping_failed"]),
    ] {
        assert_eq!(outcomes(&world, trigger).await, expected);
    }
    assert_eq!(world.test.column("SELECT 'left' AS value FROM trigger_firings").await, [""; 0]);
    let again = world.send_card("order-18", CUSTOMER).await;
    complete(&world, &again, CUSTOMER).await;
    assert_eq!(outcomes(&world, &structured).await, ["duplicate", "started"], "the mapped invocation is the key");
    let query = "query($id: ID!) { trigger(id: $id) { eventName where recentEvents(outcome: \"started\") { flowInvocationId } } }";
    let seen = world.ask(query, json!({ "id": structured })).await["trigger"].clone();
    assert_eq!(seen["recentEvents"], json!([{ "flowInvocationId": "mine" }]));
    assert_eq!((&seen["eventName"], &seen["where"]["op"]), (&json!("card-completed"), &json!("is")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_does_not_start_itself_and_chains_end_at_the_hop_limit() {
    let world = World::start().await;
    let ping = telling_flow(&world, "Ping", "ping").await;
    let pong = telling_flow(&world, "Pong", "pong").await;
    let repair = telling_flow(&world, "Repair", "repaired").await;
    let own = trigger(&world, &ping, "custom:ping", json!({})).await;
    trigger(&world, &pong, "custom:ping", json!({})).await;
    let last = trigger(&world, &ping, "custom:pong", json!({})).await;
    // The refusal must not begin the chain anew.
    let failed = trigger(&world, &repair, "action-flow-failed", json!({})).await;
    trigger(&world, &ping, "custom:repaired", json!({})).await;
    let body = json!({ "flows": [{ "target": { "type": "user", "targetUserIds": CUSTOMER } }] });
    let path = world.path(&format!("action-flow/{ping}/start"));
    assert_eq!(world.test.client.call(&world.events, "POST", &path, body).await.status, 200);
    world.test.settle().await;
    let hops = world.test.column("SELECT hops::text AS value FROM runs ORDER BY hops").await;
    assert_eq!(hops, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    assert_eq!(outcomes(&world, &own).await, ["own-flow"; 5]);
    assert_eq!(outcomes(&world, &last).await[0], "hop-limit");
    assert_eq!(outcomes(&world, &failed).await, ["hop-limit"]);
    let refusals = world.test.column("SELECT payload AS value FROM events WHERE name = 'action-flow-failed'").await;
    let refusal: Value = serde_json::from_str(&refusals[0]).unwrap();
    assert_eq!((refusals.len(), &refusal["properties"]), (1, &json!({ "reason": "hop-limit" })));
    assert_eq!(refusal["platformContext"]["flowConfigId"], ping);
    assert_eq!(refusal["endUserId"], CUSTOMER);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_event_starts_a_test_run_and_only_for_test_users() {
    let world = World::start().await;
    let flow = quiet_flow(&world, "Thanks").await;
    let id = trigger(&world, &flow, "action-flow-started", json!({ "actionFlowConfigId": world.flow })).await;
    let to_nobody =
        json!({ "type": "script", "source": "function map() { return { targetUserIds: 'somebody-else' } }" });
    let other = trigger(
        &world,
        &flow,
        "action-flow-started",
        json!({ "actionFlowConfigId": world.flow, "mapping": to_nobody }),
    )
    .await;
    let owner = world.test.column("SELECT user_id AS value FROM members").await.remove(0);
    let body = json!({ "flows": [{ "target": { "type": "user", "targetUserIds": owner }, "payload": { "variables": { "amount": "1" } } }] });
    let path = world.path(&format!("action-flow/{}/test", world.flow));
    assert_eq!(world.test.client.call(&world.events, "POST", &path, body).await.status, 200);
    world.test.settle().await;
    assert_eq!(runs(&world, &flow).await, [format!("{owner} true 1 {{\"choice\": \"-\"}}")]);
    assert_eq!(outcomes(&world, &id).await, ["started"]);
    assert_eq!(outcomes(&world, &other).await, ["ignored"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_that_is_not_published_waits_and_a_disabled_trigger_is_silent() {
    let world = World::start().await;
    let query = "mutation($env: ID!, $d: JSONObject!) { createFlow(input: { environmentId: $env, name: \"Draft\", definition: $d }) { flow { id } } }";
    let steps =
        json!({ "variables": [], "steps": [{ "key": "done", "parent": "start", "type": "end", "config": {} }] });
    let made = world.ask(query, json!({ "env": world.env, "d": steps })).await;
    let flow = text(&made["createFlow"]["flow"]["id"]);
    let id = trigger(&world, &flow, "card-published", json!({})).await;
    world.send_card("one", CUSTOMER).await;
    assert_eq!(outcomes(&world, &id).await, ["not_published"]);
    world.ask("mutation($id: ID!) { publishFlow(input: { flowId: $id }) { version } }", json!({ "id": flow })).await;
    world.send_card("two", CUSTOMER).await;
    assert_eq!(outcomes(&world, &id).await, ["started", "not_published"]);
    world.ask(MODE, json!({ "id": id, "mode": "DISABLED" })).await;
    world.send_card("three", CUSTOMER).await;
    assert_eq!(outcomes(&world, &id).await.len(), 2);
    assert_eq!(world.refused(MODE, json!({ "id": id, "mode": "TEST" })).await, ["conflict"]);
    world.ask("mutation($id: ID!) { deleteTrigger(id: $id) { id } }", json!({ "id": id })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_cannot_work_are_refused_and_mappings_are_tried_on_envelopes() {
    let world = World::start().await;
    let flow = quiet_flow(&world, "Thanks").await;
    let refused = async |settings: Value| {
        let mut input = json!({ "flowId": flow, "kind": "EVENT" });
        for (name, value) in settings.as_object().unwrap() {
            input[name] = value.clone();
        }
        let answer = world.test.client.graphql(&world.session, MAKE, json!({ "input": input })).await.json();
        answer["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|error| text(&error["extensions"]["pointer"]))
            .collect::<Vec<_>>()
    };
    assert_eq!(refused(json!({})).await, ["/eventName"]);
    assert_eq!(refused(json!({ "eventName": "card-publish" })).await, ["/eventName"]);
    let bad = json!({ "eventName": "card-published", "where": { "value": "x", "op": "like", "to": 1 } });
    assert_eq!(refused(bad).await, ["/where/op"]);
    let elsewhere = "tmpl_01h455vb4pex5vsknk084sn02q";
    assert_eq!(
        refused(json!({ "eventName": "card-published", "cardTemplateId": elsewhere })).await,
        ["/cardTemplateId"]
    );
    assert_eq!(
        refused(json!({ "eventName": "card-published", "allowedAddresses": ["::1"] })).await,
        ["/allowedAddresses"]
    );
    assert_eq!(refused(json!({ "kind": "WEBHOOK", "eventName": "card-published" })).await, ["/eventName"]);

    let envelope = json!({ "id": "evt_1", "endUserId": "a", "properties": { "buttonName": "x" } });
    let query =
        "query($input: PreviewMappingInput!) { previewMapping(input: $input) { output errors { path message } } }";
    let preview = async |mapping: Value| {
        let input = json!({ "environmentId": world.env, "kind": "EVENT", "sample": envelope, "mapping": mapping });
        world.ask(query, json!({ "input": input })).await["previewMapping"].clone()
    };
    let mapped = preview(json!({ "type": "none" })).await;
    assert_eq!(mapped["output"], json!({ "targetUserIds": ["a"], "variables": { "buttonName": "x" } }));
    let many = json!({ "type": "structured", "properties": { "targetUserIds": { "value": ["a", "b"] } } });
    assert_eq!(preview(many).await["errors"][0]["path"], "/targetUserIds");

    let owner = world.test.column("SELECT user_id AS value FROM members").await.remove(0);
    let id = make(&world, &flow, "card-completed", json!({})).await;
    let sample = json!({ "id": id, "sample": { "endUserId": owner, "properties": {} } });
    let set = "mutation($id: ID!, $sample: JSON!) { setTriggerSample(input: { id: $id, sample: $sample }) { warnings { path } } }";
    assert_eq!(world.ask(set, sample).await["setTriggerSample"]["warnings"], json!([]));
    let test = "mutation($id: ID!) { testTrigger(triggerId: $id) { accepted ignored } }";
    assert_eq!(world.ask(test, json!({ "id": id })).await["testTrigger"], json!({ "accepted": 1, "ignored": 0 }));
    let arm = "mutation($id: ID!) { armTriggerCapture(triggerId: $id) { trigger { id } } }";
    assert_eq!(world.refused(arm, json!({ "id": id })).await, ["conflict"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_beside_each_other_start_each_run_once() {
    let world = World::start().await;
    let flow = quiet_flow(&world, "Thanks").await;
    trigger(&world, &flow, "action-flow-started", json!({ "actionFlowConfigId": world.flow })).await;
    let beside = world.test.beside(|_| {}).await;
    for round in 0..3 {
        let customers: Vec<String> = (0..40).map(|number| format!("user-{round}-{number}")).collect();
        assert_eq!(world.start_flow(&format!("round-{round}"), &json!(customers)).await.status, 200);
        tokio::join!(world.test.settle(), beside.settle());
    }
    world.test.settle().await;
    assert_eq!(runs(&world, &flow).await.len(), 120);
}
