//! Card instances for the workbench and for servers: reading them, and closing many at once.

use async_graphql::{Context, Enum, InputObject, Object, SimpleObject};

use super::connection::Connection;
use super::context;
use super::scalars::JsonObject;
use crate::cards::bulk::{self, Closed, Closing};
use crate::cards::options::Platform;
use crate::cards::select::{BULK_DEFAULT, Reach, Selector};
use crate::cards::{CardInstance, Status};
use crate::clock::Time;
use crate::db::page::PageRequest;
use crate::error::Result;
use crate::ids::{CardId, EnvId, FlowId, LifecycleId, RunId, StreamId, TemplateId};

/// The state of a card.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "Status")]
pub enum CardStatus {
    Embargoed,
    Active,
    Snoozed,
    Completed,
    Dismissed,
    Cancelled,
    Expired,
}

/// Where an app runs.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(name = "Platform", remote = "Platform")]
pub enum AppPlatform {
    Web,
    Ios,
    Android,
}

/// One card for one customer.
pub struct CardNode(pub CardInstance);

/// One card for one customer.
#[Object(name = "CardInstance")]
impl CardNode {
    async fn id(&self) -> CardId {
        self.0.id
    }

    async fn environment_id(&self) -> EnvId {
        self.0.environment_id
    }

    async fn user_id(&self) -> &str {
        &self.0.user_id
    }

    async fn status(&self) -> CardStatus {
        self.0.status.into()
    }

    async fn is_test(&self) -> bool {
        self.0.is_test
    }

    async fn card_template_id(&self) -> TemplateId {
        self.0.template_id
    }

    async fn card_template_name(&self) -> &str {
        &self.0.template_name
    }

    async fn card_template_version(&self) -> i32 {
        self.0.template_version
    }

    async fn lifecycle_id(&self) -> LifecycleId {
        self.0.lifecycle_id
    }

    async fn flow_config_id(&self) -> FlowId {
        self.0.flow_id
    }

    async fn flow_version(&self) -> i32 {
        self.0.flow_version
    }

    async fn flow_instance_id(&self) -> RunId {
        self.0.run_id
    }

    async fn flow_invocation_id(&self) -> &str {
        &self.0.invocation
    }

    async fn priority(&self) -> i16 {
        self.0.priority
    }

    /// The explicit target streams. Null: the streams that curate the template now.
    async fn target_stream_ids(&self) -> Option<&[StreamId]> {
        self.0.stream_ids.as_deref()
    }

    async fn target_platforms(&self) -> Vec<AppPlatform> {
        let platforms = self.0.target_platforms.iter().filter_map(|word| word.parse::<Platform>().ok());
        platforms.map(AppPlatform::from).collect()
    }

    /// What the customer sees: `topCard`, `subviews` and `actions`.
    async fn definition(&self) -> JsonObject {
        JsonObject::of(self.0.definition.clone())
    }

    async fn variables(&self) -> JsonObject {
        JsonObject::of(self.0.variables.clone())
    }

    /// What the start request supplied.
    async fn payload(&self) -> CardPayload {
        CardPayload {
            detail: JsonObject::of(self.0.detail.clone()),
            card_options: JsonObject::of(self.0.card_options.clone()),
            metadata: JsonObject::of(self.0.metadata.clone()),
            notification_detail: JsonObject::of(self.0.notification_detail.clone()),
        }
    }

    /// The values of a completed card.
    async fn response(&self) -> Option<JsonObject> {
        self.0.response.clone().map(JsonObject::of)
    }

    async fn button_name(&self) -> Option<&str> {
        self.0.button_name.as_deref()
    }

    async fn unseen(&self) -> bool {
        self.0.unseen
    }

    async fn embargo(&self) -> Option<Time> {
        self.0.embargo_at
    }

    async fn expires(&self) -> Option<Time> {
        self.0.expires_at
    }

    async fn unsnooze_at(&self) -> Option<Time> {
        self.0.unsnooze_at
    }

    async fn published_at(&self) -> Option<Time> {
        self.0.published_at
    }

    async fn active_since(&self) -> Option<Time> {
        self.0.active_since
    }

    async fn closed_at(&self) -> Option<Time> {
        self.0.closed_at
    }

    async fn created(&self) -> Time {
        self.0.created_at
    }

    async fn updated(&self) -> Time {
        self.0.updated_at
    }
}

/// What the start request of a card supplied.
#[derive(SimpleObject)]
pub struct CardPayload {
    detail: JsonObject,
    card_options: JsonObject,
    metadata: JsonObject,
    notification_detail: JsonObject,
}

