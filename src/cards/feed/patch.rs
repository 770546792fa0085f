//! What changed between what a client holds and what there is: cards that come, cards that go, and why.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Integer, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::card::Card;
use super::read::{self, Gone, Reading};
use super::{Counts, Cursor, View};
use crate::cards::feed_change::Op;
use crate::clock::Time;
use crate::db::Prepared;
use crate::error::Result;
use crate::ids::{CardId, ContainerId};

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
    /// The container shows another stream than before, or the environment other parts of each card.
    Configuration,
}

/// What a client holds, and what was read for it.
pub(super) struct Comparison<'a> {
    pub view: &'a View,
    pub cursor: &'a Cursor,
    pub reading: Reading,
}

/// Compares what clients hold with what was read. Asks the database for all of them at once.
pub(super) async fn between(
    conn: &AsyncPgConnection,
    comparisons: Vec<Comparison<'_>>,
    now: Time,
) -> Result<Vec<Result<Change>>> {
    let logs = logs(conn, &comparisons, now).await?;
    let gone: Vec<Gone<'_>> = comparisons.iter().zip(&logs).map(|(comparison, log)| comparison.gone(log)).collect();
    let present = read::still_in_stream(conn, &gone).await?;
    drop(gone);
    let changes = comparisons.into_iter().zip(&logs).map(|(comparison, log)| comparison.change(log, &present));
    Ok(changes.collect())
}

impl Comparison<'_> {
    fn is_behind(&self) -> bool {
        self.cursor.version < self.reading.place.version
    }

    /// Why the client must begin anew, if it must.
    fn resync(&self, log: &Log) -> Option<ResyncReason> {
        let Comparison { cursor, reading, .. } = self;
        if cursor.epoch != 0 && cursor.epoch != reading.place.epoch || cursor.version > reading.place.version {
            return Some(ResyncReason::TokenUnusable);
        }
        if cursor.stream != reading.place.stream || cursor.exposed != reading.place.exposed {
            return Some(ResyncReason::Configuration);
        }
        (self.is_behind() && !log.reaches(cursor.version)).then_some(ResyncReason::TooOld)
    }

    /// The cards that the client shows and that are not visible any more.
    fn missing(&self) -> Vec<CardId> {
        let visible: HashSet<CardId> = self.reading.visible.iter().map(|row| row.id).collect();
        self.cursor.held.iter().copied().filter(|id| !visible.contains(id)).collect()
    }

    /// Those of the missing cards of which only the database can say why. What a filter hides was read along.
    fn gone(&self, log: &Log) -> Gone<'_> {
        let asks = self.view.filter.is_empty() && self.resync(log).is_none();
        let cards = if asks { self.missing() } else { Vec::new() };
        Gone { view: self.view, cards: cards.into_iter().filter(|id| log.closed(*id).is_none()).collect() }
    }

    fn change(self, log: &Log, present: &HashSet<(ContainerId, CardId)>) -> Result<Change> {
        if let Some(reason) = self.resync(log) {
            return Ok(Change::Resync(reason));
        }
        let Comparison { view, cursor, reading } = &self;
        let (counts, unseen) = (reading.counts(), reading.unseen());
        if !reading.differs(cursor) {
            return Ok(Change::Nothing { counts, unseen, cursor: reading.advanced(cursor) });
        }
        let hidden: HashMap<CardId, bool> = reading.hidden.iter().map(|card| (card.id, card.matches)).collect();
        let reason = |id: CardId| match (log.closed(id), hidden.get(&id)) {
            (Some(closed), _) => closed,
            (None, Some(true)) => RemovalReason::Limit,
            (None, Some(false)) => RemovalReason::Filter,
            (None, None) if present.contains(&(view.container, id)) => RemovalReason::Limit,
            (None, None) => RemovalReason::Stream,
        };
        let removals = self.missing().into_iter().map(|card| Removal { card, reason: reason(card) }).collect();
        // Whatever is counted, a change that shows must be a step.
        let to = reading.place.number().max(cursor.number + 1);
        let (from, next) = (cursor.number, reading.cursor(to));
        let upserts = upserts(view, cursor, self.reading, log)?;
        Ok(Change::Patch(Patch { from, to, upserts, removals, counts, unseen, cursor: next }))
    }
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

/// What happened to each card since a version.
#[derive(Clone, Default)]
struct Log {
    last: HashMap<CardId, Op>,
    earliest: Option<i64>,
}

impl Log {
    /// Whether nothing between `version` and the first change is missing.
    fn reaches(&self, version: i64) -> bool {
        self.earliest.is_some_and(|earliest| earliest == version + 1)
    }

    /// How the card came to its end, if it did.
    fn closed(&self, card: CardId) -> Option<RemovalReason> {
        match self.last.get(&card)? {
            Op::Complete => Some(RemovalReason::Complete),
            Op::Dismiss => Some(RemovalReason::Dismiss),
            Op::Snooze => Some(RemovalReason::Snooze),
            Op::Cancel => Some(RemovalReason::Cancel),
            Op::Expire => Some(RemovalReason::Expire),
            Op::Delete => Some(RemovalReason::Delete),
            Op::Publish | Op::Unsnooze | Op::Update | Op::Displayed => None,
        }
    }
}

/// The changes since each cursor, of those that are behind.
async fn logs(conn: &AsyncPgConnection, comparisons: &[Comparison<'_>], now: Time) -> Result<Vec<Log>> {
    #[derive(QueryableByName)]
    struct Logged {
        #[diesel(sql_type = Integer)]
        number: i32,
        #[diesel(sql_type = BigInt)]
        version: i64,
        #[diesel(sql_type = SqlUuid)]
        card_id: CardId,
        #[diesel(sql_type = Text)]
        op: String,
    }
    let behind = || comparisons.iter().zip(0_i32..).filter(|(comparison, _)| comparison.is_behind());
    let mut logs = vec![Log::default(); comparisons.len()];
    if behind().next().is_none() {
        return Ok(logs);
    }
    let statement = sql_query(
        "SELECT behind.number, f.version, f.card_id, f.op
         FROM UNNEST($1::int[], $2::uuid[], $3::uuid[], $4::bigint[])
            AS behind (number, environment_id, customer_id, version)
         CROSS JOIN LATERAL (
            SELECT f.version, f.card_id, f.op FROM feed_changes f
            WHERE f.environment_id = behind.environment_id AND f.customer_id = behind.customer_id
                AND f.version > behind.version AND f.created_at >= $5
         ) f
         ORDER BY behind.number, f.version",
    )
    .bind::<Array<Integer>, _>(behind().map(|(_, number)| number).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(behind().map(|(comparison, _)| comparison.view.env).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(behind().map(|(comparison, _)| comparison.view.customer).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(behind().map(|(comparison, _)| comparison.cursor.version).collect::<Vec<_>>())
    .bind::<Timestamptz, _>(now.minus(KEPT));
    let rows: Vec<Logged> = Prepared(statement).load(&mut &*conn).await?;
    for row in rows {
        let Some(log) = usize::try_from(row.number).ok().and_then(|number| logs.get_mut(number)) else { continue };
        log.earliest.get_or_insert(row.version);
        if let Some(op) = Op::parse(&row.op) {
            log.last.insert(row.card_id, op);
        }
    }
    Ok(logs)
}
