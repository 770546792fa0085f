//! Steps that are executed together with the step before them.
//!
//! A branch, a timer or a card needs nothing from outside, so it need not wait for a round of its own: it is dealt with
//! in the transaction that finishes the step before it, and the place between the two never becomes a row. Cards are
//! drawn in memory and placed at the end, with all locks taken once; where the transaction does work of another kind, or
//! has made many cards, the step is left to the next round.
//!
//! Behind a step that changes what the run sees (the customer, what became of cards) nothing goes along: it would see what
//! was. And nothing goes along in a run that ends.
//!
//! Why not `end` or a wait for a card: an `end` would overtake steps beside it that were due before, and a wait for a
//! card must be committed before it looks at the past.

use serde_json::Value;

use super::advance::Advance;
use super::claim::Token;
use super::load::World;
use super::plan::{Plan, Work, plan};
use super::settle::{Outcome, Settled};
use crate::db::Tx;
use crate::error::{Error, Result};
use crate::flows::step::{Action, Wait};
use crate::ids::{EnvId, RunId};

impl Action {
    /// Tells whether the step may be dealt with together with the one before it.
    pub(in crate::flows) fn goes_along(&self) -> bool {
        matches!(self, Action::Branch(_) | Action::Wait(Wait::Duration(_) | Wait::Until(_)) | Action::SendCard(_))
    }
}

/// Deals with the steps that go along with those that were settled, and adds what becomes of them.
pub(super) fn go_on(tx: &Tx, env: EnvId, world: &mut World, advance: &mut Advance) -> Result<()> {
    let ended = advance.ended();
    let mut done = 0;
    while let Some(before) = advance.settled.get(done) {
        let after = world.children_along(before);
        let left = ended.contains(&before.token.run_id) || world.changes_what_is_seen(&before.token);
        if let (false, Outcome::Done { output, .. }) = (after.is_empty(), &before.outcome) {
            let (run, key, output) = (before.token.run_id, before.token.step_key.clone(), output.clone());
            world.finish(run, key, output);
        }
        for token in after {
            if left {
                advance.settled.push(Settled::new(tx, token, Outcome::Deferred, None));
            } else {
                go_along(tx, env, world, advance, token)?;
            }
        }
        done += 1;
    }
    Ok(())
}

/// Deals with a step that goes along.
pub(super) fn go_along(tx: &Tx, env: EnvId, world: &World, advance: &mut Advance, token: Token) -> Result<()> {
    let (outcome, input) = if world.sends_card(&token) && !advance.has_room() {
        (Outcome::Deferred, None)
    } else {
        let Plan { work, input } = plan(world, &token, tx.now())?;
        match work {
            Work::Settled(outcome) => (outcome, input),
            Work::Card(order) => (advance.draw(tx, env, *order), input),
            _ => return Err(Error::internal("a step that goes along has other work to do")),
        }
    };
    advance.settled.push(Settled::new(tx, token, outcome, input));
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

    fn action(&self, token: &Token) -> Option<&Action> {
        let graph = self.runs.get(&token.run_id).and_then(|run| self.graphs.get(&run.batch_id));
        graph.and_then(|graph| graph.step(&token.step_key)).map(|step| &step.action)
    }

    fn sends_card(&self, token: &Token) -> bool {
        matches!(self.action(token), Some(Action::SendCard(_)))
    }

    /// Tells whether what was loaded is no longer so when the step is done.
    fn changes_what_is_seen(&self, token: &Token) -> bool {
        matches!(self.action(token), Some(Action::UpdateCustomer(_) | Action::CancelCards(_)))
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
