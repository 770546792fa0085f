//! The log of outgoing requests: everything of tests, but of real ones only sizes and the names of headers.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Jsonb, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::{FutureExt, Stream};
use http::HeaderMap;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::attempt::{Answer, Composed, Target};
use super::subscription;
use crate::access::{Access, Level, Resource};
use crate::app::App;
use crate::clock::Time;
use crate::db::page::Page;
use crate::db::{Prepared, Tx};
use crate::error::{Error, Result};
use crate::events::tail::{self, BATCH, Spot, Start};
pub use crate::events::tail::{Followed, Mark};
use crate::ids::{EnvId, EventId, Id, RequestId, WebhookId};
use crate::realtime::{Announcement, Work};

/// One attempt.
#[derive(Clone, Debug, QueryableByName)]
pub struct Entry {
    #[diesel(sql_type = SqlUuid)]
    pub environment_id: EnvId,
    #[diesel(sql_type = SqlUuid)]
    pub webhook_id: WebhookId,
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    #[diesel(sql_type = Timestamptz)]
    pub at: Time,
    #[diesel(sql_type = SqlUuid)]
    pub request_id: RequestId,
    /// The event, or the first one of a batch.
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub event_id: Option<EventId>,
    /// How many events the request carries.
    #[diesel(sql_type = Integer)]
    pub events: i32,
    /// Counted from 1.
    #[diesel(sql_type = Integer)]
    pub attempt: i32,
    #[diesel(sql_type = Integer)]
    pub duration_ms: i32,
    #[diesel(sql_type = Text)]
    pub url: String,
    #[diesel(sql_type = Text)]
    pub method: String,
    #[diesel(sql_type = Nullable<SmallInt>)]
    pub status: Option<i16>,
    #[diesel(sql_type = Nullable<Text>)]
    pub error: Option<String>,
    #[diesel(sql_type = Bool)]
    pub is_test: bool,
    /// Values are null where they are redacted.
    #[diesel(sql_type = Jsonb)]
    pub request_headers: Value,
    #[diesel(sql_type = Integer)]
    pub request_bytes: i32,
    #[diesel(sql_type = Nullable<Text>)]
    pub request_body: Option<String>,
    #[diesel(sql_type = Jsonb)]
    pub response_headers: Value,
    #[diesel(sql_type = Integer)]
    pub response_bytes: i32,
    #[diesel(sql_type = Nullable<Text>)]
    pub response_body: Option<String>,
}

/// Which attempt of which request.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    pub id: Uuid,
    pub at: Time,
    pub request: RequestId,
    pub first_event: EventId,
    pub events: usize,
    pub number: u32,
}

impl Entry {
    /// An entry that tells sizes and names.
    pub fn redacted(target: &Target, attempt: Attempt, composed: &Composed, answer: &Answer) -> Entry {
        Entry {
            environment_id: target.env,
            webhook_id: target.webhook,
            id: attempt.id,
            at: attempt.at,
            request_id: attempt.request,
            event_id: Some(attempt.first_event),
            events: size(attempt.events),
            attempt: i32::try_from(attempt.number).unwrap_or(i32::MAX),
            duration_ms: i32::try_from(answer.duration.as_millis()).unwrap_or(i32::MAX),
            url: target.url.to_string(),
            method: target.method.to_string(),
            status: answer.status.and_then(|status| i16::try_from(status).ok()),
            error: answer.error.map(|word| match &answer.detail {
                Some(detail) => format!("{word} ({detail})"),
                None => word.to_owned(),
            }),
            is_test: false,
            request_headers: names(&composed.headers),
            request_bytes: size(composed.body.len()),
            request_body: None,
            response_headers: names(&answer.headers),
            response_bytes: size(answer.size),
            response_body: None,
        }
    }

