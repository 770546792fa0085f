//! Tokens: where runs are, and how a worker comes by them without waiting for another.
//!
//! Work is taken by lane, and within a lane by turns from every environment that has any: a million bulk starts of
//! one do not hold up a single start of another. The indexes are walked from environment to environment, so that
//! looking costs by their number and not by that of the tokens. Each candidate is then looked up by its key: the table
//! grows from nothing to millions and back, and a plan made for one size must do for the other.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, SmallInt, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::clock::Time;
use crate::db::schema::{runs, tokens};
use crate::db::{Prepared, Tx};
use crate::error::Result;
use crate::flows::run::Run;
use crate::ids::{CardId, EnvId, RunId};

/// The most tokens of each kind that a round takes. A card locks a feed until the commit, so not too many.
const BATCH: i64 = 200;

/// The lane of what customers wait for, and that of bulk starts.
const REACTION_LANE: i16 = 0;
const LAST_LANE: i16 = 3;

/// The step is to be executed.
pub(super) const READY: &str = "ready";
/// The step is a wait that ends at `wake_at`.
pub(super) const WAITING: &str = "waiting";
/// The step is to be executed again at `wake_at`.
pub(super) const RETRYING: &str = "retrying";
/// The step was reached in this round, and the token has no row yet.
const FRESH: &str = "fresh";

/// The lane of runs that a timer has woken.
const TIMER_LANE: i16 = 1;

/// A place where a run is.
#[derive(Clone, Debug, Queryable, Selectable, QueryableByName)]
#[diesel(table_name = tokens, check_for_backend(diesel::pg::Pg))]
pub(super) struct Token {
    pub environment_id: EnvId,
    pub run_id: RunId,
    pub step_key: String,
    pub status: String,
    pub lane: i16,
    pub wake_at: Time,
    pub attempts: i16,
    /// The card whose events the step waits for.
    pub wait_card: Option<CardId>,
    /// When that wait ends, whatever happens.
    pub wait_until: Option<Time>,
    /// When the step was first executed, where it takes more than one round.
    pub reached_at: Option<Time>,
}

impl Token {
    /// A place that a run has come to in this round.
    pub fn reached(environment_id: EnvId, run_id: RunId, step: &str, lane: i16, wake_at: Time) -> Token {
        Token {
            environment_id,
            run_id,
            step_key: step.to_owned(),
            status: FRESH.to_owned(),
            lane,
            wake_at,
            attempts: 0,
            wait_card: None,
            wait_until: None,
            reached_at: None,
        }
    }

    /// Tells whether the step has waited and its time is over.
    pub fn waited(&self) -> bool {
        self.status == WAITING
    }

    /// Tells whether the token has no row yet.
    pub fn fresh(&self) -> bool {
        self.status == FRESH
    }

    /// The lane of the steps behind this one.
    pub fn lane_after(&self) -> i16 {
        if self.waited() { TIMER_LANE } else { self.lane }
    }
}

/// Which tokens a round works on.
#[derive(Clone, Copy)]
pub(super) enum Claim<'a> {
    /// Whatever is due: ready ones by lane, and timers that have run out.
    Due,
    /// Ready ones for which a customer waits.
    Reactions,
    One(&'a Token),
}

impl Claim<'_> {
    /// Locks tokens until the end of the transaction, passing over those that others hold.
    pub async fn take_in(self, tx: &Tx) -> Result<Vec<Token>> {
        let token = match self {
            Claim::Due => {
                let mut due = ready(tx.conn(), LAST_LANE).await?;
                due.extend(timers(tx.conn(), tx.now()).await?);
                return Ok(due);
            }
            Claim::Reactions => return ready(tx.conn(), REACTION_LANE).await,
            Claim::One(token) => token,
        };
        let one = tokens::table
            .find((token.environment_id, token.run_id, &token.step_key))
            .select(Token::as_select())
            .for_update()
            .skip_locked();
        Ok(one.load(&mut tx.conn()).await?)
    }
}

