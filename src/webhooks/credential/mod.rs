//! Credentials that our requests carry to other systems (specification 11.7).
//!
//! [`kind`] says what a credential consists of and whether that may be so, [`carry`] puts it into a request, and
//! [`token`] fetches and remembers OAuth access tokens. Secrets are sealed, and nobody gets them back.

pub mod carry;
pub mod kind;
pub(crate) mod token;

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde::Deserialize;
use serde_json::Value;

use self::kind::{Given, Secrets, Settings};
use crate::access::{Access, Level, Resource, audit, expect_revision};
use crate::app::App;
use crate::clock::Time;
use crate::db::page::{Page, PageRequest};
use crate::db::schema::outgoing_credentials;
use crate::db::{OnConstraint, Tx};
use crate::error::{Code, Error, Result};
use crate::ids::{EnvId, Id, OutgoingCredentialId};
use crate::secret::Secret;
use crate::text;

/// What the secrets of credentials are sealed for.
const SEAL: &str = "outgoing credential";

/// A credential as it is stored.
#[derive(Clone, Queryable, Selectable)]
#[diesel(table_name = outgoing_credentials)]
pub struct Credential {
    pub environment_id: EnvId,
    pub id: OutgoingCredentialId,
    pub name: String,
    settings: Value,
    /// Sealed.
    secrets: Vec<u8>,
    pub created_at: Time,
    pub updated_at: Time,
    pub revision: i32,
}

impl Credential {
    /// All of it that is not secret.
    pub fn settings(&self) -> Result<Settings> {
        Ok(Settings::deserialize(&self.settings)?)
    }

    fn secrets(&self, app: &App) -> Result<Secrets> {
        Ok(serde_json::from_str(app.vault().open(SEAL, &self.secrets)?.expose())?)
    }
}

pub async fn create(app: &App, access: &Access, name: &str, given: Given) -> Result<Credential> {
    access.require(Resource::WebhookCredential, Level::Admin)?;
    text::object_name(name, "/name")?;
    let (settings, secrets) = given.complete(app.outbound().rules())?;
    app.transact(async |tx| {
        let credential: Credential = diesel::insert_into(outgoing_credentials::table)
            .values((
                outgoing_credentials::environment_id.eq(access.env()),
                outgoing_credentials::id.eq(tx.id::<OutgoingCredentialId>()),
                outgoing_credentials::name.eq(name),
                outgoing_credentials::settings.eq(serde_json::to_value(&settings)?),
                outgoing_credentials::secrets.eq(seal(app, tx, &secrets)?),
                outgoing_credentials::created_at.eq(tx.now()),
                outgoing_credentials::updated_at.eq(tx.now()),
            ))
            .returning(Credential::as_select())
            .get_result(&mut tx.conn())
            .await
            .on_constraint("outgoing_credentials_environment_id_name_key", name_taken)?;
        audit::record_in(tx, access, "webhook-credential.create", credential.id, &["name", "type"]).await?;
        Ok(credential)
    })
    .await
}

/// Changes what is given; a secret that is not given stays. The type cannot change.
pub async fn update(
    app: &App,
    access: &Access,
    id: OutgoingCredentialId,
    name: Option<&str>,
    given: Given,
    expected: Option<i32>,
) -> Result<Credential> {
    access.require(Resource::WebhookCredential, Level::Edit)?;
    if let Some(name) = name {
        text::object_name(name, "/name")?;
    }
    app.transact(async |tx| {
        let env = access.env();
        let query = outgoing_credentials::table.find((env, id)).select(Credential::as_select()).for_update();
        let found: Option<Credential> = query.first(&mut tx.conn()).await.optional()?;
        let found = found.ok_or_else(|| Error::not_found(OutgoingCredentialId::NOUN))?;
        expect_revision(found.revision, expected)?;
        let (settings, secrets) =
            given.over(found.settings()?, found.secrets(app)?).complete(app.outbound().rules())?;
        let changed: Credential = diesel::update(outgoing_credentials::table.find((env, id)))
            .set((
                name.map(|name| outgoing_credentials::name.eq(name)),
                outgoing_credentials::settings.eq(serde_json::to_value(&settings)?),
                outgoing_credentials::secrets.eq(seal(app, tx, &secrets)?),
                outgoing_credentials::updated_at.eq(tx.now()),
                outgoing_credentials::revision.eq(outgoing_credentials::revision + 1),
            ))
            .returning(Credential::as_select())
            .get_result(&mut tx.conn())
            .await
            .on_constraint("outgoing_credentials_environment_id_name_key", name_taken)?;
        super::stream::revise_users_in(tx, env, id).await?;
        audit::record_in(tx, access, "webhook-credential.update", id, &["settings"]).await?;
        Ok(changed)
    })
    .await
}

