//! How the nodes that share a database tell each other what they announce.
//!
//! Cast: the [`Bus`] passes an announcement on in its own process at once and puts it into an [`outbox`]; a [`Link`]
//! takes the outbox to the other nodes every few milliseconds and brings what they say. There are three ways to
//! carry: none, for a server that has its database to itself; [`postgres`], one notifying and listening connection
//! beside the pool; [`nats`], when the operator names a server.
//!
//! Nothing here is relied on. A hint that is lost is found by a sweep; one that comes twice, or late, tells a listener
//! to look at what it has seen. A node that hears of no other keeps its hints to itself.

mod nats;
mod outbox;
mod postgres;
mod wire;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use self::outbox::Outbox;
use super::{Announcement, Hub, Wakes};
use crate::config::Carrier;
use crate::error::{Error, Result};
use crate::secret::Secret;

/// Hints are gathered this long, so that a burst is one message.
const GATHER: Duration = Duration::from_millis(2);
/// A node says this often that it is there.
const HELLO: Duration = Duration::from_secs(1);
/// A node that was not heard for so long is gone.
const COMPANY: Duration = Duration::from_secs(5);
/// How long one message may take.
const SEND: Duration = Duration::from_secs(5);
const FIRST_BACK_OFF: Duration = Duration::from_millis(100);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(5);

/// What a test makes of hints on their way.
type Weather = Box<dyn Fn(Announcement) -> Vec<Announcement> + Send + Sync>;

/// Passes announcements on, here and to other nodes. Cheap to clone.
#[derive(Clone)]
pub struct Bus(Arc<Inner>);

struct Inner {
    hub: Hub,
    wakes: Wakes,
    node: u64,
    outbox: Mutex<Outbox>,
    bell: Notify,
    heard_at: Mutex<Option<Instant>>,
    weather: OnceLock<Weather>,
}

impl Bus {
    pub fn new(node: u64, hub: Hub, wakes: Wakes) -> Bus {
        Bus(Arc::new(Inner {
            hub,
            wakes,
            node,
            outbox: Mutex::default(),
            bell: Notify::new(),
            heard_at: Mutex::new(None),
            weather: OnceLock::new(),
        }))
    }

    /// Passes an announcement on: here at once, to others soon.
    pub fn announce(&self, announcement: Announcement) {
        if self.in_company() {
            self.0.outbox.lock().put(&announcement);
            self.0.bell.notify_one();
        }
        self.deliver(announcement);
    }

    /// Lets a test lose, repeat and reorder hints. What it does not give back is lost. Set once.
    pub fn set_weather(&self, weather: impl Fn(Announcement) -> Vec<Announcement> + Send + Sync + 'static) {
        // A second weather changes nothing, which its test would notice.
        let _ = self.0.weather.set(Box::new(weather));
    }

    /// Whether another node was heard lately.
    pub fn in_company(&self) -> bool {
        self.0.heard_at.lock().is_some_and(|heard| heard.elapsed() < COMPANY)
    }

    /// Carries hints between this node and the others, for ever: a lost connection is made again.
    pub async fn run(&self, carrier: &Carrier, subject: &str) {
        let mut back_off = FIRST_BACK_OFF;
        loop {
            let began = Instant::now();
            let ended = match Link::connect(carrier, subject).await {
                Ok(Some(link)) => self.serve(link).await,
                Ok(None) => return,
                Err(error) => Err(error),
            };
            if let Err(error) = ended {
                tracing::warn!(%error, "hints to and from other nodes do not get through; sweeps stand in for them");
            }
            back_off = if began.elapsed() > LONGEST_BACK_OFF { FIRST_BACK_OFF } else { back_off * 2 };
            sleep(back_off.min(LONGEST_BACK_OFF)).await;
        }
    }

