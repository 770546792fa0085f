//! Webhook subscriptions, tests, secrets and the request log (specification 11).

use async_graphql::{Context, Enum, InputObject, MaybeUndefined, Object, SimpleObject};

use super::connection::Connection;
use super::context::{app, viewer};
use super::scalars::{Json, JsonObject};
use crate::access::{Level, Resource};
use crate::clock::Time;
use crate::db::page::PageRequest;
use crate::error::Result;
use crate::ids::{EnvId, EventId, FlowId, OutgoingCredentialId, RequestId, TemplateId, WebhookId};
use crate::secret::Secret;
use crate::webhooks::draft::{self, Draft, Scope};
use crate::webhooks::request_log::{self, Entry};
use crate::webhooks::{rotation, status, subscription, trial};

#[derive(Default)]
pub struct WebhooksQuery;

#[derive(Default)]
pub struct WebhooksMutation;

/// How a receiver is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum WebhookMethod {
    Post,
    Put,
}

impl WebhookMethod {
    fn word(self) -> &'static str {
        match self {
            WebhookMethod::Post => "POST",
            WebhookMethod::Put => "PUT",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum WebhookSubscriptionStatus {
    Active,
    Disabled,
}

/// Why a subscription is disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum WebhookDisabledReason {
    Api,
    Member,
    Failures,
    Gone,
}

pub struct WebhookSubscription(pub(super) subscription::Subscription);

/// Who wants to be called about which events.
#[Object]
impl WebhookSubscription {
    async fn id(&self) -> WebhookId {
        self.0.id
    }

    async fn environment_id(&self) -> EnvId {
        self.0.environment_id
    }

    async fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    async fn types(&self) -> &[String] {
        &self.0.types
    }

    async fn url(&self) -> &str {
        &self.0.url
    }

    async fn test_url(&self) -> Option<&str> {
        self.0.test_url.as_deref()
    }

    async fn method(&self) -> WebhookMethod {
        if self.0.method == "PUT" { WebhookMethod::Put } else { WebhookMethod::Post }
    }

    async fn headers(&self) -> JsonObject {
        JsonObject::of(self.0.headers.clone())
    }

    async fn card_template_id(&self) -> Option<TemplateId> {
        self.0.template_id
    }

    async fn action_flow_config_id(&self) -> Option<FlowId> {
        self.0.flow_id
    }

    async fn credential_id(&self) -> Option<OutgoingCredentialId> {
        self.0.credential_id
    }

    /// The source of the script whose `map(payload)` gives the body that is sent.
    async fn mapping(&self) -> Option<&str> {
        self.0.mapping.as_deref()
    }

    /// The signing secret; null for those who may only view subscriptions.
    async fn secret(&self, ctx: &Context<'_>) -> Result<Option<String>> {
        let access = viewer(ctx)?.access(self.0.environment_id)?;
        if access.require(Resource::WebhookSubscription, Level::Edit).is_err() {
            return Ok(None);
        }
        Ok(Some(self.0.reveal(app(ctx)?.vault())?.expose().to_owned()))
    }

    /// Until when the secret before the last rotation signs too.
    async fn previous_secret_until(&self) -> Option<Time> {
        self.0.previous_secret_until
    }

    async fn include_test_events(&self) -> bool {
        self.0.include_test_events
    }

    async fn include_request_payload(&self) -> bool {
        self.0.include_request_payload
    }

    async fn include_card_response(&self) -> bool {
        self.0.include_card_response
    }

    async fn is_batched(&self) -> bool {
        self.0.batched
    }

    async fn max_retries(&self) -> i32 {
        self.0.max_retries
    }

    async fn disable_after_failures(&self) -> bool {
        self.0.disable_after_failures
    }

    async fn status(&self) -> WebhookSubscriptionStatus {
        if self.0.active() { WebhookSubscriptionStatus::Active } else { WebhookSubscriptionStatus::Disabled }
    }

    async fn disabled_reason(&self) -> Option<WebhookDisabledReason> {
        Some(match self.0.disabled_reason.as_deref()? {
            "api" => WebhookDisabledReason::Api,
            "member" => WebhookDisabledReason::Member,
            "gone" => WebhookDisabledReason::Gone,
            _ => WebhookDisabledReason::Failures,
        })
    }

