//! SDK API keys.

use async_graphql::{Context, Enum, ID, InputObject, MaybeUndefined, Object, SimpleObject};

use crate::access::ClaimMapping;
use crate::access::sdk_key::{self, Material, SdkKey, Settings};
use crate::clock::Time;
use crate::db::page::PageRequest;
use crate::error::{Error, Result};
use crate::graphql::connection::Connection;
use crate::graphql::context;
use crate::graphql::scalars::JsonObject;
use crate::ids::{EnvId, SdkKeyId};

/// The public key by which an app's customers are known.
pub struct SdkApiKey(SdkKey);

/// Where the public key comes from.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
enum SdkApiKeyType {
    PublicKey,
    Jwks,
}

#[Object]
impl SdkApiKey {
    async fn id(&self) -> SdkKeyId {
        self.0.id
    }

    async fn environment_id(&self) -> EnvId {
        self.0.environment_id
    }

    /// What SDKs send as their API key.
    async fn name(&self) -> &str {
        &self.0.name
    }

    #[graphql(name = "type")]
    async fn kind(&self) -> SdkApiKeyType {
        if self.0.public_key.is_some() { SdkApiKeyType::PublicKey } else { SdkApiKeyType::Jwks }
    }

    async fn public_key(&self) -> Option<&str> {
        self.0.public_key.as_deref()
    }

    async fn jwks(&self) -> Option<JsonObject> {
        self.0.jwks.clone().map(JsonObject::of)
    }

    async fn max_token_days(&self) -> i32 {
        self.0.max_token_days
    }

    async fn allowed_issuers(&self) -> &[String] {
        &self.0.allowed_issuers
    }

    async fn allowed_audiences(&self) -> &[String] {
        &self.0.allowed_audiences
    }

    async fn user_id_claim(&self) -> Option<&str> {
        self.0.user_id_claim.as_deref()
    }

