//! The table of states, row by row, with exactly the events of each.

use std::time::Duration;

use serde_json::json;

use super::{act, answer, bulk, card_events, send, status, steps};
use crate::support::world::World;

const HOUR: Duration = Duration::from_secs(3600);

fn embargoed() -> serde_json::Value {
    json!({ "embargo": "2026-01-01T01:00:00Z" })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_is_published_and_completed() {
    let world = World::start().await;
    let card = send(&world, "a", json!({ "embargo": "2025-12-31T23:00:00Z" })).await;
    assert_eq!(status(&world, &card).await, "active", "a past embargo is ignored");
    act(&world, "complete", &card, answer()).await.data();
    assert_eq!(status(&world, &card).await, "completed");
    assert_eq!(steps(&world).await, ["card-published - active", "card-completed active completed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embargo_ends_and_the_expiry_wins_when_both_are_due() {
    let world = World::start().await;
    let card = send(&world, "a", embargoed()).await;
    let late = send(&world, "b", json!({ "embargo": "2026-01-01T01:00:00Z", "expires": "2026-01-01T01:00:00Z" })).await;
    assert_eq!(status(&world, &card).await, "embargoed");
    for action in ["dismiss", "snooze"] {
        let more = if action == "snooze" { json!({ "interval": "PT5M" }) } else { json!({}) };
        assert_eq!(act(&world, action, &card, more).await.errors(), ["card_closed"]);
    }
    world.test.advance(HOUR).await;
    assert_eq!(status(&world, &card).await, "active");
    assert_eq!(status(&world, &late).await, "expired");
    let mut seen = steps(&world).await;
    seen.sort();
    assert_eq!(
        seen,
        [
            "card-embargoed - embargoed",
            "card-embargoed - embargoed",
            "card-expired embargoed expired",
            "card-published embargoed active",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snooze_ends_and_may_be_repeated() {
    let world = World::start().await;
    let card = send(&world, "a", json!({ "expires": "2026-01-01T04:00:00Z" })).await;
    act(&world, "snooze", &card, json!({ "interval": "PT1H" })).await.data();
    assert_eq!(act(&world, "complete", &card, answer()).await.errors(), ["card_closed"]);
    world.test.advance(HOUR).await;
    assert_eq!(status(&world, &card).await, "active");
    act(&world, "snooze", &card, json!({ "until": "2026-01-01T03:00:00Z" })).await.data();
    world.test.app.clock().advance(4 * HOUR);
    world.test.settle().await;
    assert_eq!(status(&world, &card).await, "expired");
    assert_eq!(
        steps(&world).await,
        [
            "card-published - active",
            "card-snoozed active snoozed",
            "card-unsnoozed snoozed active",
            "card-snoozed active snoozed",
            "card-expired snoozed expired",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_active_card_expires() {
    let world = World::start().await;
    let card = send(&world, "a", json!({ "expiresInterval": "PT1H" })).await;
    world.test.app.clock().advance(HOUR);
    assert_eq!(act(&world, "complete", &card, answer()).await.errors(), ["card_closed"], "due, though nobody rang");
    world.test.settle().await;
    assert_eq!(steps(&world).await, ["card-published - active", "card-expired active expired"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_close_cards_in_every_open_state() {
    let world = World::start().await;
    for (verb, closed) in [("complete", "completed"), ("dismiss", "dismissed"), ("cancel", "cancelled")] {
        for state in ["embargoed", "active", "snoozed"] {
            let options = if state == "embargoed" { embargoed() } else { json!({}) };
            let invocation = format!("{verb}-{state}");
            let card = send(&world, &invocation, options).await;
            if state == "snoozed" {
                act(&world, "snooze", &card, json!({ "interval": "PT1H" })).await.data();
            }
            let answer = bulk(&world, verb, &format!("flowInvocationId={invocation}")).await.data();
            assert_eq!(answer, json!({ "matched": 1, "changed": 1, "remaining": 0, "cardInstanceIds": [card] }));
            assert_eq!(status(&world, &card).await, closed);
            assert_eq!(steps(&world).await.last().unwrap(), &format!("card-{closed} {state} {closed}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_is_final() {
    let world = World::start().await;
    let card = send(&world, "a", json!({})).await;
    act(&world, "dismiss", &card, json!({})).await.data();
    for (action, more) in [
        ("complete", answer()),
        ("dismiss", json!({})),
        ("snooze", json!({ "interval": "PT1H" })),
        ("vote", json!({ "direction": "UP" })),
    ] {
        assert_eq!(act(&world, action, &card, more).await.errors(), ["card_closed"], "{action}");
    }
    let answer = bulk(&world, "cancel", "flowInvocationId=a").await.data();
    assert_eq!(answer, json!({ "matched": 0, "changed": 0, "remaining": 0, "cardInstanceIds": [] }));
    assert_eq!(card_events(&world).await, ["card-published", "card-dismissed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_that_cannot_be_made_is_an_error_and_nothing_else() {
    let world = World::start().await;
    let steps =
        json!([{ "key": "offer", "parent": "start", "type": "sendCard", "config": { "templateId": world.template } }]);
    let flow = world.create_flow("Bare", json!({ "variables": [], "steps": steps })).await;
    let body = json!({ "flows": [{ "target": { "type": "user", "targetUserIds": "user-9" } }] });
    let path = world.path(&format!("action-flow/{flow}/start"));
    world.test.client.call(&world.events, "POST", &path, body).await.data();
    world.test.settle().await;
    assert_eq!(card_events(&world).await, ["card-error"]);
    assert_eq!(super::list(&world, "userId=user-9").await, json!([]));
}
