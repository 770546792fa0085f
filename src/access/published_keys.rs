//! Sets of public keys that identity providers publish, fetched and remembered (§3.5).
//!
//! A set is good for ten minutes. A token with an unknown `kid` has it fetched anew, at most once a minute. When
//! fetching fails the remembered set serves for a day.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use parking_lot::Mutex;
use serde_json::Value;
use url::Url;

use super::jwt::Keys;
use crate::app::App;
use crate::clock::Time;
use crate::error::{Code, Error, Result};

const FRESH: Duration = Duration::from_secs(600);
const USABLE: Duration = Duration::from_secs(24 * 3600);
const FETCHED_AT_MOST_EVERY: Duration = Duration::from_secs(60);
const DEADLINE: Duration = Duration::from_secs(5);
const LARGEST: usize = 256 * 1024;

/// What is remembered, by address.
#[derive(Default)]
pub(crate) struct PublishedKeys(Mutex<HashMap<Url, Arc<Slot>>>);

#[derive(Default)]
struct Slot {
    state: Mutex<State>,
    /// Held while fetching, so that many requests fetch once.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Clone, Default)]
struct State {
    known: Option<(Arc<Keys>, Time)>,
    tried_at: Option<Time>,
}

impl State {
    /// The keys to use without fetching, if that is allowed now.
    fn usable(&self, kid: Option<&str>, now: Time) -> Option<Arc<Keys>> {
        let tried_lately = self.tried_at.is_some_and(|tried| now.since(tried) < FETCHED_AT_MOST_EVERY);
        let (keys, fetched_at) = self.known.as_ref()?;
        let age = now.since(*fetched_at);
        let answers = age < FRESH && kid.is_none_or(|kid| keys.knows(kid));
        (answers || (tried_lately && age < USABLE)).then(|| keys.clone())
    }
}

impl PublishedKeys {
    /// The keys at an address, for a token that names `kid`.
    pub(super) async fn at(&self, app: &App, url: &Url, kid: Option<&str>) -> Result<Arc<Keys>> {
        let slot = self.0.lock().entry(url.clone()).or_default().clone();
        let now = app.clock().now();
        let usable = |slot: &Slot| slot.state.lock().usable(kid, now);
        if let Some(keys) = usable(&slot) {
            return Ok(keys);
        }
        let _turn = slot.fetching.lock().await;
        if let Some(keys) = usable(&slot) {
            return Ok(keys);
        }
        let before = slot.state.lock().clone();
        let hopeless =
            before.known.is_none() && before.tried_at.is_some_and(|tried| now.since(tried) < FETCHED_AT_MOST_EVERY);
        if hopeless {
            return Err(unreachable_keys());
        }
        let fetched = fetch(app, url).await;
        let mut state = slot.state.lock();
        state.tried_at = Some(now);
        match fetched {
            Ok(keys) => {
                let keys = Arc::new(keys);
                state.known = Some((keys.clone(), now));
                Ok(keys)
            }
            Err(error) => {
                tracing::warn!(url = %url, %error, "a key set could not be fetched");
                let remembered = state.known.clone().filter(|(_, fetched_at)| now.since(*fetched_at) < USABLE);
                remembered.map(|(keys, _)| keys).ok_or_else(unreachable_keys)
            }
        }
    }
}

fn unreachable_keys() -> Error {
    Error::new(Code::Unauthenticated, "the key set of the API key cannot be fetched")
}

async fn fetch(app: &App, url: &Url) -> Result<Keys> {
    let request = app.outbound().request(reqwest::Method::GET, url).map_err(Error::internal)?;
    let response = request.timeout(DEADLINE).send().await.map_err(Error::internal)?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(Error::internal(format!("answered {}", response.status())));
    }
    let mut body = Vec::new();
    let mut stream = response.bytes_stream();
    while let Some(chunk) = stream.next().await {
        body.extend_from_slice(&chunk.map_err(Error::internal)?);
        if body.len() > LARGEST {
            return Err(Error::internal("larger than a key set can be"));
        }
    }
    let set: Value = serde_json::from_slice(&body)?;
    Keys::from_published_set(&set)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn keys() -> Arc<Keys> {
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "one",
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" });
        Arc::new(Keys::from_published_set(&json!({ "keys": [jwk] })).unwrap())
    }

    #[test]
    fn when_a_set_is_fetched_anew() {
        let start = Time::from_millisecond(0);
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        for (age, tried, kid, usable) in [
            (0, 0, Some("one"), true),
            (9, 9, Some("one"), true),
            (10, 10, Some("one"), false),
            (10, 0, Some("one"), true),
            (5, 5, Some("two"), false),
            (5, 0, Some("two"), true),
            (24 * 60, 0, Some("one"), false),
            (9, 9, None, true),
        ] {
            let now = start.plus(minutes(24 * 60));
            let state =
                State { known: Some((keys(), now.minus(minutes(age)))), tried_at: Some(now.minus(minutes(tried))) };
            assert_eq!(state.usable(kid, now).is_some(), usable, "age {age}, tried {tried}, kid {kid:?}");
        }
        assert!(State::default().usable(None, start).is_none());
    }
}
