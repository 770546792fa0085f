//! The steps with which runs begin, as far as they go along with the start ([`onward`]): they are executed in the
//! transaction that starts the runs, so that a flow that begins with a card, a wait or a branch needs no round of the
//! engine to get there, and the card is there when the request is answered.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::advance::{Advance, Room};
use super::claim::Token;
use super::load::{Requests, World};
use super::onward;
use super::settle::{self, Outcome, Past, Round, Settled};
use crate::cards::version::Pinned;
use crate::customers::profile::Customer;
use crate::db::Tx;
use crate::error::{Error, Result};
use crate::events::NewEvent;
use crate::flows::graph::Graph;
use crate::flows::run::Run;
use crate::ids::{BatchId, CustomerId, EnvId, RunId};

/// How far the transaction that starts runs takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::flows) enum Reach {
    /// Through all steps that go along.
    Cards,
    /// Up to the first card: crowds do not hold up those who wait for a single one, and what else a transaction has to
    /// do does not fail with a card.
    Decisions,
}

/// Runs that have just begun, and what their steps can see.
pub(in crate::flows) struct Entering {
    pub runs: HashMap<RunId, Run>,
    pub customers: HashMap<CustomerId, Customer>,
    pub requests: Requests,
    /// The templates that the requests keep to.
    pub templates: Vec<Arc<Pinned>>,
    pub zone: TimeZone,
    /// What tells that they began.
    pub events: Vec<NewEvent>,
    /// The lane of each request.
    pub lanes: HashMap<BatchId, i16>,
    pub reach: Reach,
}

/// Takes runs to their first steps, executes those that go along, and all that go along with them. Gives the runs as they
/// are then.
pub(in crate::flows) async fn enter_in(
    tx: &mut Tx,
    env: EnvId,
    graph: &Arc<Graph>,
    mut entering: Entering,
) -> Result<Vec<Run>> {
    if entering.runs.is_empty() {
        return Ok(Vec::new());
    }
    let lanes = std::mem::take(&mut entering.lanes);
    let mut events = std::mem::take(&mut entering.events);
    let mut advance = match entering.reach {
        Reach::Cards => Advance::new(Room::default()),
        Reach::Decisions => Advance::new(Room::for_due_steps()),
    };
    let mut world = World::of_beginning(graph, entering);
    for run in world.runs.values() {
        let lane = lanes.get(&run.batch_id).copied().ok_or_else(|| Error::internal("a run lost its request"))?;
        for step in graph.roots() {
            let token = Token::reached(env, run.id, &step.key, lane, tx.now());
            if step.action.goes_along() {
                onward::go_along(tx, env, &world, &mut advance, token)?;
            } else {
                advance.settled.push(Settled::new(tx, token, Outcome::Deferred, None));
            }
        }
    }
    onward::go_on(tx, env, &mut world, &mut advance)?;
    events.extend(advance.delivery.place_in(tx, env).await?);
    let round = Round { past: Past::Nothing, ..Round::of(&world) };
    for change in settle::write_steps_in(tx, env, round, advance.settled, events).await? {
        if let Some(run) = world.runs.get_mut(&change.run) {
            run.finished_at = change.finished_at(tx.now());
            (run.status, run.open_steps, run.failed_steps) = (change.status, change.open_steps, change.failed_steps);
        }
    }
    Ok(world.runs.into_values().collect())
}
