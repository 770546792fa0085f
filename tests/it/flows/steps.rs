//! Every step type: what it does, what it leaves behind, and which path the run takes.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::world::World;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn step(key: &str, parent: &str, kind: &str, config: &Value) -> Value {
    json!({ "key": key, "parent": parent, "type": kind, "config": config })
}

fn on(path: &str, mut step: Value) -> Value {
    step["path"] = path.into();
    step
}

fn card(world: &World, key: &str, parent: &str) -> Value {
    step(key, parent, "sendCard", &json!({ "templateId": world.template }))
}

fn listen(events: &Value, more: &Value) -> Value {
    let mut config = json!({ "for": "cardAction", "step": "offer", "events": events, "timeout": "P1D" });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    step("reply", "offer", "wait", &config)
}

fn end(key: &str, parent: &str, path: &str) -> Value {
    on(path, json!({ "key": key, "parent": parent, "type": "end" }))
}

/// Publishes a flow of these steps and starts it for `ana`.
async fn run(world: &World, steps: Value) -> String {
    let variables = json!([{ "name": "amount", "type": "number" }]);
    let flow = world.create_flow("Steps", json!({ "variables": variables, "steps": steps })).await;
    start(world, &flow, "x", "ana").await;
    flow
}

async fn start(world: &World, flow: &str, invocation: &str, user: &str) {
    let body = json!({ "flows": [{ "flowInvocationId": invocation, "target": { "type": "user", "targetUserIds": user },
        "payload": { "variables": { "amount": "12" } } }] });
    let path = world.path(&format!("action-flow/{flow}/start"));
    assert_eq!(world.test.client.call(&world.events, "POST", &path, body).await.status, 200);
    world.test.settle().await;
}

/// `key path output` of each finished step, without the ids in outputs.
async fn history(world: &World) -> Vec<String> {
    let query = "SELECT step_key || ' ' || status || ' ' || COALESCE(path, '-') || ' ' || COALESCE(message, '')
            || (output::jsonb - 'cardInstanceId' - 'eventId' - 'notificationId')::text AS value
        FROM run_steps ORDER BY finished_at, step_key";
    world.test.column(query).await
}

async fn card_of(world: &World, step: &str) -> String {
    let cards = world.test.client.get(&world.events, &world.path("cards")).await.data();
    let ids = world
        .test
        .column(&format!("SELECT output ->> 'cardInstanceId' AS value FROM run_steps WHERE step_key = '{step}'"))
        .await;
    assert!(cards.as_array().unwrap().iter().any(|card| card["cardInstanceId"] == ids[0].as_str()));
    ids[0].clone()
}

