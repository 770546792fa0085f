//! The GraphQL face of the whole domain: thin resolvers over the same operations REST calls.
//!
//! - [`scalars`]: ids, times, durations and JSON as they look on the wire.
//! - [`errors`]: how an [`crate::error::Error`] becomes GraphQL errors; the only place that decides what is shown.
//!
//! Resolvers return `crate::error::Result` and use `?`. The engine carries the error untouched to the transport,
//! which gives it to [`errors::finish`].

pub mod errors;
pub mod scalars;
