//! What an event says, and the one way to write it.

use diesel::sql_query;
use diesel::sql_types::{Array, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use serde::Serialize;
use serde_json::{Map, Value};
use std::borrow::Cow;

use crate::clock::Time;
use crate::db::{Prepared, Tx};
use crate::error::Result;
use crate::ids::{CardId, ContainerId, CustomerId, EnvId, EventId, FlowId, LifecycleId, RunId, StreamId, TemplateId};
use crate::realtime::{Announcement, Work};

/// The names of the events that the server makes and of those that SDKs report.
pub mod names {
    /// Made by the server.
    pub const SERVER: &[&str] = &[
        "card-published",
        "card-embargoed",
        "card-snoozed",
        "card-unsnoozed",
        "card-completed",
        "card-dismissed",
        "card-expired",
        "card-cancelled",
        "card-error",
        "card-updated",
        "card-voted-up",
        "card-voted-down",
        "notification-sent",
        "notification-failed",
        "notification-suppressed",
        "action-flow-started",
        "action-flow-completed",
        "action-flow-failed",
        "action-flow-cancelled",
        "action-flow-step-completed",
        "action-flow-step-failed",
        "segment-entered",
        "segment-exited",
    ];

    /// Reported by SDKs.
    pub const SDK: &[&str] = &[
        "card-displayed",
        "card-subview-displayed",
        "card-subview-exited",
        "runtime-vars-updated",
        "stream-displayed",
        "user-redirected",
        "snooze-options-displayed",
        "snooze-options-canceled",
        "video-played",
        "video-completed",
        "sdk-initialized",
        "request-failed",
        "notification-received",
    ];

    /// What customers, timers and systems do to a card that is in use: flows can wait for it.
    pub const OF_CARDS_IN_USE: &[&str] = &[
        "card-completed",
        "card-dismissed",
        "card-snoozed",
        "card-expired",
        "card-cancelled",
        "card-displayed",
        "card-voted-up",
        "card-voted-down",
    ];

    /// Tells whether the name is one of the catalogue.
    pub fn standard(name: &str) -> bool {
        SERVER.contains(&name) || SDK.contains(&name)
    }
}

/// What started a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TriggerSource {
    Api,
    Webhook,
    Segment,
    Event,
    Sfmc,
    Marketo,
    Manual,
    Csv,
}

/// The card an event is about.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CardContext {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub card_instance_id: Option<CardId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub card_instance_status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_status: Option<String>,
    pub card_template_id: TemplateId,
    pub card_template_name: String,
    pub card_template_version: i32,
    pub card_template_settings: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published_at: Option<Time>,
}

/// Where and how it happened.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventContext {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action_source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_local_timestamp: Option<String>,
}

/// The app that reported it.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SdkEventContext {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sdk_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sdk_device: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sdk_timezone: Option<String>,
    #[serde(rename = "isDNDActive")]
    pub is_dnd_active: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_id: Option<ContainerId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_app_version: Option<String>,
}

/// The stream in which it happened.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamContext {
    pub stream_id: StreamId,
    pub stream_name: String,
    /// `streamLength`, `cardPositionInStream`, `displayMode`, as far as they are known.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// The run that the card, or the event itself, stems from.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlatformContext {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifecycle_id: Option<LifecycleId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_stream_ids: Option<Vec<StreamId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_platforms: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow_instance_id: Option<RunId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow_invocation_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow_config_id: Option<FlowId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow_version: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger_event_source: Option<TriggerSource>,
    pub is_test: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_detail: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_notification_detail: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_metadata: Option<Value>,
}

/// The customer to whom something happened.
#[derive(Clone, Debug)]
pub struct EndUser {
    pub customer: CustomerId,
    /// The customer's id as the caller knows it.
    pub user_id: String,
}

/// Something that happened, not yet written.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// Given by an SDK; made here otherwise.
    pub id: Option<EventId>,
    pub name: Cow<'static, str>,
    /// The name is the caller's own and none of the catalogue.
    pub custom: bool,
    /// Nobody, when an app reports before anybody has signed in to it.
    pub end_user: Option<EndUser>,
    /// When it happened; the transaction's instant unless an SDK says otherwise. What lies in the future is corrected.
    pub timestamp: Option<Time>,
    pub card: Option<CardContext>,
    pub context: Option<EventContext>,
    pub properties: Option<Value>,
    pub sdk: Option<SdkEventContext>,
    pub stream: Option<StreamContext>,
    pub platform: Option<PlatformContext>,
}

impl NewEvent {
    pub fn new(name: &'static str, customer: CustomerId, user_id: impl Into<String>) -> NewEvent {
        NewEvent { end_user: Some(EndUser { customer, user_id: user_id.into() }), ..NewEvent::anonymous(name) }
    }

    /// An event that concerns no customer.
    pub fn anonymous(name: &'static str) -> NewEvent {
        NewEvent {
            id: None,
            name: Cow::Borrowed(name),
            custom: false,
            end_user: None,
            timestamp: None,
            card: None,
            context: None,
            properties: None,
            sdk: None,
            stream: None,
            platform: None,
        }
    }

    /// An event with a name of the caller's own (specification 7.5).
    pub fn custom(name: String, customer: CustomerId, user_id: impl Into<String>) -> NewEvent {
        NewEvent { name: Cow::Owned(name), custom: true, ..NewEvent::new("", customer, user_id) }
    }
}

