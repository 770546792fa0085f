//! Sends a range of past events to one subscription again, as a job in the background.
//!
//! A job goes through the events of its range in the order of their receipt, some at a time. An event that the
//! subscription never had is appended to its log; one whose delivery came to an end is made to wait once more, as a
//! request that is due; one that waits anyway is left alone. So everything that holds for deliveries holds for these:
//! the same `webhook-id` as the first time, retries, the window, the books.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::subscription::{Subscription, find_locked_in};
use super::{fanout, stream};
use crate::access::{Access, Level, Resource, audit};
use crate::app::App;
use crate::clock::Time;
use crate::db::page::{Page, PageRequest};
use crate::db::{OnConstraint, Tx};
use crate::error::{Code, Error, Result, Violations};
use crate::events::kind;
use crate::ids::{EnvId, EventId, Id, ReplayId, WebhookId};
use crate::realtime::{Announcement, Work};
use crate::worker::{Progress, Worker};

/// Events one transaction looks at.
const BATCH: i64 = 500;
/// So many requests may wait in the table of retries before a job adds more.
const MOST_WAITING: i64 = 1000;
/// How long a job rests whose subscription has enough to do.
const REST: Duration = Duration::from_secs(1);
/// The longest range.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// A job.
#[derive(Clone, Debug, QueryableByName)]
pub struct Replay {
    #[diesel(sql_type = SqlUuid)]
    pub environment_id: EnvId,
    #[diesel(sql_type = SqlUuid)]
    pub id: ReplayId,
    #[diesel(sql_type = SqlUuid)]
    pub webhook_id: WebhookId,
    #[diesel(sql_type = Timestamptz)]
    pub from_at: Time,
    /// Not included.
    #[diesel(sql_type = Timestamptz)]
    pub to_at: Time,
    /// Narrows the subscription's own types.
    #[diesel(sql_type = Nullable<Array<Text>>)]
    pub types: Option<Vec<String>>,
    #[diesel(sql_type = Text)]
    pub status: String,
    #[diesel(sql_type = Timestamptz)]
    pub passed_at: Time,
    #[diesel(sql_type = SqlUuid)]
    passed_id: EventId,
    #[diesel(sql_type = BigInt)]
    pub found: i64,
    #[diesel(sql_type = BigInt)]
    pub queued: i64,
    #[diesel(sql_type = Timestamptz)]
    pub created_at: Time,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub finished_at: Option<Time>,
}

impl Replay {
    /// Which part of the range was looked at, from 0 to 1.
    pub fn progress(&self) -> f64 {
        if self.status == "completed" {
            return 1.0;
        }
        let whole = self.to_at.since(self.from_at).as_secs_f64();
        (self.passed_at.since(self.from_at).as_secs_f64() / whole).clamp(0.0, 1.0)
    }
}

/// Which events are sent again.
#[derive(Clone, Debug)]
pub struct Range {
    pub from: Time,
    /// Not included.
    pub to: Time,
    pub types: Option<Vec<String>>,
}

impl Range {
    fn check(&self, subscription: &Subscription, now: Time) -> Result<()> {
        let mut violations = Violations::new();
        if self.from >= self.to || self.to.since(self.from) > LONGEST {
            violations.add("/to", "to must lie after from, by at most a year");
        }
        if self.to > now {
            violations.add("/to", "what is to come cannot be sent again");
        }
        for (index, name) in self.types.iter().flatten().enumerate() {
            if !kind::known(name) || !subscription.types.contains(name) {
                violations.add(format!("/types/{index}"), format!("{name:?} is not a type of the subscription"));
            }
        }
        violations.finish()
    }
}

