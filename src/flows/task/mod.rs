//! Tasks: what is done to very many customers or runs, in the background.
//!
//! What a caller sends is cut into parts as it comes and stored ([`file`](mod@file), [`customers`]); then a worker
//! ([`Starter`]) takes part after part, two at a time, and in one transaction starts the rows of a part, forgets it and
//! counts it. So a task that was interrupted goes on where it was and starts nothing twice, memory stays flat, and a
//! caller is answered as soon as everything is stored. A part is small, so that a round never holds up what customers
//! do.
//!
//! Locks: a part without waiting (`SKIP LOCKED`), then what a start takes, and the task last and shortly. Whoever stops
//! a task locks it first and leaves the parts that are being started alone: their transactions find it stopped.

mod column;
mod customers;
mod file;
mod rows;
mod state;
mod work;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::{Value, json};
use uuid::Uuid;

pub use customers::{MOST_CUSTOMERS, Preview, preview, start_for_customers};
pub use file::{Incoming, MOST_BYTES, Purpose, start_from_csv};
pub use state::{TaskKind, TaskStatus};
pub use work::Starter;

use crate::access::{Access, Level, Resource, audit};
use crate::app::App;
use crate::clock::Time;
use crate::db::page::{Page, PageRequest};
use crate::db::schema::flow_tasks;
use crate::db::{Prepared, Tx};
use crate::error::{Code, Error, Result};
use crate::flows::flow::{Flow, State};
use crate::flows::run;
use crate::flows::start::Mode;
use crate::ids::{EnvId, FlowId, Id, RunId, TaskId};
use crate::realtime::{Announcement, Work};

/// The most errors that a task remembers.
const ERRORS: usize = 1_000;

/// Something that is done in the background.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = flow_tasks)]
pub struct Task {
    pub environment_id: EnvId,
    pub id: TaskId,
    /// Absent where each row names its flow.
    pub flow_id: Option<FlowId>,
    pub kind: TaskKind,
    pub is_test: bool,
    /// What the cells of a row mean.
    pub header: Value,
    pub version: Option<i32>,
    pub status: TaskStatus,
    pub rows_total: i64,
    /// Rows for which a run began, or runs that moved or were cancelled.
    pub rows_accepted: i64,
    /// Rows that start nothing: customers who may not get tests, who do not exist, or who were started before.
    pub rows_ignored: i64,
    /// Rows that could not be started, or runs that could not move.
    pub rows_rejected: i64,
    /// `[{row, message}]`, the first ones.
    pub errors: Value,
    /// How many parts are done.
    pub part: i32,
    pub parts: i32,
    /// The last run that was looked at.
    pub place: Option<RunId>,
    pub attempts: i16,
    /// Who carries it out.
    pub(super) lease: Option<Uuid>,
    pub created_at: Time,
    pub finished_at: Option<Time>,
}

impl Task {
    /// The status that callers are shown: a task whose rows are still received is pending.
    pub fn shown_status(&self) -> TaskStatus {
        if self.status == TaskStatus::Receiving { TaskStatus::Pending } else { self.status }
    }

    fn mode(&self) -> Mode {
        if self.is_test { Mode::Test } else { Mode::Live }
    }

    /// Asks for the right to see the task and to stop it. Who may only send test batches has it for those.
    fn require_operation(&self, access: &Access) -> Result<()> {
        match access.require(Resource::CardTemplate, Level::Edit) {
            Ok(()) if self.flow_id.is_none() => Ok(()),
            _ => run::require_operation(access),
        }
    }
}

/// Refuses flows that cannot be started now; an archived one is answered like an unknown one.
fn refuse_unstartable(found: Option<&Flow>, mode: Mode) -> Result<()> {
    let flow = found.filter(|flow| flow.status != State::Archived).ok_or_else(|| Error::not_found("action flow"))?;
    if mode == Mode::Live && flow.published_version.is_none() {
        return Err(Error::new(Code::NotPublished, "the flow is not published"));
    }
    Ok(())
}

/// A task that begins.
pub(super) struct NewTask {
    pub flow: Option<FlowId>,
    pub kind: TaskKind,
    pub mode: Mode,
    pub header: Value,
    pub version: Option<i32>,
    pub status: TaskStatus,
}

