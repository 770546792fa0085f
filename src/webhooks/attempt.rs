//! One request to a receiver, under one deadline, and what came back of it.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use tokio::time::Instant;
use url::Url;

use super::credential::Credential;
use super::credential::carry::{Carried, Parcel};
use super::retry;
use super::sign::Signer;
use super::subscription::{Convention, Subscription};
use super::{mapping, payload, sign};
use crate::app::App;
use crate::clock::Time;
use crate::error::{Error, Result};
use crate::events::trim::Omit;
use crate::ids::{EnvId, EventId, RequestId, WebhookId};
use crate::net;

/// Everything about connect, TLS, headers and body of one attempt must be over by then.
pub const DEADLINE: Duration = Duration::from_secs(15);
/// How much of an answer is read.
const MOST_RESPONSE: usize = 64 * 1024;

/// Where and how the requests of a subscription go, ready for use.
pub struct Target {
    pub env: EnvId,
    pub webhook: WebhookId,
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub signer: Signer,
    pub credential: Option<Carried>,
    pub omit: Omit,
    /// The script that gives the body.
    pub mapping: Option<String>,
    pub batched: bool,
    pub max_retries: u32,
    pub disable_after_failures: bool,
}

impl Target {
    /// The target for events, or for tests when the subscription has a URL of its own for them.
    ///
    /// `credential` is the one that the subscription names.
    pub fn new(
        app: &App,
        subscription: &Subscription,
        convention: &Convention,
        credential: Option<&Credential>,
        url: &str,
    ) -> Result<Target> {
        if credential.map(|credential| credential.id) != subscription.credential_id {
            return Err(Error::internal("a webhook subscription lost its credential"));
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        for (name, value) in subscription.custom_headers() {
            let name = HeaderName::try_from(name).map_err(Error::internal)?;
            headers.insert(name, HeaderValue::try_from(value).map_err(Error::internal)?);
        }
        Ok(Target {
            env: subscription.environment_id,
            webhook: subscription.id,
            method: Method::from_bytes(subscription.method.as_bytes()).map_err(Error::internal)?,
            url: Url::parse(url).map_err(Error::internal)?,
            headers,
            signer: Signer {
                secrets: subscription.secrets(app.vault(), app.clock().now())?,
                header: convention.webhook_signature_header.clone(),
                encoding: sign::Encoding::read(&convention.webhook_signature_encoding),
            },
            credential: credential.map(|credential| Carried::open(app, credential)).transpose()?,
            omit: Omit {
                request_payload: !subscription.include_request_payload,
                card_response: !subscription.include_card_response,
            },
            mapping: subscription.mapping.clone(),
            batched: subscription.batched,
            max_retries: u32::try_from(subscription.max_retries).map_err(Error::internal)?,
            disable_after_failures: subscription.disable_after_failures,
        })
    }

    /// Writes, maps and signs the request that carries these events, given as (id, envelope).
    pub async fn compose(
        &self,
        app: &App,
        request: RequestId,
        events: &[(EventId, &str)],
        at: Time,
    ) -> Result<Composed, Uncomposed> {
        let envelope = payload::Envelope { request, env: self.env, webhook: self.webhook };
        let mut trimmed = Vec::with_capacity(events.len());
        for (_, event) in events {
            trimmed.push(self.omit.from_payload(event)?);
        }
        let (body, single) = match (self.batched, trimmed.as_slice(), events) {
            (false, [event], [(id, _)]) => (envelope.single(event), Some(*id)),
            _ => (envelope.batch(&trimmed), None),
        };
        let body = match &self.mapping {
            Some(source) => mapping::apply(app, source, &body).await.map_err(Uncomposed::Mapping)?,
            None => body,
        };
        let mut headers = self.headers.clone();
        headers.extend(self.signer.headers(&payload::message_id(request, single), at, body.as_bytes())?);
        Ok(Composed { headers, body: body.into() })
    }
}

/// Why a request could not be composed.
#[derive(Debug)]
pub enum Uncomposed {
    Mapping(mapping::Refusal),
    Internal(Error),
}

impl From<Error> for Uncomposed {
    fn from(error: Error) -> Uncomposed {
        Uncomposed::Internal(error)
    }
}

impl Uncomposed {
    /// The failed attempt that it is.
    pub fn answer(self, webhook: WebhookId) -> Answer {
        match self {
            Uncomposed::Mapping(refusal) => Answer { detail: refusal.place(), ..Answer::failed(refusal.word()) },
            Uncomposed::Internal(error) => {
                tracing::error!(webhook.id = %webhook, %error, "a webhook request could not be composed");
                Answer::failed("internal")
            }
        }
    }
}

/// A request as it leaves.
#[derive(Default)]
pub struct Composed {
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// What is kept of the body of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    Size,
    Bytes,
}

/// What came of a request.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub status: Option<u16>,
    /// A word for what went wrong before there was a status, or while the answer was read.
    pub error: Option<&'static str>,
    /// More about it, such as the place in a script.
    pub detail: Option<String>,
    pub duration: Duration,
    pub headers: HeaderMap,
    /// How many bytes of the body were read.
    pub size: usize,
    /// Those bytes, where they are kept.
    pub body: Vec<u8>,
}

