//! Flows as they are written: created, edited, cloned, archived, deleted.

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::prelude::*;
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;
use uuid::Uuid;

use super::graph::Graph;
use super::{cancel, run, version};
use crate::access::{Access, Level, Resource, audit, expect_revision};
use crate::app::App;
use crate::clock::Time;
use crate::db::page::{Page, PageRequest};
use crate::db::schema::{flows, triggers as trigger_rows};
use crate::db::{Prepared, Tx};
use crate::error::{Code, Error, Result, Violations};
use crate::ids::{EnvId, FlowId, Id, TemplateId, TriggerId};
use crate::text;

const METADATA_BYTES: usize = 16 * 1024;
const DESCRIPTION_CHARS: usize = 4_000;

/// An action flow; its definitions are its versions.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = flows)]
pub struct Flow {
    pub environment_id: EnvId,
    pub id: FlowId,
    pub name: String,
    pub description: String,
    pub metadata: Value,
    pub published_version: Option<i32>,
    pub draft_version: Option<i32>,
    pub archived_at: Option<Time>,
    pub status: State,
    pub created_at: Time,
    pub updated_at: Time,
    pub revision: i32,
}

/// What can be done with a flow now. Postgres derives it from the other columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, AsExpression, FromSqlRow)]
#[diesel(sql_type = Text)]
pub enum State {
    Draft,
    Published,
    /// Published, with a newer draft.
    Changed,
    Archived,
}

impl State {
    pub const ALL: &[State] = &[State::Draft, State::Published, State::Changed, State::Archived];

    pub fn word(self) -> &'static str {
        match self {
            State::Draft => "draft",
            State::Published => "published",
            State::Changed => "changed",
            State::Archived => "archived",
        }
    }

    pub fn parse(word: &str) -> Option<State> {
        State::ALL.iter().copied().find(|state| state.word() == word)
    }
}

impl ToSql<Text, Pg> for State {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        <str as ToSql<Text, Pg>>::to_sql(self.word(), out)
    }
}

impl FromSql<Text, Pg> for State {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        let word = <String as FromSql<Text, Pg>>::from_sql(value)?;
        State::parse(&word).ok_or_else(|| "not a state of a flow".into())
    }
}

impl Flow {
    /// The version that is edited and tested: the draft, or the published one where there is no draft.
    pub fn current_version(&self) -> i32 {
        self.draft_version.or(self.published_version).unwrap_or(1)
    }

    pub(super) fn refuse_archived(&self) -> Result<()> {
        if self.status == State::Archived { Err(Error::conflict("the flow is archived")) } else { Ok(()) }
    }
}

/// Something that starts a flow.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = trigger_rows)]
pub struct Trigger {
    pub environment_id: EnvId,
    pub id: TriggerId,
    pub flow_id: FlowId,
    /// `api`, `webhook` or `event`.
    pub kind: String,
    /// `test`, `live`, `paused` or `disabled`.
    pub mode: String,
    pub name: String,
    pub mapping: Value,
    pub shape_check: String,
    pub allowed_addresses: Vec<String>,
    /// Without the secret, which is sealed.
    pub verification: Option<Value>,
    pub secret: Option<Vec<u8>>,
    pub sample: Option<Value>,
    pub sample_headers: Value,
    pub sample_at: Option<Time>,
    /// Until then the next request becomes the sample.
    pub capture_until: Option<Time>,
    pub paused_at: Option<Time>,
    pub paused_reason: Option<String>,
    /// Paths and types of the request that paused it.
    pub paused_shape: Option<Value>,
    /// The type of event that fires an event trigger.
    pub event_name: Option<String>,
    /// What must hold of its envelope.
    pub condition: Option<Value>,
    /// The template whose cards it must concern.
    pub event_template_id: Option<TemplateId>,
    /// The flow from which it must stem.
    pub event_flow_id: Option<FlowId>,
    pub created_at: Time,
    pub updated_at: Time,
    pub revision: i32,
}

