//! The narrow row of each subscription: how far its log is written and delivered, and who works on it.
//!
//! Whoever delivers leases the row; every write asks for the fence of that lease. Rows are always locked in the order
//! of their ids, before anything else of the subscription.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::backlog::{self, Retry};
use super::payload;
use super::subscription::Subscription;
use crate::app::App;
use crate::clock::Time;
use crate::db::{Prepared, Tx};
use crate::error::{Error, Result};
use crate::ids::{EnvId, Id, OutgoingCredentialId, WebhookId};

/// A holder that says nothing for so long has lost the stream.
pub const TERM: Duration = Duration::from_secs(10);
/// A lease that ends later than this, or an event that is to be sent later, is from before the clock was set back.
const LONGEST_LEASE: Duration = Duration::from_secs(60);
/// The same for retries and pauses.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 3600);
/// How long the first event of a batch waits for others.
pub const BATCH_WAIT: Duration = Duration::from_secs(5);

/// The end of a log.
#[derive(Clone, Copy, Debug, QueryableByName)]
pub struct Head {
    #[diesel(sql_type = SqlUuid)]
    pub environment_id: EnvId,
    #[diesel(sql_type = SqlUuid)]
    pub webhook_id: WebhookId,
    #[diesel(sql_type = BigInt)]
    pub head: i64,
}

pub(super) async fn create_in(tx: &mut Tx, env: EnvId, webhook: WebhookId) -> Result<()> {
    Prepared(
        sql_query("INSERT INTO webhook_streams (environment_id, webhook_id) VALUES ($1, $2)")
            .bind::<SqlUuid, _>(env)
            .bind::<SqlUuid, _>(webhook),
    )
    .execute(&mut tx.conn())
    .await?;
    Ok(())
}

/// Locks one stream until the transaction ends.
pub(super) async fn lock_in(tx: &mut Tx, env: EnvId, webhook: WebhookId) -> Result<()> {
    let locked = lock_heads_in(tx, [(env, webhook)]).await?;
    if locked.is_empty() { Err(Error::not_found(WebhookId::NOUN)) } else { Ok(()) }
}

/// Locks streams in the order of their ids. Those that were deleted are missing from the answer.
pub(super) async fn lock_heads_in(
    tx: &mut Tx,
    streams: impl IntoIterator<Item = (EnvId, WebhookId)>,
) -> Result<Vec<Head>> {
    let (envs, webhooks): (Vec<_>, Vec<_>) = streams.into_iter().unzip();
    Ok(Prepared(
        sql_query(
            "SELECT s.environment_id, s.webhook_id, s.head FROM webhook_streams s
         JOIN UNNEST($1::uuid[], $2::uuid[]) AS wanted (environment_id, webhook_id) USING (environment_id, webhook_id)
         ORDER BY s.environment_id, s.webhook_id FOR UPDATE OF s",
        )
        .bind::<Array<SqlUuid>, _>(envs)
        .bind::<Array<SqlUuid>, _>(webhooks),
    )
    .load(&mut tx.conn())
    .await?)
}

/// Raises the heads of locked streams and says when what was added may be sent: at once, or as a batch.
pub(super) async fn grow_in(tx: &mut Tx, heads: &[Head]) -> Result<()> {
    Prepared(
        sql_query(
            "UPDATE webhook_streams s
         SET head = grown.head,
             ready_at = CASE WHEN w.batched AND grown.head - s.cursor < $4 THEN coalesce(s.ready_at, $6)
                             ELSE least(s.ready_at, $5) END
         FROM UNNEST($1::uuid[], $2::uuid[], $3::bigint[]) AS grown (environment_id, webhook_id, head)
         JOIN webhook_subscriptions w ON w.environment_id = grown.environment_id AND w.id = grown.webhook_id
         WHERE s.environment_id = grown.environment_id AND s.webhook_id = grown.webhook_id",
        )
        .bind::<Array<SqlUuid>, _>(heads.iter().map(|head| head.environment_id).collect::<Vec<_>>())
        .bind::<Array<SqlUuid>, _>(heads.iter().map(|head| head.webhook_id).collect::<Vec<_>>())
        .bind::<Array<BigInt>, _>(heads.iter().map(|head| head.head).collect::<Vec<_>>())
        .bind::<BigInt, _>(i64::try_from(payload::BATCH).map_err(Error::internal)?)
        .bind::<Timestamptz, _>(tx.now())
        .bind::<Timestamptz, _>(tx.now().plus(BATCH_WAIT)),
    )
    .execute(&mut tx.conn())
    .await?;
    Ok(())
}

