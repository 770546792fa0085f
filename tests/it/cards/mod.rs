//! Card instances: every row of the table of states with exactly its events, races, and the Cards API.

mod actions;
mod bulk;
mod lifecycle;

use cardwire::ids::{CardId, Id};
use serde_json::{Value, json};

use crate::support::client::Answer;
use crate::support::world::{CUSTOMER, World, text};

/// Starts the flow for the customer of the walk with options; the id of the card.
async fn send(world: &World, invocation: &str, options: Value) -> String {
    send_to(world, invocation, CUSTOMER, options).await
}

async fn send_to(world: &World, invocation: &str, customer: &str, options: Value) -> String {
    let body = json!({ "flows": [{ "flowInvocationId": invocation,
        "target": { "type": "user", "targetUserIds": customer },
        "payload": { "cardOptions": options, "variables": { "amount": "12" }, "metadata": { "order": 17 } } }] });
    let path = world.path(&format!("action-flow/{}/start", world.flow));
    assert_eq!(world.test.client.call(&world.events, "POST", &path, body).await.status, 200);
    world.test.settle().await;
    let cards = list(world, &format!("flowInvocationId={invocation}&userId={customer}")).await;
    text(&cards[0]["cardInstanceId"])
}

async fn list(world: &World, query: &str) -> Value {
    world.test.client.get(&world.events, &world.path(&format!("cards?{query}"))).await.data()
}

/// The state of a card, from its row: sessions and tokens end while tests move the clock.
async fn status(world: &World, card: &str) -> String {
    let id = card.parse::<CardId>().unwrap().uuid();
    world.test.column(&format!("SELECT status AS value FROM cards WHERE id = '{id}'")).await.remove(0)
}

/// An action of the customer of the walk: `complete`, `dismiss`, `snooze` or `vote`, with more input.
async fn act(world: &World, action: &str, card: &str, more: Value) -> Answer {
    act_as(world, CUSTOMER, action, card, more).await
}

async fn act_as(world: &World, customer: &str, action: &str, card: &str, more: Value) -> Answer {
    let mut input = json!({ "containerId": world.container, "cardId": card });
    input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let kind = format!("{}{}CardInput", action[..1].to_uppercase(), &action[1..]);
    let query =
        format!("mutation($input: {kind}!) {{ {action}Card(input: $input) {{ ok event {{ id name timestamp }} }} }}");
    world.sdk(customer, &query, json!({ "input": input })).await
}

fn answer() -> Value {
    json!({ "buttonName": "accept", "values": { "choice": "yes" } })
}

/// A bulk call of the Cards API.
async fn bulk(world: &World, verb: &str, query: &str) -> Answer {
    let path = world.path(&format!("cards/{verb}?{query}"));
    world.test.client.call(&world.events, "PUT", &path, json!({})).await
}

/// The names of the events about cards, in the order in which they were written.
async fn card_events(world: &World) -> Vec<String> {
    world.test.events().await.into_iter().filter(|name| name.starts_with("card-")).collect()
}

/// Previous and new status of each card event that has them.
async fn steps(world: &World) -> Vec<String> {
    world
        .test
        .column(
            "SELECT name || ' ' || COALESCE(payload::json->'cardContext'->>'previousStatus', '-') || ' '
                 || (payload::json->'cardContext'->>'cardInstanceStatus') AS value
             FROM events WHERE name LIKE 'card-%' ORDER BY received_at, xid, id",
        )
        .await
}