    /// Claims that fill fields of the customer's profile at each authentication.
    async fn claim_mappings(&self) -> Result<Vec<ClaimMappingEntry>> {
        Ok(self.0.claim_mappings()?.into_iter().map(ClaimMappingEntry).collect())
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

/// A claim that fills a field of the customer's profile.
struct ClaimMappingEntry(ClaimMapping);

#[Object(name = "ClaimMapping")]
impl ClaimMappingEntry {
    /// A JSONPath into the claims.
    async fn claim(&self) -> &str {
        &self.0.claim
    }

    async fn field(&self) -> &str {
        &self.0.field
    }
}

#[derive(InputObject)]
struct ClaimMappingInput {
    /// A JSONPath into the claims, such as `$.email`.
    claim: String,
    /// A core field of profiles.
    field: String,
}

fn mappings(given: Option<Vec<ClaimMappingInput>>) -> Option<Vec<ClaimMapping>> {
    let mapping = |given: ClaimMappingInput| ClaimMapping { claim: given.claim, field: given.field };
    given.map(|given| given.into_iter().map(mapping).collect())
}

#[derive(InputObject)]
struct CreateSdkApiKeyInput {
    environment_id: EnvId,
    name: String,
    #[graphql(name = "type")]
    kind: SdkApiKeyType,
    /// One public key in PEM, for type PUBLIC_KEY.
    public_key: Option<String>,
    /// `{"url": "https://…"}` or `{"keys": […]}`, for type JWKS.
    jwks: Option<JsonObject>,
    /// Default 7, at most 30.
    max_token_days: Option<i32>,
    allowed_issuers: Option<Vec<String>>,
    allowed_audiences: Option<Vec<String>>,
    /// Default `sub`.
    user_id_claim: Option<String>,
    claim_mappings: Option<Vec<ClaimMappingInput>>,
}

#[derive(InputObject)]
struct UpdateSdkApiKeyInput {
    id: SdkKeyId,
    name: Option<String>,
    public_key: Option<String>,
    jwks: Option<JsonObject>,
    max_token_days: Option<i32>,
    allowed_issuers: Option<Vec<String>>,
    allowed_audiences: Option<Vec<String>>,
    /// Null goes back to `sub`.
    user_id_claim: MaybeUndefined<String>,
    claim_mappings: Option<Vec<ClaimMappingInput>>,
    expected_revision: Option<i32>,
}

#[derive(SimpleObject)]
#[graphql(name = "CreateSdkApiKeyPayload")]
struct CreatePayload {
    api_key: SdkApiKey,
}

#[derive(SimpleObject)]
#[graphql(name = "UpdateSdkApiKeyPayload")]
struct UpdatePayload {
    api_key: SdkApiKey,
}

#[derive(SimpleObject)]
#[graphql(name = "DeleteSdkApiKeyPayload")]
struct DeletePayload {
    id: ID,
}

fn material(public_key: Option<String>, jwks: Option<JsonObject>) -> Result<Option<Material>> {
    match (public_key, jwks) {
        (Some(_), Some(_)) => Err(Error::invalid("/jwks", "give either a public key or a set")),
        (Some(pem), None) => Ok(Some(Material::PublicKey(pem))),
        (None, Some(set)) => Ok(Some(Material::Jwks(set.into_value()))),
        (None, None) => Ok(None),
    }
}

#[derive(Default)]
pub struct SdkKeyQuery;

#[Object]
impl SdkKeyQuery {
    async fn sdk_api_key(&self, ctx: &Context<'_>, id: SdkKeyId) -> Result<SdkApiKey> {
        let app = context::app(ctx)?;
        let access = context::viewer(ctx)?.locate(app, id).await?;
        sdk_key::view(app, &access, id).await.map(SdkApiKey)
    }

    async fn sdk_api_keys(
        &self,
        ctx: &Context<'_>,
        environment_id: EnvId,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<Connection<SdkApiKey>> {
        let access = context::viewer(ctx)?.access(environment_id)?;
        let page = PageRequest::new(first, after.as_deref())?;
        let rows = sdk_key::list(context::app(ctx)?, &access, page).await?;
        Ok(Connection::of(rows, |row| row.id, SdkApiKey))
    }
}

#[derive(Default)]
pub struct SdkKeyMutation;

#[Object]
impl SdkKeyMutation {
    async fn create_sdk_api_key(&self, ctx: &Context<'_>, input: CreateSdkApiKeyInput) -> Result<CreatePayload> {
        let access = context::viewer(ctx)?.access(input.environment_id)?;
        let material = material(input.public_key, input.jwks)?;
        match (&material, input.kind) {
            (Some(Material::PublicKey(_)), SdkApiKeyType::PublicKey)
            | (Some(Material::Jwks(_)), SdkApiKeyType::Jwks) => {}
            (_, SdkApiKeyType::PublicKey) => return Err(Error::invalid("/publicKey", "this type needs a public key")),
            (_, SdkApiKeyType::Jwks) => return Err(Error::invalid("/jwks", "this type needs a set of keys")),
        }
        let settings = Settings {
            name: Some(input.name),
            material,
            max_token_days: input.max_token_days,
            allowed_issuers: input.allowed_issuers,
            allowed_audiences: input.allowed_audiences,
            user_id_claim: input.user_id_claim.map(Some),
            claim_mappings: mappings(input.claim_mappings),
        };
        let key = sdk_key::create(context::app(ctx)?, &access, settings).await?;
        Ok(CreatePayload { api_key: SdkApiKey(key) })
    }

    async fn update_sdk_api_key(&self, ctx: &Context<'_>, input: UpdateSdkApiKeyInput) -> Result<UpdatePayload> {
        let app = context::app(ctx)?;
        let access = context::viewer(ctx)?.locate(app, input.id).await?;
        let settings = Settings {
            name: input.name,
            material: material(input.public_key, input.jwks)?,
            max_token_days: input.max_token_days,
            allowed_issuers: input.allowed_issuers,
            allowed_audiences: input.allowed_audiences,
            user_id_claim: match input.user_id_claim {
                MaybeUndefined::Undefined => None,
                MaybeUndefined::Null => Some(None),
                MaybeUndefined::Value(claim) => Some(Some(claim)),
            },
            claim_mappings: mappings(input.claim_mappings),
        };
        let key = sdk_key::update(app, &access, input.id, settings, input.expected_revision).await?;
        Ok(UpdatePayload { api_key: SdkApiKey(key) })
    }

    async fn delete_sdk_api_key(&self, ctx: &Context<'_>, id: SdkKeyId) -> Result<DeletePayload> {
        let app = context::app(ctx)?;
        let access = context::viewer(ctx)?.locate(app, id).await?;
        sdk_key::delete(app, &access, id).await?;
        Ok(DeletePayload { id: super::id(id) })
    }
}
