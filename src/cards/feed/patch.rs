//! What changed between what a client holds and what there is: cards that come, cards that go, and why.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::card::Card;
use super::read::Reading;
use super::{Counts, Cursor, View};
use crate::cards::feed_change::Op;
use crate::error::Result;
use crate::ids::CardId;

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
    /// The container shows another stream than before, or the environment other parts of each card.
    Configuration,
}

/// What a client holds, and what was read for it.
pub(super) struct Comparison<'a> {
    pub view: &'a View,
    pub cursor: &'a Cursor,
    pub reading: Reading,
}

impl Comparison<'_> {
    /// Why the client must begin anew, if it must.
    fn resync(&self) -> Option<ResyncReason> {
        let Comparison { cursor, reading, .. } = self;
        if cursor.epoch != 0 && cursor.epoch != reading.place.epoch || cursor.version > reading.place.version {
            return Some(ResyncReason::TokenUnusable);
        }
        if cursor.stream != reading.place.stream || cursor.exposed != reading.place.exposed {
            return Some(ResyncReason::Configuration);
        }
        let behind = cursor.version < reading.place.version;
        (behind && !reading.log.reaches(cursor.version)).then_some(ResyncReason::TooOld)
    }

    /// What the client must be told.
    pub fn change(self) -> Result<Change> {
        if let Some(reason) = self.resync() {
            return Ok(Change::Resync(reason));
        }
        let Comparison { view, cursor, reading } = self;
        let (counts, unseen) = (reading.counts(), reading.unseen());
        if !reading.differs(cursor) {
            return Ok(Change::Nothing { counts, unseen, cursor: reading.advanced(cursor) });
        }
        let removals = removals(cursor, &reading);
        // Whatever is counted, a change that shows must be a step.
        let to = reading.place.number().max(cursor.number + 1);
        let (from, next) = (cursor.number, reading.cursor(to));
        let upserts = upserts(view, cursor, reading)?;
        Ok(Change::Patch(Patch { from, to, upserts, removals, counts, unseen, cursor: next }))
    }
}

/// The cards that the client shows and that are not visible any more.
fn removals(cursor: &Cursor, reading: &Reading) -> Vec<Removal> {
    let visible: HashSet<CardId> = reading.visible.iter().map(|row| row.id).collect();
    let hidden: HashMap<CardId, bool> = reading.hidden.iter().map(|card| (card.id, card.matches)).collect();
    let reason = |id: CardId| match (reading.log.last(id).and_then(closed), hidden.get(&id)) {
        (Some(closed), _) => closed,
        (None, Some(true)) => RemovalReason::Limit,
        (None, Some(false)) => RemovalReason::Filter,
        (None, None) => RemovalReason::Stream,
    };
    let missing = cursor.held.iter().copied().filter(|id| !visible.contains(id));
    missing.map(|card| Removal { card, reason: reason(card) }).collect()
}

fn upserts(view: &View, cursor: &Cursor, reading: Reading) -> Result<Vec<Upsert>> {
    let held: HashSet<CardId> = cursor.held.iter().copied().collect();
    let limited = if view.filter.is_empty() {
        i64::try_from(held.len()).is_ok_and(|held| cursor.total > held)
    } else {
        i64::try_from(held.len()).is_ok_and(|held| held >= reading.place.limit)
    };
    let log = reading.log;
    let reason = |id: CardId| match log.last(id) {
        Some(Op::Publish) => UpsertReason::Publish,
        Some(Op::Unsnooze) => UpsertReason::Unsnooze,
        _ if held.contains(&id) => UpsertReason::Update,
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
        .map(|(position, row)| Ok(Upsert { position, reason: reason(row.id), card: Arc::new(row.into_card()?) }))
        .collect()
}

/// Why a card is gone of which this happened last. `None`: by that it is not.
fn closed(last: Op) -> Option<RemovalReason> {
    match last {
        Op::Complete => Some(RemovalReason::Complete),
        Op::Dismiss => Some(RemovalReason::Dismiss),
        Op::Snooze => Some(RemovalReason::Snooze),
        Op::Cancel => Some(RemovalReason::Cancel),
        Op::Expire => Some(RemovalReason::Expire),
        Op::Delete => Some(RemovalReason::Delete),
        Op::Publish | Op::Unsnooze | Op::Update | Op::Displayed => None,
    }
}
