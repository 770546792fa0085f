//! The live record: each event once, in the order of the commits, from any place on.

use std::time::Duration;

use cardwire::ids::{EnvId, EventId, Id};
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use serde_json::{Value, json};

use crate::support::socket::Socket;
use crate::support::world::{CUSTOMER, World, text};

const FOLLOW: &str = "subscription($env: ID!, $filter: AnalyticsEventFilter, $after: String) {
    analyticsEvents(environmentId: $env, filter: $filter, after: $after) { cursor event { id name endUserId event } } }";

async fn follow(world: &World, filter: Value, after: Option<&str>) -> Socket {
    let mut socket = Socket::open(&world.test.origin, json!({ "authToken": world.session })).await;
    socket.subscribe("1", FOLLOW, json!({ "env": world.env, "filter": filter, "after": after })).await;
    socket
}

/// The next event: its name, its customer, and the cursor behind it.
async fn next(socket: &mut Socket) -> (String, String, String) {
    let next = socket.next("1").await["analyticsEvents"].clone();
    let event = &next["event"];
    assert_eq!(event["event"]["id"], event["id"], "the envelope comes along");
    (text(&event["name"]), text(&event["endUserId"]), text(&next["cursor"]))
}

/// A follower that stands: it has heard of a customer called `probe`, and may hear of more of them.
async fn standing(world: &World, filter: Value) -> (Socket, String) {
    let mut socket = follow(world, filter, None).await;
    for number in 0.. {
        assert_eq!(world.start_flow(&format!("probe-{number}"), &json!("probe")).await.status, 200);
        if let Ok(heard) = tokio::time::timeout(Duration::from_millis(200), next(&mut socket)).await {
            assert_eq!(heard.1, "probe", "what was before is not told");
            return (socket, heard.2);
        }
    }
    unreachable!("the loop has no end")
}

/// The customers of the next events, probes left out.
async fn customers(socket: &mut Socket, count: usize) -> Vec<String> {
    let mut heard = Vec::new();
    while heard.len() < count {
        let (_, customer, _) = next(socket).await;
        if customer != "probe" {
            heard.push(customer);
        }
    }
    heard
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_hears_each_event_once_and_goes_on_where_it_stopped() {
    let world = World::start().await;
    assert_eq!(world.start_flow("before", &json!(CUSTOMER)).await.status, 200);
    let filter = json!({ "types": ["action-flow-started"] });
    let (socket, cursor) = standing(&world, filter.clone()).await;
    drop(socket);
    let everyone: Vec<String> = (0..5).map(|number| format!("user-{number}")).collect();
    for customer in &everyone {
        assert_eq!(world.start_flow(&format!("missed-{customer}"), &json!(customer)).await.status, 200);
    }
    let mut again = follow(&world, filter, Some(&cursor)).await;
    assert_eq!(customers(&mut again, everyone.len()).await, everyone);
    assert_eq!(world.start_flow("live", &json!("live")).await.status, 200);
    assert_eq!(customers(&mut again, 1).await, ["live"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_commits_late_is_heard_too() {
    let world = World::start().await;
    let (mut socket, _) = standing(&world, json!({ "types": ["action-flow-started", "custom:late"] })).await;
    let url = world.test.app.config().database_url.clone().unwrap();
    let mut late = AsyncPgConnection::establish(url.expose()).await.unwrap();
    let env = world.env.parse::<EnvId>().unwrap().uuid();
    let id = EventId::parse("evt_01h455vb4pex5vsknk084sn02q").unwrap();
    late.batch_execute(&format!(
        "BEGIN; INSERT INTO events (environment_id, id, name, custom, end_user_id, occurred_at, received_at, is_test, payload)
         VALUES ('{env}', '{}', 'late', true, 'slow', '2026-01-01Z', '2026-01-01Z', false, '{{\"id\":\"{id}\"}}')",
        id.uuid()
    ))
    .await
    .unwrap();
    assert_eq!(world.start_flow("quick", &json!("quick")).await.status, 200);
    let early = tokio::time::timeout(Duration::from_millis(100), customers(&mut socket, 1)).await;
    assert!(early.is_err(), "nothing is passed while an older transaction is open: {early:?}");
    late.batch_execute("COMMIT").await.unwrap();
    assert_eq!(customers(&mut socket, 2).await, ["slow", "quick"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_read_events_does_not_follow_them() {
    let world = World::start().await;
    let powerless = world.powerless_member().await;
    for (token, filter, after, expected) in [
        (&powerless, json!({}), None, "not_found"),
        (&world.session, json!({ "types": ["nonsense"] }), None, "validation_failed"),
        (&world.session, json!({}), Some("nonsense"), "validation_failed"),
    ] {
        let mut socket = Socket::open(&world.test.origin, json!({ "authToken": token })).await;
        socket.subscribe("1", FOLLOW, json!({ "env": world.env, "filter": filter, "after": after })).await;
        let refused = socket.hear().await.to_string();
        assert!(refused.contains(expected), "{refused}");
    }
}
