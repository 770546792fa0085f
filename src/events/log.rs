//! Reads the record of events by what they are about, newest first.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::{ExportSettings, kind};
use crate::app::App;
use crate::clock::Time;
use crate::db::page::Page;
use crate::error::{Error, Result, Violations};
use crate::ids::{CardId, EnvId, EventId, FlowId, Id, RunId, TemplateId};

/// The days that a page is first looked for in.
const RECENT: Duration = Duration::from_secs(7 * 24 * 3600);

/// An event as it was recorded.
#[derive(Clone, Debug, QueryableByName)]
pub struct Logged {
    #[diesel(sql_type = SqlUuid)]
    pub id: EventId,
    #[diesel(sql_type = Text)]
    pub name: String,
    #[diesel(sql_type = Bool)]
    pub custom: bool,
    #[diesel(sql_type = Nullable<Text>)]
    pub end_user_id: Option<String>,
    #[diesel(sql_type = Timestamptz)]
    pub occurred_at: Time,
    #[diesel(sql_type = Timestamptz)]
    pub received_at: Time,
    #[diesel(sql_type = Bool)]
    pub is_test: bool,
    #[diesel(sql_type = Text)]
    pub payload: String,
}

impl Logged {
    pub fn place(&self) -> Place {
        Place { occurred_at: self.occurred_at, id: self.id }
    }
}

/// Which events are asked for. Absent fields ask for any.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub from: Option<Time>,
    pub to: Option<Time>,
    /// Standard names, and custom ones behind `custom:`.
    pub types: Option<Vec<String>>,
    pub end_user_id: Option<String>,
    pub card: Option<CardId>,
    pub template: Option<TemplateId>,
    pub flow: Option<FlowId>,
    pub run: Option<RunId>,
    pub invocation: Option<String>,
    pub is_test: Option<bool>,
}

/// Where a page ends; shown to callers as an opaque cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    occurred_at: Time,
    id: EventId,
}

impl Place {
    pub fn cursor(self) -> String {
        let mut bytes = self.occurred_at.as_millisecond().to_be_bytes().to_vec();
        bytes.extend_from_slice(self.id.uuid().as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a cursor that an earlier page gave.
    pub fn read(cursor: &str) -> Option<Place> {
        let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
        let (millis, id) = bytes.split_at_checked(8)?;
        let millis = i64::from_be_bytes(millis.try_into().ok()?);
        let id = EventId::from_uuid(uuid::Uuid::from_slice(id).ok()?);
        Some(Place { occurred_at: Time::from_millisecond(millis), id })
    }
}

/// The permission to read the events of an environment. `access` gives it to those who may: events know no callers.
#[derive(Clone, Copy, Debug)]
pub struct Permit(EnvId);

impl Permit {
    pub(crate) fn new(env: EnvId) -> Permit {
        Permit(env)
    }

    pub(super) fn env(self) -> EnvId {
        self.0
    }
}

/// Lists events of an environment, newest first, by (timestamp, id).
pub async fn list(
    app: &App,
    permit: Permit,
    filter: &Filter,
    limit: i64,
    after: Option<Place>,
) -> Result<Page<Logged>> {
    filter.check()?;
    let conn = app.read().await?;
    // Most pages are of the days just before where they begin: a plan for those opens few of the days that are kept.
    let begin = [Some(app.clock().now()), filter.to, after.map(|place| place.occurred_at)].into_iter().flatten().min();
    let recent = Filter { from: filter.from.max(begin.map(|begin| begin.minus(RECENT))), ..filter.clone() };
    let mut rows = find(&conn, permit.0, &recent, limit + 1, after).await?;
    if i64::try_from(rows.len()).map_err(Error::internal)? <= limit && recent.from != filter.from {
        rows = find(&conn, permit.0, filter, limit + 1, after).await?;
    }
    let size = usize::try_from(limit).map_err(Error::internal)?;
    let more = rows.len() > size;
    rows.truncate(size);
    Ok(Page { rows, more })
}

/// Lists events as they may leave the environment: without what its export settings leave out (§10.7).
pub async fn export(
    app: &App,
    permit: Permit,
    filter: &Filter,
    limit: i64,
    after: Option<Place>,
) -> Result<Page<Logged>> {
    filter.check()?;
    let settings = ExportSettings::find(&*app.read().await?, permit.0).await?;
    let mut filter = filter.clone();
    if !settings.test_cards {
        if filter.is_test == Some(true) {
            return Ok(Page { rows: Vec::new(), more: false });
        }
        filter.is_test = Some(false);
    }
    let mut page = list(app, permit, &filter, limit, after).await?;
    for row in &mut page.rows {
        row.payload = settings.omit().from_payload(&row.payload)?.into_owned();
    }
    Ok(page)
}

impl Filter {
    pub(super) fn check(&self) -> Result<()> {
        let mut violations = Violations::new();
        for (index, name) in self.types.iter().flatten().enumerate() {
            if !kind::known(name) {
                violations.add(format!("/types/{index}"), format!("{name:?} is not the name of an event"));
            }
        }
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from > to
        {
            violations.add("/to", "to lies before from");
        }
        violations.finish()
    }

    /// Adds what the filter asks to a query with so many values.
    pub(super) fn narrow<'a>(&self, query: BoxedQuery<'a>, binds: usize) -> Conditions<'a> {
        Conditions { query, binds }
            .and::<Timestamptz, _>("occurred_at >= ?", self.from)
            // Nothing is received before it occurs: days before need not be opened.
            .and::<Timestamptz, _>("received_at >= ?", self.from)
            .and::<Timestamptz, _>("occurred_at < ?", self.to)
            .and::<Array<Text>, _>("CASE WHEN custom THEN 'custom:' || name ELSE name END = ANY(?)", self.types.clone())
            .and::<Text, _>("end_user_id = ?", self.end_user_id.clone())
            .and::<SqlUuid, _>("card_id = ?", self.card)
            .and::<SqlUuid, _>("template_id = ?", self.template)
            .and::<SqlUuid, _>("flow_id = ?", self.flow)
            .and::<SqlUuid, _>("run_id = ?", self.run)
            .and::<Text, _>("payload::json #>> '{platformContext,flowInvocationId}' = ?", self.invocation.clone())
            .and::<Bool, _>("is_test = ?", self.is_test)
    }
}

