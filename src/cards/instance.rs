//! A card instance: one card for one customer, as it was rendered when it was made.

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::{Value, json};

use crate::cards::lifecycle::Status;
use crate::cards::select::Selector;
use crate::clock::Time;
use crate::db::schema::{cards, customers};
use crate::error::Result;
use crate::events::{CardContext, NewEvent, PlatformContext, TriggerSource};
use crate::ids::{CardId, CustomerId, EnvId, FlowId, LifecycleId, RunId, StreamId, TemplateId};

/// One card for one customer.
#[derive(Clone, Debug, Queryable, Selectable, QueryableByName)]
#[diesel(table_name = cards, check_for_backend(diesel::pg::Pg))]
pub struct CardInstance {
    pub environment_id: EnvId,
    pub id: CardId,
    pub customer_id: CustomerId,
    pub user_id: String,
    pub template_id: TemplateId,
    pub template_name: String,
    pub template_version: i32,
    pub send_notifications: bool,
    pub lifecycle_id: LifecycleId,
    pub flow_id: FlowId,
    pub flow_version: i32,
    pub run_id: RunId,
    pub step_key: String,
    pub invocation: String,
    pub trigger_source: String,
    pub is_test: bool,
    pub status: Status,
    pub priority: i16,
    /// The explicit target streams. Without them the streams that curate the template now are meant.
    pub stream_ids: Option<Vec<StreamId>>,
    pub target_platforms: Vec<String>,
    pub embargo_at: Option<Time>,
    pub expires_at: Option<Time>,
    pub unsnooze_at: Option<Time>,
    /// The next timed change; the database derives it.
    pub due_at: Option<Time>,
    pub published_at: Option<Time>,
    /// When it last became active.
    pub active_since: Option<Time>,
    pub closed_at: Option<Time>,
    /// How long a snooze lasts for which the app names no time.
    pub snooze_interval: Option<String>,
    /// `{topCard, subviews, actions}` as rendered.
    pub definition: Value,
    pub runtime_variables: Value,
    /// The resolved variables of the template.
    pub variables: Value,
    /// The variables that the start request supplied.
    pub detail: Value,
    pub metadata: Value,
    pub notification_detail: Value,
    pub card_options: Value,
    pub response: Option<Value>,
    pub button_name: Option<String>,
    /// No `card-displayed` of it was received yet.
    pub unseen: bool,
    /// The version of the customer's feed at the last change of this card; 0 while it was never in the feed.
    pub feed_version: i64,
    pub created_at: Time,
    pub updated_at: Time,
}

impl CardInstance {
    /// Tells whether the card is shown in a stream, given the streams that curate its template now.
    /// The stream *All cards* shows every card; that is for the caller to know.
    pub fn shown_in(&self, stream: StreamId, curating: &[StreamId]) -> bool {
        self.stream_ids.as_deref().unwrap_or(curating).contains(&stream)
    }

    /// An event about this card with the contexts that the server fills. `streams` is the effective list of now.
    pub(crate) fn event(&self, name: &'static str, status: Status, streams: Vec<StreamId>) -> NewEvent {
        let mut event = NewEvent::new(name, self.customer_id, self.user_id.clone());
        event.card = Some(CardContext {
            card_instance_id: Some(self.id),
            card_instance_status: Some(status.word().to_owned()),
            previous_status: None,
            card_template_id: self.template_id,
            card_template_name: self.template_name.clone(),
            card_template_version: self.template_version,
            card_template_settings: json!({"sendNotifications": self.send_notifications}),
            published_at: self.published_at,
        });
        event.platform = Some(PlatformContext {
            lifecycle_id: Some(self.lifecycle_id),
            target_stream_ids: Some(streams),
            target_platforms: Some(self.target_platforms.clone()),
            flow_instance_id: Some(self.run_id),
            flow_invocation_id: Some(self.invocation.clone()),
            flow_config_id: Some(self.flow_id),
            flow_version: Some(self.flow_version),
            trigger_event_source: source(&self.trigger_source),
            is_test: self.is_test,
            event_detail: Some(self.detail.clone()),
            event_notification_detail: Some(self.notification_detail.clone()),
            payload_metadata: Some(self.metadata.clone()),
        });
        event
    }
}

fn source(word: &str) -> Option<TriggerSource> {
    serde_json::from_value(Value::from(word)).ok()
}

pub async fn find(conn: &AsyncPgConnection, env: EnvId, id: CardId) -> Result<Option<CardInstance>> {
    let card = cards::table.find((env, id)).select(CardInstance::as_select()).first(&mut &*conn).await;
    Ok(card.optional()?)
}

/// Locks a card for a change. Locks on cards come before locks on feeds.
pub(crate) async fn find_locked(conn: &AsyncPgConnection, env: EnvId, id: CardId) -> Result<Option<CardInstance>> {
    let card = cards::table.find((env, id)).select(CardInstance::as_select()).for_no_key_update();
    Ok(card.first(&mut &*conn).await.optional()?)
}

/// Cards by id, in no order.
pub async fn find_many(conn: &AsyncPgConnection, env: EnvId, ids: &[CardId]) -> Result<Vec<CardInstance>> {
    let found =
        cards::table.filter(cards::environment_id.eq(env).and(cards::id.eq_any(ids))).select(CardInstance::as_select());
    Ok(found.load(&mut &*conn).await?)
}

/// A list of cards in the making.
type Query<'a> = cards::BoxedQuery<'a, diesel::pg::Pg>;

/// The cards of an environment that fit a selector.
pub(crate) fn selected(env: EnvId, selector: &Selector) -> Query<'_> {
    let mut query = cards::table.filter(cards::environment_id.eq(env)).into_boxed();
    if selector.nothing {
        query = query.filter(diesel::dsl::sql::<diesel::sql_types::Bool>("false"));
    }
    if let Some(id) = selector.lifecycle {
        query = query.filter(cards::lifecycle_id.eq(id));
    }
    if let Some(id) = selector.template {
        query = query.filter(cards::template_id.eq(id));
    }
    if let Some(id) = selector.run {
        query = query.filter(cards::run_id.eq(id));
    }
    if let Some(id) = selector.flow {
        query = query.filter(cards::flow_id.eq(id));
    }
    if let Some(invocation) = &selector.invocation {
        query = query.filter(cards::invocation.eq(invocation));
    }
    if let Some(user_id) = &selector.user_id {
        let customer = customers::table
            .filter(customers::environment_id.eq(env).and(customers::user_id.eq(user_id)))
            .select(customers::id)
            .single_value();
        query = query.filter(cards::customer_id.nullable().eq(customer));
    }
    if !selector.statuses.is_empty() {
        query = query.filter(cards::status.eq_any(&selector.statuses));
    }
    if let Some(is_test) = selector.is_test {
        query = query.filter(cards::is_test.eq(is_test));
    }
    query
}
