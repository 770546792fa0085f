//! The worker that carries out tasks by turns, each small step in a transaction.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{Task, TaskKind, TaskStatus, fail_in, find, rows};
use crate::app::App;
use crate::clock::Time;
use crate::db::schema::flow_tasks;
use crate::db::{Prepared, Tx};
use crate::error::{Code, Error, Result};
use crate::flows::engine::plan::reason;
use crate::flows::transfer;
use crate::ids::{EnvId, TaskId};
use crate::realtime::Work;
use crate::worker::{Progress, Worker};

/// How long a holder keeps a task. A turn and its last step are far shorter.
const TERM: Duration = Duration::from_secs(30);
/// How long one task is worked on before the next has its turn.
const TURN: Duration = Duration::from_millis(500);
/// The pause before a step while customers act.
const STEP_ASIDE: Duration = Duration::from_millis(20);
/// How often in a row a step may break before the task is given up, and the pause after the first time.
const ATTEMPTS: i16 = 5;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How long a file may be received before what came of it is thrown away.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// Carries out tasks, by turns.
pub struct Starter;

impl Worker for Starter {
    const NAME: &'static str = "flow-tasks";

    fn work() -> Option<Work> {
        Some(Work::Tasks)
    }

    async fn run(&self, app: &App) -> Result<Progress> {
        let lease = Uuid::from_bytes(app.ids().bytes());
        let Some(held) = app.transact(async |tx| take_in(tx, lease).await).await? else {
            return Ok(Progress::Idle);
        };
        let began = Instant::now();
        let (first, second) = tokio::join!(work(app, held, began, Place::First), work(app, held, began, Place::Second));
        first.and(second)?;
        app.transact(async |tx| give_back_in(tx, held).await).await?;
        Ok(Progress::More)
    }
}

/// One of the two who work on a task beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    First,
    Second,
}

/// Does step after step of a task until its turn is over. While customers act, one does it alone, and takes its time.
async fn work(app: &App, held: Held, began: Instant, place: Place) -> Result<()> {
    loop {
        match (app.wakes().customers_act(), place) {
            (false, _) => {}
            (true, Place::First) => sleep(STEP_ASIDE).await,
            (true, Place::Second) => return Ok(()),
        }
        match app.transact(async |tx| step_in(tx, held).await).await {
            Ok(Step::More) if began.elapsed() < TURN => {}
            Ok(_) => return Ok(()),
            Err(error) if error.code() == Code::Unavailable => return Err(error),
            Err(error) => return app.transact(async |tx| stumble_in(tx, held, &error).await).await,
        }
    }
}

/// A task that this worker has, and the fence that says so.
#[derive(Clone, Copy)]
struct Held {
    env: EnvId,
    id: TaskId,
    kind: TaskKind,
    lease: Uuid,
}

#[derive(QueryableByName)]
struct Taken {
    #[diesel(sql_type = SqlUuid)]
    environment_id: EnvId,
    #[diesel(sql_type = SqlUuid)]
    id: TaskId,
    #[diesel(sql_type = Text)]
    kind: TaskKind,
}

/// Takes the task whose turn it is, and forgets files that never came to their end.
async fn take_in(tx: &mut Tx, lease: Uuid) -> Result<Option<Held>> {
    let old = flow_tasks::created_at.lt(tx.now().minus(ABANDONED));
    let abandoned = flow_tasks::table.filter(flow_tasks::status.eq(TaskStatus::Receiving).and(old));
    diesel::delete(abandoned).execute(&mut tx.conn()).await?;
    let take = sql_query(
        "UPDATE flow_tasks SET lease = $1, leased_until = $3, status = 'processing'
         FROM (SELECT environment_id, id FROM flow_tasks
               WHERE status IN ('pending', 'processing') AND (leased_until IS NULL OR leased_until <= $2)
               ORDER BY turn_at, id LIMIT 1 FOR UPDATE SKIP LOCKED) AS next
         WHERE flow_tasks.environment_id = next.environment_id AND flow_tasks.id = next.id
         RETURNING flow_tasks.environment_id, flow_tasks.id, flow_tasks.kind",
    )
    .bind::<SqlUuid, _>(lease)
    .bind::<Timestamptz, _>(tx.now())
    .bind::<Timestamptz, _>(tx.now().plus(TERM));
    let taken: Option<Taken> = Prepared(take).get_result(&mut tx.conn()).await.optional()?;
    if taken.is_none() {
        forget_stopped_in(tx).await?;
    }
    Ok(taken.map(|taken| Held { env: taken.environment_id, id: taken.id, kind: taken.kind, lease }))
}

