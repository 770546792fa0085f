//! Writes what became of steps: outcomes, events, the next tokens, and whether the run is over.

use std::collections::HashMap;
use std::sync::Arc;

use diesel::sql_query;
use diesel::sql_types::{Array, Integer, Json, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use serde_json::{Map, Value, json};

use super::advance::Advance;
use super::claim::{READY, Token, WAITING};
use super::load::{Requests, World};
use crate::clock::Time;
use crate::db::{Prepared, Tx};
use crate::error::Result;
use crate::events::{NewEvent, record_in};
use crate::flows::cancel::drop_tokens_in;
use crate::flows::graph::Graph;
use crate::flows::run::{Run, RunStatus};
use crate::ids::{BatchId, CardId, EnvId, EventId, RunId};

/// The year 9000: later than any timer, and still a time that every part of the system can hold.
const NEVER: i64 = 221_845_392_000_000;
/// What the lanes are called, in their order.
pub(in crate::flows) const LANES: [&str; 4] = ["interaction", "timer", "single", "bulk"];

/// What became of a step.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The step has done its work; its children on the path go on.
    Done { output: Value, path: Option<String> },
    /// The step waits until then.
    Asleep(Time),
    /// The step waits for something to be done to a card, at most until then.
    Listening { card: CardId, until: Time },
    /// The step waits for a request that is made outside.
    Acting,
    /// The step is left for another round.
    Deferred,
    /// The branch ends here.
    Failed(String),
    /// The whole run ends here.
    Ended,
    /// The run was over before the step could begin.
    Dropped,
}

/// A token whose step has been dealt with.
pub(super) struct Settled {
    pub token: Token,
    pub outcome: Outcome,
    /// What the step was given, for the history of the run.
    pub input: Option<Value>,
    /// The event that will tell of it: it sorts by when the step was dealt with.
    event: EventId,
}

impl Settled {
    pub fn new(tx: &Tx, token: Token, outcome: Outcome, input: Option<Value>) -> Settled {
        Settled { token, outcome, input, event: tx.id() }
    }
}

/// The runs that the outcomes belong to.
pub(super) struct Round<'a> {
    pub runs: &'a HashMap<RunId, Run>,
    pub requests: &'a Requests,
    pub graphs: &'a HashMap<BatchId, Arc<Graph>>,
    pub past: Past,
}

/// What the runs may have behind them.
#[derive(Clone, Copy)]
pub(super) enum Past {
    /// They begin in this transaction.
    Nothing,
    /// A run that was moved to another version may come by a step again.
    Steps,
}

