//! Streams: curated collections of card templates (specification §5.1).

use std::collections::HashMap;

use diesel::prelude::*;
use diesel::sql_types::{Array, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::{container, in_use, name_taken};
use crate::access::{Access, Level, Resource, audit, expect_revision};
use crate::app::App;
use crate::clock::Time;
use crate::db::page::{Page, PageRequest};
use crate::db::schema::{stream_templates, streams};
use crate::db::{OnConstraint, Tx};
use crate::error::{Error, Result, Violations};
use crate::ids::{EnvId, StreamId, TemplateId};
use crate::text;

/// The name of the stream that shows every card.
pub const ALL_CARDS: &str = "All cards";

/// The most templates that one stream curates.
const MOST_TEMPLATES: usize = 1_000;

#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = streams)]
pub struct Stream {
    pub environment_id: EnvId,
    pub id: StreamId,
    pub name: String,
    /// All cards: shows every card of the customer, whatever is curated.
    pub built_in: bool,
    pub created_at: Time,
    pub updated_at: Time,
    pub revision: i32,
}

/// What a stream says; what is absent stays, or is empty in a new stream.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub name: Option<String>,
    pub template_ids: Option<Vec<TemplateId>>,
}

impl Settings {
    fn check(&self) -> Result<()> {
        let mut violations = Violations::new();
        if let Some(name) = &self.name {
            violations.check(text::object_name(name, "/name"));
        }
        if self.template_ids.as_ref().is_some_and(|ids| ids.len() > MOST_TEMPLATES) {
            violations.add("/templateIds", format!("a stream curates at most {MOST_TEMPLATES} templates"));
        }
        violations.finish()
    }

    fn fields(&self) -> Vec<&'static str> {
        let fields = [self.name.as_ref().map(|_| "name"), self.template_ids.as_ref().map(|_| "templateIds")];
        fields.into_iter().flatten().collect()
    }
}

pub async fn create(app: &App, access: &Access, settings: Settings) -> Result<Stream> {
    access.require(Resource::Stream, Level::Admin)?;
    let name = settings.name.as_deref().ok_or_else(|| Error::invalid("/name", "a name is required"))?;
    settings.check()?;
    app.transact(async |tx| {
        let stream = insert_in(tx, access.env(), name, Purpose::Curated).await?;
        if let Some(templates) = &settings.template_ids {
            curate_in(tx, &stream, templates).await?;
        }
        audit::record_in(tx, access, "stream.create", stream.id, &settings.fields()).await?;
        Ok(stream)
    })
    .await
}

/// Changes a stream. Curating it changes the open feeds of its containers at once.
pub async fn update(
    app: &App,
    access: &Access,
    id: StreamId,
    settings: Settings,
    expected: Option<i32>,
) -> Result<Stream> {
    access.require(Resource::Stream, Level::Edit)?;
    settings.check()?;
    app.transact(async |tx| {
        let changed: Option<Stream> = diesel::update(streams::table.find((access.env(), id)))
            .set((
                settings.name.as_ref().map(|name| streams::name.eq(name)),
                streams::updated_at.eq(tx.now()),
                streams::revision.eq(streams::revision + 1),
            ))
            .returning(Stream::as_select())
            .get_result(&mut tx.conn())
            .await
            .optional()
            .on_constraint("streams_environment_id_name_key", || name_taken("stream"))?;
        let changed = changed.ok_or_else(|| Error::not_found("stream"))?;
        refuse_built_in(&changed)?;
        expect_revision(changed.revision - 1, expected)?;
        if let Some(templates) = &settings.template_ids {
            diesel::delete(
                stream_templates::table
                    .filter(stream_templates::environment_id.eq(access.env()))
                    .filter(stream_templates::stream_id.eq(id)),
            )
            .execute(&mut tx.conn())
            .await?;
            curate_in(tx, &changed, templates).await?;
            container::announce_of_streams_in(tx, access.env(), &[id]).await?;
        }
        audit::record_in(tx, access, "stream.update", id, &settings.fields()).await?;
        Ok(changed)
    })
    .await
}

/// Deletes a stream that no container shows.
pub async fn delete(app: &App, access: &Access, id: StreamId) -> Result<()> {
    access.require(Resource::Stream, Level::Admin)?;
    app.transact(async |tx| {
        let deleted: Option<Stream> = diesel::delete(streams::table.find((access.env(), id)))
            .returning(Stream::as_select())
            .get_result(&mut tx.conn())
            .await
            .optional()
            .on_constraint("containers_stream_id_fkey", || in_use("stream", "container"))?;
        refuse_built_in(&deleted.ok_or_else(|| Error::not_found("stream"))?)?;
        audit::record_in(tx, access, "stream.delete", id, &[]).await
    })
    .await
}

pub async fn view(app: &App, access: &Access, id: StreamId) -> Result<Stream> {
    access.require(Resource::Stream, Level::View)?;
    find(&*app.read().await?, access.env(), id).await?.ok_or_else(|| Error::not_found("stream"))
}

