//! API credentials.

use async_graphql::{Context, Enum, ID, InputObject, Object, SimpleObject};

use crate::access::CredentialRole;
use crate::access::credential::{self, Credential};
use crate::clock::Time;
use crate::db::page::PageRequest;
use crate::error::Result;
use crate::graphql::connection::Connection;
use crate::graphql::context;
use crate::ids::{CredentialId, EnvId};

/// A server that may call the API.
pub struct ApiCredential(Credential);

/// What a server may do.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "CredentialRole")]
enum ApiCredentialRole {
    Workbench,
    Events,
    Auth,
}

#[Object]
impl ApiCredential {
    /// The client id.
    async fn id(&self) -> CredentialId {
        self.0.id
    }

    async fn client_id(&self) -> CredentialId {
        self.0.id
    }

    async fn environment_id(&self) -> EnvId {
        self.0.environment_id
    }

    async fn name(&self) -> &str {
        &self.0.name
    }

    async fn role(&self) -> Result<ApiCredentialRole> {
        Ok(self.0.role()?.into())
    }

    /// To the minute.
    async fn last_used_at(&self) -> Option<Time> {
        self.0.last_used_at
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
struct CreateApiCredentialInput {
    environment_id: EnvId,
    role: ApiCredentialRole,
    #[graphql(default)]
    name: String,
}

#[derive(InputObject)]
struct UpdateApiCredentialInput {
    id: CredentialId,
    name: String,
    expected_revision: Option<i32>,
}

#[derive(SimpleObject)]
#[graphql(name = "CreateApiCredentialPayload")]
struct CreatePayload {
    client_id: CredentialId,
    /// Shown here and never again.
    client_secret: String,
    api_credential: ApiCredential,
}

#[derive(SimpleObject)]
#[graphql(name = "UpdateApiCredentialPayload")]
struct UpdatePayload {
    api_credential: ApiCredential,
}

#[derive(SimpleObject)]
#[graphql(name = "DeleteApiCredentialPayload")]
struct DeletePayload {
    id: ID,
}

#[derive(Default)]
pub struct CredentialQuery;

#[Object]
impl CredentialQuery {
    async fn api_credential(&self, ctx: &Context<'_>, id: CredentialId) -> Result<ApiCredential> {
        let app = context::app(ctx)?;
        let access = context::viewer(ctx)?.locate(app, id).await?;
        credential::view(app, &access, id).await.map(ApiCredential)
    }

    async fn api_credentials(
        &self,
        ctx: &Context<'_>,
        environment_id: EnvId,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<Connection<ApiCredential>> {
        let access = context::viewer(ctx)?.access(environment_id)?;
        let page = PageRequest::new(first, after.as_deref())?;
        let rows = credential::list(context::app(ctx)?, &access, page).await?;
        Ok(Connection::of(rows, |row| row.id, ApiCredential))
    }
}

#[derive(Default)]
pub struct CredentialMutation;

#[Object]
impl CredentialMutation {
    async fn create_api_credential(&self, ctx: &Context<'_>, input: CreateApiCredentialInput) -> Result<CreatePayload> {
        let access = context::viewer(ctx)?.access(input.environment_id)?;
        let created = credential::create(context::app(ctx)?, &access, input.role.into(), &input.name).await?;
        Ok(CreatePayload {
            client_id: created.credential.id,
            client_secret: created.secret.expose().to_owned(),
            api_credential: ApiCredential(created.credential),
        })
    }

    async fn update_api_credential(&self, ctx: &Context<'_>, input: UpdateApiCredentialInput) -> Result<UpdatePayload> {
        let app = context::app(ctx)?;
        let access = context::viewer(ctx)?.locate(app, input.id).await?;
        let renamed = credential::rename(app, &access, input.id, &input.name, input.expected_revision).await?;
        Ok(UpdatePayload { api_credential: ApiCredential(renamed) })
    }

    /// Deletes a credential. Access tokens issued to it end with it.
    async fn delete_api_credential(&self, ctx: &Context<'_>, id: CredentialId) -> Result<DeletePayload> {
        let app = context::app(ctx)?;
        let access = context::viewer(ctx)?.locate(app, id).await?;
        credential::delete(app, &access, id).await?;
        Ok(DeletePayload { id: super::id(id) })
    }
}