impl NewTask {
    fn source(&self) -> &'static str {
        if self.flow.is_none() { "action-flow.test-batch" } else { "action-flow.start-many" }
    }
}

/// Makes a task.
pub(super) async fn insert_in(tx: &mut Tx, access: &Access, new: &NewTask) -> Result<TaskId> {
    let id: TaskId = tx.id();
    diesel::insert_into(flow_tasks::table)
        .values((
            flow_tasks::environment_id.eq(access.env()),
            flow_tasks::id.eq(id),
            flow_tasks::flow_id.eq(new.flow),
            flow_tasks::kind.eq(new.kind),
            flow_tasks::is_test.eq(new.mode == Mode::Test),
            flow_tasks::header.eq(&new.header),
            flow_tasks::version.eq(new.version),
            flow_tasks::status.eq(new.status),
            flow_tasks::created_at.eq(tx.now()),
            flow_tasks::turn_at.eq(tx.now()),
        ))
        .execute(&mut tx.conn())
        .await?;
    match (new.kind, new.flow) {
        (TaskKind::Move | TaskKind::Cancel, _) => tx.announce(Announcement::Wake(Work::Tasks)),
        (_, Some(flow)) => audit::record_in(tx, access, new.source(), flow, &[]).await?,
        (_, None) => audit::record_in(tx, access, new.source(), access.env(), &[]).await?,
    }
    Ok(id)
}

async fn find(conn: &AsyncPgConnection, env: EnvId, id: TaskId) -> Result<Option<Task>> {
    Ok(flow_tasks::table.find((env, id)).select(Task::as_select()).first(&mut &*conn).await.optional()?)
}

/// A task with its progress. Those may ask who may start flows or try them out.
pub async fn task(app: &App, access: &Access, id: TaskId) -> Result<Task> {
    let task = find(&*app.read().await?, access.env(), id).await?.ok_or_else(|| Error::not_found("task"))?;
    task.require_operation(access)?;
    Ok(task)
}

/// The tasks of an environment, newest first; of one flow where one is named.
pub async fn tasks(app: &App, access: &Access, flow: Option<FlowId>, page: &PageRequest<TaskId>) -> Result<Page<Task>> {
    run::require_operation(access)?;
    let before = page.after.unwrap_or_else(|| TaskId::from_uuid(Uuid::max()));
    let mut query = flow_tasks::table
        .filter(flow_tasks::environment_id.eq(access.env()).and(flow_tasks::id.lt(before)))
        .order(flow_tasks::id.desc())
        .limit(page.limit())
        .select(Task::as_select())
        .into_boxed();
    if let Some(flow) = flow {
        query = query.filter(flow_tasks::flow_id.eq(flow));
    }
    Ok(page.page(query.load(&mut &*app.read().await?).await?))
}

/// Stops a task. What it has started goes on; the rest is forgotten, and the task has failed.
pub async fn cancel_task(app: &App, access: &Access, id: TaskId) -> Result<()> {
    app.transact(async |tx| {
        let env = access.env();
        let task = flow_tasks::table.find((env, id)).select(Task::as_select()).for_update();
        let task: Option<Task> = task.first(&mut tx.conn()).await.optional()?;
        let task = task.ok_or_else(|| Error::not_found("task"))?;
        task.require_operation(access)?;
        if task.status.over() {
            return Err(Error::conflict("the task is over"));
        }
        fail_in(tx, env, id, "the task was cancelled").await?;
        audit::record_in(tx, access, "flow-task.cancel", id, &["status"]).await
    })
    .await
}

/// Ends a task that cannot go on, and forgets what it has not done. The caller has locked its row.
async fn fail_in(tx: &mut Tx, env: EnvId, id: TaskId, message: &str) -> Result<()> {
    let update = sql_query(
        "UPDATE flow_tasks SET status = 'failed', finished_at = $3, lease = NULL, leased_until = NULL,
                errors = errors || $4
         WHERE environment_id = $1 AND id = $2",
    )
    .bind::<SqlUuid, _>(env)
    .bind::<SqlUuid, _>(id)
    .bind::<Timestamptz, _>(tx.now())
    .bind::<Jsonb, _>(json!([{ "row": null, "message": message }]));
    Prepared(update).execute(&mut tx.conn()).await?;
    forget_parts_in(tx, env, id).await
}