/// Forgets what is left of tasks that were stopped while a part was being started.
async fn forget_stopped_in(tx: &Tx) -> Result<()> {
    let forget = sql_query(
        "DELETE FROM flow_task_parts USING flow_tasks
         WHERE flow_tasks.environment_id = flow_task_parts.environment_id AND flow_tasks.id = flow_task_parts.task_id
           AND flow_tasks.status = 'failed'",
    );
    Prepared(forget).execute(&mut tx.conn()).await?;
    Ok(())
}

/// What a step leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    More,
    /// The task is over, no longer ours, or done by others.
    Done,
}

/// Does a step of a task and moves it on, together. Parts are started beside each other; transfers go one by one.
async fn step_in(tx: &mut Tx, held: Held) -> Result<Step> {
    let status = match held.kind {
        TaskKind::Csv | TaskKind::Manual => {
            let task = find(tx.conn(), held.env, held.id).await?;
            let ours = task.filter(|task| task.lease == Some(held.lease) && !task.status.over());
            let Some(task) = ours else { return Ok(Step::Done) };
            rows::start_part_in(tx, &task).await?
        }
        TaskKind::Move | TaskKind::Cancel => {
            let Some(task) = lock_in(tx, held).await? else { return Ok(Step::Done) };
            Some(transfer::transfer_in(tx, &task).await?)
        }
    };
    Ok(if status.is_none_or(TaskStatus::over) { Step::Done } else { Step::More })
}

/// The task, locked, while the lease is ours and there is something to do.
async fn lock_in(tx: &Tx, held: Held) -> Result<Option<Task>> {
    let task = flow_tasks::table
        .find((held.env, held.id))
        .filter(flow_tasks::lease.eq(held.lease))
        .select(Task::as_select())
        .for_update();
    let task: Option<Task> = task.first(&mut tx.conn()).await.optional()?;
    Ok(task.filter(|task| !task.status.over()))
}

/// A step that could not be done: one that a caller could act on will fare no better later, such as that of a flow
/// that was archived; what is our own defect or the database's is tried again with growing pauses.
async fn stumble_in(tx: &mut Tx, held: Held, error: &Error) -> Result<()> {
    let Some(task) = lock_in(tx, held).await? else {
        // It was stopped while a part was being started: that part is left.
        return forget_stopped_in(tx).await;
    };
    if error.code() != Code::Internal {
        return fail_in(tx, held.env, held.id, &reason(error)).await;
    }
    tracing::error!(env.id = %held.env, flow.task.id = %held.id, %error, "a step of a task broke");
    if task.attempts + 1 >= ATTEMPTS {
        return fail_in(tx, held.env, held.id, "the task could not be carried out").await;
    }
    let pause = FIRST_PAUSE * 5_u32.saturating_pow(u32::from(task.attempts.unsigned_abs()));
    diesel::update(flow_tasks::table.find((held.env, held.id)))
        .set((
            flow_tasks::attempts.eq(task.attempts + 1),
            flow_tasks::lease.eq(None::<Uuid>),
            flow_tasks::leased_until.eq(tx.now().plus(pause)),
        ))
        .execute(&mut tx.conn())
        .await?;
    Ok(())
}

/// Lets the next task have its turn.
async fn give_back_in(tx: &mut Tx, held: Held) -> Result<()> {
    let ours = flow_tasks::table.find((held.env, held.id)).filter(flow_tasks::lease.eq(held.lease));
    diesel::update(ours)
        .set((
            flow_tasks::lease.eq(None::<Uuid>),
            flow_tasks::leased_until.eq(None::<Time>),
            flow_tasks::turn_at.eq(tx.now()),
        ))
        .execute(&mut tx.conn())
        .await?;
    Ok(())
}
