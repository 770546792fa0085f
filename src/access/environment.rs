//! Environments: isolated workspaces and their settings (§3.1).

use diesel::dsl::{AsSelect, Select};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::Uuid as SqlUuid;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use jiff::tz::TimeZone;

use super::standing::Standing;
use super::{Access, Level, Resource, Viewer, audit};
use crate::app::App;
use crate::clock::{self, Time};
use crate::db::page::{Page, PageRequest};
use crate::db::schema::{environments, group_roles};
use crate::db::{OnConstraint, Tx};
use crate::error::{Code, Error, Result, Violations};
use crate::ids::{EnvId, OrgId};
use crate::streams;
use crate::text;

#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = environments, check_for_backend(Pg))]
pub struct Environment {
    pub id: EnvId,
    pub organisation_id: OrgId,
    pub name: String,
    pub time_zone: String,
    /// Whether cards carry the start request's metadata to apps.
    pub expose_metadata_to_sdk: bool,
    pub webhook_signature_header: String,
    /// `hex` or `base64`.
    pub webhook_signature_encoding: String,
    pub archived_at: Option<Time>,
    pub created_at: Time,
    pub updated_at: Time,
    pub revision: i32,
}

impl Environment {
    /// The origin that SDKs connect to.
    pub fn api_host(&self, app: &App) -> String {
        app.origin().origin().ascii_serialization()
    }

    /// Where the environment's REST paths begin.
    pub fn base_url(&self, app: &App) -> String {
        format!("{}/v1/{}", self.api_host(app), self.id)
    }
}

/// Settings; what is absent stays, or takes its default in a new environment.
#[derive(Clone, Debug, Default, AsChangeset)]
#[diesel(table_name = environments)]
pub struct Settings {
    pub name: Option<String>,
    pub time_zone: Option<String>,
    pub expose_metadata_to_sdk: Option<bool>,
    pub webhook_signature_header: Option<String>,
    pub webhook_signature_encoding: Option<String>,
}

impl Settings {
    fn check(&self) -> Result<()> {
        let mut violations = Violations::new();
        if let Some(name) = &self.name {
            violations.check(text::object_name(name, "/name"));
        }
        if let Some(zone) = &self.time_zone {
            violations.check(clock::zone(zone).map_err(|error| error.at("/timeZone")));
        }
        if let Some(header) = &self.webhook_signature_header {
            violations.check(check_header(header));
        }
        if self.webhook_signature_encoding.as_deref().is_some_and(|encoding| !matches!(encoding, "hex" | "base64")) {
            violations.add("/webhookSignatureEncoding", "must be hex or base64");
        }
        violations.finish()
    }

