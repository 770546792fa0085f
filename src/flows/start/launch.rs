//! What all runs of one start request have in common: flow version, template versions, trigger.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Caller, Mode};
use crate::cards;
use crate::clock::Time;
use crate::db::Tx;
use crate::error::{Code, Error, Result};
use crate::flows::context;
use crate::flows::engine::load::Batch;
use crate::flows::flow::{self, Flow, State};
use crate::flows::graph::Graph;
use crate::flows::version;
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
    pub trigger: Option<TriggerId>,
    pub caller: Caller,
}

impl Launch {
    /// Fixes the versions. An archived flow is answered like an unknown one.
    pub async fn load(tx: &Tx, env: EnvId, id: FlowId, caller: Caller) -> Result<Launch> {
        let flow = flow::find(tx.conn(), env, id).await?.filter(|flow| flow.status != State::Archived);
        let flow = flow.ok_or_else(|| Error::not_found("action flow"))?;
        let version = match caller.mode {
            Mode::Live => flow.published_version,
            Mode::Test => Some(flow.current_version()),
        };
        let version = version.ok_or_else(|| Error::new(Code::NotPublished, "the flow is not published"))?;
        let (row, triggers) = tokio::try_join!(
            version::find(tx.conn(), env, id, version),
            flow::triggers(tx.conn(), env, std::slice::from_ref(&id))
        )?;
        let definition = row.ok_or_else(|| Error::internal("a flow lost a version"))?.definition;
        let graph = Arc::new(Graph::parse(&definition)?);
        if graph.steps().is_empty() {
            return Err(Error::conflict("the flow has no steps"));
        }
        Ok(Launch {
            version,
            templates: pins(tx, env, &graph, caller.mode).await?,
            definition: (caller.mode == Mode::Test).then_some(definition),
            trigger: caller
                .trigger
                .or_else(|| triggers.into_iter().find(|trigger| trigger.kind == "api").map(|trigger| trigger.id)),
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

/// The versions of the templates that a graph sends, as requests keep them.
pub(in crate::flows) async fn pins(tx: &Tx, env: EnvId, graph: &Graph, mode: Mode) -> Result<Value> {
    let ids: Vec<TemplateId> = graph.templates().into_iter().map(|(template, _)| template).collect();
    if ids.is_empty() {
        return Ok(json!([]));
    }
    let pinned = match mode {
        Mode::Live => cards::version::published(tx.conn(), env, &ids).await?,
        Mode::Test => cards::version::drafts(tx.conn(), env, &ids).await?,
    };
    let mut pins = Vec::with_capacity(pinned.len());
    for pin in pinned {
        let mut stored = json!({ "template": pin.template, "version": pin.version });
        if mode == Mode::Test {
            stored["name"] = Value::from(pin.name);
            stored["content"] = serde_json::to_value(&*pin.content)?;
        }
        pins.push(stored);
    }
    Ok(Value::Array(pins))
}
