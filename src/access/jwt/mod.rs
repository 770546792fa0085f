//! Tokens of customers in apps: verification of §3.5, in its order.
//!
//! Nothing here touches the database: [`Keys`] say what may sign, [`Rules`] what may be claimed, and [`verify`]
//! answers who the customer is. Every failure is `unauthenticated`, a token past its time `token_expired`.

mod claims;
mod keys;

#[cfg(test)]
mod tests;

use jsonwebtoken::Validation;
use serde_json::{Map, Value};

use crate::clock::Time;
use crate::error::{Code, Error, Result};

pub(crate) use keys::Keys;

/// What an SDK API key demands of the claims.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// The name of the key, which a claim `apiKey` must repeat.
    pub key_name: String,
    pub max_token_days: i32,
    /// Empty allows any.
    pub allowed_issuers: Vec<String>,
    /// Empty allows any.
    pub allowed_audiences: Vec<String>,
    pub user_id_claim: Option<String>,
}

/// Who a token speaks for, and until when.
#[derive(Clone, Debug)]
pub(crate) struct Verified {
    pub user_id: String,
    pub expires_at: Time,
    pub claims: Map<String, Value>,
}

/// Verifies a customer's token: algorithm and key, signature, times, issuer and audience, user id.
pub(crate) fn verify(token: &str, keys: &Keys, rules: &Rules, now: Time) -> Result<Verified> {
    let header = jsonwebtoken::decode_header(token)
        .map_err(|_| refused("the token is not a JWT with an asymmetric algorithm we accept"))?;
    if header.crit.is_some() {
        return Err(refused("the token names critical headers we do not know"));
    }
    let key = keys.select(header.alg, header.kid.as_deref())?;
    let mut validation = Validation::new(header.alg);
    // The claims are checked below, with our clock and in the order of the specification.
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let decoded = jsonwebtoken::decode::<Map<String, Value>>(token, key, &validation)
        .map_err(|_| refused("the token's signature does not match"))?;
    claims::check(decoded.claims, rules, now)
}

/// The `kid` a token names, before anything about it is known to be true.
pub(crate) fn unverified_key_id(token: &str) -> Option<String> {
    jsonwebtoken::decode_header(token).ok()?.kid
}

/// The names of the claims of a token, before anything about it is known to be true.
pub(crate) fn unverified_claim_names(token: &str) -> Vec<String> {
    let claims = jsonwebtoken::dangerous::insecure_decode::<Map<String, Value>>(token);
    claims.map(|decoded| decoded.claims.keys().cloned().collect()).unwrap_or_default()
}

fn refused(detail: impl Into<String>) -> Error {
    Error::new(Code::Unauthenticated, detail)
}
