//! The GraphQL face of the whole domain: thin resolvers over the same operations REST calls.
//!
//! - [`schema`]: the roots, to which each area adds a line.
//! - [`context`]: who calls. Resolvers ask [`context::viewer`] or [`context::sdk`] and hand what they get to an
//!   operation, which asks for the permission.
//! - [`scalars`], [`connection`]: ids, times, JSON and lists as they look on the wire.
//! - [`errors`]: how an [`crate::error::Error`] becomes GraphQL errors; the only place that decides what is shown.
//! - [`limits`]: how much one document may ask for.
//! - [`transport`]: HTTP and websockets.
//! - [`sdk`]: what customers' apps do; every other file is one area of the workbench.
//!
//! Resolvers return `crate::error::Result` and use `?`. The engine carries the error untouched to the transport,
//! which gives it to [`errors::finish`].

pub mod access;
pub mod cards;
pub mod connection;
pub mod context;
pub mod customers;
pub mod errors;
pub mod events;
pub mod flows;
pub mod limits;
pub mod outgoing_credentials;
pub mod requests;
pub mod runs;
pub mod scalars;
pub mod schema;
mod sdk;
mod simulation;
pub mod streams;
pub mod tasks;
pub mod templates;
pub mod test_data;
mod transport;
pub mod triggers;
mod webhook_inspection;
pub mod webhooks;

use std::time::Duration;

use axum::Router;

pub use schema::sdl;

use crate::app::App;

/// The routes of `/graphql`.
pub fn routes(app: &App) -> Router<App> {
    transport::routes(transport::Endpoint::new(app.clone(), schema::build(app)))
}

/// Closes the sockets in paced batches within the given time.
pub async fn drain(app: &App, within: Duration) {
    app.hub().sockets().drain(within).await;
}
