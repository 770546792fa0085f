//! GraphQL over HTTP (specification 2.2): POST of JSON, GET for what only reads, one operation per request.
//!
//! A request that a foreign page could make a browser send without asking first changes nothing: bodies must be
//! `application/json`, or come with files from one who is known ([`multipart`]), and GET runs no mutation. Who accepts `text/event-stream` gets a stream of results ([`sse`]).
//!
//! What is no GraphQL request has the status of its code in every media type. A document that cannot be executed is
//! 200 in plain JSON, because clients of that type read its errors from the body.

use std::net::SocketAddr;
use std::sync::Arc;

use async_graphql::Response as Answer;
use async_graphql::parser::types::OperationType;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};

use super::endpoint::{Endpoint, Operation};
use super::multipart::{self, Uploads};
use super::session::Session;
use super::upgrade::Upgrade;
use super::{sse, websocket};
use crate::access::authenticate::{self, Principal};
use crate::error::{Code, Error, Result};
use crate::graphql::errors;

/// The media types of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Media {
    GraphqlResponse,
    Json,
    EventStream,
}

impl Media {
    fn name(self) -> &'static str {
        match self {
            Media::GraphqlResponse => "application/graphql-response+json; charset=utf-8",
            // What is said before a stream begins is said in JSON.
            Media::Json | Media::EventStream => "application/json; charset=utf-8",
        }
    }

    /// The type that the caller prefers. Who does not name one of ours gets plain JSON.
    fn preferred(headers: &HeaderMap) -> Media {
        let mut best = (0.0, Media::Json);
        let accepted = headers.get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
        for range in accepted.flat_map(|value| value.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let media = match parts.next().unwrap_or_default().to_ascii_lowercase().as_str() {
                "application/graphql-response+json" => Media::GraphqlResponse,
                "application/json" | "application/*" | "*/*" => Media::Json,
                "text/event-stream" => Media::EventStream,
                _ => continue,
            };
            let quality = parts.find_map(|parameter| parameter.strip_prefix("q=")?.parse::<f32>().ok()).unwrap_or(1.0);
            if quality > best.0 {
                best = (quality, media);
            }
        }
        best.1
    }
}

/// Answers everything that comes to `/graphql`.
pub async fn handle(
    State(endpoint): State<Arc<Endpoint>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let media = Media::preferred(&parts.headers);
    if parts.method == Method::GET && parts.headers.contains_key(header::UPGRADE) {
        return match Upgrade::read(&mut parts) {
            Ok(upgrade) => {
                let address = authenticate::client_address(&endpoint.app, &parts.headers, peer.ip());
                websocket::accept(upgrade, endpoint, address)
            }
            Err(error) => error.into_response(),
        };
    }
    let (session, asked) = match receive(&endpoint, &parts, body, peer).await {
        Ok(received) => received,
        Err(error) => return refused(media, error.code().status(), &error),
    };
    match execute(endpoint, &parts.method, media, session, asked).await {
        Ok(response) => response,
        Err(error) if media == Media::EventStream && is_told_in_stream(error.code()) => sse::refuse(&error),
        Err(error) => refused(media, document_status(media, error.code()), &error),
    }
}

/// An operation, and the files that came with it.
type Asked = (Operation, Uploads);

/// Who asks, and for what.
async fn receive(endpoint: &Endpoint, parts: &Parts, body: Body, peer: SocketAddr) -> Result<(Session, Asked)> {
    if parts.method != Method::GET && parts.method != Method::POST {
        return Err(Error::new(Code::MethodNotAllowed, "use POST, or GET for queries"));
    }
    let boundary = multipart::boundary(&parts.headers).filter(|_| parts.method == Method::POST);
    if parts.method == Method::POST && boundary.is_none() && !is_json(&parts.headers) {
        return Err(Error::new(Code::UnsupportedMediaType, "send the body as application/json"));
    }
    let principal: Principal = authenticate::from_headers(&endpoint.app, &parts.headers, peer.ip()).await?;
    let limit = endpoint.body_limit(&principal);
    let asked = match boundary {
        _ if parts.method == Method::GET => (from_query(&parts.uri)?, Uploads::default()),
        Some(boundary) => {
            principal.viewer()?;
            multipart::receive(body, boundary, limit).await?
        }
        None => (Operation::read(parse(&read(body, limit).await?)?)?, Uploads::default()),
    };
    let address = authenticate::client_address(&endpoint.app, &parts.headers, peer.ip());
    Ok((Session::new(principal, address), asked))
}