impl Answer {
    /// The answer of an attempt that never left.
    pub fn failed(error: &'static str) -> Answer {
        Answer { error: Some(error), ..Answer::default() }
    }

    pub fn delivered(&self) -> bool {
        self.error.is_none() && self.status.is_some_and(|status| (200..300).contains(&status))
    }

    pub fn gone(&self) -> bool {
        self.status == Some(410)
    }

    /// The pause that the receiver asks for; only the two statuses that mean "later" may ask.
    pub fn asked_pause(&self, now: Time) -> Option<Duration> {
        if !matches!(self.status, Some(429 | 503)) {
            return None;
        }
        retry::retry_after(self.headers.get(header::RETRY_AFTER)?.to_str().ok()?, now)
    }
}

/// Sends a composed request and reads the answer, all before the deadline.
pub async fn send(app: &App, target: &Target, composed: &Composed, deadline: Duration, keep: Keep) -> Answer {
    let started = Instant::now();
    let mut answer = Answer::default();
    let exchange = exchange(app, target, composed, keep, &mut answer);
    let error = match tokio::time::timeout(deadline, exchange).await {
        Ok(outcome) => outcome.err(),
        Err(_) => Some("timeout"),
    };
    Answer { error, duration: started.elapsed(), ..answer }
}

async fn exchange(
    app: &App,
    target: &Target,
    composed: &Composed,
    keep: Keep,
    answer: &mut Answer,
) -> Result<(), &'static str> {
    let (mut url, mut headers) = (target.url.clone(), composed.headers.clone());
    let mut token = None;
    if let Some(credential) = &target.credential {
        let parcel = Parcel { method: &target.method, url: &mut url, headers: &mut headers, body: &composed.body };
        // What cannot be had is an attempt that failed: nothing leaves without the credential it should carry.
        token = credential.put(app, parcel).await?;
    }
    let request = app.outbound().request(target.method.clone(), &url).map_err(|_| "destination_refused")?;
    let mut response =
        request.headers(headers).body(composed.body.clone()).send().await.map_err(|error| word(&error))?;
    answer.status = Some(response.status().as_u16());
    answer.headers = std::mem::take(response.headers_mut());
    if let (Some(401), Some(credential), Some(token)) = (answer.status, &target.credential, &token) {
        credential.refused(app, token);
    }
    while let Some(chunk) = response.chunk().await.map_err(|_| "response_broken")? {
        let read = chunk.len().min(MOST_RESPONSE - answer.size);
        answer.size += read;
        if keep == Keep::Bytes {
            answer.body.extend_from_slice(&chunk[..read]);
        }
        if answer.size == MOST_RESPONSE {
            // The rest is left unread; a receiver that floods costs its connection, not our memory.
            break;
        }
    }
    Ok(())
}

fn word(error: &reqwest::Error) -> &'static str {
    if net::refused(error) {
        "destination_refused"
    } else if error.is_timeout() {
        "timeout"
    } else if error.is_connect() {
        "connection_failed"
    } else {
        "request_failed"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, retry_after: &str) -> Answer {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, retry_after.parse().unwrap());
        Answer { status: Some(status), headers, ..Answer::default() }
    }

    #[test]
    fn only_success_is_success() {
        for (status, delivered) in [(200, true), (204, true), (299, true), (302, false), (404, false), (500, false)] {
            assert_eq!(answer(status, "").delivered(), delivered, "{status}");
        }
        assert!(!Answer { error: Some("timeout"), ..answer(200, "") }.delivered(), "an answer cut off is none");
    }

    #[test]
    fn who_may_ask_for_a_pause() {
        let now = Time::from_millisecond(0);
        assert_eq!(answer(429, "60").asked_pause(now), Some(Duration::from_secs(60)));
        assert_eq!(answer(503, "9999999").asked_pause(now), Some(Duration::from_secs(4 * 3600)));
        assert_eq!(answer(500, "60").asked_pause(now), None);
    }
}
