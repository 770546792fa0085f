//! One request to another system, under one deadline, and what came back of it.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Value, json};
use url::Url;

use super::Effect;
use crate::app::App;
use crate::net;
use crate::webhooks::credential;
use crate::webhooks::credential::carry::{Carried, Parcel};

/// The most bytes of an answer.
const MOST_RESPONSE: usize = 256 * 1024;
/// The word for a credential that was deleted.
const CREDENTIAL_MISSING: &str = "credential_missing";

/// What came of a request.
#[derive(Debug)]
pub(super) enum Answer {
    /// An answer that was read to its end.
    Whole { status: u16, body: Value },
    /// It was not made, or was refused before it could do anything.
    Unsent(&'static str),
    /// It may have arrived, but there is no whole answer.
    Lost(&'static str),
}

impl Answer {
    pub fn succeeded(&self) -> bool {
        matches!(self, Answer::Whole { status, .. } if (200..300).contains(status))
    }

    /// Whether the same request may fare better later (specification 8.3).
    pub fn worth_repeating(&self) -> bool {
        match self {
            Answer::Whole { status, .. } => *status == 429 || *status >= 500,
            Answer::Unsent(word) | Answer::Lost(word) => {
                !matches!(*word, "destination_refused" | "response_too_large" | CREDENTIAL_MISSING)
            }
        }
    }

    pub fn status(&self) -> Option<i16> {
        match self {
            Answer::Whole { status, .. } => i16::try_from(*status).ok(),
            Answer::Unsent(_) | Answer::Lost(_) => None,
        }
    }

    pub fn error(&self) -> Option<&'static str> {
        match self {
            Answer::Whole { .. } => None,
            Answer::Unsent(word) | Answer::Lost(word) => Some(word),
        }
    }

    /// What the run is told.
    pub fn outcome(&self) -> Value {
        match self {
            Answer::Whole { status, body } => json!({ "status": status, "body": body }),
            Answer::Unsent(word) | Answer::Lost(word) => json!({ "status": null, "body": null, "error": word }),
        }
    }
}

/// Makes the request of an effect.
pub(super) async fn send(app: &App, effect: &Effect) -> Answer {
    let deadline = Duration::from_secs(u64::from(effect.timeout_seconds.unsigned_abs()));
    match tokio::time::timeout(deadline, exchange(app, effect)).await {
        Ok(Ok(answer)) | Ok(Err(answer)) => answer,
        Err(_) => Answer::Lost("timeout"),
    }
}

async fn exchange(app: &App, effect: &Effect) -> Result<Answer, Answer> {
    let unusable = || Answer::Unsent("request_unusable");
    let method = Method::from_bytes(effect.method.as_bytes()).map_err(|_| unusable())?;
    let mut url = Url::parse(&effect.url).map_err(|_| unusable())?;
    let mut headers = HeaderMap::new();
    for pair in effect.headers.as_array().into_iter().flatten() {
        let part = |place: usize| pair.get(place).and_then(Value::as_str).unwrap_or_default();
        let name = HeaderName::try_from(part(0)).map_err(|_| unusable())?;
        headers.append(name, HeaderValue::try_from(part(1)).map_err(|_| unusable())?);
    }
    headers.insert("idempotency-key", HeaderValue::try_from(effect.key()).map_err(|_| unusable())?);
    let credential = credential(app, effect).await?;
    let mut token = None;
    if let Some(credential) = &credential {
        let body = effect.body.as_deref().unwrap_or_default().as_bytes();
        let parcel = Parcel { method: &method, url: &mut url, headers: &mut headers, body };
        // What cannot be had fails the attempt: nothing leaves without the credential it should carry.
        token = credential.put(app, parcel).await.map_err(Answer::Unsent)?;
    }
    let request = app.outbound().request(method, &url).map_err(|_| Answer::Unsent("destination_refused"))?;
    let request = match &effect.body {
        Some(body) => request.body(body.clone()),
        None => request,
    };
    let mut response = request.headers(headers).send().await.map_err(|error| failure(&error))?;
    let status = response.status().as_u16();
    if let (401, Some(credential), Some(token)) = (status, &credential, &token) {
        credential.refused(app, token);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|_| Answer::Lost("response_broken"))? {
        if body.len() + chunk.len() > MOST_RESPONSE {
            return Err(Answer::Lost("response_too_large"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer::Whole { status, body: readable(&body) })
}

/// The credential of a request, opened for use.
async fn credential(app: &App, effect: &Effect) -> Result<Option<Carried>, Answer> {
    let Some(id) = effect.credential_id else { return Ok(None) };
    match credential::carried(app, effect.environment_id, id).await {
        Ok(Some(carried)) => Ok(Some(carried)),
        Ok(None) => Err(Answer::Unsent(CREDENTIAL_MISSING)),
        Err(error) => {
            tracing::error!(flow.run.id = %effect.run_id, %error, "the credential of a request cannot be opened");
            Err(Answer::Unsent("credential_unavailable"))
        }
    }
}

/// JSON where it is JSON, else text. Postgres keeps no NUL characters.
fn readable(body: &[u8]) -> Value {
    if body.is_empty() {
        return Value::Null;
    }
    let text = String::from_utf8_lossy(body);
    match serde_json::from_str::<Value>(&text) {
        Ok(json) if crate::text::shallow(&json, "").is_ok() && !text.contains("\\u0000") => json,
        _ => Value::String(text.replace('\0', "\u{fffd}")),
    }
}

fn failure(error: &reqwest::Error) -> Answer {
    if net::refused(error) {
        Answer::Unsent("destination_refused")
    } else if error.is_connect() {
        Answer::Unsent("connection_failed")
    } else if error.is_timeout() {
        Answer::Lost("timeout")
    } else {
        Answer::Lost("request_failed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(status: u16) -> Answer {
        Answer::Whole { status, body: Value::Null }
    }

    #[test]
    fn what_succeeds_and_what_is_repeated() {
        for (answer, succeeded, repeated) in [
            (whole(200), true, false),
            (whole(299), true, false),
            (whole(302), false, false),
            (whole(404), false, false),
            (whole(429), false, true),
            (whole(503), false, true),
            (Answer::Unsent("connection_failed"), false, true),
            (Answer::Unsent("destination_refused"), false, false),
            (Answer::Lost("timeout"), false, true),
            (Answer::Lost("response_too_large"), false, false),
        ] {
            assert_eq!((answer.succeeded(), answer.worth_repeating()), (succeeded, repeated), "{answer:?}");
        }
    }

    #[test]
    fn bodies_are_json_or_text() {
        assert_eq!(readable(b""), Value::Null);
        assert_eq!(readable(b"{\"a\":1}"), json!({ "a": 1 }));
        assert_eq!(readable(b"a\0b"), json!("a\u{fffd}b"));
        assert_eq!(readable(b"\"\\u0000\""), json!("\"\\u0000\""));
    }
}
