//! Groups: what members are in, and which roles that gives them where (§3.3).

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::role::{self, check_words};
use super::standing::Standing;
use super::{Access, Level, Resource, Viewer, audit, organisation};
use crate::app::App;
use crate::clock::Time;
use crate::db::page::{Page, PageRequest};
use crate::db::schema::{environments, group_roles, groups};
use crate::db::{OnConstraint, Tx};
use crate::error::{Code, Error, Result};
use crate::ids::{EnvId, GroupId, OrgId, RoleId};

#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = groups)]
pub struct Group {
    pub organisation_id: OrgId,
    pub id: GroupId,
    pub title: String,
    pub description: String,
    pub created_at: Time,
    pub updated_at: Time,
    pub revision: i32,
}

/// A role of a group.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = group_roles)]
pub struct Assignment {
    pub role_id: RoleId,
    /// Where the role is valid. `None`: in all environments, those to come included.
    pub environment_ids: Option<Vec<EnvId>>,
}

/// What a group says; what is absent stays, or is empty in a new group.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub title: Option<String>,
    pub description: Option<String>,
    pub roles: Option<Vec<Assignment>>,
}

impl Settings {
    fn fields(&self) -> Vec<&'static str> {
        [
            self.title.as_ref().map(|_| "title"),
            self.description.as_ref().map(|_| "description"),
            self.roles.as_ref().map(|_| "roles"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

pub async fn list(app: &App, viewer: &Viewer, page: PageRequest<GroupId>) -> Result<Page<Group>> {
    viewer.organisation().require(Resource::Group, Level::View)?;
    let mut query = groups::table
        .filter(groups::organisation_id.eq(viewer.org))
        .order(groups::id)
        .limit(page.limit())
        .select(Group::as_select())
        .into_boxed();
    if let Some(after) = page.after {
        query = query.filter(groups::id.gt(after));
    }
    let rows = query.load(&mut &*app.read().await?).await?;
    Ok(page.page(rows))
}

pub async fn view(app: &App, viewer: &Viewer, id: GroupId) -> Result<Group> {
    viewer.organisation().require(Resource::Group, Level::View)?;
    find(&*app.read().await?, viewer.org, id).await?.ok_or_else(|| Error::not_found("group"))
}

async fn find(conn: &AsyncPgConnection, org: OrgId, id: GroupId) -> Result<Option<Group>> {
    let group = groups::table.find((org, id)).select(Group::as_select()).first(&mut &*conn).await.optional()?;
    Ok(group)
}

/// The roles of a group.
pub async fn assignments(conn: &AsyncPgConnection, org: OrgId, group: GroupId) -> Result<Vec<Assignment>> {
    let assignments = group_roles::table
        .filter(group_roles::organisation_id.eq(org).and(group_roles::group_id.eq(group)))
        .order(group_roles::role_id)
        .select(Assignment::as_select())
        .load(&mut &*conn)
        .await?;
    Ok(assignments)
}

pub async fn create(app: &App, access: &Access, settings: Settings) -> Result<Group> {
    access.require(Resource::Group, Level::Admin)?;
    let title = settings.title.as_deref().ok_or_else(|| Error::invalid("/title", "a title is required"))?;
    check_words(Some(title), settings.description.as_deref())?;
    app.transact(async |tx| {
        let description = settings.description.as_deref().unwrap_or_default();
        let group = insert_in(tx, access.org(), title, description).await?;
        if let Some(roles) = &settings.roles {
            may_assign_in(tx, access, &[], roles).await?;
            assign_in(tx, access.org(), group.id, roles).await?;
        }
        audit::record_in(tx, access, "group.create", group.id, &settings.fields()).await?;
        Ok(group)
    })
    .await
}

pub(super) async fn insert_in(tx: &mut Tx, org: OrgId, title: &str, description: &str) -> Result<Group> {
    diesel::insert_into(groups::table)
        .values((
            groups::organisation_id.eq(org),
            groups::id.eq(tx.id::<GroupId>()),
            groups::title.eq(title),
            groups::description.eq(description),
            groups::created_at.eq(tx.now()),
            groups::updated_at.eq(tx.now()),
        ))
        .returning(Group::as_select())
        .get_result(&mut tx.conn())
        .await
        .on_constraint("groups_organisation_id_title_key", title_taken)
}

fn title_taken() -> Error {
    Error::new(Code::AlreadyExists, "a group has this title").at("/title")
}

/// Changes a group and, where they are given, all its roles.
pub async fn update(
    app: &App,
    access: &Access,
    id: GroupId,
    settings: Settings,
    expected: Option<i32>,
) -> Result<Group> {
    access.require(Resource::Group, Level::Edit)?;
    check_words(settings.title.as_deref(), settings.description.as_deref())?;
    app.transact(async |tx| {
        organisation::lock_in(tx, access.org()).await?;
        let changed: Option<Group> = diesel::update(groups::table.find((access.org(), id)))
            .set((
                settings.title.as_ref().map(|title| groups::title.eq(title)),
                settings.description.as_ref().map(|description| groups::description.eq(description)),
                groups::updated_at.eq(tx.now()),
                groups::revision.eq(groups::revision + 1),
            ))
            .returning(Group::as_select())
            .get_result(&mut tx.conn())
            .await
            .optional()
            .on_constraint("groups_organisation_id_title_key", title_taken)?;
        let changed = changed.ok_or_else(|| Error::not_found("group"))?;
        super::expect_revision(changed.revision - 1, expected)?;
        if let Some(roles) = &settings.roles {
            let before = assignments(tx.conn(), access.org(), id).await?;
            may_assign_in(tx, access, &before, roles).await?;
            diesel::delete(
                group_roles::table
                    .filter(group_roles::organisation_id.eq(access.org()).and(group_roles::group_id.eq(id))),
            )
            .execute(&mut tx.conn())
            .await?;
            assign_in(tx, access.org(), id, roles).await?;
            organisation::keep_an_owner_in(tx, access.org()).await?;
        }
        audit::record_in(tx, access, "group.update", id, &settings.fields()).await?;
        Ok(changed)
    })
    .await
}

/// Deletes a group that has no members.
pub async fn delete(app: &App, access: &Access, id: GroupId) -> Result<()> {
    access.require(Resource::Group, Level::Admin)?;
    app.transact(async |tx| {
        let deleted = diesel::delete(groups::table.find((access.org(), id)))
            .execute(&mut tx.conn())
            .await
            .on_constraint("group_members_organisation_id_group_id_fkey", || {
                Error::new(Code::InUse, "the group has members")
            })?;
        if deleted == 0 {
            return Err(Error::not_found("group"));
        }
        audit::record_in(tx, access, "group.delete", id, &[]).await
    })
    .await
}

/// Checks that roles and environments exist, and that what was not there before is not above the caller's level.
async fn may_assign_in(tx: &mut Tx, access: &Access, before: &[Assignment], after: &[Assignment]) -> Result<()> {
    let own = Standing::of_actor(tx.conn(), access).await?;
    let known: Vec<EnvId> = environments::table
        .filter(environments::organisation_id.eq(access.org()))
        .select(environments::id)
        .load(&mut tx.conn())
        .await?;
    for (index, assignment) in after.iter().enumerate() {
        let listed = assignment.environment_ids.as_deref().unwrap_or_default();
        if let Some(at) = listed.iter().position(|env| !known.contains(env)) {
            return Err(Error::not_found("environment").at(format!("/roles/{index}/environmentIds/{at}")));
        }
        if after.iter().take(index).any(|other| other.role_id == assignment.role_id) {
            return Err(Error::invalid(format!("/roles/{index}/roleId"), "the role is listed twice"));
        }
        let role = role::find(tx.conn(), access.org(), assignment.role_id)
            .await?
            .ok_or_else(|| Error::not_found("role").at(format!("/roles/{index}/roleId")))?;
        if !before.contains(assignment) {
            own.may_grant(&role.grants(), assignment.environment_ids.as_deref())
                .map_err(|error| error.at(format!("/roles/{index}")))?;
        }
    }
    Ok(())
}

pub(super) async fn assign_in(tx: &mut Tx, org: OrgId, group: GroupId, roles: &[Assignment]) -> Result<()> {
    let rows: Vec<_> = roles
        .iter()
        .map(|assignment| {
            (
                group_roles::organisation_id.eq(org),
                group_roles::group_id.eq(group),
                group_roles::role_id.eq(assignment.role_id),
                group_roles::environment_ids.eq(assignment.environment_ids.clone()),
            )
        })
        .collect();
    diesel::insert_into(group_roles::table).values(rows).execute(&mut tx.conn()).await?;
    Ok(())
}
