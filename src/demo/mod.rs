//! `cardwire demo`: a server with a ready environment, a page, and a receiver that verifies its webhooks.

use axum::Router;
use serde_json::json;

use crate::command::{Opened, serve_until_stopped};
use crate::config::Config;
use crate::error::Result;

pub async fn run(config: Config) -> Result<()> {
    let opened = Opened::open(config).await?;
    serve_until_stopped(opened, Router::new(), async |_| Ok(json!({}))).await
}
