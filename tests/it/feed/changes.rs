//! Every way in which a card enters, changes or leaves a feed: after each, what the patches made is what a query returns.

use std::time::Duration;

use serde_json::{Value, json};

use super::follow::{FEED, Mirror};
use crate::support::socket::Socket;
use crate::support::world::{CUSTOMER, World, access_token, text};

const PAGE: &str = "query($c: ID!, $f: [CardFilter!]){ feed(containerId: $c, filters: $f){
    visibleCount totalCount unseenCardIds cards { id } } }";

/// One who follows: on a platform, through a filter.
struct Follower {
    platform: &'static str,
    filter: Value,
    socket: Socket,
    mirror: Mirror,
}

impl Follower {
    async fn new(world: &World, platform: &'static str, filter: Value) -> Follower {
        let mut init = world.init(CUSTOMER);
        init["platform"] = json!(platform);
        let mut socket = Socket::open(&world.test.origin, init).await;
        socket.subscribe("1", FEED, json!({ "c": world.container, "f": filter })).await;
        let mut follower = Follower { platform, filter, socket, mirror: Mirror::default() };
        follower.hear().await;
        follower
    }

    async fn hear(&mut self) -> Value {
        let message = self.socket.next("1").await["feed"].clone();
        self.mirror.apply(&message);
        message
    }

    async fn page(&self, world: &World) -> Value {
        let authorization = format!("Bearer {}", world.token_for(CUSTOMER));
        let headers = [
            ("authorization", authorization.as_str()),
            ("x-cardwire-api-key", "web"),
            ("x-cardwire-platform", self.platform),
        ];
        let variables = json!({ "c": world.container, "f": self.filter });
        world.test.client.graphql_with(&headers, PAGE, variables).await.data()["feed"].clone()
    }
}

struct Scene {
    world: World,
    followers: Vec<Follower>,
}

impl Scene {
    /// Waits until every follower holds what a query returns, and gives the reasons that the first was told.
    async fn agree(&mut self) -> Vec<String> {
        let mut reasons = Vec::new();
        for (index, follower) in self.followers.iter_mut().enumerate() {
            let page = follower.page(&self.world).await;
            while !follower.mirror.agrees(&page) {
                let message = follower.hear().await;
                if index == 0 {
                    let told = ["removals", "upserts"].iter().filter_map(|part| message[*part].as_array());
                    reasons.extend(told.flatten().map(|one| text(&one["reason"])));
                    reasons.extend(message["reason"].as_str().map(str::to_owned));
                }
            }
        }
        reasons
    }

    /// Another stream is another feed: every follower is told to begin anew, and what it then gets is the page.
    async fn begin_anew(&mut self) {
        for follower in &mut self.followers {
            assert_eq!(follower.hear().await["reason"], "CONFIGURATION");
            follower.hear().await;
            let page = follower.page(&self.world).await;
            assert!(follower.mirror.agrees(&page), "{page}");
        }
    }