/// Begins a job. A subscription has one at a time, and must be active.
pub async fn start(app: &App, access: &Access, webhook: WebhookId, range: Range) -> Result<Replay> {
    access.require(Resource::WebhookSubscription, Level::Admin)?;
    app.transact(async |tx| {
        let subscription = find_locked_in(tx, access.env(), webhook).await?;
        if !subscription.active() {
            return Err(Error::conflict("enable the webhook subscription before sending it events again"));
        }
        range.check(&subscription, tx.now())?;
        let id: ReplayId = tx.id();
        let replay = sql_query(
            "INSERT INTO webhook_replays (environment_id, id, webhook_id, from_at, to_at, types, passed_at, passed_id,
                 due_at, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $4, $7, $8, $8) RETURNING *",
        )
        .bind::<SqlUuid, _>(access.env())
        .bind::<SqlUuid, _>(id)
        .bind::<SqlUuid, _>(webhook)
        .bind::<Timestamptz, _>(range.from)
        .bind::<Timestamptz, _>(range.to)
        .bind::<Nullable<Array<Text>>, _>(range.types)
        .bind::<SqlUuid, _>(Uuid::nil())
        .bind::<Timestamptz, _>(tx.now())
        .get_result(&mut tx.conn())
        .await
        .on_constraint("webhook_replays_running_key", || {
            Error::conflict("events are being sent to this subscription again already")
        })?;
        audit::record_in(tx, access, "webhook-subscription.replay", webhook, &[]).await?;
        Ok(replay)
    })
    .await
}

/// Ends a job. What it has queued is still sent. One that has ended stays as it is.
pub async fn cancel(app: &App, access: &Access, id: ReplayId) -> Result<Replay> {
    access.require(Resource::WebhookSubscription, Level::Admin)?;
    app.transact(async |tx| {
        sql_query(
            "UPDATE webhook_replays SET status = 'cancelled', finished_at = $3
             WHERE environment_id = $1 AND id = $2 AND status = 'running'",
        )
        .bind::<SqlUuid, _>(access.env())
        .bind::<SqlUuid, _>(id)
        .bind::<Timestamptz, _>(tx.now())
        .execute(&mut tx.conn())
        .await?;
        let replay = find(tx.conn(), access.env(), id).await?.ok_or_else(|| Error::not_found(ReplayId::NOUN))?;
        audit::record_in(tx, access, "webhook-subscription.cancel-replay", replay.webhook_id, &[]).await?;
        Ok(replay)
    })
    .await
}

/// One job.
pub async fn read(app: &App, access: &Access, id: ReplayId) -> Result<Replay> {
    access.require(Resource::WebhookSubscription, Level::View)?;
    find(&*app.read().await?, access.env(), id).await?.ok_or_else(|| Error::not_found(ReplayId::NOUN))
}

/// The jobs of a subscription, oldest first.
pub async fn list(
    app: &App,
    access: &Access,
    webhook: WebhookId,
    request: PageRequest<ReplayId>,
) -> Result<Page<Replay>> {
    access.require(Resource::WebhookSubscription, Level::View)?;
    let rows = sql_query(
        "SELECT * FROM webhook_replays
         WHERE environment_id = $1 AND webhook_id = $2 AND ($3 IS NULL OR id > $3) ORDER BY id LIMIT $4",
    )
    .bind::<SqlUuid, _>(access.env())
    .bind::<SqlUuid, _>(webhook)
    .bind::<Nullable<SqlUuid>, _>(request.after)
    .bind::<BigInt, _>(request.limit())
    .load(&mut &*app.read().await?)
    .await?;
    Ok(request.page(rows))
}

async fn find(conn: &AsyncPgConnection, env: EnvId, id: ReplayId) -> Result<Option<Replay>> {
    Ok(sql_query("SELECT * FROM webhook_replays WHERE environment_id = $1 AND id = $2")
        .bind::<SqlUuid, _>(env)
        .bind::<SqlUuid, _>(id)
        .get_result(&mut &*conn)
        .await
        .optional()?)
}

/// The worker that goes through the ranges.
pub struct Replayer;

impl Worker for Replayer {
    const NAME: &'static str = "webhook-replayer";

