//! `POST /oauth2/token`: the grant `client_credentials`, with the errors of RFC 6749.

use std::collections::HashMap;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::json;
use crate::access::credential::{self, TOKEN_LIFETIME};
use crate::app::App;
use crate::error::{Code, Error};

const LARGEST_BODY: usize = 16 * 1024;

pub fn routes() -> Router<App> {
    Router::new().route("/oauth2/token", post(token))
}

/// Why there is no token.
enum Refusal {
    InvalidRequest(&'static str),
    UnsupportedGrantType,
    InvalidClient,
    Other(Error),
}

/// The client id and secret, however they were sent.
struct Client {
    id: String,
    secret: String,
}

async fn token(State(app): State<App>, RawQuery(query): RawQuery, headers: HeaderMap, body: Body) -> Response {
    let basic_tried = headers.contains_key(header::AUTHORIZATION);
    let mut response = match answer(&app, query.as_deref(), &headers, body).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(basic_tried),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

async fn answer(app: &App, query: Option<&str>, headers: &HeaderMap, body: Body) -> Result<Response, Refusal> {
    let body = json::read(body, LARGEST_BODY).await.map_err(Refusal::Other)?;
    if !body.is_empty() && !is_form(headers) {
        return Err(Refusal::InvalidRequest(
            "send the parameters as application/x-www-form-urlencoded or in the query",
        ));
    }
    let parameters = parameters(query.unwrap_or_default().as_bytes(), &body)?;
    match parameters.get("grant_type").map(String::as_str) {
        Some("client_credentials") => {}
        Some(_) => return Err(Refusal::UnsupportedGrantType),
        None => return Err(Refusal::InvalidRequest("grant_type is missing")),
    }
    let client = client(headers, &parameters)?;
    let token =
        credential::access_token(app, &client.id, &client.secret).await.map_err(|error| match error.code() {
            Code::Unauthenticated => Refusal::InvalidClient,
            _ => Refusal::Other(error),
        })?;
    let granted = json!({
        "access_token": token.expose(),
        "token_type": "Bearer",
        "expires_in": TOKEN_LIFETIME.as_secs(),
    });
    Ok(Json(granted).into_response())
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// Query and form together. A parameter that is there twice is refused, as the RFC has it.
fn parameters(query: &[u8], form: &[u8]) -> Result<HashMap<String, String>, Refusal> {
    let mut parameters = HashMap::new();
    for (name, value) in url::form_urlencoded::parse(query).chain(url::form_urlencoded::parse(form)) {
        if parameters.insert(name.into_owned(), value.into_owned()).is_some() {
            return Err(Refusal::InvalidRequest("a parameter is given twice"));
        }
    }
    Ok(parameters)
}

fn client(headers: &HeaderMap, parameters: &HashMap<String, String>) -> Result<Client, Refusal> {
    let (id, secret) = (parameters.get("client_id"), parameters.get("client_secret"));
    match headers.get(header::AUTHORIZATION) {
        Some(_) if secret.is_some() => Err(Refusal::InvalidRequest("authenticate the client in one way, not in two")),
        Some(value) => {
            let client = basic(value).ok_or(Refusal::InvalidClient)?;
            if id.is_some_and(|id| *id != client.id) {
                return Err(Refusal::InvalidRequest("client_id differs from the Authorization header"));
            }
            Ok(client)
        }
        None => match (id, secret) {
            (Some(id), Some(secret)) => Ok(Client { id: id.clone(), secret: secret.clone() }),
            _ => Err(Refusal::InvalidClient),
        },
    }
}

fn basic(value: &HeaderValue) -> Option<Client> {
    let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    Some(Client { id: id.to_owned(), secret: secret.to_owned() })
}

impl Refusal {
    fn into_response(self, basic_tried: bool) -> Response {
        let (status, error, description) = match self {
            Refusal::InvalidRequest(detail) => (StatusCode::BAD_REQUEST, "invalid_request", detail),
            Refusal::UnsupportedGrantType => {
                (StatusCode::BAD_REQUEST, "unsupported_grant_type", "the grant type must be client_credentials")
            }
            Refusal::InvalidClient => (StatusCode::UNAUTHORIZED, "invalid_client", "the client id or secret is wrong"),
            Refusal::Other(error) if error.code() == Code::RateLimited => return too_many(&error),
            Refusal::Other(error) => return error.into_response(),
        };
        let mut response = (status, Json(json!({ "error": error, "error_description": description }))).into_response();
        if basic_tried && status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
        }
        response
    }
}

fn too_many(error: &Error) -> Response {
    let body = json!({ "error": "rate_limited", "error_description": "too many requests for this client" });
    let mut response = (StatusCode::TOO_MANY_REQUESTS, Json(body)).into_response();
    if let Some(seconds) = error.retry_after_seconds() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_come_from_query_and_form_but_once() {
        let read = parameters(b"grant_type=client_credentials", b"client_id=a%20b").unwrap_or_default();
        assert_eq!(read["client_id"], "a b");
        assert!(parameters(b"client_id=a", b"client_id=a").is_err());
    }

    #[test]
    fn basic_headers() {
        let header = |text: &str| HeaderValue::from_str(text).unwrap();
        let client = basic(&header("basic Y3JlZF94OnM6ZQ==")).unwrap();
        assert_eq!((client.id.as_str(), client.secret.as_str()), ("cred_x", "s:e"));
        for text in ["Bearer abc", "Basic", "Basic !!!", "Basic bm9jb2xvbg=="] {
            assert!(basic(&header(text)).is_none(), "{text}");
        }
    }
}
