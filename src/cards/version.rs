//! Versions of card templates: what drafts and publications say, loaded once and kept.
//!
//! Content is kept in the process by its digest. Equal digests are equal content, so nothing kept can ever be
//! stale, and a hot flow reads names and digests only.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use diesel::prelude::*;
use diesel::sql_types::{Array, Bytea, Integer, Jsonb, Text, Uuid as SqlUuid};
use diesel::upsert::excluded;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use parking_lot::Mutex;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::content::Content;
use super::render::{self, Rendered};
use super::template::{Template, TemplateState, find};
use super::variable::{self, Variable};
use crate::access::{Access, Level, Resource};
use crate::app::App;
use crate::clock::Time;
use crate::db::schema::{card_template_versions as versions, card_templates};
use crate::db::{Prepared, Tx};
use crate::error::{Error, Result};
use crate::ids::{EnvId, TemplateId};

/// A version of a template with its content.
#[derive(Clone, Debug)]
pub struct Pinned {
    pub template: TemplateId,
    pub version: i32,
    pub name: String,
    pub content: Arc<Content>,
}

/// A version as the history of a template shows it.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = versions)]
pub struct Version {
    pub template_id: TemplateId,
    pub version: i32,
    /// `draft`, `awaiting-approval`, `approved`, `published` or `superseded`.
    pub state: String,
    pub name: String,
    pub content: Value,
    pub published_at: Option<Time>,
    pub created_at: Time,
    pub updated_at: Time,
}

/// The versions in force for live runs. Templates that are archived or were never published are left out.
pub async fn published(conn: &AsyncPgConnection, env: EnvId, ids: &[TemplateId]) -> Result<Vec<Pinned>> {
    let query = "SELECT v.template_id, v.version, v.name, v.digest
         FROM card_templates t
         JOIN card_template_versions v
             ON v.environment_id = t.environment_id AND v.template_id = t.id AND v.version = t.published_version
         WHERE t.environment_id = $1 AND t.id = ANY($2) AND t.archived_at IS NULL";
    let query = diesel::sql_query(query).bind::<SqlUuid, _>(env).bind::<Array<SqlUuid>, _>(ids);
    let heads: Vec<Head> = Prepared(query).load(&mut &*conn).await?;
    pin(conn, env, heads).await
}

/// The versions for tests: the draft, or the published version where no draft exists. Archived templates are left out.
pub async fn drafts(conn: &AsyncPgConnection, env: EnvId, ids: &[TemplateId]) -> Result<Vec<Pinned>> {
    let query = "SELECT v.template_id, v.version, v.name, v.digest
         FROM card_templates t
         JOIN card_template_versions v ON v.environment_id = t.environment_id AND v.template_id = t.id
             AND v.version = COALESCE(t.draft_version, t.published_version)
         WHERE t.environment_id = $1 AND t.id = ANY($2) AND t.archived_at IS NULL";
    let query = diesel::sql_query(query).bind::<SqlUuid, _>(env).bind::<Array<SqlUuid>, _>(ids);
    let heads: Vec<Head> = Prepared(query).load(&mut &*conn).await?;
    pin(conn, env, heads).await
}

/// These versions, whatever became of their templates since. Unknown ones are left out.
pub async fn load(conn: &AsyncPgConnection, env: EnvId, ids: &[(TemplateId, i32)]) -> Result<Vec<Pinned>> {
    let (templates, numbers): (Vec<TemplateId>, Vec<i32>) = ids.iter().copied().unzip();
    let query = "SELECT template_id, version, name, digest FROM card_template_versions
         JOIN (SELECT DISTINCT * FROM UNNEST($2::uuid[], $3::int[])) AS wanted (template_id, version)
             USING (template_id, version)
         WHERE environment_id = $1";
    let query = diesel::sql_query(query)
        .bind::<SqlUuid, _>(env)
        .bind::<Array<SqlUuid>, _>(templates)
        .bind::<Array<Integer>, _>(numbers);
    let heads: Vec<Head> = Prepared(query).load(&mut &*conn).await?;
    pin(conn, env, heads).await
}