impl<'a> Round<'a> {
    pub fn of(world: &'a World) -> Round<'a> {
        Round { runs: &world.runs, requests: &world.requests, graphs: &world.graphs, past: Past::Steps }
    }
}

/// How a run has changed in this round.
struct Tally {
    open: i32,
    failed: i32,
    ended: bool,
}

/// The rows to write, by column.
#[derive(Default)]
struct Columns {
    gone: (Vec<RunId>, Vec<String>),
    parked: Vec<Parked>,
    next: Vec<Next>,
    finished: Vec<Finished>,
    events: Vec<NewEvent>,
}

struct Finished {
    run: RunId,
    key: String,
    kind: &'static str,
    status: &'static str,
    path: Option<String>,
    input: Option<Value>,
    output: Value,
    message: Option<String>,
    /// When the step was first executed, where that was in an earlier round.
    reached_at: Option<Time>,
}

/// A token that comes.
struct Next {
    run: RunId,
    key: String,
    status: &'static str,
    lane: i16,
    wake_at: Time,
    /// When the step was reached, where it waits.
    reached_at: Option<Time>,
}

/// A token that stays where it is.
struct Parked {
    run: RunId,
    key: String,
    status: &'static str,
    wake_at: Time,
    card: Option<CardId>,
    until: Option<Time>,
}

/// Places the cards that were drawn, and writes what became of the steps and of runs that have rows.
pub(super) async fn advance_in(tx: &mut Tx, env: EnvId, world: &World, advance: Advance) -> Result<()> {
    let events = advance.delivery.place_in(tx, env).await?;
    write_in(tx, env, Round::of(world), advance.settled, events).await
}

/// Writes the outcomes of a round with the events of what came before them, and the runs that it changed.
pub(super) async fn write_in(
    tx: &mut Tx,
    env: EnvId,
    round: Round<'_>,
    outcomes: Vec<Settled>,
    events: Vec<NewEvent>,
) -> Result<()> {
    let changes = write_steps_in(tx, env, round, outcomes, events).await?;
    update_runs_in(tx, env, &changes).await
}

/// Writes the outcomes of a round with the events of what came before them, and gives the runs that it changed. A run's
/// `end` counts after the run's other steps of the same round.
pub(super) async fn write_steps_in(
    tx: &mut Tx,
    env: EnvId,
    round: Round<'_>,
    outcomes: Vec<Settled>,
    events: Vec<NewEvent>,
) -> Result<Vec<Change>> {
    let mut tallies: HashMap<RunId, Tally> = HashMap::new();
    let mut columns = Columns { events, ..Columns::default() };
    for settled in outcomes {
        let Some(run) = round.runs.get(&settled.token.run_id) else { continue };
        let tally =
            tallies.entry(run.id).or_insert(Tally { open: run.open_steps, failed: run.failed_steps, ended: false });
        observe(&settled, tx.now());
        columns.add(&round, run, tally, settled, tx.now());
    }
    columns.next.retain(|next| !tallies[&next.run].ended);
    let mut changes: Vec<Change> = tallies.iter().filter_map(|(id, tally)| tally.change(&round.runs[id])).collect();
    changes.sort_unstable_by_key(|change| change.run);
    for change in changes.iter().filter(|change| change.status != RunStatus::Running) {
        let failed = change.status == RunStatus::Failed;
        let name = if failed { "action-flow-failed" } else { "action-flow-completed" };
        let properties = failed.then(|| json!({ "reason": "step-failed" }));
        columns.events.push(event(&round, &round.runs[&change.run], name, properties));
        metrics::counter!("cardwire_flow_runs_total", "state" => change.status.word()).increment(1);
    }
    tokio::try_join!(columns.write_tokens_in(tx, env), columns.write_history_in(tx, env, round.past))?;
    let ended: Vec<RunId> = tallies.iter().filter(|(_, tally)| tally.ended).map(|(run, _)| *run).collect();
    if !ended.is_empty() {
        drop_tokens_in(tx, env, &ended).await?;
    }
    record_in(tx, env, &columns.events).await?;
    Ok(changes)
}

impl Tally {
    /// What is new about the run. In the middle of a chain it has as many open steps as before and is left alone.
    fn change(&self, run: &Run) -> Option<Change> {
        if run.status != RunStatus::Running {
            return None;
        }
        let open = if self.ended { 0 } else { self.open };
        let status = match open {
            0 if self.failed > 0 => RunStatus::Failed,
            0 => RunStatus::Completed,
            _ => RunStatus::Running,
        };
        let changed = open == 0 || open != run.open_steps || self.failed != run.failed_steps;
        changed.then_some(Change { run: run.id, status, open_steps: open, failed_steps: self.failed })
    }
}

/// What a round makes of a run.
pub(super) struct Change {
    pub run: RunId,
    pub status: RunStatus,
    pub open_steps: i32,
    pub failed_steps: i32,
}

impl Change {
    pub fn finished_at(&self, now: Time) -> Option<Time> {
        (self.status != RunStatus::Running).then_some(now)
    }
}

macro_rules! insert_steps {
    ($conflict:literal) => {
        concat!(
            "INSERT INTO run_steps (environment_id, run_id, step_key, step_type, status, output, message, path, input,
                                    started_at, finished_at, place)
             SELECT $1, UNNEST($3::uuid[]), UNNEST($4::text[]), UNNEST($5::text[]), UNNEST($6::text[]), UNNEST($7::json[]),
                    UNNEST($8::text[]), UNNEST($9::text[]), UNNEST($10::json[]), UNNEST($11::timestamptz[]), $2,
                    UNNEST($12::smallint[]) ",
            $conflict
        )
    };
}

