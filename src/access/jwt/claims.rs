//! The claims of a token whose signature is known to be good.

use serde_json::{Map, Value};

use super::{Rules, Verified, refused};
use crate::clock::Time;
use crate::error::{Code, Error, Result};

/// How far clocks may be apart, in seconds.
const LEEWAY: f64 = 60.0;
const SECONDS_PER_DAY: f64 = 86_400.0;

/// Steps 3 to 5 of §3.5.
pub(super) fn check(claims: Map<String, Value>, rules: &Rules, now: Time) -> Result<Verified> {
    let expires_at = check_times(&claims, rules, now)?;
    check_origin(&claims, rules)?;
    let user_id = user_id(&claims, rules)?;
    Ok(Verified { user_id, expires_at, claims })
}

fn check_times(claims: &Map<String, Value>, rules: &Rules, now: Time) -> Result<Time> {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit 53 bits")]
    let now_seconds = now.as_millisecond() as f64 / 1000.0;
    let expires = seconds(claims, "exp")?.ok_or_else(|| refused("the token has no exp"))?;
    if expires + LEEWAY <= now_seconds {
        return Err(Error::new(Code::TokenExpired, "the token has expired"));
    }
    let issued = seconds(claims, "iat")?;
    let longest = f64::from(rules.max_token_days) * SECONDS_PER_DAY;
    let too_long = match issued {
        Some(issued) => expires - issued > longest,
        None => expires - now_seconds > longest + LEEWAY,
    };
    if too_long {
        return Err(refused(format!("the token is valid for more than {} days", rules.max_token_days)));
    }
    if seconds(claims, "nbf")?.is_some_and(|not_before| not_before > now_seconds + LEEWAY) {
        return Err(refused("the token is not valid yet"));
    }
    if issued.is_some_and(|issued| issued > now_seconds + LEEWAY) {
        return Err(refused("the token was issued in the future"));
    }
    #[expect(clippy::cast_possible_truncation, reason = "at most 30 days from a time of ours")]
    Ok(Time::from_millisecond((expires * 1000.0) as i64))
}

/// A numeric date. A claim of another type is not a date, so the token is refused rather than the claim ignored.
fn seconds(claims: &Map<String, Value>, name: &str) -> Result<Option<f64>> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => match value.as_f64() {
            Some(seconds) => Ok(Some(seconds)),
            None => Err(refused(format!("the claim {name} is not a number"))),
        },
    }
}

fn check_origin(claims: &Map<String, Value>, rules: &Rules) -> Result<()> {
    if !rules.allowed_issuers.is_empty() {
        let issuer = claims.get("iss").and_then(Value::as_str);
        if !issuer.is_some_and(|issuer| rules.allowed_issuers.iter().any(|allowed| allowed == issuer)) {
            return Err(refused("the token's issuer is not allowed"));
        }
    }
    if !rules.allowed_audiences.is_empty() {
        let allowed = |audience: &str| rules.allowed_audiences.iter().any(|allowed| allowed == audience);
        let fits = match claims.get("aud") {
            Some(Value::String(audience)) => allowed(audience),
            Some(Value::Array(audiences)) => audiences.iter().filter_map(Value::as_str).any(allowed),
            _ => false,
        };
        if !fits {
            return Err(refused("the token's audience is not allowed"));
        }
    }
    match claims.get("apiKey") {
        Some(name) if name.as_str() != Some(rules.key_name.as_str()) => Err(refused("the token names another API key")),
        _ => Ok(()),
    }
}

/// With a claim configured only that claim counts: falling back to `sub` could let one customer pass for another.
fn user_id(claims: &Map<String, Value>, rules: &Rules) -> Result<String> {
    let name = rules.user_id_claim.as_deref().unwrap_or("sub");
    let user_id = match claims.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => return Err(refused(format!("the token has no user id in {name}"))),
    };
    let length = user_id.chars().count();
    if !(1..=256).contains(&length) || user_id.chars().any(char::is_control) {
        return Err(refused(format!("the user id in {name} is not 1 to 256 characters without control characters")));
    }
    Ok(user_id)
}
