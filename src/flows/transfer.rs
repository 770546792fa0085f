//! What happens to runs in progress when a new version of their flow is published: they stay on theirs, move to the
//! new one by the keys of the steps where they are, or are cancelled.
//!
//! A run moves when each step where it is exists in the new version with the same type, and the variables that the
//! new version requires have values. One that could not go on from where it is would be stranded there; it stays on
//! its version. Test runs keep their drafts. Runs are moved and cancelled by a task, some at a time: the publication
//! is done at once, however many wait.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Integer, Json, Jsonb, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::{Map, Value, json};

use super::engine::load::World;
use super::engine::plan;
use super::graph::Graph;
use super::run::{Run, RunStatus};
use super::start::Mode;
use super::start::launch::pins;
use super::task::{NewTask, Stride, Tally, Task, TaskKind, TaskStatus, advance_in, insert_in};
use super::{cancel, flow, version};
use crate::access::{Access, Level, Resource};
use crate::app::App;
use crate::cards::variable;
use crate::customers::Customer;
use crate::db::schema::{flow_versions, runs, tokens};
use crate::db::{Prepared, Tx};
use crate::error::{Error, Result};
use crate::ids::{BatchId, EnvId, FlowId, Id, RunId, TaskId};

/// Open runs that one transaction looks at.
const RUNS: i64 = 500;

/// The most by which a run of the version before is younger than its publication: the clocks of nodes are apart, and a
/// publication has its time before it waits for starts that are under way.
const CLOCKS: Duration = Duration::from_secs(60);

/// What runs in progress do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Followers {
    #[default]
    Stay,
    Move,
    Cancel,
}

/// What publishing the draft would mean for runs in progress.
#[derive(Clone, Debug)]
pub struct PublishPreview {
    pub waiting: Vec<WaitingRuns>,
    /// Runs that could not move.
    pub stranded_runs: i64,
}

/// Runs that are at a step.
#[derive(Clone, Debug)]
pub struct WaitingRuns {
    pub version: i32,
    pub step_key: String,
    pub runs: i64,
    /// Why they could not go on in the draft.
    pub stranded: Option<String>,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = Integer)]
    version: i32,
    #[diesel(sql_type = Text)]
    step_key: String,
    #[diesel(sql_type = BigInt)]
    runs: i64,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

/// Counts where live runs are, and who could not move to the draft.
pub async fn publish_preview(app: &App, access: &Access, id: FlowId) -> Result<PublishPreview> {
    access.require(Resource::ActionFlow, Level::View)?;
    let env = access.env();
    let conn = app.read().await?;
    let flow = flow::find(&conn, env, id).await?.ok_or_else(|| Error::not_found("action flow"))?;
    let next = graph(&conn, env, id, flow.current_version()).await?;
    let places = Places::load(&conn, env, id, &next).await?;
    // A run that is open has tokens, and those are few beside all the runs that a flow has ever had.
    let counts = sql_query(
        "SELECT runs.flow_version AS version, tokens.step_key, count(*) AS runs
         FROM tokens JOIN runs ON runs.environment_id = tokens.environment_id AND runs.id = tokens.run_id
         WHERE tokens.environment_id = $1 AND runs.flow_id = $2 AND runs.status = 'running' AND NOT runs.is_test
         GROUP BY 1, 2 ORDER BY 1, 2",
    )
    .bind::<SqlUuid, _>(env)
    .bind::<SqlUuid, _>(id);
    let counts: Vec<Count> = Prepared(counts).load(&mut &*conn).await?;
    let (mut versions, mut keys) = (Vec::new(), Vec::new());
    let mut waiting = Vec::with_capacity(counts.len());
    for Count { version, step_key, runs } in counts {
        let stranded = places.stranded(version, &step_key);
        if stranded.is_some() {
            versions.push(version);
            keys.push(step_key.clone());
        }
        waiting.push(WaitingRuns { version, step_key, runs, stranded });
    }
    let stranded = sql_query(
        "SELECT count(DISTINCT runs.id) AS number
         FROM tokens JOIN runs ON runs.environment_id = tokens.environment_id AND runs.id = tokens.run_id
         JOIN UNNEST($3::int[], $4::text[]) AS lost (version, step_key)
              ON lost.version = runs.flow_version AND lost.step_key = tokens.step_key
         WHERE tokens.environment_id = $1 AND runs.flow_id = $2 AND runs.status = 'running' AND NOT runs.is_test",
    )
    .bind::<SqlUuid, _>(env)
    .bind::<SqlUuid, _>(id)
    .bind::<Array<Integer>, _>(versions)
    .bind::<Array<Text>, _>(keys);
    let stranded: Number = Prepared(stranded).get_result(&mut &*conn).await?;
    Ok(PublishPreview { waiting, stranded_runs: stranded.number })
}

async fn graph(conn: &AsyncPgConnection, env: EnvId, id: FlowId, version: i32) -> Result<Graph> {
    let row = version::find(conn, env, id, version).await?;
    Graph::parse(&row.ok_or_else(|| Error::internal("a flow lost a version"))?.definition)
}

