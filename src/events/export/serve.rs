//! Names files behind signed URLs, and gives their bytes piece by piece.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Nullable, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use futures_util::stream::{Stream, try_unfold};
use uuid::Uuid;

use super::chunk::{self, Place};
use super::{Format, HOUR, hour_of};
use crate::app::App;
use crate::clock::Time;
use crate::error::{Code, Error, Result};
use crate::events::log::Permit;
use crate::ids::{EnvId, Id};
use crate::secret::{hmac_sha256, same};

/// How long a URL is good.
const LIFETIME: Duration = Duration::from_secs(15 * 60);
/// The longest range of a list.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);
const KEY: &str = "analytics files";

/// Hours by their ends, as `2026-03-27T02`, each with the URLs of its files.
pub type Hours = BTreeMap<String, Vec<String>>;

#[derive(QueryableByName)]
struct Sealed {
    #[diesel(sql_type = Timestamptz)]
    hour: Time,
    /// Absent where the environment had no events.
    #[diesel(sql_type = Nullable<BigInt>)]
    events: Option<i64>,
}

/// Lists the hours of a range that are processed. `from` is rounded down and `to` up to the hour.
pub async fn list(app: &App, permit: Permit, from: Time, to: Time, format: Format) -> Result<Hours> {
    let rounded = hour_of(to);
    let (from, to) = (hour_of(from), if rounded == to { to } else { rounded.plus(HOUR) });
    if to < from {
        return Err(Error::invalid("", "to lies before from").parameter("to"));
    }
    if to.since(from) > LONGEST {
        return Err(Error::invalid("", "the range is at most 30 days").parameter("to"));
    }
    let sealed: Vec<Sealed> = sql_query(
        "SELECT export_hours.hour, exports.events FROM export_hours
         LEFT JOIN exports ON exports.environment_id = $1 AND exports.hour = export_hours.hour
         WHERE export_hours.hour >= $2 AND export_hours.hour < $3 AND exports.status IS DISTINCT FROM 'waiting'",
    )
    .bind::<SqlUuid, _>(permit.env())
    .bind::<Timestamptz, _>(from)
    .bind::<Timestamptz, _>(to)
    .load(&mut &*app.read().await?)
    .await?;
    let expires = app.clock().now().plus(LIFETIME).as_second();
    let hour = |sealed: Sealed| {
        let name = name_of(sealed.hour);
        let urls = match sealed.events {
            Some(1..) => vec![url(app, permit.env(), &format!("{name}.{}", format.word()), expires)],
            _ => Vec::new(),
        };
        (name, urls)
    };
    Ok(sealed.into_iter().map(hour).collect())
}

/// The end of an hour, to the hour.
fn name_of(hour: Time) -> String {
    let end = hour.plus(HOUR).to_string();
    end.get(..13).unwrap_or(&end).to_owned()
}

fn hour_named(name: &str) -> Option<Time> {
    (name.len() == 13).then(|| Time::parse(&format!("{name}:00:00Z")).ok())?.map(|end| end.minus(HOUR))
}

fn sign(app: &App, env: EnvId, name: &str, expires: i64) -> String {
    let key = app.vault().derive(KEY);
    let (env, expires) = (env.uuid(), expires.to_be_bytes());
    URL_SAFE_NO_PAD.encode(hmac_sha256(&key, &[env.as_bytes(), name.as_bytes(), b"\n", &expires]))
}

fn url(app: &App, env: EnvId, name: &str, expires: i64) -> String {
    let origin = app.origin().as_str().trim_end_matches('/');
    let signature = sign(app, env, name, expires);
    format!("{origin}/v1/{env}/analytics/files/{name}?expires={expires}&signature={signature}")
}

/// A file that may be read.
#[derive(Clone, Copy, Debug)]
pub struct File {
    place: Place,
    pub format: Format,
    /// Of the bytes that are kept; those of NDJSON are compressed.
    pub length: u64,
}

#[derive(QueryableByName)]
struct Ready {
    #[diesel(sql_type = SqlUuid)]
    claim: Uuid,
    #[diesel(sql_type = BigInt)]
    ndjson_bytes: i64,
    #[diesel(sql_type = BigInt)]
    parquet_bytes: i64,
}

/// Finds the file of a URL that [`list`] gave: `gone` when its time is over, `invalid_signature` when it was changed.
pub async fn open(app: &App, env: EnvId, name: &str, expires: i64, signature: &str) -> Result<File> {
    if !same(sign(app, env, name, expires).as_bytes(), signature.as_bytes()) {
        return Err(Error::new(Code::InvalidSignature, "the signature does not match"));
    }
    if app.clock().now().as_second() >= expires {
        return Err(Error::new(Code::Gone, "the URL has expired: list the files again"));
    }
    let unknown = || Error::not_found("file");
    let (hour, format) = name.split_once('.').ok_or_else(unknown)?;
    let (hour, format) = hour_named(hour).zip(Format::parse(format)).ok_or_else(unknown)?;
    let ready: Option<Ready> = sql_query(
        "SELECT exports.claim, exports.ndjson_bytes, exports.parquet_bytes FROM exports
         JOIN environments ON environments.id = exports.environment_id AND environments.archived_at IS NULL
         WHERE exports.environment_id = $1 AND exports.hour = $2 AND exports.status = 'ready' AND exports.events > 0",
    )
    .bind::<SqlUuid, _>(env)
    .bind::<Timestamptz, _>(hour)
    .get_result(&mut &*app.read().await?)
    .await
    .optional()?;
    let ready = ready.ok_or_else(unknown)?;
    let length = match format {
        Format::Ndjson => ready.ndjson_bytes,
        Format::Parquet => ready.parquet_bytes,
    };
    Ok(File { place: Place { env, hour, claim: ready.claim }, format, length: u64::try_from(length).unwrap_or(0) })
}

impl File {
    /// The bytes as they are kept, one piece in memory at a time.
    pub fn pieces(self, app: &App) -> impl Stream<Item = Result<Vec<u8>>> + Send + use<> {
        try_unfold((app.clone(), 0), move |(app, number)| async move {
            let piece = chunk::read(&*app.read().await?, self.place, self.format, number).await?;
            Ok(piece.map(|piece| (piece, (app, number + 1))))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_named_by_their_ends() {
        let hour = Time::parse("2026-03-27T01:00:00Z").unwrap();
        assert_eq!(name_of(hour), "2026-03-27T02");
        assert_eq!(hour_named("2026-03-27T02"), Some(hour));
        for nonsense in ["", "2026-03-27", "2026-03-27T2", "../../etc/pass", "2026-03-27T25"] {
            assert_eq!(hour_named(nonsense), None, "{nonsense}");
        }
        assert_eq!(name_of(Time::parse("2025-12-31T23:00:00Z").unwrap()), "2026-01-01T00");
    }
}
