//! The open connections of this process: how many each caller has, what lets them in, and how they are asked to leave.
//!
//! Why a registry of our own: an upgraded connection is no longer known to the HTTP server, whose graceful
//! shutdown would forget it.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use crate::config::Connections;
use crate::ids::{CredentialId, CustomerId, EnvId, SdkKeyId};

/// Sockets closed together; the pause between batches spreads the reconnects.
const BATCH: usize = 100;
const PAUSE: Duration = Duration::from_millis(20);

/// The open connections. Cheap to clone.
#[derive(Clone)]
pub struct Sockets(Arc<Shared>);

struct Shared {
    registry: Mutex<Registry>,
    most: Connections,
    /// Whoever comes waits here, so that a thousand who come at once do not take every connection to the database.
    admission: Semaphore,
}

#[derive(Default)]
struct Registry {
    next: u64,
    open: HashMap<u64, Open>,
    addresses: HashMap<IpAddr, usize>,
    customers: HashMap<(EnvId, CustomerId), usize>,
    closing: bool,
}

struct Open {
    address: IpAddr,
    customer: Option<(EnvId, CustomerId)>,
    pass: Pass,
    leaving: Arc<Leaving>,
}

#[derive(Default)]
struct Leaving {
    why: Mutex<Option<Leave>>,
    bell: Notify,
}

/// What lets a connection in. When it holds no more, the connection is closed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Pass {
    /// Anybody may come this far.
    #[default]
    None,
    /// An SDK key as it was when it verified the token.
    Key {
        env: EnvId,
        key: SdkKeyId,
        revision: i32,
    },
    /// The hash of a member's session token.
    Session(Arc<[u8]>),
    Credential {
        env: EnvId,
        credential: CredentialId,
    },
}

/// Why a connection must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// The server stops.
    Stopping,
    /// What let it in holds no more.
    Revoked,
    /// The process ends without a farewell.
    Broken,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    Stopping,
    Address,
    Customer,
}

/// The place of one connection. Leaves the registry when dropped.
pub struct Seat {
    sockets: Sockets,
    number: u64,
    leaving: Arc<Leaving>,
}

impl Default for Sockets {
    fn default() -> Sockets {
        Sockets::new(Connections::default(), 8)
    }
}

impl Sockets {
    /// At most `admitted` callers are authenticated, or read their first page, at a time.
    pub fn new(most: Connections, admitted: usize) -> Sockets {
        let registry = Mutex::default();
        Sockets(Arc::new(Shared { registry, most, admission: Semaphore::new(admitted.max(1)) }))
    }

    /// Takes a place for a caller who has said nothing yet.
    pub fn enter(&self, address: IpAddr) -> Result<Seat, Full> {
        let mut registry = self.0.registry.lock();
        if registry.closing {
            return Err(Full::Stopping);
        }
        if !count_up(&mut registry.addresses, address, self.0.most.per_address) {
            return Err(Full::Address);
        }
        let number = registry.next;
        registry.next += 1;
        let leaving = Arc::<Leaving>::default();
        let open = Open { address, customer: None, pass: Pass::None, leaving: leaving.clone() };
        registry.open.insert(number, open);
        metrics::gauge!("cardwire_connections_open").increment(1.0);
        Ok(Seat { sockets: self.clone(), number, leaving })
    }

    pub fn count(&self) -> usize {
        self.0.registry.lock().open.len()
    }

