//! Follows rows as they are committed: each once, in commit-safe order, from any place on.
//!
//! A follower looks when it is told that there is more and at least once a second; a hint may be lost. Between a hint
//! and the end of older transactions a row cannot be passed safely, so it looks again soon.

use std::collections::VecDeque;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use diesel::prelude::*;
use diesel::sql_query;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::future::BoxFuture;
use futures_util::stream::{Stream, unfold};
use tokio::sync::watch;
use uuid::Uuid;

use crate::app::App;
use crate::clock::Time;
use crate::db::Prepared;
use crate::error::{Error, Result};

/// Rows that one look takes.
pub(crate) const BATCH: i64 = 200;
/// How old the place of a follower who comes back may be.
const MOST_MISSED: Duration = Duration::from_secs(24 * 3600);
/// The longest that a transaction may have run before it wrote a row.
const LONGEST_TRANSACTION: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Where a row stands: by the transaction that wrote it, then by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Spot {
    pub xid: i64,
    pub id: Uuid,
}

/// A spot, and the time of the one who was there: shown as an opaque cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    spot: Spot,
    at: Time,
}

impl Mark {
    pub fn cursor(self) -> String {
        let mut bytes = self.at.as_millisecond().to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.spot.xid.to_be_bytes());
        bytes.extend_from_slice(self.spot.id.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a cursor that came with a row.
    pub fn read(cursor: &str) -> Option<Mark> {
        let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
        let (at, rest) = bytes.split_first_chunk::<8>()?;
        let (xid, id) = rest.split_first_chunk::<8>()?;
        let spot = Spot { xid: i64::from_be_bytes(*xid), id: Uuid::from_slice(id).ok()? };
        Some(Mark { spot, at: Time::from_millisecond(i64::from_be_bytes(*at)) })
    }
}

/// A row, and where to go on after it.
#[derive(Clone, Debug)]
pub struct Followed<R> {
    pub row: R,
    pub mark: Mark,
}

/// From where a look goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    pub spot: Spot,
    /// No row that is still to come has an earlier time.
    pub since: Time,
}

/// Reads at most [`BATCH`] rows behind a spot, in order, of transactions older than all that run.
pub(crate) type Look<R> =
    Box<dyn for<'a> Fn(&'a AsyncPgConnection, Start) -> BoxFuture<'a, Result<Vec<(R, Spot)>>> + Send + Sync>;

struct Tail<R> {
    app: App,
    look: Look<R>,
    from: Start,
    /// What was committed before the follower came, though older transactions kept it beyond the first spot.
    before: Option<Snapshot>,
    found: VecDeque<Followed<R>>,
    bell: watch::Receiver<()>,
    pause: Duration,
}

/// Follows rows from now on, or from where an earlier follower stopped; `bell` rings when there is more.
///
/// An error is the last item. A mark older than a day is refused.
pub(crate) async fn follow<R: Send + 'static>(
    app: &App,
    bell: watch::Receiver<()>,
    after: Option<Mark>,
    look: Look<R>,
) -> Result<impl Stream<Item = Result<Followed<R>>> + Send + use<R>> {
    let now = app.clock().now();
    if after.is_some_and(|mark| mark.at < now.minus(MOST_MISSED)) {
        return Err(Error::invalid("/after", "the cursor is older than a day: list what was missed, then follow anew"));
    }
    let (spot, at, before) = match after {
        Some(mark) => (mark.spot, mark.at, None),
        None => {
            let before = Snapshot::take(&*app.read().await?).await?;
            (before.horizon(), now, Some(before))
        }
    };
    let from = Start { spot, since: at.minus(LONGEST_TRANSACTION) };
    let tail = Tail { app: app.clone(), look, from, before, found: VecDeque::new(), bell, pause: SOON };
    Ok(unfold(Some(tail), |state| async move {
        let mut tail = state?;
        match tail.next().await? {
            Ok(followed) => Some((Ok(followed), Some(tail))),
            Err(error) => Some((Err(error), None)),
        }
    }))
}

impl<R> Tail<R> {
    async fn next(&mut self) -> Option<Result<Followed<R>>> {
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
        let horizon = Snapshot::take(&conn).await?.horizon();
        let rows = (self.look)(&conn, self.from).await?;
        let now = self.app.clock().now();
        match rows.last() {
            Some((_, last)) => {
                self.from.spot = *last;
                self.pause = SOON;
            }
            // Everything before the horizon was looked at and did not fit.
            None => self.from.spot = self.from.spot.max(horizon),
        }
        let new = |spot: &Spot| !self.before.as_ref().is_some_and(|before| before.shows(spot.xid));
        let rows = rows.into_iter().filter(|(_, spot)| new(spot));
        self.found.extend(rows.map(|(row, spot)| Followed { row, mark: Mark { spot, at: now } }));
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
struct Text {
    #[diesel(sql_type = diesel::sql_types::Text)]
    snapshot: String,
}

/// Which transactions were over at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Snapshot {
    /// All before it were over.
    xmin: i64,
    /// None from it on had begun.
    xmax: i64,
    /// Those between that were under way.
    running: Vec<i64>,
}

impl Snapshot {
    async fn take(conn: &AsyncPgConnection) -> Result<Snapshot> {
        let query = sql_query("SELECT pg_current_snapshot()::text AS snapshot");
        let Text { snapshot } = Prepared(query).get_result(&mut &*conn).await?;
        Snapshot::read(&snapshot).ok_or_else(|| Error::internal(format!("{snapshot:?} is not a snapshot")))
    }

    /// Reads `xmin:xmax:running,running`.
    fn read(text: &str) -> Option<Snapshot> {
        let mut parts = text.split(':');
        let (xmin, xmax) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let running = parts.next()?.split(',').filter(|xid| !xid.is_empty());
        Some(Snapshot { xmin, xmax, running: running.map(|xid| xid.parse().ok()).collect::<Option<_>>()? })
    }

    /// The spot before which no transaction was open.
    fn horizon(&self) -> Spot {
        Spot { xid: self.xmin, id: Uuid::nil() }
    }

    /// Whether what a transaction wrote was there to be seen.
    fn shows(&self, xid: i64) -> bool {
        xid < self.xmax && !self.running.contains(&xid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_round_trip() {
        let mark =
            Mark { spot: Spot { xid: 77, id: Uuid::from_u128(5) }, at: Time::from_millisecond(1_767_225_600_123) };
        assert_eq!(Mark::read(&mark.cursor()), Some(mark));
        for nonsense in ["", "x", "AAAA", "****"] {
            assert_eq!(Mark::read(nonsense), None);
        }
    }

    #[test]
    fn what_was_committed_before_is_told_from_what_is_under_way() {
        let snapshot = Snapshot::read("10:20:10,14").unwrap();
        assert_eq!(snapshot.horizon(), Spot { xid: 10, id: Uuid::nil() });
        let shown: Vec<i64> = (8..22).filter(|xid| snapshot.shows(*xid)).collect();
        assert_eq!(shown, [8, 9, 11, 12, 13, 15, 16, 17, 18, 19]);
        assert_eq!(Snapshot::read("7:7:"), Some(Snapshot { xmin: 7, xmax: 7, running: Vec::new() }));
        for nonsense in ["", "1:2", "a:b:", "1:2:x"] {
            assert_eq!(Snapshot::read(nonsense), None);
        }
    }
}
