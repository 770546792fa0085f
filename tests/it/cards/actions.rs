//! What customers may do, what is refused and how, and who wins a race.

use serde_json::json;

use super::{act, act_as, answer, card_events, send, status};
use crate::support::client::Answer;
use crate::support::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn of_two_racing_completions_exactly_one_succeeds() {
    let world = World::start().await;
    let card = send(&world, "a", json!({})).await;
    let (one, two) = tokio::join!(act(&world, "complete", &card, answer()), act(&world, "complete", &card, answer()));
    let refused: Vec<String> =
        [one, two].iter().filter(|answer| !answer.json()["errors"].is_null()).flat_map(Answer::errors).collect();
    assert_eq!(refused, ["card_closed"]);
    assert_eq!(card_events(&world).await, ["card-published", "card-completed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_point_to_the_field() {
    let world = World::start().await;
    let card = send(&world, "a", json!({ "expires": "2026-01-01T02:00:00Z" })).await;
    for (action, more, error) in [
        ("complete", json!({ "buttonName": "accept", "values": {} }), "validation_failed /values/choice"),
        (
            "complete",
            json!({ "buttonName": "accept", "values": { "choice": "yes", "x": 1 } }),
            "validation_failed /values/x",
        ),
        ("complete", json!({ "buttonName": "other", "values": {} }), "validation_failed /buttonName"),
        ("snooze", json!({ "interval": "PT2H" }), "validation_failed /interval"),
        ("snooze", json!({ "until": "2025-12-31T00:00:00Z" }), "validation_failed /until"),
        ("snooze", json!({}), "validation_failed /interval"),
        ("snooze", json!({ "interval": "PT1H", "until": "2026-01-01T01:00:00Z" }), "bad_request /until"),
        ("vote", json!({ "direction": "UP", "reason": "OTHER" }), "validation_failed /reason"),
        ("vote", json!({ "direction": "UP", "message": "great" }), "validation_failed /message"),
        ("dismiss", json!({ "userLocalTimestamp": "noon" }), "validation_failed /userLocalTimestamp"),
    ] {
        assert_eq!(act(&world, action, &card, more.clone()).await.errors(), [error], "{action} {more}");
    }
    assert_eq!(status(&world, &card).await, "active");
    assert_eq!(card_events(&world).await, ["card-published"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_of_somebody_else_or_of_another_stream_does_not_exist() {
    let world = World::start().await;
    let card = send(&world, "a", json!({})).await;
    assert_eq!(act_as(&world, "somebody", "dismiss", &card, json!({})).await.errors(), ["not_found"]);
    let made = world
        .ask(
            "mutation($env: ID!) { createStream(input: { environmentId: $env, name: \"Elsewhere\", templateIds: [] }) { stream { id } } }",
            json!({ "env": world.env }),
        )
        .await;
    let elsewhere = made["createStream"]["stream"]["id"].clone();
    let away = send(&world, "b", json!({ "targetStreamIds": [elsewhere] })).await;
    assert_eq!(act(&world, "dismiss", &away, json!({})).await.errors(), ["not_found"]);
    assert_eq!(card_events(&world).await, ["card-published", "card-published"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_must_be_granted_to_the_container() {
    let world = World::start().await;
    let card = send(&world, "a", json!({})).await;
    world
        .ask(
            "mutation($id: ID!) { setContainerKeys(input: { containerId: $id, apiKeyIds: [] }) { streamContainer { id } } }",
            json!({ "id": world.container }),
        )
        .await;
    assert_eq!(act(&world, "dismiss", &card, json!({})).await.errors(), ["key_not_granted"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vote_leaves_the_card_as_it_is() {
    let world = World::start().await;
    let card = send(&world, "a", json!({})).await;
    act(&world, "vote", &card, json!({ "direction": "UP" })).await.data();
    act(&world, "vote", &card, json!({ "direction": "DOWN", "reason": "OTHER", "message": "no" })).await.data();
    assert_eq!(status(&world, &card).await, "active");
    assert_eq!(card_events(&world).await, ["card-published", "card-voted-up", "card-voted-down"]);
}