/// Locks ready tokens of the lanes up to one, the most urgent lane first, environments by turns.
///
/// Candidates are twice as many as are taken, so that two workers find enough beside each other.
async fn ready(conn: &AsyncPgConnection, last: i16) -> Result<Vec<Token>> {
    let query = sql_query(
        "WITH RECURSIVE place AS (
             (SELECT lane, environment_id FROM tokens WHERE status = 'ready' AND lane <= $2
              ORDER BY lane, environment_id LIMIT 1)
             UNION ALL
             SELECT next.lane, next.environment_id FROM place, LATERAL (
                 SELECT lane, environment_id FROM tokens
                 WHERE status = 'ready' AND lane <= $2 AND (lane, environment_id) > (place.lane, place.environment_id)
                 ORDER BY lane, environment_id LIMIT 1) AS next
         ), candidate AS MATERIALIZED (
             SELECT place.environment_id, turn.run_id, turn.step_key
             FROM place, LATERAL (
                 SELECT run_id, step_key, wake_at, row_number() OVER (ORDER BY wake_at) AS turn FROM (
                     SELECT run_id, step_key, wake_at FROM tokens
                     WHERE status = 'ready' AND lane = place.lane AND environment_id = place.environment_id
                     ORDER BY wake_at LIMIT GREATEST(8, 2 * $1 / (SELECT count(*) FROM place))) AS first) AS turn
             ORDER BY place.lane, turn.turn, turn.wake_at LIMIT 2 * $1
         )
         SELECT taken.* FROM candidate CROSS JOIN LATERAL (
             SELECT * FROM tokens
             WHERE tokens.environment_id = candidate.environment_id AND tokens.run_id = candidate.run_id
               AND tokens.step_key = candidate.step_key AND tokens.status = 'ready'
             FOR UPDATE SKIP LOCKED) AS taken
         LIMIT $1",
    )
    .bind::<BigInt, _>(BATCH)
    .bind::<SmallInt, _>(last);
    Ok(Prepared(query).load(&mut &*conn).await?)
}

/// Locks tokens whose timers have run out, environments by turns.
async fn timers(conn: &AsyncPgConnection, now: Time) -> Result<Vec<Token>> {
    let query = sql_query(
        "WITH RECURSIVE place AS (
             (SELECT environment_id FROM tokens WHERE status <> 'ready' ORDER BY environment_id LIMIT 1)
             UNION ALL
             SELECT next.environment_id FROM place, LATERAL (
                 SELECT environment_id FROM tokens
                 WHERE status <> 'ready' AND environment_id > place.environment_id
                 ORDER BY environment_id LIMIT 1) AS next
         ), candidate AS MATERIALIZED (
             SELECT place.environment_id, turn.run_id, turn.step_key
             FROM place, LATERAL (
                 SELECT run_id, step_key, wake_at, row_number() OVER (ORDER BY wake_at) AS turn FROM (
                     SELECT run_id, step_key, wake_at FROM tokens
                     WHERE status <> 'ready' AND environment_id = place.environment_id AND wake_at <= $2
                     ORDER BY wake_at LIMIT 2 * $1) AS first) AS turn
             ORDER BY turn.turn, turn.wake_at LIMIT 2 * $1
         )
         SELECT taken.* FROM candidate CROSS JOIN LATERAL (
             SELECT * FROM tokens
             WHERE tokens.environment_id = candidate.environment_id AND tokens.run_id = candidate.run_id
               AND tokens.step_key = candidate.step_key AND tokens.status <> 'ready' AND tokens.wake_at <= $2
             FOR UPDATE SKIP LOCKED) AS taken
         LIMIT $1",
    )
    .bind::<BigInt, _>(BATCH)
    .bind::<Timestamptz, _>(now);
    Ok(Prepared(query).load(&mut &*conn).await?)
}

/// Some of the due tokens as they are, without locks.
pub(super) async fn peek(conn: &AsyncPgConnection, now: Time) -> Result<Vec<Token>> {
    let ready = tokens::table.filter(tokens::status.eq(READY)).order((tokens::lane, tokens::environment_id));
    let timers = tokens::table.filter(tokens::status.ne(READY)).filter(tokens::wake_at.le(now)).order(tokens::wake_at);
    let mut due: Vec<Token> = ready.limit(BATCH).select(Token::as_select()).load(&mut &*conn).await?;
    due.extend(timers.limit(BATCH).select(Token::as_select()).load::<Token>(&mut &*conn).await?);
    Ok(due)
}

#[derive(QueryableByName)]
struct Next {
    #[diesel(sql_type = diesel::sql_types::Nullable<Timestamptz>)]
    wake_at: Option<Time>,
}

/// When the next timer runs out.
pub(super) async fn next_wake(conn: &AsyncPgConnection) -> Result<Option<Time>> {
    let query = sql_query(
        "WITH RECURSIVE place AS (
             (SELECT environment_id, wake_at FROM tokens WHERE status <> 'ready'
              ORDER BY environment_id, wake_at LIMIT 1)
             UNION ALL
             SELECT next.environment_id, next.wake_at FROM place, LATERAL (
                 SELECT environment_id, wake_at FROM tokens
                 WHERE status <> 'ready' AND environment_id > place.environment_id
                 ORDER BY environment_id, wake_at LIMIT 1) AS next
         )
         SELECT min(wake_at) AS wake_at FROM place",
    );
    let next: Next = Prepared(query).get_result(&mut &*conn).await?;
    Ok(next.wake_at)
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
