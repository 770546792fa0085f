//! The Cards API (specification 6.4).

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use axum::routing::{get, put};
use serde_json::{Map, Value, json};

use super::auth::Authenticated;
use super::json::{JsonBody, data};
use crate::access::{Access, CredentialRole};
use crate::app::App;
use crate::cards::CardInstance;
use crate::cards::bulk::{self, Closing};
use crate::cards::select::{LIST_DEFAULT, Reach, Selector, flag};
use crate::error::{Code, Error, Result};

/// The routes of this resource.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/v1/{env}/cards", get(list))
        .route("/v1/{env}/cards/complete", put(complete))
        .route("/v1/{env}/cards/dismiss", put(dismiss))
        .route("/v1/{env}/cards/cancel", put(cancel))
}

async fn list(
    State(app): State<App>,
    Authenticated(access): Authenticated,
    RawQuery(query): RawQuery,
) -> Result<Response> {
    access.require_role(&[CredentialRole::Events])?;
    let asked = Asked::read(query.as_deref())?;
    let limit = asked.limit.unwrap_or(LIST_DEFAULT);
    let cards = bulk::list(&app, &access, &asked.selector, limit, asked.offset).await?;
    Ok(data(cards.iter().map(body).collect::<Vec<_>>()))
}

async fn complete(
    State(app): State<App>,
    Authenticated(access): Authenticated,
    RawQuery(query): RawQuery,
    JsonBody(body): JsonBody,
) -> Result<Response> {
    let values = match body.get("values") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(values)) => values.clone(),
        Some(_) => return Err(Error::invalid("/values", "must be an object")),
    };
    close(&app, &access, query.as_deref(), Closing::Complete { values }).await
}

async fn dismiss(
    State(app): State<App>,
    Authenticated(access): Authenticated,
    RawQuery(query): RawQuery,
) -> Result<Response> {
    close(&app, &access, query.as_deref(), Closing::Dismiss).await
}

async fn cancel(
    State(app): State<App>,
    Authenticated(access): Authenticated,
    RawQuery(query): RawQuery,
) -> Result<Response> {
    close(&app, &access, query.as_deref(), Closing::Cancel).await
}

async fn close(app: &App, access: &Access, query: Option<&str>, closing: Closing) -> Result<Response> {
    access.require_role(&[CredentialRole::Events])?;
    let asked = Asked::read(query)?;
    let reach =
        Reach { all: asked.all, multiple: asked.multiple, limit: asked.limit.unwrap_or(Reach::default().limit) };
    let closed = bulk::close(app, access, &asked.selector, reach, &closing).await?;
    Ok(data(json!({
        "matched": closed.matched,
        "changed": closed.changed(),
        "remaining": closed.remaining(),
        "cardInstanceIds": closed.cards,
    })))
}

/// What the query string asks for. Unknown parameters are ignored.
#[derive(Default)]
struct Asked {
    selector: Selector,
    all: bool,
    multiple: bool,
    limit: Option<i64>,
    offset: i64,
}

impl Asked {
    fn read(query: Option<&str>) -> Result<Asked> {
        let mut asked = Asked::default();
        for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            let read = match &*name {
                "all" => flag(&value).map(|all| asked.all = all),
                "multiple" => flag(&value).map(|multiple| asked.multiple = multiple),
                "limit" => number(&value).map(|limit| asked.limit = Some(limit)),
                "offset" => number(&value).map(|offset| asked.offset = offset),
                name => asked.selector.set(name, &value),
            };
            read.map_err(|error| error.parameter(known(&name)))?;
        }
        Ok(asked)
    }
}

/// The parameters that errors can name.
fn known(name: &str) -> &'static str {
    let names = ["all", "multiple", "limit", "offset", "status", "isTest", "userId", "flowInvocationId"];
    let ids = ["lifecycleId", "cardTemplateId", "flowInstanceId", "flowConfigId"];
    names.into_iter().chain(ids).find(|known| *known == name).unwrap_or_default()
}

fn number(value: &str) -> Result<i64> {
    value.parse().map_err(|_| Error::new(Code::ValidationFailed, "must be a whole number"))
}

/// A card in the words of the API.
fn body(card: &CardInstance) -> Value {
    json!({
        "cardInstanceId": card.id,
        "cardTemplateId": card.template_id,
        "cardTemplateName": card.template_name,
        "cardTemplateVersion": card.template_version,
        "lifecycleId": card.lifecycle_id,
        "flowConfigId": card.flow_id,
        "flowInstanceId": card.run_id,
        "flowInvocationId": card.invocation,
        "eventSource": if card.is_test { "test" } else { "live" },
        "userId": card.user_id,
        "status": card.status.word(),
        "definition": card.definition,
        "payload": {
            "detail": card.detail,
            "cardOptions": card.card_options,
            "metadata": card.metadata,
        },
        "created": card.created_at,
        "updated": card.updated_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_string_is_read_by_name() {
        let asked =
            Asked::read(Some("userId=a%20b&status=active&status=snoozed&multiple=1&limit=7&colour=red")).unwrap();
        assert_eq!(asked.selector.user_id.as_deref(), Some("a b"));
        assert_eq!(asked.selector.statuses.len(), 2);
        assert!(asked.multiple && !asked.all);
        assert_eq!((asked.limit, asked.offset), (Some(7), 0));
    }

    #[test]
    fn faults_name_their_parameter() {
        for (query, parameter) in [("limit=many", "limit"), ("status=lost", "status"), ("all=yes", "all")] {
            let error = Asked::read(Some(query)).err().unwrap();
            assert_eq!(error.violations()[0].parameter, Some(parameter));
        }
    }
}
