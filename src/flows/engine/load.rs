//! What executing steps needs to know, loaded for many runs at once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::claim::Token;
use super::enter::Entering;
use crate::access::environment;
use crate::cards::Status;
use crate::cards::content::Content;
use crate::cards::version::{self, Pinned};
use crate::cards::withdraw::{self, Fate};
use crate::clock::Time;
use crate::customers::profile::{self, Customer};
use crate::db::schema::{batches, flow_versions, starts};
use crate::error::{Error, Result};
use crate::events::{PlatformContext, TriggerSource};
use crate::flows::context;
use crate::flows::effect::{self, Effect};
use crate::flows::graph::Graph;
use crate::flows::reactions::{self, Reaction};
use crate::flows::run::{self, Run};
use crate::ids::{BatchId, CardId, CustomerId, EnvId, FlowId, LifecycleId, RunId, TemplateId};

/// What the runs of one entry were given.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = starts)]
pub(in crate::flows) struct Start {
    pub lifecycle_id: LifecycleId,
    pub payload: Value,
    pub variables: Value,
}

/// What the runs of one request keep to.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = batches)]
pub(in crate::flows) struct Batch {
    pub id: BatchId,
    pub flow_id: FlowId,
    pub flow_version: i32,
    pub source: String,
    pub templates: Value,
    pub definition: Option<Value>,
    pub accepted_at: Time,
}

/// A template version as a request keeps it.
#[derive(Deserialize)]
struct Pin {
    template: TemplateId,
    version: i32,
    /// Present for drafts only.
    name: Option<String>,
    content: Option<Value>,
}

/// The requests that started some runs.
#[derive(Default)]
pub(in crate::flows) struct Requests {
    pub starts: HashMap<LifecycleId, Start>,
    pub batches: HashMap<BatchId, Batch>,
}

impl Requests {
    pub fn start(&self, run: &Run) -> Result<&Start> {
        self.starts.get(&run.lifecycle_id).ok_or_else(|| Error::internal("a run lost its start"))
    }

    pub fn batch(&self, run: &Run) -> Result<&Batch> {
        self.batches.get(&run.batch_id).ok_or_else(|| Error::internal("a run lost its request"))
    }

    pub fn source(&self, run: &Run) -> TriggerSource {
        let word = self.batches.get(&run.batch_id).map(|batch| Value::from(batch.source.as_str()));
        word.and_then(|word| serde_json::from_value(word).ok()).unwrap_or(TriggerSource::Api)
    }

    /// What events say of a run.
    pub fn platform(&self, run: &Run) -> Option<PlatformContext> {
        let start = self.starts.get(&run.lifecycle_id)?;
        Some(context::platform(run, self.source(run), &start.payload))
    }
}

/// Loads the requests of runs.
pub(in crate::flows) async fn requests<'a>(
    conn: &AsyncPgConnection,
    env: EnvId,
    runs: impl IntoIterator<Item = &'a Run>,
) -> Result<Requests> {
    let (lifecycles, requests): (HashSet<LifecycleId>, HashSet<BatchId>) =
        runs.into_iter().map(|run| (run.lifecycle_id, run.batch_id)).unzip();
    let found_starts = starts::table
        .filter(starts::environment_id.eq(env).and(starts::lifecycle_id.eq_any(lifecycles)))
        .select(Start::as_select());
    let found_batches = batches::table
        .filter(batches::environment_id.eq(env).and(batches::id.eq_any(requests)))
        .select(Batch::as_select());
    let (found_starts, found_batches): (Vec<Start>, Vec<Batch>) =
        tokio::try_join!(found_starts.load(&mut &*conn), found_batches.load(&mut &*conn))?;
    Ok(Requests {
        starts: found_starts.into_iter().map(|start| (start.lifecycle_id, start)).collect(),
        batches: found_batches.into_iter().map(|batch| (batch.id, batch)).collect(),
    })
}

