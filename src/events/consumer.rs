//! Reads events in an order in which none can be missed, and keeps each reader's place.
//!
//! The order is (transaction, id), below the oldest transaction still running: whoever commits later has a higher
//! transaction, so a place never has to go back. A place belongs to the holder of a lease; every taking makes a new
//! fence, and a write under an old one is refused.
//!
//! A [`Reader`] keeps its [`Place`] in memory between rounds. A move asks that the database still has the place from
//! which it starts: after a crash that took a move back, the reader begins where the database is.
//!
//! Why not a sequence or the id alone: both are drawn before the commit, and a reader that has passed them never
//! sees the rows of a transaction that commits late.

use std::future::Future;
use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use parking_lot::Mutex;
use uuid::Uuid;

use crate::app::App;
use crate::clock::Time;
use crate::db::{Placed, Prepared, Tx};
use crate::error::{Error, Result};
use crate::ids::{EnvId, EventId, FlowId, Id, TemplateId};
use crate::realtime::Work;
use crate::worker::{Progress, Worker};

/// A holder that says nothing for so long has lost its place.
const TERM: Duration = Duration::from_secs(10);
/// How long to wait for transactions that run beside committed events.
const MOMENT: Duration = Duration::from_millis(2);
/// The most by which the receipt of an event lies before the last move of a reader that has not passed it: how long a
/// transaction may run, and how far the clocks of two nodes may be apart. Days before it need not be looked at.
const LATEST: Duration = Duration::from_secs(2 * 24 * 3600);

/// How far a reader has come: everything up to here is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, QueryableByName)]
pub struct Position {
    #[diesel(sql_type = BigInt)]
    pub xid: i64,
    #[diesel(sql_type = SqlUuid)]
    pub event_id: EventId,
}

/// An event as those need it who decide whom it concerns.
#[derive(Clone, Debug, Queryable)]
pub struct Fact {
    pub environment_id: EnvId,
    pub id: EventId,
    pub name: String,
    pub custom: bool,
    pub xid: i64,
    pub received_at: Time,
    pub is_test: bool,
    pub template_id: Option<TemplateId>,
    pub flow_id: Option<FlowId>,
}

/// The columns of [`Fact`], in the order of the statement.
type Columns = (SqlUuid, SqlUuid, Text, Bool, BigInt, Timestamptz, Bool, Nullable<SqlUuid>, Nullable<SqlUuid>);

impl Fact {
    pub fn position(&self) -> Position {
        Position { xid: self.xid, event_id: self.id }
    }
}

/// The place of a reader, and the right to move it.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    reader: &'static str,
    fence: Uuid,
    position: Position,
    /// When the place was last moved.
    moved_at: Option<Time>,
    /// When the lease was last renewed.
    renewed_at: Time,
}

/// What the answer to a move waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Durability {
    OnDisk,
    InMemory,
}

#[derive(QueryableByName)]
struct Taken {
    #[diesel(embed)]
    position: Position,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    moved_at: Option<Time>,
}