/// A flow to be made.
#[derive(Clone, Debug, Default)]
pub struct NewFlow {
    pub name: String,
    pub description: Option<String>,
    pub metadata: Option<Value>,
    pub definition: Option<Value>,
}

/// What to change; absent fields stay.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    pub name: Option<String>,
    pub description: Option<String>,
    pub metadata: Option<Value>,
    pub definition: Option<Value>,
    pub expected_revision: Option<i32>,
}

/// What happens to runs when their flow is archived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunsInProgress {
    GoOn,
    Cancel,
}

pub async fn find(conn: &AsyncPgConnection, env: EnvId, id: FlowId) -> Result<Option<Flow>> {
    Ok(flows::table.find((env, id)).select(Flow::as_select()).first(&mut &*conn).await.optional()?)
}

/// Which flows a list holds.
#[derive(Clone, Copy, Debug)]
pub struct FlowFilter {
    states: &'static [State],
}

impl FlowFilter {
    /// Flows in one state, or all.
    pub fn of(status: Option<State>) -> FlowFilter {
        let state = |status| State::ALL.iter().position(|state| *state == status);
        match status.and_then(state) {
            Some(place) => FlowFilter { states: &State::ALL[place..=place] },
            None => FlowFilter { states: State::ALL },
        }
    }

    /// Flows that have a version in force.
    pub(super) fn startable() -> FlowFilter {
        FlowFilter { states: &[State::Published, State::Changed] }
    }
}

/// Lists the flows of an environment, newest first.
pub async fn list(
    conn: &AsyncPgConnection,
    env: EnvId,
    filter: FlowFilter,
    page: &PageRequest<FlowId>,
) -> Result<Page<Flow>> {
    let before = page.after.unwrap_or_else(|| FlowId::from_uuid(uuid::Uuid::max()));
    let query = flows::table
        .filter(flows::environment_id.eq(env).and(flows::id.lt(before)))
        .filter(flows::status.eq_any(filter.states))
        .order(flows::id.desc())
        .limit(page.limit())
        .select(Flow::as_select());
    Ok(page.page(query.load(&mut &*conn).await?))
}

/// A window of a list by position, as REST asks for it.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub limit: i64,
    pub offset: i64,
}

/// Lists the flows of an environment by position, newest first.
pub async fn list_from(conn: &AsyncPgConnection, env: EnvId, filter: FlowFilter, window: Window) -> Result<Vec<Flow>> {
    let query = flows::table
        .filter(flows::environment_id.eq(env))
        .filter(flows::status.eq_any(filter.states))
        .order(flows::id.desc())
        .limit(window.limit)
        .offset(window.offset)
        .select(Flow::as_select());
    Ok(query.load(&mut &*conn).await?)
}

/// The triggers of flows, oldest first.
pub async fn triggers(conn: &AsyncPgConnection, env: EnvId, ids: &[FlowId]) -> Result<Vec<Trigger>> {
    let rows = trigger_rows::table
        .filter(trigger_rows::environment_id.eq(env))
        .filter(trigger_rows::flow_id.eq_any(ids))
        .order(trigger_rows::id)
        .select(Trigger::as_select());
    Ok(rows.load(&mut &*conn).await?)
}

/// One trigger.
pub async fn trigger(conn: &AsyncPgConnection, env: EnvId, id: TriggerId) -> Result<Option<Trigger>> {
    let row = trigger_rows::table.find((env, id)).select(Trigger::as_select());
    Ok(row.first(&mut &*conn).await.optional()?)
}

/// A flow that is not archived, locked against other changes until the transaction ends.
pub(crate) async fn lock_in(tx: &Tx, env: EnvId, id: FlowId) -> Result<Flow> {
    let flow = find_locked(tx, env, id).await?;
    flow.refuse_archived()?;
    Ok(flow)
}

