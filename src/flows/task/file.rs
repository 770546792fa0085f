//! CSV files: read as they come, cut into parts, stored.

use std::io::{Error as IoError, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use csv_async::{AsyncReader, AsyncReaderBuilder, ByteRecord};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Integer, Jsonb, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, ReadBuf};

use super::column::{self, Flow};
use super::{NewTask, TaskKind, TaskStatus, insert_in, refuse_unstartable};
use crate::access::{Access, Level, Resource};
use crate::app::App;
use crate::db::schema::flow_tasks;
use crate::db::{Prepared, Tx};
use crate::error::{Code, Error, Result};
use crate::flows::flow;
use crate::flows::run::require_operation;
use crate::flows::start::Mode;
use crate::ids::{EnvId, FlowId, TaskId};
use crate::realtime::{Announcement, Work};

/// The most bytes of a file.
pub const MOST_BYTES: usize = 128 * 1024 * 1024;
/// The most rows and bytes of a part: what one transaction starts.
const ROWS: usize = 500;
const PART_BYTES: usize = 256 * 1024;
/// The most bytes of one row; no start entry is larger. A quote that is never closed ends here too.
const ROW_BYTES: usize = 128 * 1024;
/// What the reader of rows may have read ahead.
const AHEAD: usize = 8 * 1024;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What a file starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Live(FlowId),
    Test(FlowId),
    /// Tests of the flows that the rows name.
    TestSender,
}

/// Bytes as they come from a caller.
pub type Incoming = BoxStream<'static, Result<Bytes>>;

/// Stores the rows of a file and answers when all are durable; they are started in the background.
pub async fn start_from_csv(app: &App, access: &Access, purpose: Purpose, file: Incoming) -> Result<TaskId> {
    match purpose {
        Purpose::Live(_) => access.require(Resource::SendToCustomers, Level::Edit)?,
        Purpose::Test(_) => require_operation(access)?,
        Purpose::TestSender => access.require(Resource::CardTemplate, Level::Edit)?,
    }
    let (flow, mode) = match purpose {
        Purpose::Live(flow) => (Some(flow), Mode::Live),
        Purpose::Test(flow) => (Some(flow), Mode::Test),
        Purpose::TestSender => (None, Mode::Test),
    };
    if let Some(flow) = flow {
        let found = flow::find(&*app.read().await?, access.env(), flow).await?;
        refuse_unstartable(found.as_ref(), mode)?;
    }
    let mut reader = AsyncReaderBuilder::new()
        .flexible(true)
        .has_headers(false)
        .buffer_capacity(AHEAD)
        .create_reader(Reader::new(file));
    let names = header(&mut reader).await?;
    column::check(&names, if flow.is_some() { Flow::OfTask } else { Flow::InRow })?;
    let header = json!(names);
    let new = NewTask { flow, kind: TaskKind::Csv, mode, header, version: None, status: TaskStatus::Receiving };
    let id = app.transact(async |tx| insert_in(tx, access, &new).await).await?;
    let sealed = match receive(app, access.env(), id, &mut reader).await {
        Ok(totals) => app.transact(async |tx| seal_in(tx, access.env(), id, totals).await).await,
        Err(error) => Err(error),
    };
    if sealed.is_err() {
        // Whoever sent half a file is told so, and nothing of it is started.
        app.transact(async |tx| discard_in(tx, access.env(), id).await).await?;
    }
    sealed.map(|()| id)
}

/// How many rows and parts a task has.
#[derive(Clone, Copy, Default)]
pub(super) struct Totals {
    pub rows: i64,
    pub parts: i32,
    pub ignored: i64,
}

/// Lets the worker begin.
pub(super) async fn seal_in(tx: &mut Tx, env: EnvId, id: TaskId, totals: Totals) -> Result<()> {
    let open = flow_tasks::table.find((env, id)).filter(flow_tasks::status.eq(TaskStatus::Receiving));
    let sealed = diesel::update(open)
        .set((
            flow_tasks::status.eq(TaskStatus::Pending),
            flow_tasks::rows_total.eq(totals.rows),
            flow_tasks::rows_ignored.eq(totals.ignored),
            flow_tasks::parts.eq(totals.parts),
        ))
        .execute(&mut tx.conn())
        .await?;
    if sealed == 0 {
        return Err(Error::conflict("the task was cancelled"));
    }
    tx.announce(Announcement::Wake(Work::Tasks));
    Ok(())
}

async fn discard_in(tx: &mut Tx, env: EnvId, id: TaskId) -> Result<()> {
    diesel::delete(flow_tasks::table.find((env, id))).execute(&mut tx.conn()).await?;
    Ok(())
}

