//! `/v1/{env}/analytics/batched` and the files it names (specification 10.4).

use std::io::Write;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use flate2::write::GzDecoder;
use futures_util::{Stream, TryStreamExt};
use serde_json::json;

use super::auth::Authenticated;
use crate::access::CredentialRole::{Events, Workbench};
use crate::app::App;
use crate::clock::Time;
use crate::error::{Error, Result};
use crate::events::export::{self, File, Format};
use crate::ids::{EnvId, Id};

pub fn routes() -> Router<App> {
    Router::new()
        .route("/v1/{env}/analytics/batched", get(list))
        .route("/v1/{env}/analytics/files/{name}", get(download))
}

async fn list(
    State(app): State<App>,
    Authenticated(access): Authenticated,
    RawQuery(query): RawQuery,
) -> Result<Response> {
    access.require_role(&[Workbench, Events])?;
    let permit = access.read_events()?;
    let (mut from, mut to, mut format) = (None, None, Format::Ndjson);
    for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match name.as_ref() {
            "from" => from = Some(Time::parse(&value).map_err(|error| error.parameter("from"))?),
            "to" => to = Some(Time::parse(&value).map_err(|error| error.parameter("to"))?),
            "format" => {
                let unknown = || Error::invalid("", "format must be ndjson or parquet").parameter("format");
                format = Format::parse(&value).ok_or_else(unknown)?;
            }
            _ => {}
        }
    }
    let from = from.ok_or_else(|| Error::invalid("", "from is required").parameter("from"))?;
    let to = to.ok_or_else(|| Error::invalid("", "to is required").parameter("to"))?;
    let hours = export::list(&app, permit, from, to, format).await?;
    Ok(Json(json!({ "data": hours })).into_response())
}

/// Gives a file to whoever has its URL.
async fn download(
    State(app): State<App>,
    Path((env, name)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response> {
    let (mut expires, mut signature) = (0, String::new());
    for (key, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match key.as_ref() {
            "expires" => expires = value.parse().unwrap_or(0),
            "signature" => signature = value.into_owned(),
            _ => {}
        }
    }
    let file = export::open(&app, EnvId::parse(&env)?, &name, expires, &signature).await?;
    let packed = file.format == Format::Ndjson && accepts_gzip(&headers);
    let mut response = match file.format {
        Format::Ndjson if !packed => Body::from_stream(unpacked(file, &app)).into_response(),
        _ => Body::from_stream(file.pieces(&app)).into_response(),
    };
    let answered = response.headers_mut();
    let (kind, plain) = match file.format {
        Format::Ndjson => ("application/x-ndjson", false),
        Format::Parquet => ("application/vnd.apache.parquet", true),
    };
    answered.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answered.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if packed {
        answered.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if packed || plain {
        answered.insert(header::CONTENT_LENGTH, HeaderValue::from(file.length));
    }
    Ok(response)
}

/// NDJSON for those who cannot unpack it.
fn unpacked(file: File, app: &App) -> impl Stream<Item = Result<Vec<u8>>> + Send + use<> {
    let mut decoder = GzDecoder::new(Vec::new());
    file.pieces(app).and_then(move |piece| {
        let text = decoder.write_all(&piece).and_then(|()| decoder.flush()).map(|()| std::mem::take(decoder.get_mut()));
        std::future::ready(text.map_err(Error::internal))
    })
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    let listed = headers.get_all(header::ACCEPT_ENCODING).into_iter().filter_map(|value| value.to_str().ok());
    listed.flat_map(|value| value.split(',')).any(|one| {
        let (name, quality) = one.split_once(';').unwrap_or((one, ""));
        let refused = quality.trim().strip_prefix("q=").is_some_and(|quality| quality.parse::<f32>() == Ok(0.0));
        name.trim().eq_ignore_ascii_case("gzip") && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_accepts_gzip() {
        for (value, accepts) in [
            ("gzip", true),
            ("br, GZIP;q=0.5", true),
            ("identity", false),
            ("gzip;q=0", false),
            ("gzip; q=0.0, br", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT_ENCODING, value.parse().unwrap())]);
            assert_eq!(accepts_gzip(&headers), accepts, "{value}");
        }
    }
}
