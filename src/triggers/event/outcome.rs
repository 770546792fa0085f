//! What became of the events that an event trigger was asked about: why a flow was started, or was not.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::access::{Access, Level, Resource};
use crate::app::App;
use crate::clock::Time;
use crate::db::schema::trigger_events;
use crate::db::{Prepared, Tx};
use crate::error::{Error, Result};
use crate::ids::{EnvId, EventId, Id, RequestId, TriggerId};

/// How many events of each outcome are kept for each trigger.
const KEPT: i64 = 50;
const DETAIL_CHARS: usize = 500;

/// What became of one event.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = trigger_events)]
pub struct Entry {
    pub id: Uuid,
    pub event_id: EventId,
    pub at: Time,
    /// `started`, `duplicate`, `ignored`, `condition`, `own-flow`, `hop-limit`, `disabled`, `gone`, `failed`, or the code
    /// of the error.
    pub outcome: String,
    pub detail: Option<String>,
    /// The start that came of it.
    pub invocation: Option<String>,
}

/// An outcome that is to be written.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub env: EnvId,
    pub trigger: TriggerId,
    pub event: EventId,
    pub word: &'static str,
    pub detail: Option<String>,
    pub invocation: Option<String>,
}

impl Outcome {
    /// An outcome that needs no words.
    pub fn plain((env, trigger, event): (EnvId, TriggerId, EventId), word: &'static str) -> Outcome {
        Outcome { env, trigger, event, word, detail: None, invocation: None }
    }

    pub fn refused(of: (EnvId, TriggerId, EventId), error: &Error) -> Outcome {
        let told = error.violations().iter().map(|one| match &one.pointer {
            Some(pointer) if !pointer.is_empty() => format!("{pointer}: {}", one.detail),
            _ => one.detail.clone(),
        });
        let detail = told.collect::<Vec<_>>().join("; ").replace('\0', "\u{fffd}");
        let detail = Some(detail.chars().take(DETAIL_CHARS).collect());
        Outcome { detail, ..Outcome::plain(of, error.code().word()) }
    }
}

/// Writes outcomes and forgets the oldest of their triggers.
pub(super) async fn record_in(tx: &mut Tx, outcomes: &[Outcome]) -> Result<()> {
    let mut counted: HashMap<(TriggerId, &str), i64> = HashMap::new();
    let mut kept = Vec::new();
    for outcome in outcomes.iter().rev() {
        metrics::counter!("cardwire_event_trigger_outcomes_total", "outcome" => outcome.word).increment(1);
        let count = counted.entry((outcome.trigger, outcome.word)).or_default();
        *count += 1;
        if *count <= KEPT {
            kept.push(outcome);
        }
    }
    if kept.is_empty() {
        return Ok(());
    }
    kept.reverse();
    insert_in(tx, &kept).await?;
    // The newest are numbered first, so that what is written now is never what goes.
    let forget = sql_query(
        "DELETE FROM trigger_events USING (
             SELECT old.environment_id, old.trigger_id, old.outcome, old.id
             FROM (SELECT DISTINCT * FROM UNNEST($1::uuid[], $2::uuid[], $3::text[])) AS grown (environment_id, trigger_id, outcome),
             LATERAL (SELECT e.environment_id, e.trigger_id, e.outcome, e.id FROM trigger_events e
                      WHERE e.environment_id = grown.environment_id AND e.trigger_id = grown.trigger_id
                        AND e.outcome = grown.outcome
                      ORDER BY e.id DESC OFFSET $4 FOR UPDATE SKIP LOCKED) AS old) AS gone
         WHERE (trigger_events.environment_id, trigger_events.trigger_id, trigger_events.outcome, trigger_events.id)
             = (gone.environment_id, gone.trigger_id, gone.outcome, gone.id)",
    )
    .bind::<Array<SqlUuid>, _>(kept.iter().map(|one| one.env).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(kept.iter().map(|one| one.trigger).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(kept.iter().map(|one| one.word).collect::<Vec<_>>())
    .bind::<BigInt, _>(KEPT);
    Prepared(forget).execute(&mut tx.conn()).await?;
    Ok(())
}

async fn insert_in(tx: &mut Tx, outcomes: &[&Outcome]) -> Result<()> {
    let ids: Vec<Uuid> = outcomes.iter().map(|_| tx.id::<RequestId>().uuid()).collect();
    let insert = sql_query(
        "INSERT INTO trigger_events (environment_id, trigger_id, id, event_id, at, outcome, detail, invocation)
         SELECT environment_id, new.trigger_id, new.id, new.event_id, $8, new.outcome, new.detail, new.invocation
         FROM UNNEST($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[])
              AS new (environment_id, trigger_id, id, event_id, outcome, detail, invocation)
         JOIN triggers USING (environment_id) WHERE triggers.id = new.trigger_id",
    )
    .bind::<Array<SqlUuid>, _>(outcomes.iter().map(|one| one.env).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(outcomes.iter().map(|one| one.trigger).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(ids)
    .bind::<Array<SqlUuid>, _>(outcomes.iter().map(|one| one.event).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(outcomes.iter().map(|one| one.word).collect::<Vec<_>>())
    .bind::<Array<Nullable<Text>>, _>(outcomes.iter().map(|one| one.detail.clone()).collect::<Vec<_>>())
    .bind::<Array<Nullable<Text>>, _>(outcomes.iter().map(|one| one.invocation.clone()).collect::<Vec<_>>())
    .bind::<Timestamptz, _>(tx.now());
    Prepared(insert).execute(&mut tx.conn()).await?;
    Ok(())
}

/// The last events of a trigger, newest first; of one outcome, where one is named.
pub async fn recent(app: &App, access: &Access, trigger: TriggerId, outcome: Option<&str>) -> Result<Vec<Entry>> {
    access.require(Resource::ActionFlow, Level::View)?;
    let mut query = trigger_events::table
        .filter(trigger_events::environment_id.eq(access.env()).and(trigger_events::trigger_id.eq(trigger)))
        .order(trigger_events::id.desc())
        .limit(KEPT)
        .select(Entry::as_select())
        .into_boxed();
    if let Some(outcome) = outcome {
        query = query.filter(trigger_events::outcome.eq(outcome));
    }
    Ok(query.load(&mut &*app.read().await?).await?)
}