/// The flow, locked against other changes until the transaction ends.
pub(super) async fn find_locked(tx: &Tx, env: EnvId, id: FlowId) -> Result<Flow> {
    let flow = flows::table.find((env, id)).select(Flow::as_select()).for_update().first(&mut tx.conn()).await;
    flow.optional()?.ok_or_else(|| Error::not_found("action flow"))
}

/// Shares the gate of a flow with others who start it, until the transaction ends. Comes before the flow is read: whoever
/// [closes the gate](close_gate_in) then waits for the runs that begin, and none begins on what is over by then.
///
/// Not a lock of the row: a crowd that shares one never lets in whoever wants it alone.
pub(super) async fn share_gate_in(tx: &Tx, env: EnvId, id: FlowId) -> Result<()> {
    let lock = sql_query("SELECT pg_advisory_xact_lock_shared($1)").bind::<BigInt, _>(gate(env, id));
    Prepared(lock).execute(&mut tx.conn()).await?;
    Ok(())
}

/// Waits for starts of the flow that are under way, and holds off others until the transaction ends. Comes first in it,
/// and the transaction is short.
pub(super) async fn close_gate_in(tx: &Tx, env: EnvId, id: FlowId) -> Result<()> {
    let lock = sql_query("SELECT pg_advisory_xact_lock($1)").bind::<BigInt, _>(gate(env, id));
    Prepared(lock).execute(&mut tx.conn()).await?;
    Ok(())
}

/// The gate of a flow, among the locks of the database. A flow that the environment does not have has another.
fn gate(env: EnvId, id: FlowId) -> i64 {
    let random = |uuid: Uuid| uuid.as_u64_pair().1;
    (random(env.uuid()) ^ random(id.uuid()).rotate_left(1)).cast_signed()
}

/// Makes a flow with its first draft and its `api` trigger.
pub async fn create(app: &App, access: &Access, new: NewFlow) -> Result<Flow> {
    create_with(app, access, new, &[]).await
}

/// Makes a flow with copies of triggers.
async fn create_with(app: &App, access: &Access, new: NewFlow, copied: &[TriggerId]) -> Result<Flow> {
    access.require(Resource::ActionFlow, Level::Edit)?;
    let definition = new.definition.clone().unwrap_or_else(Graph::empty_definition);
    let mut violations = Violations::new();
    violations.check(text::object_name(&new.name, "/name"));
    check_texts(new.description.as_deref(), new.metadata.as_ref(), &mut violations);
    let graph = inspect(app, access, &definition, &mut violations).await?;
    violations.finish()?;
    app.transact(async |tx| {
        let flow = insert_in(tx, access.env(), &new).await?;
        if let Some(graph) = &graph {
            version::save_in(tx, &flow, &definition, graph).await?;
        }
        if !copied.is_empty() {
            copy_triggers_in(tx, access.env(), flow.id, copied).await?;
        }
        audit::record_in(tx, access, "action-flow.create", flow.id, &["name", "definition"]).await?;
        Ok(flow)
    })
    .await
}

/// Reads a definition and reports everything that is wrong with it, also what it names and nobody has.
async fn inspect(app: &App, access: &Access, definition: &Value, violations: &mut Violations) -> Result<Option<Graph>> {
    let mut found = Violations::new();
    let (graph, references) = Graph::inspect(definition, &mut found);
    version::check_references(&*app.read().await?, access.env(), &references, &mut found).await?;
    violations.check(found.finish().map_err(|error| error.at("/definition")));
    Ok(graph)
}