async fn complete(world: &World, card: &str, button: &str, choice: &str) {
    let query = "mutation($container: ID!, $card: ID!, $button: String!, $values: JSONObject) {
        completeCard(input: { containerId: $container, cardId: $card, buttonName: $button, values: $values }) { ok } }";
    let variables =
        json!({ "container": world.container, "card": card, "button": button, "values": { "choice": choice } });
    let answer = world.sdk("ana", query, variables).await.json();
    assert_eq!(answer["data"]["completeCard"]["ok"], true, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_takes_the_first_path_that_fits() {
    let world = World::start().await;
    let is = |op: &str, to: i64| json!({ "value": "variables.amount", "op": op, "to": to });
    let conditions = json!([
        { "path": "rich", "if": is("gt", 100) },
        { "path": "some", "if": { "all": [is("gt", 1), { "not": is("gt", 100) }] } },
        { "path": "any", "if": is("gt", 0) },
    ]);
    let steps = json!([
        step("choose", "start", "branch", &json!({ "conditions": conditions })),
        end("a", "choose", "rich"),
        on("some", card(&world, "b", "choose")),
        on("some", card(&world, "c", "choose")),
        end("d", "choose", "any"),
        end("e", "choose", "default"),
        step("again", "b", "branch", &json!({ "conditions": [{ "path": "no", "if": is("lt", 0) }] })),
        on("default", step("told", "again", "sendEvent", &json!({ "eventName": "told" }))),
    ]);
    run(&world, steps).await;
    assert_eq!(
        history(&world).await,
        [
            "again completed default {\"path\": \"default\"}",
            "b completed - {\"status\": \"active\"}",
            "c completed - {\"status\": \"active\"}",
            "choose completed some {\"path\": \"some\"}",
            "told completed - {}",
        ]
    );
    assert_eq!(world.test.column("SELECT status AS value FROM runs").await, ["completed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_that_begins_with_a_decision_has_made_it_when_it_is_started() {
    let world = World::start().await;
    let some =
        json!({ "conditions": [{ "path": "some", "if": { "value": "variables.amount", "op": "gt", "to": 1 } }] });
    let next = |key: &str, parent: &str| on("some", step(key, parent, "branch", &some));
    let steps = json!([
        step("pause", "start", "wait", &json!({ "for": "duration", "duration": "P1D" })),
        // Backwards by name, so that the order of names is not that of the steps.
        step("z", "start", "branch", &some),
        next("y", "z"),
        next("x", "y"),
        on("some", card(&world, "offer", "x")),
        end("never", "x", "default"),
        json!({ "key": "last", "parent": "pause", "type": "end" }),
    ]);
    let variables = json!([{ "name": "amount", "type": "number" }]);
    let flow = world.create_flow("Decided", json!({ "variables": variables, "steps": steps })).await;
    let body = json!({ "flows": [{ "target": { "type": "user", "targetUserIds": "ana" },
        "payload": { "variables": { "amount": "12" } } }] });
    let path = world.path(&format!("action-flow/{flow}/start"));
    assert_eq!(world.test.client.call(&world.events, "POST", &path, body).await.status, 200);

    let open = "SELECT step_key || ' ' || status AS value FROM tokens ORDER BY step_key";
    assert_eq!(world.test.column(open).await, ["pause waiting"]);
    assert_eq!(world.test.column("SELECT step_key AS value FROM cards").await, ["offer"]);
    let listed = "query($env: ID!) { flowRuns(environmentId: $env) { nodes { status steps { key path } } } }";
    let listed = world.ask(listed, json!({ "env": world.env })).await;
    let run = &listed["flowRuns"]["nodes"][0];
    assert_eq!(run["status"], "RUNNING", "{listed}");
    let decided: Vec<&str> =
        run["steps"].as_array().unwrap().iter().map(|step| step["key"].as_str().unwrap()).collect();
    assert_eq!(decided[..3], ["z", "y", "x"], "steps of one instant stand in the order in which they were taken");
    assert_eq!(
        world.test.events().await.iter().filter(|name| name.starts_with("action-flow")).collect::<Vec<_>>(),
        [
            "action-flow-started",
            "action-flow-step-completed",
            "action-flow-step-completed",
            "action-flow-step-completed",
            "action-flow-step-completed"
        ]
    );

    world.test.settle().await;
    assert_eq!(world.test.column(open).await, ["pause waiting"]);
    world.test.advance(DAY).await;
    world.test.settle().await;
    assert_eq!(world.test.column("SELECT status AS value FROM runs").await, ["completed"]);
    assert_eq!(world.test.column("SELECT step_key AS value FROM run_steps ORDER BY finished_at, place").await.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_with_the_answer_it_asks_for() {
    let world = World::start().await;
    let answer = json!({ "value": "properties.values.choice", "op": "is", "to": "yes" });
    let steps = json!([
        card(&world, "offer", "start"),
        listen(&json!(["card-completed"]), &json!({ "buttonName": "accept", "where": answer })),
        on(
            "matched",
            step(
                "thanks",
                "reply",
                "sendEvent",
                &json!({ "eventName": "thanked", "properties": { "choice": "{{ steps.offer.response.choice }}" } })
            )
        ),
        end("late", "reply", "timeout"),
    ]);
    run(&world, steps).await;
    assert_eq!(history(&world).await, ["offer completed - {\"status\": \"active\"}"]);
    assert_eq!(world.test.column("SELECT status AS value FROM tokens").await, ["waiting"]);
    complete(&world, &card_of(&world, "offer").await, "accept", "yes").await;
    world.test.settle().await;
    assert_eq!(
        history(&world).await[1..],
        ["reply completed matched {\"event\": \"card-completed\", \"reason\": \"matched\"}", "thanks completed - {}"]
    );
    let told = world.test.column("SELECT payload AS value FROM events WHERE custom").await;
    let told: Value = serde_json::from_str(&told[0]).unwrap();
    assert_eq!(told["eventType"], "custom");
    assert_eq!(told["eventName"], "thanked");
    assert_eq!(told["properties"], json!({ "choice": "yes" }));
    assert_eq!(told["analyticsEvent"], Value::Null);
    assert_eq!(told["endUserId"], "ana");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_answer_closes_the_wait_at_once() {
    let world = World::start().await;
    let answer = json!({ "value": "properties.values.choice", "op": "is", "to": "yes" });
    let steps = json!([
        card(&world, "offer", "start"),
        listen(&json!(["card-completed"]), &json!({ "where": answer })),
        end("good", "reply", "matched"),
        on("timeout", step("sad", "reply", "sendEvent", &json!({ "eventName": "sad" }))),
    ]);
    run(&world, steps).await;
    complete(&world, &card_of(&world, "offer").await, "accept", "no").await;
    world.test.settle().await;
    assert_eq!(
        history(&world).await[1..],
        ["reply completed timeout {\"event\": null, \"reason\": \"closed\"}", "sad completed - {}"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_times_out_and_what_came_before_it_counts() {
    let world = World::start().await;
    let wait = step("rest", "offer", "wait", &json!({ "for": "duration", "duration": "PT1H" }));
    let mut reply = listen(&json!(["card-displayed", "card-dismissed"]), &json!({}));
    reply["parent"] = "rest".into();
    let late = step(
        "patience",
        "offer",
        "wait",
        &json!({ "for": "cardAction", "step": "offer", "events": ["card-voted-up"], "timeout": "PT2H" }),
    );
    let steps = json!([card(&world, "offer", "start"), wait, reply, end("seen", "reply", "matched"), late]);
    run(&world, steps).await;
    let query = "mutation($events: [TrackedEventInput!]!) { trackEvents(events: $events) { processedIds } }";
    let event = json!({ "id": "7f0e4c1e-1f60-4b7e-8a3e-0c8f0a4b1d2e", "name": "card-displayed",
        "containerId": world.container, "cardId": card_of(&world, "offer").await });
    let answer = world.sdk("ana", query, json!({ "events": [event] })).await.json();
    assert!(answer["errors"].is_null(), "{answer}");
    let late_flow = world
        .create_flow(
            "Late",
            json!({ "variables": [{ "name": "amount", "type": "number" }],
                "steps": [card(&world, "offer", "start"), listen(&json!(["card-voted-up"]), &json!({}))] }),
        )
        .await;
    start(&world, &late_flow, "late", "bo").await;
    world.test.advance(Duration::from_secs(3600)).await;
    let done = history(&world).await;
    assert_eq!(done[2], "reply completed matched {\"event\": \"card-displayed\", \"reason\": \"matched\"}");
    assert_eq!(done[4], "seen completed - {}", "{done:?}");
    let state = "SELECT status AS value FROM runs WHERE user_id = 'ana'";
    assert_eq!(world.test.column(state).await, ["completed"], "an end stops other waits");

    world.test.advance(DAY - Duration::from_secs(3601)).await;
    let waiting = "SELECT step_key AS value FROM tokens";
    assert_eq!(world.test.column(waiting).await, ["reply"]);
    world.test.advance(Duration::from_secs(1)).await;
    assert_eq!(world.test.column(waiting).await, [""; 0]);
    let last = history(&world).await.pop().unwrap();
    assert_eq!(last, "reply completed timeout {\"event\": null, \"reason\": \"timeout\"}");
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_change_cards_go_and_notifications_are_recorded() {
    let world = World::start().await;
    let profile = json!({ "city": "City {{ variables.amount }}", "name": "Ana", "email": null });
    let steps = json!([
        card(&world, "offer", "start"),
        card(&world, "other", "offer"),
        step("profile", "other", "updateCustomer", &json!({ "profile": profile })),
        step("withdraw", "profile", "cancelCards", &json!({ "steps": ["offer"] })),
        step("rest", "withdraw", "cancelCards", &json!({ "steps": "all" })),
        step(
            "push",
            "rest",
            "sendNotification",
            &json!({ "title": "Hi {{ profile.name }}", "body": "{{ profile.city }}",
            "detail": { "amount": "{{ variables.amount }}" }, "containerIds": [world.container], "cardStep": "offer" })
        ),
        step("bad", "push", "updateCustomer", &json!({ "profile": { "timezone": "{{ profile.city }}" } })),
    ]);
    run(&world, steps).await;
    assert_eq!(
        history(&world).await,
        [
            "bad failed - timezone: is not an IANA time zone name{}",
            "offer completed - {\"status\": \"active\"}",
            "other completed - {\"status\": \"active\"}",
            "profile completed - {}",
            "push completed - {\"status\": \"pending\"}",
            "rest completed - {\"cancelled\": 1}",
            "withdraw completed - {\"cancelled\": 1}",
        ]
    );
    assert_eq!(
        world.test.column("SELECT name || city AS value FROM customers WHERE user_id = 'ana'").await,
        ["AnaCity 12"]
    );
    assert_eq!(world.test.column("SELECT DISTINCT status AS value FROM cards").await, ["cancelled"]);
    let push = "SELECT title || '|' || body || '|' || detail || '|' || cardinality(container_ids) || '|' || (card_id IS NOT NULL)
        AS value FROM notifications";
    assert_eq!(world.test.column(push).await, ["Hi Ana|City 12|{\"amount\": 12}|1|true"]);
    let input = "SELECT input::jsonb::text AS value FROM run_steps WHERE step_key = 'profile'";
    assert_eq!(
        world.test.column(input).await,
        ["{\"profile\": {\"city\": \"City 12\", \"name\": \"Ana\", \"email\": null}}"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_takes_the_options_of_its_step() {
    let world = World::start().await;
    let config = json!({ "templateId": world.template, "priority": 2, "streamIds": [world.stream],
        "embargo": { "date": "2026-01-02", "time": "09:00", "timezone": "Pacific/Auckland" }, "expiresInterval": "P2D",
        "targetPlatforms": ["Web"], "sendNotifications": true, "variables": { "amount": "{{ variables.amount }}" } });
    run(&world, json!([step("offer", "start", "sendCard", &config)])).await;
    let options = "SELECT priority || ' ' || cardinality(stream_ids) || ' ' || to_char(embargo_at AT TIME ZONE 'UTC', 'DD HH24') || ' '
        || to_char(expires_at AT TIME ZONE 'UTC', 'DD HH24') || ' ' || target_platforms::text || ' ' || send_notifications AS value
        FROM cards";
    assert_eq!(world.test.column(options).await, ["2 1 01 20 03 00 {Web} true"]);
    let input = "SELECT input::jsonb::text AS value FROM run_steps";
    assert_eq!(world.test.column(input).await, ["{\"variables\": {\"amount\": 12}}"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn environments_take_turns_within_a_lane() {
    let world = World::start().await;
    let other = world.another_environment("Production").await;
    // A thousand bulk tokens of one environment stand before the one of the other.
    world
        .test
        .column(&format!(
            "WITH run AS (
                 INSERT INTO runs (environment_id, id, flow_id, flow_version, lifecycle_id, batch_id, customer_id, user_id,
                                   invocation, is_test, status, open_steps, started_at, finished_at)
                 SELECT (SELECT id FROM environments WHERE name = CASE WHEN n <= 1000 THEN 'Sandbox' ELSE 'Production' END),
                        gen_random_uuid(), gen_random_uuid(), 1, gen_random_uuid(), gen_random_uuid(), gen_random_uuid(),
                        'u', 'i', false, 'cancelled', 0, now(), now()
                 FROM generate_series(1, 1001) AS n RETURNING environment_id, id),
             token AS (
                 INSERT INTO tokens (environment_id, run_id, step_key, status, lane, wake_at)
                 SELECT environment_id, id, 's', 'ready', 3, '2025-01-01'::timestamptz
                        + (environment_id = (SELECT id FROM environments WHERE name = 'Production'))::int * interval '1 day'
                 FROM run RETURNING run_id)
             SELECT count(*)::text AS value FROM token -- {other}"
        ))
        .await;
    use cardwire::worker::Worker;
    cardwire::flows::Engine.run(&world.test.app).await.unwrap();
    let left = "SELECT environments.name || ' ' || count(*) AS value FROM tokens
        JOIN environments ON environments.id = tokens.environment_id GROUP BY environments.name";
    let left = world.test.column(left).await;
    assert_eq!(left.len(), 1, "the single start did not wait for the bulk: {left:?}");
}