    async fn run(&self, app: &App) -> Result<Progress> {
        let now = app.clock().now();
        let due: Vec<Key> = sql_query(
            "SELECT environment_id, id, webhook_id FROM webhook_replays WHERE status = 'running' AND due_at <= $1
             ORDER BY due_at LIMIT 20",
        )
        .bind::<Timestamptz, _>(now)
        .load(&mut &*app.read().await?)
        .await?;
        for key in &due {
            app.transact(async |tx| step_in(tx, key).await).await?;
        }
        if !due.is_empty() {
            return Ok(Progress::More);
        }
        let next: Next = sql_query("SELECT min(due_at) AS at FROM webhook_replays WHERE status = 'running'")
            .get_result(&mut &*app.read().await?)
            .await?;
        Ok(next.at.map_or(Progress::Idle, Progress::NextAt))
    }
}

#[derive(QueryableByName)]
struct Key {
    #[diesel(sql_type = SqlUuid)]
    environment_id: EnvId,
    #[diesel(sql_type = SqlUuid)]
    id: ReplayId,
    #[diesel(sql_type = SqlUuid)]
    webhook_id: WebhookId,
}

#[derive(QueryableByName)]
struct Next {
    #[diesel(sql_type = Nullable<Timestamptz>)]
    at: Option<Time>,
}

/// An event of the range, and what the subscription had of it.
#[derive(QueryableByName)]
struct Candidate {
    #[diesel(sql_type = SqlUuid)]
    id: EventId,
    #[diesel(sql_type = Timestamptz)]
    received_at: Time,
    #[diesel(sql_type = Bool)]
    covered: bool,
    #[diesel(sql_type = Nullable<BigInt>)]
    seq: Option<i64>,
    #[diesel(sql_type = Bool)]
    waits: bool,
}

