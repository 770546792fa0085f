//! The last requests to each trigger URL: when, how large, and what became of them; for some days with what was sent.

use std::net::IpAddr;
use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::access::{Access, Level, Resource};
use crate::app::App;
use crate::clock::Time;
use crate::db::Tx;
use crate::db::schema::trigger_requests;
use crate::error::{Error, Result};
use crate::ids::{EnvId, TriggerId, TriggerRequestId};
use crate::secret::Secret;
use crate::worker::{Progress, Worker};

/// How many requests are kept for each trigger.
pub const KEPT: i64 = 50;
/// What was sent is kept up to this many bytes, headers included, and for so long.
const MOST_BYTES: usize = 64 * 1024;
const REMEMBERED: Duration = Duration::from_secs(7 * 24 * 3600);
/// How many are forgotten at once.
const FORGET: i64 = 500;
/// The purpose under which requests are sealed.
const SEAL: &str = "trigger request";

/// One request.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = trigger_requests)]
pub struct Entry {
    pub environment_id: EnvId,
    pub trigger_id: TriggerId,
    pub id: TriggerRequestId,
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
    /// What was sent, sealed.
    pub kept: Option<Vec<u8>>,
    pub replayed_at: Option<Time>,
}

/// What a recognised sender has sent.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Posted {
    pub body: Value,
    /// Without those that carry credentials: see [`super::mapping::headers`].
    pub headers: Value,
}

/// What the log says of a request beside its fate.
#[derive(Debug)]
pub(super) struct Visit {
    pub address: IpAddr,
    pub bytes: usize,
    pub kept: Option<Vec<u8>>,
}

/// Seals what was sent, if it is not too large to be kept.
pub(super) fn seal(app: &App, posted: &Posted) -> Result<Option<Vec<u8>>> {
    let text = serde_json::to_string(posted)?;
    if text.len() > MOST_BYTES {
        return Ok(None);
    }
    app.vault().seal(app.ids(), SEAL, &Secret::new(text)).map(Some)
}

/// What became of a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate<'a> {
    Captured,
    Started(&'a str),
    Refused(&'a Error),
}

/// Writes a request down and forgets the oldest.
pub(super) async fn record_in(tx: &mut Tx, env: EnvId, trigger: TriggerId, visit: Visit, fate: Fate<'_>) -> Result<()> {
    let refusal = if let Fate::Refused(error) = fate { Some(error) } else { None };
    let entry = Entry {
        environment_id: env,
        trigger_id: trigger,
        id: tx.id(),
        at: tx.now(),
        status: refusal.map_or(202, |error| i16::try_from(error.code().status()).unwrap_or(500)),
        code: refusal.map(|error| error.code().word().to_owned()),
        detail: refusal
            .map(|error| error.violations().iter().map(|one| one.detail.as_str()).collect::<Vec<_>>().join("; "))
            .map(|detail| detail.replace('\0', "\u{fffd}").chars().take(500).collect()),
        bytes: i32::try_from(visit.bytes).unwrap_or(i32::MAX),
        address: visit.address.to_string(),
        invocation: if let Fate::Started(invocation) = fate { Some(invocation.to_owned()) } else { None },
        kept: visit.kept,
        replayed_at: None,
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

/// A request that can be replayed.
pub(super) struct Kept {
    pub posted: Posted,
    /// The start that came of it.
    pub invocation: Option<String>,
}

/// What was sent with a request, while it is kept.
pub(super) async fn kept(app: &App, env: EnvId, trigger: TriggerId, id: TriggerRequestId) -> Result<Kept> {
    let row: Option<(Option<Vec<u8>>, Option<String>)> = trigger_requests::table
        .find((env, trigger, id))
        .select((trigger_requests::kept, trigger_requests::invocation))
        .first(&mut &*app.read().await?)
        .await
        .optional()?;
    let (sealed, invocation) = row.ok_or_else(|| Error::not_found("trigger request"))?;
    let sealed = sealed.ok_or_else(|| Error::conflict("what was sent with this request is not kept"))?;
    let posted = serde_json::from_str(app.vault().open(SEAL, &sealed)?.expose())?;
    Ok(Kept { posted, invocation })
}

/// Forgets what was sent when its days are over; the lines of the log stay.
pub struct Forgetter;

impl Worker for Forgetter {
    const NAME: &'static str = "trigger request forgetter";

    async fn run(&self, app: &App) -> Result<Progress> {
        let now = app.clock().now();
        let forgotten = sql_query(
            "UPDATE trigger_requests SET kept = NULL
             FROM (SELECT environment_id, trigger_id, id FROM trigger_requests
                   WHERE kept IS NOT NULL AND at < $1 ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED) AS old
             WHERE trigger_requests.environment_id = old.environment_id
               AND trigger_requests.trigger_id = old.trigger_id AND trigger_requests.id = old.id",
        )
        .bind::<Timestamptz, _>(now.minus(REMEMBERED))
        .bind::<BigInt, _>(FORGET)
        .execute(&mut &*app.read().await?)
        .await?;
        let full = i64::try_from(forgotten).is_ok_and(|forgotten| forgotten == FORGET);
        Ok(if full { Progress::More } else { Progress::NextAt(now.plus(Duration::from_secs(3600))) })
    }
}
