//! Calls another system over HTTP.

use http::{HeaderName, Method};
use serde_json::{Map, Value};
use serde_json_path::JsonPath;
use url::Url;

use super::{check_template, check_templates};
use crate::error::Violations;
use crate::flows::fields::{Fields, join};
use crate::ids::{Id, OutgoingCredentialId};

/// The path of a request that was answered with 2xx.
pub const SUCCESS_PATH: &str = "success";
/// The path of a request that was not, after all attempts.
pub const FAILURE_PATH: &str = "failure";

const METHODS: &[&str] = &["GET", "POST", "PUT", "PATCH", "DELETE"];
const DEFAULT_TIMEOUT: i16 = 10;
const LONGEST_TIMEOUT: i64 = 30;
/// The most headers of one request.
const HEADERS: usize = 50;
/// Headers that belong to the connection, or to the promise that a repeat can be recognised.
const OURS: &[&str] =
    &["host", "content-length", "connection", "transfer-encoding", "te", "trailer", "upgrade", "idempotency-key"];

#[derive(Clone, Debug, PartialEq)]
pub struct SendRequest {
    /// Without it the request is not made.
    pub credential: Option<OutgoingCredentialId>,
    pub method: Method,
    /// A template; inserted values are percent-encoded, unless the URL is one expression.
    pub url: String,
    /// Names in lower case, and templates.
    pub headers: Vec<(String, String)>,
    pub body: Option<Body>,
    /// What is taken from a JSON answer, by name.
    pub response: Vec<(String, JsonPath)>,
    pub timeout_seconds: i16,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// A template.
    Text(String),
    /// Texts in it are templates.
    Json(Value),
}

impl SendRequest {
    pub(super) fn parse(config: &Value, pointer: &str, violations: &mut Violations) -> Option<SendRequest> {
        let fields = Fields::open(config, pointer, violations)?;
        fields.only(&["credentialId", "method", "url", "headers", "body", "response", "timeoutSeconds"], violations);
        let credential = fields.text("credentialId", violations).and_then(|text| {
            let id = OutgoingCredentialId::parse(text).ok();
            if id.is_none() {
                violations.add(fields.pointer("credentialId"), "there is no such outgoing credential");
            }
            id
        });
        let word = fields.text("method", violations).unwrap_or("POST");
        if !METHODS.contains(&word) {
            violations.add(fields.pointer("method"), format!("is not one of {}", METHODS.join(", ")));
        }
        let url = fields.required_text("url", violations);
        if let Some(url) = url {
            check_url(url, &fields.pointer("url"), violations);
        }
        let headers = read_headers(&fields, violations);
        if credential.is_some() && headers.iter().any(|(name, _)| name == "authorization") {
            violations.add(join(&fields.pointer("headers"), "authorization"), "the credential gives this header");
        }
        let body = fields.value("body").map(|body| {
            check_templates(body, &fields.pointer("body"), violations);
            match body {
                Value::String(text) => Body::Text(text.clone()),
                json => Body::Json(json.clone()),
            }
        });
        let response = read_response(&fields, violations);
        let timeout = fields.value("timeoutSeconds");
        let timeout_seconds = match timeout.map(Value::as_i64) {
            None => Some(DEFAULT_TIMEOUT),
            Some(Some(seconds)) if (1..=LONGEST_TIMEOUT).contains(&seconds) => i16::try_from(seconds).ok(),
            Some(_) => None,
        };
        if timeout_seconds.is_none() {
            let rule = format!("must be a whole number from 1 to {LONGEST_TIMEOUT}");
            violations.add(fields.pointer("timeoutSeconds"), rule);
        }
        Some(SendRequest {
            credential,
            method: Method::from_bytes(word.as_bytes()).ok()?,
            url: url?.to_owned(),
            headers,
            body,
            response,
            timeout_seconds: timeout_seconds?,
        })
    }
}

fn check_url(url: &str, pointer: &str, violations: &mut Violations) {
    if url.contains("{{") {
        return check_template(url, pointer, violations);
    }
    let sound = Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.username().is_empty());
    if !sound {
        violations.add(pointer, "is not an http or https URL without a user name");
    }
}

fn read_headers(fields: &Fields<'_>, violations: &mut Violations) -> Vec<(String, String)> {
    let empty = Map::new();
    let given = fields.object("headers", violations).unwrap_or(&empty);
    let below = fields.pointer("headers");
    if given.len() > HEADERS {
        violations.add(below.as_str(), format!("a request has at most {HEADERS} headers"));
    }
    let mut headers = Vec::with_capacity(given.len());
    for (name, value) in given {
        let at = join(&below, name);
        let known = HeaderName::try_from(name.as_str()).ok().filter(|name| !OURS.contains(&name.as_str()));
        match (known, value.as_str()) {
            (None, _) => violations.add(at, "is not a header that a step can set"),
            (_, None) => violations.add(at, "must be a text"),
            (Some(name), Some(text)) => {
                check_template(text, &at, violations);
                headers.push((name.as_str().to_owned(), text.to_owned()));
            }
        }
    }
    headers
}

fn read_response(fields: &Fields<'_>, violations: &mut Violations) -> Vec<(String, JsonPath)> {
    let empty = Map::new();
    let given = fields.object("response", violations).unwrap_or(&empty);
    let mut paths = Vec::with_capacity(given.len());
    for (name, path) in given {
        let at = join(&fields.pointer("response"), name);
        match path.as_str().map(JsonPath::parse) {
            _ if matches!(name.as_str(), "status" | "body" | "error") => {
                violations.add(at, "is a name that every request has");
            }
            Some(Ok(path)) => paths.push((name.clone(), path)),
            Some(Err(error)) => violations.add(at, format!("is not a JSONPath: {error}")),
            None => violations.add(at, "must be a JSONPath"),
        }
    }
    paths
}
