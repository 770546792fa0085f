//! What customers wait for is not held up by what is done in bulk, and the operator sees both.

use cardwire::flows::{Engine, Gauges, Reactor, Starter};
use cardwire::worker::Worker;
use diesel_async::RunQueryDsl;
use serde_json::json;

use crate::support::until_async;
use crate::support::world::{World, text};

/// A card, a wait for its answer, and a card that thanks; started for `tapper`. Gives the first card.
async fn begin_talk(world: &World) -> String {
    let steps = json!([
        { "key": "offer", "parent": "start", "type": "sendCard", "config": { "templateId": world.template } },
        { "key": "reply", "parent": "offer", "type": "wait", "config": { "for": "cardAction", "step": "offer",
            "events": ["card-completed"], "timeout": "P1D" } },
        { "key": "thanks", "parent": "reply", "path": "matched", "type": "sendCard",
          "config": { "templateId": world.template } },
    ]);
    let variables = json!([{ "name": "amount", "type": "number" }]);
    let talk = world.create_flow("Talk", json!({ "variables": variables, "steps": steps })).await;
    let start = json!({ "flows": [{ "flowInvocationId": "talk", "target": { "type": "user", "targetUserIds": "tapper" },
        "payload": { "variables": { "amount": "1" } } }] });
    let path = world.path(&format!("action-flow/{talk}/start"));
    assert_eq!(world.test.client.call(&world.events, "POST", &path, start).await.status, 200);
    world.test.settle().await;
    let cards = world.test.client.get(&world.events, &world.path("cards?flowInvocationId=talk")).await.data();
    text(&cards[0]["cardInstanceId"])
}

/// Sends a file with one row for `slow` and lets it begin a run.
async fn begin_bulk(world: &World) {
    let authorization = format!("Bearer {}", world.events);
    let headers = [("authorization", authorization.as_str()), ("content-type", "text/csv")];
    let path = world.path(&format!("action-flow/{}/csv-task", world.flow));
    let rows = "target.targetUserIds,payload.variables.amount\nslow,2\n";
    assert_eq!(world.test.client.send("POST", &path, &headers, rows).await.status, 202);
    Starter.run(&world.test.app).await.unwrap();
    assert_eq!(world.test.column("SELECT lane::text AS value FROM tokens WHERE status = 'ready'").await, ["3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_customer_waits_for_is_executed_beside_a_round_of_bulk_starts() {
    let world = World::start().await;
    world.send_card("first", "slow").await;
    let card = begin_talk(&world).await;
    begin_bulk(&world).await;
    let app = &world.test.app;
    let holder = app.read().await.unwrap();
    let held =
        "SELECT * FROM feed_heads WHERE customer_id = (SELECT id FROM customers WHERE user_id = 'slow') FOR UPDATE";
    for statement in ["BEGIN", held] {
        diesel::sql_query(statement).execute(&mut &*holder).await.unwrap();
    }
    let bulk = Engine.run(app);
    let tap = async {
        until_async("the bulk round is held up", async || {
            world.test.column("SELECT count(*)::text AS value FROM pg_locks WHERE NOT granted").await != ["0"]
        })
        .await;
        let complete = "mutation($container: ID!, $card: ID!) { completeCard(input: {
            containerId: $container, cardId: $card, buttonName: \"accept\", values: { choice: \"yes\" } }) { ok } }";
        let tapped = world.sdk("tapper", complete, json!({ "container": world.container, "card": card })).await.json();
        assert_eq!(tapped["data"]["completeCard"]["ok"], true, "{tapped}");
        // What the reader of events does as soon as the round is over.
        let wake = "UPDATE tokens SET status = 'ready', lane = 0 WHERE wait_card IS NOT NULL";
        diesel::sql_query(wake).execute(&mut &*app.read().await.unwrap()).await.unwrap();
        Reactor.run(app).await.unwrap();
        Reactor.run(app).await.unwrap();
        let answered = "SELECT count(*)::text AS value FROM cards WHERE user_id = 'tapper'";
        assert_eq!(world.test.column(answered).await, ["2"], "the tap was answered");
        let slow = world.test.column("SELECT count(*)::text AS value FROM cards WHERE user_id = 'slow'").await;
        diesel::sql_query("ROLLBACK").execute(&mut &*holder).await.unwrap();
        slow
    };
    let (bulk, slow) = tokio::join!(bulk, tap);
    assert_eq!(slow, ["1"], "the bulk round was still held up when the tap was answered");
    bulk.unwrap();
    world.test.settle().await;
    assert_eq!(world.test.column("SELECT count(*)::text AS value FROM cards WHERE user_id = 'slow'").await, ["2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_sees_what_is_due_and_what_waits() {
    let world = World::start().await;
    // Figures are kept from the first time that somebody asks for them.
    world.test.client.send("GET", "/metrics", &[], "").await;
    begin_talk(&world).await;
    begin_bulk(&world).await;
    world.test.app.clock().advance(std::time::Duration::from_secs(7));
    Gauges::default().run(&world.test.app).await.unwrap();
    let shown = world.test.client.send("GET", "/metrics", &[], "").await.text;
    for line in [
        "cardwire_flow_tokens_due{lane=\"bulk\"} 1",
        "cardwire_flow_tokens_due_age_seconds{lane=\"bulk\"} 7",
        "cardwire_flow_tokens_due{lane=\"timer\"} 0",
        "cardwire_flow_tokens_waiting 1",
        "cardwire_flow_runs_total{state=\"started\"} 2",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line} is not in\n{shown}");
    }
}
