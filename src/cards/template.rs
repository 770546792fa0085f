//! Card templates: drafts, publishing and the states between (specification §4.2 and §4.3).
//!
//! A template has at most one open draft and at most one version in force. Saving writes the draft, publishing
//! freezes it; what was published is never changed again. The name is part of what is frozen.

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::prelude::*;
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types::Text;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;

use super::content::Content;
use super::version;
use crate::access::{Access, Level, Resource, audit, expect_revision};
use crate::app::App;
use crate::clock::Time;
use crate::db::page::{Page, PageRequest};
use crate::db::schema::{card_templates, stream_templates};
use crate::db::{OnConstraint, Tx};
use crate::error::{Code, Error, Result, Violations};
use crate::ids::{EnvId, StreamId, TemplateId};
use crate::streams::container;
use crate::text;

/// What can be done with a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, AsExpression, FromSqlRow)]
#[diesel(sql_type = Text)]
pub enum TemplateState {
    /// Never published, editable.
    Draft,
    /// The draft is locked until it is approved, rejected or taken back.
    AwaitingApproval,
    /// All approvals are given; not yet published.
    Approved,
    /// The latest version is published and there is no newer draft.
    Published,
    /// Published, and a newer draft exists.
    Changed,
    /// Not usable in new runs; open cards stay.
    Archived,
}

impl TemplateState {
    const ALL: [TemplateState; 6] = [
        TemplateState::Draft,
        TemplateState::AwaitingApproval,
        TemplateState::Approved,
        TemplateState::Published,
        TemplateState::Changed,
        TemplateState::Archived,
    ];

    pub fn word(self) -> &'static str {
        match self {
            TemplateState::Draft => "draft",
            TemplateState::AwaitingApproval => "awaiting-approval",
            TemplateState::Approved => "approved",
            TemplateState::Published => "published",
            TemplateState::Changed => "changed",
            TemplateState::Archived => "archived",
        }
    }
}

impl ToSql<Text, Pg> for TemplateState {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        <str as ToSql<Text, Pg>>::to_sql(self.word(), out)
    }
}

impl FromSql<Text, Pg> for TemplateState {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<TemplateState> {
        let word = <String as FromSql<Text, Pg>>::from_sql(value)?;
        TemplateState::ALL.into_iter().find(|state| state.word() == word).ok_or_else(|| "not a template state".into())
    }
}

#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = card_templates)]
pub struct Template {
    pub environment_id: EnvId,
    pub id: TemplateId,
    /// The name in the draft, where there is one.
    pub name: String,
    pub state: TemplateState,
    /// The version in force for live runs.
    pub published_version: Option<i32>,
    /// The version that is being edited.
    pub draft_version: Option<i32>,
    pub archived_at: Option<Time>,
    pub created_at: Time,
    pub updated_at: Time,
    pub revision: i32,
}

impl Template {
    /// The version that an editor shows: the draft, else the published one.
    pub fn latest_version(&self) -> i32 {
        self.draft_version.or(self.published_version).unwrap_or(1)
    }
}

/// What an edit changes; what is absent stays.
#[derive(Clone, Debug, Default)]
pub struct Edit {
    pub name: Option<String>,
    pub content: Option<Value>,
}

impl Edit {
    /// Checks name and content; every violation is reported.
    fn check(&self) -> Result<Option<Content>> {
        let mut violations = Violations::new();
        if let Some(name) = &self.name {
            violations.check(text::object_name(name, "/name"));
        }
        let content =
            self.content.as_ref().map(|document| Content::parse(document).map_err(|error| error.at("/content")));
        let content = content.and_then(|content| violations.check(content));
        violations.finish().map(|()| content)
    }

    fn fields(&self) -> Vec<&'static str> {
        let fields = [self.name.as_ref().map(|_| "name"), self.content.as_ref().map(|_| "content")];
        fields.into_iter().flatten().collect()
    }
}

/// Which templates to list.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Part of the name.
    pub name: Option<String>,
    pub states: Option<Vec<TemplateState>>,
    /// Those that the stream curates.
    pub stream: Option<StreamId>,
}

