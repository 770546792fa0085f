//! How long events and their files are kept: whole days go at once, when the longest retention of any organisation is
//! over (§10.8).
//!
//! A day is dropped only when every reader has passed all of it and its files are written. Organisations that keep less than others share their
//! days with them, so theirs are deleted row by row, a bounded number at a time.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::app::App;
use crate::clock::{Time, day_of};
use crate::error::Result;
use crate::worker::{Progress, Worker};

/// Days when nothing else is said.
pub const DEFAULT_DAYS: i32 = 365;
/// Rows that one round deletes for organisations that keep less than others.
const BATCH: i64 = 5_000;
/// Hours whose files one round deletes for them.
const FILE_HOURS: i64 = 20;
const DAY: Duration = Duration::from_secs(24 * 3600);
const PERIOD: Duration = Duration::from_secs(3600);

/// Forgets events whose time is over.
pub struct Retainer;

#[derive(QueryableByName)]
struct Days {
    #[diesel(sql_type = Nullable<Integer>)]
    longest: Option<i32>,
    #[diesel(sql_type = Nullable<Integer>)]
    shortest: Option<i32>,
}

#[derive(QueryableByName)]
struct Dropped {
    #[diesel(sql_type = Bool)]
    dropped: bool,
}

impl Worker for Retainer {
    const NAME: &'static str = "event-retention";

    async fn run(&self, app: &App) -> Result<Progress> {
        let (conn, now) = (app.read().await?, app.clock().now());
        let days: Days = sql_query(
            "SELECT max((retention_days ->> 'events')::integer) AS longest,
                    min((retention_days ->> 'events')::integer) AS shortest FROM organisations",
        )
        .get_result(&mut &*conn)
        .await?;
        let (longest, shortest) = (days.longest.unwrap_or(DEFAULT_DAYS), days.shortest.unwrap_or(DEFAULT_DAYS));
        if drop_day(&conn, before(now, longest)).await? {
            metrics::counter!("cardwire_event_days_dropped_total").increment(1);
            return Ok(Progress::More);
        }
        drop_files(&conn, before(now, longest)).await?;
        if shortest < longest && delete_files(&conn, now, longest).await? + delete_some(&conn, now, longest).await? > 0
        {
            return Ok(Progress::More);
        }
        Ok(Progress::NextAt(now.plus(PERIOD)))
    }
}

/// The midnight from which days are kept. A day is kept until all of it is old enough.
fn before(now: Time, days: i32) -> Time {
    day_of(now).minus(DAY * u32::try_from(days).unwrap_or(0))
}

async fn drop_day(conn: &AsyncPgConnection, before: Time) -> Result<bool> {
    let query = sql_query("SELECT drop_passed_events($1) AS dropped").bind::<Timestamptz, _>(before);
    let answer: Dropped = query.get_result(&mut &*conn).await?;
    Ok(answer.dropped)
}

async fn drop_files(conn: &AsyncPgConnection, before: Time) -> Result<()> {
    for forget in [
        "SELECT drop_partitions('export_chunks', $1)",
        "DELETE FROM exports WHERE hour < $1 AND status = 'ready'",
        "DELETE FROM export_hours WHERE hour < least($1, (SELECT max(hour) FROM export_hours))
           AND NOT EXISTS (SELECT FROM exports WHERE exports.hour = export_hours.hour)",
    ] {
        sql_query(forget).bind::<Timestamptz, _>(before).execute(&mut &*conn).await?;
    }
    Ok(())
}

/// Deletes files of organisations that keep less than the longest, some hours at a time.
async fn delete_files(conn: &AsyncPgConnection, now: Time, longest: i32) -> Result<usize> {
    let delete = sql_query(
        "WITH old AS (
             SELECT exports.environment_id, exports.hour FROM exports
             JOIN environments ON environments.id = exports.environment_id
             JOIN organisations ON organisations.id = environments.organisation_id
             WHERE exports.status = 'ready' AND (organisations.retention_days ->> 'events')::integer < $2
               AND exports.hour < $1 - make_interval(days => (organisations.retention_days ->> 'events')::integer)
             LIMIT $3
         ), gone AS (
             DELETE FROM export_chunks USING old
             WHERE export_chunks.environment_id = old.environment_id AND export_chunks.hour = old.hour
         )
         DELETE FROM exports USING old
         WHERE exports.environment_id = old.environment_id AND exports.hour = old.hour",
    )
    .bind::<Timestamptz, _>(day_of(now))
    .bind::<Integer, _>(longest)
    .bind::<BigInt, _>(FILE_HOURS);
    Ok(delete.execute(&mut &*conn).await?)
}

/// Deletes events of organisations that keep less than the longest, as far as every reader has passed them.
async fn delete_some(conn: &AsyncPgConnection, now: Time, longest: i32) -> Result<usize> {
    let delete = sql_query(
        "DELETE FROM events USING (
             SELECT old.environment_id, old.id, old.received_at
             FROM organisations
             JOIN environments ON environments.organisation_id = organisations.id
             CROSS JOIN LATERAL (
                 SELECT e.environment_id, e.id, e.received_at FROM events e
                 WHERE e.environment_id = environments.id
                   AND e.received_at < $1 - make_interval(days => (organisations.retention_days ->> 'events')::integer)
                   AND e.xid < (SELECT coalesce(min(xid), 0) FROM consumers)
                 LIMIT $3) AS old
             WHERE (organisations.retention_days ->> 'events')::integer < $2
             LIMIT $3) AS gone
         WHERE (events.environment_id, events.id, events.received_at) = (gone.environment_id, gone.id, gone.received_at)",
    )
    .bind::<Timestamptz, _>(day_of(now))
    .bind::<Integer, _>(longest)
    .bind::<BigInt, _>(BATCH);
    Ok(delete.execute(&mut &*conn).await?)
}
