//! Follows the record as it grows: each event that is committed, once, in commit-safe order, from any place on.
//!
//! A follower looks when events are announced and at least once a second; an announcement may be lost. Between an
//! announcement and the end of older transactions an event cannot be passed safely, so it looks again soon.

use std::collections::VecDeque;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::stream::{Stream, unfold};
use tokio::sync::watch;

use super::consumer::Position;
use super::log::{Filter, Logged, Permit};
use crate::app::App;
use crate::clock::Time;
use crate::error::{Error, Result};
use crate::ids::{EnvId, EventId, Id};

/// Events that one look takes.
const BATCH: i64 = 200;
/// How old the place of a follower who comes back may be.
const MOST_MISSED: Duration = Duration::from_secs(24 * 3600);
/// The longest that a transaction may have run before it recorded an event.
const LONGEST_TRANSACTION: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A place in the record, and the time of the one who was there: shown as an opaque cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    position: Position,
    at: Time,
}

impl Mark {
    pub fn cursor(self) -> String {
        let mut bytes = self.at.as_millisecond().to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.position.xid.to_be_bytes());
        bytes.extend_from_slice(self.position.event_id.uuid().as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a cursor that came with an event.
    pub fn read(cursor: &str) -> Option<Mark> {
        let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
        let (at, rest) = bytes.split_first_chunk::<8>()?;
        let (xid, id) = rest.split_first_chunk::<8>()?;
        let event_id = EventId::from_uuid(uuid::Uuid::from_slice(id).ok()?);
        let position = Position { xid: i64::from_be_bytes(*xid), event_id };
        Some(Mark { position, at: Time::from_millisecond(i64::from_be_bytes(*at)) })
    }
}

/// An event, and where to go on after it.
#[derive(Clone, Debug)]
pub struct Followed {
    pub event: Logged,
    pub mark: Mark,
}

struct Follower {
    app: App,
    env: EnvId,
    filter: Filter,
    position: Position,
    /// No event that is still to come was received before.
    since: Time,
    found: VecDeque<Followed>,
    bell: watch::Receiver<()>,
    pause: Duration,
}

/// Follows the events of an environment from now on, or from where an earlier follower stopped.
pub async fn follow(
    app: &App,
    permit: Permit,
    filter: Filter,
    after: Option<Mark>,
) -> Result<impl Stream<Item = Result<Followed>> + use<>> {
    filter.check()?;
    let now = app.clock().now();
    if after.is_some_and(|mark| mark.at < now.minus(MOST_MISSED)) {
        return Err(Error::invalid("/after", "the cursor is older than a day: list what was missed, then follow anew"));
    }
    // Listening comes first, so that nothing falls between the look and the wait.
    let bell = app.wakes().recorded();
    let (position, since) = match after {
        Some(mark) => (mark.position, mark.at),
        None => (horizon(&*app.read().await?).await?, now),
    };
    let since = since.minus(LONGEST_TRANSACTION);
    let follower = Follower {
        app: app.clone(),
        env: permit.env(),
        filter,
        position,
        since,
        found: VecDeque::new(),
        bell,
        pause: SOON,
    };
    // An error is the last item.
    Ok(unfold(Some(follower), |state| async move {
        let mut follower = state?;
        match follower.next().await? {
            Ok(followed) => Some((Ok(followed), Some(follower))),
            Err(error) => Some((Err(error), None)),
        }
    }))
}

impl Follower {
    async fn next(&mut self) -> Option<Result<Followed>> {
        loop {
            if let Some(followed) = self.found.pop_front() {
                return Some(Ok(followed));
            }
            if let Err(error) = self.look().await {
                return Some(Err(error));
            }
            if self.found.is_empty() && !self.wait().await {
                return None;
            }
        }
    }

    async fn look(&mut self) -> Result<()> {
        let conn = self.app.read().await?;
        let horizon = horizon(&conn).await?;
        let rows = beyond(&conn, self).await?;
        let now = self.app.clock().now();
        match rows.last() {
            Some(last) => {
                self.position = last.position();
                self.pause = SOON;
            }
            // Everything before the horizon was looked at and did not fit.
            None => self.position = self.position.max(horizon),
        }
        self.found.extend(rows.into_iter().map(|row| {
            let mark = Mark { position: row.position(), at: now };
            Followed { event: row.event, mark }
        }));
        Ok(())
    }

    /// Waits until there may be more. False: the server ends.
    async fn wait(&mut self) -> bool {
        tokio::select! {
            rung = self.bell.changed() => {
                self.pause = SOON;
                rung.is_ok()
            }
            () = tokio::time::sleep(self.pause) => {
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                true
            }
        }
    }
}

#[derive(QueryableByName)]
struct Horizon {
    #[diesel(sql_type = BigInt)]
    xid: i64,
}

/// The place before which no transaction is open.
async fn horizon(conn: &AsyncPgConnection) -> Result<Position> {
    let query = sql_query("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS xid");
    let found: Horizon = query.get_result(&mut &*conn).await?;
    Ok(Position { xid: found.xid, event_id: EventId::from_uuid(uuid::Uuid::nil()) })
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(embed)]
    event: Logged,
    #[diesel(sql_type = BigInt)]
    xid: i64,
}

impl Row {
    fn position(&self) -> Position {
        Position { xid: self.xid, event_id: self.event.id }
    }
}

async fn beyond(conn: &AsyncPgConnection, follower: &Follower) -> Result<Vec<Row>> {
    let query = sql_query(
        "SELECT id, name, custom, end_user_id, occurred_at, received_at, is_test, payload, xid FROM events
         WHERE environment_id = $1 AND (xid, id) > ($2, $3) AND received_at >= $4
           AND xid < pg_snapshot_xmin(pg_current_snapshot())::text::bigint",
    )
    .into_boxed::<diesel::pg::Pg>()
    .bind::<SqlUuid, _>(follower.env)
    .bind::<BigInt, _>(follower.position.xid)
    .bind::<SqlUuid, _>(follower.position.event_id)
    .bind::<Timestamptz, _>(follower.since);
    let conditions = follower.filter.narrow(query, 4);
    let end = format!(" ORDER BY xid, id LIMIT ${}", conditions.binds() + 1);
    Ok(conditions.finish(end).bind::<BigInt, _>(BATCH).load(&mut &*conn).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Ids;

    #[test]
    fn cursors_round_trip() {
        let at = Time::from_millisecond(1_767_225_600_123);
        let mark = Mark { position: Position { xid: 77, event_id: Ids::seeded(1).make(at) }, at };
        assert_eq!(Mark::read(&mark.cursor()), Some(mark));
        for nonsense in ["", "x", "AAAA", "****"] {
            assert_eq!(Mark::read(nonsense), None);
        }
    }
}
