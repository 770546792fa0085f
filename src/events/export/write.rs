//! Writes the files of an hour: one pass over its events, one piece at a time, under a lease.

use std::collections::BTreeMap;
use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::TryStreamExt;
use uuid::Uuid;

use super::chunk::{self, Place};
use super::files::{Files, Line, Written};
use super::{Format, HOUR};
use crate::app::App;
use crate::clock::Time;
use crate::db::{Prepared, Tx};
use crate::error::{Error, Result};
use crate::events::ExportSettings;
use crate::ids::{EnvId, EventId};
use crate::realtime::Work;
use crate::worker::{Progress, Worker};

/// A writer that says nothing for so long has lost its hour.
const TERM: Duration = Duration::from_secs(120);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// Rows, and bytes of rows, that are turned into a file at a time.
const BATCH_ROWS: usize = 2_000;
const BATCH_BYTES: usize = 4 << 20;

/// The worker.
pub struct Writer;

impl Worker for Writer {
    const NAME: &'static str = "export-writer";

    fn work() -> Option<Work> {
        Some(Work::Exports)
    }

    async fn run(&self, app: &App) -> Result<Progress> {
        let conn = app.read().await?;
        let claim = Uuid::from_bytes(app.ids().bytes());
        let Some(task) = take(&conn, claim, app.clock().now()).await? else {
            return Ok(next_due(&conn).await?.map_or(Progress::Idle, Progress::NextAt));
        };
        drop(conn);
        let started = app.clock().now();
        let outcome = write(app, &task).await;
        metrics::counter!("cardwire_exports_total", "outcome" => if outcome.is_ok() { "ready" } else { "failed" })
            .increment(1);
        metrics::histogram!("cardwire_export_seconds").record(app.clock().now().since(started).as_secs_f64());
        if let Err(error) = outcome {
            tracing::error!(env.id = %task.environment_id, export.hour = %task.hour, attempts = task.attempts, error = %error,
                "the files of an hour could not be written; they are tried again");
            postpone(app, &task).await?;
        }
        Ok(Progress::More)
    }
}

/// Files that are to be written.
#[derive(Clone, Debug, QueryableByName)]
struct Task {
    #[diesel(sql_type = SqlUuid)]
    environment_id: EnvId,
    #[diesel(sql_type = Timestamptz)]
    hour: Time,
    #[diesel(sql_type = SqlUuid)]
    claim: Uuid,
    #[diesel(sql_type = SmallInt)]
    attempts: i16,
    #[diesel(sql_type = BigInt)]
    from_xid: i64,
    #[diesel(sql_type = BigInt)]
    to_xid: i64,
}

impl Task {
    fn place(&self) -> Place {
        Place { env: self.environment_id, hour: self.hour, claim: self.claim }
    }
}

async fn take(conn: &AsyncPgConnection, claim: Uuid, now: Time) -> Result<Option<Task>> {
    let query = sql_query(
        "WITH next AS (
             SELECT environment_id, hour FROM exports WHERE status = 'waiting' AND due_at <= $2
             ORDER BY due_at, hour, environment_id LIMIT 1 FOR UPDATE SKIP LOCKED
         )
         UPDATE exports SET claim = $1, due_at = $3, attempts = least(exports.attempts + 1, 30000)
         FROM next JOIN export_hours USING (hour)
         WHERE exports.environment_id = next.environment_id AND exports.hour = next.hour
         RETURNING exports.environment_id, exports.hour, exports.claim, exports.attempts,
                   export_hours.from_xid, export_hours.to_xid",
    )
    .bind::<SqlUuid, _>(claim)
    .bind::<Timestamptz, _>(now)
    .bind::<Timestamptz, _>(now.plus(TERM));
    Ok(Prepared(query).get_result(&mut &*conn).await.optional()?)
}

#[derive(QueryableByName)]
struct Next {
    #[diesel(sql_type = Nullable<Timestamptz>)]
    due_at: Option<Time>,
}