/// Tells whoever delivers that the subscription reads differently now.
pub(super) async fn revise_in(tx: &mut Tx, env: EnvId, webhook: WebhookId) -> Result<()> {
    Prepared(
        sql_query("UPDATE webhook_streams SET revision = revision + 1 WHERE environment_id = $1 AND webhook_id = $2")
            .bind::<SqlUuid, _>(env)
            .bind::<SqlUuid, _>(webhook),
    )
    .execute(&mut tx.conn())
    .await?;
    Ok(())
}

/// Gives back every stream of a holder that ends. What it had under way and not acknowledged is sent again.
pub(super) async fn release(app: &App, holder: &str) -> Result<()> {
    let release =
        sql_query("UPDATE webhook_streams SET lease = NULL, holder = NULL, leased_until = NULL WHERE holder = $1");
    release.bind::<Text, _>(holder).execute(&mut &*app.read().await?).await?;
    Ok(())
}

/// Tells whoever delivers for subscriptions that carry a credential that it reads differently now.
pub(super) async fn revise_users_in(tx: &mut Tx, env: EnvId, credential: OutgoingCredentialId) -> Result<()> {
    let revise = sql_query(
        "UPDATE webhook_streams SET revision = revision + 1 WHERE environment_id = $1 AND webhook_id IN (
             SELECT id FROM webhook_subscriptions WHERE environment_id = $1 AND credential_id = $2)",
    );
    revise.bind::<SqlUuid, _>(env).bind::<SqlUuid, _>(credential).execute(&mut tx.conn()).await?;
    Ok(())
}

/// Drops everything that waits, the count of failures, and the lease of whoever delivers.
pub(super) async fn drop_waiting_in(tx: &mut Tx, env: EnvId, webhook: WebhookId) -> Result<()> {
    for statement in [
        "UPDATE webhook_streams s
         SET dropped = dropped + head - cursor + cardinality(open) + (
                 SELECT coalesce(sum(cardinality(r.seqs)), 0) FROM webhook_retries r
                 WHERE r.environment_id = s.environment_id AND r.webhook_id = s.webhook_id),
             cursor = head, open = '{}', ready_at = NULL, retry_at = NULL, paused_until = NULL, failures = 0,
             revision = revision + 1, lease = NULL, holder = NULL, leased_until = NULL
         WHERE environment_id = $1 AND webhook_id = $2",
        "DELETE FROM webhook_retries WHERE environment_id = $1 AND webhook_id = $2",
    ] {
        sql_query(statement).bind::<SqlUuid, _>(env).bind::<SqlUuid, _>(webhook).execute(&mut tx.conn()).await?;
    }
    Ok(())
}

/// Makes deliveries of a locked stream that came to an end wait once more, as requests that are due.
pub(super) async fn repeat_in(tx: &mut Tx, subscription: &Subscription, seqs: &[i64]) -> Result<()> {
    if seqs.is_empty() {
        return Ok(());
    }
    let size = if subscription.batched { payload::BATCH } else { 1 };
    let (env, webhook) = (subscription.environment_id, subscription.id);
    let retries: Vec<Retry> = seqs
        .chunks(size)
        .map(|seqs| Retry {
            environment_id: env,
            webhook_id: webhook,
            seq: seqs[0],
            seqs: seqs.to_vec(),
            attempts: 0,
            due_at: tx.now(),
        })
        .collect();
    backlog::postpone_in(tx, &retries.iter().collect::<Vec<_>>()).await?;
    sql_query(
        "UPDATE webhook_streams SET replayed = replayed + $3, retry_at = least(retry_at, $4)
         WHERE environment_id = $1 AND webhook_id = $2",
    )
    .bind::<SqlUuid, _>(env)
    .bind::<SqlUuid, _>(webhook)
    .bind::<BigInt, _>(i64::try_from(seqs.len()).map_err(Error::internal)?)
    .bind::<Timestamptz, _>(tx.now())
    .execute(&mut tx.conn())
    .await?;
    Ok(())
}