/// Runs the operation. An error says why nothing was executed.
async fn execute(
    endpoint: Arc<Endpoint>,
    method: &Method,
    media: Media,
    session: Session,
    (operation, uploads): Asked,
) -> Result<Response> {
    let name = operation.name.clone();
    let prepared = endpoint.prepare(operation, &session.principal, &session.info).await;
    let mut ready = match prepared.and_then(|ready| check_kind(method, media, ready.kind).map(|()| ready)) {
        Ok(ready) => ready,
        Err(error) => {
            endpoint.note_refusal(&session.principal, name.as_deref(), Some(error.code())).await;
            return Err(error);
        }
    };
    uploads.attach(&mut ready.request);
    if media == Media::EventStream {
        return sse::stream(endpoint, session, ready);
    }
    let answer = errors::finish(endpoint.schema.execute(ready.request).await);
    endpoint.note_refusal(&session.principal, ready.label.as_deref(), errors::code(&answer)).await;
    Ok(executed(media, answer))
}

fn check_kind(method: &Method, media: Media, kind: OperationType) -> Result<()> {
    match kind {
        OperationType::Mutation if method == Method::GET => {
            Err(Error::new(Code::MethodNotAllowed, "send mutations by POST"))
        }
        OperationType::Subscription if media != Media::EventStream => {
            Err(Error::new(Code::BadRequest, "subscriptions need a websocket, or Accept: text/event-stream"))
        }
        _ => Ok(()),
    }
}

/// Whether a stream says why nothing is executed. What the client's transport must act on has a status instead.
fn is_told_in_stream(code: Code) -> bool {
    !is_shown_by_status(code.status())
}

fn from_query(uri: &Uri) -> Result<Operation> {
    let mut members = Map::new();
    for (name, value) in url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        let value = match name.as_ref() {
            "query" | "operationName" => Value::String(value.into_owned()),
            "variables" | "extensions" if !value.is_empty() => serde_json::from_str(&value)
                .map_err(|_| Error::new(Code::InvalidJson, format!("{name} is not JSON")).at(format!("/{name}")))?,
            _ => continue,
        };
        members.insert(name.into_owned(), value);
    }
    Operation::read(Value::Object(members))
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    let mut parts = kind.split(';').map(|part| part.trim().to_ascii_lowercase());
    let essence = parts.next().unwrap_or_default();
    let charset = parts.find_map(|part| part.strip_prefix("charset=").map(|name| name.trim_matches('"').to_owned()));
    essence == "application/json" && charset.is_none_or(|name| name == "utf-8" || name == "utf8")
}

async fn read(body: Body, limit: usize) -> Result<Bytes> {
    to_bytes(body, limit).await.map_err(|error| {
        let cause = std::error::Error::source(&error);
        if cause.is_some_and(<dyn std::error::Error + 'static>::is::<http_body_util::LengthLimitError>) {
            Error::new(Code::PayloadTooLarge, format!("the body is larger than {limit} bytes"))
        } else {
            Error::new(Code::BadRequest, "the body could not be read to its end")
        }
    })
}

pub(super) fn parse(bytes: &[u8]) -> Result<Value> {
    let text = std::str::from_utf8(bytes).map_err(|_| Error::new(Code::InvalidJson, "the body is not UTF-8"))?;
    serde_json::from_str(text).map_err(|error| {
        Error::new(Code::InvalidJson, format!("the body is not JSON: line {}, column {}", error.line(), error.column()))
    })
}