/// The states of templates. Unknown ones are left out.
pub async fn status(
    conn: &AsyncPgConnection,
    env: EnvId,
    ids: &[TemplateId],
) -> Result<Vec<(TemplateId, TemplateState)>> {
    let rows = card_templates::table
        .filter(card_templates::environment_id.eq(env))
        .filter(card_templates::id.eq_any(ids))
        .select((card_templates::id, card_templates::state))
        .load(&mut &*conn)
        .await?;
    Ok(rows)
}

/// The versions of a template, newest first.
pub async fn list(app: &App, access: &Access, template: TemplateId) -> Result<Vec<Version>> {
    access.require(Resource::CardTemplate, Level::View)?;
    let rows = versions::table
        .filter(versions::environment_id.eq(access.env()))
        .filter(versions::template_id.eq(template))
        .order(versions::version.desc())
        .limit(200)
        .select(Version::as_select())
        .load(&mut &*app.read().await?)
        .await?;
    Ok(rows)
}

/// One version of a template.
pub async fn view(app: &App, access: &Access, template: TemplateId, version: i32) -> Result<Version> {
    access.require(Resource::CardTemplate, Level::View)?;
    let found = versions::table
        .find((access.env(), template, version))
        .select(Version::as_select())
        .first(&mut &*app.read().await?)
        .await
        .optional()?;
    found.ok_or_else(|| Error::not_found("card template version"))
}

/// Values with which an editor tries a template out.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    pub variables: serde_json::Map<String, Value>,
    pub profile: serde_json::Map<String, Value>,
}

/// Renders the draft, or the published version where no draft exists, for sample values. Nothing is stored, and
/// required variables may be missing.
pub async fn preview(app: &App, access: &Access, id: TemplateId, sample: Sample) -> Result<Rendered> {
    access.require(Resource::CardTemplate, Level::View)?;
    let content = {
        let conn = app.read().await?;
        let template = find(&conn, access.env(), id).await?.ok_or_else(|| Error::not_found("card template"))?;
        content_of(&conn, access.env(), id, template.latest_version()).await?
    };
    let relaxed: Vec<Variable> =
        content.variables().iter().map(|variable| Variable { required: false, ..variable.clone() }).collect();
    let variables = sample_values(&relaxed, &sample)?;
    let root = serde_json::json!({
        "payload": { "variables": sample.variables },
        "variables": variables,
        "profile": sample.profile,
        "steps": {},
        "run": { "isTest": true, "startedAt": app.clock().now() },
    });
    let context = render::Context { root, zone: jiff::tz::TimeZone::UTC }.with_variables(&variables);
    render::card(&content, &context).map_err(|error| error.at("/content"))
}

/// Resolves sample variables; faults point into the sample.
fn sample_values(variables: &[Variable], sample: &Sample) -> Result<serde_json::Map<String, Value>> {
    variable::resolve(variables, &sample.variables, &sample.profile).map_err(|error| {
        let mut violations = error.into_violations();
        for violation in &mut violations {
            violation.pointer = violation.pointer.take().map(|pointer| pointer.replacen("/payload", "", 1));
        }
        Error::from_violations(violations)
    })
}

/// The content of one version, which exists.
pub(super) async fn content_of(conn: &AsyncPgConnection, env: EnvId, id: TemplateId, version: i32) -> Result<Content> {
    let row = versions::table.find((env, id, version)).select(versions::content);
    Ok(Content::stored(row.first(&mut &*conn).await?))
}

/// Writes the draft of a template, whose row is locked.
pub(super) async fn save_draft_in(tx: &mut Tx, template: &Template, content: &Content) -> Result<()> {
    let digest = Sha256::digest(serde_json::to_vec(content)?).to_vec();
    diesel::insert_into(versions::table)
        .values((
            versions::environment_id.eq(template.environment_id),
            versions::template_id.eq(template.id),
            versions::version.eq(template.latest_version()),
            versions::state.eq("draft"),
            versions::name.eq(&template.name),
            versions::content.eq(content.document()),
            versions::digest.eq(digest),
            versions::created_at.eq(tx.now()),
            versions::updated_at.eq(tx.now()),
        ))
        .on_conflict((versions::environment_id, versions::template_id, versions::version))
        .do_update()
        .set((
            versions::state.eq(excluded(versions::state)),
            versions::name.eq(excluded(versions::name)),
            versions::content.eq(excluded(versions::content)),
            versions::digest.eq(excluded(versions::digest)),
            versions::updated_at.eq(excluded(versions::updated_at)),
        ))
        .execute(&mut tx.conn())
        .await?;
    Ok(())
}

