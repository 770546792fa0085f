//! Connections end with what let them in, on every server, and callers have a limited number of them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::events::EventStream;
use crate::support::socket::{Heard, Socket};
use crate::support::world::{CUSTOMER, World, access_token, with_loopback};

const COUNT: &str = "subscription($c: ID!){ cardCount(containerId: $c) { totalCount } }";
/// Within this time every server must have noticed.
const NOTICED: Duration = Duration::from_secs(5);

async fn closed(socket: &mut Socket) -> (u16, String) {
    match socket.hear_any().await {
        Heard::Closed(code, reason) => (code, reason),
        Heard::Json(message) => panic!("not closed: {message}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_key_closes_its_connections_everywhere() {
    let world = World::start().await;
    let other = world.test.beside(|_| {}).await;
    let mut near = Socket::open(&world.test.origin, world.init(CUSTOMER)).await;
    let mut far = Socket::open(&other.origin, world.init(CUSTOMER)).await;
    let query = json!({ "query": COUNT, "variables": { "c": world.container } });
    let mut events = EventStream::open(&world, CUSTOMER, &query).await;
    assert_eq!(events.next().await["data"]["cardCount"]["totalCount"], 0);
    let mut member = Socket::open(&world.test.origin, json!({ "authToken": world.session })).await;
    world.test.advance(NOTICED).await;
    near.say(json!({ "type": "ping" })).await;
    assert_eq!(near.hear().await, json!({ "type": "pong" }), "a key that holds closes nothing");

    let delete = "mutation($id: ID!){ deleteSdkApiKey(id: $id) { __typename } }";
    world.ask(delete, json!({ "id": world.key_id })).await;
    world.test.advance(NOTICED).await;
    other.settle().await;
    assert_eq!(closed(&mut near).await.0, 4403);
    assert_eq!(closed(&mut far).await.0, 4403);
    assert!(events.breaks_off().await);
    member.say(json!({ "type": "ping" })).await;
    assert_eq!(member.hear().await, json!({ "type": "pong" }), "the key was not theirs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_key_lets_in_anew() {
    let world = World::start().await;
    let mut socket = Socket::open(&world.test.origin, world.init(CUSTOMER)).await;
    let update = "mutation($id: ID!){ updateSdkApiKey(input: {id: $id, allowedIssuers: [\"us\"]}) { apiKey { id } } }";
    world.ask(update, json!({ "id": world.key_id })).await;
    world.test.advance(NOTICED).await;
    assert_eq!(closed(&mut socket).await.0, 4403);
    let mut socket = Socket::connect(&world.test.origin).await;
    socket.say(json!({ "type": "connection_init", "payload": world.init(CUSTOMER) })).await;
    assert_eq!(socket.close_code().await, 4403, "the token names no issuer");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_and_credentials_end_their_connections() {
    let world = World::start().await;
    let credential = world.credential(&world.env, "EVENTS").await;
    let token = access_token(&world.test, &credential).await;
    let mut server = Socket::open(&world.test.origin, json!({ "authToken": token })).await;
    let session = world.powerless_member().await;
    let mut member = Socket::open(&world.test.origin, json!({ "authToken": session })).await;
    world.test.client.graphql(&session, "mutation { signOut { __typename } }", Value::Null).await.data();
    world.test.advance(NOTICED).await;
    assert_eq!(closed(&mut member).await.0, 4403);

    let mut expiring = Socket::open(&world.test.origin, json!({ "authToken": token })).await;
    let delete = "mutation($id: ID!){ deleteApiCredential(id: $id) { __typename } }";
    world.ask(delete, json!({ "id": credential["clientId"] })).await;
    world.test.advance(NOTICED).await;
    assert_eq!(closed(&mut server).await.0, 4403);
    assert_eq!(closed(&mut expiring).await.0, 4403);

    let mut last = Socket::open(&world.test.origin, json!({ "authToken": world.workbench })).await;
    world.test.app.clock().advance(Duration::from_secs(3600));
    last.say(json!({ "type": "ping" })).await;
    assert_eq!(last.close_code().await, 4403, "an access token ends after an hour");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_has_so_many_connections() {
    let world = World::with(|config| {
        with_loopback(config);
        config.connections.per_customer = 2;
        config.connections.per_address = 5;
    })
    .await;
    let first = Socket::open(&world.test.origin, world.init(CUSTOMER)).await;
    let _second = Socket::open(&world.test.origin, world.init(CUSTOMER)).await;
    let mut third = Socket::connect(&world.test.origin).await;
    third.say(json!({ "type": "connection_init", "payload": world.init(CUSTOMER) })).await;
    assert_eq!(third.close_code().await, 1013, "clients come again later");
    let _other = Socket::open(&world.test.origin, world.init("somebody-else")).await;
    drop((first, third));
    crate::support::until("two places are free", || world.test.app.hub().sockets().count() == 2).await;
    let _again = Socket::open(&world.test.origin, world.init(CUSTOMER)).await;
    let _silent = [Socket::connect(&world.test.origin).await, Socket::connect(&world.test.origin).await];
    let refused = Socket::connect_as(&world.test.origin, Some("graphql-transport-ws")).await;
    assert!(refused.is_err(), "the address has as many connections as it may have");
    // Requests that end at once are no connections.
    assert_eq!(world.sdk(CUSTOMER, "{ me { userId } }", Value::Null).await.status, 200);
}
