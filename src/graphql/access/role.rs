//! Roles, resources and levels.

use async_graphql::{Context, Enum, ID, InputObject, Object, SimpleObject};

use crate::access::role::{self, Settings};
use crate::access::{self, Grants};
use crate::clock::Time;
use crate::db::page::PageRequest;
use crate::error::Result;
use crate::graphql::connection::Connection;
use crate::graphql::context;
use crate::ids::RoleId;

/// What a permission is about.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "access::Resource")]
pub enum Resource {
    CardTemplate,
    ActionFlow,
    SendToCustomers,
    Theme,
    Stream,
    StreamContainer,
    Customer,
    CardInstance,
    CustomField,
    Tag,
    Segment,
    Analytics,
    AnalyticsExportSettings,
    WebhookSubscription,
    WebhookRequestLog,
    WebhookCredential,
    ApiAuthenticationControl,
    SdkApiKey,
    NotificationPlatform,
    TestAccount,
    Integration,
    ApprovalConfiguration,
    ApprovalOverride,
    Environment,
    Organisation,
    Member,
    MemberGroupAssignment,
    Role,
    Group,
    AuditLog,
    SdkRequestLog,
}

/// How much of a resource; each level includes those before it.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "access::Level")]
pub enum Level {
    View,
    Edit,
    Admin,
}

/// The level on one resource. A resource that is not listed is invisible.
#[derive(SimpleObject)]
#[graphql(name = "ResourceLevel")]
pub struct LevelOf {
    resource: Resource,
    level: Level,
}

impl LevelOf {
    pub fn all(grants: &Grants) -> Vec<LevelOf> {
        grants.iter().map(|(resource, level)| LevelOf { resource: resource.into(), level: level.into() }).collect()
    }
}

#[derive(InputObject)]
#[graphql(name = "ResourceLevelInput")]
struct LevelInput {
    resource: Resource,
    level: Level,
}

fn grants(levels: Option<Vec<LevelInput>>) -> Result<Option<Grants>> {
    let Some(levels) = levels else { return Ok(None) };
    let words = levels
        .iter()
        .map(|given| (access::Resource::from(given.resource).word(), access::Level::from(given.level).word()));
    Grants::from_words(words).map(Some).map_err(|error| error.at("/levels"))
}

/// A title and a level for each resource.
pub struct Role(role::Role);

#[Object]
impl Role {
    async fn id(&self) -> RoleId {
        self.0.id
    }

    async fn title(&self) -> &str {
        &self.0.title
    }

    async fn description(&self) -> &str {
        &self.0.description
    }

    /// Whether this is one of the default roles, which cannot be edited or deleted.
    async fn built_in(&self) -> bool {
        self.0.built_in.is_some()
    }

    async fn levels(&self) -> Vec<LevelOf> {
        LevelOf::all(&self.0.grants())
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
struct CreateRoleInput {
    title: String,
    description: Option<String>,
    levels: Vec<LevelInput>,
}

#[derive(InputObject)]
struct UpdateRoleInput {
    id: RoleId,
    title: Option<String>,
    description: Option<String>,
    /// All levels of the role.
    levels: Option<Vec<LevelInput>>,
    expected_revision: Option<i32>,
}

#[derive(SimpleObject)]
#[graphql(name = "CreateRolePayload")]
struct CreatePayload {
    role: Role,
}

#[derive(SimpleObject)]
#[graphql(name = "UpdateRolePayload")]
struct UpdatePayload {
    role: Role,
}

#[derive(SimpleObject)]
#[graphql(name = "DeleteRolePayload")]
struct DeletePayload {
    id: ID,
}

#[derive(Default)]
pub struct RoleQuery;

#[Object]
impl RoleQuery {
    async fn role(&self, ctx: &Context<'_>, id: RoleId) -> Result<Role> {
        role::view(context::app(ctx)?, context::viewer(ctx)?, id).await.map(Role)
    }

    async fn roles(&self, ctx: &Context<'_>, first: Option<i32>, after: Option<String>) -> Result<Connection<Role>> {
        let page = PageRequest::new(first, after.as_deref())?;
        let rows = role::list(context::app(ctx)?, context::viewer(ctx)?, page).await?;
        Ok(Connection::of(rows, |row| row.id, Role))
    }
}

#[derive(Default)]
pub struct RoleMutation;

#[Object]
impl RoleMutation {
    async fn create_role(&self, ctx: &Context<'_>, input: CreateRoleInput) -> Result<CreatePayload> {
        let settings =
            Settings { title: Some(input.title), description: input.description, grants: grants(Some(input.levels))? };
        let role = role::create(context::app(ctx)?, &super::organisation(ctx)?, settings).await?;
        Ok(CreatePayload { role: Role(role) })
    }

    async fn update_role(&self, ctx: &Context<'_>, input: UpdateRoleInput) -> Result<UpdatePayload> {
        let settings = Settings { title: input.title, description: input.description, grants: grants(input.levels)? };
        let access = super::organisation(ctx)?;
        let role = role::update(context::app(ctx)?, &access, input.id, settings, input.expected_revision).await?;
        Ok(UpdatePayload { role: Role(role) })
    }

    /// Deletes a role that no group has.
    async fn delete_role(&self, ctx: &Context<'_>, id: RoleId) -> Result<DeletePayload> {
        role::delete(context::app(ctx)?, &super::organisation(ctx)?, id).await?;
        Ok(DeletePayload { id: super::id(id) })
    }
}