async fn next_due(conn: &AsyncPgConnection) -> Result<Option<Time>> {
    let next: Next =
        sql_query("SELECT min(due_at) AS due_at FROM exports WHERE status = 'waiting'").get_result(&mut &*conn).await?;
    Ok(next.due_at)
}

/// Gives the hour back, unless another has taken it.
async fn postpone(app: &App, task: &Task) -> Result<()> {
    let pause = (Duration::from_secs(15) * u32::from(task.attempts.unsigned_abs())).min(LONGEST_PAUSE);
    sql_query(
        "UPDATE exports SET due_at = $4 WHERE environment_id = $1 AND hour = $2 AND claim = $3 AND status = 'waiting'",
    )
    .bind::<SqlUuid, _>(task.environment_id)
    .bind::<Timestamptz, _>(task.hour)
    .bind::<SqlUuid, _>(task.claim)
    .bind::<Timestamptz, _>(app.clock().now().plus(pause))
    .execute(&mut &*app.read().await?)
    .await?;
    Ok(())
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = SqlUuid)]
    id: EventId,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Nullable<Text>)]
    end_user_id: Option<String>,
    #[diesel(sql_type = Timestamptz)]
    occurred_at: Time,
    #[diesel(sql_type = Bool)]
    is_test: bool,
    #[diesel(sql_type = Text)]
    payload: String,
}

impl Row {
    fn line(self, settings: ExportSettings) -> Result<Line> {
        Ok(Line {
            id: self.id.to_string(),
            name: self.name,
            end_user_id: self.end_user_id,
            timestamp: self.occurred_at,
            is_test: self.is_test,
            event: settings.omit().from_payload(&self.payload)?.into_owned(),
        })
    }
}

/// Reads the events in order as fast as their files can be written, and no faster: the connection waits meanwhile.
async fn write(app: &App, task: &Task) -> Result<()> {
    let conn = app.read().await?;
    let settings = ExportSettings::find(&conn, task.environment_id).await?;
    // A transaction that has written nothing holds up no reader of events, and one statement sees one state.
    let query = sql_query(
        "SELECT id, name, end_user_id, occurred_at, is_test, payload FROM (
             SELECT * FROM events
             WHERE environment_id = $1 AND received_at >= $2 AND received_at < $3 AND xid < $5
             UNION ALL
             SELECT * FROM events WHERE environment_id = $1 AND received_at < $2 AND xid >= $4 AND xid < $5) AS own
         WHERE $6 OR NOT is_test
         ORDER BY occurred_at, id",
    )
    .bind::<SqlUuid, _>(task.environment_id)
    .bind::<Timestamptz, _>(task.hour)
    .bind::<Timestamptz, _>(task.hour.plus(HOUR))
    .bind::<BigInt, _>(task.from_xid)
    .bind::<BigInt, _>(task.to_xid)
    .bind::<Bool, _>(settings.test_cards);
    let mut source = &*conn;
    let rows = Prepared(query).load_stream::<Row>(&mut source).await?;
    let mut rows = std::pin::pin!(rows);
    let mut desk = Desk::new(app, task)?;
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.try_next().await? {
        let line = row.line(settings)?;
        bytes += line.event.len();
        batch.push(line);
        if batch.len() >= BATCH_ROWS || bytes >= BATCH_BYTES {
            desk.add(std::mem::take(&mut batch)).await?;
            bytes = 0;
        }
    }
    desk.add(batch).await?;
    desk.end().await
}

/// Files on their way into the database.
struct Desk<'a> {
    app: &'a App,
    task: &'a Task,
    files: Option<Files>,
    events: usize,
    /// What does not fill a piece yet.
    open: BTreeMap<&'static str, Open>,
}

struct Open {
    format: Format,
    bytes: Vec<u8>,
    pieces: i32,
    total: usize,
}