/// The answer of an operation that ran, or that the engine refused to run.
fn executed(media: Media, mut answer: Answer) -> Response {
    // Signing in gives browsers a cookie.
    let headers = std::mem::take(&mut answer.http_headers);
    let mut response = told(media, &answer);
    response.headers_mut().extend(headers);
    response
}

fn told(media: Media, answer: &Answer) -> Response {
    let code = errors::code(answer);
    if errors::is_refusal(answer) {
        let errors = Errors { errors: &answer.errors };
        return respond(media, document_status(media, code.unwrap_or(Code::BadRequest)), &errors);
    }
    // Who could do nothing at all without a valid token is told so where clients look for it.
    let nothing = match &answer.data {
        async_graphql::Value::Null => true,
        async_graphql::Value::Object(data) => data.values().all(|value| *value == async_graphql::Value::Null),
        _ => false,
    };
    let status = match code {
        Some(code @ (Code::Unauthenticated | Code::TokenExpired | Code::RateLimited)) if nothing => code.status(),
        _ => 200,
    };
    respond(media, status, answer)
}

fn refused(media: Media, status: u16, error: &Error) -> Response {
    let answer = errors::refusal(error);
    let mut response = respond(media, status, &Errors { errors: &answer.errors });
    let headers = response.headers_mut();
    if let Some(seconds) = error.retry_after_seconds() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if error.code() == Code::MethodNotAllowed {
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, POST"));
    }
    response
}

/// The status of an operation that could not be executed. Plain JSON says 200 except where intermediaries and clients
/// must see the status.
fn document_status(media: Media, code: Code) -> u16 {
    let status = code.status();
    if media == Media::GraphqlResponse || is_shown_by_status(status) { status } else { 200 }
}

fn is_shown_by_status(status: u16) -> bool {
    matches!(status, 401 | 405 | 413 | 415 | 429) || status >= 500
}

#[derive(Serialize)]
struct Errors<'a> {
    errors: &'a [async_graphql::ServerError],
}

fn respond(media: Media, status: u16, body: &impl Serialize) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match serde_json::to_vec(body) {
        Ok(body) => (status, [(header::CONTENT_TYPE, media.name())], body).into_response(),
        Err(error) => {
            tracing::error!(%error, "a GraphQL answer could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(value: &str) -> Media {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, value.parse().unwrap());
        Media::preferred(&headers)
    }

    #[test]
    fn media_types_are_negotiated() {
        for (value, media) in [
            ("application/graphql-response+json", Media::GraphqlResponse),
            ("application/graphql-response+json, application/json;q=0.9", Media::GraphqlResponse),
            ("application/json, application/graphql-response+json;q=0.5", Media::Json),
            ("*/*", Media::Json),
            ("text/html", Media::Json),
            ("text/event-stream", Media::EventStream),
            ("text/event-stream;q=0.5, application/json", Media::Json),
        ] {
            assert_eq!(accept(value), media, "{value}");
        }
        assert_eq!(Media::preferred(&HeaderMap::new()), Media::Json);
    }

    #[test]
    fn only_json_in_utf8_is_a_body() {
        for (value, fits) in [
            ("application/json", true),
            ("Application/JSON; charset=UTF-8", true),
            ("application/json; charset=latin1", false),
            ("text/plain", false),
            ("application/x-www-form-urlencoded", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, value.parse().unwrap());
            assert_eq!(is_json(&headers), fits, "{value}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }

    #[test]
    fn plain_json_hides_why_a_document_was_not_executed() {
        assert_eq!(document_status(Media::Json, Code::BadRequest), 200);
        assert_eq!(document_status(Media::GraphqlResponse, Code::BadRequest), 400);
        for media in [Media::Json, Media::GraphqlResponse, Media::EventStream] {
            assert_eq!(document_status(media, Code::Unauthenticated), 401);
            assert_eq!(document_status(media, Code::MethodNotAllowed), 405);
            assert_eq!(document_status(media, Code::Internal), 500);
        }
    }
}