    /// An entry that tells everything, for tests.
    pub fn complete(target: &Target, attempt: Attempt, composed: &Composed, answer: &Answer) -> Entry {
        Entry {
            is_test: true,
            request_headers: values(&composed.headers),
            request_body: Some(String::from_utf8_lossy(&composed.body).into_owned()),
            response_headers: values(&answer.headers),
            // Postgres keeps no NUL in text.
            response_body: Some(String::from_utf8_lossy(&answer.body).replace('\0', "\u{fffd}")),
            ..Entry::redacted(target, attempt, composed, answer)
        }
    }

    /// Whether the receiver took it.
    pub fn delivered(&self) -> bool {
        self.error.is_none() && self.status.is_some_and(|status| (200..300).contains(&status))
    }

    /// Where a page ends, as callers see it.
    pub fn cursor(&self) -> String {
        let mut bytes = self.at.as_millisecond().to_be_bytes().to_vec();
        bytes.extend_from_slice(self.id.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

fn size(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn names(headers: &HeaderMap) -> Value {
    headers.keys().map(|name| (name.to_string(), Value::Null)).collect::<Map<_, _>>().into()
}

fn values(headers: &HeaderMap) -> Value {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).replace('\0', "\u{fffd}");
    headers.iter().map(|(name, value)| (name.to_string(), text(value).into())).collect::<Map<_, _>>().into()
}

/// Writes entries in one statement. Writing one again, when nobody knows whether the commit came through, is harmless.
pub(super) async fn write_in(tx: &mut Tx, entries: &[Entry]) -> Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    fn column<'a, T>(entries: &'a [Entry], of: impl Fn(&'a Entry) -> T) -> Vec<T> {
        entries.iter().map(of).collect()
    }
    Prepared(sql_query(
        "INSERT INTO webhook_requests (environment_id, webhook_id, id, at, request_id, event_id, events, attempt,
             duration_ms, url, method, status, error, is_test, request_headers, request_bytes, request_body,
             response_headers, response_bytes, response_body)
         SELECT * FROM UNNEST($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::uuid[], $6::uuid[], $7::integer[],
             $8::integer[], $9::integer[], $10::text[], $11::text[], $12::smallint[], $13::text[], $14::bool[],
             $15::jsonb[], $16::integer[], $17::text[], $18::jsonb[], $19::integer[], $20::text[])
         ON CONFLICT ON CONSTRAINT webhook_requests_pkey DO NOTHING",
    )
    .bind::<Array<SqlUuid>, _>(column(entries, |entry| entry.environment_id))
    .bind::<Array<SqlUuid>, _>(column(entries, |entry| entry.webhook_id))
    .bind::<Array<SqlUuid>, _>(column(entries, |entry| entry.id))
    .bind::<Array<Timestamptz>, _>(column(entries, |entry| entry.at))
    .bind::<Array<SqlUuid>, _>(column(entries, |entry| entry.request_id))
    .bind::<Array<Nullable<SqlUuid>>, _>(column(entries, |entry| entry.event_id))
    .bind::<Array<Integer>, _>(column(entries, |entry| entry.events))
    .bind::<Array<Integer>, _>(column(entries, |entry| entry.attempt))
    .bind::<Array<Integer>, _>(column(entries, |entry| entry.duration_ms))
    .bind::<Array<Text>, _>(column(entries, |entry| entry.url.as_str()))
    .bind::<Array<Text>, _>(column(entries, |entry| entry.method.as_str()))
    .bind::<Array<Nullable<SmallInt>>, _>(column(entries, |entry| entry.status))
    .bind::<Array<Nullable<Text>>, _>(column(entries, |entry| entry.error.as_deref()))
    .bind::<Array<Bool>, _>(column(entries, |entry| entry.is_test))
    .bind::<Array<Jsonb>, _>(column(entries, |entry| &entry.request_headers))
    .bind::<Array<Integer>, _>(column(entries, |entry| entry.request_bytes))
    .bind::<Array<Nullable<Text>>, _>(column(entries, |entry| entry.request_body.as_deref()))
    .bind::<Array<Jsonb>, _>(column(entries, |entry| &entry.response_headers))
    .bind::<Array<Integer>, _>(column(entries, |entry| entry.response_bytes))
    .bind::<Array<Nullable<Text>>, _>(column(entries, |entry| entry.response_body.as_deref())))
    .execute(&mut tx.conn())
    .await?;
    tx.announce(Announcement::Wake(Work::Attempts));
    Ok(())
}

/// The requests of a subscription, newest first. `after` is the cursor of the last entry seen.
pub async fn list(
    app: &App,
    access: &Access,
    webhook: WebhookId,
    first: i64,
    after: Option<&str>,
) -> Result<Page<Entry>> {
    access.require(Resource::WebhookRequestLog, Level::View)?;
    let after =
        after.map(|cursor| place(cursor).ok_or_else(|| Error::invalid("/after", "is not a cursor of this list")));
    let after = after.transpose()?;
    let conn = app.read().await?;
    if subscription::find(&conn, access.env(), webhook).await?.is_none() {
        return Err(Error::not_found(WebhookId::NOUN));
    }
    let mut rows: Vec<Entry> = sql_query(
        "SELECT * FROM webhook_requests
         WHERE environment_id = $1 AND webhook_id = $2 AND ($3 IS NULL OR (at, id) < ($3, $4))
         ORDER BY at DESC, id DESC LIMIT $5",
    )
    .bind::<SqlUuid, _>(access.env())
    .bind::<SqlUuid, _>(webhook)
    .bind::<Nullable<Timestamptz>, _>(after.map(|(at, _)| at))
    .bind::<Nullable<SqlUuid>, _>(after.map(|(_, id)| id))
    .bind::<BigInt, _>(first + 1)
    .load(&mut &*conn)
    .await?;
    let size = usize::try_from(first).map_err(Error::internal)?;
    let more = rows.len() > size;
    rows.truncate(size);
    Ok(Page { rows, more })
}

/// Follows the requests of a subscription as they are logged, each once, in the order of the commits: from now on, or
/// from where an earlier follower stopped.
pub async fn follow(
    app: &App,
    access: &Access,
    webhook: WebhookId,
    after: Option<Mark>,
) -> Result<impl Stream<Item = Result<Followed<Entry>>> + use<>> {
    access.require(Resource::WebhookRequestLog, Level::View)?;
    // Listening comes first, so that nothing falls between the look and the wait.
    let bell = app.wakes().attempted();
    let env = access.env();
    if subscription::find(&*app.read().await?, env, webhook).await?.is_none() {
        return Err(Error::not_found(WebhookId::NOUN));
    }
    tail::follow(app, bell, after, Box::new(move |conn, from| beyond(conn, (env, webhook), from).boxed())).await
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(embed)]
    entry: Entry,
    #[diesel(sql_type = BigInt)]
    xid: i64,
}

