//! What leaves an environment with its events, how long they stay, and how those of tests go.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::world::{CUSTOMER, World, text};

const DAY: Duration = Duration::from_secs(24 * 3600);

pub(super) async fn export_only(world: &World, settings: Value) {
    let mut input = settings;
    input["environmentId"] = json!(world.env);
    let query = "mutation($input: UpdateAnalyticsExportSettingsInput!) { updateAnalyticsExportSettings(input: $input) {
        settings { testCards requestPayload cardResponseData } } }";
    world.ask(query, json!({ "input": input })).await;
}

async fn read(world: &World, query: &str) -> Vec<Value> {
    let answer = world.test.client.get(&world.events, &world.path(&format!("analytics{query}"))).await;
    answer.data()["events"].as_array().unwrap().clone()
}

/// Sends a test card to the owner.
pub(super) async fn test_card(world: &World) {
    let owner = world.test.column("SELECT user_id AS value FROM members").await.remove(0);
    let body = json!({ "flows": [{ "target": { "type": "user", "targetUserIds": owner },
        "payload": { "variables": { "amount": "1" } } }] });
    let path = world.path(&format!("action-flow/{}/test", world.flow));
    assert_eq!(world.test.client.call(&world.events, "POST", &path, body).await.status, 200);
    world.test.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_time_read_obeys_the_export_settings() {
    let world = World::start().await;
    let card = world.send_card("order-17", CUSTOMER).await;
    let complete = format!(
        "mutation {{ completeCard(input: {{ containerId: \"{}\", cardId: \"{card}\",
            userLocalTimestamp: \"2026-01-01T13:00:00.591+13:00\", buttonName: \"accept\",
            values: {{ choice: \"yes\" }} }}) {{ ok }} }}",
        world.container
    );
    assert_eq!(world.sdk(CUSTOMER, &complete, json!({})).await.data()["completeCard"]["ok"], true);
    test_card(&world).await;
    let all = read(&world, "").await;
    assert!(all.iter().any(|event| event["platformContext"]["isTest"] == true));
    assert!(all.iter().any(|event| event["properties"]["values"]["choice"] == "yes"));
    assert!(all.iter().any(|event| event["platformContext"]["eventDetail"]["amount"] == "12"));

    export_only(&world, json!({ "testCards": false, "requestPayload": false, "cardResponseData": false })).await;
    let some = read(&world, "").await;
    assert!(some.len() < all.len() && !some.is_empty());
    for event in &some {
        assert_eq!(event["platformContext"]["isTest"], false);
        for hidden in ["eventDetail", "eventNotificationDetail", "payloadMetadata"] {
            assert_eq!(event["platformContext"][hidden], Value::Null, "{event}");
        }
        assert_eq!(event["properties"]["values"], Value::Null, "{event}");
    }
    let completed = read(&world, "?types=card-completed").await;
    assert_eq!(completed[0]["properties"], json!({ "buttonName": "accept" }), "the rest stays");
    assert_eq!(read(&world, "?isTest=true").await, [Value::Null; 0]);
    export_only(&world, json!({ "testCards": true })).await;
    assert!(!read(&world, "?isTest=true").await.is_empty());
    let query = "query($env: ID!) { analyticsExportSettings(environmentId: $env) { testCards requestPayload cardResponseData } }";
    let seen = world.ask(query, json!({ "env": world.env })).await;
    let expected = json!({ "testCards": true, "requestPayload": false, "cardResponseData": false });
    assert_eq!(seen["analyticsExportSettings"], expected);
}

async fn keep_for(world: &World, days: i32) -> Value {
    let query = "mutation($days: Int!) { updateOrganisation(input: { eventRetentionDays: $days }) {
        organisation { eventRetentionDays } } }";
    world.ask(query, json!({ "days": days })).await["updateOrganisation"]["organisation"]["eventRetentionDays"].clone()
}

async fn first_day(world: &World) -> Vec<String> {
    world.test.column("SELECT relname::text AS value FROM pg_class WHERE relname = 'events_20260101'").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_is_dropped_when_its_time_is_over_and_every_reader_has_passed_it() {
    let world = World::start().await;
    world.send_card("old", CUSTOMER).await;
    assert_eq!(keep_for(&world, 30).await, json!(30));
    world.test.advance(30 * DAY).await;
    assert_eq!(first_day(&world).await.len(), 1, "the whole day has to be old enough");
    world.test.column("INSERT INTO consumers (name) VALUES ('slow') RETURNING name AS value").await;
    world.test.advance(DAY).await;
    assert_eq!(first_day(&world).await.len(), 1, "somebody has not read it");
    world.test.column("DELETE FROM consumers WHERE name = 'slow' RETURNING name AS value").await;
    world.test.advance(Duration::from_secs(3600)).await;
    assert_eq!(first_day(&world).await, [""; 0]);
    assert_eq!(world.test.column("SELECT name AS value FROM events WHERE received_at < '2026-01-02'").await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organisation_that_keeps_less_than_another_loses_only_its_own() {
    let world = World::start().await;
    world.send_card("old", CUSTOMER).await;
    keep_for(&world, 30).await;
    world
        .test
        .column(
            "WITH org AS (INSERT INTO organisations (id, name, created_at, updated_at)
                 VALUES ('0190163d-8694-739b-aea5-966c26f8ad91', 'Other', now(), now()) RETURNING id),
             env AS (INSERT INTO environments (id, organisation_id, name, created_at, updated_at)
                 SELECT '0190163d-8694-739b-aea5-966c26f8ad92', id, 'Theirs', now(), now() FROM org RETURNING id)
             INSERT INTO events (environment_id, id, name, occurred_at, received_at, is_test, payload)
             SELECT id, '0190163d-8694-739b-aea5-966c26f8ad93', 'kept', '2026-01-01', '2026-01-01', false, '{}' FROM env
             RETURNING name AS value",
        )
        .await;
    world.test.settle().await;
    world.test.advance(32 * DAY).await;
    assert_eq!(first_day(&world).await.len(), 1);
    assert_eq!(world.test.column("SELECT name AS value FROM events WHERE received_at < '2026-01-02'").await, ["kept"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn test_data_goes_in_the_background_and_live_data_stays() {
    let world = World::start().await;
    let live = world.send_card("live", CUSTOMER).await;
    test_card(&world).await;
    world.test.advance(Duration::from_secs(60)).await;
    let before = world.test.app.clock().now().to_string();
    world.test.advance(Duration::from_secs(60)).await;
    test_card(&world).await;
    let count =
        async |what: &str| world.test.column(&format!("SELECT count(*)::text AS value FROM {what}")).await.remove(0);
    assert_eq!(count("cards WHERE is_test").await, "2");
    let young = "events WHERE is_test AND occurred_at >= '2026-01-01T00:01:00Z'";
    let (kept, live_events) = (count(young).await, count("events WHERE NOT is_test").await);
    let old = count("events WHERE is_test AND occurred_at < '2026-01-01T00:01:00Z'").await;
    assert!(old != "0" && kept != "0");

    let query =
        "mutation($env: ID!, $before: DateTime!) { deleteTestData(input: { environmentId: $env, before: $before }) {
        deletion { taskId status cards events finishedAt } } }";
    let begun =
        world.ask(query, json!({ "env": world.env, "before": before })).await["deleteTestData"]["deletion"].clone();
    assert_eq!((&begun["status"], &begun["finishedAt"]), (&json!("running"), &Value::Null));
    world.test.settle().await;
    let query = "query($env: ID!, $task: ID!) { testDataDeletion(environmentId: $env, taskId: $task) { status cards events finishedAt } }";
    let over = world.ask(query, json!({ "env": world.env, "task": begun["taskId"] })).await["testDataDeletion"].clone();
    assert_eq!((&over["status"], &over["cards"]), (&json!("complete"), &json!(1)));
    assert_eq!(over["events"].to_string(), old);
    assert!(over["finishedAt"].is_string());
    assert_eq!((count("cards WHERE is_test").await.as_str(), count(young).await), ("1", kept));
    assert_eq!(count("events WHERE NOT is_test").await, live_events);
    let cards = world.test.client.get(&world.events, &world.path("cards?flowInvocationId=live")).await.data();
    assert_eq!(text(&cards[0]["cardInstanceId"]), live);
}