/// Everything that the steps of some runs can see.
pub(in crate::flows) struct World {
    pub runs: HashMap<RunId, Run>,
    pub requests: Requests,
    pub graphs: HashMap<BatchId, Arc<Graph>>,
    pub customers: HashMap<CustomerId, Customer>,
    /// The environment's zone.
    pub zone: TimeZone,
    pub(super) templates: HashMap<(BatchId, TemplateId), Arc<Pinned>>,
    pub(super) outputs: HashMap<RunId, Map<String, Value>>,
    pub(super) reactions: HashMap<CardId, Vec<Reaction>>,
    pub(super) effects: HashMap<(RunId, String), Effect>,
}

impl World {
    /// What the first steps of runs can see that are only beginning.
    pub(super) fn of_beginning(graph: &Arc<Graph>, entering: Entering) -> World {
        let Entering { runs, requests, customers, templates, zone, .. } = entering;
        let pinned =
            |batch: &BatchId| templates.iter().map(|it| ((*batch, it.template), it.clone())).collect::<Vec<_>>();
        World {
            graphs: requests.batches.keys().map(|batch| (*batch, graph.clone())).collect(),
            templates: requests.batches.keys().flat_map(pinned).collect(),
            runs,
            requests,
            customers,
            zone,
            outputs: HashMap::new(),
            reactions: HashMap::new(),
            effects: HashMap::new(),
        }
    }

    pub async fn load(conn: &AsyncPgConnection, env: EnvId, runs: HashMap<RunId, Run>) -> Result<World> {
        let ids: Vec<RunId> = runs.keys().copied().collect();
        let customers: Vec<CustomerId> = runs.values().map(|run| run.customer_id).collect();
        let (requests, customers, finished, zone) = tokio::try_join!(
            requests(conn, env, runs.values()),
            profile::find_many(conn, env, &customers),
            run::finished_steps(conn, env, &ids),
            environment::zone(conn, env),
        )?;
        let mut outputs: HashMap<RunId, Map<String, Value>> = HashMap::new();
        for step in finished.into_iter().filter(|step| step.status == "completed") {
            outputs.entry(step.run_id).or_default().insert(step.step_key, step.output);
        }
        let graphs = graphs(conn, env, &requests).await?;
        let remembering = runs.values().filter(|run| graphs.get(&run.batch_id).is_some_and(|graph| graph.looks_back));
        let remembering: Vec<RunId> = remembering.map(|run| run.id).collect();
        if !remembering.is_empty() {
            for fate in withdraw::fates(conn, env, &remembering).await? {
                remember(&mut outputs, fate);
            }
        }
        Ok(World {
            graphs,
            templates: templates(conn, env, &requests).await?,
            runs,
            requests,
            customers: customers.into_iter().map(|customer| (customer.id, customer)).collect(),
            zone,
            outputs,
            reactions: HashMap::new(),
            effects: HashMap::new(),
        })
    }

    /// Learns what was done to the cards for which tokens wait, and what came of the requests of their steps.
    pub(super) async fn look_back(&mut self, conn: &AsyncPgConnection, env: EnvId, tokens: &[Token]) -> Result<()> {
        let awaited = tokens.iter().filter_map(|token| {
            let run = self.runs.get(&token.run_id)?;
            Some(((token.wait_card?, run.user_id.clone()), run.started_at))
        });
        let (awaited, begun): (Vec<(CardId, String)>, Vec<Time>) = awaited.unzip();
        if let Some(since) = begun.into_iter().min() {
            self.reactions = reactions::of_cards(conn, env, &awaited, since).await?;
        }
        let acting = tokens.iter().filter(|token| token.reached_at.is_some() && token.wait_card.is_none());
        let acting: Vec<RunId> = acting.map(|token| token.run_id).collect();
        if !acting.is_empty() {
            let effects = effect::of_runs(conn, env, &acting).await?;
            self.effects = effects.into_iter().map(|it| ((it.run_id, it.step_key.clone()), it)).collect();
        }
        Ok(())
    }

    /// What was done to a card that was looked up, oldest first.
    pub(super) fn actions(&self, card: CardId) -> &[Reaction] {
        self.reactions.get(&card).map_or(&[], Vec::as_slice)
    }

    /// The request of a step that has been reached before.
    pub(super) fn effect(&self, run: &Run, key: &str) -> Option<&Effect> {
        self.effects.get(&(run.id, key.to_owned()))
    }

    /// The output of a completed step.
    pub(super) fn output(&self, run: &Run, key: &str) -> Option<&Value> {
        self.outputs.get(&run.id)?.get(key)
    }

