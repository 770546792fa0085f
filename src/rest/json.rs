//! Reading and writing JSON bodies: media type, size, syntax and depth are checked before anybody sees a value.

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};

use crate::app::App;
use crate::error::{Code, Error, Result};
use crate::text;

/// A JSON body. An empty body is `null`, so that endpoints with only optional fields need none.
pub struct JsonBody(pub Value);

impl FromRequest<App> for JsonBody {
    type Rejection = Error;

    async fn from_request(request: Request, app: &App) -> Result<JsonBody> {
        let (parts, body) = request.into_parts();
        let bytes = read(body, app.config().body_limit).await?;
        if bytes.is_empty() {
            return Ok(JsonBody(Value::Null));
        }
        if !is_json(&parts.headers) {
            return Err(Error::new(Code::UnsupportedMediaType, "send the body as application/json"));
        }
        parse(&bytes).map(JsonBody)
    }
}

/// Reads a body up to a limit.
pub async fn read(body: Body, limit: usize) -> Result<axum::body::Bytes> {
    to_bytes(body, limit).await.map_err(|error| {
        let too_large = std::error::Error::source(&error)
            .is_some_and(<dyn std::error::Error + 'static>::is::<http_body_util::LengthLimitError>);
        if too_large {
            Error::new(Code::PayloadTooLarge, format!("the body is larger than {limit} bytes"))
        } else {
            Error::new(Code::BadRequest, "the body could not be read to its end")
        }
    })
}

/// Parses bytes as JSON of bounded depth.
pub fn parse(bytes: &[u8]) -> Result<Value> {
    let text = std::str::from_utf8(bytes).map_err(|_| Error::new(Code::InvalidJson, "the body is not UTF-8"))?;
    let value = serde_json::from_str(text).map_err(|error| {
        Error::new(Code::InvalidJson, format!("the body is not JSON: line {}, column {}", error.line(), error.column()))
    })?;
    text::shallow(&value, "")?;
    Ok(value)
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// `{"data": …}` with 200.
pub fn data(value: impl Serialize) -> Response {
    data_with(StatusCode::OK, value)
}

/// `{"data": …}` with another status.
pub fn data_with(status: StatusCode, value: impl Serialize) -> Response {
    match serde_json::to_value(value) {
        Ok(value) => (status, Json(json!({ "data": value }))).into_response(),
        Err(error) => Error::from(error).into_response(),
    }
}
