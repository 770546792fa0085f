//! Who listens to which feed in this process.
//!
//! A listener registers **before** it reads, so that a change after its read rings its bell. A bell remembers one
//! ring: any number of changes while the listener is busy are one ring, and the listener then reads the newest
//! state. There is no queue to grow. Each bell knows the version its listener has read, so that a sweep of the heads
//! rings only where a hint was lost.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Announcement, Sockets};
use crate::ids::{ContainerId, CustomerId, EnvId};

/// The listeners of this process. Cheap to clone.
#[derive(Clone, Default)]
pub struct Hub(Arc<Inner>);

#[derive(Default)]
struct Inner {
    feeds: Rooms<(EnvId, CustomerId)>,
    containers: Rooms<(EnvId, ContainerId)>,
    sockets: Sockets,
}

/// What is done at each ring, beside waking those who wait.
type OnRing = Box<dyn Fn() + Send + Sync>;

/// A bell, and the version that whoever waits for it has read.
struct Bell {
    rung: AtomicU64,
    rung_at: Mutex<Instant>,
    notify: Notify,
    on_ring: Option<OnRing>,
    read: AtomicI64,
}

impl Bell {
    fn new(on_ring: Option<OnRing>) -> Bell {
        let (rung, read) = (AtomicU64::new(0), AtomicI64::new(-1));
        Bell { rung, rung_at: Mutex::new(Instant::now()), notify: Notify::new(), on_ring, read }
    }

    fn ring(&self) {
        *self.rung_at.lock() = Instant::now();
        self.rung.fetch_add(1, Ordering::AcqRel);
        self.notify.notify_waiters();
        if let Some(on_ring) = &self.on_ring {
            on_ring();
        }
    }
}

/// Everybody who listens to the same thing.
#[derive(Default)]
struct Room {
    /// What the last sweep found; only for containers.
    found: Option<i64>,
    bells: Vec<Arc<Bell>>,
}

struct Rooms<K>(Mutex<HashMap<K, Room>>);

impl<K> Default for Rooms<K> {
    fn default() -> Self {
        Rooms(Mutex::new(HashMap::new()))
    }
}

impl<K: Copy + Eq + Hash> Rooms<K> {
    fn enter(&self, key: K, bell: Arc<Bell>) {
        self.0.lock().entry(key).or_default().bells.push(bell);
    }

    fn leave(&self, key: K, bell: &Arc<Bell>) {
        if let Entry::Occupied(mut room) = self.0.lock().entry(key) {
            room.get_mut().bells.retain(|other| !Arc::ptr_eq(other, bell));
            if room.get().bells.is_empty() {
                room.remove();
            }
        }
    }

    fn ring(&self, key: K) {
        self.bells(key).iter().for_each(|bell| bell.ring());
    }

    /// Rings for those who have not read `version` yet.
    fn hear(&self, key: K, version: i64) {
        let bells = self.bells(key);
        bells.iter().filter(|bell| bell.read.load(Ordering::Acquire) < version).for_each(|bell| bell.ring());
    }

    /// Rings when what a sweep found is not what the sweep before found.
    fn find(&self, key: K, mark: i64) {
        let news = self.0.lock().get_mut(&key).is_some_and(|room| room.found.replace(mark) != Some(mark));
        if news {
            self.ring(key);
        }
    }

    /// The bells of a room, to be rung when nothing is locked any more: who hears one may leave.
    fn bells(&self, key: K) -> Vec<Arc<Bell>> {
        self.0.lock().get(&key).map(|room| room.bells.clone()).unwrap_or_default()
    }

    fn keys(&self) -> Vec<K> {
        self.0.lock().keys().copied().collect()
    }
}

impl Hub {
    pub fn new(sockets: Sockets) -> Hub {
        Hub(Arc::new(Inner { sockets, ..Inner::default() }))
    }

    /// Starts to listen to the cards of a customer as these containers show them.
    pub fn listen(&self, env: EnvId, customer: CustomerId, containers: &[ContainerId]) -> Listener {
        self.enter(env, customer, containers, Bell::new(None))
    }

    /// The same, and calls back at each ring. The call must be short: it holds up who announces.
    pub fn listen_with(
        &self,
        env: EnvId,
        customer: CustomerId,
        containers: &[ContainerId],
        on_ring: impl Fn() + Send + Sync + 'static,
    ) -> Listener {
        self.enter(env, customer, containers, Bell::new(Some(Box::new(on_ring))))
    }

    fn enter(&self, env: EnvId, customer: CustomerId, containers: &[ContainerId], bell: Bell) -> Listener {
        let bell = Arc::new(bell);
        self.0.feeds.enter((env, customer), bell.clone());
        for container in containers {
            self.0.containers.enter((env, *container), bell.clone());
        }
        Listener {
            hub: self.clone(),
            feed: (env, customer),
            containers: containers.into(),
            answered: AtomicU64::new(0),
            bell,
        }
    }

