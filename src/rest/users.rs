//! Customers, which the API calls users (specification 7.3).

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use axum::routing::{get, put};
use serde_json::{Value, json};

use super::auth::Authenticated;
use super::json::{JsonBody, data};
use crate::access::CredentialRole;
use crate::app::App;
use crate::customers::list::{self, Search};
use crate::customers::{Customer, change, preferences};
use crate::db::page::PageRequest;
use crate::error::{Code, Error, Result};
use crate::ids::Id;

/// A page holds this many users when no limit is given.
const PAGE: i64 = 100;
const LARGEST_PAGE: i64 = 1_000;

/// The routes of this resource.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/v1/{env}/users", get(page).post(upsert))
        .route("/v1/{env}/user", get(one))
        .route("/v1/{env}/userPreferences", put(set_preferences))
}

async fn page(
    State(app): State<App>,
    Authenticated(access): Authenticated,
    RawQuery(query): RawQuery,
) -> Result<Response> {
    access.require_role(&[CredentialRole::Events])?;
    let mut search = Search::default();
    let mut page = PageRequest { first: PAGE, after: None };
    for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match &*name {
            "limit" => page.first = limit(&value)?,
            "cursor" => {
                let cursor = Id::parse(&value);
                let unknown = || Error::new(Code::ValidationFailed, "is not a cursor of this list").parameter("cursor");
                page.after = Some(cursor.map_err(|_| unknown())?);
            }
            "tag" => search.tag = Some(value.into_owned()),
            "q" => search.text = Some(value.into_owned()),
            "segmentId" => return Err(Error::not_found("segment").parameter("segmentId")),
            _ => {}
        }
    }
    let found = list::list(&app, &access, &search, page).await?;
    let next = found.rows.last().filter(|_| found.more).map(|last| last.id);
    Ok(data(json!({ "users": found.rows.iter().map(body).collect::<Vec<_>>(), "nextCursor": next })))
}

fn limit(value: &str) -> Result<i64> {
    match value.parse() {
        Ok(limit @ 1..=LARGEST_PAGE) => Ok(limit),
        _ => {
            Err(Error::new(Code::ValidationFailed, format!("must be between 1 and {LARGEST_PAGE}")).parameter("limit"))
        }
    }
}

async fn one(
    State(app): State<App>,
    Authenticated(access): Authenticated,
    RawQuery(query): RawQuery,
) -> Result<Response> {
    access.require_role(&[CredentialRole::Events])?;
    let query = query.unwrap_or_default();
    let id = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "id");
    let (_, id) = id.ok_or_else(|| Error::new(Code::ValidationFailed, "an id is required").parameter("id"))?;
    Ok(data(body(&list::find(&app, &access, &id).await?)))
}

async fn upsert(
    State(app): State<App>,
    Authenticated(access): Authenticated,
    JsonBody(body): JsonBody,
) -> Result<Response> {
    access.require_role(&[CredentialRole::Events])?;
    let ((Value::Array(entries), _) | (_, Some(Value::Array(entries)))) = (&body, body.get("data")) else {
        return Err(Error::invalid("", "send an array of users, or one under \"data\""));
    };
    let outcome = change::upsert(&app, &access, entries).await?;
    let errors: Vec<Value> = outcome
        .errors
        .into_iter()
        .map(|refused| {
            json!({
                "index": refused.index,
                "pointer": refused.violation.pointer.unwrap_or_default(),
                "title": refused.violation.detail,
            })
        })
        .collect();
    Ok(data(json!({ "created": outcome.created, "updated": outcome.updated, "errors": errors })))
}

async fn set_preferences(
    State(app): State<App>,
    Authenticated(access): Authenticated,
    JsonBody(body): JsonBody,
) -> Result<Response> {
    access.require_role(&[CredentialRole::Events])?;
    let by_user_id = body.get("data").and_then(Value::as_object);
    let by_user_id = by_user_id.ok_or_else(|| Error::invalid("/data", "must be an object of user ids"))?;
    let outcome = change::set_preferences(&app, &access, by_user_id, "/data").await?;
    Ok(data(json!({ "created": outcome.created, "updated": outcome.updated })))
}

/// A customer in the words of the API.
fn body(customer: &Customer) -> Value {
    json!({
        "id": customer.user_id,
        "created": customer.created_at,
        "updated": customer.updated_at,
        "preferencesUpdated": customer.preferences_updated_at,
        "profile": customer.profile(),
        "preferences": preferences::shown(&customer.preferences),
        "tags": customer.tags,
        "segments": [],
    })
}
