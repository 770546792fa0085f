//! Looking into deliveries, and sending past events again (specification 11.8).

use async_graphql::{Context, Enum, InputObject, Object, SimpleObject, Subscription};
use futures_util::{Stream, TryStreamExt};

use super::connection::Connection;
use super::context::{app, viewer};
use super::webhooks::{WebhookRequest, WebhookSubscription};
use crate::clock::Time;
use crate::db::page::PageRequest;
use crate::error::{Error, Result};
use crate::ids::{EventId, ReplayId, WebhookId};
use crate::webhooks::explain::{self, Explanation, Later, Mismatch, State};
use crate::webhooks::replay::{self, Range, Replay};
use crate::webhooks::request_log::{self, Entry, Followed, Mark};

#[derive(Default)]
pub struct WebhookInspectionQuery;

#[derive(Default)]
pub struct WebhookInspectionMutation;

#[derive(Default)]
pub struct WebhookInspectionSubscription;

/// How far an event has come on its way to a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "State")]
pub enum WebhookDeliveryState {
    NotMatched,
    /// Nobody has looked yet for which subscriptions it is.
    Recorded,
    Waiting,
    UnderWay,
    Retrying,
    Delivered,
    /// Its last attempt failed.
    GivenUp,
    /// It waited when the subscription was disabled.
    Dropped,
}

/// Why a subscription does not cover an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "Mismatch")]
pub enum WebhookMismatch {
    Type,
    TestEvent,
    Template,
    Flow,
    /// Recorded before the subscription was created or last enabled.
    Earlier,
    Disabled,
    /// The subscription would cover it now, and was another when the event was looked at.
    ChangedSince,
}

/// Why what waits is not sent at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "Later")]
pub enum WebhookDelay {
    /// The pause between two attempts of this event.
    Retry,
    /// The endpoint fails, and gets one request at a time with growing gaps.
    EndpointFails,
    Batch,
    /// Others wait before it.
    Queue,
}

pub struct DeliveryExplanation(Explanation);

/// What became of an event for one subscription, and why.
#[Object]
impl DeliveryExplanation {
    async fn webhook_subscription(&self) -> WebhookSubscription {
        WebhookSubscription(self.0.subscription.clone())
    }

    async fn state(&self) -> WebhookDeliveryState {
        self.0.state.into()
    }

    /// All that keeps the event from the subscription as it is now.
    async fn mismatches(&self) -> Vec<WebhookMismatch> {
        self.0.mismatches.iter().map(|mismatch| (*mismatch).into()).collect()
    }

    async fn delayed_by(&self) -> Option<WebhookDelay> {
        self.0.later.map(Into::into)
    }

    /// The next attempt comes not before this instant.
    async fn next_attempt_at(&self) -> Option<Time> {
        self.0.next_attempt_at
    }

    /// How many deliveries wait before it.
    async fn ahead(&self) -> i64 {
        self.0.ahead
    }

