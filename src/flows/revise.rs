//! Changes the variables of runs from outside, and renders their open cards anew (specification 8.7).

use std::collections::HashMap;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, Json, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use serde_json::{Map, Value};

use super::cancel::{Chosen, choose};
use super::engine::load::World;
use super::engine::plan;
use super::flow;
use super::run::{Run, require_operation};
use crate::access::{Access, Level, Resource, audit};
use crate::app::App;
use crate::cards::update::{self, Revision};
use crate::cards::variable;
use crate::customers::Customer;
use crate::db::schema::runs;
use crate::db::{Prepared, Tx};
use crate::error::{Error, Result};
use crate::flows::step::Action;
use crate::ids::{EnvId, FlowId, RunId};
use crate::text::object_without_nul;

/// Runs of one transaction: each may change a feed, and a feed is locked until the commit.
const BATCH: usize = 200;
/// The most bytes of the variables, as in a start.
const MOST_VARIABLES: usize = 64 * 1024;

/// How much an update reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Revised {
    pub runs: usize,
    /// Open cards that came out different.
    pub cards: usize,
}

/// Gives runs new values for some of their variables; the others stay. Runs that are over are meant too, because
/// their cards may be open.
///
/// Works some runs at a time: a failure leaves earlier ones changed, and the same call again changes the rest.
pub async fn update_variables(
    app: &App,
    access: &Access,
    flow: FlowId,
    chosen: &Chosen,
    user_id: Option<&str>,
    given: &Map<String, Value>,
) -> Result<Revised> {
    require_operation(access)?;
    access.require(Resource::CardInstance, Level::Edit)?;
    if serde_json::to_string(given)?.len() > MOST_VARIABLES {
        return Err(Error::invalid("/variables", format!("take more than {} KiB", MOST_VARIABLES / 1024)));
    }
    object_without_nul(given, "/variables")?;
    let ids = app.transact(async |tx| reach_in(tx, access, flow, chosen, user_id).await).await?;
    let mut revised = Revised::default();
    for ids in ids.chunks(BATCH) {
        let step = app.transact(async |tx| revise_in(tx, access.env(), ids, given).await).await?;
        revised.runs += step.runs;
        revised.cards += step.cards;
    }
    Ok(revised)
}

/// The runs that are meant, in the order of their ids.
async fn reach_in(
    tx: &mut Tx,
    access: &Access,
    flow: FlowId,
    chosen: &Chosen,
    user_id: Option<&str>,
) -> Result<Vec<RunId>> {
    let env = access.env();
    if flow::find(tx.conn(), env, flow).await?.is_none() {
        return Err(Error::not_found("action flow"));
    }
    let ids = choose(tx, env, flow, chosen).await?;
    let mut query = runs::table
        .filter(runs::environment_id.eq(env).and(runs::id.eq_any(ids)))
        .order(runs::id)
        .select(runs::id)
        .into_boxed();
    if let Some(user_id) = user_id {
        query = query.filter(runs::user_id.eq(user_id));
    }
    let ids: Vec<RunId> = query.load(&mut tx.conn()).await?;
    if ids.is_empty() {
        return Err(Error::not_found("flow run"));
    }
    audit::record_in(tx, access, "action-flow.update-variables", flow, &["variables"]).await?;
    Ok(ids)
}

async fn revise_in(tx: &mut Tx, env: EnvId, ids: &[RunId], given: &Map<String, Value>) -> Result<Revised> {
    let locked: Vec<Run> = runs::table
        .filter(runs::environment_id.eq(env).and(runs::id.eq_any(ids)))
        .order(runs::id)
        .select(Run::as_select())
        .for_update()
        .load(&mut tx.conn())
        .await?;
    let runs: HashMap<RunId, Run> = locked.into_iter().map(|run| (run.id, run)).collect();
    let mut world = World::load(tx.conn(), env, runs).await?;
    let resolved = resolve(&world, given)?;
    write_in(tx, env, &resolved).await?;
    let reached = resolved.len();
    for (id, variables) in resolved {
        if let Some(run) = world.runs.get_mut(&id) {
            run.variables = Some(Value::Object(variables));
        }
    }
    let open = update::open_of_runs(tx.conn(), env, ids).await?;
    let mut revisions = Vec::with_capacity(open.len());
    for card in open {
        let Some(run) = world.runs.get(&card.run_id) else { continue };
        let Some(customer) = world.customers.get(&run.customer_id) else { continue };
        let step = world.graphs.get(&run.batch_id).and_then(|graph| graph.step(&card.step_key));
        let Some(Action::SendCard(action)) = step.map(|step| &step.action) else { continue };
        let Some(pinned) = world.template(run, action.template) else { continue };
        // An expression that fails now did not fail when the card was made; the card keeps what it shows.
        if let Ok((variables, context)) = plan::card_variables(&world, run, customer, action)? {
            revisions.push(Revision { card, customer, pinned, variables, context });
        }
    }
    Ok(Revised { runs: reached, cards: update::update_in(tx, env, revisions).await? })
}

/// The variables that each run has from now on. Errors point at `/variables/<name>`.
fn resolve(world: &World, given: &Map<String, Value>) -> Result<Vec<(RunId, Map<String, Value>)>> {
    let mut resolved = Vec::with_capacity(world.runs.len());
    for run in world.runs.values() {
        let Some(graph) = world.graphs.get(&run.batch_id) else { continue };
        let profile = world.customers.get(&run.customer_id).map(Customer::profile).unwrap_or_default();
        let mut supplied = plan::variables(world, run)?.clone();
        supplied.extend(given.clone());
        let variables = variable::resolve(&graph.variables, &supplied, &profile).map_err(outside_payload)?;
        resolved.push((run.id, variables));
    }
    Ok(resolved)
}

/// In a start the variables stand in a payload, here they stand alone.
fn outside_payload(error: Error) -> Error {
    let violations = error.into_violations().into_iter().map(|mut violation| {
        violation.pointer = violation.pointer.map(|pointer| pointer.replacen("/payload", "", 1));
        violation
    });
    Error::from_violations(violations.collect())
}

async fn write_in(tx: &mut Tx, env: EnvId, resolved: &[(RunId, Map<String, Value>)]) -> Result<()> {
    let (ids, values): (Vec<RunId>, Vec<Value>) =
        resolved.iter().map(|(id, variables)| (*id, Value::Object(variables.clone()))).unzip();
    let update = sql_query(
        "UPDATE runs SET variables = new.variables FROM UNNEST($2::uuid[], $3::json[]) AS new (id, variables)
         WHERE runs.environment_id = $1 AND runs.id = new.id",
    )
    .bind::<SqlUuid, _>(env)
    .bind::<Array<SqlUuid>, _>(ids)
    .bind::<Array<Json>, _>(values);
    Prepared(update).execute(&mut tx.conn()).await?;
    Ok(())
}