async fn insert_in(tx: &mut Tx, env: EnvId, new: &NewFlow) -> Result<Flow> {
    let (id, now) = (tx.id::<FlowId>(), tx.now());
    let flow = diesel::insert_into(flows::table)
        .values((
            flows::environment_id.eq(env),
            flows::id.eq(id),
            flows::name.eq(&new.name),
            flows::description.eq(new.description.as_deref().unwrap_or_default()),
            flows::metadata.eq(new.metadata.clone().unwrap_or_else(|| Value::Object(serde_json::Map::new()))),
            flows::draft_version.eq(Some(1)),
            flows::created_at.eq(now),
            flows::updated_at.eq(now),
        ))
        .returning(Flow::as_returning())
        .get_result(&mut tx.conn())
        .await?;
    diesel::insert_into(trigger_rows::table)
        .values((
            trigger_rows::environment_id.eq(env),
            trigger_rows::id.eq(tx.ids().unguessable::<TriggerId>()),
            trigger_rows::flow_id.eq(id),
            trigger_rows::kind.eq("api"),
            trigger_rows::mode.eq("live"),
            trigger_rows::created_at.eq(now),
            trigger_rows::updated_at.eq(now),
        ))
        .execute(&mut tx.conn())
        .await?;
    Ok(flow)
}

/// Changes a flow. A new definition goes to the draft; the published version stays in force.
pub async fn update(app: &App, access: &Access, id: FlowId, changes: Changes) -> Result<Flow> {
    access.require(Resource::ActionFlow, Level::Edit)?;
    let mut violations = Violations::new();
    if let Some(name) = &changes.name {
        violations.check(text::object_name(name, "/name"));
    }
    check_texts(changes.description.as_deref(), changes.metadata.as_ref(), &mut violations);
    let graph = match &changes.definition {
        Some(definition) => inspect(app, access, definition, &mut violations).await?,
        None => None,
    };
    violations.finish()?;
    app.transact(async |tx| {
        let flow = find_locked(tx, access.env(), id).await?;
        flow.refuse_archived()?;
        expect_revision(flow.revision, changes.expected_revision)?;
        let draft = match (&changes.definition, &graph) {
            (Some(definition), Some(graph)) => Some(version::save_in(tx, &flow, definition, graph).await?),
            _ => flow.draft_version,
        };
        let flow = diesel::update(flows::table.find((access.env(), id)))
            .set((
                flows::name.eq(changes.name.as_ref().unwrap_or(&flow.name)),
                flows::description.eq(changes.description.as_ref().unwrap_or(&flow.description)),
                flows::metadata.eq(changes.metadata.as_ref().unwrap_or(&flow.metadata)),
                flows::draft_version.eq(draft),
                flows::updated_at.eq(tx.now()),
                flows::revision.eq(flows::revision + 1),
            ))
            .returning(Flow::as_returning())
            .get_result(&mut tx.conn())
            .await?;
        audit::record_in(tx, access, "action-flow.update", id, &changed(&changes)).await?;
        Ok(flow)
    })
    .await
}

fn changed(changes: &Changes) -> Vec<&'static str> {
    let fields = [
        ("name", changes.name.is_some()),
        ("description", changes.description.is_some()),
        ("metadata", changes.metadata.is_some()),
        ("definition", changes.definition.is_some()),
    ];
    fields.into_iter().filter_map(|(name, given)| given.then_some(name)).collect()
}

fn check_texts(description: Option<&str>, metadata: Option<&Value>, violations: &mut Violations) {
    if description.is_some_and(|text| text.chars().count() > DESCRIPTION_CHARS) {
        violations.add("/description", format!("a description has at most {DESCRIPTION_CHARS} characters"));
    }
    let Some(metadata) = metadata else { return };
    if !metadata.is_object() {
        violations.add("/metadata", "metadata must be an object");
    } else if metadata.to_string().len() > METADATA_BYTES {
        violations.add("/metadata", format!("metadata may take at most {} KiB", METADATA_BYTES / 1024));
    }
}

