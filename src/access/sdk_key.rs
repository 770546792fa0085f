//! SDK API keys: the public keys by which the tokens of customers in apps are known (§3.5).

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::jwt::{Keys, Rules};
use super::{Access, ClaimMapping, Level, Resource, audit, claim_mapping};
use crate::app::App;
use crate::clock::Time;
use crate::db::OnConstraint;
use crate::db::page::{Page, PageRequest};
use crate::db::schema::{environments, sdk_keys};
use crate::error::{Code, Error, Result, Violations};
use crate::ids::{EnvId, SdkKeyId};
use crate::text;

const DEFAULT_TOKEN_DAYS: i32 = 7;
const MOST_TOKEN_DAYS: i32 = 30;
/// Issuers or audiences of one key.
const MOST_ALLOWED: usize = 50;

#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = sdk_keys)]
pub struct SdkKey {
    pub environment_id: EnvId,
    pub id: SdkKeyId,
    /// What an SDK sends as its API key.
    pub name: String,
    /// `public-key` or `jwks`.
    pub kind: String,
    pub public_key: Option<String>,
    /// `{"url": …}` or `{"keys": […]}`.
    pub jwks: Option<Value>,
    pub max_token_days: i32,
    pub allowed_issuers: Vec<String>,
    pub allowed_audiences: Vec<String>,
    pub user_id_claim: Option<String>,
    /// A list of [`ClaimMapping`].
    pub claim_mappings: Value,
    pub created_at: Time,
    pub updated_at: Time,
    pub revision: i32,
}

impl SdkKey {
    pub(super) fn rules(&self) -> Rules {
        Rules {
            key_name: self.name.clone(),
            max_token_days: self.max_token_days,
            allowed_issuers: self.allowed_issuers.clone(),
            allowed_audiences: self.allowed_audiences.clone(),
            user_id_claim: self.user_id_claim.clone(),
        }
    }

    /// What tokens say of the profiles of their customers.
    pub fn claim_mappings(&self) -> Result<Vec<ClaimMapping>> {
        Ok(Vec::deserialize(&self.claim_mappings)?)
    }

    /// Where the keys are published, when they are.
    pub(super) fn published_at(&self) -> Option<Result<Url>> {
        let url = self.jwks.as_ref()?.get("url")?.as_str()?;
        Some(Url::parse(url).map_err(Error::internal))
    }

    /// The keys that are stored here.
    pub(super) fn stored_keys(&self) -> Result<Keys> {
        match (&self.public_key, &self.jwks) {
            (Some(pem), _) => Keys::from_pem(pem),
            (None, Some(set)) => Keys::from_inline_set(set),
            (None, None) => Err(Error::internal("an SDK API key without a public key")),
        }
    }
}

/// Where the public keys of an SDK API key come from.
#[derive(Clone, Debug)]
pub enum Material {
    /// One public key in PEM.
    PublicKey(String),
    /// `{"url": "https://…"}` or `{"keys": […]}`.
    Jwks(Value),
}

impl Material {
    fn kind(&self) -> &'static str {
        match self {
            Material::PublicKey(_) => "public-key",
            Material::Jwks(_) => "jwks",
        }
    }

    fn public_key(&self) -> Option<&str> {
        match self {
            Material::PublicKey(pem) => Some(pem),
            Material::Jwks(_) => None,
        }
    }

    /// What is kept of a set: the address, or the keys.
    fn jwks(&self) -> Option<Value> {
        let Material::Jwks(set) = self else { return None };
        Some(match (set.get("url"), set.get("keys")) {
            (Some(url), _) => json!({ "url": url }),
            (None, keys) => json!({ "keys": keys }),
        })
    }

    fn check(&self, app: &App) -> Result<()> {
        match self {
            Material::PublicKey(pem) => Keys::from_pem(pem).map(drop).map_err(|error| error.at("/publicKey")),
            Material::Jwks(set) => check_set(app, set).map_err(|error| error.at("/jwks")),
        }
    }
}

fn check_set(app: &App, set: &Value) -> Result<()> {
    match (set.get("url"), set.get("keys")) {
        (Some(_), Some(_)) | (None, None) => Err(Error::invalid("", "must hold either url or keys")),
        (Some(Value::String(url)), None) => app.outbound().rules().parse(url, "/url").map(drop),
        (Some(_), None) => Err(Error::invalid("/url", "must be a URL")),
        (None, Some(_)) => Keys::from_inline_set(set).map(drop),
    }
}

