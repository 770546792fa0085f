//! The books of all streams: every event that was matched with a subscription came to an end or still waits.
//!
//! Two sums that are kept apart must agree. What was matched is the number of the last row of each log. What became of
//! it is counted by whoever delivers, in the transactions that move cursors and retries. A difference, other than while
//! it is being looked at by two transactions, is a defect: something was lost or is stuck.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Nullable, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use parking_lot::Mutex;

use super::fanout;
use crate::app::App;
use crate::clock::Time;
use crate::error::Result;
use crate::events::consumer;
use crate::worker::{Progress, Worker};

/// How often the gauges are set.
const PERIOD: Duration = Duration::from_secs(15);
/// The fan-out's lag is counted up to here.
const LARGEST_LAG: i64 = 100_000;
/// A subscription that was changed later than this before an event may have matched it in another form.
const SETTLED: Duration = Duration::from_secs(60);

/// The sums over all streams.
#[derive(Clone, Debug, QueryableByName)]
pub struct Books {
    /// Deliveries that fan-out made, and those that were made to wait once more.
    #[diesel(sql_type = BigInt)]
    pub matched: i64,
    #[diesel(sql_type = BigInt)]
    pub delivered: i64,
    #[diesel(sql_type = BigInt)]
    pub given_up: i64,
    #[diesel(sql_type = BigInt)]
    pub dropped: i64,
    /// Deliveries nobody has begun.
    #[diesel(sql_type = BigInt)]
    pub fresh: i64,
    /// Deliveries whose outcome is not known.
    #[diesel(sql_type = BigInt)]
    pub open: i64,
    /// Deliveries that wait for their next attempt, or in a batch for their first.
    #[diesel(sql_type = BigInt)]
    pub retrying: i64,
    /// By how much streams are off, without regard to the sign. Zero.
    #[diesel(sql_type = BigInt)]
    pub unaccounted: i64,
    /// Active subscriptions that get one request at a time because their last ones failed.
    #[diesel(sql_type = BigInt)]
    pub failing: i64,
    /// When the event was recorded that waits longest for its first attempt.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub oldest: Option<Time>,
}

/// Adds up all streams, in one statement and so as of one instant.
pub async fn books(conn: &AsyncPgConnection) -> Result<Books> {
    Ok(sql_query(
        "SELECT coalesce(sum(head + replayed), 0)::bigint AS matched, coalesce(sum(delivered), 0)::bigint AS delivered,
             coalesce(sum(given_up), 0)::bigint AS given_up, coalesce(sum(dropped), 0)::bigint AS dropped,
             coalesce(sum(head - cursor), 0)::bigint AS fresh, coalesce(sum(cardinality(open)), 0)::bigint AS open,
             coalesce(sum(retrying), 0)::bigint AS retrying,
             coalesce(sum(abs(cursor + replayed - delivered - given_up - dropped - cardinality(open) - retrying)), 0)::bigint
                 AS unaccounted,
             count(*) FILTER (WHERE failures > 0 AND status = 'active') AS failing, min(oldest) AS oldest
         FROM (
             SELECT s.*, w.status, retries.retrying, first.received_at AS oldest
             FROM webhook_streams s
             JOIN webhook_subscriptions w ON w.environment_id = s.environment_id AND w.id = s.webhook_id
             CROSS JOIN LATERAL (
                 SELECT coalesce(sum(cardinality(r.seqs)), 0) AS retrying FROM webhook_retries r
                 WHERE r.environment_id = s.environment_id AND r.webhook_id = s.webhook_id) AS retries
             LEFT JOIN LATERAL (
                 SELECT d.received_at FROM webhook_deliveries d
                 WHERE d.environment_id = s.environment_id AND d.webhook_id = s.webhook_id AND d.seq > s.cursor
                     AND s.head > s.cursor
                 ORDER BY d.seq LIMIT 1) AS first ON true) AS streams",
    )
    .get_result(&mut &*conn)
    .await?)
}

#[derive(QueryableByName)]
struct Counted {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// How many events nobody has matched with subscriptions yet.
pub async fn lag(conn: &AsyncPgConnection, now: Time) -> Result<i64> {
    consumer::lag(conn, fanout::READER, now, LARGEST_LAG).await
}

/// How many deliveries of events recorded since an instant are missing from the logs, though fan-out has passed the
/// event and an active subscription covers it that has not been changed since.
pub async fn unmatched(conn: &AsyncPgConnection, since: Time) -> Result<i64> {
    let counted: Counted = sql_query(
        "SELECT count(*) AS count FROM consumers c
         JOIN events e ON (e.xid, e.id) <= (c.xid, c.event_id) AND e.received_at >= $2
         JOIN webhook_subscriptions w ON w.environment_id = e.environment_id AND w.status = 'active'
             AND (CASE WHEN e.custom THEN 'custom:' || e.name ELSE e.name END) = ANY (w.types)
             AND e.xid > w.since_xid AND e.received_at > w.updated_at + $3 * interval '1 second'
             AND (w.include_test_events OR NOT e.is_test)
             AND (w.template_id IS NULL OR w.template_id = e.template_id)
             AND (w.flow_id IS NULL OR w.flow_id = e.flow_id)
         LEFT JOIN webhook_deliveries d ON d.environment_id = e.environment_id AND d.webhook_id = w.id
             AND d.event_id = e.id AND d.received_at = e.received_at
         WHERE c.name = $1 AND c.shard = 0 AND d.seq IS NULL",
    )
    .bind::<diesel::sql_types::Text, _>(fanout::READER)
    .bind::<Timestamptz, _>(since)
    .bind::<BigInt, _>(i64::try_from(SETTLED.as_secs()).unwrap_or(i64::MAX))
    .get_result(&mut &*conn)
    .await?;
    Ok(counted.count)
}

/// Sets the operator's gauges now and then.
#[derive(Default)]
pub struct Bookkeeper {
    next: Mutex<Option<Time>>,
}

impl Worker for Bookkeeper {
    const NAME: &'static str = "webhook-bookkeeper";

    async fn run(&self, app: &App) -> Result<Progress> {
        let now = app.clock().now();
        if let Some(next) = *self.next.lock()
            && next > now
        {
            return Ok(Progress::NextAt(next));
        }
        let conn = app.read().await?;
        let books = books(&conn).await?;
        #[expect(clippy::cast_precision_loss, reason = "a gauge is for looking at")]
        let set = |name: &'static str, count: i64| metrics::gauge!(name).set(count as f64);
        set("cardwire_webhook_unaccounted", books.unaccounted);
        set("cardwire_webhook_waiting_fresh", books.fresh);
        set("cardwire_webhook_waiting_open", books.open);
        set("cardwire_webhook_waiting_retry", books.retrying);
        set("cardwire_webhook_failing_endpoints", books.failing);
        set("cardwire_webhook_fanout_lag_events", lag(&conn, now).await?);
        let age = books.oldest.map_or(Duration::ZERO, |oldest| now.since(oldest));
        metrics::gauge!("cardwire_webhook_oldest_seconds").set(age.as_secs_f64());
        let next = now.plus(PERIOD);
        *self.next.lock() = Some(next);
        Ok(Progress::NextAt(next))
    }
}