/// Retires a flow: nothing starts it any more. A flow that is archived already stays as it is.
pub async fn archive(app: &App, access: &Access, id: FlowId, runs: RunsInProgress) -> Result<Flow> {
    access.require(Resource::ActionFlow, Level::Admin)?;
    let env = access.env();
    let flow = app.transact(async |tx| {
        close_gate_in(tx, env, id).await?;
        let flow = find_locked(tx, env, id).await?;
        let flow = diesel::update(flows::table.find((env, id)))
            .set((
                flows::archived_at.eq(flow.archived_at.unwrap_or(tx.now())),
                flows::updated_at.eq(tx.now()),
                flows::revision.eq(flows::revision + 1),
            ))
            .returning(Flow::as_returning())
            .get_result(&mut tx.conn())
            .await?;
        version::forget_templates_in(tx, env, id).await?;
        audit::record_in(tx, access, "action-flow.archive", id, &["status"]).await?;
        Ok(flow)
    });
    let flow = flow.await?;
    if runs == RunsInProgress::Cancel {
        // Nothing begins any more, so nobody need wait at the gate while this goes on.
        app.transact(async |tx| cancel::stop_all_in(tx, env, id).await).await?;
    }
    Ok(flow)
}

/// Copies definition, variables and triggers into a new flow with ids of its own. No trigger of the copy fires for
/// customers until a member says so: webhook triggers are in test mode at new URLs, event triggers are disabled.
pub async fn clone(app: &App, access: &Access, id: FlowId, name: Option<String>) -> Result<Flow> {
    access.require(Resource::ActionFlow, Level::Edit)?;
    let conn = app.read().await?;
    let original = find(&conn, access.env(), id).await?.ok_or_else(|| Error::not_found("action flow"))?;
    let definition = version::find(&conn, access.env(), id, original.current_version()).await?;
    let copied: Vec<TriggerId> =
        triggers(&conn, access.env(), &[id]).await?.into_iter().filter(|it| it.kind != "api").map(|it| it.id).collect();
    drop(conn);
    let short: String = original.name.chars().take(240).collect();
    let copy = NewFlow {
        name: name.unwrap_or_else(|| format!("Copy of {short}")),
        description: Some(original.description),
        metadata: Some(original.metadata),
        definition: definition.map(|version| version.definition),
    };
    create_with(app, access, copy, &copied).await
}

/// Copies the settings of triggers, also the sealed secrets, which open for any trigger.
async fn copy_triggers_in(tx: &mut Tx, env: EnvId, flow: FlowId, originals: &[TriggerId]) -> Result<()> {
    let copies: Vec<TriggerId> = originals.iter().map(|_| tx.ids().unguessable()).collect();
    let copy = sql_query(
        "INSERT INTO triggers (environment_id, id, flow_id, kind, mode, name, mapping, shape_check, allowed_addresses,
                               verification, secret, sample, sample_headers, sample_at, event_name, condition,
                               event_template_id, event_flow_id, created_at, updated_at)
         SELECT environment_id, copy.id, $2, kind, CASE kind WHEN 'webhook' THEN 'test' ELSE 'disabled' END, name,
                mapping, shape_check, allowed_addresses, verification, secret, sample, sample_headers, sample_at,
                event_name, condition, event_template_id, event_flow_id, $3, $3
         FROM triggers JOIN UNNEST($4::uuid[], $5::uuid[]) AS copy (original, id) ON triggers.id = copy.original
         WHERE environment_id = $1",
    )
    .bind::<SqlUuid, _>(env)
    .bind::<SqlUuid, _>(flow)
    .bind::<Timestamptz, _>(tx.now())
    .bind::<Array<SqlUuid>, _>(originals)
    .bind::<Array<SqlUuid>, _>(copies);
    Prepared(copy).execute(&mut tx.conn()).await?;
    Ok(())
}

/// Deletes a flow with its versions and triggers. Runs in progress keep it.
pub async fn delete(app: &App, access: &Access, id: FlowId) -> Result<()> {
    access.require(Resource::ActionFlow, Level::Admin)?;
    app.transact(async |tx| {
        close_gate_in(tx, access.env(), id).await?;
        let flow = find_locked(tx, access.env(), id).await?;
        if run::in_progress(tx.conn(), access.env(), flow.id).await? {
            return Err(Error::new(Code::InUse, "the flow has runs in progress"));
        }
        diesel::delete(flows::table.find((access.env(), id))).execute(&mut tx.conn()).await?;
        audit::record_in(tx, access, "action-flow.delete", id, &[]).await
    })
    .await
}