    /// The requests that carried the event, oldest first.
    async fn attempts(&self) -> Vec<WebhookRequest> {
        self.0.attempts.iter().cloned().map(WebhookRequest).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum WebhookReplayStatus {
    Running,
    Completed,
    Cancelled,
}

pub struct WebhookReplay(Replay);

/// A job that sends past events to a subscription again.
#[Object]
impl WebhookReplay {
    async fn id(&self) -> ReplayId {
        self.0.id
    }

    async fn webhook_id(&self) -> WebhookId {
        self.0.webhook_id
    }

    async fn from(&self) -> Time {
        self.0.from_at
    }

    /// Not included.
    async fn to(&self) -> Time {
        self.0.to_at
    }

    async fn types(&self) -> Option<&[String]> {
        self.0.types.as_deref()
    }

    async fn status(&self) -> WebhookReplayStatus {
        match self.0.status.as_str() {
            "running" => WebhookReplayStatus::Running,
            "completed" => WebhookReplayStatus::Completed,
            _ => WebhookReplayStatus::Cancelled,
        }
    }

    /// Which part of the range was looked at, from 0 to 1.
    async fn progress(&self) -> f64 {
        self.0.progress()
    }

    /// Events of the range that the subscription covers, so far.
    async fn found(&self) -> i64 {
        self.0.found
    }

    /// Those of them that were queued; the others were waiting anyway.
    async fn queued(&self) -> i64 {
        self.0.queued
    }

    async fn created(&self) -> Time {
        self.0.created_at
    }

    async fn finished_at(&self) -> Option<Time> {
        self.0.finished_at
    }
}

#[derive(InputObject)]
pub struct ReplayWebhookEventsInput {
    pub webhook_id: WebhookId,
    /// By the time of receipt.
    pub from: Time,
    /// Not included.
    pub to: Time,
    /// Some of the subscription's types.
    pub types: Option<Vec<String>>,
}

#[derive(SimpleObject)]
pub struct ReplayWebhookEventsPayload {
    webhook_replay: WebhookReplay,
}

#[derive(SimpleObject)]
pub struct CancelWebhookReplayPayload {
    webhook_replay: WebhookReplay,
}

#[Object]
impl WebhookInspectionQuery {
    /// Why an event was or was not sent to each subscription of its environment, and what comes next.
    async fn explain_delivery(
        &self,
        ctx: &Context<'_>,
        event_id: EventId,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<Connection<DeliveryExplanation>> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, event_id).await?;
        let request = PageRequest::new(first, after.as_deref())?;
        let page = explain::explain(app, &access, event_id, request).await?;
        Ok(Connection::of(page, |row| row.subscription.id, DeliveryExplanation))
    }

    async fn webhook_replay(&self, ctx: &Context<'_>, id: ReplayId) -> Result<WebhookReplay> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, id).await?;
        replay::read(app, &access, id).await.map(WebhookReplay)
    }

    /// The jobs that sent events to a subscription again, oldest first.
    async fn webhook_replays(
        &self,
        ctx: &Context<'_>,
        webhook_id: WebhookId,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<Connection<WebhookReplay>> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, webhook_id).await?;
        let request = PageRequest::new(first, after.as_deref())?;
        let page = replay::list(app, &access, webhook_id, request).await?;
        Ok(Connection::of(page, |row| row.id, WebhookReplay))
    }
}

#[Object]
impl WebhookInspectionMutation {
    /// Sends the events of a range to a subscription again, in the background and with the same `webhook-id`. Events
    /// that the subscription covers and never had are sent too.
    async fn replay_webhook_events(
        &self,
        ctx: &Context<'_>,
        input: ReplayWebhookEventsInput,
    ) -> Result<ReplayWebhookEventsPayload> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, input.webhook_id).await?;
        let range = Range { from: input.from, to: input.to, types: input.types };
        let replay = replay::start(app, &access, input.webhook_id, range).await?;
        Ok(ReplayWebhookEventsPayload { webhook_replay: WebhookReplay(replay) })
    }

    /// Ends a job; what it has queued is still sent.
    async fn cancel_webhook_replay(&self, ctx: &Context<'_>, id: ReplayId) -> Result<CancelWebhookReplayPayload> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, id).await?;
        let replay = replay::cancel(app, &access, id).await?;
        Ok(CancelWebhookReplayPayload { webhook_replay: WebhookReplay(replay) })
    }
}

/// An attempt that was logged, and the place after it.
#[derive(SimpleObject)]
pub struct WebhookRequestUpdate {
    webhook_request: WebhookRequest,
    /// Give it as `after` to go on behind this attempt; good for a day.
    cursor: String,
}

#[Subscription]
impl WebhookInspectionSubscription {
    /// The attempts to call a subscription's receiver as they are logged, each once; from `after` on, where it is given.
    async fn webhook_requests(
        &self,
        ctx: &Context<'_>,
        webhook_id: WebhookId,
        after: Option<String>,
    ) -> Result<impl Stream<Item = async_graphql::Result<WebhookRequestUpdate>> + use<>> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, webhook_id).await?;
        let mark =
            |cursor: &str| Mark::read(cursor).ok_or_else(|| Error::invalid("/after", "is not a cursor of this stream"));
        let after = after.as_deref().map(mark).transpose()?;
        let followed = request_log::follow(app, &access, webhook_id, after).await?;
        let update = |one: Followed<Entry>| WebhookRequestUpdate {
            webhook_request: WebhookRequest(one.row),
            cursor: one.mark.cursor(),
        };
        Ok(followed.map_ok(update).map_err(Into::into))
    }
}