impl<'a> Desk<'a> {
    fn new(app: &'a App, task: &'a Task) -> Result<Desk<'a>> {
        let open = |format: Format| (format.word(), Open { format, bytes: Vec::new(), pieces: 0, total: 0 });
        let open = BTreeMap::from([open(Format::Ndjson), open(Format::Parquet)]);
        Ok(Desk { app, task, files: Some(Files::begin()?), events: 0, open })
    }

    async fn add(&mut self, lines: Vec<Line>) -> Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        self.events += lines.len();
        let mut files = self.files.take().ok_or_else(|| Error::internal("the files are closed"))?;
        // Compression takes processor time that other tasks of the thread would miss.
        let added = tokio::task::spawn_blocking(move || files.add(lines).map(|written| (files, written))).await;
        let (files, written) = added.map_err(Error::internal)??;
        self.files = Some(files);
        self.store(written).await
    }

    /// Stores what fills pieces.
    async fn store(&mut self, written: Written) -> Result<()> {
        for (format, bytes) in [(Format::Ndjson, written.ndjson), (Format::Parquet, written.parquet)] {
            let Some(open) = self.open.get_mut(format.word()) else { continue };
            open.bytes.extend(bytes);
            while open.bytes.len() >= chunk::BYTES {
                let rest = open.bytes.split_off(chunk::BYTES);
                let piece = std::mem::replace(&mut open.bytes, rest);
                open.put(self.app, self.task, &piece).await?;
            }
        }
        Ok(())
    }

    /// Ends the files and makes them visible.
    async fn end(mut self) -> Result<()> {
        let files = self.files.take().ok_or_else(|| Error::internal("the files are closed"))?;
        if self.events > 0 {
            let rest = tokio::task::spawn_blocking(move || files.end()).await.map_err(Error::internal)??;
            self.store(rest).await?;
            for open in self.open.values_mut() {
                let piece = std::mem::take(&mut open.bytes);
                if !piece.is_empty() {
                    open.put(self.app, self.task, &piece).await?;
                }
            }
        }
        metrics::counter!("cardwire_exported_events_total").increment(u64::try_from(self.events).unwrap_or(0));
        self.app.transact(async |tx| self.finish_in(tx).await).await
    }

    async fn finish_in(&self, tx: &mut Tx) -> Result<()> {
        let number = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let total = |format: Format| number(self.open.get(format.word()).map_or(0, |open| open.total));
        let done = sql_query(
            "UPDATE exports SET status = 'ready', ready_at = $4, events = $5, ndjson_bytes = $6, parquet_bytes = $7
             WHERE environment_id = $1 AND hour = $2 AND claim = $3 AND status = 'waiting'",
        )
        .bind::<SqlUuid, _>(self.task.environment_id)
        .bind::<Timestamptz, _>(self.task.hour)
        .bind::<SqlUuid, _>(self.task.claim)
        .bind::<Timestamptz, _>(tx.now())
        .bind::<BigInt, _>(number(self.events))
        .bind::<BigInt, _>(total(Format::Ndjson))
        .bind::<BigInt, _>(total(Format::Parquet))
        .execute(&mut tx.conn())
        .await?;
        if done == 0 {
            return Err(Error::conflict("the files of an hour were taken over"));
        }
        // What writers left behind that did not come to an end.
        sql_query("DELETE FROM export_chunks WHERE environment_id = $1 AND hour = $2 AND claim <> $3")
            .bind::<SqlUuid, _>(self.task.environment_id)
            .bind::<Timestamptz, _>(self.task.hour)
            .bind::<SqlUuid, _>(self.task.claim)
            .execute(&mut tx.conn())
            .await?;
        Ok(())
    }
}

impl Open {
    async fn put(&mut self, app: &App, task: &Task, piece: &[u8]) -> Result<()> {
        let until = app.clock().now().plus(TERM);
        chunk::write(&*app.read().await?, task.place(), (self.format, self.pieces), piece, until).await?;
        self.pieces += 1;
        self.total += piece.len();
        Ok(())
    }
}