/// Creates a template whose version 1 is a draft.
pub async fn create(app: &App, access: &Access, edit: Edit) -> Result<Template> {
    access.require(Resource::CardTemplate, Level::Edit)?;
    let content = edit.check()?.ok_or_else(|| Error::invalid("/content", "content is required"))?;
    let name = edit.name.as_deref().ok_or_else(|| Error::invalid("/name", "a name is required"))?;
    app.transact(async |tx| {
        let template: Template = diesel::insert_into(card_templates::table)
            .values((
                card_templates::environment_id.eq(access.env()),
                card_templates::id.eq(tx.id::<TemplateId>()),
                card_templates::name.eq(name),
                card_templates::state.eq(TemplateState::Draft),
                card_templates::draft_version.eq(1),
                card_templates::created_at.eq(tx.now()),
                card_templates::updated_at.eq(tx.now()),
            ))
            .returning(Template::as_select())
            .get_result(&mut tx.conn())
            .await?;
        version::save_draft_in(tx, &template, &content).await?;
        audit::record_in(tx, access, "card-template.create", template.id, &edit.fields()).await?;
        Ok(template)
    })
    .await
}

/// Saves the draft; the first edit after a publication opens draft *n*+1. Edits of an approved draft take its
/// approvals away.
pub async fn update(app: &App, access: &Access, id: TemplateId, edit: Edit, expected: Option<i32>) -> Result<Template> {
    access.require(Resource::CardTemplate, Level::Edit)?;
    let content = edit.check()?;
    app.transact(async |tx| {
        let template = find_locked(tx, access.env(), id).await?;
        expect_revision(template.revision, expected)?;
        refuse_archived(&template)?;
        if template.state == TemplateState::AwaitingApproval {
            return Err(Error::conflict("the draft is locked while it awaits approval"));
        }
        let draft = template.draft_version.unwrap_or_else(|| template.latest_version() + 1);
        let content = match content {
            Some(content) => content,
            None => version::content_of(tx.conn(), access.env(), id, template.latest_version()).await?,
        };
        let state = if template.published_version.is_some() { TemplateState::Changed } else { TemplateState::Draft };
        let saved: Template = diesel::update(card_templates::table.find((access.env(), id)))
            .set((
                edit.name.as_ref().map(|name| card_templates::name.eq(name)),
                card_templates::state.eq(state),
                card_templates::draft_version.eq(draft),
                card_templates::updated_at.eq(tx.now()),
                card_templates::revision.eq(card_templates::revision + 1),
            ))
            .returning(Template::as_select())
            .get_result(&mut tx.conn())
            .await?;
        version::save_draft_in(tx, &saved, &content).await?;
        audit::record_in(tx, access, "card-template.update", id, &edit.fields()).await?;
        Ok(saved)
    })
    .await
}

/// Publishes the current draft. Atomic; a second call with the same draft is a conflict.
pub async fn publish(app: &App, access: &Access, id: TemplateId, expected: Option<i32>) -> Result<Template> {
    access.require(Resource::CardTemplate, Level::Admin)?;
    app.transact(async |tx| {
        let template = find_locked(tx, access.env(), id).await?;
        expect_revision(template.revision, expected)?;
        refuse_archived(&template)?;
        if template.state == TemplateState::AwaitingApproval {
            return Err(Error::new(Code::ApprovalRequired, "the draft awaits approval"));
        }
        let draft = template.draft_version.ok_or_else(|| Error::conflict("there is no draft to publish"))?;
        version::freeze_in(tx, access.env(), id, draft).await?;
        let published: Template = diesel::update(card_templates::table.find((access.env(), id)))
            .set((
                card_templates::state.eq(TemplateState::Published),
                card_templates::published_version.eq(draft),
                card_templates::draft_version.eq(None::<i32>),
                card_templates::updated_at.eq(tx.now()),
                card_templates::revision.eq(card_templates::revision + 1),
            ))
            .returning(Template::as_select())
            .get_result(&mut tx.conn())
            .await?;
        audit::record_in(tx, access, "card-template.publish", id, &["publishedVersion"]).await?;
        Ok(published)
    })
    .await
}