    fn fields(&self) -> Vec<&'static str> {
        [
            self.name.as_ref().map(|_| "name"),
            self.time_zone.as_ref().map(|_| "timeZone"),
            self.expose_metadata_to_sdk.map(|_| "exposeMetadataToSdk"),
            self.webhook_signature_header.as_ref().map(|_| "webhookSignatureHeader"),
            self.webhook_signature_encoding.as_ref().map(|_| "webhookSignatureEncoding"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// Headers that the transport or another part of signing already uses.
const TAKEN_HEADERS: &[&str] = &[
    "host",
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "connection",
    "user-agent",
    "authorization",
    "cookie",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
];

fn check_header(name: &str) -> Result<()> {
    let lower = name.to_ascii_lowercase();
    let fits = (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !fits {
        return Err(Error::invalid("/webhookSignatureHeader", "must be 1 to 64 letters, digits and hyphens"));
    }
    if TAKEN_HEADERS.contains(&lower.as_str()) {
        return Err(Error::invalid("/webhookSignatureHeader", "is a header with a meaning of its own"));
    }
    Ok(())
}

/// The zone in which the environment's days begin.
pub async fn zone(conn: &AsyncPgConnection, env: EnvId) -> Result<TimeZone> {
    let name = environments::table.find(env).select(environments::time_zone);
    let name: Option<String> = name.first(&mut &*conn).await.optional()?;
    Ok(name.and_then(|name| clock::zone(&name).ok()).unwrap_or(TimeZone::UTC))
}

/// Finds an environment that is not archived.
pub async fn find(conn: &AsyncPgConnection, env: EnvId) -> Result<Option<Environment>> {
    let found = environments::table
        .find(env)
        .filter(environments::archived_at.is_null())
        .select(Environment::as_select())
        .first(&mut &*conn)
        .await
        .optional()?;
    Ok(found)
}

/// The environments of an organisation that are not archived.
pub(super) async fn living(conn: &AsyncPgConnection, org: OrgId) -> Result<Vec<EnvId>> {
    let ids = environments::table
        .filter(environments::organisation_id.eq(org))
        .filter(environments::archived_at.is_null())
        .select(environments::id)
        .load(&mut &*conn)
        .await?;
    Ok(ids)
}

/// One environment, for whoever may view its settings.
pub async fn view(app: &App, access: &Access) -> Result<Environment> {
    access.require(Resource::Environment, Level::View)?;
    find(&*app.read().await?, access.env()).await?.ok_or_else(|| Error::not_found("environment"))
}

/// Lists the environments that the viewer can see.
pub async fn list(app: &App, viewer: &Viewer, page: PageRequest<EnvId>) -> Result<Page<Environment>> {
    let visible: Vec<EnvId> = viewer.environments.keys().copied().collect();
    let mut query = visible_query(visible).limit(page.limit());
    if let Some(after) = page.after {
        query = query.filter(environments::id.gt(after));
    }
    let rows = query.load(&mut &*app.read().await?).await?;
    Ok(page.page(rows))
}

/// All environments that the viewer can see.
pub async fn list_all(app: &App, viewer: &Viewer) -> Result<Vec<Environment>> {
    let visible: Vec<EnvId> = viewer.environments.keys().copied().collect();
    Ok(visible_query(visible).load(&mut &*app.read().await?).await?)
}

type VisibleQuery = diesel::dsl::IntoBoxed<'static, Select<environments::table, AsSelect<Environment, Pg>>, Pg>;

fn visible_query(visible: Vec<EnvId>) -> VisibleQuery {
    environments::table
        .select(Environment::as_select())
        .into_boxed()
        .filter(environments::id.eq_any(visible))
        .filter(environments::archived_at.is_null())
        .order(environments::id)
}

/// Creates an environment with its built-in stream and theme.
pub async fn create(app: &App, access: &Access, settings: Settings) -> Result<Environment> {
    access.require(Resource::Environment, Level::Admin)?;
    settings.check()?;
    app.transact(async |tx| {
        let environment = create_in(tx, access.org(), &settings).await?;
        audit::record_in(tx, access, "environment.create", environment.id, &settings.fields()).await?;
        Ok(environment)
    })
    .await
}

pub(super) async fn create_in(tx: &mut Tx, org: OrgId, settings: &Settings) -> Result<Environment> {
    let id: EnvId = tx.id();
    let name = settings.name.as_deref().ok_or_else(|| Error::invalid("/name", "a name is required"))?;
    let created: Environment = diesel::insert_into(environments::table)
        .values((
            environments::id.eq(id),
            environments::organisation_id.eq(org),
            environments::name.eq(name),
            settings.time_zone.as_ref().map(|zone| environments::time_zone.eq(zone)),
            settings.expose_metadata_to_sdk.map(|expose| environments::expose_metadata_to_sdk.eq(expose)),
            settings.webhook_signature_header.as_ref().map(|header| environments::webhook_signature_header.eq(header)),
            settings
                .webhook_signature_encoding
                .as_ref()
                .map(|encoding| environments::webhook_signature_encoding.eq(encoding)),
            environments::created_at.eq(tx.now()),
            environments::updated_at.eq(tx.now()),
        ))
        .returning(Environment::as_select())
        .get_result(&mut tx.conn())
        .await
        .on_constraint("environments_organisation_id_name_key", name_taken)?;
    streams::create_built_ins_in(tx, id).await?;
    Ok(created)
}

fn name_taken() -> Error {
    Error::new(Code::AlreadyExists, "an environment has this name").at("/name")
}

pub async fn update(app: &App, access: &Access, settings: Settings, expected: Option<i32>) -> Result<Environment> {
    access.require(Resource::Environment, Level::Edit)?;
    settings.check()?;
    app.transact(async |tx| {
        let changed: Environment = diesel::update(environments::table.find(access.env()))
            .filter(environments::archived_at.is_null())
            .set((
                &settings,
                environments::updated_at.eq(tx.now()),
                environments::revision.eq(environments::revision + 1),
            ))
            .returning(Environment::as_select())
            .get_result(&mut tx.conn())
            .await
            .on_constraint("environments_organisation_id_name_key", name_taken)?;
        super::expect_revision(changed.revision - 1, expected)?;
        audit::record_in(tx, access, "environment.update", access.env(), &settings.fields()).await?;
        Ok(changed)
    })
    .await
}

/// Archives an environment: from now on everything in it is unknown to everybody.
pub async fn archive(app: &App, access: &Access) -> Result<Environment> {
    access.require(Resource::Environment, Level::Admin)?;
    app.transact(async |tx| {
        let archived: Option<Environment> = diesel::update(environments::table.find(access.env()))
            .filter(environments::archived_at.is_null())
            .set((
                environments::archived_at.eq(tx.now()),
                environments::updated_at.eq(tx.now()),
                environments::revision.eq(environments::revision + 1),
            ))
            .returning(Environment::as_select())
            .get_result(&mut tx.conn())
            .await
            .optional()?;
        let archived = archived.ok_or_else(|| Error::not_found("environment"))?;
        audit::record_in(tx, access, "environment.archive", access.env(), &[]).await?;
        Ok(archived)
    })
    .await
}

/// Deletes an archived environment and everything in it. Nobody can enter it any more, so `organisation` is access to
/// the organisation, and the caller's level in the environment is looked up.
pub async fn delete(app: &App, organisation: &Access, env: EnvId) -> Result<()> {
    let own = Standing::of_actor(&*app.read().await?, organisation).await?.in_environment(env);
    match own.level(Resource::Environment) {
        Some(Level::Admin) => {}
        Some(_) => return Err(Error::forbidden("this needs admin on environment")),
        None => return Err(Error::not_found("environment")),
    }
    app.transact(async |tx| {
        let archived: Option<Option<Time>> = environments::table
            .find(env)
            .filter(environments::organisation_id.eq(organisation.org()))
            .select(environments::archived_at)
            .for_update()
            .first(&mut tx.conn())
            .await
            .optional()?;
        match archived {
            None => return Err(Error::not_found("environment")),
            Some(None) => return Err(Error::conflict("archive the environment before deleting it")),
            Some(Some(_)) => {}
        }
        sql_query("SELECT delete_environment($1)").bind::<SqlUuid, _>(env).execute(&mut tx.conn()).await?;
        forget_assignments_in(tx, organisation.org(), env).await?;
        audit::record_in(tx, organisation, "environment.delete", env, &[]).await
    })
    .await
}

/// Takes a deleted environment out of the lists of role assignments. A list that becomes empty gives nothing.
async fn forget_assignments_in(tx: &mut Tx, org: OrgId, env: EnvId) -> Result<()> {
    use diesel::dsl::array_remove;
    diesel::update(group_roles::table)
        .filter(group_roles::organisation_id.eq(org))
        .filter(group_roles::environment_ids.contains(vec![env]))
        .set(group_roles::environment_ids.eq(array_remove(group_roles::environment_ids, env)))
        .execute(&mut tx.conn())
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_checked_as_a_whole() {
        let settings = Settings {
            name: Some(" ".into()),
            time_zone: Some("Mars/Olympus".into()),
            webhook_signature_header: Some("webhook-id".into()),
            webhook_signature_encoding: Some("rot13".into()),
            ..Settings::default()
        };
        let error = settings.check().unwrap_err();
        let pointers: Vec<_> = error.violations().iter().filter_map(|violation| violation.pointer.as_deref()).collect();
        assert_eq!(pointers, ["/name", "/timeZone", "/webhookSignatureHeader", "/webhookSignatureEncoding"]);
        assert!(check_header("X-Acme-Signature").is_ok() && check_header("x signature").is_err());
    }
}