/// A stream that is ours until the lease ends.
#[derive(Clone, Debug, QueryableByName)]
pub struct Claimed {
    #[diesel(sql_type = SqlUuid)]
    pub environment_id: EnvId,
    #[diesel(sql_type = SqlUuid)]
    pub webhook_id: WebhookId,
    #[diesel(sql_type = SqlUuid)]
    pub lease: Uuid,
    #[diesel(sql_type = BigInt)]
    pub head: i64,
    #[diesel(sql_type = BigInt)]
    pub cursor: i64,
    #[diesel(sql_type = Array<BigInt>)]
    pub open: Vec<i64>,
    #[diesel(sql_type = Integer)]
    pub failures: i32,
    #[diesel(sql_type = Integer)]
    pub revision: i32,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub retry_at: Option<Time>,
    #[diesel(embed)]
    pub tally: Tally,
}

/// Whose streams are claimed, and which ones it has already.
pub struct Claim<'a> {
    pub holder: &'a str,
    pub held: Vec<(EnvId, WebhookId)>,
    pub now: Time,
    pub limit: i64,
}

/// Leases streams of active subscriptions in which something may be sent now: one of each environment in turn, within
/// it those due longest first. However many an environment has, it leaves half of all to the others.
///
/// Streams that the holder leases but does not have in hand were left by a predecessor in the same process.
///
/// The answer does not wait for the disk: a lease that a crash of the database forgets is one whose fence no write
/// passes, and nothing was saved under it.
pub async fn claim(conn: &AsyncPgConnection, claim: Claim<'_>) -> Result<Vec<Claimed>> {
    Ok(Prepared(sql_query(
        "WITH held AS (
             SELECT environment_id, count(*) AS streams FROM UNNEST($6::uuid[]) AS held (environment_id) GROUP BY 1),
         turns AS (
             SELECT s.environment_id, s.webhook_id, row_number() OVER (
                 PARTITION BY s.environment_id ORDER BY least(s.ready_at, s.retry_at) NULLS FIRST) AS turn
             FROM webhook_streams s
             JOIN webhook_subscriptions w
                  ON w.environment_id = s.environment_id AND w.id = s.webhook_id AND w.status = 'active'
             WHERE (s.lease IS NULL OR s.leased_until <= $3 OR s.leased_until > $7 OR s.holder = $1)
               AND s.webhook_id <> ALL ($2)
               AND (s.paused_until IS NULL OR s.paused_until <= $3 OR s.paused_until > $8)
               AND (s.ready_at <= $3 OR s.ready_at > $7 OR s.retry_at <= $3 OR s.retry_at > $8 OR s.open <> '{}')),
         due AS (
             SELECT s.environment_id, s.webhook_id FROM turns
             JOIN webhook_streams s USING (environment_id, webhook_id)
             LEFT JOIN held ON held.environment_id = turns.environment_id
             WHERE turns.turn <= ($5 - coalesce(held.streams, 0) + 1) / 2
               AND (s.lease IS NULL OR s.leased_until <= $3 OR s.leased_until > $7 OR s.holder = $1)
             ORDER BY turns.turn
             LIMIT $5
             FOR UPDATE OF s SKIP LOCKED)
         UPDATE webhook_streams s SET lease = gen_random_uuid(), holder = $1, leased_until = $4
         FROM due WHERE s.environment_id = due.environment_id AND s.webhook_id = due.webhook_id
             AND set_config('synchronous_commit', 'off', true) IS NOT NULL
         RETURNING s.environment_id, s.webhook_id, s.lease, s.head, s.cursor, s.open, s.failures, s.revision, s.retry_at,
             s.delivered, s.given_up, s.dropped",
    )
    .bind::<Text, _>(claim.holder)
    .bind::<Array<SqlUuid>, _>(claim.held.iter().map(|(_, webhook)| *webhook).collect::<Vec<_>>())
    .bind::<Timestamptz, _>(claim.now)
    .bind::<Timestamptz, _>(claim.now.plus(TERM))
    .bind::<BigInt, _>(claim.limit)
    .bind::<Array<SqlUuid>, _>(claim.held.iter().map(|(env, _)| *env).collect::<Vec<_>>())
    .bind::<Timestamptz, _>(claim.now.plus(LONGEST_LEASE))
    .bind::<Timestamptz, _>(claim.now.plus(LONGEST_PAUSE)))
    .load(&mut &*conn)
    .await?)
}

