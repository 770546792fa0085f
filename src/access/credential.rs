//! API credentials: servers that call us, and the access tokens they work with (§3.4).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{Access, Actor, CredentialRole, Grants, Level, RequestInfo, Resource, Viewer, access_token, audit};
use crate::app::App;
use crate::clock::Time;
use crate::db::page::{Page, PageRequest};
use crate::db::schema::{api_credentials, environments};
use crate::error::{Code, Error, Result};
use crate::ids::{CredentialId, EnvId, Id, OrgId};
use crate::secret::{Secret, random_token, same, token_hash};

pub use access_token::LIFETIME as TOKEN_LIFETIME;

/// How exactly the last use of a credential is known.
const USE_NOTED_EVERY: Duration = Duration::from_secs(60);
const LONGEST_NAME: usize = 1024;

#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = api_credentials)]
pub struct Credential {
    pub environment_id: EnvId,
    /// The client id.
    pub id: CredentialId,
    pub name: String,
    role: String,
    pub last_used_at: Option<Time>,
    pub created_at: Time,
    pub updated_at: Time,
    pub revision: i32,
}

impl Credential {
    pub fn role(&self) -> Result<CredentialRole> {
        CredentialRole::parse(&self.role)
            .ok_or_else(|| Error::internal(format!("unknown credential role {}", self.role)))
    }
}

/// A new credential and its secret, which nobody will see again.
pub struct Created {
    pub credential: Credential,
    pub secret: Secret,
}

/// Makes a credential. Those of role `auth` are for members to make.
pub async fn create(app: &App, access: &Access, role: CredentialRole, name: &str) -> Result<Created> {
    access.require(Resource::ApiAuthenticationControl, Level::Admin)?;
    refuse_auth_to_credentials(access, role)?;
    check_name(name)?;
    let secret = random_token(app.ids());
    let credential = app
        .transact(async |tx| {
            let credential: Credential = diesel::insert_into(api_credentials::table)
                .values((
                    api_credentials::environment_id.eq(access.env()),
                    api_credentials::id.eq(tx.id::<CredentialId>()),
                    api_credentials::name.eq(name),
                    api_credentials::role.eq(role.word()),
                    api_credentials::secret_hash.eq(token_hash(secret.expose())),
                    api_credentials::created_at.eq(tx.now()),
                    api_credentials::updated_at.eq(tx.now()),
                ))
                .returning(Credential::as_select())
                .get_result(&mut tx.conn())
                .await?;
            audit::record_in(tx, access, "api-credential.create", credential.id, &["role", "name"]).await?;
            Ok(credential)
        })
        .await?;
    Ok(Created { credential, secret })
}

fn refuse_auth_to_credentials(access: &Access, role: CredentialRole) -> Result<()> {
    match (role, access.actor()) {
        (CredentialRole::Auth, Actor::Credential(_)) => {
            Err(Error::forbidden("credentials of role auth are made and deleted by members only"))
        }
        _ => Ok(()),
    }
}

fn check_name(name: &str) -> Result<()> {
    if name.chars().count() > LONGEST_NAME || name.contains('\0') {
        return Err(Error::invalid("/name", format!("must be text of at most {LONGEST_NAME} characters")));
    }
    Ok(())
}

/// Renames a credential.
pub async fn rename(
    app: &App,
    access: &Access,
    id: CredentialId,
    name: &str,
    expected: Option<i32>,
) -> Result<Credential> {
    access.require(Resource::ApiAuthenticationControl, Level::Edit)?;
    check_name(name)?;
    app.transact(async |tx| {
        let renamed: Option<Credential> = diesel::update(api_credentials::table.find((access.env(), id)))
            .set((
                api_credentials::name.eq(name),
                api_credentials::updated_at.eq(tx.now()),
                api_credentials::revision.eq(api_credentials::revision + 1),
            ))
            .returning(Credential::as_select())
            .get_result(&mut tx.conn())
            .await
            .optional()?;
        let renamed = renamed.ok_or_else(|| Error::not_found("API credential"))?;
        super::expect_revision(renamed.revision - 1, expected)?;
        audit::record_in(tx, access, "api-credential.update", id, &["name"]).await?;
        Ok(renamed)
    })
    .await
}