type BoxedQuery<'a> = diesel::query_builder::BoxedSqlQuery<'a, Pg, diesel::query_builder::SqlQuery>;

/// A query that grows by conditions, which are numbered as they come.
pub(super) struct Conditions<'a> {
    query: BoxedQuery<'a>,
    binds: usize,
}

impl<'a> Conditions<'a> {
    /// Adds a condition in which `?` stands for the value.
    fn and<S, V>(mut self, condition: &str, value: Option<V>) -> Conditions<'a>
    where
        Pg: diesel::sql_types::HasSqlType<S>,
        S: Send + 'a,
        V: diesel::serialize::ToSql<S, Pg> + Send + 'a,
    {
        let Some(value) = value else { return self };
        self.binds += 1;
        let condition = format!(" AND {}", condition.replace('?', &format!("${}", self.binds)));
        self.query = self.query.sql(condition).bind::<S, V>(value);
        self
    }

    /// How many values the query has.
    pub(super) fn binds(&self) -> usize {
        self.binds
    }

    pub(super) fn finish(self, end: String) -> BoxedQuery<'a> {
        self.query.sql(end)
    }
}

async fn find(
    conn: &AsyncPgConnection,
    env: EnvId,
    filter: &Filter,
    limit: i64,
    after: Option<Place>,
) -> Result<Vec<Logged>> {
    let query = sql_query(
        "SELECT id, name, custom, end_user_id, occurred_at, received_at, is_test, payload FROM events
         WHERE environment_id = $1",
    )
    .into_boxed::<Pg>()
    .bind::<SqlUuid, _>(env);
    let conditions =
        filter.narrow(query, 1).and::<Timestamptz, _>("occurred_at <= ?", after.map(|place| place.occurred_at));
    let conditions = match after {
        Some(place) => {
            let earlier = format!("(occurred_at < ${} OR id < ?)", conditions.binds);
            conditions.and::<SqlUuid, _>(&earlier, Some(place.id))
        }
        None => conditions,
    };
    let end = format!(" ORDER BY occurred_at DESC, id DESC LIMIT ${}", conditions.binds + 1);
    Ok(conditions.finish(end).bind::<BigInt, _>(limit).load(&mut &*conn).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Ids;

    #[test]
    fn cursors_round_trip() {
        let occurred_at = Time::from_millisecond(1_767_225_600_123);
        let place = Place { occurred_at, id: Ids::seeded(1).make(occurred_at) };
        assert_eq!(Place::read(&place.cursor()), Some(place));
        for nonsense in ["", "x", "AAAA", "****"] {
            assert_eq!(Place::read(nonsense), None);
        }
    }

    #[test]
    fn unknown_types_and_empty_ranges_are_refused() {
        let time = |millis| Some(Time::from_millisecond(millis));
        let filter = Filter {
            types: Some(vec!["card-published".into(), "nope".into()]),
            from: time(2),
            to: time(1),
            ..Filter::default()
        };
        let error = filter.check().unwrap_err();
        let pointers: Vec<_> =
            error.violations().iter().map(|violation| violation.pointer.as_deref().unwrap()).collect();
        assert_eq!(pointers, ["/types/1", "/to"]);
    }
}
