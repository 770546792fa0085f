//! Reading flows and runs, together with what callers show beside them.

use std::collections::HashMap;

use diesel_async::AsyncPgConnection;
use serde_json::Value;

use super::effect::{self, Attempt, Effect};
use super::flow::{self, Flow, FlowFilter, Trigger, Window};
use super::run::{self, FinishedStep, OpenStep, Run, RunFilter};
use super::version;
use crate::access::{Access, Level, Resource};
use crate::app::App;
use crate::db::page::{Page, PageRequest};
use crate::error::{Error, Result};
use crate::ids::{EnvId, FlowId, RunId};

/// A flow with the definition that is being edited (the published one where there is no draft) and its triggers.
#[derive(Clone, Debug)]
pub struct FlowView {
    pub flow: Flow,
    pub definition: Value,
    pub triggers: Vec<Trigger>,
}

/// A run with the steps it has finished and reached, and the requests it has made.
#[derive(Clone, Debug)]
pub struct RunView {
    pub run: Run,
    pub steps: Vec<FinishedStep>,
    pub open: Vec<OpenStep>,
    pub requests: Vec<(Effect, Vec<Attempt>)>,
}

impl RunView {
    fn of(run: Run) -> RunView {
        RunView { run, steps: Vec::new(), open: Vec::new(), requests: Vec::new() }
    }
}

pub async fn flow(app: &App, access: &Access, id: FlowId) -> Result<FlowView> {
    access.require(Resource::ActionFlow, Level::View)?;
    let conn = app.read().await?;
    let flow = flow::find(&conn, access.env(), id).await?.ok_or_else(|| Error::not_found("action flow"))?;
    let view = complete(&conn, access.env(), vec![flow]).await?.pop();
    view.ok_or_else(|| Error::not_found("action flow"))
}

pub async fn flows(
    app: &App,
    access: &Access,
    filter: FlowFilter,
    page: &PageRequest<FlowId>,
) -> Result<Page<FlowView>> {
    access.require(Resource::ActionFlow, Level::View)?;
    let conn = app.read().await?;
    let Page { rows, more } = flow::list(&conn, access.env(), filter, page).await?;
    Ok(Page { rows: complete(&conn, access.env(), rows).await?, more })
}

/// The flows that can be started by hand, newest first.
pub async fn startable(app: &App, access: &Access, page: &PageRequest<FlowId>) -> Result<Page<FlowView>> {
    access.require(Resource::SendToCustomers, Level::Edit)?;
    flows(app, access, FlowFilter::startable(), page).await
}

/// Flows by position, without their definitions.
pub async fn flow_window(app: &App, access: &Access, filter: FlowFilter, window: Window) -> Result<Vec<Flow>> {
    access.require(Resource::ActionFlow, Level::View)?;
    flow::list_from(&*app.read().await?, access.env(), filter, window).await
}

async fn complete(conn: &AsyncPgConnection, env: EnvId, flows: Vec<Flow>) -> Result<Vec<FlowView>> {
    let ids: Vec<FlowId> = flows.iter().map(|flow| flow.id).collect();
    let (versions, triggers) = tokio::try_join!(version::current(conn, env, &ids), flow::triggers(conn, env, &ids))?;
    let mut definitions: HashMap<FlowId, Value> =
        versions.into_iter().map(|version| (version.flow_id, version.definition)).collect();
    let view = |flow: Flow| FlowView {
        definition: definitions.remove(&flow.id).unwrap_or_else(super::Graph::empty_definition),
        triggers: triggers.iter().filter(|trigger| trigger.flow_id == flow.id).cloned().collect(),
        flow,
    };
    Ok(flows.into_iter().map(view).collect())
}

pub async fn run(app: &App, access: &Access, id: RunId) -> Result<RunView> {
    access.require(Resource::ActionFlow, Level::View)?;
    let conn = app.read().await?;
    let run = run::find(&conn, access.env(), id).await?.ok_or_else(|| Error::not_found("flow run"))?;
    let view = look_into(&conn, access.env(), vec![run]).await?.pop();
    view.ok_or_else(|| Error::not_found("flow run"))
}

pub async fn runs(app: &App, access: &Access, filter: RunFilter, page: &PageRequest<RunId>) -> Result<Page<RunView>> {
    access.require(Resource::ActionFlow, Level::View)?;
    let conn = app.read().await?;
    let Page { rows, more } = run::list(&conn, access.env(), filter, page).await?;
    Ok(Page { rows: look_into(&conn, access.env(), rows).await?, more })
}

/// Adds to runs what they have done and are doing.
async fn look_into(conn: &AsyncPgConnection, env: EnvId, runs: Vec<Run>) -> Result<Vec<RunView>> {
    let ids: Vec<RunId> = runs.iter().map(|run| run.id).collect();
    let (finished, open, effects, attempts) = tokio::try_join!(
        run::finished_steps(conn, env, &ids),
        run::open_steps(conn, env, &ids),
        effect::of_runs(conn, env, &ids),
        effect::attempts(conn, env, &ids),
    )?;
    let mut views: HashMap<RunId, RunView> = runs.into_iter().map(|run| (run.id, RunView::of(run))).collect();
    for step in finished {
        views.entry(step.run_id).and_modify(|view| view.steps.push(step.clone()));
    }
    for step in open {
        views.entry(step.run_id).and_modify(|view| view.open.push(step.clone()));
    }
    for effect in effects {
        let tried =
            attempts.iter().filter(|attempt| attempt.run_id == effect.run_id && attempt.step_key == effect.step_key);
        let tried: Vec<Attempt> = tried.cloned().collect();
        views.entry(effect.run_id).and_modify(|view| view.requests.push((effect.clone(), tried.clone())));
    }
    Ok(ids.iter().filter_map(|id| views.remove(id)).collect())
}