pub async fn delete(app: &App, access: &Access, id: OutgoingCredentialId) -> Result<()> {
    access.require(Resource::WebhookCredential, Level::Admin)?;
    app.transact(async |tx| {
        let deleted = diesel::delete(outgoing_credentials::table.find((access.env(), id)))
            .execute(&mut tx.conn())
            .await
            .on_constraint("webhook_subscriptions_credential_id_fkey", || {
                Error::new(Code::InUse, "a webhook subscription uses the credential")
            })?;
        if deleted == 0 {
            return Err(Error::not_found(OutgoingCredentialId::NOUN));
        }
        audit::record_in(tx, access, "webhook-credential.delete", id, &[]).await
    })
    .await
}

pub async fn view(app: &App, access: &Access, id: OutgoingCredentialId) -> Result<Credential> {
    access.require(Resource::WebhookCredential, Level::View)?;
    let found = find(&*app.read().await?, access.env(), id).await?;
    found.ok_or_else(|| Error::not_found(OutgoingCredentialId::NOUN))
}

pub async fn list(app: &App, access: &Access, page: PageRequest<OutgoingCredentialId>) -> Result<Page<Credential>> {
    access.require(Resource::WebhookCredential, Level::View)?;
    let mut query = outgoing_credentials::table
        .filter(outgoing_credentials::environment_id.eq(access.env()))
        .order(outgoing_credentials::id)
        .limit(page.limit())
        .select(Credential::as_select())
        .into_boxed();
    if let Some(after) = page.after {
        query = query.filter(outgoing_credentials::id.gt(after));
    }
    let rows = query.load(&mut &*app.read().await?).await?;
    Ok(page.page(rows))
}

/// A credential opened for use; none where it was deleted.
pub async fn carried(app: &App, env: EnvId, id: OutgoingCredentialId) -> Result<Option<carry::Carried>> {
    let found = find(&*app.read().await?, env, id).await?;
    found.map(|found| carry::Carried::open(app, &found)).transpose()
}

pub(super) async fn find(conn: &AsyncPgConnection, env: EnvId, id: OutgoingCredentialId) -> Result<Option<Credential>> {
    let found = outgoing_credentials::table.find((env, id)).select(Credential::as_select());
    Ok(found.first(&mut &*conn).await.optional()?)
}

/// Credentials of several environments, in no order.
pub(super) async fn find_many(
    conn: &AsyncPgConnection,
    wanted: Vec<(EnvId, OutgoingCredentialId)>,
) -> Result<Vec<Credential>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let (envs, ids): (Vec<EnvId>, Vec<OutgoingCredentialId>) = wanted.into_iter().unzip();
    let found = outgoing_credentials::table
        .filter(outgoing_credentials::environment_id.eq_any(envs).and(outgoing_credentials::id.eq_any(ids)))
        .select(Credential::as_select());
    Ok(found.load(&mut &*conn).await?)
}

fn seal(app: &App, tx: &Tx, secrets: &Secrets) -> Result<Vec<u8>> {
    app.vault().seal(tx.ids(), SEAL, &Secret::new(serde_json::to_string(secrets)?))
}

fn name_taken() -> Error {
    Error::new(Code::AlreadyExists, "an outgoing credential has this name").at("/name")
}
