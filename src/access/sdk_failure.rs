//! The last requests of apps that failed, so that members can see why an SDK is refused (§3.5).

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;

use super::{Access, Level, Resource};
use crate::app::App;
use crate::clock::Time;
use crate::db::Prepared;
use crate::db::page::{Page, PageRequest};
use crate::db::schema::sdk_failures;
use crate::error::{Code, Result};
use crate::ids::{EnvId, SdkFailureId};

/// How many an environment keeps.
const KEPT: i64 = 100;
const LONGEST_NAME: usize = 128;
const MOST_CLAIMS: usize = 50;

/// One refusal.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = sdk_failures)]
pub struct SdkFailure {
    pub environment_id: EnvId,
    pub id: SdkFailureId,
    pub at: Time,
    /// The HTTP status that stands for the code.
    pub status: i32,
    pub code: String,
    /// The name of the GraphQL operation; none when the request failed before it was read.
    pub operation: Option<String>,
    pub key_name: String,
    /// Names of the claims in the token, which nobody has verified.
    pub claims: Vec<String>,
}

/// What is known of a refusal.
pub struct Refusal<'a> {
    pub code: Code,
    pub operation: Option<&'a str>,
    pub key_name: &'a str,
    pub claims: &'a [String],
}

/// Notes a refusal and forgets the oldest ones. It is a courtesy: a fault here fails nobody's request, and a flood
/// of refusals costs no more writes than the limit of the environment.
pub async fn note(app: &App, env: EnvId, refusal: Refusal<'_>) {
    if app.limits().sdk_failures.take(env, app.clock().now()).is_err() {
        return;
    }
    if let Err(error) = append(app, env, refusal).await {
        tracing::warn!(%error, "a failed SDK request could not be noted");
    }
}

async fn append(app: &App, env: EnvId, refusal: Refusal<'_>) -> Result<()> {
    let shortened = |text: &str| text.chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect::<String>();
    let claims: Vec<String> = refusal.claims.iter().take(MOST_CLAIMS).map(|name| shortened(name)).collect();
    let append = diesel::sql_query(
        "WITH old AS (
             DELETE FROM sdk_failures WHERE environment_id = $1 AND id <= (
                 SELECT id FROM sdk_failures WHERE environment_id = $1 ORDER BY id DESC OFFSET $2 LIMIT 1)
         )
         INSERT INTO sdk_failures (environment_id, id, at, status, code, operation, key_name, claims)
         VALUES ($1, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind::<SqlUuid, _>(env)
    .bind::<BigInt, _>(KEPT - 1)
    .bind::<SqlUuid, _>(app.ids().make::<SdkFailureId>(app.clock().now()))
    .bind::<Timestamptz, _>(app.clock().now())
    .bind::<Integer, _>(i32::from(refusal.code.status()))
    .bind::<Text, _>(refusal.code.word())
    .bind::<Nullable<Text>, _>(refusal.operation.map(shortened))
    .bind::<Text, _>(shortened(refusal.key_name))
    .bind::<Array<Text>, _>(claims);
    Prepared(append).execute(&mut &*app.read().await?).await?;
    Ok(())
}

/// Lists the refusals of an environment, newest first.
pub async fn list(app: &App, access: &Access, page: PageRequest<SdkFailureId>) -> Result<Page<SdkFailure>> {
    access.require(Resource::SdkRequestLog, Level::View)?;
    let mut query = sdk_failures::table
        .filter(sdk_failures::environment_id.eq(access.env()))
        .order(sdk_failures::id.desc())
        .limit(page.limit())
        .select(SdkFailure::as_select())
        .into_boxed();
    if let Some(after) = page.after {
        query = query.filter(sdk_failures::id.lt(after));
    }
    let rows = query.load(&mut &*app.read().await?).await?;
    Ok(page.page(rows))
}
