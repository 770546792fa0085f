//! The rows of a start request, by whole columns.

use std::collections::HashSet;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, Bool, Integer, Jsonb, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::{Map, Value};

use super::launch::Launch;
use super::{Mode, StartRequest};
use crate::db::schema::batches;
use crate::db::{Prepared, Tx};
use crate::error::Result;
use crate::events::{EventContext, NewEvent, TriggerSource, record_in};
use crate::flows::context;
use crate::flows::run::Run;
use crate::ids::{CustomerId, EnvId, LifecycleId, RunId};
use crate::realtime::{Announcement, Work};

/// Starts of more customers than this wait behind the others, and so do all that come from a file.
const BULK: usize = 100;
/// The lane of tokens that timers and customers have not made.
const SINGLE_LANE: i16 = 2;
const BULK_LANE: i16 = 3;

#[derive(QueryableByName)]
struct Begun {
    #[diesel(sql_type = SqlUuid)]
    run_id: RunId,
}

/// Inserts runs with their first tokens and gives those whose invocation is new.
///
/// Rows are inserted in the order of the key, so that two requests with the same invocations wait for each other
/// and do not deadlock.
pub(super) async fn runs_in(tx: &mut Tx, env: EnvId, launch: &Launch, runs: &[(Run, usize)]) -> Result<HashSet<RunId>> {
    if runs.is_empty() {
        return Ok(HashSet::new());
    }
    let column = |part: fn(&Run) -> uuid::Uuid| runs.iter().map(|(run, _)| part(run)).collect::<Vec<_>>();
    let crowd = runs.len() > BULK || launch.caller.source == TriggerSource::Csv;
    let lane = if crowd { BULK_LANE } else { SINGLE_LANE };
    let keys: Vec<&str> = launch.graph.roots().map(|step| step.key.as_str()).collect();
    let query = sql_query(
        "WITH wanted AS (
             SELECT * FROM UNNEST($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::uuid[], $6::jsonb[], $16::int2[])
                 WITH ORDINALITY AS wanted (run_id, customer_id, user_id, invocation, lifecycle_id, variables, hops, place)
         ), fresh AS (
             INSERT INTO invocations (environment_id, flow_id, is_test, invocation, customer_id, run_id)
             SELECT $7, $8, $9, invocation, customer_id, run_id FROM wanted
             ORDER BY invocation COLLATE \"C\", customer_id, place
             ON CONFLICT DO NOTHING RETURNING run_id
         ), begun AS (
             INSERT INTO runs (environment_id, id, flow_id, flow_version, lifecycle_id, batch_id, customer_id, user_id,
                               invocation, is_test, hops, status, open_steps, variables, started_at)
             SELECT $7, run_id, $8, $10, lifecycle_id, $11, customer_id, user_id,
                    invocation, $9, hops, 'running', $12, variables, $13
             FROM wanted JOIN fresh USING (run_id)
         ), queued AS (
             INSERT INTO tokens (environment_id, run_id, step_key, status, lane, wake_at)
             SELECT $7, run_id, step_key, 'ready', $14, $13 FROM fresh CROSS JOIN UNNEST($15::text[]) AS step_key
         )
         SELECT run_id FROM fresh",
    )
    .bind::<Array<SqlUuid>, _>(column(|run| crate::ids::Id::uuid(run.id)))
    .bind::<Array<SqlUuid>, _>(column(|run| crate::ids::Id::uuid(run.customer_id)))
    .bind::<Array<Text>, _>(runs.iter().map(|(run, _)| run.user_id.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(runs.iter().map(|(run, _)| run.invocation.as_str()).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(column(|run| crate::ids::Id::uuid(run.lifecycle_id)))
    .bind::<Array<Nullable<Jsonb>>, _>(runs.iter().map(|(run, _)| run.variables.clone()).collect::<Vec<_>>())
    .bind::<SqlUuid, _>(env)
    .bind::<SqlUuid, _>(launch.flow.id)
    .bind::<Bool, _>(launch.caller.mode == Mode::Test)
    .bind::<Integer, _>(launch.version)
    .bind::<SqlUuid, _>(launch.batch)
    .bind::<Integer, _>(launch.open_steps())
    .bind::<Timestamptz, _>(tx.now())
    .bind::<SmallInt, _>(lane)
    .bind::<Array<Text>, _>(keys)
    .bind::<Array<SmallInt>, _>(runs.iter().map(|(run, _)| run.hops).collect::<Vec<_>>());
    let begun: Vec<Begun> = Prepared(query).load(&mut tx.conn()).await?;
    metrics::counter!("cardwire_flow_runs_total", "state" => "started").increment(begun.len() as u64);
    Ok(begun.into_iter().map(|begun| begun.run_id).collect())
}

/// The request, what it resolved to, and the runs that began with the places of their entries.
pub(super) struct Given<'a> {
    pub request: &'a StartRequest,
    /// The shared variables of each entry.
    pub shared: &'a [Map<String, Value>],
    pub begun: &'a [(Run, usize)],
}

/// Keeps what the runs share, and records that they began. A request that began nothing leaves no trace.
pub(super) async fn request_in(tx: &mut Tx, env: EnvId, launch: &Launch, given: Given<'_>) -> Result<()> {
    if given.begun.is_empty() {
        return Ok(());
    }
    diesel::insert_into(batches::table)
        .values((
            batches::environment_id.eq(env),
            batches::id.eq(launch.batch),
            batches::flow_id.eq(launch.flow.id),
            batches::flow_version.eq(launch.version),
            batches::is_test.eq(launch.caller.mode == Mode::Test),
            batches::source.eq(context::word(launch.caller.source)),
            batches::trigger_id.eq(launch.trigger),
            batches::templates.eq(&launch.templates),
            batches::definition.eq(&launch.definition),
            batches::accepted_at.eq(tx.now()),
        ))
        .execute(&mut tx.conn())
        .await?;
    let payloads = starts_in(tx, env, launch, &given).await?;
    let address = launch.caller.address.map(|address| address.to_string());
    let events: Vec<NewEvent> = given
        .begun
        .iter()
        .map(|(run, entry)| {
            let mut event = NewEvent::new("action-flow-started", run.customer_id, &run.user_id);
            event.context = address.clone().map(|ip| EventContext { ip: Some(ip), ..EventContext::default() });
            event.platform =
                payloads[*entry].as_ref().map(|payload| context::platform(run, launch.caller.source, payload));
            event
        })
        .collect();
    record_in(tx, env, &events).await?;
    tx.announce(Announcement::Wake(Work::Flows));
    Ok(())
}

/// Inserts what the runs of each entry share, and gives the payloads by entry.
async fn starts_in(tx: &mut Tx, env: EnvId, launch: &Launch, given: &Given<'_>) -> Result<Vec<Option<Value>>> {
    let mut payloads: Vec<Option<Value>> = given.request.entries.iter().map(|_| None).collect();
    let (mut lifecycles, mut invocations) = (Vec::<LifecycleId>::new(), Vec::<&str>::new());
    let (mut written, mut variables) = (Vec::new(), Vec::new());
    for (run, place) in given.begun {
        if payloads[*place].is_none() {
            let entry = &given.request.entries[*place];
            let mut payload = context::payload(&entry.payload, &entry.user_ids, launch.caller.source, launch.trigger);
            if let Some(cause) = &entry.cause {
                payload["trigger"]["event"] = cause.event.clone();
            }
            lifecycles.push(run.lifecycle_id);
            invocations.push(&run.invocation);
            written.push(payload.clone());
            variables.push(Value::Object(given.shared[*place].clone()));
            payloads[*place] = Some(payload);
        }
    }
    let query = sql_query(
        "INSERT INTO starts (environment_id, batch_id, lifecycle_id, invocation, payload, variables)
         SELECT $1, $2, * FROM UNNEST($3::uuid[], $4::text[], $5::jsonb[], $6::jsonb[])",
    )
    .bind::<SqlUuid, _>(env)
    .bind::<SqlUuid, _>(launch.batch)
    .bind::<Array<SqlUuid>, _>(lifecycles)
    .bind::<Array<Text>, _>(invocations)
    .bind::<Array<Jsonb>, _>(written)
    .bind::<Array<Jsonb>, _>(variables);
    Prepared(query).execute(&mut tx.conn()).await?;
    Ok(payloads)
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
