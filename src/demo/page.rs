//! The page and the few things it asks of the demo itself; everything else it asks of the public API.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State as Extract;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use parking_lot::RwLock;
use serde_json::{Value, json};

use super::keys;
use super::receiver::Inbox;
use super::seed::{Api, State};
use crate::app::App;
use crate::error::{Error, Result};
use crate::net::Outbound;

const PAGE: &str = include_str!("page.html");

/// What the page's routes know.
pub struct Demo {
    api: Api,
    inbox: Inbox,
    state: RwLock<Option<State>>,
}

impl Demo {
    pub fn new(outbound: Outbound, here: String) -> Demo {
        Demo { api: Api::new(outbound, here), inbox: Inbox::default(), state: RwLock::new(None) }
    }

    /// The environment is ready: the page may be used.
    pub fn begin(&self, state: &State) -> Result<()> {
        *self.state.write() = Some(state.clone());
        Ok(())
    }

    fn state(&self) -> Result<State> {
        self.state.read().clone().ok_or_else(|| Error::unavailable(1, "the demo is being prepared"))
    }
}

/// The routes below `/demo`.
pub fn routes(demo: Arc<Demo>) -> Router<App> {
    let (config, send, webhooks, hook) = (demo.clone(), demo.clone(), demo.clone(), demo);
    Router::new()
        .route("/demo", get(|| async { ([(header::CACHE_CONTROL, "no-cache")], Html(PAGE)) }))
        .route("/demo/config.json", get(move |Extract(app): Extract<App>| async move { settings(&app, &config) }))
        .route("/demo/send", post(move || async move { send_card(&send).await }))
        .route("/demo/webhooks", get(move || async move { Json(webhooks.inbox.list()) }))
        .route(
            "/demo/hook",
            post(move |Extract(app): Extract<App>, headers: HeaderMap, body: Bytes| async move {
                receive(&app, &hook, &headers, &body)
            }),
        )
}

/// What the page needs to speak to the public API as the demo's customer.
fn settings(app: &App, demo: &Demo) -> Result<Response> {
    let state = demo.state()?;
    let token = keys::token(&state.private_key, &state.customer_id, app.clock().now())?;
    let settings = json!({
        "containerId": state.container_id, "apiKey": state.key_name, "customerToken": token,
        "customerId": state.customer_id, "environmentId": state.environment_id, "flowConfigId": state.flow_id,
    });
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(settings)).into_response())
}

/// Starts the flow for the demo's customer, as a company's backend would.
async fn send_card(demo: &Demo) -> Result<Json<Value>> {
    let state = demo.state()?;
    let token = demo.api.token(&state.events).await?;
    let path = format!("/v1/{}/action-flow/{}/start", state.environment_id, state.flow_id);
    let amount = format!("{:.2}", 5.0 + 95.0 * crate::ids::Ids::random().fraction());
    let body = json!({ "flows": [{
        "target": { "type": "user", "targetUserIds": state.customer_id },
        "payload": { "variables": { "amount": amount } },
    }] });
    demo.api.call(&token, reqwest::Method::POST, &path, Some(body)).await.map(Json)
}

fn receive(app: &App, demo: &Demo, headers: &HeaderMap, body: &Bytes) -> StatusCode {
    match demo.state() {
        Ok(state) => demo.inbox.receive(&state.webhook_secret, app.clock().now(), headers, body),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}
