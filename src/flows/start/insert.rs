//! The rows of a start request, by whole columns.

use std::collections::{HashMap, HashSet};

use diesel::sql_types::{Array, Bool, Integer, Json, Jsonb, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{QueryableByName, sql_query};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::{Map, Value};

use super::launch::Launch;
use super::{Item, Mode, Part};
use crate::clock::Time;
use crate::db::{Prepared, Tx};
use crate::error::Result;
use crate::events::{EventContext, NewEvent};
use crate::flows::context;
use crate::flows::engine::load::{Batch, Requests, Start};
use crate::flows::run::Run;
use crate::ids::{BatchId, CustomerId, EnvId, RunId};
use crate::realtime::{Announcement, Work};

#[derive(QueryableByName)]
struct Begun {
    #[diesel(sql_type = SqlUuid)]
    run_id: RunId,
}

/// Claims the invocations of runs, and gives the runs whose invocation is new.
///
/// Rows are inserted in the order of the key, so that two requests with the same invocations wait for each other
/// and do not deadlock.
pub(super) async fn invocations_in(
    tx: &mut Tx,
    env: EnvId,
    launch: &Launch,
    runs: &[(Run, usize)],
) -> Result<HashSet<RunId>> {
    if runs.is_empty() {
        return Ok(HashSet::new());
    }
    let mut runs: Vec<&Run> = runs.iter().map(|(run, _)| run).collect();
    runs.sort_by_key(|run| (&run.invocation, run.customer_id));
    let query = sql_query(
        "INSERT INTO invocations (environment_id, flow_id, is_test, invocation, customer_id, run_id)
         SELECT $1, $2, $3, UNNEST($4::text[]), UNNEST($5::uuid[]), UNNEST($6::uuid[])
         ON CONFLICT DO NOTHING RETURNING run_id",
    )
    .bind::<SqlUuid, _>(env)
    .bind::<SqlUuid, _>(launch.flow.id)
    .bind::<Bool, _>(launch.caller.mode == Mode::Test)
    .bind::<Array<Text>, _>(runs.iter().map(|run| run.invocation.as_str()).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(runs.iter().map(|run| run.customer_id).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(runs.iter().map(|run| run.id).collect::<Vec<_>>());
    let begun: Vec<Begun> = Prepared(query).load(&mut tx.conn()).await?;
    Ok(begun.into_iter().map(|begun| begun.run_id).collect())
}

/// Inserts runs as they are when their first steps are done.
pub(super) async fn runs_in(tx: &mut Tx, env: EnvId, launch: &Launch, runs: &[Run]) -> Result<()> {
    if runs.is_empty() {
        return Ok(());
    }
    let query = sql_query(
        "INSERT INTO runs (environment_id, flow_id, flow_version, is_test, started_at, id, lifecycle_id, batch_id,
                           customer_id, user_id, invocation, hops, status, open_steps, failed_steps, variables,
                           finished_at)
         SELECT $1, $2, $3, $4, $5, UNNEST($6::uuid[]), UNNEST($7::uuid[]), UNNEST($8::uuid[]), UNNEST($9::uuid[]),
                UNNEST($10::text[]), UNNEST($11::text[]), UNNEST($12::int2[]), UNNEST($13::text[]), UNNEST($14::int4[]),
                UNNEST($15::int4[]), UNNEST($16::json[]), UNNEST($17::timestamptz[])",
    )
    .bind::<SqlUuid, _>(env)
    .bind::<SqlUuid, _>(launch.flow.id)
    .bind::<Integer, _>(launch.version)
    .bind::<Bool, _>(launch.caller.mode == Mode::Test)
    .bind::<Timestamptz, _>(tx.now())
    .bind::<Array<SqlUuid>, _>(runs.iter().map(|run| run.id).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(runs.iter().map(|run| run.lifecycle_id).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(runs.iter().map(|run| run.batch_id).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(runs.iter().map(|run| run.customer_id).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(runs.iter().map(|run| run.user_id.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(runs.iter().map(|run| run.invocation.as_str()).collect::<Vec<_>>())
    .bind::<Array<SmallInt>, _>(runs.iter().map(|run| run.hops).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(runs.iter().map(|run| run.status.word()).collect::<Vec<_>>())
    .bind::<Array<Integer>, _>(runs.iter().map(|run| run.open_steps).collect::<Vec<_>>())
    .bind::<Array<Integer>, _>(runs.iter().map(|run| run.failed_steps).collect::<Vec<_>>())
    .bind::<Array<Nullable<Json>>, _>(runs.iter().map(|run| run.variables.as_ref()).collect::<Vec<_>>())
    .bind::<Array<Nullable<Timestamptz>>, _>(runs.iter().map(|run| run.finished_at).collect::<Vec<_>>());
    Prepared(query).execute(&mut tx.conn()).await?;
    metrics::counter!("cardwire_flow_runs_total", "state" => "started").increment(runs.len() as u64);
    Ok(())
}

/// Requests, what they resolved to, and the runs that began with the places of their entries.
pub(super) struct Given<'a> {
    pub parts: &'a [Part],
    pub items: &'a [Item<'a>],
    /// The shared variables of each entry.
    pub shared: Vec<Map<String, Value>>,
    pub begun: &'a [(Run, usize)],
}

/// Keeps what the runs share. A request that began nothing leaves no trace.
pub(super) async fn requests_in(tx: &mut Tx, env: EnvId, launch: &Launch, given: &Given<'_>) -> Result<Requests> {
    if given.begun.is_empty() {
        return Ok(Requests::default());
    }
    let requests = given.requests(launch, tx.now());
    tokio::try_join!(batches_in(tx, env, launch, &requests.batches), starts_in(tx, env, given.begun, &requests))?;
    tx.announce(Announcement::Wake(Work::Flows));
    Ok(requests)
}

impl Given<'_> {
    /// What tells that the runs began.
    pub fn events(&self, tx: &Tx, requests: &Requests) -> Vec<NewEvent> {
        let event = |(run, place): &(Run, usize)| {
            let mut event = NewEvent::new("action-flow-started", run.customer_id, &run.user_id);
            let address = self.parts[self.items[*place].part].address;
            event.id = Some(tx.id());
            event.context = address.map(|ip| EventContext { ip: Some(ip.to_string()), ..EventContext::default() });
            event.platform = requests.platform(run);
            event
        };
        self.begun.iter().map(event).collect()
    }

    /// What the runs share, as they will find it again.
    fn requests(&self, launch: &Launch, now: Time) -> Requests {
        let mut requests = Requests::default();
        for (run, place) in self.begun {
            requests.batches.entry(run.batch_id).or_insert_with(|| launch.batch(run.batch_id, now));
            requests.starts.entry(run.lifecycle_id).or_insert_with(|| {
                let entry = self.items[*place].entry;
                let (source, trigger) = (launch.caller.source, launch.trigger);
                let mut payload = context::payload(&entry.payload, &entry.user_ids, source, trigger);
                if let Some(cause) = &entry.cause {
                    payload["trigger"]["event"] = cause.event.clone();
                }
                let variables = Value::Object(self.shared[*place].clone());
                Start { lifecycle_id: run.lifecycle_id, payload, variables }
            });
        }
        requests
    }
}

/// Keeps what the runs of each request share. Requests that are started together differ in nothing but their id.
async fn batches_in(tx: &Tx, env: EnvId, launch: &Launch, kept: &HashMap<BatchId, Batch>) -> Result<()> {
    let Some(batch) = kept.values().next() else { return Ok(()) };
    let query = sql_query(
        "INSERT INTO batches (environment_id, flow_id, flow_version, is_test, source, trigger_id, templates, definition,
                              accepted_at, id)
         SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, UNNEST($10::uuid[])",
    )
    .bind::<SqlUuid, _>(env)
    .bind::<SqlUuid, _>(batch.flow_id)
    .bind::<Integer, _>(batch.flow_version)
    .bind::<Bool, _>(launch.caller.mode == Mode::Test)
    .bind::<Text, _>(&batch.source)
    .bind::<Nullable<SqlUuid>, _>(launch.trigger)
    .bind::<Jsonb, _>(&batch.templates)
    .bind::<Nullable<Jsonb>, _>(batch.definition.as_ref())
    .bind::<Timestamptz, _>(batch.accepted_at)
    .bind::<Array<SqlUuid>, _>(kept.keys().collect::<Vec<_>>());
    Prepared(query).execute(&mut tx.conn()).await?;
    Ok(())
}

/// Inserts what the runs of each entry share.
async fn starts_in(tx: &Tx, env: EnvId, begun: &[(Run, usize)], requests: &Requests) -> Result<()> {
    let mut seen = HashSet::new();
    let first = begun.iter().map(|(run, _)| run).filter(|run| seen.insert(run.lifecycle_id));
    let first: Vec<&Run> = first.collect();
    let starts = first.iter().map(|run| requests.start(run)).collect::<Result<Vec<_>>>()?;
    let query = sql_query(
        "INSERT INTO starts (environment_id, batch_id, lifecycle_id, invocation, payload, variables)
         SELECT $1, UNNEST($2::uuid[]), UNNEST($3::uuid[]), UNNEST($4::text[]), UNNEST($5::json[]), UNNEST($6::json[])",
    )
    .bind::<SqlUuid, _>(env)
    .bind::<Array<SqlUuid>, _>(first.iter().map(|run| run.batch_id).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(first.iter().map(|run| run.lifecycle_id).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(first.iter().map(|run| run.invocation.as_str()).collect::<Vec<_>>())
    .bind::<Array<Json>, _>(starts.iter().map(|start| &start.payload).collect::<Vec<_>>())
    .bind::<Array<Json>, _>(starts.iter().map(|start| &start.variables).collect::<Vec<_>>());
    Prepared(query).execute(&mut tx.conn()).await?;
    Ok(())
}

#[derive(QueryableByName)]
struct Known {
    #[diesel(sql_type = Text)]
    invocation: String,
    #[diesel(sql_type = SqlUuid)]
    customer_id: CustomerId,
}

/// Those of the pairs that have started a run of the flow before.
pub(super) async fn known(
    conn: &AsyncPgConnection,
    env: EnvId,
    launch: &Launch,
    pairs: Vec<(String, CustomerId)>,
) -> Result<HashSet<(String, CustomerId)>> {
    if pairs.is_empty() {
        return Ok(HashSet::new());
    }
    let (invocations, customers): (Vec<String>, Vec<CustomerId>) = pairs.into_iter().unzip();
    let query = sql_query(
        "SELECT invocation, customer_id FROM invocations
         JOIN UNNEST($4::text[], $5::uuid[]) AS asked (invocation, customer_id) USING (invocation, customer_id)
         WHERE environment_id = $1 AND flow_id = $2 AND is_test = $3",
    )
    .bind::<SqlUuid, _>(env)
    .bind::<SqlUuid, _>(launch.flow.id)
    .bind::<Bool, _>(launch.caller.mode == Mode::Test)
    .bind::<Array<Text>, _>(invocations)
    .bind::<Array<SqlUuid>, _>(customers);
    let known: Vec<Known> = Prepared(query).load(&mut &*conn).await?;
    Ok(known.into_iter().map(|known| (known.invocation, known.customer_id)).collect())
}