/// Takes the place of the named reader for `holder`, and tells it. `None`: somebody else holds it.
///
/// The answer does not wait for the disk: a taking that a crash of the database forgets is one whose fence no write
/// passes.
pub async fn take(app: &App, name: &'static str, holder: &str) -> Result<Option<Place>> {
    let fence = Uuid::from_bytes(app.ids().bytes());
    let now = app.clock().now();
    let taken: Option<Taken> = Prepared(
        sql_query(
            "INSERT INTO consumers (name, lease, holder, leased_until) VALUES ($1, $2, $3, $5)
         ON CONFLICT (name, shard) DO UPDATE SET lease = $2, holder = $3, leased_until = $5
         WHERE (consumers.lease IS NULL OR consumers.holder = $3 OR consumers.leased_until <= $4)
             AND set_config('synchronous_commit', 'off', true) IS NOT NULL
         RETURNING xid, event_id, moved_at",
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
    Ok(taken.map(|Taken { position, moved_at }| Place { reader: name, fence, position, moved_at, renewed_at: now }))
}

fn since(moved_at: Option<Time>, now: Time) -> Time {
    moved_at.map_or(Time::from_millisecond(0), |moved| moved.min(now).minus(LATEST))
}

/// How many events the named reader has before it, at most so many.
pub async fn lag(conn: &AsyncPgConnection, name: &str, now: Time, most: i64) -> Result<i64> {
    let place: Option<Taken> = sql_query("SELECT xid, event_id, moved_at FROM consumers WHERE name = $1 AND shard = 0")
        .bind::<Text, _>(name)
        .get_result(&mut &*conn)
        .await
        .optional()?;
    let Some(Taken { position, moved_at }) = place else { return Ok(0) };
    let counted: Counted = sql_query(
        "SELECT count(*) AS count FROM (
             SELECT FROM events WHERE (xid, id) > ($1, $2) AND received_at >= $3 LIMIT $4) AS beyond",
    )
    .bind::<BigInt, _>(position.xid)
    .bind::<SqlUuid, _>(position.event_id)
    .bind::<Timestamptz, _>(since(moved_at, now))
    .bind::<BigInt, _>(most)
    .get_result(&mut &*conn)
    .await?;
    Ok(counted.count)
}

/// Gives back every place of a holder that ends, so that the next need not wait for the lease to end.
pub async fn release(app: &App, holder: &str) -> Result<()> {
    let release = sql_query("UPDATE consumers SET lease = NULL, holder = NULL, leased_until = NULL WHERE holder = $1");
    release.bind::<Text, _>(holder).execute(&mut &*app.read().await?).await?;
    Ok(())
}

/// Somebody whom events concern.
pub trait Consumer: Send + Sync + 'static {
    /// The name of its place.
    const READER: &'static str;
    /// Its name in logs and metrics.
    const WORKER: &'static str;
    /// The announcement that there are more events.
    const WORK: Work;

    /// A condition that holds when nobody can want what lies beyond the place `($1, $2)`, received since `$3`: it is
    /// passed unread then.
    const NOBODY: &'static str;

    /// Passes the next events that are safe to pass. False: there were no more.
    fn pass(&self, app: &App, place: &mut Place) -> impl Future<Output = Result<bool>> + Send;
}

/// The worker of a consumer. It has its place in hand for as long as nothing goes wrong.
pub struct Reader<C> {
    consumer: C,
    held: Mutex<Option<Place>>,
}

impl<C: Consumer> Reader<C> {
    pub const fn new(consumer: C) -> Reader<C> {
        Reader { consumer, held: Mutex::new(None) }
    }

    /// The place in hand, or that of the database. After an error or a long silence it is asked for anew.
    async fn place(&self, app: &App) -> Result<Option<Place>> {
        let held = self.held.lock().take();
        let now = app.clock().now();
        match held.filter(|place| place.renewed_at <= now && now.since(place.renewed_at) < TERM / 3) {
            Some(place) => Ok(Some(place)),
            None => take(app, C::READER, app.node()).await,
        }
    }
}

impl<C: Consumer> Worker for Reader<C> {
    const NAME: &'static str = C::WORKER;

    fn work() -> Option<Work> {
        Some(C::WORK)
    }

    async fn run(&self, app: &App) -> Result<Progress> {
        let Some(mut place) = self.place(app).await? else { return Ok(Progress::Idle) };
        let ahead = place.look(&*app.read_record().await?, app.clock().now(), C::NOBODY).await?;
        match &ahead {
            None => {}
            Some(ahead) if ahead.unasked => place.pass(app, ahead.horizon()).await?,
            Some(_) => while self.consumer.pass(app, &mut place).await? {},
        }
        *self.held.lock() = Some(place);
        // Some were not safe to pass yet, or lie behind the last that somebody wanted.
        if ahead.is_some_and(|ahead| place.position.xid < ahead.newest) {
            tokio::time::sleep(MOMENT).await;
            return Ok(Progress::More);
        }
        Ok(Progress::Idle)
    }
}

impl Place {
    pub fn position(&self) -> Position {
        self.position
    }

    /// No event that is still to be passed was received earlier.
    pub fn since(&self, now: Time) -> Time {
        since(self.moved_at, now)
    }

