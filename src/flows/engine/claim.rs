//! Tokens: where runs are, and how a worker comes by them without waiting for another.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::clock::Time;
use crate::db::Tx;
use crate::db::schema::{runs, tokens};
use crate::error::Result;
use crate::flows::run::Run;
use crate::ids::{EnvId, RunId};

/// The most tokens of each kind that a round takes. A card locks a feed until the commit, so not too many.
const BATCH: i64 = 100;

/// The step is to be executed.
pub(super) const READY: &str = "ready";
/// The step is a wait that ends at `wake_at`.
pub(super) const WAITING: &str = "waiting";
/// The step is to be executed again at `wake_at`.
pub(super) const RETRYING: &str = "retrying";

/// A place where a run is.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = tokens)]
pub(super) struct Token {
    pub environment_id: EnvId,
    pub run_id: RunId,
    pub step_key: String,
    pub status: String,
    pub lane: i16,
    pub attempts: i16,
}

impl Token {
    /// Tells whether the step has waited and its time is over.
    pub fn waited(&self) -> bool {
        self.status == WAITING
    }
}

/// Which tokens a round works on.
#[derive(Clone, Copy)]
pub(super) enum Claim<'a> {
    /// Whatever is due: ready ones by lane, and timers that have run out.
    Due,
    One(&'a Token),
}

impl Claim<'_> {
    /// Locks tokens until the end of the transaction, passing over those that others hold.
    pub async fn take_in(self, tx: &Tx) -> Result<Vec<Token>> {
        let Claim::One(token) = self else {
            let mut due = ready(BATCH).for_update().skip_locked().load::<Token>(&mut tx.conn()).await?;
            due.extend(timers(tx.now(), BATCH).for_update().skip_locked().load::<Token>(&mut tx.conn()).await?);
            return Ok(due);
        };
        let one = tokens::table
            .find((token.environment_id, token.run_id, &token.step_key))
            .select(Token::as_select())
            .for_update()
            .skip_locked();
        Ok(one.load(&mut tx.conn()).await?)
    }
}

#[diesel::dsl::auto_type]
fn ready(most: i64) -> _ {
    let select: diesel::dsl::AsSelect<Token, diesel::pg::Pg> = Token::as_select();
    tokens::table.filter(tokens::status.eq("ready")).order((tokens::lane, tokens::wake_at)).limit(most).select(select)
}

#[diesel::dsl::auto_type]
fn timers(now: Time, most: i64) -> _ {
    let select: diesel::dsl::AsSelect<Token, diesel::pg::Pg> = Token::as_select();
    tokens::table
        .filter(tokens::status.ne("ready"))
        .filter(tokens::wake_at.le(now))
        .order(tokens::wake_at)
        .limit(most)
        .select(select)
}

/// The due tokens as they are, without locks.
pub(super) async fn peek(conn: &AsyncPgConnection, now: Time) -> Result<Vec<Token>> {
    let mut due = ready(BATCH).load::<Token>(&mut &*conn).await?;
    due.extend(timers(now, BATCH).load::<Token>(&mut &*conn).await?);
    Ok(due)
}

/// When the next timer runs out.
pub(super) async fn next_wake(conn: &AsyncPgConnection) -> Result<Option<Time>> {
    let next = tokens::table.filter(tokens::status.ne(READY)).order(tokens::wake_at).select(tokens::wake_at);
    Ok(next.first(&mut &*conn).await.optional()?)
}

/// Locks the runs of tokens, passing over those that others hold.
pub(super) async fn lock_runs(conn: &AsyncPgConnection, env: EnvId, tokens: &[Token]) -> Result<HashMap<RunId, Run>> {
    let mut ids: Vec<RunId> = tokens.iter().map(|token| token.run_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let locked: Vec<Run> = runs::table
        .filter(runs::environment_id.eq(env).and(runs::id.eq_any(ids)))
        .order(runs::id)
        .select(Run::as_select())
        .for_update()
        .skip_locked()
        .load(&mut &*conn)
        .await?;
    Ok(locked.into_iter().map(|run| (run.id, run)).collect())
}
