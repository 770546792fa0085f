//! What apps report: cards seen, links followed, videos played.

use async_graphql::{Context, InputObject, Object, SimpleObject};

use crate::cards::track::{self, AnonymousReport, Report};
use crate::clock::Time;
use crate::error::Result;
use crate::graphql::context::{app, sdk, sdk_app};
use crate::graphql::scalars::JsonObject;

#[derive(Default)]
pub struct EventsMutation;

/// Something that happened in an app.
#[derive(InputObject)]
pub struct TrackedEventInput {
    /// `evt_…` or a UUID, made by the app. An event is taken once, however often it is sent.
    id: String,
    /// The name of an event that apps report, such as `card-displayed`.
    name: String,
    /// When it happened; the time of receipt without it.
    timestamp: Option<Time>,
    container_id: Option<String>,
    card_id: Option<String>,
    /// Whom it happened to. Events of other customers are dropped.
    user_id: Option<String>,
    properties: Option<JsonObject>,
    /// `streamLength`, `cardPositionInStream`, `displayMode`.
    stream_context: Option<JsonObject>,
    /// The customer's own clock, with its offset.
    user_local_timestamp: Option<String>,
}

/// A request that failed before anybody had signed in to the app.
#[derive(InputObject)]
pub struct AnonymousEventInput {
    /// `evt_…` or a UUID, made by the app. An event is taken once, however often it is sent.
    id: String,
    /// `request-failed`; others are ignored.
    name: String,
    /// When it happened; the time of receipt without it.
    timestamp: Option<Time>,
    /// `operation`, `statusCode`.
    properties: Option<JsonObject>,
    /// The customer's own clock, with its offset.
    user_local_timestamp: Option<String>,
}

/// Events that need not be sent again.
#[derive(SimpleObject)]
pub struct TrackEventsPayload {
    ok: bool,
    processed_ids: Vec<String>,
}

#[Object]
impl EventsMutation {
    /// Reports events. Repeated, unknown and foreign ones are acknowledged and ignored.
    async fn track_events(&self, ctx: &Context<'_>, events: Vec<TrackedEventInput>) -> Result<TrackEventsPayload> {
        let reports = events
            .into_iter()
            .map(|event| Report {
                id: event.id,
                name: event.name,
                timestamp: event.timestamp,
                container: event.container_id,
                card: event.card_id,
                user_id: event.user_id,
                properties: event.properties.map(JsonObject::into_value),
                stream: event.stream_context.unwrap_or_default().0,
                local_timestamp: event.user_local_timestamp,
            })
            .collect();
        let processed_ids = track::track(app(ctx)?, sdk(ctx)?, reports).await?;
        Ok(TrackEventsPayload { ok: true, processed_ids })
    }

    /// Reports failed requests of an app to which nobody has signed in: ten a minute from an address.
    async fn track_anonymous_events(
        &self,
        ctx: &Context<'_>,
        events: Vec<AnonymousEventInput>,
    ) -> Result<TrackEventsPayload> {
        let reports = events
            .into_iter()
            .map(|event| AnonymousReport {
                id: event.id,
                name: event.name,
                timestamp: event.timestamp,
                properties: event.properties.map(JsonObject::into_value),
                local_timestamp: event.user_local_timestamp,
            })
            .collect();
        let processed_ids = track::track_anonymous(app(ctx)?, &sdk_app(ctx)?, reports).await?;
        Ok(TrackEventsPayload { ok: true, processed_ids })
    }
}