/// Takes a template out of use. Open cards stay.
pub async fn archive(app: &App, access: &Access, id: TemplateId, expected: Option<i32>) -> Result<Template> {
    access.require(Resource::CardTemplate, Level::Admin)?;
    app.transact(async |tx| {
        let template = find_locked(tx, access.env(), id).await?;
        expect_revision(template.revision, expected)?;
        refuse_archived(&template)?;
        let archived: Template = diesel::update(card_templates::table.find((access.env(), id)))
            .set((
                card_templates::state.eq(TemplateState::Archived),
                card_templates::archived_at.eq(tx.now()),
                card_templates::updated_at.eq(tx.now()),
                card_templates::revision.eq(card_templates::revision + 1),
            ))
            .returning(Template::as_select())
            .get_result(&mut tx.conn())
            .await?;
        audit::record_in(tx, access, "card-template.archive", id, &[]).await?;
        Ok(archived)
    })
    .await
}

/// Deletes a template that no flow in use sends, and takes it out of its streams.
pub async fn delete(app: &App, access: &Access, id: TemplateId) -> Result<()> {
    access.require(Resource::CardTemplate, Level::Admin)?;
    app.transact(async |tx| {
        container::announce_of_template_in(tx, access.env(), id).await?;
        let deleted = diesel::delete(card_templates::table.find((access.env(), id)))
            .execute(&mut tx.conn())
            .await
            .on_constraint("flow_templates_template_id_fkey", || {
                Error::new(Code::InUse, "the card template is used by a flow")
            })?;
        if deleted == 0 {
            return Err(Error::not_found("card template"));
        }
        audit::record_in(tx, access, "card-template.delete", id, &[]).await
    })
    .await
}

pub async fn view(app: &App, access: &Access, id: TemplateId) -> Result<Template> {
    access.require(Resource::CardTemplate, Level::View)?;
    find(&*app.read().await?, access.env(), id).await?.ok_or_else(|| Error::not_found("card template"))
}

/// Lists the templates of an environment, oldest first.
pub async fn list(
    app: &App,
    access: &Access,
    selection: &Selection,
    page: PageRequest<TemplateId>,
) -> Result<Page<Template>> {
    access.require(Resource::CardTemplate, Level::View)?;
    let mut query = card_templates::table
        .filter(card_templates::environment_id.eq(access.env()))
        .order(card_templates::id)
        .limit(page.limit())
        .select(Template::as_select())
        .into_boxed();
    if let Some(name) = &selection.name {
        query = query.filter(card_templates::name.ilike(text::containing(name)));
    }
    if let Some(states) = &selection.states {
        query = query.filter(card_templates::state.eq_any(states));
    }
    if let Some(stream) = selection.stream {
        let curated = stream_templates::table
            .filter(stream_templates::environment_id.eq(access.env()))
            .filter(stream_templates::stream_id.eq(stream))
            .select(stream_templates::template_id);
        query = query.filter(card_templates::id.eq_any(curated));
    }
    if let Some(after) = page.after {
        query = query.filter(card_templates::id.gt(after));
    }
    let rows = query.load(&mut &*app.read().await?).await?;
    Ok(page.page(rows))
}

pub async fn find(conn: &AsyncPgConnection, env: EnvId, id: TemplateId) -> Result<Option<Template>> {
    Ok(card_templates::table.find((env, id)).select(Template::as_select()).first(&mut &*conn).await.optional()?)
}

async fn find_locked(tx: &mut Tx, env: EnvId, id: TemplateId) -> Result<Template> {
    let found: Option<Template> = card_templates::table
        .find((env, id))
        .select(Template::as_select())
        .for_update()
        .first(&mut tx.conn())
        .await
        .optional()?;
    found.ok_or_else(|| Error::not_found("card template"))
}

fn refuse_archived(template: &Template) -> Result<()> {
    match template.state {
        TemplateState::Archived => Err(Error::conflict("the card template is archived")),
        _ => Ok(()),
    }
}
