//! Snapshots, patches and resuming: what a client holds is what a query returns.

use serde_json::{Value, json};

use crate::support::socket::Socket;
use crate::support::world::{CUSTOMER, World, text};

pub(super) const FEED: &str =
    "subscription($c: ID!, $f: [CardFilter!], $t: String){ feed(containerId:$c, filters:$f, resumeToken:$t){ __typename
    ... on FeedSnapshot { version resumeToken visibleCount totalCount unseenCardIds cards { id } }
    ... on FeedPatch { from to resumeToken visibleCount totalCount unseenCardIds
        upserts { reason position card { id unseen } } removals { reason cardId } }
    ... on FeedResync { reason } } }";

const PAGE: &str = "query($c: ID!, $f: [CardFilter!], $t: String){ feed(containerId:$c, filters:$f, ifToken:$t){
    unchanged resumeToken visibleCount totalCount unseenCardIds cards { id unseen metadata { priority payload } } } }";

/// What a client keeps, and how it applies messages.
#[derive(Default)]
pub(super) struct Mirror {
    version: i64,
    pub cards: Vec<String>,
    pub token: String,
    counts: Value,
    unseen: Value,
}

impl Mirror {
    pub fn apply(&mut self, message: &Value) {
        match text(&message["__typename"]).as_str() {
            "FeedSnapshot" => {
                self.version = message["version"].as_i64().unwrap();
                self.cards = message["cards"].as_array().unwrap().iter().map(|card| text(&card["id"])).collect();
            }
            "FeedPatch" => {
                assert_eq!(message["from"], self.version, "patches are contiguous: {message}");
                self.version = message["to"].as_i64().unwrap();
                for removal in message["removals"].as_array().unwrap() {
                    let before = self.cards.len();
                    self.cards.retain(|card| *card != text(&removal["cardId"]));
                    assert_eq!(self.cards.len() + 1, before, "what is taken away was there: {message}");
                }
                for upsert in message["upserts"].as_array().unwrap() {
                    let id = text(&upsert["card"]["id"]);
                    self.cards.retain(|card| *card != id);
                    self.cards.insert(usize::try_from(upsert["position"].as_u64().unwrap()).unwrap(), id);
                }
            }
            _ => self.cards.clear(),
        }
        if let Some(token) = message["resumeToken"].as_str() {
            token.clone_into(&mut self.token);
            self.counts = json!([message["visibleCount"], message["totalCount"]]);
            self.unseen = message["unseenCardIds"].clone();
        }
    }

    /// Whether the client holds what a page of the feed shows.
    pub fn agrees(&self, page: &Value) -> bool {
        let cards: Vec<Value> = page["cards"].as_array().unwrap().iter().map(|card| card["id"].clone()).collect();
        self.cards == cards
            && self.counts == json!([page["visibleCount"], page["totalCount"]])
            && self.unseen == page["unseenCardIds"]
    }
}

async fn page(world: &World, variables: Value) -> Value {
    world.sdk(CUSTOMER, PAGE, variables).await.data()["feed"].clone()
}

async fn held(world: &World) -> Vec<String> {
    let page = page(world, json!({ "c": world.container })).await;
    page["cards"].as_array().unwrap().iter().map(|card| text(&card["id"])).collect()
}

async fn next(socket: &mut Socket, mirror: &mut Mirror) -> Value {
    let message = socket.next("1").await["feed"].clone();
    mirror.apply(&message);
    message
}