/// The envelope: the order of the fields is the order on the wire.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    id: EventId,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    analytics_event: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_user_id: Option<&'a str>,
    timestamp: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    card_context: &'a Option<CardContext>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_context: &'a Option<EventContext>,
    #[serde(skip_serializing_if = "Option::is_none")]
    properties: &'a Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sdk_context: &'a Option<SdkEventContext>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_context: &'a Option<StreamContext>,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform_context: &'a Option<PlatformContext>,
}

/// What a caller is told of an event it made.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub id: EventId,
    pub name: Cow<'static, str>,
    pub timestamp: Time,
}

/// Writes events in the transaction of the change they tell of. One statement, whatever their number.
pub(crate) async fn record_in(tx: &mut Tx, env: EnvId, events: &[NewEvent]) -> Result<Vec<Recorded>> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let mut columns = Columns::default();
    let mut recorded = Vec::with_capacity(events.len());
    for event in events {
        let id = event.id.unwrap_or_else(|| tx.id());
        let timestamp = event.timestamp.map_or(tx.now(), |said| said.min(tx.now()));
        columns.add(event, id, timestamp)?;
        recorded.push(Recorded { id, name: event.name.clone(), timestamp });
    }
    let insert = sql_query(
        "INSERT INTO events (environment_id, id, name, custom, customer_id, end_user_id, occurred_at, received_at,
                             is_test, template_id, flow_id, run_id, card_id, payload)
         SELECT $1, UNNEST($3::uuid[]), UNNEST($4::text[]), UNNEST($14::bool[]), UNNEST($5::uuid[]), UNNEST($6::text[]),
                UNNEST($7::timestamptz[]), $2, UNNEST($8::bool[]), UNNEST($9::uuid[]), UNNEST($10::uuid[]),
                UNNEST($11::uuid[]), UNNEST($12::uuid[]), UNNEST($13::text[])",
    )
    .bind::<SqlUuid, _>(env)
    .bind::<Timestamptz, _>(tx.now())
    .bind::<Array<SqlUuid>, _>(columns.ids)
    .bind::<Array<Text>, _>(columns.names)
    .bind::<Array<Nullable<SqlUuid>>, _>(columns.customers)
    .bind::<Array<Nullable<Text>>, _>(columns.end_users)
    .bind::<Array<Timestamptz>, _>(columns.occurred)
    .bind::<Array<Bool>, _>(columns.tests)
    .bind::<Array<Nullable<SqlUuid>>, _>(columns.templates)
    .bind::<Array<Nullable<SqlUuid>>, _>(columns.flows)
    .bind::<Array<Nullable<SqlUuid>>, _>(columns.runs)
    .bind::<Array<Nullable<SqlUuid>>, _>(columns.cards)
    .bind::<Array<Text>, _>(columns.payloads)
    .bind::<Array<Bool>, _>(columns.customs);
    Prepared(insert).execute(&mut tx.conn()).await?;
    tx.announce(Announcement::Wake(Work::Fanout));
    tx.announce(Announcement::Wake(Work::EventTriggers));
    if events.iter().any(|event| names::OF_CARDS_IN_USE.contains(&&*event.name)) {
        tx.announce(Announcement::Wake(Work::CardWaits));
    }
    Ok(recorded)
}

/// The events turned by columns, as UNNEST wants them.
#[derive(Default)]
struct Columns<'a> {
    ids: Vec<EventId>,
    names: Vec<&'a str>,
    customs: Vec<bool>,
    customers: Vec<Option<CustomerId>>,
    end_users: Vec<Option<&'a str>>,
    occurred: Vec<Time>,
    tests: Vec<bool>,
    templates: Vec<Option<TemplateId>>,
    flows: Vec<Option<FlowId>>,
    runs: Vec<Option<RunId>>,
    cards: Vec<Option<CardId>>,
    payloads: Vec<String>,
}

impl<'a> Columns<'a> {
    fn add(&mut self, event: &'a NewEvent, id: EventId, timestamp: Time) -> Result<()> {
        let (customer, end_user_id) =
            event.end_user.as_ref().map(|user| (user.customer, user.user_id.as_str())).unzip();
        let envelope = Envelope {
            id,
            event_type: event.custom.then_some("custom"),
            event_name: event.custom.then_some(&event.name),
            analytics_event: (!event.custom).then_some(&event.name),
            end_user_id,
            timestamp,
            card_context: &event.card,
            event_context: &event.context,
            properties: &event.properties,
            sdk_context: &event.sdk,
            stream_context: &event.stream,
            platform_context: &event.platform,
        };
        self.payloads.push(serde_json::to_string(&envelope)?);
        self.ids.push(id);
        self.names.push(&event.name);
        self.customs.push(event.custom);
        self.customers.push(customer);
        self.end_users.push(end_user_id);
        self.occurred.push(timestamp);
        self.tests.push(event.platform.as_ref().is_some_and(|platform| platform.is_test));
        self.templates.push(event.card.as_ref().map(|card| card.card_template_id));
        self.flows.push(event.platform.as_ref().and_then(|platform| platform.flow_config_id));
        self.runs.push(event.platform.as_ref().and_then(|platform| platform.flow_instance_id));
        self.cards.push(event.card.as_ref().and_then(|card| card.card_instance_id));
        Ok(())
    }
}
