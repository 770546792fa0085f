//! The one statement that reads feeds: for each its head, container, cards and log as they are at one instant.

use std::collections::HashMap;
use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Json, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;

use super::card::{Card, Definition, or_empty};
use super::{Counts, Cursor, Page, View};
use crate::cards::feed_change::Op;
use crate::cards::filter::Subject;
use crate::clock::Time;
use crate::db::{Placed, StoredJson};
use crate::error::{Code, Error, Result};
use crate::ids::{CardId, Id, LifecycleId, StreamId, TemplateId};

/// Of which cards the content is read along.
#[derive(Clone, Copy)]
pub(super) enum Wanted<'a> {
    Everything,
    /// Cards that the cursor does not hold, or that changed since.
    Since(&'a Cursor),
    Nothing,
}

/// What the statement found.
pub(super) struct Reading {
    pub place: Place,
    /// The cards after filter and limit, in order.
    pub visible: Vec<Row>,
    /// Cards of the stream that the filter or the limit keeps out: with a filter all of them, without one those that the
    /// client holds.
    pub hidden: Vec<Hidden>,
    /// What happened since the cursor, if that is behind.
    pub log: Log,
    total: i64,
}

/// The container, and where the customer's feed stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub stream: StreamId,
    pub limit: i64,
    pub epoch: i64,
    pub version: i64,
    /// Raised by each change of the container and of the stream it shows.
    mark: i64,
    pub exposed: bool,
}

impl Place {
    /// The version that clients are told: it counts the changes of the feed, of the container and of the stream, so
    /// that every server tells the same. 0 where nothing has changed yet; revisions begin at 1.
    pub fn number(&self) -> i64 {
        self.version + self.mark
    }
}

/// A card that is in the stream and not visible.
pub(super) struct Hidden {
    pub id: CardId,
    pub matches: bool,
}

/// One card, with its content where it was wanted.
pub(super) struct Row {
    pub id: CardId,
    pub feed_version: i64,
    pub unseen: bool,
    pub card: Option<Card>,
}

/// A row of the statement. A container without cards is one row of nulls beside the place.
#[derive(Queryable)]
struct Found {
    /// Which of the views it answers, from 1.
    number: i64,
    stream: StreamId,
    limit: i64,
    exposed: bool,
    granted: bool,
    epoch: i64,
    version: i64,
    mark: i64,
    /// The version of the first change since the cursor.
    earliest: Option<i64>,
    changed: Option<Vec<CardId>>,
    ops: Option<Vec<String>>,
    total: Option<i64>,
    card: Option<FoundCard>,
}

#[derive(Queryable)]
struct FoundCard {
    id: CardId,
    template: TemplateId,
    template_name: String,
    lifecycle: LifecycleId,
    priority: i16,
    active_since: Time,
    created: Time,
    updated: Time,
    expires: Option<Time>,
    is_test: bool,
    unseen: bool,
    feed_version: i64,
    definition: Option<Definition>,
    runtime_variables: Option<StoredJson>,
    metadata: Option<StoredJson>,
    variables: Option<Value>,
    detail: Option<Value>,
    filter_metadata: Option<Value>,
}

/// The columns of [`Found`], in the order of the statement.
type Columns = (
    BigInt,
    SqlUuid,
    BigInt,
    Bool,
    Bool,
    BigInt,
    BigInt,
    BigInt,
    Nullable<BigInt>,
    Nullable<Array<SqlUuid>>,
    Nullable<Array<Text>>,
    Nullable<BigInt>,
    Nullable<CardColumns>,
);

type CardColumns = (
    SqlUuid,
    SqlUuid,
    Text,
    SqlUuid,
    SmallInt,
    Timestamptz,
    Timestamptz,
    Timestamptz,
    Nullable<Timestamptz>,
    Bool,
    Bool,
    BigInt,
    Nullable<Json>,
    Nullable<Json>,
    Nullable<Json>,
    Nullable<Json>,
    Nullable<Json>,
    Nullable<Json>,
);

