//! Steps whose execution breaks: tried again with growing pauses, then failed so that the run can end.

use std::collections::HashMap;
use std::time::Duration;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::claim::{self, Claim, READY, RETRYING, Token};
use super::load;
use super::settle::{self, Outcome, Settled};
use crate::app::App;
use crate::db::Tx;
use crate::db::schema::tokens;
use crate::error::{Error, Result};

/// Attempts after which a step is given up.
const ATTEMPTS: i16 = 5;
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Puts a token off, and fails its step when it has broken often enough.
///
/// Two transactions: what breaks the second cannot undo the pause, so the token never holds up the others.
pub(super) async fn postpone(app: &App, token: &Token, cause: &Error) -> Result<()> {
    tracing::error!(
        env.id = %token.environment_id,
        flow.run.id = %token.run_id,
        flow.step = token.step_key,
        attempt = token.attempts + 1,
        error = %cause,
        "a step could not be executed"
    );
    app.transact(async |tx| pause_in(tx, token).await).await?;
    if token.attempts + 1 < ATTEMPTS {
        return Ok(());
    }
    let failed = app.transact(async |tx| fail_in(tx, token).await).await;
    if let Err(error) = failed {
        tracing::error!(flow.run.id = %token.run_id, error = %error, "a step could not even be failed");
    }
    Ok(())
}

async fn pause_in(tx: &mut Tx, token: &Token) -> Result<()> {
    let pause = FIRST_PAUSE * 5_u32.saturating_pow(u32::from(token.attempts.unsigned_abs()).min(4));
    // A wait that is over must not begin anew.
    let status = if token.status == READY { RETRYING } else { token.status.as_str() };
    diesel::update(tokens::table.find((token.environment_id, token.run_id, &token.step_key)))
        .set((
            tokens::status.eq(status),
            tokens::attempts.eq(token.attempts.saturating_add(1)),
            tokens::wake_at.eq(tx.now().plus(pause)),
        ))
        .execute(&mut tx.conn())
        .await?;
    Ok(())
}

async fn fail_in(tx: &mut Tx, token: &Token) -> Result<()> {
    let env = token.environment_id;
    let tokens = Claim::One(token).take_in(tx).await?;
    let runs = claim::lock_runs(tx.conn(), env, &tokens).await?;
    let requests = load::requests(tx.conn(), env, runs.values()).await?;
    let outcomes = tokens.into_iter().filter(|token| runs.contains_key(&token.run_id));
    let outcome = || Outcome::Failed("the step could not be executed".to_owned());
    let outcomes = outcomes.map(|token| Settled::new(tx, token, outcome(), None)).collect();
    let round = settle::Round { runs: &runs, requests: &requests, graphs: &HashMap::new(), past: settle::Past::Steps };
    settle::write_in(tx, env, round, outcomes, Vec::new()).await
}
