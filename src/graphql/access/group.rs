//! Groups of members.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use crate::access::group::{self, Assignment, Settings};
use crate::clock::Time;
use crate::db::page::PageRequest;
use crate::error::Result;
use crate::graphql::connection::Connection;
use crate::graphql::context;
use crate::ids::{EnvId, GroupId, RoleId};

/// What members are in, and which roles that gives them.
pub struct Group(group::Group);

/// A role of a group.
#[derive(SimpleObject)]
struct RoleAssignment {
    role_id: RoleId,
    /// Where the role is valid; null: in all environments.
    environment_ids: Option<Vec<EnvId>>,
}

#[derive(InputObject)]
struct RoleAssignmentInput {
    role_id: RoleId,
    /// Where the role is valid; absent: in all environments, those to come included.
    environment_ids: Option<Vec<EnvId>>,
}

fn assignments(roles: Vec<RoleAssignmentInput>) -> Vec<Assignment> {
    roles
        .into_iter()
        .map(|given| Assignment { role_id: given.role_id, environment_ids: given.environment_ids })
        .collect()
}

#[Object]
impl Group {
    async fn id(&self) -> GroupId {
        self.0.id
    }

    async fn title(&self) -> &str {
        &self.0.title
    }

    async fn description(&self) -> &str {
        &self.0.description
    }

    async fn roles(&self, ctx: &Context<'_>) -> Result<Vec<RoleAssignment>> {
        let conn = context::app(ctx)?.read().await?;
        let assignments = group::assignments(&conn, self.0.organisation_id, self.0.id).await?;
        Ok(assignments
            .into_iter()
            .map(|held| RoleAssignment { role_id: held.role_id, environment_ids: held.environment_ids })
            .collect())
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

#[derive(InputObject)]
struct CreateGroupInput {
    title: String,
    description: Option<String>,
    #[graphql(default)]
    roles: Vec<RoleAssignmentInput>,
}

#[derive(InputObject)]
struct UpdateGroupInput {
    id: GroupId,
    title: Option<String>,
    description: Option<String>,
    /// All roles of the group.
    roles: Option<Vec<RoleAssignmentInput>>,
    expected_revision: Option<i32>,
}

#[derive(SimpleObject)]
#[graphql(name = "CreateGroupPayload")]
struct CreatePayload {
    group: Group,
}

#[derive(SimpleObject)]
#[graphql(name = "UpdateGroupPayload")]
struct UpdatePayload {
    group: Group,
}

#[derive(SimpleObject)]
#[graphql(name = "DeleteGroupPayload")]
struct DeletePayload {
    id: ID,
}

#[derive(Default)]
pub struct GroupQuery;

#[Object]
impl GroupQuery {
    async fn group(&self, ctx: &Context<'_>, id: GroupId) -> Result<Group> {
        group::view(context::app(ctx)?, context::viewer(ctx)?, id).await.map(Group)
    }

    async fn groups(&self, ctx: &Context<'_>, first: Option<i32>, after: Option<String>) -> Result<Connection<Group>> {
        let page = PageRequest::new(first, after.as_deref())?;
        let rows = group::list(context::app(ctx)?, context::viewer(ctx)?, page).await?;
        Ok(Connection::of(rows, |row| row.id, Group))
    }
}

#[derive(Default)]
pub struct GroupMutation;

#[Object]
impl GroupMutation {
    async fn create_group(&self, ctx: &Context<'_>, input: CreateGroupInput) -> Result<CreatePayload> {
        let settings = Settings {
            title: Some(input.title),
            description: input.description,
            roles: Some(assignments(input.roles)),
        };
        let group = group::create(context::app(ctx)?, &super::organisation(ctx)?, settings).await?;
        Ok(CreatePayload { group: Group(group) })
    }

    async fn update_group(&self, ctx: &Context<'_>, input: UpdateGroupInput) -> Result<UpdatePayload> {
        let settings =
            Settings { title: input.title, description: input.description, roles: input.roles.map(assignments) };
        let access = super::organisation(ctx)?;
        let group = group::update(context::app(ctx)?, &access, input.id, settings, input.expected_revision).await?;
        Ok(UpdatePayload { group: Group(group) })
    }

    /// Deletes a group without members.
    async fn delete_group(&self, ctx: &Context<'_>, id: GroupId) -> Result<DeletePayload> {
        group::delete(context::app(ctx)?, &super::organisation(ctx)?, id).await?;
        Ok(DeletePayload { id: super::id(id) })
    }
}