#[derive(QueryableByName)]
struct Due {
    #[diesel(sql_type = Nullable<Timestamptz>)]
    at: Option<Time>,
}

/// When something of an active subscription may be sent next.
pub async fn next_due(conn: &AsyncPgConnection, holder: &str, now: Time) -> Result<Option<Time>> {
    let due: Due = Prepared(
        sql_query(
            "SELECT min(greatest(
             CASE WHEN s.open <> '{}' THEN $2 ELSE least(s.ready_at, s.retry_at) END,
             s.paused_until,
             CASE WHEN s.holder <> $1 THEN s.leased_until END)) AS at
         FROM webhook_streams s
         JOIN webhook_subscriptions w
              ON w.environment_id = s.environment_id AND w.id = s.webhook_id AND w.status = 'active'
         WHERE s.open <> '{}' OR s.ready_at IS NOT NULL OR s.retry_at IS NOT NULL",
        )
        .bind::<Text, _>(holder)
        .bind::<Timestamptz, _>(now),
    )
    .get_result(&mut &*conn)
    .await?;
    Ok(due.at)
}

/// How many deliveries came to which end, ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, QueryableByName)]
pub struct Tally {
    #[diesel(sql_type = BigInt)]
    pub delivered: i64,
    #[diesel(sql_type = BigInt)]
    pub given_up: i64,
    /// The event was gone before the delivery's turn came.
    #[diesel(sql_type = BigInt)]
    pub dropped: i64,
}

/// What became of a stream since the last save.
#[derive(Clone, Debug)]
pub struct Advance {
    pub environment_id: EnvId,
    pub webhook_id: WebhookId,
    pub lease: Uuid,
    pub cursor: i64,
    pub open: Vec<i64>,
    pub failures: i32,
    pub paused_until: Option<Time>,
    /// When what is left may be sent; unchanged when absent.
    pub ready_at: Option<Time>,
    pub tally: Tally,
    /// The stream goes back; otherwise its lease is renewed.
    pub release: bool,
}

/// A stream after a save.
#[derive(Clone, Debug, QueryableByName)]
pub struct Advanced {
    #[diesel(sql_type = SqlUuid)]
    pub webhook_id: WebhookId,
    #[diesel(sql_type = Integer)]
    pub revision: i32,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub retry_at: Option<Time>,
}

#[derive(QueryableByName)]
struct Held {
    #[diesel(sql_type = SqlUuid)]
    webhook_id: WebhookId,
}

