//! Credentials that webhooks carry to their receivers (specification 11.7). Secrets are write-only.

use async_graphql::{Context, Enum, ID, InputObject, Object, SimpleObject};

use super::connection::Connection;
use super::context::{app, viewer};
use crate::clock::Time;
use crate::db::page::{Page, PageRequest};
use crate::error::Result;
use crate::ids::{EnvId, OutgoingCredentialId};
use crate::webhooks::credential::kind::{Given, Kind, Scheme, Settings};
use crate::webhooks::credential::{self, Credential};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum OutgoingCredentialType {
    OauthClientCredentials,
    AwsSigned,
    Basic,
}

impl From<OutgoingCredentialType> for Kind {
    fn from(kind: OutgoingCredentialType) -> Kind {
        match kind {
            OutgoingCredentialType::OauthClientCredentials => Kind::OauthClientCredentials,
            OutgoingCredentialType::AwsSigned => Kind::AwsSigned,
            OutgoingCredentialType::Basic => Kind::Basic,
        }
    }
}

/// How an OAuth token is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum OauthScheme {
    /// POST with a form.
    Body,
    /// GET with query parameters.
    QueryGet,
    /// POST with query parameters and an empty body.
    QueryPost,
}

impl From<OauthScheme> for Scheme {
    fn from(scheme: OauthScheme) -> Scheme {
        match scheme {
            OauthScheme::Body => Scheme::Body,
            OauthScheme::QueryGet => Scheme::QueryGet,
            OauthScheme::QueryPost => Scheme::QueryPost,
        }
    }
}

/// How our requests prove to another system who sends them. Fields that do not belong to the type are null.
pub struct OutgoingCredential {
    row: Credential,
    settings: Settings,
}

impl OutgoingCredential {
    fn of(row: Credential) -> Result<OutgoingCredential> {
        Ok(OutgoingCredential { settings: row.settings()?, row })
    }
}

#[Object]
impl OutgoingCredential {
    async fn id(&self) -> OutgoingCredentialId {
        self.row.id
    }

    async fn environment_id(&self) -> EnvId {
        self.row.environment_id
    }

    async fn name(&self) -> &str {
        &self.row.name
    }

    #[graphql(name = "type")]
    async fn kind(&self) -> OutgoingCredentialType {
        match self.settings {
            Settings::OauthClientCredentials { .. } => OutgoingCredentialType::OauthClientCredentials,
            Settings::AwsSigned { .. } => OutgoingCredentialType::AwsSigned,
            Settings::Basic { .. } => OutgoingCredentialType::Basic,
        }
    }

    async fn identity_url(&self) -> Option<&str> {
        match &self.settings {
            Settings::OauthClientCredentials { identity_url, .. } => Some(identity_url),
            _ => None,
        }
    }

    async fn client_id(&self) -> Option<&str> {
        match &self.settings {
            Settings::OauthClientCredentials { client_id, .. } => Some(client_id),
            _ => None,
        }
    }

    async fn scope(&self) -> Option<&str> {
        match &self.settings {
            Settings::OauthClientCredentials { scope, .. } => scope.as_deref(),
            _ => None,
        }
    }

    async fn scheme(&self) -> Option<OauthScheme> {
        match &self.settings {
            Settings::OauthClientCredentials { scheme, .. } => Some(match scheme {
                Scheme::Body => OauthScheme::Body,
                Scheme::QueryGet => OauthScheme::QueryGet,
                Scheme::QueryPost => OauthScheme::QueryPost,
            }),
            _ => None,
        }
    }

    async fn access_key_id(&self) -> Option<&str> {
        match &self.settings {
            Settings::AwsSigned { access_key_id, .. } => Some(access_key_id),
            _ => None,
        }
    }

    async fn sign_query(&self) -> Option<bool> {
        match &self.settings {
            Settings::AwsSigned { sign_query, .. } => Some(*sign_query),
            _ => None,
        }
    }

    async fn region(&self) -> Option<&str> {
        match &self.settings {
            Settings::AwsSigned { region, .. } => region.as_deref(),
            _ => None,
        }
    }

    async fn service(&self) -> Option<&str> {
        match &self.settings {
            Settings::AwsSigned { service, .. } => service.as_deref(),
            _ => None,
        }
    }

    async fn username(&self) -> Option<&str> {
        match &self.settings {
            Settings::Basic { username } => Some(username),
            _ => None,
        }
    }

    async fn created(&self) -> Time {
        self.row.created_at
    }

    async fn updated(&self) -> Time {
        self.row.updated_at
    }

    async fn revision(&self) -> i32 {
        self.row.revision
    }
}

