//! How GraphQL travels: over HTTP, as an event stream, and over websockets. Ours where the stock transports are wrong.
//!
//! - [`endpoint`]: what they share. An operation is read, measured and counted before any of it runs.
//! - [`selection`], [`handover`]: how a subscription that is told much writes its messages without the engine.
//! - [`http`]: GraphQL over HTTP, one operation per request.
//! - [`sse`]: GraphQL over server-sent events, one operation per connection, for networks without websockets.
//! - [`websocket`], [`protocol`]: `graphql-transport-ws`, one task per connection. [`upgrade`] makes the connection,
//!   [`wire`] carries its frames.
//!
//! Why not the engine's axum integration: it runs mutations sent by GET and as `text/plain`, which any foreign page
//! can make a browser send, and its websocket closes with codes that make clients give up for good.

mod endpoint;
mod handover;
mod http;
mod multipart;
mod protocol;
mod selection;
mod session;
mod sse;
mod upgrade;
mod websocket;
mod wire;

pub use endpoint::Endpoint;
pub use handover::{Handover, Texts};
pub use selection::{Field, Root, Selection};
pub use session::Renewal;
pub use wire::Outlet;

use std::sync::Arc;

use axum::Router;
use axum::routing::any;

use crate::app::App;

/// The routes of `/graphql`.
pub fn routes(endpoint: Endpoint) -> Router<App> {
    Router::new().route("/graphql", any(http::handle)).with_state(Arc::new(endpoint))
}
