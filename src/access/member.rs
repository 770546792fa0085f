//! Members: people who work in the workbench (§3.2).

use std::collections::BTreeMap;
use std::sync::Arc;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;

use super::standing::{Standing, role_grants};
use super::{Access, Actor, Level, RequestInfo, Resource, Viewer, audit, environment, organisation};
use crate::app::App;
use crate::clock::Time;
use crate::db::page::{Page, PageRequest};
use crate::db::schema::{group_members, group_roles, groups, members, roles};
use crate::db::{OnConstraint, Prepared, Tx};
use crate::error::{Code, Error, Result};
use crate::ids::{EnvId, GroupId, MemberId, OrgId};

#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = members)]
pub struct Member {
    pub organisation_id: OrgId,
    pub id: MemberId,
    pub first_name: String,
    pub last_name: String,
    pub email: String,
    /// A test user id in every environment that the member can view.
    pub user_id: String,
    pub created_at: Time,
    pub updated_at: Time,
    pub revision: i32,
}

/// A person about to become a member.
pub(super) struct NewMember<'a> {
    pub first_name: &'a str,
    pub last_name: &'a str,
    pub email: &'a str,
    pub password_hash: &'a str,
}

pub async fn find(conn: &AsyncPgConnection, org: OrgId, id: MemberId) -> Result<Option<Member>> {
    let member = members::table
        .filter(members::organisation_id.eq(org).and(members::id.eq(id)))
        .select(Member::as_select())
        .first(&mut &*conn)
        .await
        .optional()?;
    Ok(member)
}

pub(super) async fn insert_in(tx: &mut Tx, org: OrgId, new: NewMember<'_>) -> Result<Member> {
    let id: MemberId = tx.id();
    let now = tx.now();
    diesel::insert_into(members::table)
        .values((
            members::organisation_id.eq(org),
            members::id.eq(id),
            members::first_name.eq(new.first_name),
            members::last_name.eq(new.last_name),
            members::email.eq(new.email),
            members::user_id.eq(id.to_string()),
            members::password_hash.eq(new.password_hash),
            members::created_at.eq(now),
            members::updated_at.eq(now),
        ))
        .returning(Member::as_select())
        .get_result(&mut tx.conn())
        .await
        .on_constraint("members_email_key", || Error::new(Code::AlreadyExists, "a member has this email address"))
}

/// What a member can see and do, as of now.
pub(super) async fn viewer(conn: &AsyncPgConnection, org: OrgId, id: MemberId, info: RequestInfo) -> Result<Viewer> {
    let (standing, living) = tokio::try_join!(Standing::of_member(conn, org, id), environment::living(conn, org))?;
    let environments: BTreeMap<EnvId, Arc<_>> = living
        .into_iter()
        .map(|env| (env, Arc::new(standing.in_environment(env))))
        .filter(|(_, grants)| !grants.is_empty())
        .collect();
    Ok(Viewer {
        org,
        actor: Actor::Member(id),
        role: None,
        session: None,
        expires_at: None,
        info,
        organisation_grants: Arc::new(standing.everywhere),
        environments,
    })
}

#[derive(QueryableByName)]
struct Named {
    #[diesel(sql_type = SqlUuid)]
    id: MemberId,
}

/// Members of the organisation of an environment who have one of these user ids.
async fn named(conn: &AsyncPgConnection, env: EnvId, user_ids: &[String]) -> Result<Vec<MemberId>> {
    // Each is looked up by its key, so that one plan does for every start.
    let find = sql_query(
        "SELECT found.id FROM environments CROSS JOIN (SELECT UNNEST($2::text[]) AS user_id) AS wanted CROSS JOIN LATERAL (
             SELECT id FROM members
             WHERE organisation_id = environments.organisation_id AND members.user_id = wanted.user_id LIMIT 1) AS found
         WHERE environments.id = $1",
    )
    .bind::<SqlUuid, _>(env)
    .bind::<Array<Text>, _>(user_ids);
    let found: Vec<Named> = Prepared(find).load(&mut &*conn).await?;
    Ok(found.into_iter().map(|member| member.id).collect())
}

