//! Analytics events: the record of everything that happens, from which webhooks, exports and triggers are fed.
//!
//! Cast: a [`NewEvent`] describes what happened; [`record_in`] writes it, with the exact bytes that will be signed
//! and exported, in the transaction of the change itself. Readers that must miss none keep a place in [`consumer`];
//! [`log`] answers questions about the past and [`follow`](mod@follow) tells what comes, by the [`tail`] of the record; [`trim`] leaves out what a reader must not
//! see, [`ExportSettings`] what must not leave the environment. [`export`] writes files, [`retention`] forgets. `events` knows no card or flow:
//! facts carry ids and text.

pub mod consumer;
pub mod export;
mod export_settings;
mod fact;
pub mod follow;
pub mod kind;
pub mod log;
pub mod retention;
pub(crate) mod tail;
pub mod trim;

pub use export_settings::ExportSettings;
pub(crate) use fact::record_in;
pub use fact::{
    CardContext, EndUser, EventContext, NewEvent, PlatformContext, Recorded, SdkEventContext, StreamContext,
    TriggerSource, names,
};
