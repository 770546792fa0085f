//! Reads events in an order in which none can be missed, and keeps each reader's place.
//!
//! The order is (transaction, id), below the oldest transaction still running: whoever commits later has a higher
//! transaction, so a place never has to go back. A place belongs to the holder of a lease; every taking makes a new
//! fence, and a write under an old one is refused.
//!
//! Why not a sequence or the id alone: both are drawn before the commit, and a reader that has passed them never
//! sees the rows of a transaction that commits late.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use crate::app::App;
use crate::clock::Time;
use crate::db::{Prepared, Tx};
use crate::error::{Error, Result};
use crate::ids::{EnvId, EventId, FlowId, TemplateId};

/// A holder that says nothing for so long has lost its place.
const TERM: Duration = Duration::from_secs(10);

/// How far a reader has come: everything up to here is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, QueryableByName)]
pub struct Position {
    #[diesel(sql_type = BigInt)]
    pub xid: i64,
    #[diesel(sql_type = SqlUuid)]
    pub event_id: EventId,
}

/// The right to move a reader's place.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    name: &'static str,
    fence: Uuid,
}

/// An event as those need it who decide whom it concerns.
#[derive(Clone, Debug, QueryableByName)]
pub struct Fact {
    #[diesel(sql_type = SqlUuid)]
    pub environment_id: EnvId,
    #[diesel(sql_type = SqlUuid)]
    pub id: EventId,
    #[diesel(sql_type = Text)]
    pub name: String,
    #[diesel(sql_type = Bool)]
    pub custom: bool,
    #[diesel(sql_type = BigInt)]
    pub xid: i64,
    #[diesel(sql_type = Timestamptz)]
    pub received_at: Time,
    #[diesel(sql_type = Bool)]
    pub is_test: bool,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub template_id: Option<TemplateId>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub flow_id: Option<FlowId>,
}

impl Fact {
    pub fn position(&self) -> Position {
        Position { xid: self.xid, event_id: self.id }
    }
}

/// Takes the place of the named reader for `holder`, and tells it. `None`: somebody else holds it.
///
/// The answer does not wait for the disk: a taking that a crash of the database forgets is one whose fence no write
/// passes.
pub async fn take(app: &App, name: &'static str, holder: &str) -> Result<Option<(Lease, Position)>> {
    let fence = Uuid::from_bytes(app.ids().bytes());
    let now = app.clock().now();
    let position: Option<Position> = Prepared(
        sql_query(
            "INSERT INTO consumers (name, lease, holder, leased_until) VALUES ($1, $2, $3, $5)
         ON CONFLICT (name, shard) DO UPDATE SET lease = $2, holder = $3, leased_until = $5
         WHERE (consumers.lease IS NULL OR consumers.holder = $3 OR consumers.leased_until <= $4)
             AND set_config('synchronous_commit', 'off', true) IS NOT NULL
         RETURNING xid, event_id",
        )
        .bind::<Text, _>(name)
        .bind::<SqlUuid, _>(fence)
        .bind::<Text, _>(holder)
        .bind::<Timestamptz, _>(now)
        .bind::<Timestamptz, _>(now.plus(TERM)),
    )
    .get_result(&mut &*app.read().await?)
    .await
    .optional()?;
    Ok(position.map(|position| (Lease { name, fence }, position)))
}

/// Gives back every place of a holder that ends, so that the next need not wait for the lease to end.
pub async fn release(app: &App, holder: &str) -> Result<()> {
    let release = sql_query("UPDATE consumers SET lease = NULL, holder = NULL, leased_until = NULL WHERE holder = $1");
    release.bind::<Text, _>(holder).execute(&mut &*app.read().await?).await?;
    Ok(())
}

/// Moves the place, with the effects of the same transaction. A conflict when the lease was lost meanwhile.
pub(crate) async fn advance_in(tx: &mut Tx, lease: Lease, to: Position) -> Result<()> {
    let moved = Prepared(sql_query(
        "UPDATE consumers SET xid = $3, event_id = $4, leased_until = $5 WHERE name = $1 AND shard = 0 AND lease = $2",
    )
    .bind::<Text, _>(lease.name)
    .bind::<SqlUuid, _>(lease.fence)
    .bind::<BigInt, _>(to.xid)
    .bind::<SqlUuid, _>(to.event_id)
    .bind::<Timestamptz, _>(tx.now().plus(TERM)))
    .execute(&mut tx.conn())
    .await?;
    if moved == 0 {
        return Err(Error::conflict(format!("the place of reader {} was taken over", lease.name)));
    }
    Ok(())
}

/// The next events after a place that are safe to pass, in order.
pub async fn read(conn: &AsyncPgConnection, after: Position, limit: i64) -> Result<Vec<Fact>> {
    Ok(Prepared(
        sql_query(
            "SELECT environment_id, id, name, custom, xid, received_at, is_test, template_id, flow_id FROM events
         WHERE (xid, id) > ($1, $2) AND xid < pg_snapshot_xmin(pg_current_snapshot())::text::bigint
         ORDER BY xid, id LIMIT $3",
        )
        .bind::<BigInt, _>(after.xid)
        .bind::<SqlUuid, _>(after.event_id)
        .bind::<BigInt, _>(limit),
    )
    .load(&mut &*conn)
    .await?)
}

#[derive(QueryableByName)]
struct Answer {
    #[diesel(sql_type = Bool)]
    yes: bool,
}

/// Tells whether events are committed beyond a place, safe to pass or not: then a look a moment later finds more.
pub async fn waiting(conn: &AsyncPgConnection, after: Position) -> Result<bool> {
    let answer: Answer = Prepared(
        sql_query("SELECT EXISTS (SELECT FROM events WHERE (xid, id) > ($1, $2)) AS yes")
            .bind::<BigInt, _>(after.xid)
            .bind::<SqlUuid, _>(after.event_id),
    )
    .get_result(&mut &*conn)
    .await?;
    Ok(answer.yes)
}