#[derive(QueryableByName)]
struct Counted {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// Looks at the next events of one job, under the lock of the stream.
async fn step_in(tx: &mut Tx, key: &Key) -> Result<()> {
    let subscription = match find_locked_in(tx, key.environment_id, key.webhook_id).await {
        Err(error) if error.code() == Code::NotFound => return Ok(()),
        found => found?,
    };
    let Some(replay) = find(tx.conn(), key.environment_id, key.id).await?.filter(|replay| replay.status == "running")
    else {
        return Ok(());
    };
    if !subscription.active() {
        return finish_in(tx, &replay, "cancelled").await;
    }
    let waiting: Counted =
        sql_query("SELECT count(*) AS count FROM webhook_retries WHERE environment_id = $1 AND webhook_id = $2")
            .bind::<SqlUuid, _>(key.environment_id)
            .bind::<SqlUuid, _>(key.webhook_id)
            .get_result(&mut tx.conn())
            .await?;
    if waiting.count >= MOST_WAITING {
        return rest_in(tx, &replay).await;
    }
    let candidates = candidates(tx.conn(), &replay).await?;
    let covered: Vec<&Candidate> = candidates.iter().filter(|candidate| candidate.covered).collect();
    let unknown: Vec<(EventId, Time)> = covered
        .iter()
        .filter(|candidate| candidate.seq.is_none())
        .map(|candidate| (candidate.id, candidate.received_at))
        .collect();
    let again: Vec<i64> =
        covered.iter().filter(|candidate| !candidate.waits).filter_map(|candidate| candidate.seq).collect();
    let queued = i64::try_from(unknown.len() + again.len()).map_err(Error::internal)?;
    if !unknown.is_empty() {
        fanout::append_in(tx, [((key.environment_id, key.webhook_id), unknown)].into()).await?;
    }
    stream::repeat_in(tx, &subscription, &again).await?;
    if queued > 0 {
        tx.announce(Announcement::Wake(Work::Webhooks));
    }
    if let Some(last) = candidates.last() {
        let found = i64::try_from(covered.len()).map_err(Error::internal)?;
        sql_query(
            "UPDATE webhook_replays SET passed_at = $3, passed_id = $4, found = found + $5, queued = queued + $6
             WHERE environment_id = $1 AND id = $2",
        )
        .bind::<SqlUuid, _>(key.environment_id)
        .bind::<SqlUuid, _>(key.id)
        .bind::<Timestamptz, _>(last.received_at)
        .bind::<SqlUuid, _>(last.id)
        .bind::<BigInt, _>(found)
        .bind::<BigInt, _>(queued)
        .execute(&mut tx.conn())
        .await?;
    }
    if i64::try_from(candidates.len()).map_err(Error::internal)? < BATCH {
        return finish_in(tx, &replay, "completed").await;
    }
    Ok(())
}

async fn candidates(conn: &AsyncPgConnection, replay: &Replay) -> Result<Vec<Candidate>> {
    // The range is by receipt, so that whole days outside of it are not looked at.
    Ok(sql_query(
        "SELECT e.id, e.received_at, d.seq,
             coalesce(CASE WHEN e.custom THEN 'custom:' || e.name ELSE e.name END = ANY (w.types)
                 AND ($7 IS NULL OR CASE WHEN e.custom THEN 'custom:' || e.name ELSE e.name END = ANY ($7))
                 AND (w.include_test_events OR NOT e.is_test)
                 AND (w.template_id IS NULL OR w.template_id = e.template_id)
                 AND (w.flow_id IS NULL OR w.flow_id = e.flow_id), false) AS covered,
             coalesce(d.seq > s.cursor OR d.seq = ANY (s.open) OR EXISTS (
                 SELECT FROM webhook_retries r
                 WHERE r.environment_id = s.environment_id AND r.webhook_id = s.webhook_id AND d.seq = ANY (r.seqs)), false)
                 AS waits
         FROM (SELECT * FROM events
               WHERE environment_id = $1 AND received_at >= $3 AND received_at < $4
                 AND (received_at, id) > ($5, $6)
               ORDER BY received_at, id LIMIT $8) AS e
         JOIN webhook_subscriptions w ON w.environment_id = $1 AND w.id = $2
         JOIN webhook_streams s ON s.environment_id = $1 AND s.webhook_id = $2
         LEFT JOIN webhook_deliveries d ON d.environment_id = $1 AND d.webhook_id = $2 AND d.event_id = e.id
             AND d.received_at = e.received_at
         ORDER BY e.received_at, e.id",
    )
    .bind::<SqlUuid, _>(replay.environment_id)
    .bind::<SqlUuid, _>(replay.webhook_id)
    .bind::<Timestamptz, _>(replay.passed_at)
    .bind::<Timestamptz, _>(replay.to_at)
    .bind::<Timestamptz, _>(replay.passed_at)
    .bind::<SqlUuid, _>(replay.passed_id)
    .bind::<Nullable<Array<Text>>, _>(replay.types.clone())
    .bind::<BigInt, _>(BATCH)
    .load(&mut &*conn)
    .await?)
}

async fn rest_in(tx: &mut Tx, replay: &Replay) -> Result<()> {
    sql_query("UPDATE webhook_replays SET due_at = $3 WHERE environment_id = $1 AND id = $2")
        .bind::<SqlUuid, _>(replay.environment_id)
        .bind::<SqlUuid, _>(replay.id)
        .bind::<Timestamptz, _>(tx.now().plus(REST))
        .execute(&mut tx.conn())
        .await?;
    Ok(())
}

async fn finish_in(tx: &mut Tx, replay: &Replay, status: &str) -> Result<()> {
    sql_query("UPDATE webhook_replays SET status = $3, finished_at = $4 WHERE environment_id = $1 AND id = $2")
        .bind::<SqlUuid, _>(replay.environment_id)
        .bind::<SqlUuid, _>(replay.id)
        .bind::<Text, _>(status)
        .bind::<Timestamptz, _>(tx.now())
        .execute(&mut tx.conn())
        .await?;
    Ok(())
}