/// Locks those of the streams that are still ours.
pub(super) async fn lock_held_in(tx: &mut Tx, advances: &[Advance]) -> Result<Vec<WebhookId>> {
    let held: Vec<Held> = Prepared(
        sql_query(
            "SELECT s.webhook_id FROM webhook_streams s
         JOIN UNNEST($1::uuid[], $2::uuid[], $3::uuid[]) AS ours (environment_id, webhook_id, lease)
              USING (environment_id, webhook_id, lease)
         ORDER BY s.environment_id, s.webhook_id FOR UPDATE OF s",
        )
        .bind::<Array<SqlUuid>, _>(advances.iter().map(|advance| advance.environment_id).collect::<Vec<_>>())
        .bind::<Array<SqlUuid>, _>(advances.iter().map(|advance| advance.webhook_id).collect::<Vec<_>>())
        .bind::<Array<SqlUuid>, _>(advances.iter().map(|advance| advance.lease).collect::<Vec<_>>()),
    )
    .load(&mut tx.conn())
    .await?;
    Ok(held.into_iter().map(|held| held.webhook_id).collect())
}

/// Saves how far streams came, in one statement. Those that are no longer ours stay as they are.
pub(super) async fn advance_in(tx: &mut Tx, advances: &[Advance]) -> Result<Vec<Advanced>> {
    fn column<T>(advances: &[Advance], of: impl Fn(&Advance) -> T) -> Vec<T> {
        advances.iter().map(of).collect()
    }
    Ok(Prepared(
        sql_query(
            "UPDATE webhook_streams s
         SET cursor = new.cursor, open = new.open::bigint[], failures = new.failures, paused_until = new.paused_until,
             ready_at = CASE WHEN s.head > new.cursor THEN coalesce(new.ready_at, s.ready_at) END,
             retry_at = (SELECT min(r.due_at) FROM webhook_retries r
                         WHERE r.environment_id = s.environment_id AND r.webhook_id = s.webhook_id),
             lease = CASE WHEN NOT new.release THEN s.lease END,
             holder = CASE WHEN NOT new.release THEN s.holder END,
             leased_until = CASE WHEN NOT new.release THEN $10::timestamptz END,
             delivered = new.delivered, given_up = new.given_up, dropped = new.dropped
         FROM UNNEST($1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[], $5::text[], $6::integer[], $7::timestamptz[],
                     $8::timestamptz[], $9::bool[], $11::bigint[], $12::bigint[], $13::bigint[])
              AS new (environment_id, webhook_id, lease, cursor, open, failures, paused_until, ready_at, release,
                      delivered, given_up, dropped)
         WHERE s.environment_id = new.environment_id AND s.webhook_id = new.webhook_id AND s.lease = new.lease
         RETURNING s.webhook_id, s.revision, s.retry_at",
        )
        .bind::<Array<SqlUuid>, _>(column(advances, |advance| advance.environment_id))
        .bind::<Array<SqlUuid>, _>(column(advances, |advance| advance.webhook_id))
        .bind::<Array<SqlUuid>, _>(column(advances, |advance| advance.lease))
        .bind::<Array<BigInt>, _>(column(advances, |advance| advance.cursor))
        .bind::<Array<Text>, _>(column(advances, |advance| array(&advance.open)))
        .bind::<Array<Integer>, _>(column(advances, |advance| advance.failures))
        .bind::<Array<Nullable<Timestamptz>>, _>(column(advances, |advance| advance.paused_until))
        .bind::<Array<Nullable<Timestamptz>>, _>(column(advances, |advance| advance.ready_at))
        .bind::<Array<Bool>, _>(column(advances, |advance| advance.release))
        .bind::<Timestamptz, _>(tx.now().plus(TERM))
        .bind::<Array<BigInt>, _>(column(advances, |advance| advance.tally.delivered))
        .bind::<Array<BigInt>, _>(column(advances, |advance| advance.tally.given_up))
        .bind::<Array<BigInt>, _>(column(advances, |advance| advance.tally.dropped)),
    )
    .load(&mut tx.conn())
    .await?)
}

/// Numbers as an array literal: UNNEST would flatten an array of arrays.
pub(super) fn array(numbers: &[i64]) -> String {
    let numbers: Vec<String> = numbers.iter().map(i64::to_string).collect();
    format!("{{{}}}", numbers.join(","))
}