impl Columns {
    fn add(&mut self, round: &Round<'_>, run: &Run, tally: &mut Tally, settled: Settled, now: Time) {
        let Settled { token, outcome, input, event: id } = settled;
        let graph = round.graphs.get(&run.batch_id);
        let kind = graph.and_then(|graph| graph.step(&token.step_key)).map_or("unknown", |step| step.action.kind());
        let (status, path, output, message) = match outcome {
            Outcome::Deferred => return self.defer(token, now),
            Outcome::Dropped => return self.leave(token),
            Outcome::Asleep(_) | Outcome::Listening { .. } | Outcome::Acting => return self.park(token, &outcome, now),
            Outcome::Done { output, path } => {
                for child in graph.iter().flat_map(|graph| graph.after(&token.step_key, path.as_deref())) {
                    tally.open += 1;
                    if !child.action.goes_along() {
                        let (key, lane) = (child.key.clone(), token.lane_after());
                        self.next.push(Next { run: run.id, key, status: READY, lane, wake_at: now, reached_at: None });
                    }
                }
                ("completed", path, output, None)
            }
            Outcome::Ended => {
                tally.ended = true;
                ("completed", None, Value::Object(Map::new()), None)
            }
            Outcome::Failed(message) => {
                tally.failed += 1;
                ("failed", None, Value::Object(Map::new()), Some(message))
            }
        };
        tally.open -= 1;
        let mut properties = json!({ "stepKey": token.step_key, "stepType": kind });
        if let Some(path) = &path {
            properties["path"] = Value::from(path.as_str());
        }
        if let Some(message) = &message {
            properties["message"] = Value::from(message.as_str());
        }
        let name = if message.is_some() { "action-flow-step-failed" } else { "action-flow-step-completed" };
        self.events.push(NewEvent { id: Some(id), ..event(round, run, name, Some(properties)) });
        let (key, reached_at) = (token.step_key.clone(), token.reached_at);
        self.finished.push(Finished { run: run.id, key, kind, status, path, input, output, message, reached_at });
        self.leave(token);
    }

    /// Leaves a step to another round.
    fn defer(&mut self, token: Token, now: Time) {
        if token.fresh() {
            let Token { run_id: run, step_key: key, lane, .. } = token;
            self.next.push(Next { run, key, status: READY, lane, wake_at: now, reached_at: None });
        }
    }

    /// Keeps a token where it is until something happens.
    fn park(&mut self, token: Token, outcome: &Outcome, now: Time) {
        let (status, wake_at, card, until) = match outcome {
            // What was done to the card is looked up when it can be seen that the run waits for it.
            Outcome::Listening { card, until } if token.wait_card.is_none() => (READY, now, Some(*card), Some(*until)),
            Outcome::Listening { card, until } => (WAITING, *until, Some(*card), Some(*until)),
            Outcome::Asleep(until) => (WAITING, *until, None, None),
            // Whoever makes the request readies the token.
            Outcome::Acting => (WAITING, Time::from_millisecond(NEVER), None, None),
            _ => return,
        };
        if token.fresh() {
            let (run, key, lane) = (token.run_id, token.step_key, token.lane);
            return self.next.push(Next { run, key, status, lane, wake_at, reached_at: Some(now) });
        }
        self.parked.push(Parked { run: token.run_id, key: token.step_key, status, wake_at, card, until });
    }

