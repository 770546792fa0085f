//! Random writers against random clients, on two servers whose hints are lost, repeated and reordered: in the end each
//! client holds what a query returns, its versions are contiguous, and nothing was taken away twice.

use std::sync::Arc;
use std::time::Duration;

use cardwire::config::{Carrier, Config};
use cardwire::realtime::Announcement;
use parking_lot::Mutex;
use proptest::prelude::*;
use proptest::test_runner::{Config as Runs, TestRunner};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::follow::{FEED, Mirror};
use crate::support::TestApp;
use crate::support::socket::Socket;
use crate::support::world::{World, with_loopback};

const CUSTOMERS: [&str; 2] = ["ana", "bo"];
const CLIENTS: usize = 5;

/// What happens next.
#[derive(Clone, Debug)]
enum Act {
    Send {
        customer: usize,
        priority: u8,
        lives: Option<u16>,
    },
    Answer {
        customer: usize,
        card: usize,
        how: How,
    },
    /// The clock moves: snoozes end, cards expire.
    Wait {
        seconds: u16,
    },
    Limit {
        cards: u8,
    },
    Curate {
        shown: bool,
    },
    /// A sweep of a server.
    Sweep {
        server: usize,
    },
    /// A client hears some messages, or comes first of all.
    Hear {
        client: usize,
    },
    /// A client loses its connection, and comes back to another server with its token.
    Drop {
        client: usize,
    },
    /// A client begins anew with another filter.
    Refilter {
        client: usize,
        filter: usize,
    },
    /// The second server is killed.
    Kill,
}

#[derive(Clone, Copy, Debug)]
enum How {
    Dismiss,
    Complete,
    Snooze,
    Display,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let how = prop_oneof![Just(How::Dismiss), Just(How::Complete), Just(How::Snooze), Just(How::Display)];
    let lives = prop_oneof![3 => Just(None), 1 => (10..200_u16).prop_map(Some)];
    let act = prop_oneof![
        8 => (0..2_usize, 1..=10_u8, lives).prop_map(|(customer, priority, lives)| Act::Send { customer, priority, lives }),
        6 => (0..2_usize, 0..8_usize, how).prop_map(|(customer, card, how)| Act::Answer { customer, card, how }),
        2 => (1..60_u16).prop_map(|seconds| Act::Wait { seconds }),
        2 => (1..5_u8).prop_map(|cards| Act::Limit { cards }),
        1 => any::<bool>().prop_map(|shown| Act::Curate { shown }),
        2 => (0..2_usize).prop_map(|server| Act::Sweep { server }),
        5 => (0..CLIENTS).prop_map(|client| Act::Hear { client }),
        3 => (0..CLIENTS).prop_map(|client| Act::Drop { client }),
        1 => (0..CLIENTS, 0..3_usize).prop_map(|(client, filter)| Act::Refilter { client, filter }),
        1 => Just(Act::Kill),
    ];
    proptest::collection::vec(act, 20..45)
}

fn filter(index: usize) -> Value {
    match index {
        0 => Value::Null,
        1 => json!([{ "field": "priority", "op": "lte", "value": 5 }]),
        _ => json!([{ "field": "priority", "op": "gt", "value": 3 }]),
    }
}

/// Three of ten hints are lost, come twice, or come after a later one.
fn weather(seed: u64) -> impl Fn(Announcement) -> Vec<Announcement> + Send + Sync + 'static {
    let state = Mutex::new((StdRng::seed_from_u64(seed), Vec::new()));
    move |hint| {
        let (rng, late) = &mut *state.lock();
        let mut hints = match rng.random_range(0..10) {
            0 => Vec::new(),
            1 => vec![hint.clone(), hint],
            2 => {
                late.push(hint);
                return Vec::new();
            }
            _ => vec![hint],
        };
        hints.append(late);
        hints
    }
}

struct Client {
    customer: usize,
    server: usize,
    filter: usize,
    mirror: Mirror,
    socket: Option<Socket>,
}

impl Client {
    /// Comes to its server, if it is not there, with what it holds.
    async fn come(&mut self, storm: &Storm) -> &mut Socket {
        if self.socket.is_none() {
            let mut socket = Socket::open(storm.origin(self.server), storm.world.init(CUSTOMERS[self.customer])).await;
            let token = Some(&self.mirror.token).filter(|token| !token.is_empty());
            let variables = json!({ "c": storm.world.container, "f": filter(self.filter), "t": token });
            socket.subscribe("1", FEED, variables).await;
            self.socket = Some(socket);
            // Either what was missed, or the news that it must begin anew and the snapshot.
            self.hear().await;
        }
        self.socket.as_mut().unwrap()
    }

