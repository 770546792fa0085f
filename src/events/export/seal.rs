//! Decides which events belong to which hour, once the hour is over.
//!
//! An hour is closed some minutes after its end, at a transaction number; every event of an earlier transaction is then
//! known. What an earlier transaction would still add is waited for, but not beyond the time at which files are due: what
//! comes later belongs to the next files.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Integer, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use parking_lot::Mutex;

use super::{HOUR, hour_of};
use crate::app::App;
use crate::clock::Time;
use crate::db::Tx;
use crate::error::Result;
use crate::realtime::{Announcement, Work};
use crate::worker::{Progress, Worker};

/// How long after its end an hour is closed: longer than transactions take.
const GRACE: Duration = Duration::from_secs(300);
/// How long after its end an hour is closed whatever still runs: files are due an hour after.
const DEADLINE: Duration = Duration::from_secs(45 * 60);
/// Hours that are closed together, after a pause of all servers.
const MOST_HOURS: u32 = 24 * 31;
/// How long to wait for older transactions before the next look.
const MOMENT: Duration = Duration::from_millis(100);
/// Of all servers one closes hours at a time.
const LOCK: i64 = 0x6578_706f_7274;

/// The worker.
#[derive(Default)]
pub struct Sealer {
    /// The end of the hours that are being closed, and the transaction that must be over first.
    closing: Mutex<Option<(Time, i64)>>,
}

#[derive(Clone, Copy, QueryableByName)]
struct Last {
    #[diesel(sql_type = Timestamptz)]
    hour: Time,
    #[diesel(sql_type = BigInt)]
    to_xid: i64,
}

#[derive(QueryableByName)]
struct Bounds {
    /// No transaction before it is open.
    #[diesel(sql_type = BigInt)]
    safe: i64,
    #[diesel(sql_type = BigInt)]
    next: i64,
}

#[derive(QueryableByName)]
struct Locked {
    #[diesel(sql_type = Bool)]
    locked: bool,
}

/// Hours that are closed together, up to but without `end`.
#[derive(Clone, Copy)]
struct Span {
    last: Last,
    end: Time,
    to_xid: i64,
}

impl Worker for Sealer {
    const NAME: &'static str = "export-sealer";

    async fn run(&self, app: &App) -> Result<Progress> {
        let now = app.clock().now();
        let conn = app.read().await?;
        let Some(last) = last(&conn).await? else {
            begin(&conn, now).await?;
            return Ok(Progress::More);
        };
        let begin = last.hour.plus(HOUR);
        let end = hour_of(now.minus(GRACE)).min(begin.plus(HOUR * MOST_HOURS));
        if end <= begin {
            return Ok(Progress::NextAt(begin.plus(HOUR).plus(GRACE)));
        }
        let bounds = bounds(&conn).await?;
        drop(conn);
        let to_xid = self.closing_at(end, bounds.next);
        if bounds.safe < to_xid && now < end.plus(DEADLINE) {
            tokio::time::sleep(MOMENT).await;
            return Ok(Progress::More);
        }
        // Beyond a transaction that is still open nothing is known: it waits for the next files.
        let to_xid = to_xid.min(bounds.safe);
        app.transact(async |tx| close_in(tx, Span { last, end, to_xid }).await).await?;
        Ok(Progress::More)
    }
}

impl Sealer {
    /// The number at which these hours are closed: the same at every look, so that waiting comes to an end.
    fn closing_at(&self, end: Time, next: i64) -> i64 {
        let mut closing = self.closing.lock();
        match *closing {
            Some((same, xid)) if same == end => xid,
            _ => {
                *closing = Some((end, next));
                next
            }
        }
    }
}

async fn last(conn: &AsyncPgConnection) -> Result<Option<Last>> {
    let query = sql_query("SELECT hour, to_xid FROM export_hours ORDER BY hour DESC LIMIT 1");
    Ok(query.get_result(&mut &*conn).await.optional()?)
}

async fn bounds(conn: &AsyncPgConnection) -> Result<Bounds> {
    let query = sql_query(
        "SELECT pg_snapshot_xmin(now)::text::bigint AS safe, pg_snapshot_xmax(now)::text::bigint AS next
         FROM pg_current_snapshot() AS now",
    );
    Ok(query.get_result(&mut &*conn).await?)
}

/// Begins the series of hours with the one before the first event: it is over and had none.
async fn begin(conn: &AsyncPgConnection, now: Time) -> Result<()> {
    let insert = sql_query(
        "INSERT INTO export_hours (hour, from_xid, to_xid)
         SELECT date_trunc('hour', least($1, (SELECT min(received_at) FROM events)), 'UTC') - interval '1 hour', xid, xid
         FROM (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS xid) AS safe
         WHERE NOT EXISTS (SELECT FROM export_hours)
         ON CONFLICT DO NOTHING",
    );
    insert.bind::<Timestamptz, _>(now).execute(&mut &*conn).await?;
    Ok(())
}

/// Closes hours and notes the environments that had events in them, late ones of earlier hours included.
async fn close_in(tx: &mut Tx, span: Span) -> Result<()> {
    let lock = sql_query("SELECT pg_try_advisory_xact_lock($1) AS locked").bind::<BigInt, _>(LOCK);
    let lock: Locked = lock.get_result(&mut tx.conn()).await?;
    // Another server does it, or has done it since the look.
    if !lock.locked || last(tx.conn()).await?.is_none_or(|last| last.hour != span.last.hour) {
        return Ok(());
    }
    let begin = span.last.hour.plus(HOUR);
    // Files of hours that lie far back have their days made here.
    sql_query("SELECT ensure_partitions('export_chunks', $1, $2)")
        .bind::<Timestamptz, _>(begin)
        .bind::<Integer, _>(i32::try_from(span.end.since(begin).as_secs() / 86_400).unwrap_or(0) + 1)
        .execute(&mut tx.conn())
        .await?;
    sql_query(
        "INSERT INTO export_hours (hour, from_xid, to_xid)
         SELECT hour, CASE WHEN hour = $1 THEN $3 ELSE $4 END, $4
         FROM generate_series($1::timestamptz, $2::timestamptz - interval '1 hour', interval '1 hour') AS hour",
    )
    .bind::<Timestamptz, _>(begin)
    .bind::<Timestamptz, _>(span.end)
    .bind::<BigInt, _>(span.last.to_xid)
    .bind::<BigInt, _>(span.to_xid)
    .execute(&mut tx.conn())
    .await?;
    sql_query(
        "INSERT INTO exports (environment_id, hour, status, due_at)
         SELECT environment_id, hour, 'waiting', $5 FROM (
             SELECT DISTINCT environment_id, date_trunc('hour', received_at, 'UTC') AS hour FROM events
             WHERE received_at >= $1 AND received_at < $2 AND xid < $4
             UNION
             SELECT DISTINCT environment_id, $1 FROM events WHERE xid >= $3 AND xid < $4 AND received_at < $1) AS had
         JOIN environments ON environments.id = had.environment_id",
    )
    .bind::<Timestamptz, _>(begin)
    .bind::<Timestamptz, _>(span.end)
    .bind::<BigInt, _>(span.last.to_xid)
    .bind::<BigInt, _>(span.to_xid)
    .bind::<Timestamptz, _>(tx.now())
    .execute(&mut tx.conn())
    .await?;
    tx.announce(Announcement::Wake(Work::Exports));
    Ok(())
}