/// Each type takes its own fields: OAuth `identityUrl`, `clientId`, `clientSecret`, `scope`, `scheme`; AWS
/// `accessKeyId`, `secretAccessKey`, `sessionToken`, `signQuery`, `region`, `service`; basic `username`, `password`.
#[derive(InputObject)]
pub struct OutgoingCredentialFields {
    identity_url: Option<String>,
    client_id: Option<String>,
    client_secret: Option<String>,
    /// An empty text takes it away.
    scope: Option<String>,
    /// Default BODY.
    scheme: Option<OauthScheme>,
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
    /// Of temporary credentials; an empty text takes it away.
    session_token: Option<String>,
    /// Signs in the query instead of in the header. Default false.
    sign_query: Option<bool>,
    /// Default: what the host name tells.
    region: Option<String>,
    /// Default: what the host name tells.
    service: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

impl From<OutgoingCredentialFields> for Given {
    fn from(fields: OutgoingCredentialFields) -> Given {
        Given {
            kind: None,
            identity_url: fields.identity_url,
            client_id: fields.client_id,
            client_secret: fields.client_secret,
            scope: fields.scope,
            scheme: fields.scheme.map(Scheme::from),
            access_key_id: fields.access_key_id,
            secret_access_key: fields.secret_access_key,
            session_token: fields.session_token,
            sign_query: fields.sign_query,
            region: fields.region,
            service: fields.service,
            username: fields.username,
            password: fields.password,
        }
    }
}

#[derive(InputObject)]
pub struct CreateOutgoingCredentialInput {
    environment_id: EnvId,
    name: String,
    #[graphql(name = "type")]
    kind: OutgoingCredentialType,
    #[graphql(flatten)]
    fields: OutgoingCredentialFields,
}

/// What is not given stays, secrets too. The type cannot change.
#[derive(InputObject)]
pub struct UpdateOutgoingCredentialInput {
    id: OutgoingCredentialId,
    name: Option<String>,
    #[graphql(flatten)]
    fields: OutgoingCredentialFields,
    expected_revision: Option<i32>,
}

#[derive(SimpleObject)]
pub struct CreateOutgoingCredentialPayload {
    outgoing_credential: OutgoingCredential,
}

#[derive(SimpleObject)]
pub struct UpdateOutgoingCredentialPayload {
    outgoing_credential: OutgoingCredential,
}

#[derive(SimpleObject)]
pub struct DeleteOutgoingCredentialPayload {
    id: ID,
}

#[derive(Default)]
pub struct OutgoingCredentialQuery;

#[Object]
impl OutgoingCredentialQuery {
    async fn outgoing_credential(&self, ctx: &Context<'_>, id: OutgoingCredentialId) -> Result<OutgoingCredential> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, id).await?;
        OutgoingCredential::of(credential::view(app, &access, id).await?)
    }

    async fn outgoing_credentials(
        &self,
        ctx: &Context<'_>,
        environment_id: EnvId,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<Connection<OutgoingCredential>> {
        let access = viewer(ctx)?.access(environment_id)?;
        let page = PageRequest::new(first, after.as_deref())?;
        let rows = credential::list(app(ctx)?, &access, page).await?;
        let (more, rows) = (rows.more, rows.rows.into_iter().map(OutgoingCredential::of).collect::<Result<_>>()?);
        let rows: Page<OutgoingCredential> = Page { rows, more };
        Ok(Connection::of(rows, |credential| credential.row.id, |credential| credential))
    }
}

#[derive(Default)]
pub struct OutgoingCredentialMutation;

#[Object]
impl OutgoingCredentialMutation {
    async fn create_outgoing_credential(
        &self,
        ctx: &Context<'_>,
        input: CreateOutgoingCredentialInput,
    ) -> Result<CreateOutgoingCredentialPayload> {
        let access = viewer(ctx)?.access(input.environment_id)?;
        let given = Given { kind: Some(input.kind.into()), ..input.fields.into() };
        let created = credential::create(app(ctx)?, &access, &input.name, given).await?;
        Ok(CreateOutgoingCredentialPayload { outgoing_credential: OutgoingCredential::of(created)? })
    }

    async fn update_outgoing_credential(
        &self,
        ctx: &Context<'_>,
        input: UpdateOutgoingCredentialInput,
    ) -> Result<UpdateOutgoingCredentialPayload> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, input.id).await?;
        let (name, expected) = (input.name.as_deref(), input.expected_revision);
        let updated = credential::update(app, &access, input.id, name, input.fields.into(), expected).await?;
        Ok(UpdateOutgoingCredentialPayload { outgoing_credential: OutgoingCredential::of(updated)? })
    }

    /// Deletes a credential that no webhook subscription uses.
    async fn delete_outgoing_credential(
        &self,
        ctx: &Context<'_>,
        id: OutgoingCredentialId,
    ) -> Result<DeleteOutgoingCredentialPayload> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, id).await?;
        credential::delete(app, &access, id).await?;
        Ok(DeleteOutgoingCredentialPayload { id: ID(id.to_string()) })
    }
}