async fn beyond(
    conn: &AsyncPgConnection,
    (env, webhook): (EnvId, WebhookId),
    from: Start,
) -> Result<Vec<(Entry, Spot)>> {
    let rows: Vec<Row> = Prepared(
        sql_query(
            "SELECT * FROM webhook_requests
         WHERE environment_id = $1 AND webhook_id = $2 AND xid >= $3 AND (xid, id) > ($3, $4) AND at >= $5
           AND xid < pg_snapshot_xmin(pg_current_snapshot())::text::bigint
         ORDER BY xid, id LIMIT $6",
        )
        .bind::<SqlUuid, _>(env)
        .bind::<SqlUuid, _>(webhook)
        .bind::<BigInt, _>(from.spot.xid)
        .bind::<SqlUuid, _>(from.spot.id)
        .bind::<Timestamptz, _>(from.since)
        .bind::<BigInt, _>(BATCH),
    )
    .load(&mut &*conn)
    .await?;
    let placed = |row: Row| {
        let spot = Spot { xid: row.xid, id: row.entry.id };
        (row.entry, spot)
    };
    Ok(rows.into_iter().map(placed).collect())
}

/// Reads a cursor.
fn place(cursor: &str) -> Option<(Time, Uuid)> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let (millis, id) = bytes.split_at_checked(8)?;
    Some((Time::from_millisecond(i64::from_be_bytes(millis.try_into().ok()?)), Uuid::from_slice(id).ok()?))
}