/// Puts a draft in force; the version that was so before is superseded.
pub(super) async fn freeze_in(tx: &mut Tx, env: EnvId, id: TemplateId, draft: i32) -> Result<()> {
    diesel::update(versions::table)
        .filter(versions::environment_id.eq(env).and(versions::template_id.eq(id)))
        .filter(versions::state.eq("published"))
        .set(versions::state.eq("superseded"))
        .execute(&mut tx.conn())
        .await?;
    diesel::update(versions::table.find((env, id, draft)))
        .set((versions::state.eq("published"), versions::published_at.eq(tx.now()), versions::updated_at.eq(tx.now())))
        .execute(&mut tx.conn())
        .await?;
    Ok(())
}

type Digest = Vec<u8>;

/// A version without its content.
#[derive(QueryableByName)]
struct Head {
    #[diesel(sql_type = SqlUuid)]
    template_id: TemplateId,
    #[diesel(sql_type = Integer)]
    version: i32,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Bytea)]
    digest: Digest,
}

#[derive(QueryableByName)]
struct Body {
    #[diesel(sql_type = SqlUuid)]
    template_id: TemplateId,
    #[diesel(sql_type = Integer)]
    version: i32,
    #[diesel(sql_type = Bytea)]
    digest: Digest,
    #[diesel(sql_type = Jsonb)]
    content: Value,
}

/// Adds their content to versions.
async fn pin(conn: &AsyncPgConnection, env: EnvId, heads: Vec<Head>) -> Result<Vec<Pinned>> {
    let mut read: HashMap<(TemplateId, i32), Arc<Content>> = HashMap::new();
    let contents = KEPT.lock().take(heads.iter().map(|head| &head.digest));
    let missing: Vec<&Head> = heads.iter().filter(|head| !contents.contains_key(&head.digest)).collect();
    if !missing.is_empty() {
        let query = "SELECT template_id, version, digest, content FROM card_template_versions
             JOIN UNNEST($2::uuid[], $3::int[]) AS wanted (template_id, version) USING (template_id, version)
             WHERE environment_id = $1";
        let query = diesel::sql_query(query)
            .bind::<SqlUuid, _>(env)
            .bind::<Array<SqlUuid>, _>(missing.iter().map(|head| head.template_id).collect::<Vec<_>>())
            .bind::<Array<Integer>, _>(missing.iter().map(|head| head.version).collect::<Vec<_>>());
        let bodies: Vec<Body> = Prepared(query).load(&mut &*conn).await?;
        for body in bodies {
            let content = Arc::new(Content::stored(body.content));
            KEPT.lock().keep(body.digest, content.clone());
            read.insert((body.template_id, body.version), content);
        }
    }
    let pinned = heads.into_iter().filter_map(|head| {
        let content = contents.get(&head.digest).or_else(|| read.get(&(head.template_id, head.version)))?.clone();
        Some(Pinned { template: head.template_id, version: head.version, name: head.name, content })
    });
    Ok(pinned.collect())
}

/// How many contents one process keeps; when there are more, it begins anew.
const MOST_KEPT: usize = 256;

static KEPT: LazyLock<Mutex<Kept>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct Kept(HashMap<Digest, Arc<Content>>);

impl Kept {
    fn take<'d>(&self, digests: impl Iterator<Item = &'d Digest>) -> HashMap<Digest, Arc<Content>> {
        digests.filter_map(|digest| Some((digest.clone(), self.0.get(digest)?.clone()))).collect()
    }

    fn keep(&mut self, digest: Digest, content: Arc<Content>) {
        if self.0.len() >= MOST_KEPT {
            self.0.clear();
        }
        self.0.insert(digest, content);
    }
}