/// Cards that fit everything that is given.
#[derive(InputObject, Default)]
pub struct CardSelector {
    lifecycle_id: Option<LifecycleId>,
    card_template_id: Option<TemplateId>,
    flow_instance_id: Option<RunId>,
    flow_invocation_id: Option<String>,
    flow_config_id: Option<FlowId>,
    user_id: Option<String>,
    status: Option<Vec<CardStatus>>,
    is_test: Option<bool>,
}

impl CardSelector {
    fn selector(self) -> Selector {
        Selector {
            lifecycle: self.lifecycle_id,
            template: self.card_template_id,
            run: self.flow_instance_id,
            flow: self.flow_config_id,
            invocation: self.flow_invocation_id,
            user_id: self.user_id,
            statuses: self.status.unwrap_or_default().into_iter().map(Status::from).collect(),
            is_test: self.is_test,
            nothing: false,
        }
    }
}

/// Which cards a bulk call closes.
#[derive(InputObject)]
pub struct CloseCardsInput {
    environment_id: EnvId,
    filter: Option<CardSelector>,
    /// Means every open card of the environment when no filter is given.
    #[graphql(default)]
    all: bool,
    /// Must be set when more than one card matches.
    #[graphql(default)]
    multiple: bool,
    /// At most 1,000; 500 when absent.
    limit: Option<i64>,
}

impl CloseCardsInput {
    async fn close(self, ctx: &Context<'_>, closing: Closing) -> Result<ClosedCards> {
        let access = context::viewer(ctx)?.access(self.environment_id)?;
        let reach = Reach { all: self.all, multiple: self.multiple, limit: self.limit.unwrap_or(BULK_DEFAULT) };
        let selector = self.filter.unwrap_or_default().selector();
        let closed = bulk::close(context::app(ctx)?, &access, &selector, reach, &closing).await?;
        Ok(ClosedCards(closed))
    }
}

/// Which cards a bulk call completes, and with which response.
#[derive(InputObject)]
pub struct CompleteCardsInput {
    #[graphql(flatten)]
    cards: CloseCardsInput,
    /// The template's validations are not applied to them.
    #[graphql(default)]
    values: JsonObject,
}

/// What a bulk call did.
pub struct ClosedCards(Closed);

/// What a bulk call did.
#[Object]
impl ClosedCards {
    /// Open cards that fitted.
    async fn matched(&self) -> i64 {
        self.0.matched
    }

    async fn changed(&self) -> i64 {
        self.0.changed()
    }

    /// Cards that fitted and are still open.
    async fn remaining(&self) -> i64 {
        self.0.remaining()
    }

    async fn card_instance_ids(&self) -> &[CardId] {
        &self.0.cards
    }
}

#[derive(Default)]
pub struct CardsQuery;

#[Object]
impl CardsQuery {
    /// One card.
    async fn card(&self, ctx: &Context<'_>, id: CardId) -> Result<CardNode> {
        let app = context::app(ctx)?;
        let access = context::viewer(ctx)?.locate(app, id).await?;
        bulk::find(app, &access, id).await.map(CardNode)
    }

    /// Cards that fit, newest first.
    async fn cards(
        &self,
        ctx: &Context<'_>,
        environment_id: EnvId,
        filter: Option<CardSelector>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<Connection<CardNode>> {
        let access = context::viewer(ctx)?.access(environment_id)?;
        let page = PageRequest::new(first, after.as_deref())?;
        let selector = filter.unwrap_or_default().selector();
        let cards = bulk::page(context::app(ctx)?, &access, &selector, page).await?;
        Ok(Connection::of(cards, |card| card.id, CardNode))
    }
}

#[derive(Default)]
pub struct CardsMutation;

#[Object]
impl CardsMutation {
    /// Completes open cards without their customers.
    async fn complete_cards(&self, ctx: &Context<'_>, input: CompleteCardsInput) -> Result<ClosedCards> {
        let CompleteCardsInput { cards, values } = input;
        cards.close(ctx, Closing::Complete { values: values.0 }).await
    }

    /// Dismisses open cards without their customers.
    async fn dismiss_cards(&self, ctx: &Context<'_>, input: CloseCardsInput) -> Result<ClosedCards> {
        input.close(ctx, Closing::Dismiss).await
    }

    /// Takes open cards back.
    async fn cancel_cards(&self, ctx: &Context<'_>, input: CloseCardsInput) -> Result<ClosedCards> {
        input.close(ctx, Closing::Cancel).await
    }
}