/// Lists the streams of an environment, oldest first; with `name`, those whose name contains it.
pub async fn list(app: &App, access: &Access, name: Option<&str>, page: PageRequest<StreamId>) -> Result<Page<Stream>> {
    access.require(Resource::Stream, Level::View)?;
    let mut query = streams::table
        .filter(streams::environment_id.eq(access.env()))
        .order(streams::id)
        .limit(page.limit())
        .select(Stream::as_select())
        .into_boxed();
    if let Some(name) = name {
        query = query.filter(streams::name.ilike(text::containing(name)));
    }
    if let Some(after) = page.after {
        query = query.filter(streams::id.gt(after));
    }
    let rows = query.load(&mut &*app.read().await?).await?;
    Ok(page.page(rows))
}

/// The templates that a stream curates now, in the order of their ids.
pub async fn templates(app: &App, access: &Access, id: StreamId) -> Result<Vec<TemplateId>> {
    access.require(Resource::Stream, Level::View)?;
    let rows = stream_templates::table
        .filter(stream_templates::environment_id.eq(access.env()))
        .filter(stream_templates::stream_id.eq(id))
        .order(stream_templates::template_id)
        .select(stream_templates::template_id)
        .load(&mut &*app.read().await?)
        .await?;
    Ok(rows)
}

pub async fn find(conn: &AsyncPgConnection, env: EnvId, id: StreamId) -> Result<Option<Stream>> {
    Ok(streams::table.find((env, id)).select(Stream::as_select()).first(&mut &*conn).await.optional()?)
}

/// The streams that curate each template now. All cards is not among them; a template in none is left out.
pub async fn of_template(
    conn: &AsyncPgConnection,
    env: EnvId,
    templates: &[TemplateId],
) -> Result<HashMap<TemplateId, Vec<StreamId>>> {
    let rows: Vec<(TemplateId, StreamId)> = stream_templates::table
        .filter(stream_templates::environment_id.eq(env))
        .filter(stream_templates::template_id.eq_any(templates))
        .order((stream_templates::template_id, stream_templates::stream_id))
        .select((stream_templates::template_id, stream_templates::stream_id))
        .load(&mut &*conn)
        .await?;
    let mut streams: HashMap<TemplateId, Vec<StreamId>> = HashMap::new();
    for (template, stream) in rows {
        streams.entry(template).or_default().push(stream);
    }
    Ok(streams)
}

/// Those of the ids that are no streams of the environment.
pub async fn missing(conn: &AsyncPgConnection, env: EnvId, ids: &[StreamId]) -> Result<Vec<StreamId>> {
    let known: Vec<StreamId> = streams::table
        .filter(streams::environment_id.eq(env))
        .filter(streams::id.eq_any(ids))
        .select(streams::id)
        .load(&mut &*conn)
        .await?;
    Ok(ids.iter().copied().filter(|id| !known.contains(id)).collect())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Curated,
    AllCards,
}

pub(super) async fn create_all_cards_in(tx: &mut Tx, env: EnvId) -> Result<()> {
    insert_in(tx, env, ALL_CARDS, Purpose::AllCards).await.map(drop)
}

async fn insert_in(tx: &mut Tx, env: EnvId, name: &str, purpose: Purpose) -> Result<Stream> {
    diesel::insert_into(streams::table)
        .values((
            streams::environment_id.eq(env),
            streams::id.eq(tx.id::<StreamId>()),
            streams::name.eq(name),
            streams::built_in.eq(purpose == Purpose::AllCards),
            streams::created_at.eq(tx.now()),
            streams::updated_at.eq(tx.now()),
        ))
        .returning(Stream::as_select())
        .get_result(&mut tx.conn())
        .await
        .on_constraint("streams_environment_id_name_key", || name_taken("stream"))
}

/// Puts templates into a stream. Unknown ones are named.
async fn curate_in(tx: &mut Tx, stream: &Stream, templates: &[TemplateId]) -> Result<()> {
    // The foreign key keeps the templates there until the commit; the selection tells which are unknown.
    let query = "INSERT INTO stream_templates (environment_id, stream_id, template_id)
                 SELECT environment_id, $2, id FROM card_templates WHERE environment_id = $1 AND id = ANY($3)
                 RETURNING template_id";
    let curated: Vec<Curated> = diesel::sql_query(query)
        .bind::<SqlUuid, _>(stream.environment_id)
        .bind::<SqlUuid, _>(stream.id)
        .bind::<Array<SqlUuid>, _>(templates)
        .load(&mut tx.conn())
        .await?;
    match templates.iter().position(|id| !curated.iter().any(|row| row.template_id == *id)) {
        Some(index) => Err(Error::not_found("card template").at(format!("/templateIds/{index}"))),
        None => Ok(()),
    }
}

#[derive(QueryableByName)]
struct Curated {
    #[diesel(sql_type = SqlUuid)]
    template_id: TemplateId,
}

fn refuse_built_in(stream: &Stream) -> Result<()> {
    match stream.built_in {
        true => Err(Error::conflict(format!("the stream {ALL_CARDS} cannot be edited or deleted"))),
        false => Ok(()),
    }
}
