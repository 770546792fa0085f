//! Stream containers: the slots in apps, each of which shows one stream (specification §5.2).

use diesel::prelude::*;
use diesel::sql_types::{Array, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::{name_taken, theme};
use crate::access::{Access, Level, Resource, audit, expect_revision};
use crate::app::App;
use crate::clock::Time;
use crate::db::page::{Page, PageRequest};
use crate::db::schema::{container_keys, containers, stream_templates};
use crate::db::{Tx, violated};
use crate::error::{Error, Result, Violations};
use crate::ids::{ContainerId, EnvId, SdkKeyId, StreamId, TemplateId, ThemeId};
use crate::realtime::Announcement;
use crate::text;

/// The most cards that a container may be allowed to show.
const MOST_CARDS: i32 = 500;
const DEFAULT_CARDS: i32 = 50;

#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = containers)]
pub struct Container {
    pub environment_id: EnvId,
    pub id: ContainerId,
    pub name: String,
    pub card_limit: i32,
    pub stream_id: StreamId,
    pub theme_id: ThemeId,
    pub dark_theme_id: Option<ThemeId>,
    pub created_at: Time,
    pub updated_at: Time,
    pub revision: i32,
}

/// What a container says; what is absent stays, or takes its default in a new container.
#[derive(Clone, Debug, Default, AsChangeset)]
#[diesel(table_name = containers)]
pub struct Settings {
    pub name: Option<String>,
    pub card_limit: Option<i32>,
    pub stream_id: Option<StreamId>,
    pub theme_id: Option<ThemeId>,
    /// `Some(None)` removes the dark theme.
    pub dark_theme_id: Option<Option<ThemeId>>,
}

impl Settings {
    fn check(&self) -> Result<()> {
        let mut violations = Violations::new();
        if let Some(name) = &self.name {
            violations.check(text::object_name(name, "/name"));
        }
        if self.card_limit.is_some_and(|limit| !(1..=MOST_CARDS).contains(&limit)) {
            violations.add("/cardLimit", format!("must be between 1 and {MOST_CARDS}"));
        }
        violations.finish()
    }

    fn fields(&self) -> Vec<&'static str> {
        [
            self.name.as_ref().map(|_| "name"),
            self.card_limit.map(|_| "cardLimit"),
            self.stream_id.map(|_| "streamId"),
            self.theme_id.map(|_| "themeId"),
            self.dark_theme_id.map(|_| "darkThemeId"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// Which containers to list.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Part of the name.
    pub name: Option<String>,
    pub stream: Option<StreamId>,
}

/// Creates a container that the given SDK keys may show.
pub async fn create(app: &App, access: &Access, settings: Settings, keys: &[SdkKeyId]) -> Result<Container> {
    access.require(Resource::StreamContainer, Level::Admin)?;
    let name = settings.name.as_deref().ok_or_else(|| Error::invalid("/name", "a name is required"))?;
    let stream = settings.stream_id.ok_or_else(|| Error::invalid("/streamId", "a stream is required"))?;
    settings.check()?;
    app.transact(async |tx| {
        let theme = match settings.theme_id {
            Some(theme) => theme,
            None => theme::find_default(tx.conn(), access.env()).await?,
        };
        let container: Container = diesel::insert_into(containers::table)
            .values((
                containers::environment_id.eq(access.env()),
                containers::id.eq(tx.id::<ContainerId>()),
                containers::name.eq(name),
                containers::card_limit.eq(settings.card_limit.unwrap_or(DEFAULT_CARDS)),
                containers::stream_id.eq(stream),
                containers::theme_id.eq(theme),
                containers::dark_theme_id.eq(settings.dark_theme_id.flatten()),
                containers::created_at.eq(tx.now()),
                containers::updated_at.eq(tx.now()),
            ))
            .returning(Container::as_select())
            .get_result(&mut tx.conn())
            .await
            .map_err(explain)?;
        grant_in(tx, &container, keys).await?;
        let mut fields = settings.fields();
        fields.extend((!keys.is_empty()).then_some("apiKeyIds"));
        audit::record_in(tx, access, "stream-container.create", container.id, &fields).await?;
        Ok(container)
    })
    .await
}

/// Changes a container; open feeds look again.
pub async fn update(
    app: &App,
    access: &Access,
    id: ContainerId,
    settings: Settings,
    expected: Option<i32>,
) -> Result<Container> {
    access.require(Resource::StreamContainer, Level::Edit)?;
    settings.check()?;
    app.transact(async |tx| {
        let changed: Option<Container> = diesel::update(containers::table.find((access.env(), id)))
            .set((&settings, containers::updated_at.eq(tx.now()), containers::revision.eq(containers::revision + 1)))
            .returning(Container::as_select())
            .get_result(&mut tx.conn())
            .await
            .optional()
            .map_err(explain)?;
        let changed = changed.ok_or_else(|| Error::not_found("stream container"))?;
        expect_revision(changed.revision - 1, expected)?;
        tx.announce(Announcement::Container { env: access.env(), container: id });
        audit::record_in(tx, access, "stream-container.update", id, &settings.fields()).await?;
        Ok(changed)
    })
    .await
}

/// Says which SDK keys may show a container, in place of those that could before.
pub async fn set_keys(
    app: &App,
    access: &Access,
    id: ContainerId,
    keys: &[SdkKeyId],
    expected: Option<i32>,
) -> Result<Container> {
    access.require(Resource::StreamContainer, Level::Admin)?;
    app.transact(async |tx| {
        let changed: Option<Container> = diesel::update(containers::table.find((access.env(), id)))
            .set((containers::updated_at.eq(tx.now()), containers::revision.eq(containers::revision + 1)))
            .returning(Container::as_select())
            .get_result(&mut tx.conn())
            .await
            .optional()?;
        let changed = changed.ok_or_else(|| Error::not_found("stream container"))?;
        expect_revision(changed.revision - 1, expected)?;
        diesel::delete(
            container_keys::table
                .filter(container_keys::environment_id.eq(access.env()))
                .filter(container_keys::container_id.eq(id)),
        )
        .execute(&mut tx.conn())
        .await?;
        grant_in(tx, &changed, keys).await?;
        tx.announce(Announcement::Container { env: access.env(), container: id });
        audit::record_in(tx, access, "stream-container.set-keys", id, &["apiKeyIds"]).await?;
        Ok(changed)
    })
    .await
}

pub async fn delete(app: &App, access: &Access, id: ContainerId) -> Result<()> {
    access.require(Resource::StreamContainer, Level::Admin)?;
    app.transact(async |tx| {
        let deleted = diesel::delete(containers::table.find((access.env(), id))).execute(&mut tx.conn()).await?;
        if deleted == 0 {
            return Err(Error::not_found("stream container"));
        }
        tx.announce(Announcement::Container { env: access.env(), container: id });
        audit::record_in(tx, access, "stream-container.delete", id, &[]).await
    })
    .await
}

pub async fn view(app: &App, access: &Access, id: ContainerId) -> Result<Container> {
    access.require(Resource::StreamContainer, Level::View)?;
    find(&*app.read().await?, access.env(), id).await?.ok_or_else(|| Error::not_found("stream container"))
}

/// Lists the containers of an environment, oldest first.
pub async fn list(
    app: &App,
    access: &Access,
    selection: &Selection,
    page: PageRequest<ContainerId>,
) -> Result<Page<Container>> {
    access.require(Resource::StreamContainer, Level::View)?;
    let mut query = containers::table
        .filter(containers::environment_id.eq(access.env()))
        .order(containers::id)
        .limit(page.limit())
        .select(Container::as_select())
        .into_boxed();
    if let Some(name) = &selection.name {
        query = query.filter(containers::name.ilike(text::containing(name)));
    }
    if let Some(stream) = selection.stream {
        query = query.filter(containers::stream_id.eq(stream));
    }
    if let Some(after) = page.after {
        query = query.filter(containers::id.gt(after));
    }
    let rows = query.load(&mut &*app.read().await?).await?;
    Ok(page.page(rows))
}

/// The SDK keys that may show a container, in the order of their ids.
pub async fn keys(app: &App, access: &Access, id: ContainerId) -> Result<Vec<SdkKeyId>> {
    access.require(Resource::StreamContainer, Level::View)?;
    let rows = container_keys::table
        .filter(container_keys::environment_id.eq(access.env()))
        .filter(container_keys::container_id.eq(id))
        .order(container_keys::sdk_key_id)
        .select(container_keys::sdk_key_id)
        .load(&mut &*app.read().await?)
        .await?;
    Ok(rows)
}

pub async fn find(conn: &AsyncPgConnection, env: EnvId, id: ContainerId) -> Result<Option<Container>> {
    Ok(containers::table.find((env, id)).select(Container::as_select()).first(&mut &*conn).await.optional()?)
}

/// Those of the ids that are no containers of the environment.
pub async fn missing(conn: &AsyncPgConnection, env: EnvId, ids: &[ContainerId]) -> Result<Vec<ContainerId>> {
    let known: Vec<ContainerId> = containers::table
        .filter(containers::environment_id.eq(env).and(containers::id.eq_any(ids)))
        .select(containers::id)
        .load(&mut &*conn)
        .await?;
    Ok(ids.iter().copied().filter(|id| !known.contains(id)).collect())
}

/// Whether an SDK key may show a container.
pub async fn granted(conn: &AsyncPgConnection, env: EnvId, container: ContainerId, key: SdkKeyId) -> Result<bool> {
    let grant = container_keys::table.find((env, container, key));
    Ok(diesel::select(diesel::dsl::exists(grant)).get_result(&mut &*conn).await?)
}

/// The containers that an SDK key may show, in the order of their ids.
pub async fn granted_to(conn: &AsyncPgConnection, env: EnvId, key: SdkKeyId) -> Result<Vec<Container>> {
    let granted = container_keys::table
        .filter(container_keys::environment_id.eq(env))
        .filter(container_keys::sdk_key_id.eq(key))
        .select(container_keys::container_id);
    let rows = containers::table
        .filter(containers::environment_id.eq(env))
        .filter(containers::id.eq_any(granted))
        .order(containers::id)
        .select(Container::as_select())
        .load(&mut &*conn)
        .await?;
    Ok(rows)
}

/// Lets the feeds of containers that show these streams look again.
pub(super) async fn announce_of_streams_in(tx: &mut Tx, env: EnvId, streams: &[StreamId]) -> Result<()> {
    let shown: Vec<ContainerId> = containers::table
        .filter(containers::environment_id.eq(env))
        .filter(containers::stream_id.eq_any(streams))
        .select(containers::id)
        .load(&mut tx.conn())
        .await?;
    for container in shown {
        tx.announce(Announcement::Container { env, container });
    }
    Ok(())
}

/// Lets the feeds of containers look again whose streams curate a template that is about to go.
pub(crate) async fn announce_of_template_in(tx: &mut Tx, env: EnvId, template: TemplateId) -> Result<()> {
    let streams: Vec<StreamId> = stream_templates::table
        .filter(stream_templates::environment_id.eq(env))
        .filter(stream_templates::template_id.eq(template))
        .select(stream_templates::stream_id)
        .load(&mut tx.conn())
        .await?;
    announce_of_streams_in(tx, env, &streams).await
}

/// Grants a container to keys. Unknown ones are named.
async fn grant_in(tx: &mut Tx, container: &Container, keys: &[SdkKeyId]) -> Result<()> {
    // The foreign key keeps the keys there until the commit; the selection tells which are unknown.
    let query = "INSERT INTO container_keys (environment_id, container_id, sdk_key_id)
                 SELECT environment_id, $2, id FROM sdk_keys WHERE environment_id = $1 AND id = ANY($3)
                 RETURNING sdk_key_id";
    let granted: Vec<Granted> = diesel::sql_query(query)
        .bind::<SqlUuid, _>(container.environment_id)
        .bind::<SqlUuid, _>(container.id)
        .bind::<Array<SqlUuid>, _>(keys)
        .load(&mut tx.conn())
        .await?;
    match keys.iter().position(|id| !granted.iter().any(|row| row.sdk_key_id == *id)) {
        Some(index) => Err(Error::not_found("SDK API key").at(format!("/apiKeyIds/{index}"))),
        None => Ok(()),
    }
}

#[derive(QueryableByName)]
struct Granted {
    #[diesel(sql_type = SqlUuid)]
    sdk_key_id: SdkKeyId,
}

fn explain(error: diesel::result::Error) -> Error {
    match violated(&error) {
        Some("containers_environment_id_name_key") => name_taken("stream container"),
        Some("containers_stream_id_fkey") => Error::not_found("stream").at("/streamId"),
        Some("containers_theme_id_fkey") => Error::not_found("theme").at("/themeId"),
        Some("containers_dark_theme_id_fkey") => Error::not_found("theme").at("/darkThemeId"),
        _ => error.into(),
    }
}
