//! The Cards API: lists, selectors, and the rules of bulk calls.

use serde_json::json;

use super::{bulk, card_events, list, send, send_to};
use crate::support::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_card_in_the_words_of_the_api() {
    let world = World::start().await;
    let card = send(&world, "order-17", json!({ "priority": 2 })).await;
    let cards = list(&world, &format!("flowConfigId={}&status=active&isTest=false", world.flow)).await;
    let found = &cards[0];
    assert_eq!(found["cardInstanceId"], card);
    assert_eq!(found["cardTemplateName"], "Offer");
    assert_eq!(found["cardTemplateVersion"], 1);
    assert_eq!(found["eventSource"], "live");
    assert_eq!(found["flowInvocationId"], "order-17");
    assert_eq!(found["definition"]["topCard"]["elements"][0]["attributes"]["text"], "Hello there");
    assert_eq!(
        found["payload"],
        json!({ "detail": { "amount": "12" }, "cardOptions": { "priority": 2 }, "metadata": { "order": 17 } })
    );
    assert_eq!(list(&world, "lifecycleId=card_nonsense").await, json!([]));
    assert_eq!(list(&world, "userId=nobody").await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_calls_want_a_scope_and_a_word_for_many() {
    let world = World::start().await;
    for customer in ["a", "b", "c"] {
        send_to(&world, "all", customer, json!({})).await;
    }
    assert_eq!(bulk(&world, "dismiss", "").await.errors(), ["unscoped_request"]);
    assert_eq!(bulk(&world, "dismiss", "flowInvocationId=all").await.errors(), ["multiple_required"]);
    assert_eq!(bulk(&world, "dismiss", "flowInvocationId=all&limit=1001&multiple=1").await.status, 400);
    let answer = bulk(&world, "dismiss", "flowInvocationId=all&multiple=1&limit=2").await.data();
    assert_eq!((&answer["matched"], &answer["changed"], &answer["remaining"]), (&json!(3), &json!(2), &json!(1)));
    let answer = bulk(&world, "cancel", "all=1").await.data();
    assert_eq!((&answer["matched"], &answer["changed"], &answer["remaining"]), (&json!(1), &json!(1), &json!(0)));
    let mut names = card_events(&world).await;
    names.sort();
    let published = ["card-published"; 3].map(str::to_owned);
    assert_eq!(names[..3], ["card-cancelled", "card-dismissed", "card-dismissed"].map(str::to_owned));
    assert_eq!(names[3..], published);
}

#[tokio::test(flavor = "multi_thread")]
async fn graphql_closes_cards_too() {
    let world = World::start().await;
    let card = send(&world, "a", json!({})).await;
    let query = "mutation($input: CompleteCardsInput!) { completeCards(input: $input) { matched changed remaining cardInstanceIds } }";
    let input = json!({ "environmentId": world.env, "filter": { "userId": "user-123" }, "values": { "by": "us" } });
    let made = world.ask(query, json!({ "input": input })).await;
    assert_eq!(made["completeCards"], json!({ "matched": 1, "changed": 1, "remaining": 0, "cardInstanceIds": [card] }));
    let found = world.ask("query($id: ID!) { card(id: $id) { status response } }", json!({ "id": card })).await;
    assert_eq!(found["card"], json!({ "status": "COMPLETED", "response": { "by": "us" } }));
    let refused = world.refused(query, json!({ "input": { "environmentId": world.env } })).await;
    assert_eq!(refused, ["unscoped_request"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_credentials_of_role_events_may_call() {
    let world = World::start().await;
    let answer = world.test.client.get(&world.workbench, &world.path("cards")).await;
    assert_eq!((answer.status, answer.errors()), (403, vec!["forbidden".to_owned()]));
}
