//! The one statement that reads feeds: for each its head, container and cards as they are at one instant.

use std::collections::HashSet;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Jsonb, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;

use super::card::{Card, Definition, or_empty};
use super::{Counts, Cursor, Page, View};
use crate::cards::filter::Subject;
use crate::clock::Time;
use crate::db::{Prepared, StoredJson};
use crate::error::{Code, Error, Result};
use crate::ids::{CardId, ContainerId, EnvId, Id, LifecycleId, StreamId, TemplateId};

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
    /// With a filter: the cards that it, or the limit behind it, keeps out.
    pub hidden: Vec<Hidden>,
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

/// A container without cards is one row of nulls beside the place.
#[derive(QueryableByName)]
struct Found {
    /// Which of the views it answers, from 1.
    #[diesel(sql_type = BigInt)]
    number: i64,
    #[diesel(sql_type = SqlUuid)]
    stream_id: StreamId,
    #[diesel(sql_type = BigInt)]
    card_limit: i64,
    #[diesel(sql_type = Bool)]
    exposed: bool,
    #[diesel(sql_type = Bool)]
    granted: bool,
    #[diesel(sql_type = BigInt)]
    epoch: i64,
    #[diesel(sql_type = BigInt)]
    version: i64,
    #[diesel(sql_type = BigInt)]
    mark: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    total: Option<i64>,
    #[diesel(embed)]
    card: FoundCard,
}

#[derive(QueryableByName)]
struct FoundCard {
    #[diesel(sql_type = Nullable<SqlUuid>)]
    id: Option<CardId>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    template_id: Option<TemplateId>,
    #[diesel(sql_type = Nullable<Text>)]
    template_name: Option<String>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    lifecycle_id: Option<LifecycleId>,
    #[diesel(sql_type = Nullable<SmallInt>)]
    priority: Option<i16>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    active_since: Option<Time>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    created_at: Option<Time>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    updated_at: Option<Time>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    expires_at: Option<Time>,
    #[diesel(sql_type = Nullable<Bool>)]
    is_test: Option<bool>,
    #[diesel(sql_type = Nullable<Bool>)]
    unseen: Option<bool>,
    #[diesel(sql_type = Nullable<BigInt>)]
    feed_version: Option<i64>,
    #[diesel(sql_type = Nullable<Jsonb>)]
    definition: Option<StoredJson>,
    #[diesel(sql_type = Nullable<Jsonb>)]
    runtime_variables: Option<StoredJson>,
    #[diesel(sql_type = Nullable<Jsonb>)]
    metadata: Option<StoredJson>,
    #[diesel(sql_type = Nullable<Jsonb>)]
    variables: Option<Value>,
    #[diesel(sql_type = Nullable<Jsonb>)]
    detail: Option<Value>,
    #[diesel(sql_type = Nullable<Jsonb>)]
    filter_metadata: Option<Value>,
}

/// Without a filter the limit is the database's; with one, every card of the stream is looked at. The cards that the
/// clients hold come in one array, from which each view has a slice.
const STATEMENT: &str = "
    SELECT asked.number, place.stream_id, place.card_limit, place.exposed, place.granted, place.epoch, place.version,
        place.mark, card.*
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
        SELECT c.id, c.template_id, c.template_name, c.lifecycle_id, c.priority, c.active_since, c.created_at,
            c.updated_at, c.expires_at, c.is_test, c.unseen, c.feed_version, count(*) OVER () AS total,
            CASE WHEN w.wanted THEN c.definition END AS definition,
            CASE WHEN w.wanted THEN c.runtime_variables END AS runtime_variables,
            CASE WHEN w.wanted AND place.exposed THEN c.metadata END AS metadata,
            CASE WHEN asked.reads_values THEN c.variables END AS variables,
            CASE WHEN asked.reads_values THEN c.detail END AS detail,
            CASE WHEN asked.reads_values THEN c.metadata END AS filter_metadata
        FROM cards c
        CROSS JOIN LATERAL (SELECT asked.contents AND (c.feed_version > asked.version
            OR c.id <> ALL (($12::uuid[])[asked.held_from:asked.held_to])) AS wanted) w
        WHERE c.environment_id = asked.environment_id AND c.customer_id = asked.customer_id AND c.status = 'active'
            AND (asked.platform IS NULL OR asked.platform = ANY (c.target_platforms))
            AND (place.built_in OR place.stream_id = ANY (c.stream_ids)
                OR (c.stream_ids IS NULL AND EXISTS (SELECT FROM stream_templates t
                    WHERE t.environment_id = asked.environment_id AND t.stream_id = place.stream_id
                        AND t.template_id = c.template_id)))
        ORDER BY c.priority, c.active_since DESC, c.created_at DESC, c.id
        LIMIT CASE WHEN asked.unfiltered THEN place.card_limit END
    ) card ON place.granted
    ORDER BY asked.number, card.priority, card.active_since DESC, card.created_at DESC, card.id";

/// Reads the feed of a view. Unknown containers are `not_found`, others `key_not_granted`.
pub(super) async fn read(conn: &AsyncPgConnection, view: &View, wanted: Wanted<'_>) -> Result<Reading> {
    let reading = read_many(conn, &[(view, wanted)]).await?.pop();
    reading.ok_or_else(|| Error::internal("a view was not answered"))?
}

