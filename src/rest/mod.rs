//! The documented REST endpoints: thin translators, one file per resource.
//!
//! A handler reads its request through [`json`], asks one operation, and puts the answer into the envelope.
//! Rules live in the operations; codes and statuses in [`errors`].

mod action_flow;
mod analytics;
mod analytics_files;
pub mod auth;
mod cards;
mod credentials;
mod environments;
pub mod errors;
mod flow_tasks;
mod hooks;
pub mod json;
mod oauth;
mod users;
mod webhook;

use axum::Router;

use crate::app::App;

/// All REST routes.
pub fn routes() -> Router<App> {
    Router::new()
        .merge(oauth::routes())
        .merge(environments::routes())
        .merge(credentials::routes())
        .merge(webhook::routes())
        .merge(analytics::routes())
        .merge(analytics_files::routes())
        .merge(users::routes())
        .merge(cards::routes())
        .merge(action_flow::routes())
        .merge(hooks::routes())
}
