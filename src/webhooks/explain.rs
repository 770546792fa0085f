//! Why an event was or was not sent to each subscription of its environment, and what becomes of it next.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::request_log::Entry;
use super::subscription::Subscription;
use super::{fanout, payload};
use crate::access::{Access, Level, Resource};
use crate::app::App;
use crate::clock::Time;
use crate::db::page::{Page, PageRequest};
use crate::error::{Error, Result};
use crate::events::kind;
use crate::ids::{EnvId, EventId, FlowId, Id, TemplateId, WebhookId};

/// Why a subscription does not cover an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    Type,
    TestEvent,
    Template,
    Flow,
    /// Recorded before the subscription was created or last enabled.
    Earlier,
    Disabled,
    /// The subscription would cover it now; it was another when the event was looked at.
    ChangedSince,
}

/// How far an event has come on its way to a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    NotMatched,
    /// Nobody has looked yet for which subscriptions it is.
    Recorded,
    Waiting,
    UnderWay,
    Retrying,
    Delivered,
    GivenUp,
    /// It waited when the subscription was disabled.
    Dropped,
}

/// Why something that waits is not sent at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Later {
    /// The pause between two attempts of this event.
    Retry,
    /// The endpoint fails, and gets one request at a time with growing gaps.
    EndpointFails,
    Batch,
    /// Others wait before it.
    Queue,
}

/// One subscription's part.
pub struct Explanation {
    pub subscription: Subscription,
    pub state: State,
    pub mismatches: Vec<Mismatch>,
    pub later: Option<Later>,
    /// Not before this instant.
    pub next_attempt_at: Option<Time>,
    /// How many deliveries wait before it.
    pub ahead: i64,
    /// Oldest first.
    pub attempts: Vec<Entry>,
}

#[derive(QueryableByName)]
struct Event {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Bool)]
    custom: bool,
    #[diesel(sql_type = BigInt)]
    xid: i64,
    #[diesel(sql_type = Timestamptz)]
    received_at: Time,
    #[diesel(sql_type = Bool)]
    is_test: bool,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    template_id: Option<TemplateId>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    flow_id: Option<FlowId>,
    /// Fan-out has come so far.
    #[diesel(sql_type = Bool)]
    passed: bool,
}

/// A subscription with what the database says about the event's delivery to it.
#[derive(QueryableByName)]
struct Found {
    #[diesel(embed)]
    subscription: Subscription,
    #[diesel(sql_type = BigInt)]
    since_xid: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    seq: Option<i64>,
    #[diesel(sql_type = BigInt)]
    cursor: i64,
    #[diesel(sql_type = Bool)]
    open: bool,
    #[diesel(sql_type = Integer)]
    failures: i32,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    paused_until: Option<Time>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    ready_at: Option<Time>,
    /// Of the request in the table of retries that carries it.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    due_at: Option<Time>,
    #[diesel(sql_type = Nullable<Integer>)]
    tried: Option<i32>,
}

/// Explains an event to every subscription of its environment, a page of them.
pub async fn explain(
    app: &App,
    access: &Access,
    id: EventId,
    request: PageRequest<WebhookId>,
) -> Result<Page<Explanation>> {
    access.require(Resource::WebhookRequestLog, Level::View)?;
    let conn = app.read().await?;
    let event = event(&conn, access.env(), id).await?.ok_or_else(|| Error::not_found(EventId::NOUN))?;
    let page = request.page(deliveries(&conn, access.env(), id, &event, &request).await?);
    let mut rows = Vec::with_capacity(page.rows.len());
    for found in page.rows {
        let attempts = match found.seq {
            Some(seq) => attempts(&conn, access.env(), found.subscription.id, seq).await?,
            None => Vec::new(),
        };
        rows.push(judge(&event, found, attempts, app.clock().now()));
    }
    Ok(Page { rows, more: page.more })
}

async fn event(conn: &AsyncPgConnection, env: EnvId, id: EventId) -> Result<Option<Event>> {
    Ok(sql_query(
        "SELECT e.name, e.custom, e.xid, e.received_at, e.is_test, e.template_id, e.flow_id,
             EXISTS (SELECT FROM consumers c WHERE c.name = $3 AND c.shard = 0 AND (e.xid, e.id) <= (c.xid, c.event_id))
                 AS passed
         FROM events e WHERE e.environment_id = $1 AND e.id = $2",
    )
    .bind::<SqlUuid, _>(env)
    .bind::<SqlUuid, _>(id)
    .bind::<Text, _>(fanout::READER)
    .get_result(&mut &*conn)
    .await
    .optional()?)
}

