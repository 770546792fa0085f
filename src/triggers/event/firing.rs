//! Firings: events that shall start a flow and have not yet.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Nullable, SmallInt, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use crate::clock::Time;
use crate::db::{Prepared, Tx};
use crate::error::{Error, Result};
use crate::ids::{EnvId, EventId, TriggerId};

/// An event and the trigger it fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, QueryableByName)]
pub(super) struct Firing {
    #[diesel(sql_type = SqlUuid)]
    pub environment_id: EnvId,
    #[diesel(sql_type = SqlUuid)]
    pub trigger_id: TriggerId,
    #[diesel(sql_type = SqlUuid)]
    pub event_id: EventId,
    /// With the id it finds the event in its partition.
    #[diesel(sql_type = Timestamptz)]
    pub received_at: Time,
    /// How often it was claimed.
    #[diesel(sql_type = SmallInt)]
    pub attempts: i16,
}

#[derive(Default)]
struct Keys {
    envs: Vec<EnvId>,
    triggers: Vec<TriggerId>,
    events: Vec<EventId>,
}

impl Keys {
    fn of(firings: &[Firing]) -> Keys {
        let mut keys = Keys::default();
        for firing in firings {
            keys.envs.push(firing.environment_id);
            keys.triggers.push(firing.trigger_id);
            keys.events.push(firing.event_id);
        }
        keys
    }
}

/// Writes firings. One that is there already stays as it is.
pub(super) async fn insert_in(tx: &Tx, firings: &[Firing]) -> Result<()> {
    let keys = Keys::of(firings);
    let insert = sql_query(
        "INSERT INTO trigger_firings (environment_id, trigger_id, event_id, received_at, due_at)
         SELECT environment_id, trigger_id, event_id, received_at, $5
         FROM UNNEST($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[])
              AS new (environment_id, trigger_id, event_id, received_at)
         ON CONFLICT ON CONSTRAINT trigger_firings_pkey DO NOTHING",
    )
    .bind::<Array<SqlUuid>, _>(keys.envs)
    .bind::<Array<SqlUuid>, _>(keys.triggers)
    .bind::<Array<SqlUuid>, _>(keys.events)
    .bind::<Array<Timestamptz>, _>(firings.iter().map(|firing| firing.received_at).collect::<Vec<_>>())
    .bind::<Timestamptz, _>(tx.now());
    Prepared(insert).execute(&mut tx.conn()).await?;
    Ok(())
}

/// How many firings are taken, and until when they are the taker's alone.
#[derive(Clone, Copy)]
pub(super) struct Claim {
    pub fence: Uuid,
    pub most: i64,
    pub now: Time,
    pub until: Time,
}

/// Takes firings that are due, environments by turns.
pub(super) async fn take(conn: &AsyncPgConnection, claim: Claim) -> Result<Vec<Firing>> {
    let query = sql_query(
        "WITH RECURSIVE place AS (
             (SELECT environment_id FROM trigger_firings ORDER BY environment_id LIMIT 1)
             UNION ALL
             SELECT next.environment_id FROM place, LATERAL (
                 SELECT environment_id FROM trigger_firings
                 WHERE environment_id > place.environment_id ORDER BY environment_id LIMIT 1) AS next
         ), candidate AS (
             SELECT turn.* FROM place, LATERAL (
                 SELECT environment_id, trigger_id, event_id, row_number() OVER (ORDER BY due_at, event_id) AS turn
                 FROM (SELECT environment_id, trigger_id, event_id, due_at FROM trigger_firings
                       WHERE environment_id = place.environment_id AND due_at <= $3
                       ORDER BY due_at, event_id LIMIT 2 * $2) AS first) AS turn
         ), taken AS (
             SELECT firing.environment_id, firing.trigger_id, firing.event_id
             FROM candidate JOIN trigger_firings AS firing USING (environment_id, trigger_id, event_id)
             WHERE firing.due_at <= $3
             ORDER BY candidate.turn, candidate.environment_id LIMIT $2
             FOR UPDATE OF firing SKIP LOCKED
         )
         UPDATE trigger_firings AS firing SET claim = $1, due_at = $4, attempts = firing.attempts + 1
         FROM taken WHERE (firing.environment_id, firing.trigger_id, firing.event_id)
             = (taken.environment_id, taken.trigger_id, taken.event_id)
         RETURNING firing.environment_id, firing.trigger_id, firing.event_id, firing.received_at, firing.attempts",
    )
    .bind::<SqlUuid, _>(claim.fence)
    .bind::<BigInt, _>(claim.most)
    .bind::<Timestamptz, _>(claim.now)
    .bind::<Timestamptz, _>(claim.until);
    Ok(Prepared(query).load(&mut &*conn).await?)
}

/// Removes firings with the effects of the same transaction. A conflict when another has taken one of them.
pub(super) async fn finish_in(tx: &Tx, fence: Uuid, firings: &[Firing]) -> Result<()> {
    let keys = Keys::of(firings);
    let delete = sql_query(
        "DELETE FROM trigger_firings USING UNNEST($2::uuid[], $3::uuid[], $4::uuid[])
             AS done (environment_id, trigger_id, event_id)
         WHERE (trigger_firings.environment_id, trigger_firings.trigger_id, trigger_firings.event_id)
             = (done.environment_id, done.trigger_id, done.event_id) AND trigger_firings.claim = $1",
    )
    .bind::<SqlUuid, _>(fence)
    .bind::<Array<SqlUuid>, _>(keys.envs)
    .bind::<Array<SqlUuid>, _>(keys.triggers)
    .bind::<Array<SqlUuid>, _>(keys.events);
    let removed = Prepared(delete).execute(&mut tx.conn()).await?;
    if removed == firings.len() { Ok(()) } else { Err(Error::conflict("a firing was taken over")) }
}

/// Gives a firing back until a later time, unless another has taken it.
pub(super) async fn postpone(conn: &AsyncPgConnection, fence: Uuid, firing: Firing, until: Time) -> Result<()> {
    let update = sql_query(
        "UPDATE trigger_firings SET due_at = $5, claim = NULL
         WHERE environment_id = $2 AND trigger_id = $3 AND event_id = $4 AND claim = $1",
    )
    .bind::<SqlUuid, _>(fence)
    .bind::<SqlUuid, _>(firing.environment_id)
    .bind::<SqlUuid, _>(firing.trigger_id)
    .bind::<SqlUuid, _>(firing.event_id)
    .bind::<Timestamptz, _>(until);
    Prepared(update).execute(&mut &*conn).await?;
    Ok(())
}

#[derive(QueryableByName)]
struct Next {
    #[diesel(sql_type = Nullable<Timestamptz>)]
    due_at: Option<Time>,
}

/// When the next firing is due.
pub(super) async fn next_due(conn: &AsyncPgConnection) -> Result<Option<Time>> {
    let query = sql_query(
        "WITH RECURSIVE place AS (
             (SELECT environment_id, due_at FROM trigger_firings ORDER BY environment_id, due_at LIMIT 1)
             UNION ALL
             SELECT next.environment_id, next.due_at FROM place, LATERAL (
                 SELECT environment_id, due_at FROM trigger_firings
                 WHERE environment_id > place.environment_id ORDER BY environment_id, due_at LIMIT 1) AS next
         )
         SELECT min(due_at) AS due_at FROM place",
    );
    let next: Next = Prepared(query).get_result(&mut &*conn).await?;
    Ok(next.due_at)
}
