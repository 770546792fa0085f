//! Hints between tasks: what was announced after a commit, and who listens.
//!
//! Every hint may be lost; rows are the truth, and sweeps and polling repair a loss.

mod bus;
mod hub;
mod sockets;
mod wakes;

pub use bus::Bus;
pub use hub::{Hub, Listener};
pub use sockets::{Full, Leave, Pass, Seat, Sockets};
pub use wakes::Wakes;

use crate::ids::{ContainerId, CustomerId, EnvId};

/// What a transaction says after its commit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Announcement {
    /// The cards of a customer changed; the feed head is now at `version`.
    Feed { env: EnvId, customer: CustomerId, version: i64 },
    /// A container, or the stream it shows, was changed: whoever shows it must look again.
    Container { env: EnvId, container: ContainerId },
    /// Rows became due for a kind of work.
    Wake(Work),
}

/// What became of a message for somebody who may not be able to take it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    Sent,
    /// It was taken over, and goes out when the peer reads on.
    Queued,
    /// Nothing of it was taken over.
    Refused,
}

/// The kinds of work that workers and followers wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    /// Tokens of flow runs are ready.
    Flows,
    /// Tokens are ready for which customers wait.
    Reactions,
    /// Events were recorded and have not been matched with subscriptions.
    Fanout,
    /// Deliveries wait for their requests.
    Webhooks,
    /// A card got a timed change that may be nearer than the one waited for.
    CardTimers,
    /// Something was done to a card that a flow may wait for.
    CardWaits,
    /// A step of a flow wants a request to be made.
    Effects,
    /// Events were recorded and event triggers have not been asked about them.
    EventTriggers,
    /// Events wait to start flows.
    Firings,
    /// Something is to be done to very many customers or runs.
    Tasks,
    /// Test cards and test events are to be removed.
    TestData,
    /// Files of exported events are to be written.
    Exports,
    /// Attempts of webhooks were logged, for those who follow them.
    Attempts,
}

impl Work {
    pub const ALL: [Work; 13] = [
        Work::Flows,
        Work::Reactions,
        Work::Fanout,
        Work::Webhooks,
        Work::CardTimers,
        Work::CardWaits,
        Work::Effects,
        Work::EventTriggers,
        Work::Firings,
        Work::Tasks,
        Work::TestData,
        Work::Exports,
        Work::Attempts,
    ];
}