/// Which places of earlier versions a run can leave for the next one.
struct Places {
    /// The steps of the next version: key and type.
    steps: HashMap<String, &'static str>,
    /// The types of the steps of earlier versions.
    before: HashMap<(i32, String), &'static str>,
    /// The variable that the runs of a version lack.
    lacking: HashMap<i32, String>,
}

impl Places {
    async fn load(conn: &AsyncPgConnection, env: EnvId, id: FlowId, next: &Graph) -> Result<Places> {
        let rows: Vec<(i32, Value)> = flow_versions::table
            .filter(flow_versions::environment_id.eq(env).and(flow_versions::flow_id.eq(id)))
            .filter(flow_versions::published_at.is_not_null())
            .select((flow_versions::version, flow_versions::definition))
            .load(&mut &*conn)
            .await?;
        let kinds = |graph: &Graph| -> HashMap<String, &'static str> {
            graph.steps().iter().map(|step| (step.key.clone(), step.action.kind())).collect()
        };
        let mut places = Places { steps: kinds(next), before: HashMap::new(), lacking: HashMap::new() };
        for (version, definition) in rows {
            let before = Graph::parse(&definition)?;
            places.before.extend(kinds(&before).into_iter().map(|(key, kind)| ((version, key), kind)));
            let had: HashSet<&str> = before.variables.iter().map(|variable| variable.name.as_str()).collect();
            let lacking = next.variables.iter().find(|variable| {
                let given = variable.default.is_some() || variable.profile_field.is_some();
                variable.required && !given && !had.contains(variable.name.as_str())
            });
            places.lacking.extend(lacking.map(|variable| (version, variable.name.clone())));
        }
        Ok(places)
    }

    /// Why a run at a step of a version could not go on.
    fn stranded(&self, version: i32, key: &str) -> Option<String> {
        if let Some(variable) = self.lacking.get(&version) {
            return Some(format!("the variable `{variable}` is required, and runs of version {version} have none"));
        }
        match (self.before.get(&(version, key.to_owned())), self.steps.get(key)) {
            (_, None) => Some(format!("there is no step `{key}`")),
            (Some(before), Some(next)) if before != next => Some(format!("the step `{key}` is no {before} any more")),
            _ => None,
        }
    }
}

/// Lets runs in progress do as was said, in the transaction that publishes the version. The task is what carries it
/// out.
pub(super) async fn follow_in(
    tx: &mut Tx,
    access: &Access,
    id: FlowId,
    version: i32,
    followers: Followers,
) -> Result<Option<TaskId>> {
    let kind = match followers {
        Followers::Stay => return Ok(None),
        Followers::Move => TaskKind::Move,
        Followers::Cancel => TaskKind::Cancel,
    };
    let new = NewTask {
        flow: Some(id),
        kind,
        mode: Mode::Live,
        header: json!([]),
        version: Some(version),
        status: TaskStatus::Pending,
    };
    insert_in(tx, access, &new).await.map(Some)
}

#[derive(QueryableByName)]
struct Open {
    #[diesel(sql_type = SqlUuid)]
    run_id: RunId,
}

/// Moves or cancels some runs and moves the task's place, and gives the status of the task afterwards.
pub(super) async fn transfer_in(tx: &mut Tx, task: &Task) -> Result<TaskStatus> {
    let env = task.environment_id;
    let (Some(flow), Some(version)) = (task.flow_id, task.version) else {
        return Err(Error::internal("a task has no version to move runs to"));
    };
    let open = sql_query(
        "SELECT DISTINCT run_id FROM tokens WHERE environment_id = $1 AND ($2 IS NULL OR run_id > $2)
         ORDER BY run_id LIMIT $3",
    )
    .bind::<SqlUuid, _>(env)
    .bind::<Nullable<SqlUuid>, _>(task.place)
    .bind::<BigInt, _>(RUNS);
    let open: Vec<Open> = Prepared(open).load(&mut tx.conn()).await?;
    // Ids grow with time: what is younger began on the new version.
    let last = task.created_at.plus(CLOCKS);
    let mine = open.iter().map(|open| open.run_id).filter(|id| id.made_at() <= last);
    let mine: Vec<RunId> = mine.collect();
    let ended = mine.len() < usize::try_from(RUNS).unwrap_or(usize::MAX);
    let older: Vec<Run> = runs::table
        .filter(runs::environment_id.eq(env).and(runs::id.eq_any(&mine)).and(runs::flow_id.eq(flow)))
        .filter(runs::status.eq(RunStatus::Running).and(runs::is_test.eq(false)).and(runs::flow_version.lt(version)))
        .order(runs::id)
        .select(Run::as_select())
        .for_update()
        .load(&mut tx.conn())
        .await?;
    let found = count(older.len());
    let mut tally = Tally::default();
    if task.kind == TaskKind::Cancel {
        let ids: Vec<RunId> = older.iter().map(|run| run.id).collect();
        tally.accepted = count(cancel::stop_in(tx, env, &ids).await?);
    } else if !older.is_empty() {
        move_in(tx, env, Target { flow, version }, older, &mut tally).await?;
    }
    let place = mine.last().copied().or(task.place);
    let status = if ended { TaskStatus::Complete } else { TaskStatus::Processing };
    advance_in(tx, task, Stride::Runs { place, found, status }, tally).await
}