    /// The open sockets of this process.
    pub fn sockets(&self) -> &Sockets {
        &self.0.sockets
    }

    /// Passes a hint on to those whom it concerns.
    pub fn announce(&self, announcement: &Announcement) {
        match announcement {
            Announcement::Feed { env, customer, version } => self.0.feeds.hear((*env, *customer), *version),
            Announcement::Container { env, container } => self.0.containers.ring((*env, *container)),
            Announcement::Wake(_) => {}
        }
    }

    /// The feeds that somebody listens to.
    pub fn watched_feeds(&self) -> Vec<(EnvId, CustomerId)> {
        self.0.feeds.keys()
    }

    /// The containers that somebody shows.
    pub fn watched_containers(&self) -> Vec<(EnvId, ContainerId)> {
        self.0.containers.keys()
    }

    /// Tells what the database says of a container; rings when it is not what it said before.
    pub fn found_container(&self, env: EnvId, container: ContainerId, mark: i64) {
        self.0.containers.find((env, container), mark);
    }
}

/// One who listens. Stops when dropped.
pub struct Listener {
    hub: Hub,
    feed: (EnvId, CustomerId),
    containers: Box<[ContainerId]>,
    answered: AtomicU64,
    bell: Arc<Bell>,
}

impl Listener {
    /// Waits until something changed since the last call.
    pub async fn changed(&self) {
        let rung = self.rung_after(self.answered.load(Ordering::Acquire)).await;
        self.answered.store(rung, Ordering::Release);
    }

    /// How often the bell has rung.
    pub fn rung(&self) -> u64 {
        self.bell.rung.load(Ordering::Acquire)
    }

    /// Waits until the bell has rung more often than this. Any number may wait.
    pub async fn rung_after(&self, known: u64) -> u64 {
        loop {
            let mut ring = pin!(self.bell.notify.notified());
            // From here on no ring is missed, also one before the first poll.
            ring.as_mut().enable();
            let rung = self.rung();
            if rung > known {
                return rung;
            }
            ring.await;
        }
    }

    /// The time since the last ring.
    pub fn since_rung(&self) -> Duration {
        self.bell.rung_at.lock().elapsed()
    }

    /// Says that this listener has read the feed up to `version`.
    pub fn has_read(&self, version: i64) {
        self.bell.read.store(version, Ordering::Release);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.hub.0.feeds.leave(self.feed, &self.bell);
        for container in self.containers.iter() {
            self.hub.0.containers.leave((self.feed.0, *container), &self.bell);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::ids::Ids;

    fn rings(listener: &Listener) -> bool {
        listener.changed().now_or_never().is_some()
    }

    #[test]
    fn changes_while_nobody_waits_are_one_ring() {
        let (hub, ids) = (Hub::default(), Ids::seeded(1));
        let (env, customer, container) = (ids.unguessable(), ids.unguessable(), ids.unguessable());
        let listener = hub.listen(env, customer, &[container]);
        for version in 1..=3 {
            hub.announce(&Announcement::Feed { env, customer, version });
        }
        hub.announce(&Announcement::Container { env, container });
        assert!(rings(&listener));
        assert!(!rings(&listener));
        hub.announce(&Announcement::Feed { env, customer: ids.unguessable(), version: 9 });
        assert!(!rings(&listener), "another customer's feed");
    }

    #[test]
    fn what_one_has_read_is_still_news_to_another() {
        let (hub, ids) = (Hub::default(), Ids::seeded(1));
        let (env, customer, container) = (ids.unguessable(), ids.unguessable(), ids.unguessable());
        let (reader, other) = (hub.listen(env, customer, &[container]), hub.listen(env, customer, &[container]));
        reader.has_read(5);
        hub.announce(&Announcement::Feed { env, customer, version: 5 });
        assert!(!rings(&reader) && rings(&other));
        drop((reader, other));
        assert!(hub.watched_feeds().is_empty() && hub.watched_containers().is_empty());
    }

    #[test]
    fn a_sweep_rings_where_a_container_is_not_as_it_was() {
        let (hub, ids) = (Hub::default(), Ids::seeded(1));
        let (env, container) = (ids.unguessable(), ids.unguessable());
        let listener = hub.listen(env, ids.unguessable(), &[container]);
        hub.found_container(env, container, 1);
        assert!(rings(&listener));
        hub.found_container(env, container, 1);
        assert!(!rings(&listener));
        hub.found_container(env, container, 2);
        assert!(rings(&listener));
    }
}