    /// Waits for the turn of a caller who comes. Reads of those who are here already are not held up by those who come.
    pub async fn admit(&self) -> Option<SemaphorePermit<'_>> {
        self.0.admission.acquire().await.ok()
    }

    /// What lets the open connections in, each once.
    pub fn passes(&self) -> HashSet<Pass> {
        let registry = self.0.registry.lock();
        registry.open.values().map(|open| open.pass.clone()).filter(|pass| *pass != Pass::None).collect()
    }

    /// Asks everybody to leave whom one of these let in.
    pub fn revoke(&self, passes: &HashSet<Pass>) {
        let registry = self.0.registry.lock();
        for open in registry.open.values().filter(|open| passes.contains(&open.pass)) {
            open.leaving.ask(Leave::Revoked);
        }
    }

    /// Lets every connection break without a word, for tests of a killed server.
    pub fn abandon(&self) {
        let mut registry = self.0.registry.lock();
        registry.closing = true;
        registry.open.values().for_each(|open| open.leaving.ask(Leave::Broken));
    }

    /// Admits nobody more, asks every connection to leave, batch by batch, and waits for them up to `within`.
    pub async fn drain(&self, within: Duration) {
        let leaving: Vec<Arc<Leaving>> = {
            let mut registry = self.0.registry.lock();
            registry.closing = true;
            registry.open.values().map(|open| open.leaving.clone()).collect()
        };
        let end = tokio::time::Instant::now() + within;
        let batches = u32::try_from(leaving.len().div_ceil(BATCH)).unwrap_or(u32::MAX).max(1);
        let pause = PAUSE.min(within / 2 / batches);
        for batch in leaving.chunks(BATCH) {
            batch.iter().for_each(|leaving| leaving.ask(Leave::Stopping));
            tokio::time::sleep(pause).await;
        }
        while self.count() > 0 && tokio::time::Instant::now() < end {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Leaving {
    fn ask(&self, leave: Leave) {
        *self.why.lock() = Some(leave);
        self.bell.notify_waiters();
    }

    async fn asked(&self) -> Leave {
        loop {
            let mut bell = pin!(self.bell.notified());
            // From here on no call is missed, also one before the first poll.
            bell.as_mut().enable();
            if let Some(leave) = *self.why.lock() {
                return leave;
            }
            bell.await;
        }
    }
}

impl Seat {
    /// Says what lets the connection in, and which customer it is for. Said again when a token is renewed.
    pub fn hold(&self, pass: Pass, customer: Option<(EnvId, CustomerId)>) -> Result<(), Full> {
        let mut registry = self.sockets.0.registry.lock();
        let registry = &mut *registry;
        let Some(open) = registry.open.get_mut(&self.number) else { return Ok(()) };
        if let (None, Some(customer)) = (open.customer, customer) {
            if !count_up(&mut registry.customers, customer, self.sockets.0.most.per_customer) {
                return Err(Full::Customer);
            }
            open.customer = Some(customer);
        }
        open.pass = pass;
        Ok(())
    }

    /// Waits until the connection is asked to leave. Any number may wait.
    pub fn asked_to_leave(&self) -> impl Future<Output = Leave> + Send + use<> {
        let leaving = self.leaving.clone();
        async move { leaving.asked().await }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut registry = self.sockets.0.registry.lock();
        if let Some(open) = registry.open.remove(&self.number) {
            count_down(&mut registry.addresses, &open.address);
            if let Some(customer) = open.customer {
                count_down(&mut registry.customers, &customer);
            }
            metrics::gauge!("cardwire_connections_open").decrement(1.0);
        }
    }
}

/// Counts one more, unless there are as many as there may be.
fn count_up<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: K, most: usize) -> bool {
    let count = counts.entry(key).or_default();
    let fits = *count < most;
    *count += usize::from(fits);
    fits
}

fn count_down<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Ids;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[tokio::test]
    async fn a_drain_asks_everybody_and_admits_nobody() {
        let sockets = Sockets::default();
        let seat = sockets.enter(ADDRESS).unwrap();
        assert_eq!(sockets.count(), 1);
        let leaving = async move {
            assert_eq!(seat.asked_to_leave().await, Leave::Stopping);
            drop(seat);
        };
        tokio::join!(leaving, sockets.drain(Duration::from_secs(1)));
        assert_eq!(sockets.count(), 0);
        assert_eq!(sockets.enter(ADDRESS).err(), Some(Full::Stopping));
    }

    #[tokio::test]
    async fn a_revoked_pass_ends_those_it_let_in() {
        let (sockets, ids) = (Sockets::default(), Ids::seeded(1));
        let pass = |revision| Pass::Key { env: ids.unguessable(), key: ids.unguessable(), revision };
        let (old, new) = (pass(1), pass(2));
        let (first, second) = (sockets.enter(ADDRESS).unwrap(), sockets.enter(ADDRESS).unwrap());
        first.hold(old.clone(), None).unwrap();
        second.hold(old.clone(), None).unwrap();
        second.hold(new.clone(), None).unwrap();
        assert_eq!(sockets.passes(), HashSet::from([old.clone(), new]));
        sockets.revoke(&HashSet::from([old]));
        assert_eq!(first.asked_to_leave().await, Leave::Revoked);
        assert!(futures_util::FutureExt::now_or_never(second.asked_to_leave()).is_none());
    }

    #[test]
    fn places_are_counted_by_address_and_customer() {
        let ids = Ids::seeded(1);
        let sockets = Sockets::new(Connections { per_customer: 1, per_address: 2 }, 1);
        let (first, second) = (sockets.enter(ADDRESS).unwrap(), sockets.enter(ADDRESS).unwrap());
        assert_eq!(sockets.enter(ADDRESS).err(), Some(Full::Address));
        assert!(sockets.enter("10.0.0.1".parse().unwrap()).is_ok());
        let customer = Some((ids.unguessable(), ids.unguessable()));
        first.hold(Pass::None, customer).unwrap();
        first.hold(Pass::None, customer).unwrap();
        assert_eq!(second.hold(Pass::None, customer), Err(Full::Customer));
        drop(first);
        second.hold(Pass::None, customer).unwrap();
        assert!(sockets.enter(ADDRESS).is_ok());
    }
}
