//! `/hooks/{trigger}`: where systems post that know nothing of Cardwire (specification 9.2).

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::post;
use serde_json::json;

use super::auth::Circumstances;
use super::json;
use crate::app::App;
use crate::error::{Error, Result};
use crate::ids::{Id, TriggerId};
use crate::triggers::receive::{self, Taken};

pub fn routes() -> Router<App> {
    Router::new().route("/hooks/{trigger}", post(take).put(take))
}

async fn take(
    State(app): State<App>,
    Circumstances(info): Circumstances,
    Path(trigger): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    let address = info.address.ok_or_else(|| Error::internal("a request without an address"))?;
    let knock = receive::knock(&app, TriggerId::parse(&trigger)?, address).await?;
    let body = match json::read(body, receive::BODY_BYTES).await {
        Ok(body) => body,
        Err(error) => return Err(knock.refused(&app, error, receive::BODY_BYTES).await),
    };
    let answer = match knock.enter(&app, &headers, &body).await? {
        Taken::Captured => json!({ "captured": true }),
        Taken::Started(invocation) => json!({ "flowInvocationId": invocation }),
    };
    Ok(json::data_with(StatusCode::ACCEPTED, answer))
}