/// Deletes a credential. From the commit on every request with it or with its access tokens is refused.
pub async fn delete(app: &App, access: &Access, id: CredentialId) -> Result<()> {
    access.require(Resource::ApiAuthenticationControl, Level::Admin)?;
    app.transact(async |tx| {
        let deleted: Option<Credential> = diesel::delete(api_credentials::table.find((access.env(), id)))
            .returning(Credential::as_select())
            .get_result(&mut tx.conn())
            .await
            .optional()?;
        let deleted = deleted.ok_or_else(|| Error::not_found("API credential"))?;
        refuse_auth_to_credentials(access, deleted.role()?)?;
        audit::record_in(tx, access, "api-credential.delete", id, &[]).await
    })
    .await
}

pub async fn view(app: &App, access: &Access, id: CredentialId) -> Result<Credential> {
    access.require(Resource::ApiAuthenticationControl, Level::View)?;
    api_credentials::table
        .find((access.env(), id))
        .select(Credential::as_select())
        .first(&mut &*app.read().await?)
        .await
        .optional()?
        .ok_or_else(|| Error::not_found("API credential"))
}

pub async fn list(app: &App, access: &Access, page: PageRequest<CredentialId>) -> Result<Page<Credential>> {
    access.require(Resource::ApiAuthenticationControl, Level::View)?;
    let mut query = api_credentials::table
        .filter(api_credentials::environment_id.eq(access.env()))
        .order(api_credentials::id)
        .limit(page.limit())
        .select(Credential::as_select())
        .into_boxed();
    if let Some(after) = page.after {
        query = query.filter(api_credentials::id.gt(after));
    }
    let rows = query.load(&mut &*app.read().await?).await?;
    Ok(page.page(rows))
}

/// All credentials of the environment.
pub async fn list_all(app: &App, access: &Access) -> Result<Vec<Credential>> {
    access.require(Resource::ApiAuthenticationControl, Level::View)?;
    let rows = api_credentials::table
        .filter(api_credentials::environment_id.eq(access.env()))
        .order(api_credentials::id)
        .select(Credential::as_select())
        .load(&mut &*app.read().await?)
        .await?;
    Ok(rows)
}

/// Gives an access token for a client id and secret: the grant `client_credentials` of RFC 6749.
pub async fn access_token(app: &App, client_id: &str, client_secret: &str) -> Result<Secret> {
    let wrong = || Error::new(Code::Unauthenticated, "the client id or secret is wrong");
    let id = CredentialId::parse(client_id).map_err(|_| wrong())?;
    app.limits().token.take(id, app.clock().now())?;
    let found: Option<(EnvId, Vec<u8>)> = api_credentials::table
        .inner_join(environments::table.on(environments::id.eq(api_credentials::environment_id)))
        .filter(environments::archived_at.is_null())
        .filter(api_credentials::id.eq(id))
        .select((api_credentials::environment_id, api_credentials::secret_hash))
        .first(&mut &*app.read().await?)
        .await
        .optional()?;
    match found {
        Some((env, hash)) if same(&hash, &token_hash(client_secret)) => {
            access_token::issue(app, id, env, app.clock().now()).map(Secret::new)
        }
        _ => Err(wrong()),
    }
}

/// Who an access token speaks for, looked up among the living credentials at each request.
pub(super) async fn viewer(app: &App, token: &str, info: RequestInfo) -> Result<Viewer> {
    let now = app.clock().now();
    let claims = access_token::read(app, token, now)?;
    let conn = app.read().await?;
    let found: Option<(String, Option<Time>, OrgId)> = api_credentials::table
        .inner_join(environments::table.on(environments::id.eq(api_credentials::environment_id)))
        .filter(environments::archived_at.is_null())
        .filter(api_credentials::environment_id.eq(claims.env).and(api_credentials::id.eq(claims.credential)))
        .select((api_credentials::role, api_credentials::last_used_at, environments::organisation_id))
        .first(&mut &*conn)
        .await
        .optional()?;
    let (role, last_used_at, org) =
        found.ok_or_else(|| Error::new(Code::Unauthenticated, "the API credential no longer exists"))?;
    if last_used_at.is_none_or(|used| now.since(used) >= USE_NOTED_EVERY) {
        diesel::update(api_credentials::table.find((claims.env, claims.credential)))
            .set(api_credentials::last_used_at.eq(now))
            .execute(&mut &*conn)
            .await?;
    }
    let role =
        CredentialRole::parse(&role).ok_or_else(|| Error::internal(format!("unknown credential role {role}")))?;
    Ok(Viewer {
        org,
        actor: Actor::Credential(claims.credential),
        role: Some(role),
        session: None,
        expires_at: Some(claims.expires_at()),
        info,
        organisation_grants: Arc::new(Grants::new()),
        environments: BTreeMap::from([(claims.env, Arc::new(role.grants()))]),
    })
}
