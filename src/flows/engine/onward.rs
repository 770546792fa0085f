//! Steps that are decided together with the step before them.
//!
//! A branch or a timer changes nothing and takes no locks, so it need not wait for a round of its own: it is decided
//! in the transaction that finishes the step before it, and the place between the two never becomes a row.
//!
//! Why not `end` or a wait for a card: an `end` would overtake steps beside it that were due before, and a wait for a
//! card must be committed before it looks at the past.

use serde_json::Value;

use super::claim::Token;
use super::load::World;
use super::plan::{Plan, Work, plan};
use super::settle::{Outcome, Settled};
use crate::clock::Time;
use crate::error::{Error, Result};
use crate::flows::step::{Action, Wait};
use crate::ids::RunId;

impl Action {
    /// Tells whether the step is decided together with the one before it.
    pub(in crate::flows) fn goes_along(&self) -> bool {
        matches!(self, Action::Branch(_) | Action::Wait(Wait::Duration(_) | Wait::Until(_)))
    }
}

/// Decides the steps that go along with those that were settled, and adds what becomes of them.
pub(super) fn go_on(world: &mut World, settled: &mut Vec<Settled>, now: Time) -> Result<()> {
    let mut done = 0;
    while let Some(before) = settled.get(done) {
        let after = world.children_along(before);
        if let (false, Outcome::Done { output, .. }) = (after.is_empty(), &before.outcome) {
            let (run, key, output) = (before.token.run_id, before.token.step_key.clone(), output.clone());
            world.finish(run, key, output);
        }
        for token in after {
            let Plan { work: Work::Settled(outcome), input } = plan(world, &token, now)? else {
                return Err(Error::internal("a step that goes along has work to do"));
            };
            settled.push(Settled { token, outcome, input });
        }
        done += 1;
    }
    Ok(())
}

impl World {
    /// The steps that go along with one that is done, as tokens that no row has.
    fn children_along(&self, settled: &Settled) -> Vec<Token> {
        let Settled { token, outcome: Outcome::Done { path, .. }, .. } = settled else { return Vec::new() };
        let graph = self.runs.get(&token.run_id).and_then(|run| self.graphs.get(&run.batch_id));
        let children = graph.into_iter().flat_map(|graph| graph.after(&token.step_key, path.as_deref()));
        let along = children.filter(|child| child.action.goes_along());
        along.map(|child| token.onward(&child.key)).collect()
    }

    /// Learns the output of a step that this round has finished.
    fn finish(&mut self, run: RunId, key: String, output: Value) {
        self.outputs.entry(run).or_default().insert(key, output);
    }
}

impl Token {
    /// The place behind this one.
    fn onward(&self, step: &str) -> Token {
        Token::reached(self.environment_id, self.run_id, step, self.lane_after(), self.wake_at)
    }
}
