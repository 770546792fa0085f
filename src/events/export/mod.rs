//! Batched files: the events of every hour, once, as NDJSON and as Parquet (§10.4).
//!
//! Cast: the [`Sealer`] decides which events belong to which hour and which environments had any. The [`Writer`] reads
//! those of one hour and environment in order and turns them into [`files`], which are kept in pieces (`chunk`).
//! [`list`] names the files of a range behind signed URLs, [`open`] gives their bytes.
//!
//! Invariants: an event is in the files of one hour, that of its receipt; what commits so late that its hour is written
//! goes into the next files, never nowhere. Files are written in small transactions, because a long one would hold up
//! every reader of events, and become visible in one. Memory does not grow with the hour.
//!
//! Why in Postgres: every server must be able to give every file, and Postgres is all that they share.

mod chunk;
pub mod files;
mod seal;
mod serve;
mod write;

pub use files::Format;
pub use seal::Sealer;
pub use serve::{File, Hours, list, open};
pub use write::Writer;

use std::time::Duration;

use crate::clock::Time;

pub(super) const HOUR: Duration = Duration::from_secs(3600);

/// The hour in which a time lies.
pub(super) fn hour_of(time: Time) -> Time {
    let millis = 3_600_000;
    Time::from_millisecond(time.as_millisecond().div_euclid(millis) * millis)
}
