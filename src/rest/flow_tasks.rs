//! `/v1/{env}/action-flow/{flow}/csv-task`: starts of whole files (specification 8.7).

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use axum::routing::{get, post};
use futures_util::{StreamExt, TryStreamExt};
use serde::Deserialize;
use serde_json::{Value, json};

use super::auth::Authenticated;
use super::json::{data, data_with};
use crate::access::Access;
use crate::access::CredentialRole::Events;
use crate::app::App;
use crate::error::{Code, Error, Result};
use crate::flows::{self, Purpose, Task};
use crate::ids::{FlowId, Id, TaskId};

pub fn routes() -> Router<App> {
    Router::new()
        .route("/v1/{env}/action-flow/{flow}/csv-task", post(live))
        .route("/v1/{env}/action-flow/{flow}/csv-task/test", post(test))
        .route("/v1/{env}/action-flow/{flow}/csv-task/{task}", get(progress))
}

#[derive(Deserialize)]
struct FlowPath {
    flow: String,
}

#[derive(Deserialize)]
struct TaskPath {
    flow: String,
    task: String,
}

async fn live(
    State(app): State<App>,
    Authenticated(access): Authenticated,
    Path(path): Path<FlowPath>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    receive(&app, &access, Purpose::Live, &path, &headers, body).await
}

async fn test(
    State(app): State<App>,
    Authenticated(access): Authenticated,
    Path(path): Path<FlowPath>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    receive(&app, &access, Purpose::Test, &path, &headers, body).await
}

async fn receive(
    app: &App,
    access: &Access,
    purpose: fn(FlowId) -> Purpose,
    path: &FlowPath,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response> {
    access.require_role(&[Events])?;
    let flow = FlowId::parse(&path.flow)?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.split(';').next().is_some_and(|essence| essence.trim().eq_ignore_ascii_case("text/csv")) {
        return Err(Error::new(Code::UnsupportedMediaType, "send the file as text/csv"));
    }
    let cut_off = |_| Error::new(Code::BadRequest, "the body could not be read to its end");
    let file = body.into_data_stream().map_err(cut_off).boxed();
    let task = flows::start_from_csv(app, access, purpose(flow), file).await?;
    Ok(data_with(StatusCode::ACCEPTED, json!({ "taskId": task })))
}

async fn progress(
    State(app): State<App>,
    Authenticated(access): Authenticated,
    Path(path): Path<TaskPath>,
) -> Result<Response> {
    access.require_role(&[Events])?;
    let (flow, id) = (FlowId::parse(&path.flow)?, TaskId::parse(&path.task)?);
    let task = flows::task(&app, &access, id).await?;
    if task.flow_id != Some(flow) {
        return Err(Error::not_found("task"));
    }
    Ok(data(shown(&task)))
}

fn shown(task: &Task) -> Value {
    json!({
        "taskId": task.id,
        "status": task.shown_status().word(),
        "rowsTotal": task.rows_total,
        "rowsAccepted": task.rows_accepted,
        "rowsIgnored": task.rows_ignored,
        "errors": task.errors,
    })
}
