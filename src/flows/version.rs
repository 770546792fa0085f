//! Versions of a flow: one draft that is edited, one published version in force, the superseded ones before it.

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;

use super::flow::{self, Flow, find_locked};
use super::graph::{Graph, References};
use super::transfer::{self, Followers};
use crate::access::{Access, Level, Resource, audit};
use crate::app::App;
use crate::cards;
use crate::db::schema::{flow_templates, flow_versions, flows};
use crate::db::{OnConstraint, Tx};
use crate::error::{Code, Error, Result, Violation, Violations};
use crate::ids::{EnvId, FlowId, TaskId, TemplateId};
use crate::streams;

/// One definition of a flow.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = flow_versions)]
pub struct Version {
    pub flow_id: FlowId,
    pub definition: Value,
}

pub async fn find(conn: &AsyncPgConnection, env: EnvId, flow: FlowId, version: i32) -> Result<Option<Version>> {
    let row = flow_versions::table.find((env, flow, version)).select(Version::as_select());
    Ok(row.first(&mut &*conn).await.optional()?)
}

/// The current version of each flow: the draft, or the published one where there is no draft.
pub async fn current(conn: &AsyncPgConnection, env: EnvId, ids: &[FlowId]) -> Result<Vec<Version>> {
    let newest = flow_versions::table
        .filter(flow_versions::environment_id.eq(env).and(flow_versions::flow_id.eq_any(ids)))
        .distinct_on(flow_versions::flow_id)
        .order((flow_versions::flow_id, flow_versions::version.desc()))
        .select(Version::as_select());
    Ok(newest.load(&mut &*conn).await?)
}

/// Writes a definition to the draft, opening one where there is none, and gives the draft's number.
pub(super) async fn save_in(tx: &mut Tx, flow: &Flow, definition: &Value, graph: &Graph) -> Result<i32> {
    let env = flow.environment_id;
    let mut violations = Violations::new();
    check_references(tx.conn(), env, &graph.references(), &mut violations).await?;
    violations.finish().map_err(|error| error.at("/definition"))?;
    let draft = flow.draft_version.unwrap_or_else(|| flow.published_version.unwrap_or(0) + 1);
    diesel::insert_into(flow_versions::table)
        .values((
            flow_versions::environment_id.eq(env),
            flow_versions::flow_id.eq(flow.id),
            flow_versions::version.eq(draft),
            flow_versions::definition.eq(definition),
            flow_versions::created_at.eq(tx.now()),
            flow_versions::updated_at.eq(tx.now()),
        ))
        .on_conflict((flow_versions::environment_id, flow_versions::flow_id, flow_versions::version))
        .do_update()
        .set((flow_versions::definition.eq(definition), flow_versions::updated_at.eq(tx.now())))
        .execute(&mut tx.conn())
        .await?;
    diesel::delete(flow_templates::table)
        .filter(flow_templates::environment_id.eq(env).and(flow_templates::flow_id.eq(flow.id)))
        .filter(flow_templates::version.eq(draft))
        .execute(&mut tx.conn())
        .await?;
    let used: Vec<_> = graph
        .templates()
        .into_iter()
        .map(|(template, _)| {
            (
                flow_templates::environment_id.eq(env),
                flow_templates::flow_id.eq(flow.id),
                flow_templates::version.eq(draft),
                flow_templates::template_id.eq(template),
            )
        })
        .collect();
    diesel::insert_into(flow_templates::table)
        .values(used)
        .execute(&mut tx.conn())
        .await
        .on_constraint("flow_templates_template_id_fkey", || {
            Error::invalid("/definition/steps", "a card template that a step sends was deleted")
        })?;
    Ok(draft)
}

/// Refuses steps that name templates, streams or containers which the environment does not have.
pub(super) async fn check_references(
    conn: &AsyncPgConnection,
    env: EnvId,
    references: &References,
    violations: &mut Violations,
) -> Result<()> {
    let ids: Vec<TemplateId> = references.templates.iter().map(|(template, _)| *template).collect();
    if !ids.is_empty() {
        let known = cards::version::status(conn, env, &ids).await?;
        for (template, pointer) in &references.templates {
            if !known.iter().any(|(id, _)| id == template) {
                violations.add(pointer, "there is no such card template");
            }
        }
    }
    let ids: Vec<_> = references.streams.iter().map(|(stream, _)| *stream).collect();
    if !ids.is_empty() {
        let missing = streams::stream::missing(conn, env, &ids).await?;
        for (_, pointer) in references.streams.iter().filter(|(stream, _)| missing.contains(stream)) {
            violations.add(pointer, "there is no such stream");
        }
    }
    let ids: Vec<_> = references.containers.iter().map(|(container, _)| *container).collect();
    if !ids.is_empty() {
        let missing = streams::container::missing(conn, env, &ids).await?;
        for (_, pointer) in references.containers.iter().filter(|(container, _)| missing.contains(container)) {
            violations.add(pointer, "there is no such container");
        }
    }
    Ok(())
}

