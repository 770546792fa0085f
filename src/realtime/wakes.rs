//! In-process wake-ups of workers.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::Work;

/// Customers who did something so long ago may do more.
const ACTIVE: Duration = Duration::from_secs(1);

/// One bell for each kind of work.
#[derive(Clone, Default)]
pub struct Wakes {
    bells: Arc<[Notify; Work::ALL.len()]>,
    /// Events were recorded: any number of listeners hear it.
    recorded: Arc<watch::Sender<()>>,
    /// Attempts of webhooks were logged: the same.
    attempted: Arc<watch::Sender<()>>,
    /// When something was last done to a card.
    acted_at: Arc<Mutex<Option<Instant>>>,
}

impl Wakes {
    /// The bell of one kind of work. A ring while nobody waits is kept for the next who does.
    pub fn of(&self, work: Work) -> &Notify {
        &self.bells[work as usize]
    }

    pub fn ring(&self, work: Work) {
        self.of(work).notify_one();
        match work {
            Work::Fanout => self.recorded.send_replace(()),
            Work::Attempts => self.attempted.send_replace(()),
            Work::CardWaits => *self.acted_at.lock() = Some(Instant::now()),
            _ => {}
        }
    }

    /// Whether customers are at work on their cards, here or on another node: what can wait steps aside for them.
    pub fn customers_act(&self) -> bool {
        self.acted_at.lock().is_some_and(|acted| acted.elapsed() < ACTIVE)
    }

    /// Hears that events were recorded, from now on.
    pub fn recorded(&self) -> watch::Receiver<()> {
        self.recorded.subscribe()
    }

    /// Hears that attempts of webhooks were logged, from now on.
    pub fn attempted(&self) -> watch::Receiver<()> {
        self.attempted.subscribe()
    }
}