/// Forgets the parts of a task that nobody is starting.
async fn forget_parts_in(tx: &Tx, env: EnvId, id: TaskId) -> Result<()> {
    let forget = sql_query(
        "DELETE FROM flow_task_parts USING (
             SELECT part FROM flow_task_parts WHERE environment_id = $1 AND task_id = $2 FOR UPDATE SKIP LOCKED) AS idle
         WHERE environment_id = $1 AND task_id = $2 AND flow_task_parts.part = idle.part",
    )
    .bind::<SqlUuid, _>(env)
    .bind::<SqlUuid, _>(id);
    Prepared(forget).execute(&mut tx.conn()).await?;
    Ok(())
}

/// What became of some rows.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub accepted: i64,
    pub ignored: i64,
    pub rejected: i64,
    pub errors: Vec<Value>,
}

impl Tally {
    pub fn refuse(&mut self, row: i64, message: &str) {
        self.rejected += 1;
        self.note(Some(row), message);
    }

    pub fn note(&mut self, row: Option<i64>, message: &str) {
        if self.errors.len() < ERRORS {
            self.errors.push(json!({ "row": row, "message": message }));
        }
    }
}

/// What a step has done.
pub(super) enum Stride {
    /// Started a part.
    Part,
    /// Looked at the runs up to a place, and found some that are concerned.
    Runs { place: Option<RunId>, found: i64, status: TaskStatus },
}

/// Moves a task on and adds up, in the transaction that did the work, and gives the status of the task afterwards.
/// `conflict`: the task was stopped meanwhile, or is no longer ours, and the work is to be undone.
pub(super) async fn advance_in(tx: &mut Tx, task: &Task, stride: Stride, tally: Tally) -> Result<TaskStatus> {
    let room = i64::try_from(ERRORS).unwrap_or(i64::MAX);
    let (parts, place, found, over) = match stride {
        Stride::Part => (1, task.place, 0, None),
        Stride::Runs { place, found, status } => (0, place, found, Some(status.over())),
    };
    let update = sql_query(
        "UPDATE flow_tasks SET part = part + $4, place = $5,
                status = CASE WHEN COALESCE($6, part + $4 >= parts) THEN 'complete' ELSE 'processing' END,
                finished_at = CASE WHEN COALESCE($6, part + $4 >= parts) THEN $7::timestamptz END,
                rows_total = rows_total + $8, rows_accepted = rows_accepted + $9, rows_ignored = rows_ignored + $10,
                rows_rejected = rows_rejected + $11, attempts = 0,
                errors = CASE WHEN $12 = '[]' OR jsonb_array_length(errors) >= $13 THEN errors ELSE errors || $12 END
         WHERE environment_id = $1 AND id = $2 AND lease = $3 AND status = 'processing'
         RETURNING status",
    )
    .bind::<SqlUuid, _>(task.environment_id)
    .bind::<SqlUuid, _>(task.id)
    .bind::<Nullable<SqlUuid>, _>(task.lease)
    .bind::<Integer, _>(parts)
    .bind::<Nullable<SqlUuid>, _>(place)
    .bind::<Nullable<Bool>, _>(over)
    .bind::<Timestamptz, _>(tx.now())
    .bind::<BigInt, _>(found)
    .bind::<BigInt, _>(tally.accepted)
    .bind::<BigInt, _>(tally.ignored)
    .bind::<BigInt, _>(tally.rejected)
    .bind::<Jsonb, _>(Value::Array(tally.errors))
    .bind::<BigInt, _>(room);
    let stands: Option<Stands> = Prepared(update).get_result(&mut tx.conn()).await.optional()?;
    stands.map(|stands| stands.status).ok_or_else(|| Error::conflict("the task was stopped"))
}

#[derive(QueryableByName)]
struct Stands {
    #[diesel(sql_type = Text)]
    status: TaskStatus,
}
