//! Closes connections whose credentials hold no more, on whichever node they are.
//!
//! Why by looking and not by being told: a message to another node may be lost, and a key ends in many ways (deleted,
//! changed, its environment archived). There are few keys and sessions behind many connections, so looking is cheap.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Bool;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::app::App;
use crate::clock::Time;
use crate::db::schema::{api_credentials, environments, member_sessions, members, organisations, sdk_keys};
use crate::error::Result;
use crate::ids::{CredentialId, EnvId, SdkKeyId};
use crate::realtime::Pass;
use crate::worker::{Progress, Worker};

/// A revocation is noticed within this time on every node.
const PERIOD: Duration = Duration::from_secs(2);

/// Looks after what let the open connections of this process in.
pub struct Revoker;

impl Worker for Revoker {
    const NAME: &'static str = "connection revoker";

    async fn run(&self, app: &App) -> Result<Progress> {
        let now = app.clock().now();
        let held = app.hub().sockets().passes();
        if !held.is_empty() {
            let good = good(&*app.read().await?, &held, now).await?;
            let ended: HashSet<Pass> = held.difference(&good).cloned().collect();
            if !ended.is_empty() {
                tracing::info!(passes = ended.len(), "connections are closed because their credentials ended");
                app.hub().sockets().revoke(&ended);
            }
        }
        Ok(Progress::NextAt(now.plus(PERIOD)))
    }
}

/// Those that still let in.
async fn good(conn: &AsyncPgConnection, held: &HashSet<Pass>, now: Time) -> Result<HashSet<Pass>> {
    let (mut keys, mut sessions, mut credentials) = (Vec::new(), Vec::new(), Vec::new());
    for pass in held {
        match pass {
            Pass::None => {}
            Pass::Key { key, .. } => keys.push(*key),
            Pass::Session(hash) => sessions.push(hash.to_vec()),
            Pass::Credential { credential, .. } => credentials.push(*credential),
        }
    }
    let (keys, sessions, credentials) = tokio::try_join!(
        living_keys(conn, keys),
        living_sessions(conn, sessions, now),
        living_credentials(conn, credentials)
    )?;
    Ok(keys.into_iter().chain(sessions).chain(credentials).collect())
}

async fn living_keys(conn: &AsyncPgConnection, keys: Vec<SdkKeyId>) -> Result<Vec<Pass>> {
    let living: Vec<(EnvId, SdkKeyId, i32)> = sdk_keys::table
        .inner_join(environments::table.on(environments::id.eq(sdk_keys::environment_id)))
        .filter(environments::archived_at.is_null().and(sdk_keys::id.eq_any(keys)))
        .select((sdk_keys::environment_id, sdk_keys::id, sdk_keys::revision))
        .load(&mut &*conn)
        .await?;
    Ok(living.into_iter().map(|(env, key, revision)| Pass::Key { env, key, revision }).collect())
}

async fn living_sessions(conn: &AsyncPgConnection, hashes: Vec<Vec<u8>>, now: Time) -> Result<Vec<Pass>> {
    let active =
        sql::<Bool>("member_sessions.last_used_at + organisations.inactivity_minutes * interval '1 minute' > ")
            .bind::<diesel::sql_types::Timestamptz, _>(now);
    let living: Vec<Vec<u8>> = member_sessions::table
        .inner_join(members::table.on(members::id.eq(member_sessions::member_id)))
        .inner_join(organisations::table.on(organisations::id.eq(members::organisation_id)))
        .filter(member_sessions::token_hash.eq_any(hashes))
        .filter(active)
        .select(member_sessions::token_hash)
        .load(&mut &*conn)
        .await?;
    Ok(living.into_iter().map(|hash| Pass::Session(Arc::from(hash))).collect())
}

async fn living_credentials(conn: &AsyncPgConnection, credentials: Vec<CredentialId>) -> Result<Vec<Pass>> {
    let living: Vec<(EnvId, CredentialId)> = api_credentials::table
        .inner_join(environments::table.on(environments::id.eq(api_credentials::environment_id)))
        .filter(environments::archived_at.is_null().and(api_credentials::id.eq_any(credentials)))
        .select((api_credentials::environment_id, api_credentials::id))
        .load(&mut &*conn)
        .await?;
    Ok(living.into_iter().map(|(env, credential)| Pass::Credential { env, credential }).collect())
}