    fn leave(&mut self, token: Token) {
        if !token.fresh() {
            self.gone.0.push(token.run_id);
            self.gone.1.push(token.step_key);
        }
    }

    async fn write_tokens_in(&self, tx: &Tx, env: EnvId) -> Result<()> {
        if !self.gone.0.is_empty() {
            let query = sql_query(
                "DELETE FROM tokens USING UNNEST($2::uuid[], $3::text[]) AS gone (run_id, step_key)
                 WHERE tokens.environment_id = $1 AND tokens.run_id = gone.run_id AND tokens.step_key = gone.step_key",
            )
            .bind::<SqlUuid, _>(env)
            .bind::<Array<SqlUuid>, _>(&self.gone.0)
            .bind::<Array<Text>, _>(&self.gone.1);
            Prepared(query).execute(&mut tx.conn()).await?;
        }
        if !self.parked.is_empty() {
            let parked = &self.parked;
            let query = sql_query(
                "UPDATE tokens SET status = parked.status, wake_at = parked.wake_at, wait_card = parked.wait_card,
                        wait_until = parked.wait_until, reached_at = COALESCE(tokens.reached_at, $2), attempts = 0
                 FROM UNNEST($3::uuid[], $4::text[], $5::text[], $6::timestamptz[], $7::uuid[], $8::timestamptz[])
                      AS parked (run_id, step_key, status, wake_at, wait_card, wait_until)
                 WHERE tokens.environment_id = $1 AND tokens.run_id = parked.run_id
                   AND tokens.step_key = parked.step_key",
            )
            .bind::<SqlUuid, _>(env)
            .bind::<Timestamptz, _>(tx.now())
            .bind::<Array<SqlUuid>, _>(parked.iter().map(|token| token.run).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(parked.iter().map(|token| token.key.as_str()).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(parked.iter().map(|token| token.status).collect::<Vec<_>>())
            .bind::<Array<Timestamptz>, _>(parked.iter().map(|token| token.wake_at).collect::<Vec<_>>())
            .bind::<Array<Nullable<SqlUuid>>, _>(parked.iter().map(|token| token.card).collect::<Vec<_>>())
            .bind::<Array<Nullable<Timestamptz>>, _>(parked.iter().map(|token| token.until).collect::<Vec<_>>());
            Prepared(query).execute(&mut tx.conn()).await?;
        }
        if !self.next.is_empty() {
            let next = &self.next;
            let query = sql_query(
                "INSERT INTO tokens (environment_id, run_id, step_key, status, lane, wake_at, reached_at)
                 SELECT $1, UNNEST($2::uuid[]), UNNEST($3::text[]), UNNEST($4::text[]), UNNEST($5::smallint[]),
                        UNNEST($6::timestamptz[]), UNNEST($7::timestamptz[])",
            )
            .bind::<SqlUuid, _>(env)
            .bind::<Array<SqlUuid>, _>(next.iter().map(|token| token.run).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(next.iter().map(|token| token.key.as_str()).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(next.iter().map(|token| token.status).collect::<Vec<_>>())
            .bind::<Array<SmallInt>, _>(next.iter().map(|token| token.lane).collect::<Vec<_>>())
            .bind::<Array<Timestamptz>, _>(next.iter().map(|token| token.wake_at).collect::<Vec<_>>())
            .bind::<Array<Nullable<Timestamptz>>, _>(next.iter().map(|token| token.reached_at).collect::<Vec<_>>());
            Prepared(query).execute(&mut tx.conn()).await?;
        }
        Ok(())
    }

    async fn write_history_in(&self, tx: &Tx, env: EnvId, past: Past) -> Result<()> {
        if self.finished.is_empty() {
            return Ok(());
        }
        let column = |part: fn(&Finished) -> &str| self.finished.iter().map(part).collect::<Vec<_>>();
        // Looking for a step that is there costs half of an insert.
        let query = sql_query(match past {
            Past::Nothing => insert_steps!(""),
            Past::Steps => insert_steps!(
                "ON CONFLICT (environment_id, run_id, step_key) DO UPDATE
                 SET step_type = excluded.step_type, status = excluded.status, output = excluded.output,
                     message = excluded.message, path = excluded.path, input = excluded.input,
                     started_at = excluded.started_at, finished_at = excluded.finished_at, place = excluded.place"
            ),
        })
        .bind::<SqlUuid, _>(env)
        .bind::<Timestamptz, _>(tx.now())
        .bind::<Array<SqlUuid>, _>(self.finished.iter().map(|step| step.run).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(column(|step| &step.key))
        .bind::<Array<Text>, _>(column(|step| step.kind))
        .bind::<Array<Text>, _>(column(|step| step.status))
        .bind::<Array<Json>, _>(self.finished.iter().map(|step| &step.output).collect::<Vec<_>>())
        .bind::<Array<Nullable<Text>>, _>(self.finished.iter().map(|step| step.message.as_deref()).collect::<Vec<_>>())
        .bind::<Array<Nullable<Text>>, _>(self.finished.iter().map(|step| step.path.as_deref()).collect::<Vec<_>>())
        .bind::<Array<Nullable<Json>>, _>(self.finished.iter().map(|step| step.input.as_ref()).collect::<Vec<_>>())
        .bind::<Array<Timestamptz>, _>(
            self.finished.iter().map(|step| step.reached_at.unwrap_or(tx.now())).collect::<Vec<_>>(),
        )
        .bind::<Array<SmallInt>, _>(
            (0..self.finished.len()).map(|place| i16::try_from(place).unwrap_or(i16::MAX)).collect::<Vec<_>>(),
        );
        Prepared(query).execute(&mut tx.conn()).await?;
        Ok(())
    }
}

/// Measures how long a step that is dealt with has been due, by lane: the operator's view of the queue.
fn observe(settled: &Settled, now: Time) {
    let token = &settled.token;
    if token.fresh() || matches!(settled.outcome, Outcome::Deferred | Outcome::Dropped) {
        return;
    }
    let lane =
        if token.waited() { "timer" } else { LANES.get(usize::from(token.lane.unsigned_abs())).unwrap_or(&"bulk") };
    let late = now.since(token.wake_at).as_secs_f64();
    metrics::histogram!("cardwire_flow_step_delay_seconds", "lane" => lane).record(late);
}

async fn update_runs_in(tx: &Tx, env: EnvId, changes: &[Change]) -> Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let query = sql_query(
        "UPDATE runs SET status = changed.status, open_steps = changed.open_steps,
                failed_steps = changed.failed_steps, finished_at = changed.finished_at
         FROM UNNEST($2::uuid[], $3::text[], $4::int[], $5::int[], $6::timestamptz[])
              AS changed (id, status, open_steps, failed_steps, finished_at)
         WHERE runs.environment_id = $1 AND runs.id = changed.id",
    )
    .bind::<SqlUuid, _>(env)
    .bind::<Array<SqlUuid>, _>(changes.iter().map(|change| change.run).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(changes.iter().map(|change| change.status.word()).collect::<Vec<_>>())
    .bind::<Array<Integer>, _>(changes.iter().map(|change| change.open_steps).collect::<Vec<_>>())
    .bind::<Array<Integer>, _>(changes.iter().map(|change| change.failed_steps).collect::<Vec<_>>())
    .bind::<Array<Nullable<Timestamptz>>, _>(
        changes.iter().map(|change| change.finished_at(tx.now())).collect::<Vec<_>>(),
    );
    Prepared(query).execute(&mut tx.conn()).await?;
    Ok(())
}

fn event(round: &Round<'_>, run: &Run, name: &'static str, properties: Option<Value>) -> NewEvent {
    let mut event = NewEvent::new(name, run.customer_id, &run.user_id);
    event.properties = properties;
    event.platform = round.requests.platform(run);
    event
}
