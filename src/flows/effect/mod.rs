//! Effects: requests to other systems that steps make.
//!
//! An effect is first an intent, committed with the checkpoint of its step; then it is performed outside of any
//! transaction, each attempt announced before and recorded after; its outcome wakes the run. A process that dies in
//! the middle leaves an attempt of which nobody knows what became: it is marked `unknown` and repeated with the same
//! `idempotency-key`. An effect that was interrupted again and again is left to a member, who resolves it.
//!
//! Invariants: one effect for a step of a run; at most one attempt of it under way, fenced by a lease; the key
//! never changes.

mod perform;
mod resolve;
mod send;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, Jsonb, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;

pub use perform::Performer;
pub use resolve::{Resolution, resolve};

use crate::clock::Time;
use crate::db::schema::{effect_attempts, effects};
use crate::db::{Prepared, Tx};
use crate::error::Result;
use crate::ids::{EnvId, OutgoingCredentialId, RunId};
use crate::realtime::{Announcement, Work};

/// It will be performed when it is due.
pub const INTENDED: &str = "intended";
/// An attempt is under way.
pub const PERFORMING: &str = "performing";
pub const SUCCEEDED: &str = "succeeded";
pub const FAILED: &str = "failed";
/// Nobody knows whether it took place.
pub const UNKNOWN: &str = "unknown";

/// A request of a step of a run.
#[derive(Clone, Debug, Queryable, Selectable, QueryableByName)]
#[diesel(table_name = effects, check_for_backend(diesel::pg::Pg))]
pub struct Effect {
    pub environment_id: EnvId,
    pub run_id: RunId,
    pub step_key: String,
    pub status: String,
    pub method: String,
    pub url: String,
    /// Pairs of name and value.
    pub headers: Value,
    pub body: Option<String>,
    pub timeout_seconds: i16,
    pub credential_id: Option<OutgoingCredentialId>,
    pub attempts: i16,
    /// How many attempts were answered badly, or not.
    pub failures: i16,
    /// How many attempts ended with the process that made them.
    pub interruptions: i16,
    pub due_at: Time,
    /// `{status, body}` or `{error}` once it is over.
    pub outcome: Option<Value>,
    pub created_at: Time,
    pub finished_at: Option<Time>,
}

impl Effect {
    /// By which the other system recognises a repeat: the same for all attempts.
    pub fn key(&self) -> String {
        format!("{}:{}", self.run_id, self.step_key)
    }

    pub fn over(&self) -> bool {
        matches!(&*self.status, SUCCEEDED | FAILED)
    }
}

/// One try of an effect.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = effect_attempts)]
pub struct Attempt {
    pub run_id: RunId,
    pub step_key: String,
    /// Counted from 1.
    pub attempt: i16,
    pub status: String,
    pub http_status: Option<i16>,
    /// A word for what went wrong where there was no whole answer.
    pub error: Option<String>,
    pub started_at: Time,
    pub finished_at: Option<Time>,
}

/// A request that shall be made.
#[derive(Debug)]
pub(in crate::flows) struct Intent {
    pub run: RunId,
    pub step_key: String,
    pub method: String,
    pub url: String,
    pub headers: Value,
    pub body: Option<String>,
    pub timeout_seconds: i16,
    pub credential: Option<OutgoingCredentialId>,
}

/// Commits to requests. Those that steps of runs have already stay as they are.
pub(in crate::flows) async fn intend_in(tx: &mut Tx, env: EnvId, intents: &[Intent]) -> Result<()> {
    if intents.is_empty() {
        return Ok(());
    }
    let column = |part: fn(&Intent) -> &str| intents.iter().map(part).collect::<Vec<_>>();
    let insert = sql_query(
        "INSERT INTO effects (environment_id, run_id, step_key, status, method, url, headers, body, timeout_seconds,
                              credential_id, due_at, created_at)
         SELECT $1, run_id, step_key, 'intended', method, url, headers, body, timeout_seconds, credential_id, $2, $2
         FROM UNNEST($3::uuid[], $4::text[], $5::text[], $6::text[], $7::jsonb[], $8::text[], $9::smallint[], $10::uuid[])
              AS new (run_id, step_key, method, url, headers, body, timeout_seconds, credential_id)
         ON CONFLICT (environment_id, run_id, step_key) DO NOTHING",
    )
    .bind::<SqlUuid, _>(env)
    .bind::<Timestamptz, _>(tx.now())
    .bind::<Array<SqlUuid>, _>(intents.iter().map(|intent| intent.run).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(column(|intent| &intent.step_key))
    .bind::<Array<Text>, _>(column(|intent| &intent.method))
    .bind::<Array<Text>, _>(column(|intent| &intent.url))
    .bind::<Array<Jsonb>, _>(intents.iter().map(|intent| intent.headers.clone()).collect::<Vec<_>>())
    .bind::<Array<Nullable<Text>>, _>(intents.iter().map(|intent| intent.body.as_deref()).collect::<Vec<_>>())
    .bind::<Array<SmallInt>, _>(intents.iter().map(|intent| intent.timeout_seconds).collect::<Vec<_>>())
    .bind::<Array<Nullable<SqlUuid>>, _>(intents.iter().map(|intent| intent.credential).collect::<Vec<_>>());
    Prepared(insert).execute(&mut tx.conn()).await?;
    tx.announce(Announcement::Wake(Work::Effects));
    Ok(())
}

/// The effects of some runs, oldest first.
pub(in crate::flows) async fn of_runs(conn: &AsyncPgConnection, env: EnvId, runs: &[RunId]) -> Result<Vec<Effect>> {
    let found = effects::table
        .filter(effects::environment_id.eq(env).and(effects::run_id.eq_any(runs)))
        .order((effects::created_at, effects::step_key))
        .select(Effect::as_select());
    Ok(found.load(&mut &*conn).await?)
}

/// The attempts of the effects of some runs, in their order.
pub(in crate::flows) async fn attempts(conn: &AsyncPgConnection, env: EnvId, runs: &[RunId]) -> Result<Vec<Attempt>> {
    let found = effect_attempts::table
        .filter(effect_attempts::environment_id.eq(env).and(effect_attempts::run_id.eq_any(runs)))
        .order((effect_attempts::run_id, effect_attempts::step_key, effect_attempts::attempt))
        .select(Attempt::as_select());
    Ok(found.load(&mut &*conn).await?)
}

/// Readies the step of an effect that is over.
async fn wake_run_in(tx: &mut Tx, effect: &Effect) -> Result<()> {
    let wake = sql_query(
        "UPDATE tokens SET status = 'ready', wake_at = $4
         WHERE environment_id = $1 AND run_id = $2 AND step_key = $3",
    )
    .bind::<SqlUuid, _>(effect.environment_id)
    .bind::<SqlUuid, _>(effect.run_id)
    .bind::<Text, _>(&effect.step_key)
    .bind::<Timestamptz, _>(tx.now());
    Prepared(wake).execute(&mut tx.conn()).await?;
    tx.announce(Announcement::Wake(Work::Flows));
    Ok(())
}
