//! `/v1/{env}/action-flow`: starting, testing, listing, publishing and stopping flows (specification 8.7).

use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::auth::Authenticated;
use super::errors;
use super::flow_tasks;
use super::json::{JsonBody, data};
use crate::access::CredentialRole::{Events, Workbench};
use crate::app::App;
use crate::error::{Code, Error, Result};
use crate::events::TriggerSource;
use crate::flows::{
    self, CardsOfRuns, Changes, Chosen, EntryError, EntryOutcome, Flow, FlowFilter, FlowView, StartRequest, Started,
    Window,
};
use crate::ids::{FlowId, Id, LifecycleId, RunId};

const LIST_DEFAULT: i64 = 100;
const LIST_MAXIMUM: i64 = 1_000;

pub fn routes() -> Router<App> {
    Router::new()
        .route("/v1/{env}/action-flow", get(list))
        .route("/v1/{env}/action-flow/{flow}", get(detail).put(update))
        .route("/v1/{env}/action-flow/{flow}/start", post(start))
        .route("/v1/{env}/action-flow/{flow}/test", post(test))
        .route("/v1/{env}/action-flow/{flow}/publish", post(publish))
        .route("/v1/{env}/action-flow/{flow}/variables", put(variables))
        .route("/v1/{env}/action-flow/{flow}/cancel", post(cancel))
        .merge(flow_tasks::routes())
}

#[derive(Deserialize)]
struct FlowPath {
    flow: String,
}

impl FlowPath {
    fn id(&self) -> Result<FlowId> {
        FlowId::parse(&self.flow)
    }
}

async fn start(
    State(app): State<App>,
    Authenticated(access): Authenticated,
    Path(path): Path<FlowPath>,
    JsonBody(body): JsonBody,
) -> Result<Response> {
    access.require_role(&[Events])?;
    let request = StartRequest::parse(&body)?;
    let started = flows::start(&app, &access, path.id()?, request, TriggerSource::Api).await?;
    Ok(answer(&started))
}

async fn test(
    State(app): State<App>,
    Authenticated(access): Authenticated,
    Path(path): Path<FlowPath>,
    JsonBody(body): JsonBody,
) -> Result<Response> {
    access.require_role(&[Events])?;
    let request = StartRequest::parse(&body)?;
    let started = flows::test(&app, &access, path.id()?, &request, TriggerSource::Api).await?;
    Ok(answer(&started))
}

/// 200 with the fate of each entry, or 400 when nothing could be done with any of them.
fn answer(started: &Started) -> Response {
    if let Some(refusal) = started.refusal() {
        let errors: Vec<Value> = refusal.iter().map(entry_error).collect();
        return (StatusCode::BAD_REQUEST, Json(json!({ "errors": errors }))).into_response();
    }
    let entries: Vec<Value> = started.entries.iter().map(entry).collect();
    data(json!({ "batchId": started.batch, "flows": entries }))
}

fn entry(outcome: &EntryOutcome) -> Value {
    json!({
        "flowInvocationId": outcome.invocation,
        "status": outcome.status().word(),
        "accepted": outcome.accepted,
        "duplicate": outcome.duplicate,
        "ignored": outcome.ignored,
        "rejected": outcome.rejected,
        "errors": outcome.errors.iter().map(entry_error).collect::<Vec<_>>(),
    })
}

fn entry_error(error: &EntryError) -> Value {
    let mut entry = errors::entry(&error.violation);
    if let Some(user_id) = &error.user_id {
        entry["userId"] = Value::from(user_id.as_str());
    }
    entry
}

async fn list(
    State(app): State<App>,
    Authenticated(access): Authenticated,
    RawQuery(query): RawQuery,
) -> Result<Response> {
    access.require_role(&[Events, Workbench])?;
    let query = query.unwrap_or_default();
    let window = Window {
        limit: whole_number(&query, "limit", 1..=LIST_MAXIMUM)?.unwrap_or(LIST_DEFAULT),
        offset: whole_number(&query, "offset", 0..=i64::MAX)?.unwrap_or(0),
    };
    let status = match parameter(&query, "status") {
        None => None,
        Some(word) => Some(flows::State::parse(&word).ok_or_else(|| {
            Error::new(Code::ValidationFailed, "status is draft, published, changed or archived").parameter("status")
        })?),
    };
    let listed = flows::flow_window(&app, &access, FlowFilter::of(status), window).await?;
    Ok(data(listed.iter().map(summary).collect::<Vec<_>>()))
}

/// A query parameter; of several of one name the last counts.
fn parameter(query: &str, name: &str) -> Option<String> {
    let pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs.filter(|(key, _)| key == name).last().map(|(_, value)| value.into_owned())
}

fn whole_number(query: &str, name: &'static str, range: std::ops::RangeInclusive<i64>) -> Result<Option<i64>> {
    let Some(text) = parameter(query, name) else { return Ok(None) };
    let number = text.parse().ok().filter(|number| range.contains(number));
    let rule = if *range.end() == i64::MAX {
        format!("{name} must be a whole number from {}", range.start())
    } else {
        format!("{name} must be a whole number from {} to {}", range.start(), range.end())
    };
    number.map(Some).ok_or_else(|| Error::new(Code::ValidationFailed, rule).parameter(name))
}