/// What an SDK API key says; what is absent stays, or takes its default in a new key.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub name: Option<String>,
    pub material: Option<Material>,
    pub max_token_days: Option<i32>,
    pub allowed_issuers: Option<Vec<String>>,
    pub allowed_audiences: Option<Vec<String>>,
    /// `Some(None)` goes back to `sub`.
    pub user_id_claim: Option<Option<String>>,
    pub claim_mappings: Option<Vec<ClaimMapping>>,
}

impl Settings {
    fn check(&self, app: &App) -> Result<()> {
        let mut violations = Violations::new();
        if let Some(name) = &self.name {
            violations.check(text::object_name(name, "/name"));
        }
        if let Some(material) = &self.material {
            violations.check(material.check(app));
        }
        if self.max_token_days.is_some_and(|days| !(1..=MOST_TOKEN_DAYS).contains(&days)) {
            violations.add("/maxTokenDays", format!("must be between 1 and {MOST_TOKEN_DAYS}"));
        }
        for (listed, pointer) in
            [(&self.allowed_issuers, "/allowedIssuers"), (&self.allowed_audiences, "/allowedAudiences")]
        {
            let too_much = |listed: &Vec<String>| {
                listed.len() > MOST_ALLOWED || listed.iter().any(|text| text.is_empty() || text.len() > 1024)
            };
            if listed.as_ref().is_some_and(too_much) {
                violations.add(pointer, format!("must be at most {MOST_ALLOWED} texts of 1 to 1024 bytes"));
            }
        }
        if self.user_id_claim.as_ref().and_then(Option::as_ref).is_some_and(|claim| !(1..=128).contains(&claim.len())) {
            violations.add("/userIdClaim", "must be 1 to 128 bytes");
        }
        if let Some(mappings) = &self.claim_mappings {
            violations.check(claim_mapping::check(mappings));
        }
        violations.finish()
    }

    fn mappings(&self) -> Result<Option<Value>> {
        Ok(self.claim_mappings.as_ref().map(serde_json::to_value).transpose()?)
    }

