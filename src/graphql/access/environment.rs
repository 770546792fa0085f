//! Environments.

use async_graphql::{Context, Enum, ID, InputObject, Object, SimpleObject};

use crate::access::environment::{self, Settings};
use crate::clock::Time;
use crate::db::page::PageRequest;
use crate::error::Result;
use crate::graphql::connection::Connection;
use crate::graphql::context;
use crate::graphql::scalars::TimeZone;
use crate::ids::EnvId;

/// An isolated workspace.
pub struct Environment(pub environment::Environment);

/// How the value of the webhook signature header is written.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
enum SignatureEncoding {
    Hex,
    #[graphql(name = "BASE64")]
    Base64,
}

impl SignatureEncoding {
    fn word(self) -> &'static str {
        match self {
            SignatureEncoding::Hex => "hex",
            SignatureEncoding::Base64 => "base64",
        }
    }
}

#[Object]
impl Environment {
    async fn id(&self) -> EnvId {
        self.0.id
    }

    async fn name(&self) -> &str {
        &self.0.name
    }

    async fn time_zone(&self) -> TimeZone {
        TimeZone(self.0.time_zone.clone())
    }

    /// The origin that SDKs connect to.
    async fn api_host(&self, ctx: &Context<'_>) -> Result<String> {
        Ok(self.0.api_host(context::app(ctx)?))
    }

    /// Where REST paths of the environment begin.
    async fn base_url(&self, ctx: &Context<'_>) -> Result<String> {
        Ok(self.0.base_url(context::app(ctx)?))
    }

    /// Whether cards carry the metadata of the start request to apps.
    async fn expose_metadata_to_sdk(&self) -> bool {
        self.0.expose_metadata_to_sdk
    }

    async fn webhook_signature_header(&self) -> &str {
        &self.0.webhook_signature_header
    }

    async fn webhook_signature_encoding(&self) -> SignatureEncoding {
        match self.0.webhook_signature_encoding.as_str() {
            "base64" => SignatureEncoding::Base64,
            _ => SignatureEncoding::Hex,
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

#[derive(InputObject)]
struct CreateEnvironmentInput {
    name: String,
    /// Default UTC.
    time_zone: Option<TimeZone>,
    expose_metadata_to_sdk: Option<bool>,
    webhook_signature_header: Option<String>,
    webhook_signature_encoding: Option<SignatureEncoding>,
}

#[derive(InputObject)]
struct UpdateEnvironmentInput {
    id: EnvId,
    name: Option<String>,
    time_zone: Option<TimeZone>,
    expose_metadata_to_sdk: Option<bool>,
    webhook_signature_header: Option<String>,
    webhook_signature_encoding: Option<SignatureEncoding>,
    expected_revision: Option<i32>,
}

#[derive(SimpleObject)]
#[graphql(name = "CreateEnvironmentPayload")]
struct CreatePayload {
    environment: Environment,
}

#[derive(SimpleObject)]
#[graphql(name = "UpdateEnvironmentPayload")]
struct UpdatePayload {
    environment: Environment,
}

#[derive(SimpleObject)]
#[graphql(name = "ArchiveEnvironmentPayload")]
struct ArchivePayload {
    environment: Environment,
}

#[derive(SimpleObject)]
#[graphql(name = "DeleteEnvironmentPayload")]
struct DeletePayload {
    id: ID,
}

#[derive(Default)]
pub struct EnvironmentQuery;

#[Object]
impl EnvironmentQuery {
    async fn environment(&self, ctx: &Context<'_>, id: EnvId) -> Result<Environment> {
        let access = context::viewer(ctx)?.access(id)?;
        environment::view(context::app(ctx)?, &access).await.map(Environment)
    }

    /// The environments that the caller can see.
    async fn environments(
        &self,
        ctx: &Context<'_>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<Connection<Environment>> {
        let page = PageRequest::new(first, after.as_deref())?;
        let rows = environment::list(context::app(ctx)?, context::viewer(ctx)?, page).await?;
        Ok(Connection::of(rows, |row| row.id, Environment))
    }
}

#[derive(Default)]
pub struct EnvironmentMutation;

#[Object]
impl EnvironmentMutation {
    async fn create_environment(&self, ctx: &Context<'_>, input: CreateEnvironmentInput) -> Result<CreatePayload> {
        let settings = Settings {
            name: Some(input.name),
            time_zone: input.time_zone.map(|zone| zone.0),
            expose_metadata_to_sdk: input.expose_metadata_to_sdk,
            webhook_signature_header: input.webhook_signature_header,
            webhook_signature_encoding: input.webhook_signature_encoding.map(|encoding| encoding.word().to_owned()),
        };
        let environment = environment::create(context::app(ctx)?, &super::organisation(ctx)?, settings).await?;
        Ok(CreatePayload { environment: Environment(environment) })
    }

    async fn update_environment(&self, ctx: &Context<'_>, input: UpdateEnvironmentInput) -> Result<UpdatePayload> {
        let access = context::viewer(ctx)?.access(input.id)?;
        let settings = Settings {
            name: input.name,
            time_zone: input.time_zone.map(|zone| zone.0),
            expose_metadata_to_sdk: input.expose_metadata_to_sdk,
            webhook_signature_header: input.webhook_signature_header,
            webhook_signature_encoding: input.webhook_signature_encoding.map(|encoding| encoding.word().to_owned()),
        };
        let environment = environment::update(context::app(ctx)?, &access, settings, input.expected_revision).await?;
        Ok(UpdatePayload { environment: Environment(environment) })
    }

    /// Hides an environment and everything in it for good. Only an archived environment can be deleted.
    async fn archive_environment(&self, ctx: &Context<'_>, id: EnvId) -> Result<ArchivePayload> {
        let access = context::viewer(ctx)?.access(id)?;
        let environment = environment::archive(context::app(ctx)?, &access).await?;
        Ok(ArchivePayload { environment: Environment(environment) })
    }

    /// Deletes an archived environment with everything in it.
    async fn delete_environment(&self, ctx: &Context<'_>, id: EnvId) -> Result<DeletePayload> {
        environment::delete(context::app(ctx)?, &super::organisation(ctx)?, id).await?;
        Ok(DeletePayload { id: super::id(id) })
    }
}