    pub fn template(&self, run: &Run, template: TemplateId) -> Option<&Pinned> {
        self.templates.get(&(run.batch_id, template)).map(Arc::as_ref)
    }

    /// The outputs of the completed steps of a run, by key.
    pub fn outputs(&self, run: &Run) -> Map<String, Value> {
        self.outputs.get(&run.id).cloned().unwrap_or_default()
    }
}

/// Adds to the output of a *send card* step what became of the card since.
fn remember(outputs: &mut HashMap<RunId, Map<String, Value>>, fate: Fate) {
    let output = outputs.get_mut(&fate.run_id).and_then(|steps| steps.get_mut(&fate.step_key));
    let Some(Value::Object(output)) = output else { return };
    output.insert("status".to_owned(), Value::from(fate.status.word()));
    let closed_at = |status| (fate.status == status).then_some(fate.closed_at).flatten();
    for (name, value) in [
        ("response", fate.response),
        ("buttonName", fate.button_name.map(Value::from)),
        ("completedAt", closed_at(Status::Completed).map(|at| Value::from(at.to_string()))),
        ("dismissedAt", closed_at(Status::Dismissed).map(|at| Value::from(at.to_string()))),
    ] {
        output.extend(value.map(|value| (name.to_owned(), value)));
    }
}

/// The graph of each request: the version in force when it came, or the draft it keeps.
async fn graphs(conn: &AsyncPgConnection, env: EnvId, requests: &Requests) -> Result<HashMap<BatchId, Arc<Graph>>> {
    let live = requests.batches.values().filter(|batch| batch.definition.is_none());
    let (flows, versions): (HashSet<FlowId>, HashSet<i32>) =
        live.map(|batch| (batch.flow_id, batch.flow_version)).unzip();
    // A pair of filters gives a few versions too many and needs no tuple comparison.
    let rows: Vec<(FlowId, i32, Value)> = flow_versions::table
        .filter(flow_versions::environment_id.eq(env))
        .filter(flow_versions::flow_id.eq_any(flows).and(flow_versions::version.eq_any(versions)))
        .select((flow_versions::flow_id, flow_versions::version, flow_versions::definition))
        .load(&mut &*conn)
        .await?;
    let mut published = HashMap::with_capacity(rows.len());
    for (flow, version, definition) in rows {
        published.insert((flow, version), Arc::new(Graph::parse(&definition)?));
    }
    let mut graphs = HashMap::with_capacity(requests.batches.len());
    for batch in requests.batches.values() {
        let graph = match &batch.definition {
            Some(definition) => Arc::new(Graph::parse(definition)?),
            None => {
                let graph = published.get(&(batch.flow_id, batch.flow_version));
                graph.ok_or_else(|| Error::internal("a run lost its flow version"))?.clone()
            }
        };
        graphs.insert(batch.id, graph);
    }
    Ok(graphs)
}

/// The template versions of each request.
async fn templates(
    conn: &AsyncPgConnection,
    env: EnvId,
    requests: &Requests,
) -> Result<HashMap<(BatchId, TemplateId), Arc<Pinned>>> {
    let mut found = HashMap::new();
    let mut published: HashMap<(TemplateId, i32), Vec<BatchId>> = HashMap::new();
    for batch in requests.batches.values() {
        for pin in Vec::<Pin>::deserialize(&batch.templates)? {
            let Some(content) = &pin.content else {
                published.entry((pin.template, pin.version)).or_default().push(batch.id);
                continue;
            };
            let draft = Pinned {
                template: pin.template,
                version: pin.version,
                name: pin.name.unwrap_or_default(),
                content: Arc::new(Content::parse(content)?),
            };
            found.insert((batch.id, draft.template), Arc::new(draft));
        }
    }
    let wanted: Vec<(TemplateId, i32)> = published.keys().copied().collect();
    if wanted.is_empty() {
        return Ok(found);
    }
    for pinned in version::load(conn, env, &wanted).await? {
        let pinned = Arc::new(pinned);
        for batch in published.get(&(pinned.template, pinned.version)).into_iter().flatten() {
            found.insert((*batch, pinned.template), pinned.clone());
        }
    }
    Ok(found)
}
