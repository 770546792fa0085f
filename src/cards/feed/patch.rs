//! What changed between what a client holds and what there is: cards that come, cards that go, and why.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::card::Card;
use super::read::{self, Reading};
use super::{Counts, Cursor, View};
use crate::cards::feed_change::Op;
use crate::clock::Time;
use crate::db::schema::feed_changes;
use crate::error::Result;
use crate::ids::CardId;

/// Changes are looked for this far back. Their table is cut into days, and most need only one looked at.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// What a client that stands at a cursor must be told.
#[derive(Debug)]
pub enum Change {
    /// Nothing. The cursor has moved past changes that do not show here.
    Nothing {
        counts: Counts,
        unseen: Vec<CardId>,
        cursor: Cursor,
    },
    Patch(Patch),
    /// The client must drop what it holds and begin anew.
    Resync(ResyncReason),
}

/// What makes the feed that a client holds the feed of now: removals, then upserts in the order of their positions.
#[derive(Debug)]
pub struct Patch {
    pub from: i64,
    pub to: i64,
    pub upserts: Vec<Upsert>,
    pub removals: Vec<Removal>,
    pub counts: Counts,
    pub unseen: Vec<CardId>,
    pub cursor: Cursor,
}

#[derive(Debug)]
pub struct Upsert {
    pub card: Arc<Card>,
    /// The place in the feed after the patch, from 0.
    pub position: usize,
    pub reason: UpsertReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removal {
    pub card: CardId,
    pub reason: RemovalReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpsertReason {
    Publish,
    Unsnooze,
    Update,
    Limit,
    Filter,
    Stream,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemovalReason {
    Complete,
    Dismiss,
    Snooze,
    Cancel,
    Expire,
    Limit,
    Filter,
    Stream,
    Delete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResyncReason {
    /// The token is not one of ours, is of another feed, or of a feed that no longer is.
    TokenUnusable,
    /// The changes since the token are not kept any more.
    TooOld,
    /// The subscriber could not keep up.
    TooSlow,
    /// The container shows another stream than before.
    Configuration,
}

/// Compares what a client holds with what was read.
pub(super) async fn between(
    conn: &AsyncPgConnection,
    view: &View,
    cursor: &Cursor,
    reading: Reading,
    now: Time,
) -> Result<Change> {
    if cursor.epoch != 0 && cursor.epoch != reading.place.epoch || cursor.version > reading.place.version {
        return Ok(Change::Resync(ResyncReason::TokenUnusable));
    }
    if cursor.stream != reading.place.stream {
        return Ok(Change::Resync(ResyncReason::Configuration));
    }
    let log = if cursor.version < reading.place.version {
        let log = Log::load(conn, view, cursor.version, now).await?;
        if !log.reaches(cursor.version) {
            return Ok(Change::Resync(ResyncReason::TooOld));
        }
        log
    } else {
        Log::default()
    };
    if !reading.differs(cursor) {
        let (counts, unseen) = (reading.counts(), reading.unseen());
        return Ok(Change::Nothing { counts, unseen, cursor: reading.advanced(cursor) });
    }
    let removals = removals(conn, view, cursor, &reading, &log).await?;
    // Whatever is counted, a change that shows must be a step.
    let to = reading.place.number().max(cursor.number + 1);
    let (counts, unseen, next) = (reading.counts(), reading.unseen(), reading.cursor(to));
    let upserts = upserts(view, cursor, reading, &log)?;
    Ok(Change::Patch(Patch { from: cursor.number, to, upserts, removals, counts, unseen, cursor: next }))
}

fn upserts(view: &View, cursor: &Cursor, reading: Reading, log: &Log) -> Result<Vec<Upsert>> {
    let held: HashSet<CardId> = cursor.held.iter().copied().collect();
    let limited = if view.filter.is_empty() {
        i64::try_from(held.len()).is_ok_and(|held| cursor.total > held)
    } else {
        i64::try_from(held.len()).is_ok_and(|held| held >= reading.place.limit)
    };
    let reason = |id: &CardId| match log.last.get(id) {
        Some(Op::Publish) => UpsertReason::Publish,
        Some(Op::Unsnooze) => UpsertReason::Unsnooze,
        _ if held.contains(id) => UpsertReason::Update,
        Some(Op::Update) if !view.filter.is_empty() => UpsertReason::Filter,
        Some(Op::Update | Op::Displayed) => UpsertReason::Limit,
        _ if limited => UpsertReason::Limit,
        _ => UpsertReason::Stream,
    };
    reading
        .visible
        .into_iter()
        .enumerate()
        .filter(|(_, row)| row.feed_version > cursor.version || !held.contains(&row.id))
        .map(|(position, row)| Ok(Upsert { position, reason: reason(&row.id), card: Arc::new(row.into_card()?) }))
        .collect()
}

async fn removals(
    conn: &AsyncPgConnection,
    view: &View,
    cursor: &Cursor,
    reading: &Reading,
    log: &Log,
) -> Result<Vec<Removal>> {
    let visible: HashSet<CardId> = reading.visible.iter().map(|row| row.id).collect();
    let gone: Vec<CardId> = cursor.held.iter().copied().filter(|id| !visible.contains(id)).collect();
    let closed = |id: &CardId| match log.last.get(id)? {
        Op::Complete => Some(RemovalReason::Complete),
        Op::Dismiss => Some(RemovalReason::Dismiss),
        Op::Snooze => Some(RemovalReason::Snooze),
        Op::Cancel => Some(RemovalReason::Cancel),
        Op::Expire => Some(RemovalReason::Expire),
        Op::Delete => Some(RemovalReason::Delete),
        Op::Publish | Op::Unsnooze | Op::Update | Op::Displayed => None,
    };
    let unexplained: Vec<CardId> = gone.iter().copied().filter(|id| closed(id).is_none()).collect();
    let mut outside: HashMap<CardId, RemovalReason> = HashMap::new();
    if !unexplained.is_empty() {
        if view.filter.is_empty() {
            let present = read::still_in_stream(conn, view, &unexplained).await?;
            outside.extend(present.into_iter().map(|id| (id, RemovalReason::Limit)));
        }
        outside.extend(
            reading
                .hidden
                .iter()
                .map(|card| (card.id, if card.matches { RemovalReason::Limit } else { RemovalReason::Filter })),
        );
    }
    let reason = |id: &CardId| closed(id).or(outside.get(id).copied()).unwrap_or(RemovalReason::Stream);
    Ok(gone.iter().map(|id| Removal { card: *id, reason: reason(id) }).collect())
}

/// What happened to each card since a version.
#[derive(Default)]
struct Log {
    last: HashMap<CardId, Op>,
    earliest: Option<i64>,
}

impl Log {
    async fn load(conn: &AsyncPgConnection, view: &View, version: i64, now: Time) -> Result<Log> {
        let rows: Vec<(i64, CardId, String)> = feed_changes::table
            .filter(feed_changes::environment_id.eq(view.env).and(feed_changes::customer_id.eq(view.customer)))
            .filter(feed_changes::version.gt(version).and(feed_changes::created_at.ge(now.minus(KEPT))))
            .order(feed_changes::version)
            .select((feed_changes::version, feed_changes::card_id, feed_changes::op))
            .load(&mut &*conn)
            .await?;
        let earliest = rows.as_slice().first().map(|(version, ..)| *version);
        let last = rows.into_iter().filter_map(|(_, card, op)| Some((card, Op::parse(&op)?))).collect();
        Ok(Log { last, earliest })
    }

    /// Whether nothing between `version` and the first change is missing.
    fn reaches(&self, version: i64) -> bool {
        self.earliest.is_some_and(|earliest| earliest == version + 1)
    }
}
