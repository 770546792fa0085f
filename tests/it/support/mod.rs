//! The test application: a real server on a database of its own, with a clock and ids that the test owns.
//!
//! - [`database`]: one throw-away cluster for the whole run, a template migrated once, a database per test.
//! - [`TestApp`]: the server, a JSON client, and [`TestApp::settle`], which runs workers until nothing is due.

pub mod client;
pub mod database;
pub mod events;
pub mod node;
pub mod proxy;
pub mod receiver;
pub mod socket;
pub mod world;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use cardwire::app::{App, Node, Parts};
use cardwire::clock::{Clock, Time};
use cardwire::config::Config;
use cardwire::db::{Pool, partitions};
use cardwire::ids::Ids;
use cardwire::secret::Vault;
use cardwire::server::Server;
use cardwire::worker::{self, AnyWorker};
use tokio::net::TcpListener;
use url::Url;

use self::client::Client;
use self::database::TestDatabase;

/// The instant at which the clock of every test stands at first.
pub const START: &str = "2026-01-01T00:00:00Z";

/// Waits for what other tasks bring about; it must come.
pub async fn until(what: &str, mut there: impl FnMut() -> bool) {
    let waiting = async {
        while !there() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap_or_else(|_| panic!("{what}: it does not come"));
}

/// The same for what must be asked for.
pub async fn until_async(what: &str, there: impl AsyncFn() -> bool) {
    let waiting = async {
        while !there().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap_or_else(|_| panic!("{what}: it does not come"));
}

/// A server for one test. Its workers run only in [`TestApp::settle`].
pub struct TestApp {
    pub app: App,
    pub client: Client,
    pub origin: String,
    workers: Vec<AnyWorker>,
    server: Option<Server>,
    database: Arc<TestDatabase>,
}

impl TestApp {
    pub async fn start() -> TestApp {
        TestApp::with(|_| {}).await
    }

    /// Starts a server whose configuration the test changes.
    pub async fn with(change: impl FnOnce(&mut Config)) -> TestApp {
        let database = Arc::new(TestDatabase::create().await);
        let clock = Clock::manual(Time::parse(START).unwrap());
        TestApp::on(database, clock, Ids::seeded(1), change).await
    }

    /// Starts another server on the same database and clock.
    pub async fn beside(&self, change: impl FnOnce(&mut Config)) -> TestApp {
        TestApp::on(self.database.clone(), self.app.clock().clone(), Ids::seeded(2), change).await
    }

    async fn on(database: Arc<TestDatabase>, clock: Clock, ids: Ids, change: impl FnOnce(&mut Config)) -> TestApp {
        let mut config = Config::for_database(&database.url, database.directory());
        config.program = env!("CARGO_BIN_EXE_cardwire").into();
        change(&mut config);
        let listener = TcpListener::bind(config.listen).await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let app = App::new(Parts {
            origin: Url::parse(&origin).unwrap(),
            pool: Pool::new(&database.url, config.database_connections).unwrap(),
            clock,
            ids,
            vault: Vault::new(config.master_key.unwrap().0),
            node: Node::OneOfSeveral,
            config,
        })
        .unwrap();
        partitions::maintain(&app, app.clock().now()).await.unwrap();
        let server = Server::start(app.clone(), listener, Vec::new(), Router::new()).await.unwrap();
        let client = Client::new(&origin);
        TestApp { app, client, origin, workers: cardwire::workers(), server: Some(server), database }
    }

    /// Runs workers until nothing is due at the present time of the clock.
    pub async fn settle(&self) {
        worker::settle(&self.app, &self.workers).await.unwrap();
    }

    /// Moves the clock and settles.
    pub async fn advance(&self, by: Duration) {
        self.app.clock().advance(by);
        self.settle().await;
    }

    /// Stops the server as SIGTERM would.
    pub async fn stop(mut self) {
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
    }

    /// Ends the server and everything that hangs on it without a word, as a killed process would.
    pub fn kill(mut self) {
        if let Some(server) = self.server.take() {
            server.kill();
        }
    }

    /// The names of all recorded events in the order in which they were written, oldest first.
    pub async fn events(&self) -> Vec<String> {
        self.column("SELECT name AS value FROM events ORDER BY received_at, xid, id").await
    }

    /// One text column of a query, for looking at rows.
    pub async fn column(&self, query: &str) -> Vec<String> {
        use diesel_async::RunQueryDsl;
        #[derive(diesel::QueryableByName)]
        struct Row {
            #[diesel(sql_type = diesel::sql_types::Text)]
            value: String,
        }
        let conn = self.app.read().await.unwrap();
        let rows: Vec<Row> = diesel::sql_query(query).load(&mut &*conn).await.unwrap();
        rows.into_iter().map(|row| row.value).collect()
    }
}
