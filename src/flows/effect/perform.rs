//! The worker that makes the requests: announces an attempt, makes it outside of any transaction, records it.

use std::collections::HashMap;
use std::time::Duration;

use diesel::QueryableByName;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bool, Jsonb, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use super::send::{Answer, send};
use super::{Effect, FAILED, INTENDED, PERFORMING, SUCCEEDED, UNKNOWN, wake_run_in};
use crate::app::App;
use crate::clock::Time;
use crate::db::{Prepared, Tx};
use crate::error::Result;
use crate::ids::EnvId;
use crate::realtime::Work;
use crate::worker::{Progress, Worker};

/// Requests under way at once, altogether and of one environment: who waits for a slow system is not in the way.
const MOST: usize = 256;
const MOST_OF_ONE: usize = 64;
/// The pauses before the second, third and fourth attempt.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(25)];
/// Interrupted attempts after which a member must say what became of an effect.
const MOST_INTERRUPTIONS: i16 = 10;
/// How long after its deadline an attempt that nobody recorded is taken for interrupted.
const GRACE: Duration = Duration::from_secs(5);
/// How long a round lasts when there is always more to do.
const ROUND: Duration = Duration::from_secs(1);
/// How often to look for what became due without a hint.
const LOOK: Duration = Duration::from_millis(250);

/// Performs effects that are due.
#[derive(Default)]
pub struct Performer(Mutex<Desk>);

/// What this process has under way.
#[derive(Default)]
struct Desk {
    requests: JoinSet<EnvId>,
    by_environment: HashMap<EnvId, usize>,
}

/// The right to record an attempt.
#[derive(Clone, Copy)]
struct Lease(Uuid);

impl Worker for Performer {
    const NAME: &'static str = "flow-effects";

    fn work() -> Option<Work> {
        Some(Work::Effects)
    }

