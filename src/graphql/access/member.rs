//! The organisation, its members, and the caller.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use super::environment::Environment;
use super::role::LevelOf;
use crate::access::member::{self, Names};
use crate::access::organisation::{self, Settings};
use crate::access::{Actor, environment};
use crate::clock::Time;
use crate::db::page::PageRequest;
use crate::error::{Error, Result};
use crate::graphql::connection::Connection;
use crate::graphql::context;
use crate::ids::{EnvId, GroupId, MemberId, OrgId};

pub struct Organisation(pub organisation::Organisation);

#[Object]
impl Organisation {
    async fn id(&self) -> OrgId {
        self.0.id
    }

    async fn name(&self) -> &str {
        &self.0.name
    }

    /// After so many minutes without a request a session ends.
    async fn inactivity_minutes(&self) -> i32 {
        self.0.inactivity_minutes
    }

    /// Analytics events are kept for so many days, whole days at a time.
    async fn event_retention_days(&self) -> i32 {
        self.0.event_retention_days()
    }

    async fn created(&self) -> Time {
        self.0.created_at
    }

    async fn updated(&self) -> Time {
        self.0.updated_at
    }

    async fn revision(&self) -> i32 {
        self.0.revision
    }
}

/// A person who works in the workbench.
pub struct Member(pub member::Member);

#[Object]
impl Member {
    async fn id(&self) -> MemberId {
        self.0.id
    }

    async fn name(&self) -> String {
        format!("{} {}", self.0.first_name, self.0.last_name).trim().to_owned()
    }

    async fn first_name(&self) -> &str {
        &self.0.first_name
    }

    async fn last_name(&self) -> &str {
        &self.0.last_name
    }

    async fn email(&self) -> &str {
        &self.0.email
    }

    /// A test user id in every environment that the member can view.
    async fn user_id(&self) -> &str {
        &self.0.user_id
    }

    async fn group_ids(&self, ctx: &Context<'_>) -> Result<Vec<GroupId>> {
        // Right after sign-in the request itself belongs to nobody yet.
        match context::viewer(ctx) {
            Ok(viewer) => member::groups_of(context::app(ctx)?, viewer, self.0.id).await,
            Err(_) => member::own_groups(context::app(ctx)?, &self.0).await,
        }
    }

    async fn created(&self) -> Time {
        self.0.created_at
    }

    async fn updated(&self) -> Time {
        self.0.updated_at
    }

    async fn revision(&self) -> i32 {
        self.0.revision
    }
}

/// The caller, and what the caller may do.
pub struct Me;

#[Object(name = "Viewer")]
impl Me {
    /// The signed-in member; null for an API credential.
    async fn member(&self, ctx: &Context<'_>) -> Result<Option<Member>> {
        let viewer = context::viewer(ctx)?;
        match viewer.actor {
            Actor::Member(id) => {
                let found = member::find(&*context::app(ctx)?.read().await?, viewer.org, id).await?;
                found.map(|member| Some(Member(member))).ok_or_else(|| Error::not_found("member"))
            }
            _ => Ok(None),
        }
    }

    /// The client id; null for a member.
    async fn client_id(&self, ctx: &Context<'_>) -> Result<Option<ID>> {
        Ok(match &context::viewer(ctx)?.actor {
            Actor::Credential(id) => Some(super::id(id)),
            _ => None,
        })
    }

    async fn environments(&self, ctx: &Context<'_>) -> Result<Vec<Environment>> {
        let environments = environment::list_all(context::app(ctx)?, context::viewer(ctx)?).await?;
        Ok(environments.into_iter().map(Environment).collect())
    }

    /// The caller's levels in an environment, or those that hold in the whole organisation.
    async fn levels(&self, ctx: &Context<'_>, environment_id: Option<EnvId>) -> Result<Vec<LevelOf>> {
        let viewer = context::viewer(ctx)?;
        let access = match environment_id {
            Some(env) => viewer.access(env)?,
            None => viewer.organisation(),
        };
        Ok(LevelOf::all(access.grants()))
    }
}

#[derive(InputObject)]
struct UpdateOrganisationInput {
    name: Option<String>,
    inactivity_minutes: Option<i32>,
    /// 1 to 3650.
    event_retention_days: Option<i32>,
    expected_revision: Option<i32>,
}

#[derive(SimpleObject)]
struct UpdateOrganisationPayload {
    organisation: Organisation,
}

#[derive(InputObject)]
struct SetMemberGroupsInput {
    member_id: MemberId,
    group_ids: Vec<GroupId>,
}

#[derive(SimpleObject)]
struct SetMemberGroupsPayload {
    member: Member,
}

#[derive(InputObject)]
struct UpdateMemberInput {
    id: MemberId,
    first_name: Option<String>,
    last_name: Option<String>,
    expected_revision: Option<i32>,
}

#[derive(SimpleObject)]
struct UpdateMemberPayload {
    member: Member,
}

#[derive(SimpleObject)]
struct RemoveMemberPayload {
    id: ID,
}

#[derive(Default)]
pub struct MemberQuery;

#[Object]
impl MemberQuery {
    /// The caller.
    async fn viewer(&self, ctx: &Context<'_>) -> Result<Me> {
        context::viewer(ctx).map(|_| Me)
    }

    /// The caller's organisation.
    async fn organisation(&self, ctx: &Context<'_>) -> Result<Organisation> {
        organisation::find(context::app(ctx)?, context::viewer(ctx)?).await.map(Organisation)
    }

    async fn members(
        &self,
        ctx: &Context<'_>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<Connection<Member>> {
        let page = PageRequest::new(first, after.as_deref())?;
        let rows = member::list(context::app(ctx)?, context::viewer(ctx)?, page).await?;
        Ok(Connection::of(rows, |row| row.id, Member))
    }
}

#[derive(Default)]
pub struct MemberMutation;

#[Object]
impl MemberMutation {
    async fn update_organisation(
        &self,
        ctx: &Context<'_>,
        input: UpdateOrganisationInput,
    ) -> Result<UpdateOrganisationPayload> {
        let settings = Settings {
            name: input.name,
            inactivity_minutes: input.inactivity_minutes,
            event_retention_days: input.event_retention_days,
        };
        let access = super::organisation(ctx)?;
        let organisation = organisation::update(context::app(ctx)?, &access, settings, input.expected_revision).await?;
        Ok(UpdateOrganisationPayload { organisation: Organisation(organisation) })
    }

    /// Puts a member into exactly these groups.
    async fn set_member_groups(
        &self,
        ctx: &Context<'_>,
        input: SetMemberGroupsInput,
    ) -> Result<SetMemberGroupsPayload> {
        let access = super::organisation(ctx)?;
        let member = member::set_groups(context::app(ctx)?, &access, input.member_id, &input.group_ids).await?;
        Ok(SetMemberGroupsPayload { member: Member(member) })
    }

    async fn update_member(&self, ctx: &Context<'_>, input: UpdateMemberInput) -> Result<UpdateMemberPayload> {
        let names = Names { first_name: input.first_name, last_name: input.last_name };
        let access = super::organisation(ctx)?;
        let member = member::rename(context::app(ctx)?, &access, input.id, names, input.expected_revision).await?;
        Ok(UpdateMemberPayload { member: Member(member) })
    }

    /// Removes a member and ends their sessions.
    async fn remove_member(&self, ctx: &Context<'_>, id: MemberId) -> Result<RemoveMemberPayload> {
        member::remove(context::app(ctx)?, &super::organisation(ctx)?, id).await?;
        Ok(RemoveMemberPayload { id: super::id(id) })
    }
}
