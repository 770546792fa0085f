//! §8.7: changing the variables of runs, and what their open cards show then.

use serde_json::{Value, json};

use crate::support::client::Answer;
use crate::support::socket::Socket;
use crate::support::world::{CUSTOMER, World, text};

const FEED: &str = "subscription($c: ID!){ feed(containerId:$c){ __typename
    ... on FeedSnapshot { version cards { id topCard } }
    ... on FeedPatch { from to upserts { reason position card { id topCard } } removals { cardId } } } }";

async fn put(world: &World, body: Value) -> Answer {
    let path = world.path(&format!("action-flow/{}/variables", world.flow));
    world.test.client.call(&world.events, "PUT", &path, body).await
}

fn shown(card: &Value) -> &str {
    card["topCard"]["elements"][1]["attributes"]["text"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_card_is_rendered_anew_and_its_feed_is_told() {
    let world = World::start().await;
    let card = world.send_card("order-17", CUSTOMER).await;
    let mut socket = Socket::open(&world.test.origin, world.init(CUSTOMER)).await;
    socket.subscribe("1", FEED, json!({ "c": world.container })).await;
    let snapshot = socket.next("1").await["feed"].clone();
    assert_eq!(shown(&snapshot["cards"][0]), "You have 12.00 to spend.");

    let body = json!({ "flowInvocationId": "order-17", "variables": { "amount": "1234.5" } });
    assert_eq!(put(&world, body.clone()).await.data(), json!({ "runs": 1, "cards": 1 }));
    let patch = socket.next("1").await["feed"].clone();
    assert_eq!(patch["from"], snapshot["version"]);
    assert_eq!((&patch["upserts"][0]["reason"], &patch["upserts"][0]["card"]["id"]), (&json!("UPDATE"), &json!(card)));
    assert_eq!(shown(&patch["upserts"][0]["card"]), "You have 1,234.50 to spend.");
    assert_eq!(patch["removals"], json!([]));

    assert_eq!(put(&world, body).await.data(), json!({ "runs": 1, "cards": 0 }), "nothing comes out different");
    let events = world.test.events().await;
    assert_eq!(events.iter().filter(|event| event.contains("card-updated")).count(), 1, "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_cards_other_customers_and_other_runs_stay_as_they_are() {
    let world = World::start().await;
    world.start_flow("both", &json!(["ana", "ben"])).await;
    world.test.settle().await;
    world.send_card("other", "ana").await;
    let only_ana = json!({ "flowInvocationId": "both", "userId": "ana", "variables": { "amount": 5 } });
    assert_eq!(put(&world, only_ana).await.data(), json!({ "runs": 1, "cards": 1 }));
    let dismissed =
        "UPDATE cards SET status = 'dismissed', closed_at = now() WHERE user_id = 'ben' RETURNING id::text AS value";
    world.test.column(dismissed).await;
    let both = json!({ "flowInvocationId": "both", "variables": { "amount": 6 } });
    assert_eq!(put(&world, both).await.data(), json!({ "runs": 2, "cards": 1 }));
    let shown = "SELECT user_id || ' ' || (variables->>'amount') AS value FROM cards ORDER BY user_id, invocation";
    assert_eq!(world.test.column(shown).await, ["ana 6", "ana 12", "ben 12"]);
    let lifecycle =
        world.test.column("SELECT DISTINCT lifecycle_id::text AS value FROM cards WHERE invocation = 'other'").await;
    assert_eq!(lifecycle.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_and_changes_nothing() {
    let world = World::start().await;
    world.send_card("order-17", CUSTOMER).await;
    for (body, code, pointer) in [
        (json!({ "variables": {} }), "validation_failed", ""),
        (
            json!({ "flowInvocationId": "order-17", "flowInstanceId": "run_x", "variables": {} }),
            "validation_failed",
            "",
        ),
        (json!({ "flowInvocationId": "order-17" }), "validation_failed", "/variables"),
        (
            json!({ "flowInvocationId": "order-17", "variables": { "amount": "much" } }),
            "validation_failed",
            "/variables/amount",
        ),
        (
            json!({ "flowInvocationId": "order-17", "variables": { "amount": "x".repeat(70_000) } }),
            "validation_failed",
            "/variables",
        ),
        (json!({ "flowInvocationId": "never", "variables": {} }), "not_found", ""),
        (json!({ "flowInvocationId": "order-17", "userId": "nobody", "variables": {} }), "not_found", ""),
    ] {
        let answer = put(&world, body.clone()).await;
        let error = answer.json()["errors"][0].clone();
        assert_eq!(text(&error["code"]), code, "{body} {error}");
        assert_eq!(error["source"]["pointer"].as_str().unwrap_or_default(), pointer, "{body} {error}");
    }
    assert_eq!(world.test.column("SELECT variables->>'amount' AS value FROM cards").await, ["12"]);
    assert_eq!(
        world.test.column("SELECT id::text AS value FROM runs WHERE variables IS NOT NULL").await,
        Vec::<String>::new()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_workbench_does_it_by_graphql() {
    const UPDATE: &str =
        "mutation($input: UpdateRunVariablesInput!) { updateRunVariables(input: $input) { runs cards } }";
    let world = World::start().await;
    world.send_card("order-17", CUSTOMER).await;
    let run = world.test.column("SELECT lifecycle_id::text AS value FROM runs").await;
    assert_eq!(run.len(), 1);
    let input = json!({ "flowId": world.flow, "flowInvocationId": "order-17", "variables": { "amount": 7 } });
    assert_eq!(
        world.ask(UPDATE, json!({ "input": input })).await["updateRunVariables"],
        json!({ "runs": 1, "cards": 1 })
    );
}