    /// Looks at what lies ahead. `None`: nothing. What comes afterwards announces itself.
    ///
    /// One statement sees events and those who want them. Whoever it does not see comes with a transaction that is not
    /// over, and wants later ones; what happens in such a transaction lies beyond the horizon.
    async fn look(&self, conn: &AsyncPgConnection, now: Time, nobody: &'static str) -> Result<Option<Ahead>> {
        let query = format!(
            "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS xmin, newest.xid AS newest, {nobody} AS unasked
             FROM (SELECT xid FROM events WHERE (xid, id) > ($1, $2) AND received_at >= $3
                   ORDER BY xid DESC, id DESC LIMIT 1) AS newest"
        );
        // There are not more texts than callers.
        let query = sql_query(query)
            .bind::<BigInt, _>(self.position.xid)
            .bind::<SqlUuid, _>(self.position.event_id)
            .bind::<Timestamptz, _>(self.since(now));
        Ok(Prepared(query).get_result(&mut &*conn).await.optional()?)
    }

    /// The next events that are safe to pass, in order.
    pub async fn read(&self, conn: &AsyncPgConnection, now: Time, limit: i64) -> Result<Vec<Fact>> {
        Ok(Placed::<_, Columns>::new(
            sql_query(
                "SELECT environment_id, id, name, custom, xid, received_at, is_test, template_id, flow_id FROM events
             WHERE (xid, id) > ($1, $2) AND xid < pg_snapshot_xmin(pg_current_snapshot())::text::bigint
                 AND received_at >= $4
             ORDER BY xid, id LIMIT $3",
            )
            .bind::<BigInt, _>(self.position.xid)
            .bind::<SqlUuid, _>(self.position.event_id)
            .bind::<BigInt, _>(limit)
            .bind::<Timestamptz, _>(self.since(now)),
        )
        .load(&mut &*conn)
        .await?)
    }

    /// Moves the place, with the effects of the same transaction. A conflict when it is no longer ours.
    pub(crate) async fn advance_in(&mut self, tx: &mut Tx, to: Position) -> Result<()> {
        self.advance(tx.conn(), tx.now(), to, Durability::OnDisk).await
    }

    /// Moves the place where passing had no effect. The answer does not wait for the disk: whoever goes back passes the
    /// same events once more.
    pub async fn pass(&mut self, app: &App, to: Position) -> Result<()> {
        if to <= self.position {
            return Ok(());
        }
        self.advance(&*app.read().await?, app.clock().now(), to, Durability::InMemory).await
    }

    async fn advance(
        &mut self,
        conn: &AsyncPgConnection,
        now: Time,
        to: Position,
        durability: Durability,
    ) -> Result<()> {
        let moved = Prepared(
            sql_query(
                "UPDATE consumers SET xid = $3, event_id = $4, leased_until = $5, moved_at = $6
             WHERE name = $1 AND shard = 0 AND lease = $2 AND xid = $7 AND event_id = $8
                 AND ($9 OR set_config('synchronous_commit', 'off', true) IS NOT NULL)",
            )
            .bind::<Text, _>(self.reader)
            .bind::<SqlUuid, _>(self.fence)
            .bind::<BigInt, _>(to.xid)
            .bind::<SqlUuid, _>(to.event_id)
            .bind::<Timestamptz, _>(now.plus(TERM))
            .bind::<Timestamptz, _>(now)
            .bind::<BigInt, _>(self.position.xid)
            .bind::<SqlUuid, _>(self.position.event_id)
            .bind::<Bool, _>(durability == Durability::OnDisk),
        )
        .execute(&mut &*conn)
        .await?;
        if moved == 0 {
            return Err(Error::conflict(format!("the place of reader {} was taken over", self.reader)));
        }
        *self = Place { position: to, moved_at: Some(now), renewed_at: now, ..*self };
        Ok(())
    }
}

/// What lies ahead of a place.
#[derive(QueryableByName)]
struct Ahead {
    /// The oldest transaction that is not over.
    #[diesel(sql_type = BigInt)]
    xmin: i64,
    /// The transaction of the last event.
    #[diesel(sql_type = BigInt)]
    newest: i64,
    /// Nobody can want any of them.
    #[diesel(sql_type = Bool)]
    unasked: bool,
}

impl Ahead {
    /// Behind every event that is safe to pass.
    fn horizon(&self) -> Position {
        Position { xid: self.xmin - 1, event_id: EventId::from_uuid(Uuid::max()) }
    }
}

#[derive(QueryableByName)]
struct Counted {
    #[diesel(sql_type = BigInt)]
    count: i64,
}
