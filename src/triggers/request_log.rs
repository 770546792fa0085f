//! The last requests to each trigger URL: when, how large, and what became of them.

use std::net::IpAddr;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::access::{Access, Level, Resource};
use crate::app::App;
use crate::clock::Time;
use crate::db::Tx;
use crate::db::schema::trigger_requests;
use crate::error::{Error, Result};
use crate::ids::{EnvId, Id, RequestId, TriggerId};

/// How many requests are kept for each trigger.
pub const KEPT: i64 = 50;

/// One request. Of what was sent only the size is kept.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = trigger_requests)]
pub struct Entry {
    pub environment_id: EnvId,
    pub trigger_id: TriggerId,
    pub id: Uuid,
    pub at: Time,
    /// The status that was answered.
    pub status: i16,
    /// The code of the refusal.
    pub code: Option<String>,
    /// Why it was refused.
    pub detail: Option<String>,
    pub bytes: i32,
    pub address: String,
    /// The start that came of it.
    pub invocation: Option<String>,
}

/// What became of a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate<'a> {
    Captured,
    Started(&'a str),
    Refused(&'a Error),
}

/// Writes a request down and forgets the oldest.
pub(super) async fn record_in(
    tx: &mut Tx,
    env: EnvId,
    trigger: TriggerId,
    (address, bytes): (IpAddr, usize),
    fate: Fate<'_>,
) -> Result<()> {
    let refusal = if let Fate::Refused(error) = fate { Some(error) } else { None };
    let entry = Entry {
        environment_id: env,
        trigger_id: trigger,
        id: tx.id::<RequestId>().uuid(),
        at: tx.now(),
        status: refusal.map_or(202, |error| i16::try_from(error.code().status()).unwrap_or(500)),
        code: refusal.map(|error| error.code().word().to_owned()),
        detail: refusal
            .map(|error| error.violations().iter().map(|one| one.detail.as_str()).collect::<Vec<_>>().join("; "))
            .map(|detail| detail.replace('\0', "\u{fffd}").chars().take(500).collect()),
        bytes: i32::try_from(bytes).unwrap_or(i32::MAX),
        address: address.to_string(),
        invocation: if let Fate::Started(invocation) = fate { Some(invocation.to_owned()) } else { None },
    };
    metrics::counter!("cardwire_trigger_requests_total", "outcome" => entry.code.clone().unwrap_or_else(|| "accepted".to_owned()))
        .increment(1);
    diesel::insert_into(trigger_requests::table).values(entry).execute(&mut tx.conn()).await?;
    sql_query(
        "DELETE FROM trigger_requests WHERE environment_id = $1 AND trigger_id = $2 AND id IN (
             SELECT id FROM trigger_requests WHERE environment_id = $1 AND trigger_id = $2
             ORDER BY id DESC OFFSET $3 FOR UPDATE SKIP LOCKED)",
    )
    .bind::<SqlUuid, _>(env)
    .bind::<SqlUuid, _>(trigger)
    .bind::<BigInt, _>(KEPT)
    .execute(&mut tx.conn())
    .await?;
    Ok(())
}

/// The last requests of a trigger, newest first.
pub async fn recent(app: &App, access: &Access, trigger: TriggerId) -> Result<Vec<Entry>> {
    access.require(Resource::ActionFlow, Level::View)?;
    Ok(trigger_requests::table
        .filter(trigger_requests::environment_id.eq(access.env()).and(trigger_requests::trigger_id.eq(trigger)))
        .order(trigger_requests::id.desc())
        .limit(KEPT)
        .select(Entry::as_select())
        .load(&mut &*app.read().await?)
        .await?)
}
