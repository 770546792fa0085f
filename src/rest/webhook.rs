//! `/v1/{env}/webhook`: subscriptions of a workbench credential (specification 11.2).

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use axum::routing::{get, post, put};
use serde::Deserialize;
use serde_json::{Value, json};

use super::auth::Authenticated;
use super::json::{JsonBody, data};
use crate::access::CredentialRole::Workbench;
use crate::app::App;
use crate::error::Result;
use crate::ids::{Id, WebhookId};
use crate::webhooks::subscription::{self, Subscription};
use crate::webhooks::{draft, status, trial};

pub fn routes() -> Router<App> {
    Router::new()
        .route("/v1/{env}/webhook", get(list).post(create))
        .route("/v1/{env}/webhook/{webhook}", put(update).delete(disable))
        .route("/v1/{env}/webhook/{webhook}/test", post(test))
}

#[derive(Deserialize)]
struct WebhookPath {
    webhook: String,
}

impl WebhookPath {
    fn id(&self) -> Result<WebhookId> {
        WebhookId::parse(&self.webhook)
    }
}

async fn create(
    State(app): State<App>,
    Authenticated(access): Authenticated,
    JsonBody(body): JsonBody,
) -> Result<Response> {
    access.require_role(&[Workbench])?;
    let created = subscription::create(&app, &access, draft::read(&body)?).await?;
    Ok(data(shown(&app, &created)?))
}

async fn list(State(app): State<App>, Authenticated(access): Authenticated) -> Result<Response> {
    access.require_role(&[Workbench])?;
    let listed = subscription::list(&app, &access).await?;
    Ok(data(listed.iter().map(|subscription| shown(&app, subscription)).collect::<Result<Vec<_>>>()?))
}

async fn update(
    State(app): State<App>,
    Authenticated(access): Authenticated,
    Path(path): Path<WebhookPath>,
    JsonBody(body): JsonBody,
) -> Result<Response> {
    access.require_role(&[Workbench])?;
    let updated = subscription::update(&app, &access, path.id()?, draft::read(&body)?).await?;
    Ok(data(shown(&app, &updated)?))
}

/// Disables: what is deleted here can be enabled, or deleted for good, in the workbench.
async fn disable(
    State(app): State<App>,
    Authenticated(access): Authenticated,
    Path(path): Path<WebhookPath>,
) -> Result<Response> {
    access.require_role(&[Workbench])?;
    let disabled = status::disable(&app, &access, path.id()?).await?;
    Ok(data(shown(&app, &disabled)?))
}

async fn test(
    State(app): State<App>,
    Authenticated(access): Authenticated,
    Path(path): Path<WebhookPath>,
    RawQuery(query): RawQuery,
) -> Result<Response> {
    access.require_role(&[Workbench])?;
    let query = query.unwrap_or_default();
    let kind = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "type").map(|(_, kind)| kind);
    let outcome = trial::send(&app, &access, path.id()?, kind.as_deref().filter(|kind| !kind.is_empty())).await?;
    let mut answer = json!({
        "requestId": outcome.request,
        "delivered": outcome.delivered,
        "status": outcome.status,
        "durationMs": u64::try_from(outcome.duration.as_millis()).unwrap_or(u64::MAX),
    });
    if let Some(error) = outcome.error {
        answer["error"] = error.into();
    }
    Ok(data(answer))
}

/// A subscription as REST shows it: with its secret, and with `headers` and scope only where they are set.
fn shown(app: &App, subscription: &Subscription) -> Result<Value> {
    let mut shown = json!({
        "id": subscription.id,
        "name": subscription.name,
        "types": subscription.types,
        "url": subscription.url,
        "testUrl": subscription.test_url,
        "method": subscription.method,
        "secret": subscription.reveal(app.vault())?.expose(),
        "includeTestEvents": subscription.include_test_events,
        "includeRequestPayload": subscription.include_request_payload,
        "includeCardResponse": subscription.include_card_response,
        "isBatched": subscription.batched,
        "maxRetries": subscription.max_retries,
        "disableAfterFailures": subscription.disable_after_failures,
        "status": subscription.status,
        "disabledReason": subscription.disabled_reason,
        "disabledAt": subscription.disabled_at,
        "created": subscription.created_at,
        "updated": subscription.updated_at,
        "revision": subscription.revision,
    });
    let headers = subscription.custom_headers();
    if !headers.is_empty() {
        shown["headers"] = json!(headers);
    }
    if let Some(template) = subscription.template_id {
        shown["cardTemplateId"] = json!(template);
    }
    if let Some(flow) = subscription.flow_id {
        shown["actionFlowConfigId"] = json!(flow);
    }
    if let Some(mapping) = &subscription.mapping {
        shown["mapping"] = json!(mapping);
    }
    if let Some(credential) = subscription.credential_id {
        shown["credentialId"] = json!(credential);
    }
    Ok(shown)
}
