//! Analytics events as they were recorded (specification 10.3).

use async_graphql::{Context, InputObject, Object, SimpleObject, Subscription};
use futures_util::{Stream, TryStreamExt};
use serde_json::value::RawValue;

use super::connection::Connection;
use super::context::{app, viewer};
use crate::clock::Time;
use crate::db::StoredJson;
use crate::db::page::PageRequest;
use crate::error::{Error, Result};
use crate::events::follow::{self, Followed, Mark};
use crate::events::log::{self, Filter, Logged, Place};
use crate::ids::{CardId, EnvId, EventId, FlowId, RunId, TemplateId};

#[derive(Default)]
pub struct EventsQuery;

#[derive(Default)]
pub struct EventsSubscription;

/// Which events to show; absent fields do not narrow.
#[derive(InputObject, Default)]
pub struct AnalyticsEventFilter {
    from: Option<Time>,
    to: Option<Time>,
    /// Event names, and names of custom events behind `custom:`.
    types: Option<Vec<String>>,
    end_user_id: Option<String>,
    card_instance_id: Option<CardId>,
    card_template_id: Option<TemplateId>,
    flow_config_id: Option<FlowId>,
    flow_instance_id: Option<RunId>,
    flow_invocation_id: Option<String>,
    is_test: Option<bool>,
}

impl From<AnalyticsEventFilter> for Filter {
    fn from(filter: AnalyticsEventFilter) -> Filter {
        Filter {
            from: filter.from,
            to: filter.to,
            types: filter.types,
            end_user_id: filter.end_user_id,
            card: filter.card_instance_id,
            template: filter.card_template_id,
            flow: filter.flow_config_id,
            run: filter.flow_instance_id,
            invocation: filter.flow_invocation_id,
            is_test: filter.is_test,
        }
    }
}

pub struct AnalyticsEvent(Logged);

/// Something that happened.
#[Object]
impl AnalyticsEvent {
    async fn id(&self) -> EventId {
        self.0.id
    }

    async fn name(&self) -> &str {
        &self.0.name
    }

    /// Named by the caller, not by the catalogue.
    async fn is_custom(&self) -> bool {
        self.0.custom
    }

    async fn end_user_id(&self) -> Option<&str> {
        self.0.end_user_id.as_deref()
    }

    /// When it happened.
    async fn timestamp(&self) -> Time {
        self.0.occurred_at
    }

    /// When the server learnt of it.
    async fn received(&self) -> Time {
        self.0.received_at
    }

    async fn is_test(&self) -> bool {
        self.0.is_test
    }

    /// The whole event, as webhooks and exports carry it.
    async fn event(&self) -> Result<StoredJson> {
        RawValue::from_string(self.0.payload.clone()).map(StoredJson).map_err(Error::internal)
    }
}

/// An event that was recorded, and the place after it.
#[derive(SimpleObject)]
pub struct AnalyticsEventUpdate {
    event: AnalyticsEvent,
    /// Give it as `after` to go on behind this event; good for a day.
    cursor: String,
}

#[Subscription]
impl EventsSubscription {
    /// The events of an environment as they are recorded, each once, in the order of their commits; from `after` on,
    /// where it is given.
    async fn analytics_events(
        &self,
        ctx: &Context<'_>,
        environment_id: EnvId,
        filter: Option<AnalyticsEventFilter>,
        after: Option<String>,
    ) -> Result<impl Stream<Item = async_graphql::Result<AnalyticsEventUpdate>> + use<>> {
        let access = viewer(ctx)?.access(environment_id)?;
        let mark =
            |cursor: &str| Mark::read(cursor).ok_or_else(|| Error::invalid("/after", "is not a cursor of this stream"));
        let after = after.as_deref().map(mark).transpose()?;
        let filter = filter.unwrap_or_default().into();
        let followed = follow::follow(app(ctx)?, access.read_events()?, filter, after).await?;
        let update =
            |one: Followed<Logged>| AnalyticsEventUpdate { event: AnalyticsEvent(one.row), cursor: one.mark.cursor() };
        Ok(followed.map_ok(update).map_err(Into::into))
    }
}

#[Object]
impl EventsQuery {
    /// The events of an environment, newest first.
    async fn analytics_events(
        &self,
        ctx: &Context<'_>,
        environment_id: EnvId,
        filter: Option<AnalyticsEventFilter>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<Connection<AnalyticsEvent>> {
        let access = viewer(ctx)?.access(environment_id)?;
        let request = PageRequest::<EventId>::new(first, None)?;
        let place =
            |cursor: &str| Place::read(cursor).ok_or_else(|| Error::invalid("/after", "is not a cursor of this list"));
        let after = after.as_deref().map(place).transpose()?;
        let filter = filter.unwrap_or_default().into();
        let page = log::list(app(ctx)?, access.read_events()?, &filter, request.first, after).await?;
        Ok(Connection::paged(page, |row| row.place().cursor(), AnalyticsEvent))
    }
}
