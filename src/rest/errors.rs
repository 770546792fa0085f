//! The error envelope of REST, and the one place where faults of ours are logged.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::error::{Code, Error, Violation};

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        if let Some(cause) = self.cause() {
            tracing::error!(code = self.code().word(), %cause, "a request failed");
        }
        let status = StatusCode::from_u16(self.code().status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let errors: Vec<Value> = self.violations().iter().map(entry).collect();
        let mut response = (status, Json(json!({ "errors": errors }))).into_response();
        if let Some(seconds) = self.retry_after_seconds() {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.code() == Code::Unauthenticated || self.code() == Code::TokenExpired {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// One entry of `errors`.
pub fn entry(violation: &Violation) -> Value {
    let mut entry = Map::new();
    entry.insert("status".into(), violation.code.status().into());
    entry.insert("code".into(), violation.code.word().into());
    entry.insert("title".into(), violation.code.title().into());
    entry.insert("detail".into(), violation.detail.clone().into());
    if let Some(parameter) = violation.parameter {
        entry.insert("source".into(), json!({ "parameter": parameter }));
    } else if let Some(pointer) = &violation.pointer {
        entry.insert("source".into(), json!({ "pointer": pointer }));
    }
    Value::Object(entry)
}