/// Those of the given ids that are test user ids in the environment because members who can view it have them.
pub async fn test_user_ids(conn: &AsyncPgConnection, env: EnvId, among: &[String]) -> Result<Vec<String>> {
    let members = named(conn, env, among).await?;
    // Hardly any customer is a member, so hardly any start has to ask what members may do.
    if members.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<(String, Option<String>, Value)> = members::table
        .inner_join(group_members::table.on(
            group_members::organisation_id.eq(members::organisation_id).and(group_members::member_id.eq(members::id)),
        ))
        .inner_join(
            group_roles::table.on(group_roles::organisation_id
                .eq(group_members::organisation_id)
                .and(group_roles::group_id.eq(group_members::group_id))),
        )
        .inner_join(
            roles::table
                .on(roles::organisation_id.eq(group_roles::organisation_id).and(roles::id.eq(group_roles::role_id))),
        )
        .filter(members::id.eq_any(members))
        .filter(group_roles::environment_ids.is_null().or(group_roles::environment_ids.contains(vec![env])))
        .select((members::user_id, roles::built_in, roles::levels))
        .load(&mut &*conn)
        .await?;
    let mut user_ids: Vec<String> = rows
        .into_iter()
        .filter(|(_, built_in, levels)| !role_grants(built_in.as_deref(), levels).in_environment().is_empty())
        .map(|(user_id, _, _)| user_id)
        .collect();
    user_ids.sort();
    user_ids.dedup();
    Ok(user_ids)
}

pub async fn list(app: &App, viewer: &Viewer, page: PageRequest<MemberId>) -> Result<Page<Member>> {
    viewer.organisation().require(Resource::Member, Level::View)?;
    let mut query = members::table
        .filter(members::organisation_id.eq(viewer.org))
        .order(members::id)
        .limit(page.limit())
        .select(Member::as_select())
        .into_boxed();
    if let Some(after) = page.after {
        query = query.filter(members::id.gt(after));
    }
    let rows = query.load(&mut &*app.read().await?).await?;
    Ok(page.page(rows))
}

/// The groups of a member. Everybody may see their own.
pub async fn groups_of(app: &App, viewer: &Viewer, member: MemberId) -> Result<Vec<GroupId>> {
    if viewer.actor.member() != Some(member) {
        viewer.organisation().require(Resource::Member, Level::View)?;
    }
    held_groups(app, viewer.org, member).await
}

/// The groups of a member who has just shown who they are.
pub async fn own_groups(app: &App, member: &Member) -> Result<Vec<GroupId>> {
    held_groups(app, member.organisation_id, member.id).await
}

async fn held_groups(app: &App, org: OrgId, member: MemberId) -> Result<Vec<GroupId>> {
    let ids = group_members::table
        .filter(group_members::organisation_id.eq(org).and(group_members::member_id.eq(member)))
        .order(group_members::group_id)
        .select(group_members::group_id)
        .load(&mut &*app.read().await?)
        .await?;
    Ok(ids)
}

/// Puts a member into exactly these groups.
pub async fn set_groups(app: &App, access: &Access, member: MemberId, groups: &[GroupId]) -> Result<Member> {
    access.require(Resource::MemberGroupAssignment, Level::Edit)?;
    app.transact(async |tx| {
        organisation::lock_in(tx, access.org()).await?;
        let found = find(tx.conn(), access.org(), member).await?.ok_or_else(|| Error::not_found("member"))?;
        set_groups_in(tx, access, member, groups).await?;
        organisation::keep_an_owner_in(tx, access.org()).await?;
        audit::record_in(tx, access, "member.set-groups", member, &["groupIds"]).await?;
        Ok(found)
    })
    .await
}

async fn set_groups_in(tx: &mut Tx, access: &Access, member: MemberId, groups: &[GroupId]) -> Result<()> {
    let org = access.org();
    let held: Vec<GroupId> = diesel::delete(
        group_members::table.filter(group_members::organisation_id.eq(org).and(group_members::member_id.eq(member))),
    )
    .returning(group_members::group_id)
    .get_results(&mut tx.conn())
    .await?;
    let joined: Vec<GroupId> = groups.iter().copied().filter(|group| !held.contains(group)).collect();
    may_join(tx.conn(), access, &joined).await?;
    join_in(tx, org, member, groups).await
}