/// Without a filter the limit is the database's, beyond which it gives only what the client holds; with one, every card
/// of the stream is looked at. The cards that the clients hold come in one array, from which each view has a slice. The
/// log stands in the first row of a view whose client is behind.
const STATEMENT: &str = "
    SELECT asked.number, place.stream_id, place.card_limit, place.exposed, place.granted, place.epoch, place.version,
        place.mark, log.earliest, log.cards, log.ops, card.total, card.id, card.template_id, card.template_name,
        card.lifecycle_id, card.priority, card.active_since, card.created_at, card.updated_at, card.expires_at,
        card.is_test, card.unseen, card.feed_version,
        CASE WHEN w.wanted THEN card.definition END, CASE WHEN w.wanted THEN card.runtime_variables END,
        CASE WHEN w.wanted AND place.exposed THEN card.metadata END,
        CASE WHEN asked.reads_values THEN card.variables END, CASE WHEN asked.reads_values THEN card.detail END,
        CASE WHEN asked.reads_values THEN card.metadata END
    FROM UNNEST($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::bool[], $7::bool[], $8::bigint[],
            $9::int[], $10::int[], $11::bool[]) WITH ORDINALITY
        AS asked (environment_id, customer_id, container_id, sdk_key_id, platform, unfiltered, contents, version,
            held_from, held_to, reads_values, number)
    CROSS JOIN LATERAL (
        SELECT k.stream_id, k.card_limit::bigint AS card_limit, s.built_in, e.expose_metadata_to_sdk AS exposed,
            COALESCE(h.epoch, 0) AS epoch, COALESCE(h.version, 0) AS version,
            k.revision::bigint + s.revision - 2 AS mark,
            EXISTS (SELECT FROM container_keys g
                WHERE g.environment_id = k.environment_id AND g.container_id = k.id
                    AND g.sdk_key_id = asked.sdk_key_id) AS granted
        FROM containers k
        JOIN environments e ON e.id = k.environment_id
        JOIN streams s ON s.environment_id = k.environment_id AND s.id = k.stream_id
        LEFT JOIN feed_heads h ON h.environment_id = k.environment_id AND h.customer_id = asked.customer_id
        WHERE k.environment_id = asked.environment_id AND k.id = asked.container_id
    ) place
    LEFT JOIN LATERAL (
        SELECT c.*, count(*) OVER () AS total,
            row_number() OVER (ORDER BY c.priority, c.active_since DESC, c.created_at DESC, c.id) AS position
        FROM cards c
        WHERE c.environment_id = asked.environment_id AND c.customer_id = asked.customer_id AND c.status = 'active'
            AND (asked.platform IS NULL OR asked.platform = ANY (c.target_platforms))
            AND (place.built_in OR place.stream_id = ANY (c.stream_ids)
                OR (c.stream_ids IS NULL AND EXISTS (SELECT FROM stream_templates t
                    WHERE t.environment_id = asked.environment_id AND t.stream_id = place.stream_id
                        AND t.template_id = c.template_id)))
    ) card ON place.granted AND (NOT asked.unfiltered OR card.position <= place.card_limit
        OR card.id = ANY (($12::uuid[])[asked.held_from:asked.held_to]))
    CROSS JOIN LATERAL (SELECT asked.contents AND (card.feed_version > asked.version
        OR card.id <> ALL (($12::uuid[])[asked.held_from:asked.held_to])) AS wanted) w
    CROSS JOIN LATERAL (
        SELECT min(f.version) AS earliest, array_agg(f.card_id ORDER BY f.version) AS cards,
            array_agg(f.op ORDER BY f.version) AS ops
        FROM feed_changes f
        WHERE asked.version >= 0 AND asked.version < place.version AND COALESCE(card.position, 1) = 1
            AND f.environment_id = asked.environment_id AND f.customer_id = asked.customer_id
            AND f.version > asked.version AND f.created_at >= $13
    ) log
    ORDER BY asked.number, card.position";

/// Changes are looked for this far back. Their table is cut into days, and most need only one looked at.
const LOGGED: Duration = Duration::from_secs(24 * 3600);

/// Reads the feed of a view. Unknown containers are `not_found`, others `key_not_granted`.
pub(super) async fn read(conn: &AsyncPgConnection, view: &View, wanted: Wanted<'_>, now: Time) -> Result<Reading> {
    let reading = read_many(conn, &[(view, wanted)], now).await?.pop();
    reading.ok_or_else(|| Error::internal("a view was not answered"))?
}

