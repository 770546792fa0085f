//! Reads what waits for one subscription or many: the log beyond a cursor, and failed requests that are due again.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Integer, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::stream;
use crate::clock::Time;
use crate::db::{Prepared, Tx};
use crate::error::{Error, Result};
use crate::ids::{EnvId, EventId, WebhookId};

/// A delivery with the event it carries.
#[derive(Clone, Debug)]
pub struct Waiting {
    pub webhook_id: WebhookId,
    pub seq: i64,
    pub event_id: EventId,
    pub received_at: Time,
    /// Absent when retention has taken the event: there is nothing left to send.
    pub payload: Option<String>,
}

/// How much of a stream is asked for, and from where.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub env: EnvId,
    pub webhook: WebhookId,
    pub after: i64,
    pub most: i64,
}

/// A row of a log.
#[derive(QueryableByName)]
struct Logged {
    #[diesel(sql_type = SqlUuid)]
    environment_id: EnvId,
    #[diesel(sql_type = SqlUuid)]
    webhook_id: WebhookId,
    #[diesel(sql_type = BigInt)]
    seq: i64,
    #[diesel(sql_type = SqlUuid)]
    event_id: EventId,
    #[diesel(sql_type = Timestamptz)]
    received_at: Time,
}

/// The next deliveries of several streams, in order. The events are read through `record`.
pub async fn beyond(conn: &AsyncPgConnection, record: &AsyncPgConnection, wanted: &[Wanted]) -> Result<Vec<Waiting>> {
    let logged: Vec<Logged> = Prepared(
        sql_query(
            "SELECT wanted.environment_id, wanted.webhook_id, log.seq, log.event_id, log.received_at
         FROM UNNEST($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[])
              AS wanted (environment_id, webhook_id, after, most)
         CROSS JOIN LATERAL (
             SELECT d.seq, d.event_id, d.received_at FROM webhook_deliveries d
             WHERE d.environment_id = wanted.environment_id AND d.webhook_id = wanted.webhook_id AND d.seq > wanted.after
             ORDER BY d.seq LIMIT wanted.most) AS log
         ORDER BY wanted.webhook_id, log.seq",
        )
        .bind::<Array<SqlUuid>, _>(wanted.iter().map(|wanted| wanted.env).collect::<Vec<_>>())
        .bind::<Array<SqlUuid>, _>(wanted.iter().map(|wanted| wanted.webhook).collect::<Vec<_>>())
        .bind::<Array<BigInt>, _>(wanted.iter().map(|wanted| wanted.after).collect::<Vec<_>>())
        .bind::<Array<BigInt>, _>(wanted.iter().map(|wanted| wanted.most).collect::<Vec<_>>()),
    )
    .load(&mut &*conn)
    .await?;
    with_payloads(record, &logged).await
}

/// One delivery of one stream.
#[derive(Clone, Copy, Debug)]
pub struct Numbered {
    pub env: EnvId,
    pub webhook: WebhookId,
    pub seq: i64,
}

/// Particular deliveries, in order. The events are read through `record`.
pub async fn numbered(
    conn: &AsyncPgConnection,
    record: &AsyncPgConnection,
    wanted: &[Numbered],
) -> Result<Vec<Waiting>> {
    let logged: Vec<Logged> = Prepared(
        sql_query(
            "SELECT wanted.environment_id, wanted.webhook_id, log.seq, log.event_id, log.received_at
         FROM UNNEST($1::uuid[], $2::uuid[], $3::bigint[]) AS wanted (environment_id, webhook_id, seq)
         CROSS JOIN LATERAL (
             SELECT d.seq, d.event_id, d.received_at FROM webhook_deliveries d
             WHERE d.environment_id = wanted.environment_id AND d.webhook_id = wanted.webhook_id AND d.seq = wanted.seq
             LIMIT 1) AS log
         ORDER BY wanted.webhook_id, log.seq",
        )
        .bind::<Array<SqlUuid>, _>(wanted.iter().map(|wanted| wanted.env).collect::<Vec<_>>())
        .bind::<Array<SqlUuid>, _>(wanted.iter().map(|wanted| wanted.webhook).collect::<Vec<_>>())
        .bind::<Array<BigInt>, _>(wanted.iter().map(|wanted| wanted.seq).collect::<Vec<_>>()),
    )
    .load(&mut &*conn)
    .await?;
    with_payloads(record, &logged).await
}

#[derive(QueryableByName)]
struct Found {
    /// Which of the rows it belongs to, from 1.
    #[diesel(sql_type = BigInt)]
    place: i64,
    #[diesel(sql_type = Text)]
    payload: String,
}