    /// Uses one connection until it breaks.
    async fn serve(&self, mut link: Link) -> Result<()> {
        let mut hello = interval(HELLO);
        hello.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = link.receive() => {
                    // A node that was alone says at once that it is here.
                    if self.hear(&message?) {
                        hello.reset_immediately();
                    }
                }
                () = self.0.bell.notified() => {
                    sleep(GATHER).await;
                    self.send(&mut link).await?;
                }
                _ = hello.tick() => link.send(&wire::write(self.0.node, &[])).await?,
            }
        }
    }

    async fn send(&self, link: &mut Link) -> Result<()> {
        let hints = self.0.outbox.lock().take();
        for batch in hints.chunks(link.most_hints()) {
            timeout(SEND, link.send(&wire::write(self.0.node, batch))).await.map_err(Error::internal)??;
        }
        metrics::counter!("cardwire_bus_hints_sent").increment(hints.len() as u64);
        Ok(())
    }

    /// Takes a message of a node in. Gives whether it ended this node's loneliness.
    fn hear(&self, message: &[u8]) -> bool {
        let Some((node, hints)) = wire::read(message) else {
            tracing::debug!("a message of another version of this server was passed over");
            return false;
        };
        if node == self.0.node {
            return false;
        }
        let lonely = !self.in_company();
        *self.0.heard_at.lock() = Some(Instant::now());
        metrics::counter!("cardwire_bus_hints_heard").increment(hints.len() as u64);
        hints.into_iter().for_each(|hint| self.deliver(hint));
        lonely
    }

    fn deliver(&self, announcement: Announcement) {
        match self.0.weather.get() {
            Some(weather) => weather(announcement).iter().for_each(|announcement| self.pass_on(announcement)),
            None => self.pass_on(&announcement),
        }
    }

    fn pass_on(&self, announcement: &Announcement) {
        match announcement {
            Announcement::Wake(work) => self.0.wakes.ring(*work),
            _ => self.0.hub.announce(announcement),
        }
    }
}

/// One connection to the other nodes.
enum Link {
    Postgres(postgres::Link),
    Nats(nats::Link),
}

impl Link {
    /// `None`: there are no other nodes.
    async fn connect(carrier: &Carrier, subject: &str) -> Result<Option<Link>> {
        let connect = async {
            match carrier {
                Carrier::None => Ok(None),
                Carrier::Postgres(url) => Ok(Some(Link::Postgres(postgres::Link::connect(Secret::expose(url)).await?))),
                Carrier::Nats(url) => Ok(Some(Link::Nats(nats::Link::connect(Secret::expose(url), subject).await?))),
            }
        };
        timeout(SEND, connect).await.map_err(Error::internal)?
    }

    async fn send(&mut self, message: &[u8]) -> Result<()> {
        match self {
            Link::Postgres(link) => link.send(message).await,
            Link::Nats(link) => link.send(message).await,
        }
    }

    async fn receive(&mut self) -> Result<Vec<u8>> {
        match self {
            Link::Postgres(link) => link.receive().await,
            Link::Nats(link) => link.receive().await,
        }
    }

    fn most_hints(&self) -> usize {
        match self {
            Link::Postgres(_) => postgres::MOST_HINTS,
            Link::Nats(_) => nats::MOST_HINTS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Ids;
    use crate::realtime::Work;

    #[tokio::test]
    async fn a_node_speaks_when_it_is_heard_by_somebody() {
        let ids = Ids::seeded(1);
        let bus = Bus::new(1, Hub::default(), Wakes::default());
        let hint = Announcement::Feed { env: ids.unguessable(), customer: ids.unguessable(), version: 1 };
        bus.announce(hint.clone());
        assert_eq!(bus.0.outbox.lock().take(), [], "nobody is there");
        assert!(!bus.hear(&wire::write(1, &[])), "its own voice is no company");
        assert!(bus.hear(&wire::write(2, &[])));
        assert!(!bus.hear(&wire::write(2, std::slice::from_ref(&hint))));
        bus.announce(hint.clone());
        bus.announce(hint.clone());
        assert_eq!(bus.0.outbox.lock().take(), [hint]);
    }

    #[tokio::test]
    async fn what_is_heard_is_passed_on() {
        let bus = Bus::new(1, Hub::default(), Wakes::default());
        bus.hear(&wire::write(2, &[Announcement::Wake(Work::Fanout)]));
        timeout(SEND, bus.0.wakes.of(Work::Fanout).notified()).await.unwrap();
        assert!(!bus.hear(b"nonsense"));
    }
}
