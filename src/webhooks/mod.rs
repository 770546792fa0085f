//! Outgoing webhooks: events reach the receivers of subscriptions, signed, at least once, and no receiver delays
//! another.
//!
//! Cast: a [`subscription::Subscription`] says who wants which events. [`fanout::Fanout`] appends each event to the
//! logs of the subscriptions it concerns. [`deliver::Deliverer`] leases the stream of a subscription and works it off
//! in a [`lane`]: a window of concurrent requests that adapts, one request at a time after failures. The [`desk`] has
//! all lanes: it shares the requests that may be under way among them by [`slots`], and saves their outcomes together
//! in an [`outbox`]. A failed request moves to a table of retries with its due time.
//!
//! Invariants:
//! - A delivery has an outcome, is in the table of retries, or lies beyond its stream's cursor (or among its open
//!   ones): there is no moment between, so a process may end at any time.
//! - Whoever writes progress holds the stream's lease, and every write asks for it.
//! - `webhooks` knows events and access; it does not know cards or flows, only their ids.

pub mod attempt;
mod backlog;
mod carry;
pub mod credential;
pub mod deliver;
mod desk;
pub mod draft;
pub mod explain;
pub mod fanout;
mod header;
mod lane;
mod ledger;
mod mapping;
mod outbox;
mod payload;
pub mod reconcile;
pub mod replay;
pub mod request_log;
mod retry;
pub mod rotation;
mod sample;
pub mod sign;
mod slots;
pub mod status;
mod stream;
pub mod subscription;
pub mod trial;
mod window;
