//! Access tokens of the client credentials grant: fetched once for everybody who needs one, remembered until shortly
//! before they end.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::{Method, RequestBuilder};
use serde::Deserialize;
use url::Url;

use super::kind::Scheme;
use crate::app::App;
use crate::clock::Time;
use crate::ids::OutgoingCredentialId;
use crate::secret::Secret;

/// How long a token serves whose end is not told.
const DEFAULT_LIFE: Duration = Duration::from_secs(45);
/// So much before its end a token is not used any more.
const MARGIN: Duration = Duration::from_secs(30);
const DEADLINE: Duration = Duration::from_secs(10);
const LARGEST: usize = 64 * 1024;
/// Tokens that are remembered at most; those that have ended leave first.
const MOST: usize = 10_000;

/// What is remembered, by credential and its revision: a changed credential starts anew.
#[derive(Default)]
pub(crate) struct Tokens(Mutex<HashMap<(OutgoingCredentialId, i32), Arc<Slot>>>);

#[derive(Default)]
struct Slot {
    known: Mutex<Option<(Arc<Secret>, Time)>>,
    /// Held while fetching, so that many requests fetch once.
    fetching: tokio::sync::Mutex<()>,
}

impl Slot {
    fn usable(&self, now: Time) -> Option<Arc<Secret>> {
        self.known.lock().as_ref().filter(|(_, until)| now < *until).map(|(token, _)| token.clone())
    }
}

/// The grant of one credential.
pub(super) struct Grant<'a> {
    pub id: OutgoingCredentialId,
    pub revision: i32,
    pub identity_url: &'a str,
    pub client_id: &'a str,
    pub client_secret: &'a str,
    pub scope: Option<&'a str>,
    pub scheme: Scheme,
}

impl Tokens {
    /// A token that is good now. The error is a word for the request log.
    pub(super) async fn get(&self, app: &App, grant: &Grant<'_>) -> Result<Arc<Secret>, &'static str> {
        let now = app.clock().now();
        let slot = self.slot(grant, now);
        if let Some(token) = slot.usable(now) {
            return Ok(token);
        }
        let _turn = slot.fetching.lock().await;
        if let Some(token) = slot.usable(now) {
            return Ok(token);
        }
        let (token, life) = fetch(app, grant).await?;
        let token = Arc::new(token);
        *slot.known.lock() = Some((token.clone(), now.plus(life)));
        Ok(token)
    }

    /// Forgets a token that its receiver refused, unless another has taken its place meanwhile.
    pub(super) fn forget(&self, id: OutgoingCredentialId, revision: i32, refused: &Secret) {
        let Some(slot) = self.0.lock().get(&(id, revision)).cloned() else { return };
        let mut known = slot.known.lock();
        if known.as_ref().is_some_and(|(token, _)| token.expose() == refused.expose()) {
            *known = None;
        }
    }

    fn slot(&self, grant: &Grant<'_>, now: Time) -> Arc<Slot> {
        let mut slots = self.0.lock();
        if slots.len() >= MOST {
            slots.retain(|_, slot| slot.usable(now).is_some());
        }
        slots.entry((grant.id, grant.revision)).or_default().clone()
    }
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: Option<f64>,
}

async fn fetch(app: &App, grant: &Grant<'_>) -> Result<(Secret, Duration), &'static str> {
    let request = request(app, grant)?.timeout(DEADLINE);
    let mut response = request.send().await.map_err(|error| {
        if crate::net::refused(&error) { "token_destination_refused" } else { "token_request_failed" }
    })?;
    if !response.status().is_success() {
        return Err("token_refused");
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|_| "token_request_failed")? {
        body.extend_from_slice(&chunk);
        if body.len() > LARGEST {
            return Err("token_malformed");
        }
    }
    let granted: Granted = serde_json::from_slice(&body).map_err(|_| "token_malformed")?;
    // What ends within the margin is used once and not remembered.
    let life = granted.expires_in.filter(|seconds| seconds.is_finite() && *seconds >= 0.0);
    let life = life.map_or(DEFAULT_LIFE, |seconds| Duration::from_secs_f64(seconds.min(1e9)).saturating_sub(MARGIN));
    Ok((Secret::new(granted.access_token), life))
}

fn request(app: &App, grant: &Grant<'_>) -> Result<RequestBuilder, &'static str> {
    let mut url = Url::parse(grant.identity_url).map_err(|_| "token_request_failed")?;
    let mut parameters = vec![
        ("grant_type", "client_credentials"),
        ("client_id", grant.client_id),
        ("client_secret", grant.client_secret),
    ];
    parameters.extend(grant.scope.map(|scope| ("scope", scope)));
    if grant.scheme != Scheme::Body {
        url.query_pairs_mut().extend_pairs(&parameters);
    }
    let method = if grant.scheme == Scheme::QueryGet { Method::GET } else { Method::POST };
    let request = app.outbound().request(method, &url).map_err(|_| "token_destination_refused")?;
    let request = request.header("accept", "application/json");
    Ok(if grant.scheme == Scheme::Body { request.form(&parameters) } else { request })
}
