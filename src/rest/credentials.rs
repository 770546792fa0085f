//! `/v1/{env}/credentials`: API credentials that make API credentials (§3.4).

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{delete, get};
use serde_json::{Value, json};

use super::auth::Authenticated;
use super::json::{self, JsonBody};
use crate::access::credential::{self, Credential};
use crate::access::{Access, CredentialRole};
use crate::app::App;
use crate::error::{Error, Result, Violations};
use crate::ids::{CredentialId, Id};

pub fn routes() -> Router<App> {
    Router::new()
        .route("/v1/{env}/credentials", get(list).post(create))
        .route("/v1/{env}/credentials/{client_id}", delete(remove))
}

fn allow(access: &Access) -> Result<()> {
    access.require_role(&[CredentialRole::Auth])
}

async fn list(State(app): State<App>, Authenticated(access): Authenticated) -> Result<Response> {
    allow(&access)?;
    let shown: Vec<Value> = credential::list_all(&app, &access).await?.iter().map(show).collect::<Result<_>>()?;
    Ok(json::data(shown))
}

fn show(credential: &Credential) -> Result<Value> {
    Ok(json!({
        "clientId": credential.id,
        "name": credential.name,
        "role": credential.role()?.word(),
        "created": credential.created_at,
    }))
}

async fn create(
    State(app): State<App>,
    Authenticated(access): Authenticated,
    JsonBody(body): JsonBody,
) -> Result<Response> {
    allow(&access)?;
    let mut violations = Violations::new();
    let role = violations.check(role(&body));
    let name = violations.check(name(&body));
    violations.finish()?;
    let (Some(role), Some(name)) = (role, name) else { return Err(Error::internal("violations were not reported")) };
    let created = credential::create(&app, &access, role, name).await?;
    let shown = json!({ "clientId": created.credential.id, "clientSecret": created.secret.expose() });
    Ok(json::data_with(StatusCode::CREATED, shown))
}

fn role(body: &Value) -> Result<CredentialRole> {
    match body.get("role").and_then(Value::as_str).and_then(CredentialRole::parse) {
        Some(role @ (CredentialRole::Workbench | CredentialRole::Events)) => Ok(role),
        _ => Err(Error::invalid("/role", "role must be workbench or events")),
    }
}

fn name(body: &Value) -> Result<&str> {
    match body.get("name") {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(name)) => Ok(name),
        Some(_) => Err(Error::invalid("/name", "name must be a string")),
    }
}

async fn remove(
    State(app): State<App>,
    Authenticated(access): Authenticated,
    Path((_, client_id)): Path<(String, String)>,
) -> Result<Response> {
    allow(&access)?;
    let id = CredentialId::parse(&client_id)?;
    credential::delete(&app, &access, id).await?;
    Ok(json::data(json!({ "clientId": id })))
}