#[tokio::test(flavor = "multi_thread")]
async fn patches_make_what_a_query_returns() {
    let world = World::start().await;
    let mut mirror = Mirror::default();
    let mut socket = Socket::open(&world.test.origin, world.init(CUSTOMER)).await;
    socket.subscribe("1", FEED, json!({ "c": world.container })).await;
    assert_eq!(next(&mut socket, &mut mirror).await["__typename"], "FeedSnapshot");
    for invocation in ["a", "b", "c"] {
        world.send_card(invocation, CUSTOMER).await;
        let patch = next(&mut socket, &mut mirror).await;
        assert_eq!(
            (&patch["upserts"][0]["reason"], &patch["upserts"][0]["card"]["unseen"]),
            (&json!("PUBLISH"), &json!(true))
        );
        assert_eq!(mirror.cards, held(&world).await);
    }
    let dismiss =
        "mutation($c: ID!, $card: ID!){ dismissCard(input: {containerId: $c, cardId: $card, source: SWIPE}) { ok } }";
    let card = mirror.cards[1].clone();
    assert_eq!(
        world.sdk(CUSTOMER, dismiss, json!({ "c": world.container, "card": card })).await.data()["dismissCard"]["ok"],
        true
    );
    let patch = next(&mut socket, &mut mirror).await;
    assert_eq!(patch["removals"], json!([{ "reason": "DISMISS", "cardId": card }]));
    assert_eq!((&patch["totalCount"], &patch["visibleCount"]), (&json!(2), &json!(2)));
    assert_eq!(mirror.cards, held(&world).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_comes_back_gets_what_it_missed() {
    let world = World::start().await;
    let mut mirror = Mirror::default();
    let first = world.send_card("a", CUSTOMER).await;
    let mut socket = Socket::open(&world.test.origin, world.init(CUSTOMER)).await;
    socket.subscribe("1", FEED, json!({ "c": world.container })).await;
    next(&mut socket, &mut mirror).await;
    drop(socket);
    let second = world.send_card("b", CUSTOMER).await;
    let third = world.send_card("c", CUSTOMER).await;
    let dismiss = "mutation($c: ID!, $card: ID!){ dismissCard(input: {containerId: $c, cardId: $card}) { ok } }";
    for card in [&first, &second] {
        world.sdk(CUSTOMER, dismiss, json!({ "c": world.container, "card": card })).await.data();
    }

    let mut socket = Socket::open(&world.test.origin, world.init(CUSTOMER)).await;
    socket.subscribe("1", FEED, json!({ "c": world.container, "t": mirror.token })).await;
    let patch = next(&mut socket, &mut mirror).await;
    assert_eq!(
        (&patch["__typename"], &patch["removals"]),
        (&json!("FeedPatch"), &json!([{ "reason": "DISMISS", "cardId": first }]))
    );
    assert_eq!(patch["upserts"].as_array().unwrap().len(), 1, "{patch}");
    assert_eq!(
        (&patch["upserts"][0]["card"]["id"], &patch["upserts"][0]["reason"]),
        (&json!(third), &json!("PUBLISH"))
    );
    assert_eq!(mirror.cards, held(&world).await);

    // Nothing was missed: an empty patch, and the subscription goes on.
    socket.subscribe("2", FEED, json!({ "c": world.container, "t": mirror.token })).await;
    let empty = socket.next("2").await["feed"].clone();
    assert_eq!(
        (&empty["from"], &empty["to"], &empty["upserts"], &empty["removals"]),
        (&json!(mirror.version), &json!(mirror.version), &json!([]), &json!([]))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_does_not_fit_is_said_to_be_unusable() {
    let world = World::start().await;
    world.send_card("a", CUSTOMER).await;
    let token = text(&page(&world, json!({ "c": world.container })).await["resumeToken"]);
    let mut other = Socket::open(&world.test.origin, world.init("somebody-else")).await;
    let mut own = Socket::open(&world.test.origin, world.init(CUSTOMER)).await;
    let filter = json!([{ "field": "priority", "op": "eq", "value": 5 }]);
    own.subscribe("2", FEED, json!({ "c": world.container, "f": filter, "t": token })).await;
    assert_eq!(own.next("2").await["feed"], json!({ "__typename": "FeedResync", "reason": "TOKEN_UNUSABLE" }));
    assert_eq!(own.next("2").await["feed"]["__typename"], "FeedSnapshot");
    for (id, token) in [("3", token.as_str()), ("4", "nonsense")] {
        other.subscribe(id, FEED, json!({ "c": world.container, "t": token })).await;
        assert_eq!(other.next(id).await["feed"], json!({ "__typename": "FeedResync", "reason": "TOKEN_UNUSABLE" }));
        assert_eq!(other.next(id).await["feed"]["cards"], json!([]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn polling_with_a_token_says_when_nothing_changed() {
    let world = World::start().await;
    world.send_card("a", CUSTOMER).await;
    let first = page(&world, json!({ "c": world.container })).await;
    assert_eq!((&first["unchanged"], &first["totalCount"]), (&json!(false), &json!(1)));
    assert_eq!(first["cards"][0]["metadata"], json!({ "priority": 5, "payload": null }));
    let again = page(&world, json!({ "c": world.container, "t": first["resumeToken"] })).await;
    assert_eq!((&again["unchanged"], &again["cards"], &again["totalCount"]), (&json!(true), &json!([]), &json!(1)));
    assert_eq!(again["unseenCardIds"], first["unseenCardIds"]);
    world.send_card("b", CUSTOMER).await;
    let changed = page(&world, json!({ "c": world.container, "t": first["resumeToken"] })).await;
    assert_eq!((&changed["unchanged"], &changed["totalCount"]), (&json!(false), &json!(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_and_the_stream_move_cards_too() {
    let world = World::start().await;
    let mut mirror = Mirror::default();
    for invocation in ["a", "b"] {
        world.send_card(invocation, CUSTOMER).await;
    }
    let mut socket = Socket::open(&world.test.origin, world.init(CUSTOMER)).await;
    socket.subscribe("1", FEED, json!({ "c": world.container })).await;
    next(&mut socket, &mut mirror).await;
    let limit = "mutation($id: ID!, $n: Int!){ updateStreamContainer(input: {id: $id, cardLimit: $n}) { streamContainer { id } } }";
    world.ask(limit, json!({ "id": world.container, "n": 1 })).await;
    let patch = next(&mut socket, &mut mirror).await;
    assert_eq!(
        (&patch["removals"][0]["reason"], &patch["visibleCount"], &patch["totalCount"]),
        (&json!("LIMIT"), &json!(1), &json!(2))
    );
    assert_eq!(mirror.cards, held(&world).await);
    world.ask(limit, json!({ "id": world.container, "n": 5 })).await;
    let patch = next(&mut socket, &mut mirror).await;
    assert_eq!(patch["upserts"][0]["reason"], "LIMIT");
    assert_eq!(mirror.cards, held(&world).await);
    let curate = "mutation($id: ID!, $t: [ID!]!){ updateStream(input: {id: $id, templateIds: $t}) { stream { id } } }";
    world.ask(curate, json!({ "id": world.stream, "t": [] })).await;
    let patch = next(&mut socket, &mut mirror).await;
    assert_eq!((&patch["removals"][1]["reason"], &patch["totalCount"]), (&json!("STREAM"), &json!(0)));
    world.ask(curate, json!({ "id": world.stream, "t": [world.template] })).await;
    let patch = next(&mut socket, &mut mirror).await;
    assert_eq!(patch["upserts"][1]["reason"], "STREAM");
    assert_eq!(mirror.cards, held(&world).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_choose_and_counts_do_not_mind_them() {
    let world = World::start().await;
    world.send_card("a", CUSTOMER).await;
    for (filter, visible) in [
        (json!([{ "field": "variable.amount", "op": "eq", "value": 12 }]), 1),
        (json!([{ "field": "payload.amount", "op": "eq", "value": "12" }]), 1),
        (json!([{ "field": "variable.amount", "op": "gt", "value": 12 }]), 0),
        (json!([{ "field": "templateName", "op": "ne", "value": "Offer" }]), 0),
        (json!([{ "field": "metadata.x", "op": "eq", "value": null }]), 1),
    ] {
        let page = page(&world, json!({ "c": world.container, "f": filter })).await;
        assert_eq!((&page["visibleCount"], &page["totalCount"]), (&json!(visible), &json!(1)), "{filter}");
    }
    let wrong = json!({ "c": world.container, "f": [{ "field": "colour", "op": "eq", "value": 1 }] });
    assert_eq!(world.sdk(CUSTOMER, PAGE, wrong).await.errors(), ["invalid_filter /filters/0/field"]);
}
