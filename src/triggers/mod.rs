//! Triggers: what other systems send, and what happens here, becomes a start of a flow (specification 9).
//!
//! Cast: a [`flows::Trigger`](crate::flows::Trigger) of kind `webhook` has an unguessable URL. [`receive`] takes what is
//! posted there through its checks, each with an answer of its own. A [`mapping::Mapping`] gives the body the [`target`]
//! schema; [`shape`] compares it with the sample; [`verification`] recognises the sender. Members [`edit`] a trigger,
//! switch its [`mode`], work with its [`sample`], read its [`request_log`] and [`mod@replay`] what it keeps, and [`follow`]
//! what happens meanwhile. Triggers of kind `event` are fired by the record of events: [`mod@event`].
//!
//! Invariants: a request starts runs or changes the trigger, never both. A live trigger that gets what it does not
//! understand is paused in the transaction that says so. Bodies are kept as samples and, sealed and for some days, in the
//! log; those of senders who were not recognised are not.

pub mod edit;
pub mod event;
pub mod follow;
pub mod mapping;
pub mod mode;
pub mod receive;
pub mod replay;
pub mod request_log;
pub mod sample;
pub mod shape;
mod target;
pub mod verification;