    /// Hears one message, which must come; two when the first says to begin anew.
    async fn hear(&mut self) {
        let Some(socket) = self.socket.as_mut() else { return };
        let message = socket.next("1").await["feed"].clone();
        self.mirror.apply(&message);
        if message["__typename"] == "FeedResync" {
            let message = socket.next("1").await["feed"].clone();
            self.mirror.apply(&message);
        }
    }

    fn lose(&mut self) {
        self.socket = None;
    }
}

struct Storm {
    world: World,
    other: Option<TestApp>,
    sent: usize,
}

fn over_postgres(config: &mut Config) {
    if let Some(url) = &config.database_url {
        config.carrier = Carrier::Postgres(url.clone());
    }
    config.rates.sdk = 1_000_000;
    config.rates.rest = 1_000_000;
}

impl Storm {
    async fn brew(seed: u64) -> Storm {
        let world = World::with(|config| {
            with_loopback(config);
            over_postgres(config);
        })
        .await;
        let other = world.test.beside(over_postgres).await;
        world.test.app.bus().set_weather(weather(seed));
        other.app.bus().set_weather(weather(seed + 1));
        Storm { world, other: Some(other), sent: 0 }
    }

    fn origin(&self, server: usize) -> &str {
        match (&self.other, server) {
            (Some(other), 1) => &other.origin,
            _ => &self.world.test.origin,
        }
    }

    async fn held(&self, customer: usize, filter: &Value) -> Value {
        let page = "query($c: ID!, $f: [CardFilter!]){ feed(containerId: $c, filters: $f){
            visibleCount totalCount unseenCardIds cards { id } } }";
        let variables = json!({ "c": self.world.container, "f": filter });
        self.world.sdk(CUSTOMERS[customer], page, variables).await.data()["feed"].clone()
    }

    async fn send(&mut self, customer: usize, priority: u8, lives: Option<u16>) {
        self.sent += 1;
        let mut options = json!({ "priority": priority });
        if let Some(seconds) = lives {
            options["expiresInterval"] = json!(format!("PT{seconds}S"));
        }
        let body = json!({ "flows": [{ "flowInvocationId": format!("storm-{}", self.sent),
            "target": { "type": "user", "targetUserIds": CUSTOMERS[customer] },
            "payload": { "cardOptions": options, "variables": { "amount": "12" } } }] });
        let path = self.world.path(&format!("action-flow/{}/start", self.world.flow));
        let answer = self.world.test.client.call(&self.world.events, "POST", &path, body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        self.world.test.settle().await;
    }

    /// A customer does something with a card, if there is one in that place. Who is too late is told so.
    async fn answer(&self, customer: usize, card: usize, how: How) {
        let held = self.held(customer, &Value::Null).await;
        let Some(card) = held["cards"].get(card).map(|card| card["id"].clone()) else { return };
        let (query, more) = match how {
            How::Dismiss => ("mutation($i: DismissCardInput!){ dismissCard(input: $i) { ok } }", json!({})),
            How::Complete => (
                "mutation($i: CompleteCardInput!){ completeCard(input: $i) { ok } }",
                json!({ "buttonName": "accept", "values": { "choice": "yes" } }),
            ),
            How::Snooze => {
                ("mutation($i: SnoozeCardInput!){ snoozeCard(input: $i) { ok } }", json!({ "interval": "PT5S" }))
            }
            How::Display => {
                let events = json!([{ "id": uuid::Uuid::from_u128(self.sent as u128 * 1000 + rand::random::<u64>() as u128),
                    "name": "card-displayed", "containerId": self.world.container, "cardId": card }]);
                let query = "mutation($e: [TrackedEventInput!]!){ trackEvents(events: $e) { ok } }";
                self.world.sdk(CUSTOMERS[customer], query, json!({ "e": events })).await.data();
                return;
            }
        };
        let mut input = json!({ "containerId": self.world.container, "cardId": card });
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = self.world.sdk(CUSTOMERS[customer], query, json!({ "i": input })).await.json();
        let code = &answer["errors"][0]["extensions"]["code"];
        assert!(code.is_null() || code == "card_closed" || code == "validation_failed", "{answer}");
    }

    async fn perform(&mut self, act: &Act, clients: &mut [Client]) {
        match *act {
            Act::Send { customer, priority, lives } => self.send(customer, priority, lives).await,
            Act::Answer { customer, card, how } => self.answer(customer, card, how).await,
            Act::Wait { seconds } => self.world.test.advance(Duration::from_secs(seconds.into())).await,
            Act::Limit { cards } => {
                let limit = "mutation($id: ID!, $n: Int!){ updateStreamContainer(input: {id: $id, cardLimit: $n}) { streamContainer { id } } }";
                self.world.ask(limit, json!({ "id": self.world.container, "n": cards })).await;
            }
            Act::Curate { shown } => {
                let curate = "mutation($id: ID!, $t: [ID!]!){ updateStream(input: {id: $id, templateIds: $t}) { stream { id } } }";
                let templates: Vec<&str> = if shown { vec![&self.world.template] } else { Vec::new() };
                self.world.ask(curate, json!({ "id": self.world.stream, "t": templates })).await;
            }
            Act::Sweep { server } => match (&self.other, server) {
                (Some(other), 1) => other.settle().await,
                _ => self.world.test.settle().await,
            },
            Act::Hear { client } => {
                clients[client].come(self).await;
            }
            Act::Drop { client } => {
                clients[client].lose();
                clients[client].server = 1 - clients[client].server;
            }
            Act::Refilter { client, filter } => {
                clients[client].lose();
                clients[client].mirror = Mirror::default();
                clients[client].filter = filter;
            }
            Act::Kill => {
                if let Some(other) = self.other.take() {
                    other.kill();
                    clients.iter_mut().filter(|client| client.server == 1).for_each(Client::lose);
                }
            }
        }
    }

    /// Lets everything come to rest, and compares.
    async fn compare(&self, clients: &mut [Client]) {
        self.world.test.settle().await;
        if let Some(other) = &self.other {
            other.settle().await;
        }
        for client in clients {
            client.come(self).await;
            let page = self.held(client.customer, &filter(client.filter)).await;
            // Messages come until the client is there; without one more it waits in vain, and the test fails.
            while !client.mirror.agrees(&page) {
                client.hear().await;
            }
        }
    }
}

