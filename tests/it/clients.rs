//! Clients that others wrote, from the npm registry: what they can do with the server, they do here.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::support::node;
use crate::support::proxy::Proxy;
use crate::support::world::{CUSTOMER, World, access_token, text};

/// Runs one script of `tests/clients/feed` against a world of its own, through a wire that it can have cut.
async fn run(script: &str) {
    let directory = node::packages("feed");
    let world = World::start().await;
    let shop = world.credential(&world.env, "EVENTS").await;
    let proxy = Proxy::before(&world.test.origin).await;
    let input = json!({ "origin": proxy.origin(), "apiKey": "web", "container": world.container });
    let world = Mutex::new(world);
    let answer = async |ask: &Value| {
        let mut world = world.lock().await;
        let answer = perform(&world, &proxy, ask).await;
        if ask["do"] == "advance" {
            // The clock was moved past the end of the access token.
            world.events = access_token(&world.test, &shop).await;
        }
        answer
    };
    node::run(&directory.join(script), &input, answer).await;
}

/// Does what a script asks for.
async fn perform(world: &World, proxy: &Proxy, ask: &Value) -> Value {
    match text(&ask["do"]).as_str() {
        "token" => json!(world.token_for(CUSTOMER)),
        "send" => json!(world.send_card(&text(&ask["name"]), CUSTOMER).await),
        "dismiss" => {
            let dismiss =
                "mutation($c: ID!, $card: ID!){ dismissCard(input: {containerId: $c, cardId: $card}) { ok } }";
            let variables = json!({ "c": world.container, "card": ask["card"] });
            world.sdk(CUSTOMER, dismiss, variables).await.data()["dismissCard"]["ok"].clone()
        }
        "held" => {
            let page = "query($c: ID!){ feed(containerId: $c){ cards { id } } }";
            let page = world.sdk(CUSTOMER, page, json!({ "c": world.container })).await.data();
            page["feed"]["cards"].as_array().unwrap().iter().map(|card| card["id"].clone()).collect()
        }
        "advance" => {
            world.test.advance(Duration::from_secs(ask["seconds"].as_u64().unwrap())).await;
            Value::Null
        }
        "cut" => {
            proxy.cut();
            Value::Null
        }
        "mend" => {
            proxy.mend();
            Value::Null
        }
        other => panic!("nobody can {other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_audit_of_graphql_http_passes() {
    run("audit.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn graphql_ws_resumes_and_renews() {
    run("graphql-ws.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn apollo_client_resumes_and_renews() {
    run("apollo.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn urql_resumes_and_renews() {
    run("urql.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn graphql_sse_resumes_and_renews() {
    run("graphql-sse.mjs").await;
}