/// Refuses groups that do not exist, and groups that give more than the caller has.
pub(super) async fn may_join(conn: &AsyncPgConnection, access: &Access, joined: &[GroupId]) -> Result<()> {
    let known: Vec<GroupId> = groups::table
        .filter(groups::organisation_id.eq(access.org()).and(groups::id.eq_any(joined)))
        .select(groups::id)
        .load(&mut &*conn)
        .await?;
    if let Some(at) = joined.iter().position(|group| !known.contains(group)) {
        return Err(Error::not_found("group").at(format!("/groupIds/{at}")));
    }
    let given: Vec<(Option<String>, Value, Option<Vec<EnvId>>)> = group_roles::table
        .inner_join(
            roles::table
                .on(roles::organisation_id.eq(group_roles::organisation_id).and(roles::id.eq(group_roles::role_id))),
        )
        .filter(group_roles::organisation_id.eq(access.org()).and(group_roles::group_id.eq_any(joined)))
        .select((roles::built_in, roles::levels, group_roles::environment_ids))
        .load(&mut &*conn)
        .await?;
    let own = Standing::of_actor(conn, access).await?;
    for (built_in, levels, environments) in given {
        own.may_grant(&role_grants(built_in.as_deref(), &levels), environments.as_deref())?;
    }
    Ok(())
}

pub(super) async fn join_in(tx: &mut Tx, org: OrgId, member: MemberId, joined: &[GroupId]) -> Result<()> {
    let rows: Vec<_> = joined
        .iter()
        .map(|group| {
            (
                group_members::organisation_id.eq(org),
                group_members::group_id.eq(*group),
                group_members::member_id.eq(member),
            )
        })
        .collect();
    diesel::insert_into(group_members::table)
        .values(rows)
        .on_conflict_do_nothing()
        .execute(&mut tx.conn())
        .await
        .on_constraint("group_members_organisation_id_group_id_fkey", || Error::not_found("group"))?;
    Ok(())
}

/// New names of a member; what is absent stays.
#[derive(Clone, Debug, Default, AsChangeset)]
#[diesel(table_name = members)]
pub struct Names {
    pub first_name: Option<String>,
    pub last_name: Option<String>,
}

/// Renames a member. Everybody may rename themselves.
pub async fn rename(app: &App, access: &Access, id: MemberId, names: Names, expected: Option<i32>) -> Result<Member> {
    if access.actor().member() != Some(id) {
        access.require(Resource::Member, Level::Edit)?;
    }
    for (name, pointer) in [(&names.first_name, "/firstName"), (&names.last_name, "/lastName")] {
        if let Some(name) = name {
            crate::text::object_name(name, pointer)?;
        }
    }
    app.transact(async |tx| {
        let changed = diesel::update(members::table)
            .filter(members::organisation_id.eq(access.org()).and(members::id.eq(id)))
            .set((&names, members::updated_at.eq(tx.now()), members::revision.eq(members::revision + 1)))
            .returning(Member::as_select())
            .get_result::<Member>(&mut tx.conn())
            .await
            .optional()?
            .ok_or_else(|| Error::not_found("member"))?;
        super::expect_revision(changed.revision - 1, expected)?;
        let fields = [names.first_name.as_ref().map(|_| "firstName"), names.last_name.as_ref().map(|_| "lastName")];
        let fields: Vec<&str> = fields.into_iter().flatten().collect();
        audit::record_in(tx, access, "member.update", id, &fields).await?;
        Ok(changed)
    })
    .await
}

/// Removes a member and ends their sessions.
pub async fn remove(app: &App, access: &Access, id: MemberId) -> Result<()> {
    access.require(Resource::Member, Level::Admin)?;
    app.transact(async |tx| {
        organisation::lock_in(tx, access.org()).await?;
        let removed = diesel::delete(members::table)
            .filter(members::organisation_id.eq(access.org()).and(members::id.eq(id)))
            .execute(&mut tx.conn())
            .await?;
        if removed == 0 {
            return Err(Error::not_found("member"));
        }
        organisation::keep_an_owner_in(tx, access.org()).await?;
        audit::record_in(tx, access, "member.remove", id, &[]).await
    })
    .await
}