    async fn send(&self, name: &str, options: Value) {
        let body = json!({ "flows": [{ "flowInvocationId": name,
            "target": { "type": "user", "targetUserIds": CUSTOMER },
            "payload": { "cardOptions": options, "variables": { "amount": "12" } } }] });
        let path = self.world.path(&format!("action-flow/{}/start", self.world.flow));
        let answer = self.world.test.client.call(&self.world.events, "POST", &path, body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        self.world.test.settle().await;
    }

    /// The card in the first place of the feed.
    async fn top(&self) -> Value {
        self.followers[0].page(&self.world).await["cards"][0]["id"].clone()
    }

    async fn act(&self, action: &str, more: Value) {
        let mut input = json!({ "containerId": self.world.container, "cardId": self.top().await });
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let kind = format!("{}{}CardInput", action[..1].to_uppercase(), &action[1..]);
        let query = format!("mutation($i: {kind}!) {{ {action}Card(input: $i) {{ ok }} }}");
        self.world.sdk(CUSTOMER, &query, json!({ "i": input })).await.data();
    }

    async fn container(&self, name: &str, value: Value) {
        let kind = if name == "cardLimit" { "Int!" } else { "ID!" };
        let query = format!(
            "mutation($id: ID!, $v: {kind}){{ updateStreamContainer(input: {{id: $id, {name}: $v}}) {{ streamContainer {{ id }} }} }}"
        );
        self.world.ask(&query, json!({ "id": self.world.container, "v": value })).await;
    }

    async fn curate(&self, templates: Value) {
        let query =
            "mutation($id: ID!, $t: [ID!]!){ updateStream(input: {id: $id, templateIds: $t}) { stream { id } } }";
        self.world.ask(query, json!({ "id": self.world.stream, "t": templates })).await;
    }

    async fn wait(&mut self, seconds: u64) {
        self.world.test.advance(Duration::from_secs(seconds)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn patches_tell_every_change_of_a_feed() {
    let world = World::start().await;
    let followers = vec![
        Follower::new(&world, "Web", Value::Null).await,
        Follower::new(&world, "Web", Value::Null).await,
        Follower::new(&world, "iOS", Value::Null).await,
        Follower::new(&world, "Web", json!([{ "field": "priority", "op": "lte", "value": 4 }])).await,
    ];
    let mut scene = Scene { world, followers };

    scene.send("a", json!({})).await;
    assert_eq!(scene.agree().await, ["PUBLISH"]);
    scene.send("b", json!({ "priority": 2 })).await;
    assert_eq!(scene.agree().await, ["PUBLISH"]);
    scene.send("apple", json!({ "targetPlatforms": ["iOS"] })).await;
    assert_eq!(scene.agree().await, [""; 0], "it is for another platform");
    scene.send("later", json!({ "embargo": "2026-01-01T00:01:00Z", "priority": 1 })).await;
    assert_eq!(scene.agree().await, [""; 0]);
    scene.wait(61).await;
    assert_eq!(scene.agree().await, ["PUBLISH"], "the embargo is over");
    scene.send("short", json!({ "expiresInterval": "PT40S" })).await;
    assert_eq!(scene.agree().await, ["PUBLISH"]);
    scene.wait(41).await;
    assert_eq!(scene.agree().await, ["EXPIRE"]);

    let card = scene.top().await;
    let events = json!([{ "id": "evt_00000000000000000000000001", "name": "card-displayed",
        "containerId": scene.world.container, "cardId": card }]);
    let track = "mutation($e: [TrackedEventInput!]!){ trackEvents(events: $e) { processedIds } }";
    scene.world.sdk(CUSTOMER, track, json!({ "e": events })).await.data();
    assert_eq!(scene.agree().await, ["UPDATE"], "it is seen");
    scene.world.sdk(CUSTOMER, track, json!({ "e": events })).await.data();
    scene.act("snooze", json!({ "interval": "PT30S" })).await;
    assert_eq!(scene.agree().await, ["SNOOZE"]);
    scene.wait(31).await;
    assert_eq!(scene.agree().await, ["UNSNOOZE"]);
    scene.act("complete", json!({ "buttonName": "accept", "values": { "choice": "yes" } })).await;
    assert_eq!(scene.agree().await, ["COMPLETE"]);

    scene.container("cardLimit", json!(1)).await;
    assert_eq!(scene.agree().await, ["LIMIT"]);
    scene.act("dismiss", json!({})).await;
    assert_eq!(scene.agree().await, ["DISMISS", "LIMIT"], "the next one comes up");
    scene.container("cardLimit", json!(10)).await;
    scene.send("c", json!({ "priority": 3 })).await;
    scene.agree().await;
    scene.curate(json!([])).await;
    assert_eq!(scene.agree().await, ["STREAM", "STREAM"]);
    scene.curate(json!([scene.world.template])).await;
    assert_eq!(scene.agree().await, ["STREAM", "STREAM"]);

    let streams = "query($e: ID!){ streams(environmentId: $e) { nodes { id builtIn } } }";
    let streams = scene.world.ask(streams, json!({ "e": scene.world.env })).await;
    let all = streams["streams"]["nodes"].as_array().unwrap().iter().find(|stream| stream["builtIn"] == true).unwrap()
        ["id"]
        .clone();
    scene.container("streamId", all).await;
    scene.begin_anew().await;
    scene.container("streamId", json!(scene.world.stream)).await;
    scene.begin_anew().await;

    let cancel = "mutation($i: CloseCardsInput!){ cancelCards(input: $i) { changed } }";
    let input = json!({ "i": { "environmentId": scene.world.env, "filter": { "flowInvocationId": "c" } } });
    assert_eq!(scene.world.ask(cancel, input).await["cancelCards"]["changed"], 1);
    assert_eq!(scene.agree().await, ["CANCEL"]);
    let shop = scene.world.credential(&scene.world.env, "EVENTS").await;
    let token = access_token(&scene.world.test, &shop).await;
    let path = scene.world.path("cards/complete?flowInvocationId=a");
    scene.world.test.client.call(&token, "PUT", &path, json!({})).await.data();
    assert_eq!(scene.agree().await, ["COMPLETE"]);
    assert_eq!(scene.followers[0].mirror.cards, Vec::<String>::new());
    assert_eq!(scene.followers[2].mirror.cards.len(), 1, "the card of the other platform is still there");
}

/// Sockets of one customer that ask for the same are told the same bytes; who asks for other fields gets those.
#[tokio::test(flavor = "multi_thread")]
async fn those_who_share_a_feed_are_told_in_their_own_form() {
    let world = World::start().await;
    let short = "subscription($c: ID!){ feed(containerId: $c){ ... on FeedPatch { to upserts { card { id } } } } }";
    let named = "subscription($c: ID!, $s: Boolean!){ feed(containerId: $c){ ... on FeedPatch { upserts { card { id topCard @include(if: $s) } } } } }";
    let mut sockets = Vec::new();
    for (query, more) in [
        (FEED, json!({})),
        (FEED, json!({})),
        (short, json!({})),
        (named, json!({ "s": true })),
        (named, json!({ "s": false })),
    ] {
        let mut socket = Socket::open(&world.test.origin, world.init(CUSTOMER)).await;
        let mut variables = json!({ "c": world.container });
        variables.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        socket.subscribe("1", query, variables).await;
        socket.next("1").await;
        sockets.push(socket);
    }
    for name in ["a", "b"] {
        let card = world.send_card(name, CUSTOMER).await;
        let mut told = Vec::new();
        for socket in &mut sockets {
            told.push(socket.next("1").await["feed"].clone());
        }
        assert_eq!(told[0], told[1]);
        assert_eq!(told[0]["upserts"][0]["card"], json!({ "id": card, "unseen": true }));
        assert_eq!(told[2], json!({ "to": told[0]["to"], "upserts": [{ "card": { "id": card } }] }));
        assert!(told[3]["upserts"][0]["card"]["topCard"].is_object(), "{}", told[3]);
        assert_eq!(told[4], json!({ "upserts": [{ "card": { "id": card } }] }));
    }
}
