//! Runs: one execution of a flow for one customer, and how it is stopped from outside.

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::prelude::*;
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types::Text;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;

use crate::access::{Access, Level, Resource};
use crate::clock::Time;
use crate::db::page::{Page, PageRequest};
use crate::db::schema::{run_steps, runs, tokens};
use crate::error::Result;
use crate::ids::{BatchId, CardId, CustomerId, EnvId, FlowId, LifecycleId, RunId};

/// One execution of a flow for one customer.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = runs)]
pub struct Run {
    pub environment_id: EnvId,
    pub id: RunId,
    pub flow_id: FlowId,
    pub flow_version: i32,
    pub lifecycle_id: LifecycleId,
    pub batch_id: BatchId,
    pub customer_id: CustomerId,
    pub user_id: String,
    pub invocation: String,
    pub is_test: bool,
    pub hops: i16,
    pub status: RunStatus,
    /// How many steps are queued or waiting.
    pub open_steps: i32,
    pub failed_steps: i32,
    /// The resolved flow variables where they differ from those of the start.
    pub variables: Option<Value>,
    pub started_at: Time,
    pub finished_at: Option<Time>,
}

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, AsExpression, FromSqlRow)]
#[diesel(sql_type = Text)]
pub enum RunStatus {
    Running,
    Completed,
    /// At least one branch failed, and nothing is left to do.
    Failed,
    Cancelled,
}

impl RunStatus {
    pub const ALL: [RunStatus; 4] = [RunStatus::Running, RunStatus::Completed, RunStatus::Failed, RunStatus::Cancelled];

    pub fn word(self) -> &'static str {
        match self {
            RunStatus::Running => "running",
            RunStatus::Completed => "completed",
            RunStatus::Failed => "failed",
            RunStatus::Cancelled => "cancelled",
        }
    }

    pub fn parse(word: &str) -> Option<RunStatus> {
        RunStatus::ALL.into_iter().find(|status| status.word() == word)
    }
}

impl ToSql<Text, Pg> for RunStatus {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        <str as ToSql<Text, Pg>>::to_sql(self.word(), out)
    }
}

impl FromSql<Text, Pg> for RunStatus {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        let word = <String as FromSql<Text, Pg>>::from_sql(value)?;
        RunStatus::parse(&word).ok_or_else(|| "not a status of a run".into())
    }
}

/// A step that a run has finished.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = run_steps)]
pub struct FinishedStep {
    pub run_id: RunId,
    pub step_key: String,
    pub step_type: String,
    pub status: String,
    /// The path on which the run went on.
    pub path: Option<String>,
    /// What the step was given, where its configuration does not say it already.
    pub input: Option<Value>,
    pub output: Value,
    /// Why it failed.
    pub message: Option<String>,
    pub started_at: Time,
    pub finished_at: Time,
}

/// A step that a run has reached and not finished.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = tokens)]
pub struct OpenStep {
    pub run_id: RunId,
    pub step_key: String,
    /// `ready`, `waiting` or `retrying`.
    pub status: String,
    /// When it goes on by itself.
    pub wake_at: Time,
    /// The card whose events it waits for.
    pub wait_card: Option<CardId>,
    pub reached_at: Option<Time>,
}

/// Which runs a list holds; what is absent does not narrow.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    pub flow: Option<FlowId>,
    pub user_id: Option<String>,
    pub invocation: Option<String>,
    pub status: Option<RunStatus>,
    pub is_test: Option<bool>,
}

pub async fn find(conn: &AsyncPgConnection, env: EnvId, id: RunId) -> Result<Option<Run>> {
    Ok(runs::table.find((env, id)).select(Run::as_select()).first(&mut &*conn).await.optional()?)
}

/// Lists runs, newest first.
pub async fn list(
    conn: &AsyncPgConnection,
    env: EnvId,
    filter: RunFilter,
    page: &PageRequest<RunId>,
) -> Result<Page<Run>> {
    let mut query = runs::table
        .filter(runs::environment_id.eq(env))
        .order(runs::id.desc())
        .limit(page.limit())
        .select(Run::as_select())
        .into_boxed();
    if let Some(after) = page.after {
        query = query.filter(runs::id.lt(after));
    }
    if let Some(flow) = filter.flow {
        query = query.filter(runs::flow_id.eq(flow));
    }
    if let Some(user_id) = filter.user_id {
        query = query.filter(runs::user_id.eq(user_id));
    }
    if let Some(invocation) = filter.invocation {
        query = query.filter(runs::invocation.eq(invocation));
    }
    if let Some(status) = filter.status {
        query = query.filter(runs::status.eq(status));
    }
    if let Some(is_test) = filter.is_test {
        query = query.filter(runs::is_test.eq(is_test));
    }
    Ok(page.page(query.load(&mut &*conn).await?))
}

/// The finished steps of runs, in the order in which they finished.
pub async fn finished_steps(conn: &AsyncPgConnection, env: EnvId, ids: &[RunId]) -> Result<Vec<FinishedStep>> {
    let rows = run_steps::table
        .filter(run_steps::environment_id.eq(env).and(run_steps::run_id.eq_any(ids)))
        .order((run_steps::run_id, run_steps::finished_at, run_steps::place, run_steps::step_key))
        .select(FinishedStep::as_select());
    Ok(rows.load(&mut &*conn).await?)
}

/// The steps of runs that are not finished, by key.
pub async fn open_steps(conn: &AsyncPgConnection, env: EnvId, ids: &[RunId]) -> Result<Vec<OpenStep>> {
    let rows = tokens::table
        .filter(tokens::environment_id.eq(env).and(tokens::run_id.eq_any(ids)))
        .order((tokens::run_id, tokens::step_key))
        .select(OpenStep::as_select());
    Ok(rows.load(&mut &*conn).await?)
}

/// Tells whether a flow has runs that are not over.
pub(super) async fn in_progress(conn: &AsyncPgConnection, env: EnvId, flow: FlowId) -> Result<bool> {
    let running = runs::table
        .filter(runs::environment_id.eq(env).and(runs::flow_id.eq(flow)))
        .filter(runs::status.eq(RunStatus::Running));
    Ok(diesel::select(diesel::dsl::exists(running)).get_result(&mut &*conn).await?)
}

/// Asks for the right to try flows out and to stop runs: those who edit flows have it, and those who send.
pub(super) fn require_operation(access: &Access) -> Result<()> {
    match access.require(Resource::SendToCustomers, Level::Edit) {
        Ok(()) => Ok(()),
        Err(_) => access.require(Resource::ActionFlow, Level::Edit),
    }
}