/// Where runs go.
#[derive(Clone, Copy)]
struct Target {
    flow: FlowId,
    version: i32,
}

/// Moves those of the runs that can go on; they are locked. Their requests are kept once more, with the new version
/// and its templates.
async fn move_in(tx: &mut Tx, env: EnvId, to: Target, older: Vec<Run>, tally: &mut Tally) -> Result<()> {
    let next = graph(tx.conn(), env, to.flow, to.version).await?;
    let places = Places::load(tx.conn(), env, to.flow, &next).await?;
    let stands = stands(tx.conn(), env, &older).await?;
    let world = World::load(tx.conn(), env, older.into_iter().map(|run| (run.id, run)).collect()).await?;
    let mut requests: HashMap<BatchId, BatchId> = HashMap::new();
    let (mut moved, mut batches, mut variables) = (Vec::new(), Vec::new(), Vec::new());
    let mut ordered: Vec<&Run> = world.runs.values().collect();
    ordered.sort_unstable_by_key(|run| run.id);
    for run in ordered {
        let at = stands.get(&run.id).map_or(&[][..], Vec::as_slice);
        let fate = match at.iter().find_map(|key| places.stranded(run.flow_version, key)) {
            Some(reason) => Err(reason),
            None => renewed(&world, run, &next)?,
        };
        match fate {
            Ok(values) => {
                moved.push(run.id);
                batches.push(*requests.entry(run.batch_id).or_insert_with(|| tx.id()));
                variables.push(Value::Object(values));
                tally.accepted += 1;
            }
            Err(reason) => {
                tally.rejected += 1;
                tally.note(None, &format!("{}: {reason}", run.id));
            }
        }
    }
    if moved.is_empty() {
        return Ok(());
    }
    let (before, after): (Vec<BatchId>, Vec<BatchId>) = requests.into_iter().unzip();
    let keep = sql_query(
        "INSERT INTO batches (environment_id, id, flow_id, flow_version, is_test, source, trigger_id, templates,
                              accepted_at)
         SELECT $1, renewed.later, flow_id, $2, is_test, source, trigger_id, $3, accepted_at
         FROM batches JOIN UNNEST($4::uuid[], $5::uuid[]) AS renewed (earlier, later) ON batches.id = renewed.earlier
         WHERE batches.environment_id = $1",
    )
    .bind::<SqlUuid, _>(env)
    .bind::<Integer, _>(to.version)
    .bind::<Jsonb, _>(pins(tx.conn(), env, &next).await?)
    .bind::<Array<SqlUuid>, _>(before)
    .bind::<Array<SqlUuid>, _>(after);
    Prepared(keep).execute(&mut tx.conn()).await?;
    let follow = sql_query(
        "UPDATE runs SET batch_id = moved.batch_id, flow_version = $2, variables = moved.variables
         FROM UNNEST($3::uuid[], $4::uuid[], $5::json[]) AS moved (id, batch_id, variables)
         WHERE runs.environment_id = $1 AND runs.id = moved.id",
    )
    .bind::<SqlUuid, _>(env)
    .bind::<Integer, _>(to.version)
    .bind::<Array<SqlUuid>, _>(moved)
    .bind::<Array<SqlUuid>, _>(batches)
    .bind::<Array<Json>, _>(variables);
    Prepared(follow).execute(&mut tx.conn()).await?;
    Ok(())
}

/// The steps where runs are.
async fn stands(conn: &AsyncPgConnection, env: EnvId, runs: &[Run]) -> Result<HashMap<RunId, Vec<String>>> {
    let ids: Vec<RunId> = runs.iter().map(|run| run.id).collect();
    let rows: Vec<(RunId, String)> = tokens::table
        .filter(tokens::environment_id.eq(env).and(tokens::run_id.eq_any(ids)))
        .select((tokens::run_id, tokens::step_key))
        .load(&mut &*conn)
        .await?;
    let mut stands: HashMap<RunId, Vec<String>> = HashMap::new();
    for (run, key) in rows {
        stands.entry(run).or_default().push(key);
    }
    Ok(stands)
}

/// The variables of a run as the new version has them, or why they cannot be had.
fn renewed(world: &World, run: &Run, next: &Graph) -> Result<Result<Map<String, Value>, String>> {
    let profile = world.customers.get(&run.customer_id).map(Customer::profile).unwrap_or_default();
    let resolved = variable::resolve(&next.variables, plan::variables(world, run)?, &profile);
    Ok(resolved.map_err(|error| plan::reason(&error)))
}

fn count(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
