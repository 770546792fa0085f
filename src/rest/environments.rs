//! `GET /v1/environments`.

use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use axum::{Router, response::IntoResponse};
use serde_json::{Value, json};

use super::auth::Caller;
use super::json;
use crate::access::environment;
use crate::app::App;
use crate::error::Result;

pub fn routes() -> Router<App> {
    Router::new().route("/v1/environments", get(list))
}

/// Lists the environments that the caller can see.
async fn list(State(app): State<App>, Caller(viewer): Caller) -> Result<Response> {
    let environments = environment::list_all(&app, &viewer).await?;
    let shown: Vec<Value> =
        environments.into_iter().map(|environment| json!({ "id": environment.id, "name": environment.name })).collect();
    Ok(json::data(shown).into_response())
}