async fn deliveries(
    conn: &AsyncPgConnection,
    env: EnvId,
    id: EventId,
    event: &Event,
    request: &PageRequest<WebhookId>,
) -> Result<Vec<Found>> {
    Ok(sql_query(
        "SELECT w.*, d.seq, s.cursor, coalesce(d.seq = ANY (s.open), false) AS open, s.failures, s.paused_until,
             s.ready_at, r.due_at, r.attempts AS tried
         FROM webhook_subscriptions w
         JOIN webhook_streams s ON s.environment_id = w.environment_id AND s.webhook_id = w.id
         LEFT JOIN webhook_deliveries d ON d.environment_id = w.environment_id AND d.webhook_id = w.id
             AND d.event_id = $2 AND d.received_at = $3
         LEFT JOIN LATERAL (
             SELECT r.due_at, r.attempts FROM webhook_retries r
             WHERE r.environment_id = w.environment_id AND r.webhook_id = w.id AND d.seq = ANY (r.seqs)
             LIMIT 1) AS r ON true
         WHERE w.environment_id = $1 AND ($4 IS NULL OR w.id > $4)
         ORDER BY w.id LIMIT $5",
    )
    .bind::<SqlUuid, _>(env)
    .bind::<SqlUuid, _>(id)
    .bind::<Timestamptz, _>(event.received_at)
    .bind::<Nullable<SqlUuid>, _>(request.after)
    .bind::<BigInt, _>(request.limit())
    .load(&mut &*conn)
    .await?)
}

/// The requests that carried a delivery. A batch stands in the log under its first event.
async fn attempts(conn: &AsyncPgConnection, env: EnvId, webhook: WebhookId, seq: i64) -> Result<Vec<Entry>> {
    let batch = i64::try_from(payload::BATCH).map_err(Error::internal)?;
    Ok(sql_query(
        "SELECT q.* FROM webhook_deliveries d
         JOIN webhook_requests q ON q.environment_id = d.environment_id AND q.event_id = d.event_id
             AND q.webhook_id = d.webhook_id AND d.seq + q.events > $3 AND NOT q.is_test
         WHERE d.environment_id = $1 AND d.webhook_id = $2 AND d.seq = ANY ($4)
         ORDER BY q.at, q.id LIMIT 200",
    )
    .bind::<SqlUuid, _>(env)
    .bind::<SqlUuid, _>(webhook)
    .bind::<BigInt, _>(seq)
    .bind::<Array<BigInt>, _>((seq - batch + 1..=seq).collect::<Vec<_>>())
    .load(&mut &*conn)
    .await?)
}

fn judge(event: &Event, found: Found, attempts: Vec<Entry>, now: Time) -> Explanation {
    let (mut mismatches, mut later, mut next_attempt_at) = (Vec::new(), None, None);
    let mut ahead = 0;
    let paused = found.paused_until.filter(|until| *until > now);
    let state = match (found.seq, found.due_at) {
        (None, _) => {
            mismatches = compare(event, &found);
            if mismatches.is_empty() && event.passed {
                mismatches.push(Mismatch::ChangedSince);
            }
            if mismatches.is_empty() { State::Recorded } else { State::NotMatched }
        }
        (Some(_), Some(due_at)) => {
            let until = found.paused_until.map_or(due_at, |paused| paused.max(due_at));
            next_attempt_at = Some(until);
            later =
                Some(if paused.is_some_and(|paused| paused > due_at) { Later::EndpointFails } else { Later::Retry });
            if found.tried == Some(0) {
                later = paused.map(|_| Later::EndpointFails);
                State::Waiting
            } else {
                State::Retrying
            }
        }
        (Some(seq), None) if seq > found.cursor => {
            ahead = seq - found.cursor - 1;
            next_attempt_at = paused.max(found.ready_at);
            later = Some(if found.failures > 0 {
                Later::EndpointFails
            } else if found.subscription.batched {
                Later::Batch
            } else {
                Later::Queue
            });
            State::Waiting
        }
        (Some(_), None) if found.open => State::UnderWay,
        (Some(_), None) => match attempts.last() {
            Some(last) if last.delivered() => State::Delivered,
            Some(last) if last.attempt > found.subscription.max_retries => State::GivenUp,
            _ => State::Dropped,
        },
    };
    Explanation { subscription: found.subscription, state, mismatches, later, next_attempt_at, ahead, attempts }
}

/// Everything about the subscription as it is that keeps the event from it.
fn compare(event: &Event, found: &Found) -> Vec<Mismatch> {
    let subscription = &found.subscription;
    let name = kind::of(&event.name, event.custom);
    let checks = [
        (Mismatch::Type, !subscription.types.iter().any(|kind| *kind == name)),
        (Mismatch::TestEvent, event.is_test && !subscription.include_test_events),
        (Mismatch::Template, subscription.template_id.is_some() && subscription.template_id != event.template_id),
        (Mismatch::Flow, subscription.flow_id.is_some() && subscription.flow_id != event.flow_id),
        (Mismatch::Earlier, event.xid <= found.since_xid),
        (Mismatch::Disabled, !subscription.active()),
    ];
    checks.into_iter().filter(|(_, fails)| *fails).map(|(mismatch, _)| mismatch).collect()
}