    async fn run(&self, app: &App) -> Result<Progress> {
        let mut desk = self.0.lock().await;
        let started = Instant::now();
        loop {
            desk.begin(app).await?;
            if desk.requests.is_empty() {
                let next = next(&*app.read().await?).await?;
                return Ok(next.map_or(Progress::Idle, Progress::NextAt));
            }
            if started.elapsed() >= ROUND {
                return Ok(Progress::More);
            }
            tokio::select! {
                Some(done) = desk.requests.join_next() => if let Ok(env) = done {
                    desk.leave(env);
                },
                () = app.wakes().of(Work::Effects).notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }
}

impl Desk {
    async fn begin(&mut self, app: &App) -> Result<()> {
        let room = MOST.saturating_sub(self.requests.len());
        if room == 0 {
            return Ok(());
        }
        let full = self.by_environment.iter().filter(|(_, count)| **count >= MOST_OF_ONE).map(|(env, _)| *env);
        let full: Vec<EnvId> = full.collect();
        let claimed = app.transact(async |tx| claim_in(tx, &full, room).await).await?;
        for (effect, lease) in claimed {
            *self.by_environment.entry(effect.environment_id).or_default() += 1;
            let app = app.clone();
            self.requests.spawn(async move {
                let env = effect.environment_id;
                let answer = send(&app, &effect).await;
                let recorded = app.transact(async |tx| record_in(tx, &effect, lease, &answer).await).await;
                if let Err(error) = recorded {
                    // The lease runs out, and the attempt counts as interrupted.
                    tracing::error!(flow.run.id = %effect.run_id, %error, "the outcome of a request was not recorded");
                }
                env
            });
        }
        Ok(())
    }

    fn leave(&mut self, env: EnvId) {
        if let Some(count) = self.by_environment.get_mut(&env) {
            *count -= 1;
        }
        self.by_environment.retain(|_, count| *count > 0);
    }
}

/// Announces the attempts of effects that are due, environments by turns.
async fn claim_in(tx: &mut Tx, full: &[EnvId], room: usize) -> Result<Vec<(Effect, Lease)>> {
    let due: Vec<Effect> = due(tx, full, room).await?;
    if due.is_empty() {
        return Ok(Vec::new());
    }
    interrupted_in(tx, &due).await?;
    let mut claimed = Vec::with_capacity(due.len());
    for mut effect in due {
        if effect.status == PERFORMING {
            effect.interruptions += 1;
        }
        let left = effect.interruptions >= MOST_INTERRUPTIONS;
        effect.attempts += i16::from(!left);
        effect.status = if left { UNKNOWN } else { PERFORMING }.to_owned();
        let patience = Duration::from_secs(u64::from(effect.timeout_seconds.unsigned_abs())) + GRACE;
        effect.due_at = tx.now().plus(patience);
        claimed.push((effect, Lease(Uuid::from_bytes(tx.ids().bytes()))));
    }
    announce_in(tx, &claimed).await?;
    Ok(claimed.into_iter().filter(|(effect, _)| effect.status == PERFORMING).collect())
}

async fn due(tx: &Tx, full: &[EnvId], room: usize) -> Result<Vec<Effect>> {
    let query = sql_query(
        "WITH due AS (
             SELECT environment_id, run_id, step_key,
                    row_number() OVER (PARTITION BY environment_id ORDER BY due_at) AS turn
             FROM (SELECT environment_id, run_id, step_key, due_at FROM effects
                   WHERE status IN ('intended', 'performing') AND due_at <= $1 AND environment_id <> ALL($2)
                   ORDER BY due_at LIMIT 1000) AS first
         )
         SELECT effects.* FROM due JOIN effects USING (environment_id, run_id, step_key)
         WHERE due.turn <= $3 AND effects.status IN ('intended', 'performing') AND effects.due_at <= $1
         ORDER BY due.turn LIMIT $4 FOR UPDATE OF effects SKIP LOCKED",
    )
    .bind::<Timestamptz, _>(tx.now())
    .bind::<Array<SqlUuid>, _>(full)
    .bind::<BigInt, _>(i64::try_from(MOST_OF_ONE).unwrap_or(i64::MAX))
    .bind::<BigInt, _>(i64::try_from(room).unwrap_or(i64::MAX));
    Ok(Prepared(query).load(&mut tx.conn()).await?)
}

/// Marks the attempts of effects whose process is gone: nobody knows what became of them.
async fn interrupted_in(tx: &Tx, due: &[Effect]) -> Result<()> {
    let gone: Vec<&Effect> = due.iter().filter(|effect| effect.status == PERFORMING).collect();
    if gone.is_empty() {
        return Ok(());
    }
    let mark = sql_query(
        "UPDATE effect_attempts SET status = 'unknown', error = 'interrupted', finished_at = $1
         FROM UNNEST($2::uuid[], $3::uuid[], $4::text[]) AS gone (environment_id, run_id, step_key)
         WHERE effect_attempts.environment_id = gone.environment_id AND effect_attempts.run_id = gone.run_id
           AND effect_attempts.step_key = gone.step_key AND effect_attempts.status = 'performing'",
    )
    .bind::<Timestamptz, _>(tx.now())
    .bind::<Array<SqlUuid>, _>(gone.iter().map(|effect| effect.environment_id).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(gone.iter().map(|effect| effect.run_id).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(gone.iter().map(|effect| effect.step_key.as_str()).collect::<Vec<_>>());
    Prepared(mark).execute(&mut tx.conn()).await?;
    Ok(())
}

/// Writes the new state of effects, and an attempt for each that is performed.
async fn announce_in(tx: &Tx, claimed: &[(Effect, Lease)]) -> Result<()> {
    let announce = sql_query(
        "WITH new AS (
             SELECT * FROM UNNEST($2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::smallint[], $7::smallint[],
                                  $8::timestamptz[], $9::uuid[])
                 AS new (environment_id, run_id, step_key, status, attempts, interruptions, due_at, lease)
         ), attempt AS (
             INSERT INTO effect_attempts (environment_id, run_id, step_key, attempt, status, started_at)
             SELECT environment_id, run_id, step_key, attempts, 'performing', $1 FROM new WHERE status = 'performing'
         )
         UPDATE effects SET status = new.status, attempts = new.attempts, interruptions = new.interruptions,
                            due_at = new.due_at, lease = new.lease
         FROM new WHERE effects.environment_id = new.environment_id AND effects.run_id = new.run_id
           AND effects.step_key = new.step_key",
    )
    .bind::<Timestamptz, _>(tx.now())
    .bind::<Array<SqlUuid>, _>(claimed.iter().map(|(effect, _)| effect.environment_id).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(claimed.iter().map(|(effect, _)| effect.run_id).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(claimed.iter().map(|(effect, _)| effect.step_key.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(claimed.iter().map(|(effect, _)| effect.status.as_str()).collect::<Vec<_>>())
    .bind::<Array<SmallInt>, _>(claimed.iter().map(|(effect, _)| effect.attempts).collect::<Vec<_>>())
    .bind::<Array<SmallInt>, _>(claimed.iter().map(|(effect, _)| effect.interruptions).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(claimed.iter().map(|(effect, _)| effect.due_at).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(claimed.iter().map(|(_, lease)| lease.0).collect::<Vec<_>>());
    Prepared(announce).execute(&mut tx.conn()).await?;
    Ok(())
}

/// Records what came of an attempt, unless somebody else has taken the effect over meanwhile.
async fn record_in(tx: &mut Tx, effect: &Effect, lease: Lease, answer: &Answer) -> Result<()> {
    let pause = PAUSES.get(usize::from(effect.failures.unsigned_abs())).filter(|_| answer.worth_repeating());
    let status = match pause {
        _ if answer.succeeded() => SUCCEEDED,
        Some(_) => INTENDED,
        None => FAILED,
    };
    let over = status != INTENDED;
    let due_at = tx.now().plus(pause.copied().unwrap_or_default());
    let record = sql_query(
        "UPDATE effects SET status = $5, due_at = $6, outcome = $7, lease = NULL, finished_at = $8,
                            failures = failures + (NOT $9)::int
         WHERE environment_id = $1 AND run_id = $2 AND step_key = $3 AND lease = $4 AND status = 'performing'",
    )
    .bind::<SqlUuid, _>(effect.environment_id)
    .bind::<SqlUuid, _>(effect.run_id)
    .bind::<Text, _>(&effect.step_key)
    .bind::<SqlUuid, _>(lease.0)
    .bind::<Text, _>(status)
    .bind::<Timestamptz, _>(due_at)
    .bind::<Nullable<Jsonb>, _>(over.then(|| answer.outcome()))
    .bind::<Nullable<Timestamptz>, _>(over.then_some(tx.now()))
    .bind::<Bool, _>(answer.succeeded());
    if Prepared(record).execute(&mut tx.conn()).await? == 0 {
        return Ok(());
    }
    let attempt = sql_query(
        "UPDATE effect_attempts SET status = $5, http_status = $6, error = $7, finished_at = $8
         WHERE environment_id = $1 AND run_id = $2 AND step_key = $3 AND attempt = $4",
    )
    .bind::<SqlUuid, _>(effect.environment_id)
    .bind::<SqlUuid, _>(effect.run_id)
    .bind::<Text, _>(&effect.step_key)
    .bind::<SmallInt, _>(effect.attempts)
    .bind::<Text, _>(match answer {
        Answer::Lost(_) => UNKNOWN,
        _ if answer.succeeded() => SUCCEEDED,
        _ => FAILED,
    })
    .bind::<Nullable<SmallInt>, _>(answer.status())
    .bind::<Nullable<Text>, _>(answer.error())
    .bind::<Timestamptz, _>(tx.now());
    Prepared(attempt).execute(&mut tx.conn()).await?;
    metrics::counter!("cardwire_flow_requests_total", "outcome" => status).increment(1);
    if over { wake_run_in(tx, effect).await } else { Ok(()) }
}

#[derive(QueryableByName)]
struct Next {
    #[diesel(sql_type = Nullable<Timestamptz>)]
    due_at: Option<Time>,
}

/// When the next effect is due.
async fn next(conn: &AsyncPgConnection) -> Result<Option<Time>> {
    let query = sql_query("SELECT min(due_at) AS due_at FROM effects WHERE status IN ('intended', 'performing')");
    let next: Next = Prepared(query).get_result(&mut &*conn).await?;
    Ok(next.due_at)
}
