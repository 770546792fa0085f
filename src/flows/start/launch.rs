//! What all runs of one start request have in common: flow version, template versions, trigger.

use std::sync::Arc;

use diesel::dsl::case_when;
use diesel::prelude::*;
use diesel::sql_types::Bool;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::{Caller, Mode};
use crate::access::environment;
use crate::cards;
use crate::cards::version::Pinned;
use crate::clock::Time;
use crate::db::Tx;
use crate::db::schema::{flow_versions, flows, triggers};
use crate::error::{Code, Error, Result};
use crate::flows::context;
use crate::flows::engine::load::Batch;
use crate::flows::flow::{self, Flow, State};
use crate::flows::graph::Graph;
use crate::ids::{BatchId, EnvId, FlowId, TemplateId, TriggerId};

/// A flow that is ready to start.
pub(super) struct Launch {
    pub flow: Flow,
    pub version: i32,
    pub graph: Arc<Graph>,
    /// Kept with the request where the version can still be edited.
    pub definition: Option<Value>,
    /// The template versions to which the runs keep; for tests the drafts themselves.
    pub templates: Value,
    pub pinned: Vec<Arc<Pinned>>,
    pub zone: TimeZone,
    pub trigger: Option<TriggerId>,
    pub caller: Caller,
}

impl Launch {
    /// Fixes the versions. An archived flow is answered like an unknown one.
    pub async fn load(tx: &Tx, env: EnvId, id: FlowId, caller: Caller) -> Result<Launch> {
        tokio::try_join!(tx.keep_plans(), flow::share_gate_in(tx, env, id))?;
        let (found, zone) = tokio::try_join!(find(tx.conn(), env, id, caller.mode), environment::zone(tx.conn(), env))?;
        let found = found.filter(|found| found.flow.status != State::Archived);
        let Found { flow, version, api } = found.ok_or_else(|| Error::not_found("action flow"))?;
        let (version, definition) =
            version.ok_or_else(|| Error::new(Code::NotPublished, "the flow is not published"))?;
        let graph = Arc::new(Graph::parse(&definition)?);
        if graph.steps().is_empty() {
            return Err(Error::conflict("the flow has no steps"));
        }
        let pinned = pinned(tx.conn(), env, &graph, caller.mode).await?;
        Ok(Launch {
            version,
            templates: stored(&pinned, caller.mode)?,
            pinned: pinned.into_iter().map(Arc::new).collect(),
            zone,
            definition: (caller.mode == Mode::Test).then_some(definition),
            trigger: caller.trigger.or(api),
            flow,
            graph,
            caller,
        })
    }

    /// What the runs of one request keep to.
    pub fn batch(&self, id: BatchId, accepted_at: Time) -> Batch {
        Batch {
            id,
            flow_id: self.flow.id,
            flow_version: self.version,
            source: context::word(self.caller.source).to_owned(),
            templates: self.templates.clone(),
            definition: self.definition.clone(),
            accepted_at,
        }
    }

    /// How many steps a run begins with.
    pub fn open_steps(&self) -> i32 {
        i32::try_from(self.graph.roots().count()).unwrap_or(i32::MAX)
    }
}

/// A flow, with what is started of it.
#[derive(Queryable)]
struct Found {
    flow: Flow,
    version: Option<(i32, Value)>,
    api: Option<TriggerId>,
}

async fn find(conn: &AsyncPgConnection, env: EnvId, id: FlowId, mode: Mode) -> Result<Option<Found>> {
    let edited = (mode == Mode::Test).into_sql::<Bool>().and(flows::draft_version.is_not_null());
    let started = case_when(edited, flows::draft_version).otherwise(flows::published_version);
    let version = flow_versions::environment_id.eq(flows::environment_id);
    let version = version.and(flow_versions::flow_id.eq(flows::id)).and(flow_versions::version.nullable().eq(started));
    let api = triggers::table
        .filter(triggers::environment_id.eq(env).and(triggers::flow_id.eq(id)).and(triggers::kind.eq("api")))
        .order(triggers::id)
        .select(triggers::id)
        .limit(1);
    let found = flows::table
        .left_join(flow_versions::table.on(version))
        .filter(flows::environment_id.eq(env).and(flows::id.eq(id)))
        .select((
            Flow::as_select(),
            (flow_versions::version, flow_versions::definition).nullable(),
            api.single_value(),
        ));
    Ok(found.first(&mut &*conn).await.optional()?)
}

/// The versions in force of the templates that a graph sends, as requests keep them.
pub(in crate::flows) async fn pins(conn: &AsyncPgConnection, env: EnvId, graph: &Graph) -> Result<Value> {
    stored(&pinned(conn, env, graph, Mode::Live).await?, Mode::Live)
}

/// The versions of the templates that a graph sends.
async fn pinned(conn: &AsyncPgConnection, env: EnvId, graph: &Graph, mode: Mode) -> Result<Vec<Pinned>> {
    let ids: Vec<TemplateId> = graph.templates().into_iter().map(|(template, _)| template).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    match mode {
        Mode::Live => cards::version::published(conn, env, &ids).await,
        Mode::Test => cards::version::drafts(conn, env, &ids).await,
    }
}

/// Versions of templates as requests keep them: by number, and drafts whole.
fn stored(pinned: &[Pinned], mode: Mode) -> Result<Value> {
    let mut pins = Vec::with_capacity(pinned.len());
    for pin in pinned {
        let mut stored = json!({ "template": pin.template, "version": pin.version });
        if mode == Mode::Test {
            stored["name"] = Value::from(pin.name.as_str());
            stored["content"] = serde_json::to_value(&*pin.content)?;
        }
        pins.push(stored);
    }
    Ok(Value::Array(pins))
}