/// Reads the feeds of some views, each as [`read`] does.
pub(super) async fn read_many(conn: &AsyncPgConnection, asked: &[(&View, Wanted<'_>)]) -> Result<Vec<Result<Reading>>> {
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
        .bind::<Array<SqlUuid>, _>(held);
    let found: Vec<Found> = Prepared(statement).load(&mut &*conn).await?;
    let mut found = found.into_iter().peekable();
    let readings = asked.iter().zip(1_i64..).map(|((view, _), number)| {
        let rows = std::iter::from_fn(|| found.next_if(|row| row.number == number));
        Reading::new(view, rows.collect())
    });
    Ok(readings.collect())
}

/// Cards that a client of a view held and does not see any more.
pub(super) struct Gone<'a> {
    pub view: &'a View,
    pub cards: Vec<CardId>,
}

/// Those of the cards that are active in the stream of their view, whatever its limit.
pub(super) async fn still_in_stream(
    conn: &AsyncPgConnection,
    gone: &[Gone<'_>],
) -> Result<HashSet<(ContainerId, CardId)>> {
    #[derive(QueryableByName)]
    struct Present {
        #[diesel(sql_type = SqlUuid)]
        container_id: ContainerId,
        #[diesel(sql_type = SqlUuid)]
        id: CardId,
    }
    let mut columns: (Vec<EnvId>, Vec<ContainerId>, Vec<CardId>) = Default::default();
    for gone in gone {
        for card in &gone.cards {
            columns.0.push(gone.view.env);
            columns.1.push(gone.view.container);
            columns.2.push(*card);
        }
    }
    if columns.0.is_empty() {
        return Ok(HashSet::new());
    }
    let statement = sql_query(
        "SELECT gone.container_id, c.id
         FROM UNNEST($1::uuid[], $2::uuid[], $3::uuid[]) AS gone (environment_id, container_id, card_id)
         JOIN cards c ON c.environment_id = gone.environment_id AND c.id = gone.card_id
         JOIN containers k ON k.environment_id = gone.environment_id AND k.id = gone.container_id
         JOIN streams s ON s.environment_id = k.environment_id AND s.id = k.stream_id
         WHERE c.status = 'active'
            AND (s.built_in OR s.id = ANY (c.stream_ids)
                OR (c.stream_ids IS NULL AND EXISTS (SELECT FROM stream_templates t
                    WHERE t.environment_id = c.environment_id AND t.stream_id = s.id
                        AND t.template_id = c.template_id)))",
    )
    .bind::<Array<SqlUuid>, _>(columns.0)
    .bind::<Array<SqlUuid>, _>(columns.1)
    .bind::<Array<SqlUuid>, _>(columns.2);
    let present: Vec<Present> = Prepared(statement).load(&mut &*conn).await?;
    Ok(present.into_iter().map(|card| (card.container_id, card.id)).collect())
}

impl Reading {
    fn new(view: &View, found: Vec<Found>) -> Result<Reading> {
        let first = found.as_slice().first().ok_or_else(|| Error::not_found("stream container"))?;
        if !first.granted {
            return Err(Error::new(Code::KeyNotGranted, "the API key is not granted to this container"));
        }
        let place = Place {
            stream: first.stream_id,
            limit: first.card_limit,
            epoch: first.epoch,
            version: first.version,
            mark: first.mark,
            exposed: first.exposed,
        };
        let mut reading = Reading { place, visible: Vec::new(), hidden: Vec::new(), total: first.total.unwrap_or(0) };
        let limit = usize::try_from(place.limit).unwrap_or(usize::MAX);
        for row in found {
            let Some(id) = row.card.id else { continue };
            let matches = row.card.matches(view)?;
            if matches && reading.visible.len() < limit {
                reading.visible.push(row.card.into_row(place.exposed)?);
            } else {
                reading.hidden.push(Hidden { id, matches });
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
    fn matches(&self, view: &View) -> Result<bool> {
        if view.filter.is_empty() {
            return Ok(true);
        }
        let null = Value::Null;
        Ok(view.filter.matches(&Subject {
            id: given(self.id)?,
            template: given(self.template_id)?,
            template_name: self.template_name.as_deref().unwrap_or_default(),
            priority: given(self.priority)?,
            created: given(self.created_at)?,
            variables: self.variables.as_ref().unwrap_or(&null),
            payload: self.detail.as_ref().unwrap_or(&null),
            metadata: self.filter_metadata.as_ref().unwrap_or(&null),
        }))
    }

    fn into_row(self, exposed: bool) -> Result<Row> {
        let card = match (&self.definition, self.runtime_variables) {
            (Some(definition), Some(runtime_variables)) => {
                let definition = Definition::cut(definition)?;
                Some(Card {
                    id: given(self.id)?,
                    created: given(self.created_at)?,
                    lifecycle: given(self.lifecycle_id)?,
                    priority: given(self.priority)?,
                    active_since: given(self.active_since)?,
                    updated: given(self.updated_at)?,
                    expires: self.expires_at,
                    is_test: given(self.is_test)?,
                    unseen: given(self.unseen)?,
                    top_card: StoredJson(definition.top_card),
                    subviews: or_empty(definition.subviews, "[]")?,
                    actions: or_empty(definition.actions, "{}")?,
                    runtime_variables,
                    payload: self.metadata.filter(|_| exposed),
                })
            }
            _ => None,
        };
        Ok(Row { id: given(self.id)?, feed_version: given(self.feed_version)?, unseen: given(self.unseen)?, card })
    }
}

/// A column that is null only in the row of a container without cards.
fn given<T>(column: Option<T>) -> Result<T> {
    column.ok_or_else(|| Error::internal("a card was read without a column it must have"))
}
