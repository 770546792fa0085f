//! The composition root: what every operation may reach, and the two ways to the database.

use std::ops::AsyncFnOnce;
use std::sync::Arc;

use url::Url;

use crate::access::document::Restrictions;
use crate::access::published_keys::PublishedKeys;
use crate::access::rate::Limits;
use crate::cards::feed::Channels;
use crate::clock::Clock;
use crate::config::Config;
use crate::db::{Connection, Pool, Tx};
use crate::error::Result;
use crate::flows::Gathering;
use crate::ids::Ids;
use crate::net::{AddressRules, Outbound};
use crate::realtime::{Bus, Hub, Sockets, Wakes, Work};
use crate::sandbox::Sandbox;
use crate::secret::Vault;
use crate::webhooks::credential::token::Tokens;

/// The application: cheap to clone, the same for every request and worker of a process.
#[derive(Clone)]
pub struct App(Arc<Inner>);

struct Inner {
    config: Config,
    origin: Url,
    pool: Pool,
    clock: Clock,
    ids: Ids,
    vault: Vault,
    outbound: Outbound,
    hub: Hub,
    wakes: Wakes,
    bus: Bus,
    channels: Channels,
    gathering: Gathering,
    limits: Limits,
    published_keys: PublishedKeys,
    sandbox: Sandbox,
    restrictions: Restrictions,
    outgoing_tokens: Tokens,
    node: String,
}

/// The parts an [`App`] is made of.
pub struct Parts {
    pub config: Config,
    /// The origin under which clients reach the server.
    pub origin: Url,
    pub pool: Pool,
    pub clock: Clock,
    pub ids: Ids,
    pub vault: Vault,
    pub node: Node,
}

/// By what name a process holds leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// The only process that can reach its database. It has the name of its predecessor, whose leases are its own.
    Only,
    /// One of several. Its name is new.
    OneOfSeveral,
}

impl App {
    pub fn new(parts: Parts) -> Result<App> {
        let sandbox = Sandbox::new(parts.config.program.clone());
        let limits = Limits::new(parts.config.rates);
        let outbound = Outbound::new(AddressRules::new(&parts.config))?;
        let node = u64::from_le_bytes(Ids::random().bytes());
        let name = match parts.node {
            Node::Only => "only".to_owned(),
            Node::OneOfSeveral => format!("{node:016x}"),
        };
        // Those who come share the connections to the database with those who are here.
        let admitted = parts.config.database_connections / 2;
        let hub = Hub::new(Sockets::new(parts.config.connections, admitted));
        let wakes = Wakes::default();
        Ok(App(Arc::new(Inner {
            config: parts.config,
            origin: parts.origin,
            pool: parts.pool,
            clock: parts.clock,
            ids: parts.ids,
            vault: parts.vault,
            outbound,
            bus: Bus::new(node, hub.clone(), wakes.clone()),
            hub,
            wakes,
            channels: Channels::default(),
            gathering: Gathering::default(),
            limits,
            published_keys: PublishedKeys::default(),
            sandbox,
            restrictions: Restrictions::default(),
            outgoing_tokens: Tokens::default(),
            node: name,
        })))
    }

    /// Runs `work` in a transaction: all of it happens, or none. Announcements leave after the commit.
    pub async fn transact<T>(&self, work: impl AsyncFnOnce(&mut Tx) -> Result<T>) -> Result<T> {
        let mut tx = Tx::begin(self.read().await?, self.clock().now(), self.ids().clone()).await?;
        match work(&mut tx).await {
            Ok(value) => {
                for announcement in tx.commit().await? {
                    self.0.bus.announce(announcement);
                }
                Ok(value)
            }
            Err(error) => {
                tx.roll_back().await?;
                Err(error)
            }
        }
    }

    /// A connection outside a transaction, for reads.
    pub async fn read(&self) -> Result<Connection> {
        self.0.pool.get().await
    }

    /// A connection for reading feeds, which waits for no other work.
    pub(crate) async fn read_feeds(&self) -> Result<Connection> {
        self.0.pool.feeds().await
    }

    /// A connection for looking at the last days of the record of events.
    pub(crate) async fn read_record(&self) -> Result<Connection> {
        self.0.pool.record().await
    }

    pub fn wake(&self, work: Work) {
        self.0.wakes.ring(work);
    }

    pub fn config(&self) -> &Config {
        &self.0.config
    }

    pub fn origin(&self) -> &Url {
        &self.0.origin
    }

    pub fn pool(&self) -> &Pool {
        &self.0.pool
    }

    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    pub fn ids(&self) -> &Ids {
        &self.0.ids
    }

    pub fn vault(&self) -> &Vault {
        &self.0.vault
    }

    pub fn outbound(&self) -> &Outbound {
        &self.0.outbound
    }

    pub fn hub(&self) -> &Hub {
        &self.0.hub
    }

    /// The way to the other nodes.
    pub fn bus(&self) -> &Bus {
        &self.0.bus
    }

    pub fn wakes(&self) -> &Wakes {
        &self.0.wakes
    }

    /// The feeds that subscriptions of this process follow.
    pub(crate) fn channels(&self) -> &Channels {
        &self.0.channels
    }

    /// The starts of flows that wait for each other in this process.
    pub(crate) fn gathering(&self) -> &Gathering {
        &self.0.gathering
    }

    /// How often callers may call this process.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// The access tokens that outgoing requests carry.
    pub(crate) fn outgoing_tokens(&self) -> &Tokens {
        &self.0.outgoing_tokens
    }

    /// Sets of public keys that others publish, as last fetched.
    pub(crate) fn published_keys(&self) -> &PublishedKeys {
        &self.0.published_keys
    }

    /// Where scripts of members run.
    pub fn sandbox(&self) -> &Sandbox {
        &self.0.sandbox
    }

    /// Which environments run registered documents only, as last looked up.
    pub(crate) fn restrictions(&self) -> &Restrictions {
        &self.0.restrictions
    }

    /// The name of this process among those that share the database: the holder of its leases.
    pub fn node(&self) -> &str {
        &self.0.node
    }
}