    async fn disabled_at(&self) -> Option<Time> {
        self.0.disabled_at
    }

    async fn created(&self) -> Time {
        self.0.created_at
    }

    async fn updated(&self) -> Time {
        self.0.updated_at
    }

    async fn revision(&self) -> i32 {
        self.0.revision
    }
}

pub struct WebhookRequest(pub(super) Entry);

/// An attempt to call a receiver.
#[Object]
impl WebhookRequest {
    async fn request_id(&self) -> RequestId {
        self.0.request_id
    }

    /// The event, or the first one of a batch.
    async fn event_id(&self) -> Option<EventId> {
        self.0.event_id
    }

    /// How many events the request carries.
    async fn event_count(&self) -> i32 {
        self.0.events
    }

    /// Counted from 1.
    async fn attempt(&self) -> i32 {
        self.0.attempt
    }

    async fn time(&self) -> Time {
        self.0.at
    }

    async fn duration_ms(&self) -> i32 {
        self.0.duration_ms
    }

    async fn url(&self) -> &str {
        &self.0.url
    }

    async fn method(&self) -> WebhookMethod {
        if self.0.method == "PUT" { WebhookMethod::Put } else { WebhookMethod::Post }
    }

    async fn status(&self) -> Option<i32> {
        self.0.status.map(i32::from)
    }

    /// A word for what went wrong other than by a status.
    async fn error(&self) -> Option<&str> {
        self.0.error.as_deref()
    }

    async fn is_test(&self) -> bool {
        self.0.is_test
    }

    /// Values are null for requests that are not tests.
    async fn request_headers(&self) -> Json {
        Json(self.0.request_headers.clone())
    }

    async fn request_body_bytes(&self) -> i32 {
        self.0.request_bytes
    }

    /// Kept for tests only.
    async fn request_body(&self) -> Option<&str> {
        self.0.request_body.as_deref()
    }

    /// Values are null for requests that are not tests.
    async fn response_headers(&self) -> Json {
        Json(self.0.response_headers.clone())
    }

    async fn response_body_bytes(&self) -> i32 {
        self.0.response_bytes
    }