async fn run(acts: Vec<Act>, seed: u64) {
    let mut storm = Storm::brew(seed).await;
    let mut clients: Vec<Client> = (0..CLIENTS)
        .map(|index| Client {
            customer: index % 2,
            server: (index / 2) % 2,
            filter: index % 3,
            mirror: Mirror::default(),
            socket: None,
        })
        .collect();
    for act in &acts {
        storm.perform(act, &mut clients).await;
    }
    storm.compare(&mut clients).await;
}

#[test]
fn clients_hold_what_a_query_returns() {
    let mut runner =
        TestRunner::new(Runs { cases: 6, max_shrink_iters: 12, failure_persistence: None, ..Runs::default() });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let runtime = Arc::new(runtime);
    let outcome = runner.run(&(acts(), any::<u32>()), |(acts, seed)| {
        let running = runtime.spawn(run(acts, seed.into()));
        runtime.block_on(running).map_err(|error| TestCaseError::fail(error.to_string()))
    });
    outcome.unwrap();
}

/// A writer that holds a feed for long, and fast ones: what the slow one commits late is not skipped.
#[tokio::test(flavor = "multi_thread")]
async fn slow_and_fast_writers_lose_nothing() {
    let mut storm = Storm::brew(7).await;
    storm.send(0, 5, None).await;
    let mut client = Client { customer: 0, server: 1, filter: 0, mirror: Mirror::default(), socket: None };
    client.come(&storm).await;
    let app = storm.world.test.app.clone();
    let (locked, held) = tokio::sync::oneshot::channel();
    let (release, released) = tokio::sync::oneshot::channel::<()>();
    let slow = app.transact(async |tx| {
        use diesel_async::RunQueryDsl;
        // What every change of a card does last: the head is raised, and the commit comes late.
        diesel::sql_query("UPDATE feed_heads SET version = version + 0").execute(&mut tx.conn()).await?;
        let _ = locked.send(());
        let _ = released.await;
        Ok(())
    });
    let fast = async {
        held.await.unwrap();
        // These make their cards with the start, and wait for the feed.
        let start = |_| async {
            let body = json!({ "flows": [{ "target": { "type": "user", "targetUserIds": "ana" },
                "payload": { "variables": { "amount": "12" } } }] });
            let path = storm.world.path(&format!("action-flow/{}/start", storm.world.flow));
            storm.world.test.client.call(&storm.world.events, "POST", &path, body).await.data();
        };
        let starting = futures_util::future::join_all((0..3).map(start));
        let releasing = async {
            crate::support::until_async("somebody waits for the feed", async || {
                let waiting = "SELECT count(*)::text AS value FROM pg_stat_activity
                    WHERE datname = current_database() AND wait_event_type = 'Lock'";
                storm.world.test.column(waiting).await != ["0"]
            })
            .await;
            release.send(()).unwrap();
        };
        tokio::join!(starting, releasing);
        storm.world.test.settle().await;
    };
    let (slow, ()) = tokio::join!(slow, fast);
    slow.unwrap();
    storm.compare(std::slice::from_mut(&mut client)).await;
    assert_eq!(client.mirror.cards.len(), 4);
}