    fn fields(&self) -> Vec<&'static str> {
        [
            self.name.as_ref().map(|_| "name"),
            self.material.as_ref().map(|material| match material {
                Material::PublicKey(_) => "publicKey",
                Material::Jwks(_) => "jwks",
            }),
            self.max_token_days.map(|_| "maxTokenDays"),
            self.allowed_issuers.as_ref().map(|_| "allowedIssuers"),
            self.allowed_audiences.as_ref().map(|_| "allowedAudiences"),
            self.user_id_claim.as_ref().map(|_| "userIdClaim"),
            self.claim_mappings.as_ref().map(|_| "claimMappings"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

pub async fn create(app: &App, access: &Access, settings: Settings) -> Result<SdkKey> {
    access.require(Resource::SdkApiKey, Level::Admin)?;
    let name = settings.name.as_deref().ok_or_else(|| Error::invalid("/name", "a name is required"))?;
    let material =
        settings.material.as_ref().ok_or_else(|| Error::invalid("/publicKey", "a public key or a set is required"))?;
    settings.check(app)?;
    let mappings = settings.mappings()?.unwrap_or_else(|| json!([]));
    app.transact(async |tx| {
        let key: SdkKey = diesel::insert_into(sdk_keys::table)
            .values((
                sdk_keys::environment_id.eq(access.env()),
                sdk_keys::id.eq(tx.id::<SdkKeyId>()),
                sdk_keys::name.eq(name),
                sdk_keys::kind.eq(material.kind()),
                sdk_keys::public_key.eq(material.public_key()),
                sdk_keys::jwks.eq(material.jwks()),
                sdk_keys::max_token_days.eq(settings.max_token_days.unwrap_or(DEFAULT_TOKEN_DAYS)),
                sdk_keys::allowed_issuers.eq(settings.allowed_issuers.as_deref().unwrap_or_default()),
                sdk_keys::allowed_audiences.eq(settings.allowed_audiences.as_deref().unwrap_or_default()),
                sdk_keys::user_id_claim.eq(settings.user_id_claim.as_ref().and_then(Option::as_deref)),
                sdk_keys::claim_mappings.eq(mappings),
                sdk_keys::created_at.eq(tx.now()),
                sdk_keys::updated_at.eq(tx.now()),
            ))
            .returning(SdkKey::as_select())
            .get_result(&mut tx.conn())
            .await
            .on_constraint("sdk_keys_environment_id_name_key", name_taken)?;
        audit::record_in(tx, access, "sdk-api-key.create", key.id, &settings.fields()).await?;
        Ok(key)
    })
    .await
}

fn name_taken() -> Error {
    Error::new(Code::AlreadyExists, "an SDK API key has this name").at("/name")
}

pub async fn update(
    app: &App,
    access: &Access,
    id: SdkKeyId,
    settings: Settings,
    expected: Option<i32>,
) -> Result<SdkKey> {
    access.require(Resource::SdkApiKey, Level::Edit)?;
    settings.check(app)?;
    let material = settings.material.as_ref();
    let mappings = settings.mappings()?;
    app.transact(async |tx| {
        let changed: Option<SdkKey> = diesel::update(sdk_keys::table.find((access.env(), id)))
            .set((
                settings.name.as_ref().map(|name| sdk_keys::name.eq(name)),
                material.map(|material| sdk_keys::kind.eq(material.kind())),
                material.map(|material| sdk_keys::public_key.eq(material.public_key())),
                material.map(|material| sdk_keys::jwks.eq(material.jwks())),
                settings.max_token_days.map(|days| sdk_keys::max_token_days.eq(days)),
                settings.allowed_issuers.as_ref().map(|issuers| sdk_keys::allowed_issuers.eq(issuers)),
                settings.allowed_audiences.as_ref().map(|audiences| sdk_keys::allowed_audiences.eq(audiences)),
                settings.user_id_claim.as_ref().map(|claim| sdk_keys::user_id_claim.eq(claim)),
                mappings.as_ref().map(|mappings| sdk_keys::claim_mappings.eq(mappings)),
                sdk_keys::updated_at.eq(tx.now()),
                sdk_keys::revision.eq(sdk_keys::revision + 1),
            ))
            .returning(SdkKey::as_select())
            .get_result(&mut tx.conn())
            .await
            .optional()
            .on_constraint("sdk_keys_environment_id_name_key", name_taken)?;
        let changed = changed.ok_or_else(|| Error::not_found("SDK API key"))?;
        super::expect_revision(changed.revision - 1, expected)?;
        audit::record_in(tx, access, "sdk-api-key.update", id, &settings.fields()).await?;
        Ok(changed)
    })
    .await
}

pub async fn delete(app: &App, access: &Access, id: SdkKeyId) -> Result<()> {
    access.require(Resource::SdkApiKey, Level::Admin)?;
    app.transact(async |tx| {
        let deleted = diesel::delete(sdk_keys::table.find((access.env(), id))).execute(&mut tx.conn()).await?;
        if deleted == 0 {
            return Err(Error::not_found("SDK API key"));
        }
        audit::record_in(tx, access, "sdk-api-key.delete", id, &[]).await
    })
    .await
}

pub async fn view(app: &App, access: &Access, id: SdkKeyId) -> Result<SdkKey> {
    access.require(Resource::SdkApiKey, Level::View)?;
    find(&*app.read().await?, access.env(), id).await?.ok_or_else(|| Error::not_found("SDK API key"))
}

pub async fn list(app: &App, access: &Access, page: PageRequest<SdkKeyId>) -> Result<Page<SdkKey>> {
    access.require(Resource::SdkApiKey, Level::View)?;
    let mut query = sdk_keys::table
        .filter(sdk_keys::environment_id.eq(access.env()))
        .order(sdk_keys::id)
        .limit(page.limit())
        .select(SdkKey::as_select())
        .into_boxed();
    if let Some(after) = page.after {
        query = query.filter(sdk_keys::id.gt(after));
    }
    let rows = query.load(&mut &*app.read().await?).await?;
    Ok(page.page(rows))
}

pub async fn find(conn: &AsyncPgConnection, env: EnvId, id: SdkKeyId) -> Result<Option<SdkKey>> {
    let key = sdk_keys::table.find((env, id)).select(SdkKey::as_select()).first(&mut &*conn).await.optional()?;
    Ok(key)
}

/// Those of the ids that are no keys of the environment.
pub async fn missing(conn: &AsyncPgConnection, env: EnvId, ids: &[SdkKeyId]) -> Result<Vec<SdkKeyId>> {
    let known: Vec<SdkKeyId> = sdk_keys::table
        .filter(sdk_keys::environment_id.eq(env).and(sdk_keys::id.eq_any(ids)))
        .select(sdk_keys::id)
        .load(&mut &*conn)
        .await?;
    Ok(ids.iter().copied().filter(|id| !known.contains(id)).collect())
}

/// The keys of this name. An SDK names no environment, so several environments may have one.
pub(super) async fn named(conn: &AsyncPgConnection, name: &str) -> Result<Vec<SdkKey>> {
    let keys = sdk_keys::table
        .inner_join(environments::table.on(environments::id.eq(sdk_keys::environment_id)))
        .filter(environments::archived_at.is_null())
        .filter(sdk_keys::name.eq(name))
        .order(sdk_keys::id)
        .select(SdkKey::as_select())
        .load(&mut &*conn)
        .await?;
    Ok(keys)
}