/// Reads the feeds of some views, each as [`read`] does.
pub(super) async fn read_many(
    conn: &AsyncPgConnection,
    asked: &[(&View, Wanted<'_>)],
    now: Time,
) -> Result<Vec<Result<Reading>>> {
    let each = |column: fn(&View) -> uuid::Uuid| asked.iter().map(|(view, _)| column(view)).collect::<Vec<_>>();
    let (mut held, mut slices): (Vec<CardId>, Vec<(i32, i32)>) = (Vec::new(), Vec::with_capacity(asked.len()));
    for (_, wanted) in asked {
        let from = held.len() + 1;
        if let Wanted::Since(cursor) = wanted {
            held.extend(cursor.held.iter());
        }
        slices
            .push((i32::try_from(from).map_err(Error::internal)?, i32::try_from(held.len()).map_err(Error::internal)?));
    }
    let (held_from, held_to): (Vec<i32>, Vec<i32>) = slices.into_iter().unzip();
    let versions = asked.iter().map(|(_, wanted)| match wanted {
        Wanted::Since(cursor) => cursor.version,
        Wanted::Everything | Wanted::Nothing => -1,
    });
    let statement = sql_query(STATEMENT)
        .bind::<Array<SqlUuid>, _>(each(|view| view.env.uuid()))
        .bind::<Array<SqlUuid>, _>(each(|view| view.customer.uuid()))
        .bind::<Array<SqlUuid>, _>(each(|view| view.container.uuid()))
        .bind::<Array<SqlUuid>, _>(each(|view| view.key.uuid()))
        .bind::<Array<Nullable<Text>>, _>(asked.iter().map(|(view, _)| view.platform.as_deref()).collect::<Vec<_>>())
        .bind::<Array<Bool>, _>(asked.iter().map(|(view, _)| view.filter.is_empty()).collect::<Vec<_>>())
        .bind::<Array<Bool>, _>(asked.iter().map(|(_, wanted)| !matches!(wanted, Wanted::Nothing)).collect::<Vec<_>>())
        .bind::<Array<BigInt>, _>(versions.collect::<Vec<_>>())
        .bind::<Array<Integer>, _>(held_from)
        .bind::<Array<Integer>, _>(held_to)
        .bind::<Array<Bool>, _>(asked.iter().map(|(view, _)| view.filter.reads_values()).collect::<Vec<_>>())
        .bind::<Array<SqlUuid>, _>(held)
        .bind::<Timestamptz, _>(now.minus(LOGGED));
    let found: Vec<Found> = Placed::<_, Columns>::new(statement).load(&mut &*conn).await?;
    let mut found = found.into_iter().peekable();
    let readings = asked.iter().zip(1_i64..).map(|((view, _), number)| {
        // Those of a view that is refused are passed over too.
        let rows: Vec<Found> = std::iter::from_fn(|| found.next_if(|row| row.number == number)).collect();
        Reading::new(view, rows.into_iter())
    });
    Ok(readings.collect())
}

impl Reading {
    fn new(view: &View, found: impl Iterator<Item = Found>) -> Result<Reading> {
        let mut found = found.peekable();
        let first = found.peek_mut().ok_or_else(|| Error::not_found("stream container"))?;
        if !first.granted {
            return Err(Error::new(Code::KeyNotGranted, "the API key is not granted to this container"));
        }
        let place = Place {
            stream: first.stream,
            limit: first.limit,
            epoch: first.epoch,
            version: first.version,
            mark: first.mark,
            exposed: first.exposed,
        };
        let (changed, ops) = (first.changed.take().unwrap_or_default(), first.ops.take().unwrap_or_default());
        let log = Log::new(first.earliest, changed.into_iter().zip(&ops));
        let (visible, hidden, total) = (Vec::new(), Vec::new(), first.total.unwrap_or(0));
        let mut reading = Reading { place, visible, hidden, log, total };
        let limit = usize::try_from(place.limit).unwrap_or(usize::MAX);
        for card in found.filter_map(|row| row.card) {
            let matches = card.matches(view);
            if matches && reading.visible.len() < limit {
                reading.visible.push(card.into_row(place.exposed)?);
            } else {
                reading.hidden.push(Hidden { id: card.id, matches });
            }
        }
        Ok(reading)
    }

    pub fn counts(&self) -> Counts {
        Counts { visible: i64::try_from(self.visible.len()).unwrap_or(i64::MAX), total: self.total }
    }

    pub fn unseen(&self) -> Vec<CardId> {
        self.visible.iter().filter(|row| row.unseen).map(|row| row.id).collect()
    }

    /// Whether a client that stands at the cursor sees something else than this.
    pub fn differs(&self, cursor: &Cursor) -> bool {
        self.place.epoch != cursor.epoch && cursor.epoch != 0
            || self.place.exposed != cursor.exposed
            || self.total != cursor.total
            || self.visible.len() != cursor.held.len()
            || self.visible.iter().any(|row| row.feed_version > cursor.version || !cursor.held.contains(&row.id))
    }

    /// The cursor of a client that holds this, counted on from `number`.
    pub fn cursor(&self, number: i64) -> Cursor {
        Cursor {
            epoch: self.place.epoch,
            version: self.place.version,
            number,
            total: self.total,
            stream: self.place.stream,
            exposed: self.place.exposed,
            held: self.visible.iter().map(|row| row.id).collect(),
        }
    }

    /// The cursor of a client to which this says nothing new.
    pub fn advanced(&self, cursor: &Cursor) -> Cursor {
        self.cursor(cursor.number)
    }

    pub fn into_page(self) -> Result<Page> {
        let (counts, unseen, cursor) = (self.counts(), self.unseen(), self.cursor(self.place.number()));
        let cards = self.visible.into_iter().map(Row::into_card).collect::<Result<_>>()?;
        Ok(Page { cards, counts, unseen, cursor })
    }
}

impl Row {
    pub fn into_card(self) -> Result<Card> {
        self.card.ok_or_else(|| Error::internal("a card was read without its content"))
    }
}

impl FoundCard {
    fn matches(&self, view: &View) -> bool {
        let null = Value::Null;
        view.filter.is_empty()
            || view.filter.matches(&Subject {
                id: self.id,
                template: self.template,
                template_name: &self.template_name,
                priority: self.priority,
                created: self.created,
                variables: self.variables.as_ref().unwrap_or(&null),
                payload: self.detail.as_ref().unwrap_or(&null),
                metadata: self.filter_metadata.as_ref().unwrap_or(&null),
            })
    }

    fn into_row(self, exposed: bool) -> Result<Row> {
        let card = match (self.definition, self.runtime_variables) {
            (Some(definition), Some(runtime_variables)) => Some(Card {
                id: self.id,
                created: self.created,
                lifecycle: self.lifecycle,
                priority: self.priority,
                active_since: self.active_since,
                updated: self.updated,
                expires: self.expires,
                is_test: self.is_test,
                unseen: self.unseen,
                top_card: StoredJson(definition.top_card),
                subviews: or_empty(definition.subviews, "[]")?,
                actions: or_empty(definition.actions, "{}")?,
                runtime_variables,
                payload: self.metadata.filter(|_| exposed),
            }),
            _ => None,
        };
        Ok(Row { id: self.id, feed_version: self.feed_version, unseen: self.unseen, card })
    }
}

/// What happened to each card since the version that a client holds.
#[derive(Default)]
pub(super) struct Log {
    last: HashMap<CardId, Op>,
    earliest: Option<i64>,
}

impl Log {
    /// In the order in which it happened. What a later version of this server has logged is passed over.
    fn new<'a>(earliest: Option<i64>, changes: impl Iterator<Item = (CardId, &'a String)>) -> Log {
        let last = changes.filter_map(|(card, op)| Some((card, Op::parse(op)?))).collect();
        Log { last, earliest }
    }

    /// Whether nothing between `version` and the first change is missing.
    pub fn reaches(&self, version: i64) -> bool {
        self.earliest.is_some_and(|earliest| earliest == version + 1)
    }

    /// The last thing that happened to the card.
    pub fn last(&self, card: CardId) -> Option<Op> {
        self.last.get(&card).copied()
    }
}