    /// Kept for tests only.
    async fn response_body(&self) -> Option<&str> {
        self.0.response_body.as_deref()
    }
}

#[derive(InputObject)]
pub struct CreateWebhookSubscriptionInput {
    pub environment_id: EnvId,
    pub name: Option<String>,
    /// Event names, and names of custom events behind `custom:`.
    pub types: Vec<String>,
    pub url: String,
    pub test_url: Option<String>,
    pub method: Option<WebhookMethod>,
    pub headers: Option<JsonObject>,
    pub card_template_id: Option<TemplateId>,
    pub action_flow_config_id: Option<FlowId>,
    /// An own secret of 24 characters or more; generated otherwise.
    pub secret: Option<String>,
    /// The outgoing credential that the requests carry.
    pub credential_id: Option<OutgoingCredentialId>,
    /// A script whose function `map(payload)` gives the body. Tried with a sample of the first type.
    pub mapping: Option<String>,
    pub include_test_events: Option<bool>,
    pub include_request_payload: Option<bool>,
    pub include_card_response: Option<bool>,
    pub is_batched: Option<bool>,
    pub max_retries: Option<i32>,
    pub disable_after_failures: Option<bool>,
}

#[derive(InputObject)]
pub struct UpdateWebhookSubscriptionInput {
    pub id: WebhookId,
    pub expected_revision: Option<i32>,
    /// Null takes the name away.
    pub name: MaybeUndefined<String>,
    pub types: Option<Vec<String>>,
    pub url: Option<String>,
    /// Null takes the URL away.
    pub test_url: MaybeUndefined<String>,
    pub method: Option<WebhookMethod>,
    pub headers: Option<JsonObject>,
    /// Replaces the secret at once. To change it with an overlap, rotate it.
    pub secret: Option<String>,
    /// Null takes the credential away.
    pub credential_id: MaybeUndefined<OutgoingCredentialId>,
    /// Null takes the script away.
    pub mapping: MaybeUndefined<String>,
    pub include_test_events: Option<bool>,
    pub include_request_payload: Option<bool>,
    pub include_card_response: Option<bool>,
    pub is_batched: Option<bool>,
    pub max_retries: Option<i32>,
    pub disable_after_failures: Option<bool>,
}

#[derive(SimpleObject)]
pub struct CreateWebhookSubscriptionPayload {
    webhook_subscription: WebhookSubscription,
}

#[derive(SimpleObject)]
pub struct UpdateWebhookSubscriptionPayload {
    webhook_subscription: WebhookSubscription,
}

#[derive(SimpleObject)]
pub struct DisableWebhookPayload {
    webhook_subscription: WebhookSubscription,
}

#[derive(SimpleObject)]
pub struct EnableWebhookPayload {
    webhook_subscription: WebhookSubscription,
}

#[derive(SimpleObject)]
pub struct RotateWebhookSecretPayload {
    webhook_subscription: WebhookSubscription,
}

#[derive(SimpleObject)]
pub struct FinishWebhookSecretRotationPayload {
    webhook_subscription: WebhookSubscription,
}

#[derive(SimpleObject)]
pub struct DeleteWebhookPayload {
    id: WebhookId,
}

/// What came of a test.
#[derive(SimpleObject)]
pub struct SendTestWebhookPayload {
    request_id: RequestId,
    delivered: bool,
    status: Option<i32>,
    error: Option<&'static str>,
    duration_ms: i32,
}

fn custom_headers(headers: Option<JsonObject>) -> Result<Option<std::collections::BTreeMap<String, String>>> {
    headers.map(|headers| draft::read_headers(&headers.into_value())).transpose()
}

#[Object]
impl WebhooksQuery {
    async fn webhook_subscription(&self, ctx: &Context<'_>, id: WebhookId) -> Result<WebhookSubscription> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, id).await?;
        subscription::read(app, &access, id).await.map(WebhookSubscription)
    }

    /// The subscriptions of an environment, or those scoped to one template.
    async fn webhook_subscriptions(
        &self,
        ctx: &Context<'_>,
        environment_id: EnvId,
        card_template_id: Option<TemplateId>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<Connection<WebhookSubscription>> {
        let access = viewer(ctx)?.access(environment_id)?;
        let request = PageRequest::new(first, after.as_deref())?;
        let page = subscription::page(app(ctx)?, &access, card_template_id, request).await?;
        Ok(Connection::of(page, |row| row.id, WebhookSubscription))
    }

    /// The requests made for a subscription, newest first, kept for 30 days.
    async fn webhook_requests(
        &self,
        ctx: &Context<'_>,
        webhook_id: WebhookId,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<Connection<WebhookRequest>> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, webhook_id).await?;
        let request = PageRequest::<RequestId>::new(first, None)?;
        let page = request_log::list(app, &access, webhook_id, request.first, after.as_deref()).await?;
        Ok(Connection::paged(page, Entry::cursor, WebhookRequest))
    }
}

#[Object]
impl WebhooksMutation {
    /// Creates a subscription for events from now on.
    async fn create_webhook_subscription(
        &self,
        ctx: &Context<'_>,
        input: CreateWebhookSubscriptionInput,
    ) -> Result<CreateWebhookSubscriptionPayload> {
        let access = viewer(ctx)?.access(input.environment_id)?;
        let scope = Scope { template: input.card_template_id, flow: input.action_flow_config_id };
        let draft = Draft {
            name: Some(input.name),
            types: Some(input.types),
            url: Some(input.url),
            test_url: Some(input.test_url),
            method: input.method.map(|method| method.word().to_owned()),
            headers: custom_headers(input.headers)?,
            secret: input.secret.map(Secret::new),
            credential: input.credential_id.map(Some),
            mapping: input.mapping.map(Some),
            include_test_events: input.include_test_events,
            include_request_payload: input.include_request_payload,
            include_card_response: input.include_card_response,
            batched: input.is_batched,
            max_retries: input.max_retries,
            disable_after_failures: input.disable_after_failures,
            scope,
            expected_revision: None,
        };
        let created = subscription::create(app(ctx)?, &access, draft).await?;
        Ok(CreateWebhookSubscriptionPayload { webhook_subscription: WebhookSubscription(created) })
    }