/// Adds what the events say that are still there.
///
/// Each is looked up by its whole key, which names one day; between the first and the last of them lie the days that the
/// plan opens.
async fn with_payloads(record: &AsyncPgConnection, logged: &[Logged]) -> Result<Vec<Waiting>> {
    let received = || logged.iter().map(|row| row.received_at);
    let (Some(first), Some(last)) = (received().min(), received().max()) else { return Ok(Vec::new()) };
    let query = sql_query(
        "SELECT asked.place, event.payload
         FROM UNNEST($1::uuid[], $2::uuid[], $3::timestamptz[])
              WITH ORDINALITY AS asked (environment_id, event_id, received_at, place)
         CROSS JOIN LATERAL (
             SELECT e.payload FROM events e
             WHERE e.environment_id = asked.environment_id AND e.id = asked.event_id
                 AND e.received_at = asked.received_at AND e.received_at BETWEEN $4 AND $5
             LIMIT 1) AS event",
    )
    .bind::<Array<SqlUuid>, _>(logged.iter().map(|row| row.environment_id).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(logged.iter().map(|row| row.event_id).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(received().collect::<Vec<_>>())
    .bind::<Timestamptz, _>(first)
    .bind::<Timestamptz, _>(last);
    let found: Vec<Found> = Prepared(query).load(&mut &*record).await?;
    let mut waiting: Vec<Waiting> = logged.iter().map(Waiting::without_payload).collect();
    for Found { place, payload } in found {
        let row = usize::try_from(place - 1).ok().and_then(|place| waiting.get_mut(place));
        row.ok_or_else(|| Error::internal("an event nobody asked for"))?.payload = Some(payload);
    }
    Ok(waiting)
}

impl Waiting {
    fn without_payload(row: &Logged) -> Waiting {
        let Logged { webhook_id, seq, event_id, received_at, .. } = *row;
        Waiting { webhook_id, seq, event_id, received_at, payload: None }
    }
}

/// A failed request that is tried again.
#[derive(Clone, Debug, QueryableByName)]
pub struct Retry {
    #[diesel(sql_type = SqlUuid)]
    pub environment_id: EnvId,
    #[diesel(sql_type = SqlUuid)]
    pub webhook_id: WebhookId,
    /// The first of the deliveries it carries: its key.
    #[diesel(sql_type = BigInt)]
    pub seq: i64,
    #[diesel(sql_type = Array<BigInt>)]
    pub seqs: Vec<i64>,
    /// How often it was tried.
    #[diesel(sql_type = Integer)]
    pub attempts: i32,
    #[diesel(sql_type = Timestamptz)]
    pub due_at: Time,
}

/// The retries of several streams that are due, those due longest first. `after` is not used.
pub async fn due_retries(conn: &AsyncPgConnection, wanted: &[Wanted], now: Time) -> Result<Vec<Retry>> {
    Ok(Prepared(sql_query(
        "SELECT retry.* FROM UNNEST($1::uuid[], $2::uuid[], $3::bigint[]) AS wanted (environment_id, webhook_id, most)
         CROSS JOIN LATERAL (
             SELECT * FROM webhook_retries r
             WHERE r.environment_id = wanted.environment_id AND r.webhook_id = wanted.webhook_id AND (r.due_at <= $4 OR r.due_at > $5)
             ORDER BY r.due_at LIMIT wanted.most) AS retry
         ORDER BY retry.webhook_id, retry.due_at, retry.seq",
    )
    .bind::<Array<SqlUuid>, _>(wanted.iter().map(|wanted| wanted.env).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(wanted.iter().map(|wanted| wanted.webhook).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(wanted.iter().map(|wanted| wanted.most).collect::<Vec<_>>())
    .bind::<Timestamptz, _>(now)
    .bind::<Timestamptz, _>(now.plus(stream::LONGEST_PAUSE)))
    .load(&mut &*conn)
    .await?)
}

/// Writes failed requests down, or down again with a later time.
pub(super) async fn postpone_in(tx: &mut Tx, retries: &[&Retry]) -> Result<()> {
    if retries.is_empty() {
        return Ok(());
    }
    Prepared(
        sql_query(
            "INSERT INTO webhook_retries (environment_id, webhook_id, seq, seqs, attempts, due_at)
         SELECT environment_id, webhook_id, seq, seqs::bigint[], attempts, due_at
         FROM UNNEST($1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::integer[], $6::timestamptz[])
              AS new (environment_id, webhook_id, seq, seqs, attempts, due_at)
         ON CONFLICT ON CONSTRAINT webhook_retries_pkey
         DO UPDATE SET attempts = EXCLUDED.attempts, due_at = EXCLUDED.due_at",
        )
        .bind::<Array<SqlUuid>, _>(retries.iter().map(|retry| retry.environment_id).collect::<Vec<_>>())
        .bind::<Array<SqlUuid>, _>(retries.iter().map(|retry| retry.webhook_id).collect::<Vec<_>>())
        .bind::<Array<BigInt>, _>(retries.iter().map(|retry| retry.seq).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(retries.iter().map(|retry| stream::array(&retry.seqs)).collect::<Vec<_>>())
        .bind::<Array<Integer>, _>(retries.iter().map(|retry| retry.attempts).collect::<Vec<_>>())
        .bind::<Array<Timestamptz>, _>(retries.iter().map(|retry| retry.due_at).collect::<Vec<_>>()),
    )
    .execute(&mut tx.conn())
    .await?;
    Ok(())
}

/// Forgets retries that succeeded or were given up.
pub(super) async fn finish_in(tx: &mut Tx, finished: &[Numbered]) -> Result<()> {
    if finished.is_empty() {
        return Ok(());
    }
    Prepared(
        sql_query(
            "DELETE FROM webhook_retries r
         USING UNNEST($1::uuid[], $2::uuid[], $3::bigint[]) AS done (environment_id, webhook_id, seq)
         WHERE r.environment_id = done.environment_id AND r.webhook_id = done.webhook_id AND r.seq = done.seq",
        )
        .bind::<Array<SqlUuid>, _>(finished.iter().map(|done| done.env).collect::<Vec<_>>())
        .bind::<Array<SqlUuid>, _>(finished.iter().map(|done| done.webhook).collect::<Vec<_>>())
        .bind::<Array<BigInt>, _>(finished.iter().map(|done| done.seq).collect::<Vec<_>>()),
    )
    .execute(&mut tx.conn())
    .await?;
    Ok(())
}
