//! The steps with which runs begin, as far as they go along with the start ([`onward`]): they are decided
//! in the transaction that starts the runs, so that a flow that begins with a wait or a branch needs no round of the
//! engine to get there.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::claim::Token;
use super::load::{Requests, World};
use super::onward;
use super::plan::{Plan, Work, plan};
use super::settle::{Round, Settled, write_in};
use crate::access::environment;
use crate::clock::zone;
use crate::customers::profile::Customer;
use crate::db::Tx;
use crate::error::{Error, Result};
use crate::flows::graph::Graph;
use crate::flows::run::Run;
use crate::ids::{BatchId, CustomerId, EnvId, RunId};

/// Runs that have just begun, and what their steps can see.
pub(in crate::flows) struct Entering {
    pub runs: HashMap<RunId, Run>,
    pub customers: HashMap<CustomerId, Customer>,
    pub requests: Requests,
    /// The lane of each request.
    pub lanes: HashMap<BatchId, i16>,
}

/// Decides those first steps of a flow that go along, and all that go along with them.
pub(in crate::flows) async fn enter_in(tx: &mut Tx, env: EnvId, graph: &Arc<Graph>, entering: Entering) -> Result<()> {
    if entering.runs.is_empty() {
        return Ok(());
    }
    let environment = environment::find(tx.conn(), env).await?;
    let zone = environment.and_then(|environment| zone(&environment.time_zone).ok()).unwrap_or(TimeZone::UTC);
    let Entering { runs, customers, requests, lanes } = entering;
    let mut world = World::of_beginning(runs, requests, graph, customers, zone);
    let first: Vec<&str> =
        graph.roots().filter(|step| step.action.goes_along()).map(|step| step.key.as_str()).collect();
    let mut settled = Vec::with_capacity(world.runs.len() * first.len());
    for run in world.runs.values() {
        let lane = lanes.get(&run.batch_id).copied().ok_or_else(|| Error::internal("a run lost its request"))?;
        for key in &first {
            let token = Token::reached(env, run.id, key, lane, tx.now());
            let Plan { work: Work::Settled(outcome), input } = plan(&world, &token, tx.now())? else {
                return Err(Error::internal("a step that goes along has work to do"));
            };
            settled.push(Settled { token, outcome, input });
        }
    }
    onward::go_on(&mut world, &mut settled, tx.now())?;
    let round = Round { runs: &world.runs, requests: &world.requests, graphs: &world.graphs };
    write_in(tx, env, round, settled).await
}
