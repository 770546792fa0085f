//! The engine: moves runs from step to step.
//!
//! A round claims due tokens, locks their runs, executes the steps, and writes outcomes, events and the tokens of
//! the next steps in one transaction. A crash before the commit leaves the tokens where they were; after it they
//! are gone. So a step takes effect once.
//!
//! Locks: tokens and runs are only ever taken without waiting (`SKIP LOCKED`), feeds last and in order. Whoever
//! changes a run from outside locks the run first and leaves tokens that a worker holds alone.
//!
//! Steps that follow each other and change nothing but the run and its cards are executed together ([`onward`]): what
//! is seen of them is on disk, and the places between them never become rows.

mod advance;
mod assume;
mod claim;
pub(super) mod enter;
mod execute;
pub(super) mod load;
mod onward;
pub(super) mod plan;
mod poison;
pub(super) mod settle;
pub(super) mod simulate;

use std::collections::BTreeMap;
use std::time::Duration;

use self::advance::{Advance, Room};
use self::claim::{Claim, Token};
use crate::app::App;
use crate::db::Tx;
use crate::error::{Code, Result, surviving_panics};
use crate::ids::EnvId;
use crate::realtime::Work;
use crate::worker::{Progress, Worker};

/// How soon to look again when others hold everything that is due.
const HELD: Duration = Duration::from_millis(100);

/// Executes the steps of runs.
pub struct Engine;

/// Executes the steps that customers wait for, beside the engine: a reaction does not queue behind a round of bulk
/// starts. (Events are read below the oldest open transaction, so a tap may still wait for the one under way.)
pub struct Reactor;

/// What a round found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    /// Tokens were due, but their runs were held by somebody else.
    Held,
    Moved,
}

impl Worker for Engine {
    const NAME: &'static str = "flow-engine";

    fn work() -> Option<Work> {
        Some(Work::Flows)
    }

    async fn run(&self, app: &App) -> Result<Progress> {
        match turn(app, Claim::Due).await? {
            Some(progress) => Ok(progress),
            None => {
                let next = claim::next_wake(&*app.read().await?).await?;
                Ok(next.map_or(Progress::Idle, Progress::NextAt))
            }
        }
    }
}

impl Worker for Reactor {
    const NAME: &'static str = "flow-reactor";

    fn work() -> Option<Work> {
        Some(Work::Reactions)
    }

    async fn run(&self, app: &App) -> Result<Progress> {
        Ok(turn(app, Claim::Reactions).await?.unwrap_or(Progress::Idle))
    }
}

/// One round, whatever becomes of it. `None`: there was nothing to do.
async fn turn(app: &App, claim: Claim<'_>) -> Result<Option<Progress>> {
    match round(app, claim).await {
        Ok(Found::Moved) => Ok(Some(Progress::More)),
        Ok(Found::Held) => Ok(Some(Progress::NextAt(app.clock().now().plus(HELD)))),
        Ok(Found::Nothing) => Ok(None),
        Err(error) if error.code() == Code::Unavailable => Err(error),
        Err(error) => {
            tracing::warn!(error = %error, "a batch of steps failed and is tried one by one");
            isolate(app).await?;
            Ok(Some(Progress::More))
        }
    }
}

/// Tries each due token on its own, so that one that cannot be executed holds nobody up.
async fn isolate(app: &App) -> Result<()> {
    let due = claim::peek(&*app.read().await?, app.clock().now()).await?;
    for token in due {
        if let Err(error) = round(app, Claim::One(&token)).await {
            if error.code() == Code::Unavailable {
                return Err(error);
            }
            poison::postpone(app, &token, &error).await?;
        }
    }
    Ok(())
}

/// One transaction. A panic in it is an error like any other.
async fn round(app: &App, claim: Claim<'_>) -> Result<Found> {
    surviving_panics(app.transact(async |tx| advance_in(tx, claim).await)).await
}

async fn advance_in(tx: &mut Tx, claim: Claim<'_>) -> Result<Found> {
    let tokens = claim.take_in(tx).await?;
    if tokens.is_empty() {
        return Ok(Found::Nothing);
    }
    let mut found = Found::Held;
    // A step that is tried on its own breaks on its own: those behind it are left to later rounds.
    let mut room = if matches!(claim, Claim::One(_)) { Room::for_due_steps() } else { Room::default() };
    for (env, tokens) in by_environment(tokens) {
        if advance_environment_in(tx, env, tokens, &mut room).await? {
            found = Found::Moved;
        }
    }
    Ok(found)
}

/// Tokens by environment, in an order that every worker keeps.
fn by_environment(tokens: Vec<Token>) -> BTreeMap<EnvId, Vec<Token>> {
    let mut groups: BTreeMap<EnvId, Vec<Token>> = BTreeMap::new();
    for token in tokens {
        groups.entry(token.environment_id).or_default().push(token);
    }
    groups
}

/// Executes the tokens of one environment. Gives false when all of their runs were held by others.
async fn advance_environment_in(tx: &mut Tx, env: EnvId, mut tokens: Vec<Token>, room: &mut Room) -> Result<bool> {
    let runs = claim::lock_runs(tx.conn(), env, &tokens).await?;
    tokens.retain(|token| runs.contains_key(&token.run_id));
    if tokens.is_empty() {
        return Ok(false);
    }
    let mut world = load::World::load(tx.conn(), env, runs).await?;
    world.look_back(tx.conn(), env, &tokens).await?;
    let mut advance = Advance::new(*room);
    execute::all_in(tx, env, &world, tokens, &mut advance).await?;
    onward::go_on(tx, env, &mut world, &mut advance)?;
    *room = advance.room;
    settle::advance_in(tx, env, &world, advance).await?;
    Ok(true)
}
