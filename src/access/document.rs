//! GraphQL documents that apps register before they send them: an environment may let its SDK keys run no others.
//!
//! Who holds a customer's token can then ask only what the app asks, and a short hash stands for a long text.

use std::collections::HashMap;
use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use parking_lot::Mutex;

use super::{Access, Level, Resource, audit};
use crate::app::App;
use crate::clock::Time;
use crate::db::page::Page;
use crate::db::schema::{environments, sdk_documents};
use crate::error::{Code, Error, Result, Violations};
use crate::ids::EnvId;
use crate::secret::token_hash;

/// Documents of one call, of one environment, and bytes of one document.
const MOST_AT_ONCE: usize = 100;
const MOST: i64 = 10_000;
const LONGEST: usize = 64 * 1024;
/// A restriction holds everywhere after this time.
const REMEMBERED: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = sdk_documents)]
pub struct Document {
    /// SHA-256 of the text in hex, as clients of persisted queries send it.
    pub hash: String,
    pub document: String,
    pub created_at: Time,
}

/// What the SDK keys of an environment may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restriction {
    Anything,
    Registered,
}

/// An operation as an app sends it: its text, or the hash of a text that was registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    Text(String),
    Hash(String),
}

/// Which environments are restricted, as last looked up.
#[derive(Default)]
pub struct Restrictions(Mutex<HashMap<EnvId, (Time, Restriction)>>);

/// The hash under which a text is registered.
pub fn hash_of(document: &str) -> String {
    hex::encode(token_hash(document))
}

/// Registers texts that were found to be GraphQL. A known one stays as it is.
pub async fn register(app: &App, access: &Access, documents: Vec<String>) -> Result<Vec<Document>> {
    access.require(Resource::SdkApiKey, Level::Edit)?;
    let mut violations = Violations::new();
    if !(1..=MOST_AT_ONCE).contains(&documents.len()) {
        violations.add("/documents", format!("give 1 to {MOST_AT_ONCE} documents"));
    }
    for (index, _) in documents.iter().enumerate().filter(|(_, document)| document.len() > LONGEST) {
        violations.add(format!("/documents/{index}"), format!("may have {LONGEST} bytes"));
    }
    violations.finish()?;
    let hashes: Vec<String> = documents.iter().map(|document| hash_of(document)).collect();
    app.transact(async |tx| {
        sql_query(
            "INSERT INTO sdk_documents (environment_id, hash, document, created_at)
             SELECT $1, hash, document, $2 FROM UNNEST($3::text[], $4::text[]) AS new (hash, document)
             WHERE (SELECT count(*) FROM sdk_documents WHERE environment_id = $1) < $5
             ON CONFLICT (environment_id, hash) DO NOTHING",
        )
        .bind::<SqlUuid, _>(access.env())
        .bind::<Timestamptz, _>(tx.now())
        .bind::<Array<Text>, _>(&hashes)
        .bind::<Array<Text>, _>(&documents)
        .bind::<BigInt, _>(MOST)
        .execute(&mut tx.conn())
        .await?;
        let registered: Vec<Document> = sdk_documents::table
            .filter(sdk_documents::environment_id.eq(access.env()).and(sdk_documents::hash.eq_any(&hashes)))
            .order(sdk_documents::hash)
            .select(Document::as_select())
            .load(&mut tx.conn())
            .await?;
        if !hashes.iter().all(|hash| registered.iter().any(|document| document.hash == *hash)) {
            return Err(Error::invalid("/documents", format!("an environment may have {MOST} documents")));
        }
        audit::record_in(tx, access, "sdk-document.register", access.env(), &["documents"]).await?;
        Ok(registered)
    })
    .await
}

pub async fn delete(app: &App, access: &Access, hash: &str) -> Result<()> {
    access.require(Resource::SdkApiKey, Level::Edit)?;
    app.transact(async |tx| {
        let deleted = diesel::delete(sdk_documents::table.find((access.env(), hash))).execute(&mut tx.conn()).await?;
        if deleted == 0 {
            return Err(Error::not_found("document"));
        }
        audit::record_in(tx, access, "sdk-document.delete", access.env(), &["documents"]).await
    })
    .await
}

/// Says what the SDK keys of the environment may run. It holds on every server within two seconds.
pub async fn restrict(app: &App, access: &Access, restriction: Restriction) -> Result<()> {
    access.require(Resource::SdkApiKey, Level::Admin)?;
    app.transact(async |tx| {
        diesel::update(environments::table.find(access.env()))
            .set(environments::registered_documents_only.eq(restriction == Restriction::Registered))
            .execute(&mut tx.conn())
            .await?;
        audit::record_in(tx, access, "sdk-document.restrict", access.env(), &["registeredOnly"]).await
    })
    .await
}

/// The registered documents in the order of their hashes, after one of them.
pub async fn list(app: &App, access: &Access, first: i64, after: Option<&str>) -> Result<Page<Document>> {
    access.require(Resource::SdkApiKey, Level::View)?;
    let mut rows: Vec<Document> = sdk_documents::table
        .filter(sdk_documents::environment_id.eq(access.env()).and(sdk_documents::hash.gt(after.unwrap_or_default())))
        .order(sdk_documents::hash)
        .limit(first + 1)
        .select(Document::as_select())
        .load(&mut &*app.read().await?)
        .await?;
    let size = usize::try_from(first).unwrap_or(usize::MAX);
    let more = rows.len() > size;
    rows.truncate(size);
    Ok(Page { rows, more })
}

async fn find(conn: &AsyncPgConnection, env: EnvId, hash: &str) -> Result<Option<String>> {
    let found = sdk_documents::table.find((env, hash)).select(sdk_documents::document).first(&mut &*conn).await;
    Ok(found.optional()?)
}

/// The text that an app of the environment may run.
///
/// An unknown hash is answered in the words that clients of persisted queries know: they send the text again.
pub async fn admit(app: &App, env: EnvId, asked: Asked) -> Result<String> {
    match asked {
        Asked::Hash(hash) => {
            let found = find(&*app.read().await?, env, &hash.to_ascii_lowercase()).await?;
            found.ok_or_else(|| Error::new(Code::NotFound, "PersistedQueryNotFound"))
        }
        Asked::Text(text) => match restriction(app, env).await? {
            Restriction::Anything => Ok(text),
            Restriction::Registered => match find(&*app.read().await?, env, &hash_of(&text)).await? {
                Some(_) => Ok(text),
                None => Err(Error::forbidden("this environment runs registered documents only")),
            },
        },
    }
}

async fn restriction(app: &App, env: EnvId) -> Result<Restriction> {
    let now = app.clock().now();
    let known = app.restrictions().0.lock().get(&env).copied();
    if let Some((seen_at, restriction)) = known
        && now.since(seen_at) < REMEMBERED
    {
        return Ok(restriction);
    }
    let only: bool = environments::table
        .find(env)
        .select(environments::registered_documents_only)
        .first(&mut &*app.read().await?)
        .await?;
    let restriction = if only { Restriction::Registered } else { Restriction::Anything };
    app.restrictions().0.lock().insert(env, (now, restriction));
    Ok(restriction)
}
