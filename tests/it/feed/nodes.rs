//! Several servers on one database: what one changes, the subscribers of the other see.
//!
//! Workers run only where a test settles, so no sweep of the second server helps: what comes, came as a hint.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use cardwire::config::{Carrier, Config};
use cardwire::secret::Secret;
use serde_json::{Value, json};

use crate::support::socket::Socket;
use crate::support::world::{CUSTOMER, World, with_loopback};
use crate::support::{TestApp, until};

const COUNT: &str = "subscription($c: ID!){ cardCount(containerId: $c) { totalCount } }";

/// Over Postgres, which needs the connection string of the test's own database.
fn over_postgres(config: &mut Config) {
    if let Some(url) = &config.database_url {
        config.carrier = Carrier::Postgres(url.clone());
    }
}

async fn acquainted(one: &TestApp, other: &TestApp) {
    until("both servers hear each other", || one.app.bus().in_company() && other.app.bus().in_company()).await;
}

async fn total(socket: &mut Socket) -> Value {
    socket.next("1").await["cardCount"]["totalCount"].clone()
}

/// Cards sent by the first server reach a subscriber of the second, and containers changed there one of the first.
async fn hints_cross(world: &World, other: &TestApp) {
    acquainted(&world.test, other).await;
    let mut far = Socket::open(&other.origin, world.init(CUSTOMER)).await;
    far.subscribe("1", COUNT, json!({ "c": world.container })).await;
    assert_eq!(total(&mut far).await, 0);
    for sent in 1..=3 {
        world.send_card(&format!("card-{sent}"), CUSTOMER).await;
        assert_eq!(total(&mut far).await, sent);
    }
    let mut near = Socket::open(&world.test.origin, world.init(CUSTOMER)).await;
    near.subscribe("1", COUNT, json!({ "c": world.container })).await;
    assert_eq!(total(&mut near).await, 3);
    let curate = "mutation($id: ID!){ updateStream(input: {id: $id, templateIds: []}) { stream { id } } }";
    let answer = other.client.graphql(&world.session, curate, json!({ "id": world.stream })).await.json();
    assert!(answer["errors"].is_null(), "{answer}");
    assert_eq!((total(&mut near).await, total(&mut far).await), (json!(0), json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_carries_hints_between_servers() {
    let world = World::with(|config| {
        with_loopback(config);
        over_postgres(config);
    })
    .await;
    let other = world.test.beside(over_postgres).await;
    hints_cross(&world, &other).await;

    // A connection that breaks is made again; nothing else is needed.
    let ended = "SELECT count(pg_terminate_backend(pid))::text AS value FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'cardwire hints'";
    assert_eq!(world.test.column(ended).await, ["2"], "one connection for each server");
    let mut far = Socket::open(&other.origin, world.init("somebody")).await;
    far.subscribe("1", COUNT, json!({ "c": world.container })).await;
    assert_eq!(total(&mut far).await, 0);
    other.settle().await;
    let curate = "mutation($id: ID!, $t: [ID!]!){ updateStream(input: {id: $id, templateIds: $t}) { stream { id } } }";
    world.ask(curate, json!({ "id": world.stream, "t": [world.template] })).await;
    world.send_card("after", "somebody").await;
    // The sweep stands in while there is no connection.
    other.settle().await;
    assert_eq!(total(&mut far).await, 1);
}

/// A NATS server on a free port.
struct Nats {
    child: Child,
    url: String,
}

impl Nats {
    async fn start(directory: PathBuf) -> Nats {
        std::fs::create_dir_all(&directory).unwrap();
        let path = std::env::split_paths(&std::ffi::OsString::from(
            "/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin:/opt/homebrew/bin",
        ))
        .map(|place| place.join("nats-server"))
        .find(|place| place.exists())
        .expect("nats-server is needed: scripts/setup tests");
        let child = Command::new(path)
            .args(["--addr", "127.0.0.1", "--port", "-1", "--ports_file_dir"])
            .arg(&directory)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let file = directory.join(format!("nats-server_{}.ports", child.id()));
        let mut url = String::new();
        until("the NATS server is ready", || {
            let ports: Value =
                std::fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
            url = ports["nats"][0].as_str().unwrap_or_default().to_owned();
            !url.is_empty()
        })
        .await;
        Nats { child, url }
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_carries_hints_between_servers() {
    let directory = std::env::temp_dir().join(format!("cardwire-nats-{}", std::process::id()));
    let nats = Nats::start(directory.clone()).await;
    let over_nats = |config: &mut Config| config.carrier = Carrier::Nats(Secret::new(nats.url.as_str()));
    let world = World::with(|config| {
        with_loopback(config);
        over_nats(config);
    })
    .await;
    let other = world.test.beside(over_nats).await;
    hints_cross(&world, &other).await;
    let _ = std::fs::remove_dir_all(directory);
}