    async fn update_webhook_subscription(
        &self,
        ctx: &Context<'_>,
        input: UpdateWebhookSubscriptionInput,
    ) -> Result<UpdateWebhookSubscriptionPayload> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, input.id).await?;
        let draft = Draft {
            name: input.name.into(),
            types: input.types,
            url: input.url,
            test_url: input.test_url.into(),
            method: input.method.map(|method| method.word().to_owned()),
            headers: custom_headers(input.headers)?,
            secret: input.secret.map(Secret::new),
            credential: input.credential_id.into(),
            mapping: input.mapping.into(),
            include_test_events: input.include_test_events,
            include_request_payload: input.include_request_payload,
            include_card_response: input.include_card_response,
            batched: input.is_batched,
            max_retries: input.max_retries,
            disable_after_failures: input.disable_after_failures,
            scope: Scope::default(),
            expected_revision: input.expected_revision,
        };
        let updated = subscription::update(app, &access, input.id, draft).await?;
        Ok(UpdateWebhookSubscriptionPayload { webhook_subscription: WebhookSubscription(updated) })
    }

    /// Sends a sample event now, also for a disabled subscription.
    async fn send_test_webhook(
        &self,
        ctx: &Context<'_>,
        id: WebhookId,
        #[graphql(name = "type")] kind: Option<String>,
    ) -> Result<SendTestWebhookPayload> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, id).await?;
        let outcome = trial::send(app, &access, id, kind.as_deref()).await?;
        Ok(SendTestWebhookPayload {
            request_id: outcome.request,
            delivered: outcome.delivered,
            status: outcome.status.map(i32::from),
            error: outcome.error,
            duration_ms: i32::try_from(outcome.duration.as_millis()).unwrap_or(i32::MAX),
        })
    }

    /// Stops a subscription; what waits is dropped.
    async fn disable_webhook(&self, ctx: &Context<'_>, id: WebhookId) -> Result<DisableWebhookPayload> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, id).await?;
        let disabled = status::disable(app, &access, id).await?;
        Ok(DisableWebhookPayload { webhook_subscription: WebhookSubscription(disabled) })
    }

    /// Starts a disabled subscription again, with events from now on.
    async fn enable_webhook(&self, ctx: &Context<'_>, id: WebhookId) -> Result<EnableWebhookPayload> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, id).await?;
        let enabled = status::enable(app, &access, id).await?;
        Ok(EnableWebhookPayload { webhook_subscription: WebhookSubscription(enabled) })
    }

    /// Deletes a disabled subscription.
    async fn delete_webhook(&self, ctx: &Context<'_>, id: WebhookId) -> Result<DeleteWebhookPayload> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, id).await?;
        status::delete(app, &access, id).await?;
        Ok(DeleteWebhookPayload { id })
    }

    /// Makes a new secret; the old one goes on signing for 24 hours, or as long as is said.
    async fn rotate_webhook_secret(
        &self,
        ctx: &Context<'_>,
        id: WebhookId,
        overlap_hours: Option<i32>,
    ) -> Result<RotateWebhookSecretPayload> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, id).await?;
        let rotated = rotation::rotate(app, &access, id, overlap_hours).await?;
        Ok(RotateWebhookSecretPayload { webhook_subscription: WebhookSubscription(rotated) })
    }

    /// Ends the overlap of a rotation: only the new secret signs from now on.
    async fn finish_webhook_secret_rotation(
        &self,
        ctx: &Context<'_>,
        id: WebhookId,
    ) -> Result<FinishWebhookSecretRotationPayload> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, id).await?;
        let finished = rotation::finish(app, &access, id).await?;
        Ok(FinishWebhookSecretRotationPayload { webhook_subscription: WebhookSubscription(finished) })
    }
}