/// Stores a part. Each may be durable on its own; the task waits until it is sealed.
pub(super) async fn store(
    conn: &AsyncPgConnection,
    env: EnvId,
    id: TaskId,
    part: i32,
    first_row: i64,
    rows: Value,
) -> Result<()> {
    let insert = sql_query(
        "INSERT INTO flow_task_parts (environment_id, task_id, part, first_row, rows) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind::<SqlUuid, _>(env)
    .bind::<SqlUuid, _>(id)
    .bind::<Integer, _>(part)
    .bind::<BigInt, _>(first_row)
    .bind::<Jsonb, _>(rows);
    Prepared(insert).execute(&mut &*conn).await?;
    Ok(())
}

async fn header(reader: &mut AsyncReader<Reader>) -> Result<Vec<String>> {
    let mut record = ByteRecord::new();
    if !reader.read_byte_record(&mut record).await.map_err(|error| broken(&error))? {
        return Err(Error::invalid("", "the file is empty"));
    }
    let names = record.iter().map(|cell| String::from_utf8_lossy(cell).trim().to_owned());
    Ok(names.collect())
}

/// Reads rows and stores them in parts. The header is row 1, as a spreadsheet shows it.
async fn receive(app: &App, env: EnvId, id: TaskId, reader: &mut AsyncReader<Reader>) -> Result<Totals> {
    let mut record = ByteRecord::new();
    let mut totals = Totals::default();
    let (mut rows, mut bytes, mut first) = (Vec::with_capacity(ROWS), 0, 2);
    loop {
        let more = reader.read_byte_record(&mut record).await.map_err(|error| broken(&error))?;
        reader.get_mut().of_row = 0;
        if more {
            bytes += record.as_slice().len();
            rows.push(cells(&record));
        }
        if !rows.is_empty() && (!more || rows.len() == ROWS || bytes > PART_BYTES) {
            let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
            let part = Value::Array(std::mem::take(&mut rows));
            store(&*app.read().await?, env, id, totals.parts, first, part).await?;
            totals.parts += 1;
            totals.rows += count;
            first += count;
            bytes = 0;
        }
        if !more {
            return Ok(totals);
        }
    }
}

/// The cells of a row, or the text of what is wrong with it.
fn cells(record: &ByteRecord) -> Value {
    if record.as_slice().len() > ROW_BYTES {
        return Value::from(format!("the row takes more than {} KiB", ROW_BYTES / 1024));
    }
    let mut cells = Vec::with_capacity(record.len());
    for cell in record {
        match std::str::from_utf8(cell) {
            Ok(text) if !text.contains('\0') => cells.push(Value::from(text)),
            Ok(_) => return Value::from("the row has a NUL character"),
            Err(_) => return Value::from("the row is not UTF-8"),
        }
    }
    Value::Array(cells)
}

fn broken(error: &csv_async::Error) -> Error {
    let csv_async::ErrorKind::Io(cause) = error.kind() else {
        return Error::new(Code::BadRequest, "the file could not be read to its end");
    };
    match cause.kind() {
        ErrorKind::FileTooLarge => {
            Error::new(Code::PayloadTooLarge, format!("the file is larger than {} MiB", MOST_BYTES >> 20))
        }
        ErrorKind::InvalidData => Error::invalid("", format!("{cause}")),
        _ => Error::new(Code::BadRequest, "the file could not be read to its end"),
    }
}

/// What a caller sends, as something that can be read, up to the limits of a file and of a row.
struct Reader {
    incoming: Incoming,
    rest: Bytes,
    read: usize,
    /// How much was read since the last row was whole.
    of_row: usize,
}

impl Reader {
    fn new(incoming: Incoming) -> Reader {
        Reader { incoming, rest: Bytes::new(), read: 0, of_row: 0 }
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.of_row > ROW_BYTES + AHEAD {
            let told = format!("a row takes more than {} KiB; perhaps a quote is not closed", ROW_BYTES / 1024);
            return Poll::Ready(Err(IoError::new(ErrorKind::InvalidData, told)));
        }
        while self.rest.is_empty() {
            match self.incoming.poll_next_unpin(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(IoError::other(error.to_string()))),
                Poll::Ready(Some(Ok(mut bytes))) => {
                    if self.read == 0 && bytes.starts_with(BYTE_ORDER_MARK) {
                        bytes.advance(BYTE_ORDER_MARK.len());
                    }
                    self.read += bytes.len();
                    if self.read > MOST_BYTES {
                        return Poll::Ready(Err(ErrorKind::FileTooLarge.into()));
                    }
                    self.rest = bytes;
                }
            }
        }
        let size = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest[..size]);
        self.rest.advance(size);
        self.of_row += size;
        Poll::Ready(Ok(()))
    }
}
