//! Who may follow what, how long, and how often.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::socket::Socket;
use crate::support::world::{CUSTOMER, World};

const COUNT: &str = "subscription($c: ID!){ cardCount(containerId: $c) { visibleCount totalCount } }";

#[tokio::test(flavor = "multi_thread")]
async fn a_key_must_be_granted_to_the_container() {
    let world = World::start().await;
    let query = "query($c: ID!){ cardCount(containerId: $c) { totalCount } }";
    assert_eq!(
        world.sdk(CUSTOMER, query, json!({ "c": "ctnr_00000000000000000000000000" })).await.errors(),
        ["not_found"]
    );
    let mut socket = Socket::open(&world.test.origin, world.init(CUSTOMER)).await;
    socket.subscribe("1", COUNT, json!({ "c": world.container })).await;
    assert_eq!(socket.next("1").await["cardCount"]["totalCount"], 0);
    let revoke =
        "mutation($id: ID!){ setContainerKeys(input: {containerId: $id, apiKeyIds: []}) { streamContainer { id } } }";
    world.ask(revoke, json!({ "id": world.container })).await;
    assert_eq!(world.sdk(CUSTOMER, query, json!({ "c": world.container })).await.errors(), ["key_not_granted"]);
    let message = socket.hear().await;
    assert_eq!(
        (&message["type"], &message["payload"][0]["extensions"]["code"]),
        (&json!("error"), &json!("key_not_granted"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_and_metrics_follow_the_cards() {
    let world = World::start().await;
    let mut socket = Socket::open(&world.test.origin, world.init(CUSTOMER)).await;
    socket.subscribe("1", COUNT, json!({ "c": world.container })).await;
    assert_eq!(socket.next("1").await["cardCount"], json!({ "visibleCount": 0, "totalCount": 0 }));
    let card = world.send_card("a", CUSTOMER).await;
    assert_eq!(socket.next("1").await["cardCount"], json!({ "visibleCount": 1, "totalCount": 1 }));
    let query = "query($t: String){ userMetrics(ifToken: $t) { unchanged token cards {
        total { active unseen unseenCardIds } byContainer { containerId active activeCardIds } } } }";
    let metrics = world.sdk(CUSTOMER, query, Value::Null).await.data()["userMetrics"].clone();
    assert_eq!(metrics["cards"]["total"], json!({ "active": 1, "unseen": 1, "unseenCardIds": [card] }));
    assert_eq!(
        metrics["cards"]["byContainer"],
        json!([{ "containerId": world.container, "active": 1, "activeCardIds": [card] }])
    );
    let again = world.sdk(CUSTOMER, query, json!({ "t": metrics["token"] })).await.data()["userMetrics"].clone();
    assert_eq!((&again["unchanged"], &again["cards"]), (&json!(true), &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_with_its_token_unless_it_is_renewed() {
    let world = World::start().await;
    let renew = "mutation($t: String!){ renewConnection(authToken: $t) { ok expiresAt } }";
    let mut socket = Socket::open(&world.test.origin, world.init(CUSTOMER)).await;
    world.test.app.clock().advance(Duration::from_secs(3600 - 30));
    socket.say(json!({ "type": "ping" })).await;
    assert_eq!(socket.hear().await, json!({ "type": "pong" }));
    let warning = socket.hear().await;
    assert_eq!((&warning["type"], &warning["payload"]["type"]), (&json!("ping"), &json!("tokenExpiring")));
    socket.subscribe("1", renew, json!({ "t": world.token_for("somebody-else") })).await;
    assert_eq!(socket.hear().await["payload"]["errors"][0]["extensions"]["code"], "unauthenticated");
    assert_eq!(socket.hear().await["type"], "complete");
    socket.subscribe("1", renew, json!({ "t": world.token_for(CUSTOMER) })).await;
    assert_eq!(socket.next("1").await["renewConnection"]["ok"], true);
    assert_eq!(socket.hear().await["type"], "complete");
    world.test.app.clock().advance(Duration::from_secs(1800));
    socket.say(json!({ "type": "ping" })).await;
    assert_eq!(socket.hear().await, json!({ "type": "pong" }));
    world.test.app.clock().advance(Duration::from_secs(3600));
    socket.say(json!({ "type": "ping" })).await;
    assert_eq!(socket.close_code().await, 4403);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_subscriptions_and_a_reused_id() {
    let world = World::start().await;
    let mut socket = Socket::open(&world.test.origin, world.init(CUSTOMER)).await;
    for id in 0..20 {
        socket.subscribe(&id.to_string(), COUNT, json!({ "c": world.container })).await;
        socket.next(&id.to_string()).await;
    }
    socket.subscribe("x", COUNT, json!({ "c": world.container })).await;
    let refused = socket.hear().await;
    assert_eq!(
        (&refused["type"], &refused["payload"][0]["extensions"]["code"]),
        (&json!("error"), &json!("rate_limited"))
    );
    socket.say(json!({ "type": "complete", "id": "7" })).await;
    socket.subscribe("x", COUNT, json!({ "c": world.container })).await;
    socket.next("x").await;
    socket.subscribe("x", COUNT, json!({ "c": world.container })).await;
    assert_eq!(socket.close_code().await, 4409);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_may_do_only_so_much_at_once() {
    let world = World::start().await;
    for _ in 0..60 {
        assert_eq!(world.sdk(CUSTOMER, "{ me { userId } }", Value::Null).await.data()["me"]["userId"], CUSTOMER);
    }
    let answer = world.sdk(CUSTOMER, "{ me { userId } }", Value::Null).await;
    assert_eq!((answer.status, answer.errors()), (429, vec!["rate_limited".to_owned()]));
    assert_eq!(answer.headers["retry-after"], "1");
    assert_eq!(world.sdk("somebody-else", "{ me { userId } }", Value::Null).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_theme_needs_only_the_key() {
    let world = World::start().await;
    let query =
        "query($c: ID!, $e: String){ theme(containerId: $c, ifEtag: $e) { unchanged light dark fontFamilies etag } }";
    let ask = async |etag: Value| {
        let headers = [("x-cardwire-api-key", "web")];
        let variables = json!({ "c": world.container, "e": etag });
        world.test.client.graphql_with(&headers, query, variables).await.data()["theme"].clone()
    };
    let theme = ask(Value::Null).await;
    assert_eq!((&theme["unchanged"], &theme["light"]), (&json!(false), &theme["dark"]));
    assert!(theme["light"]["card"].is_object());
    assert_eq!(ask(theme["etag"].clone()).await["light"], Value::Null);
    let answer = world.test.client.graphql_with(&[], query, json!({ "c": world.container })).await;
    assert_eq!(answer.errors(), ["unauthenticated"]);
}