/// A draft that was put in force.
#[derive(Clone, Debug)]
pub struct Published {
    pub version: i32,
    pub flow: Flow,
    /// What moves or cancels the runs in progress.
    pub task: Option<TaskId>,
}

/// Publishes the draft; runs in progress do as `followers` says. Atomic; a second call with the same draft is a
/// conflict.
pub async fn publish(app: &App, access: &Access, id: FlowId, followers: Followers) -> Result<Published> {
    access.require(Resource::ActionFlow, Level::Admin)?;
    app.transact(async |tx| {
        if followers != Followers::Stay {
            flow::close_gate_in(tx, access.env(), id).await?;
        }
        let (version, flow) = publish_in(tx, access.env(), id).await?;
        let task = transfer::follow_in(tx, access, id, version, followers).await?;
        audit::record_in(tx, access, "action-flow.publish", id, &["publishedVersion"]).await?;
        Ok(Published { version, flow, task })
    })
    .await
}

async fn publish_in(tx: &mut Tx, env: EnvId, id: FlowId) -> Result<(i32, Flow)> {
    let flow = find_locked(tx, env, id).await?;
    flow.refuse_archived()?;
    let draft = flow.draft_version.ok_or_else(|| Error::conflict("the flow has no draft to publish"))?;
    let version = find(tx.conn(), env, id, draft).await?.ok_or_else(|| Error::internal("a flow lost its draft"))?;
    let graph = Graph::parse(&version.definition).map_err(|error| error.at("/definition"))?;
    if graph.steps().is_empty() {
        return Err(Error::invalid("/definition/steps", "a flow needs a step before it can be published"));
    }
    refuse_unpublished(tx.conn(), env, &graph).await.map_err(|error| error.at("/definition"))?;
    diesel::update(flow_versions::table.find((env, id, draft)))
        .set((flow_versions::published_at.eq(tx.now()), flow_versions::updated_at.eq(tx.now())))
        .execute(&mut tx.conn())
        .await?;
    // A superseded version goes on in its runs, but it no longer keeps templates from being deleted.
    diesel::delete(flow_templates::table)
        .filter(flow_templates::environment_id.eq(env).and(flow_templates::flow_id.eq(id)))
        .filter(flow_templates::version.lt(draft))
        .execute(&mut tx.conn())
        .await?;
    let flow = diesel::update(flows::table.find((env, id)))
        .set((
            flows::published_version.eq(draft),
            flows::draft_version.eq(None::<i32>),
            flows::updated_at.eq(tx.now()),
            flows::revision.eq(flows::revision + 1),
        ))
        .returning(Flow::as_returning())
        .get_result(&mut tx.conn())
        .await?;
    Ok((draft, flow))
}

/// Refuses steps that send what is not published or is archived (specification 8.1).
async fn refuse_unpublished(conn: &AsyncPgConnection, env: EnvId, graph: &Graph) -> Result<()> {
    let templates = graph.templates();
    let ids: Vec<TemplateId> = templates.iter().map(|(template, _)| *template).collect();
    let published = cards::version::published(conn, env, &ids).await?;
    let states = cards::version::status(conn, env, &ids).await?;
    let refused = templates.into_iter().filter_map(|(template, pointer)| {
        let archived = states.contains(&(template, cards::template::TemplateState::Archived));
        let known = published.iter().any(|pinned| pinned.template == template);
        let detail = match (archived, known) {
            (true, _) => format!("the card template {template} is archived"),
            (_, false) => format!("the card template {template} is not published"),
            _ => return None,
        };
        Some(Violation { code: Code::NotPublished, detail, pointer: Some(pointer), parameter: None })
    });
    let refused: Vec<Violation> = refused.collect();
    if refused.is_empty() { Ok(()) } else { Err(Error::from_violations(refused)) }
}

/// Lets the templates of a flow be deleted.
pub(super) async fn forget_templates_in(tx: &mut Tx, env: EnvId, flow: FlowId) -> Result<()> {
    diesel::delete(flow_templates::table)
        .filter(flow_templates::environment_id.eq(env).and(flow_templates::flow_id.eq(flow)))
        .execute(&mut tx.conn())
        .await?;
    Ok(())
}
