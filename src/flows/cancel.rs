//! Stops runs from outside: what is queued or waiting in them is dropped.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;

use super::engine::load;
use super::flow;
use super::run::{Run, RunStatus, require_operation};
use crate::access::{Access, Level, Resource, audit};
use crate::app::App;
use crate::cards::bulk::{self, Closing};
use crate::cards::select::{MAXIMUM, Reach, Selector};
use crate::db::schema::{invocations, runs, starts};
use crate::db::{Prepared, Tx};
use crate::error::{Error, Result};
use crate::events::{NewEvent, record_in};
use crate::ids::{EnvId, FlowId, LifecycleId, RunId};

/// Which runs of a flow are meant.
#[derive(Clone, Debug)]
pub enum Chosen {
    Run(RunId),
    /// All that an invocation started, tests included.
    Invocation(String),
    /// All that one entry of a start request started.
    Lifecycle(LifecycleId),
}

/// What happens to the open cards of cancelled runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CardsOfRuns {
    Stay,
    Cancel,
}

/// How much was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelled {
    pub runs: usize,
    pub cards: usize,
}

/// Cancels runs in progress; those that are over stay as they are. With [`CardsOfRuns::Cancel`] the open cards of
/// all chosen runs go, also of those that are over; that happens after the runs have stopped, some cards at a time.
pub async fn cancel(app: &App, access: &Access, flow: FlowId, chosen: Chosen, cards: CardsOfRuns) -> Result<Cancelled> {
    require_operation(access)?;
    if cards == CardsOfRuns::Cancel {
        access.require(Resource::CardInstance, Level::Edit)?;
    }
    let runs = app
        .transact(async |tx| {
            let env = access.env();
            if flow::find(tx.conn(), env, flow).await?.is_none() {
                return Err(Error::not_found("action flow"));
            }
            let ids = choose(tx, env, flow, &chosen).await?;
            let stopped = stop_in(tx, env, &ids).await?;
            audit::record_in(tx, access, "action-flow.cancel-runs", flow, &[]).await?;
            Ok(stopped)
        })
        .await?;
    let cards = match cards {
        CardsOfRuns::Stay => 0,
        CardsOfRuns::Cancel => cancel_cards(app, access, flow, chosen).await?,
    };
    Ok(Cancelled { runs, cards })
}

async fn cancel_cards(app: &App, access: &Access, flow: FlowId, chosen: Chosen) -> Result<usize> {
    let mut selector = Selector { flow: Some(flow), ..Selector::default() };
    match chosen {
        Chosen::Run(run) => selector.run = Some(run),
        Chosen::Invocation(invocation) => selector.invocation = Some(invocation),
        Chosen::Lifecycle(lifecycle) => selector.lifecycle = Some(lifecycle),
    }
    let reach = Reach { multiple: true, limit: MAXIMUM, ..Reach::default() };
    let mut cancelled = 0;
    loop {
        let closed = bulk::close(app, access, &selector, reach, &Closing::Cancel).await?;
        cancelled += closed.cards.len();
        if closed.cards.is_empty() || closed.remaining() == 0 {
            return Ok(cancelled);
        }
    }
}

pub(super) async fn choose(tx: &Tx, env: EnvId, flow: FlowId, chosen: &Chosen) -> Result<Vec<RunId>> {
    let found = match chosen {
        Chosen::Run(id) => {
            let query =
                runs::table.filter(runs::environment_id.eq(env).and(runs::id.eq(id)).and(runs::flow_id.eq(flow)));
            query.select(runs::id).load(&mut tx.conn()).await?
        }
        Chosen::Invocation(invocation) => {
            let query = invocations::table
                .filter(invocations::environment_id.eq(env).and(invocations::flow_id.eq(flow)))
                .filter(invocations::is_test.eq_any([false, true]).and(invocations::invocation.eq(invocation)));
            query.select(invocations::run_id).load(&mut tx.conn()).await?
        }
        Chosen::Lifecycle(lifecycle) => {
            let entry = starts::table.find((env, lifecycle)).select(starts::invocation).into_boxed();
            let query = invocations::table
                .inner_join(runs::table.on(runs::environment_id.eq(env).and(runs::id.eq(invocations::run_id))))
                .filter(invocations::environment_id.eq(env).and(invocations::flow_id.eq(flow)))
                .filter(invocations::is_test.eq_any([false, true]).and(invocations::invocation.eq_any(entry)))
                .filter(runs::lifecycle_id.eq(lifecycle));
            query.select(invocations::run_id).load(&mut tx.conn()).await?
        }
    };
    if found.is_empty() { Err(Error::not_found("flow run")) } else { Ok(found) }
}

/// Cancels all runs of a flow that are in progress.
pub(super) async fn stop_all_in(tx: &mut Tx, env: EnvId, flow: FlowId) -> Result<usize> {
    let running = runs::table
        .filter(runs::environment_id.eq(env).and(runs::flow_id.eq(flow)))
        .filter(runs::status.eq(RunStatus::Running))
        .select(runs::id);
    let ids: Vec<RunId> = running.load(&mut tx.conn()).await?;
    stop_in(tx, env, &ids).await
}

pub(super) async fn stop_in(tx: &mut Tx, env: EnvId, ids: &[RunId]) -> Result<usize> {
    let running: Vec<Run> = runs::table
        .filter(runs::environment_id.eq(env).and(runs::id.eq_any(ids)))
        .filter(runs::status.eq(RunStatus::Running))
        .order(runs::id)
        .select(Run::as_select())
        .for_update()
        .load(&mut tx.conn())
        .await?;
    if running.is_empty() {
        return Ok(0);
    }
    let stopped: Vec<RunId> = running.iter().map(|run| run.id).collect();
    diesel::update(runs::table.filter(runs::environment_id.eq(env).and(runs::id.eq_any(&stopped))))
        .set((runs::status.eq(RunStatus::Cancelled), runs::open_steps.eq(0), runs::finished_at.eq(tx.now())))
        .execute(&mut tx.conn())
        .await?;
    metrics::counter!("cardwire_flow_runs_total", "state" => "cancelled").increment(stopped.len() as u64);
    drop_tokens_in(tx, env, &stopped).await?;
    let requests = load::requests(tx.conn(), env, &running).await?;
    let events: Vec<NewEvent> = running
        .iter()
        .map(|run| {
            let mut event = NewEvent::new("action-flow-cancelled", run.customer_id, &run.user_id);
            event.platform = requests.platform(run);
            event
        })
        .collect();
    record_in(tx, env, &events).await?;
    Ok(stopped.len())
}

/// Takes the tokens of runs that are over. One that a worker holds is left: the worker finds the run over and
/// drops it, whereas waiting for the worker here could be waiting in a circle.
pub(super) async fn drop_tokens_in(tx: &mut Tx, env: EnvId, ids: &[RunId]) -> Result<()> {
    let query = sql_query(
        "DELETE FROM tokens USING (
             SELECT run_id, step_key FROM tokens WHERE environment_id = $1 AND run_id = ANY($2)
             FOR UPDATE SKIP LOCKED
         ) AS free
         WHERE tokens.environment_id = $1 AND tokens.run_id = free.run_id AND tokens.step_key = free.step_key",
    )
    .bind::<SqlUuid, _>(env)
    .bind::<Array<SqlUuid>, _>(ids);
    Prepared(query).execute(&mut tx.conn()).await?;
    Ok(())
}