fn summary(flow: &Flow) -> Value {
    json!({
        "flowConfigId": flow.id,
        "name": flow.name,
        "status": flow.status.word(),
        "publishedVersion": flow.published_version,
        "draftVersion": flow.draft_version,
        "metadata": flow.metadata,
        "created": flow.created_at,
        "updated": flow.updated_at,
    })
}

fn whole(view: &FlowView) -> Value {
    let part = |name: &str| view.definition.get(name).cloned().unwrap_or_else(|| json!([]));
    let triggers = view.triggers.iter();
    let triggers: Vec<Value> =
        triggers.map(|trigger| json!({ "id": trigger.id, "kind": trigger.kind, "mode": trigger.mode })).collect();
    let mut flow = summary(&view.flow);
    flow["variables"] = part("variables");
    flow["triggers"] = Value::from(triggers);
    flow["steps"] = part("steps");
    flow
}

async fn detail(
    State(app): State<App>,
    Authenticated(access): Authenticated,
    Path(path): Path<FlowPath>,
) -> Result<Response> {
    access.require_role(&[Events, Workbench])?;
    Ok(data(whole(&flows::flow(&app, &access, path.id()?).await?)))
}

async fn update(
    State(app): State<App>,
    Authenticated(access): Authenticated,
    Path(path): Path<FlowPath>,
    JsonBody(body): JsonBody,
) -> Result<Response> {
    access.require_role(&[Workbench])?;
    let id = path.id()?;
    let changes =
        Changes { name: text(&body, "name")?, metadata: present(&body, "metadata").cloned(), ..Changes::default() };
    flows::update(&app, &access, id, changes).await?;
    Ok(data(whole(&flows::flow(&app, &access, id).await?)))
}

async fn publish(
    State(app): State<App>,
    Authenticated(access): Authenticated,
    Path(path): Path<FlowPath>,
    JsonBody(body): JsonBody,
) -> Result<Response> {
    access.require_role(&[Workbench])?;
    let members = present(&body, "startForCurrentMembers");
    if members.is_some_and(|triggers| triggers.as_array().is_none_or(|listed| !listed.is_empty())) {
        return Err(Error::invalid("/startForCurrentMembers", "names a trigger that the flow does not have"));
    }
    let published = flows::publish(&app, &access, path.id()?, flows::Followers::Stay).await?;
    Ok(data(json!({ "version": published.version })))
}

async fn variables(
    State(app): State<App>,
    Authenticated(access): Authenticated,
    Path(path): Path<FlowPath>,
    JsonBody(body): JsonBody,
) -> Result<Response> {
    access.require_role(&[Events])?;
    let named = |name: &'static str| text(&body, name);
    let chosen = match (named("flowInvocationId")?, named("flowInstanceId")?, named("lifecycleId")?) {
        (Some(invocation), None, None) => Chosen::Invocation(invocation),
        (None, Some(run), None) => Chosen::Run(RunId::parse(&run)?),
        (None, None, Some(lifecycle)) => Chosen::Lifecycle(LifecycleId::parse(&lifecycle)?),
        _ => return Err(Error::invalid("", "give one of flowInvocationId, flowInstanceId and lifecycleId")),
    };
    let given = body.get("variables").and_then(Value::as_object);
    let given = given.ok_or_else(|| Error::invalid("/variables", "variables must be an object"))?;
    let user_id = named("userId")?;
    let revised = flows::update_variables(&app, &access, path.id()?, &chosen, user_id.as_deref(), given).await?;
    Ok(data(json!({ "runs": revised.runs, "cards": revised.cards })))
}

async fn cancel(
    State(app): State<App>,
    Authenticated(access): Authenticated,
    Path(path): Path<FlowPath>,
    JsonBody(body): JsonBody,
) -> Result<Response> {
    access.require_role(&[Events])?;
    let chosen = match (text(&body, "flowInvocationId")?, text(&body, "flowInstanceId")?) {
        (Some(invocation), None) => Chosen::Invocation(invocation),
        (None, Some(run)) => Chosen::Run(RunId::parse(&run)?),
        _ => return Err(Error::invalid("", "give either flowInvocationId or flowInstanceId")),
    };
    let cards = match present(&body, "cancelCards") {
        None | Some(Value::Bool(false)) => CardsOfRuns::Stay,
        Some(Value::Bool(true)) => CardsOfRuns::Cancel,
        Some(_) => return Err(Error::invalid("/cancelCards", "cancelCards must be true or false")),
    };
    let cancelled = flows::cancel(&app, &access, path.id()?, chosen, cards).await?;
    Ok(data(json!({ "runs": cancelled.runs, "cards": cancelled.cards })))
}

/// A property of the body; null is absent.
fn present<'a>(body: &'a Value, name: &str) -> Option<&'a Value> {
    body.get(name).filter(|value| !value.is_null())
}

fn text(body: &Value, name: &str) -> Result<Option<String>> {
    match present(body, name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(Error::invalid(format!("/{name}"), format!("{name} must be a string"))),
    }
}
