//! Roles: a level for each resource (§3.3).

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::{Value, json};

use super::standing::{Standing, role_grants};
use super::{Access, DefaultRole, Grants, Level, Resource, Viewer, audit, organisation};
use crate::app::App;
use crate::clock::Time;
use crate::db::page::{Page, PageRequest};
use crate::db::schema::roles;
use crate::db::{OnConstraint, Tx};
use crate::error::{Code, Error, Result};
use crate::ids::{OrgId, RoleId};
use crate::text;

#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = roles)]
pub struct Role {
    pub organisation_id: OrgId,
    pub id: RoleId,
    /// Which default role this is. Its levels are in the code.
    pub built_in: Option<String>,
    pub title: String,
    pub description: String,
    levels: Value,
    pub created_at: Time,
    pub updated_at: Time,
    pub revision: i32,
}

impl Role {
    pub fn grants(&self) -> Grants {
        role_grants(self.built_in.as_deref(), &self.levels)
    }
}

/// What a role says; what is absent stays, or is empty in a new role.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub title: Option<String>,
    pub description: Option<String>,
    pub grants: Option<Grants>,
}

impl Settings {
    fn fields(&self) -> Vec<&'static str> {
        [
            self.title.as_ref().map(|_| "title"),
            self.description.as_ref().map(|_| "description"),
            self.grants.as_ref().map(|_| "levels"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// Checks the title and description of a role or group.
pub(super) fn check_words(title: Option<&str>, description: Option<&str>) -> Result<()> {
    if let Some(title) = title {
        text::object_name(title, "/title")?;
    }
    if description.is_some_and(|description| description.chars().count() > 2048) {
        return Err(Error::invalid("/description", "has more than 2048 characters"));
    }
    Ok(())
}

pub async fn list(app: &App, viewer: &Viewer, page: PageRequest<RoleId>) -> Result<Page<Role>> {
    viewer.organisation().require(Resource::Role, Level::View)?;
    let mut query = roles::table
        .filter(roles::organisation_id.eq(viewer.org))
        .order(roles::id)
        .limit(page.limit())
        .select(Role::as_select())
        .into_boxed();
    if let Some(after) = page.after {
        query = query.filter(roles::id.gt(after));
    }
    let rows = query.load(&mut &*app.read().await?).await?;
    Ok(page.page(rows))
}

pub async fn view(app: &App, viewer: &Viewer, id: RoleId) -> Result<Role> {
    viewer.organisation().require(Resource::Role, Level::View)?;
    find(&*app.read().await?, viewer.org, id).await?.ok_or_else(|| Error::not_found("role"))
}

pub(super) async fn find(conn: &AsyncPgConnection, org: OrgId, id: RoleId) -> Result<Option<Role>> {
    let role = roles::table.find((org, id)).select(Role::as_select()).first(&mut &*conn).await.optional()?;
    Ok(role)
}

/// Writes the rows of the three default roles and gives their ids.
pub(super) async fn insert_defaults_in(tx: &mut Tx, org: OrgId) -> Result<[RoleId; 3]> {
    let ids = DefaultRole::ALL.map(|_| tx.id());
    let rows: Vec<_> = DefaultRole::ALL
        .into_iter()
        .zip(ids)
        .map(|(role, id)| {
            (
                roles::organisation_id.eq(org),
                roles::id.eq(id),
                roles::built_in.eq(role.word()),
                roles::title.eq(role.title()),
                roles::description.eq(role.description()),
                roles::levels.eq(json!({})),
                roles::created_at.eq(tx.now()),
                roles::updated_at.eq(tx.now()),
            )
        })
        .collect();
    diesel::insert_into(roles::table).values(rows).execute(&mut tx.conn()).await?;
    Ok(ids)
}

pub async fn create(app: &App, access: &Access, settings: Settings) -> Result<Role> {
    access.require(Resource::Role, Level::Admin)?;
    let title = settings.title.as_deref().ok_or_else(|| Error::invalid("/title", "a title is required"))?;
    check_words(Some(title), settings.description.as_deref())?;
    let grants = settings.grants.clone().unwrap_or_default();
    app.transact(async |tx| {
        grants.within(&Standing::of_actor(tx.conn(), access).await?.everywhere).map_err(|error| error.at("/levels"))?;
        let id: RoleId = tx.id();
        let role: Role = diesel::insert_into(roles::table)
            .values((
                roles::organisation_id.eq(access.org()),
                roles::id.eq(id),
                roles::title.eq(title),
                roles::description.eq(settings.description.as_deref().unwrap_or_default()),
                roles::levels.eq(grants.to_row()),
                roles::created_at.eq(tx.now()),
                roles::updated_at.eq(tx.now()),
            ))
            .returning(Role::as_select())
            .get_result(&mut tx.conn())
            .await
            .on_constraint("roles_organisation_id_title_key", title_taken)?;
        audit::record_in(tx, access, "role.create", id, &settings.fields()).await?;
        Ok(role)
    })
    .await
}

fn title_taken() -> Error {
    Error::new(Code::AlreadyExists, "a role has this title").at("/title")
}

/// Changes an own role. Levels that rise may not rise above the caller's.
pub async fn update(app: &App, access: &Access, id: RoleId, settings: Settings, expected: Option<i32>) -> Result<Role> {
    access.require(Resource::Role, Level::Edit)?;
    check_words(settings.title.as_deref(), settings.description.as_deref())?;
    app.transact(async |tx| {
        organisation::lock_in(tx, access.org()).await?;
        let before = own_role_in(tx, access.org(), id).await?;
        super::expect_revision(before.revision, expected)?;
        let grants = settings.grants.clone().unwrap_or_else(|| before.grants());
        let own = Standing::of_actor(tx.conn(), access).await?;
        grants.raised_from(&before.grants()).within(&own.everywhere).map_err(|error| error.at("/levels"))?;
        let changed: Role = diesel::update(roles::table.find((access.org(), id)))
            .set((
                settings.title.as_ref().map(|title| roles::title.eq(title)),
                settings.description.as_ref().map(|description| roles::description.eq(description)),
                roles::levels.eq(grants.to_row()),
                roles::updated_at.eq(tx.now()),
                roles::revision.eq(roles::revision + 1),
            ))
            .returning(Role::as_select())
            .get_result(&mut tx.conn())
            .await
            .on_constraint("roles_organisation_id_title_key", title_taken)?;
        audit::record_in(tx, access, "role.update", id, &settings.fields()).await?;
        Ok(changed)
    })
    .await
}

/// Deletes an own role that no group has.
pub async fn delete(app: &App, access: &Access, id: RoleId) -> Result<()> {
    access.require(Resource::Role, Level::Admin)?;
    app.transact(async |tx| {
        own_role_in(tx, access.org(), id).await?;
        diesel::delete(roles::table.find((access.org(), id)))
            .execute(&mut tx.conn())
            .await
            .on_constraint("group_roles_organisation_id_role_id_fkey", || {
                Error::new(Code::InUse, "a group has this role")
            })?;
        audit::record_in(tx, access, "role.delete", id, &[]).await
    })
    .await
}

async fn own_role_in(tx: &mut Tx, org: OrgId, id: RoleId) -> Result<Role> {
    let role = find(tx.conn(), org, id).await?.ok_or_else(|| Error::not_found("role"))?;
    if role.built_in.is_some() {
        return Err(Error::forbidden("a default role cannot be edited or deleted"));
    }
    Ok(role)
}
