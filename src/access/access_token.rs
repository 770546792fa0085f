//! Access tokens of API credentials: signed, so that a request needs one lookup, and checked against the living
//! credential at each request, so that deleting it ends them.

use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::clock::Time;
use crate::error::{Code, Error, Result};
use crate::ids::{CredentialId, EnvId};

/// How long a token is good for.
pub const LIFETIME: Duration = Duration::from_secs(3600);

const PURPOSE: &str = "access tokens";

/// What a token says.
#[derive(Serialize, Deserialize)]
pub(super) struct Claims {
    #[serde(rename = "sub")]
    pub credential: CredentialId,
    pub env: EnvId,
    iat: i64,
    exp: i64,
}

impl Claims {
    pub(super) fn expires_at(&self) -> Time {
        Time::from_millisecond(self.exp.saturating_mul(1000))
    }
}

pub(super) fn issue(app: &App, credential: CredentialId, env: EnvId, now: Time) -> Result<String> {
    let claims = Claims { credential, env, iat: now.as_second(), exp: now.plus(LIFETIME).as_second() };
    let key = EncodingKey::from_secret(&app.vault().derive(PURPOSE));
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).map_err(Error::internal)
}

pub(super) fn read(app: &App, token: &str, now: Time) -> Result<Claims> {
    let mut validation = Validation::new(Algorithm::HS256);
    // Expiry is judged by our clock, below.
    validation.validate_exp = false;
    validation.required_spec_claims.clear();
    let key = DecodingKey::from_secret(&app.vault().derive(PURPOSE));
    let claims = jsonwebtoken::decode::<Claims>(token, &key, &validation)
        .map_err(|_| Error::new(Code::Unauthenticated, "the token is not valid"))?
        .claims;
    if claims.exp <= now.as_second() {
        return Err(Error::new(Code::TokenExpired, "the access token has expired"));
    }
    Ok(claims)
}
