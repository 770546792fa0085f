//! The GraphQL face of the whole domain: thin resolvers over the same operations REST calls.
//!
//! - [`schema`]: the roots, to which each area adds a line.
//! - [`context`]: who calls. Resolvers ask [`context::viewer`] or [`context::sdk`] and hand what they get to an
//!   operation, which asks for the permission.
//! - [`scalars`], [`connection`]: ids, times, JSON and lists as they look on the wire.
//! - [`errors`]: how an [`crate::error::Error`] becomes GraphQL errors; the only place that decides what is shown.
//! - [`limits`]: how much one document may ask for.
//!
//! Resolvers return `crate::error::Result` and use `?`. The engine carries the error untouched to the transport,
//! which gives it to [`errors::finish`].

pub mod connection;
pub mod context;
pub mod errors;
pub mod limits;
pub mod scalars;

use std::time::Duration;

use axum::Router;

use crate::app::App;

/// The routes of `/graphql`.
pub fn routes(_app: &App) -> Router<App> {
    Router::new()
}

/// The schema as SDL.
pub fn sdl() -> String {
    String::new()
}

/// Closes the sockets in paced batches within the given time.
pub async fn drain(_app: &App, _within: Duration) {}
