//! GraphQL over server-sent events: one operation per connection, the same subscriptions.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::TestApp;
use crate::support::client::Answer;
use crate::support::events::EventStream;
use crate::support::world::{CUSTOMER, World};

const COUNT: &str = "subscription($c: ID!){ cardCount(containerId: $c) { totalCount } }";

async fn post(test: &TestApp, query: &str) -> Answer {
    let headers = [("content-type", "application/json"), ("accept", "text/event-stream")];
    test.client.send("POST", "/graphql", &headers, json!({ "query": query }).to_string()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_is_its_results_and_their_end() {
    let test = TestApp::start().await;
    let answer = post(&test, "{ __typename }").await;
    assert_eq!(
        (answer.status, &answer.headers["content-type"]),
        (200, &"text/event-stream; charset=utf-8".parse().unwrap())
    );
    assert_eq!(answer.headers["cache-control"], "no-cache, no-transform");
    assert_eq!(answer.text, "event: next\ndata: {\"data\":{\"__typename\":\"Query\"}}\n\nevent: complete\ndata:\n\n");
    // Why a document is not executed is told in the stream, where every client can read it.
    for (query, code) in [("{", "bad_request"), ("{ nothing }", "bad_request"), ("subscription { a }", "bad_request")] {
        let answer = post(&test, query).await;
        assert!(answer.status == 200 && answer.text.contains(code), "{}", answer.text);
        assert!(answer.text.ends_with("event: complete\ndata:\n\n"), "{}", answer.text);
    }
    // What is no request, and who may not ask, is told by the status.
    let headers = [("content-type", "application/json"), ("accept", "text/event-stream")];
    assert_eq!(test.client.send("POST", "/graphql", &headers, "{}").await.status, 400);
    let headers = [&headers[..], &[("authorization", "Bearer nonsense")]].concat();
    assert_eq!(test.client.send("POST", "/graphql", &headers, "{}").await.status, 401);
    let accept = [("accept", "text/event-stream")];
    assert_eq!(test.client.send("GET", "/graphql?query=mutation%7B__typename%7D", &accept, "").await.status, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_lives_as_long_as_its_token() {
    let world = World::start().await;
    let query = json!({ "query": COUNT, "variables": { "c": world.container } });
    let mut events = EventStream::open(&world, CUSTOMER, &query).await;
    assert_eq!(events.next().await["data"]["cardCount"]["totalCount"], 0);
    world.send_card("a", CUSTOMER).await;
    assert_eq!(events.next().await["data"]["cardCount"]["totalCount"], 1);
    world.test.app.clock().advance(Duration::from_secs(3600));
    let dismiss = "mutation($c: ID!, $card: ID!){ dismissCard(input: {containerId: $c, cardId: $card}) { ok } }";
    let cards =
        world.sdk(CUSTOMER, "query($c: ID!){ feed(containerId: $c){ cards { id } } }", json!({ "c": world.container }));
    let card = cards.await.data()["feed"]["cards"][0]["id"].clone();
    world.sdk(CUSTOMER, dismiss, json!({ "c": world.container, "card": card })).await.data();
    assert!(events.breaks_off().await, "the stream goes on after the end of its token");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_breaks_streams_off() {
    let world = World::start().await;
    let query = json!({ "query": COUNT, "variables": { "c": world.container } });
    let mut events = EventStream::open(&world, CUSTOMER, &query).await;
    assert_eq!(events.next().await["data"], json!({ "cardCount": { "totalCount": 0 } }));
    let ended = tokio::time::timeout(Duration::from_secs(20), async {
        tokio::join!(world.test.stop(), async { assert!(events.breaks_off().await) })
    });
    assert!(ended.await.is_ok(), "the server does not stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_subscription_says_why_and_ends() {
    let world = World::start().await;
    let query = json!({ "query": COUNT, "variables": { "c": "ctnr_00000000000000000000000000" } });
    let mut events = EventStream::open(&world, CUSTOMER, &query).await;
    assert_eq!(events.next().await["errors"][0]["extensions"]["code"], "not_found");
    assert_eq!(events.next().await, Value::Null, "the stream completes");
}
