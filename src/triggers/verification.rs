//! Whether a request was signed by whoever holds the shared secret (§9.7).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha1::Sha1;
use sha2::Sha256;

use crate::clock::Time;
use crate::error::{Code, Error, Result, Violations};
use crate::secret::{Secret, same};

/// Signatures of one request that are looked at.
const SIGNATURES: usize = 20;
/// Numbers above this are milliseconds: as seconds they would be in the year 5138.
const LARGEST_SECONDS: i64 = 100_000_000_000;

/// How requests of one sender are signed. The secret is kept apart, sealed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Verification {
    algorithm: Algorithm,
    digest: Digest,
    signature: Place,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timestamp: Option<Place>,
    template: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tolerance_seconds: Option<u32>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Algorithm {
    Sha1,
    Sha256,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Digest {
    Hex,
    Base64,
}

/// Where a value stands in a request.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Place {
    header: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parse_prefix: Option<String>,
}

impl Verification {
    /// Reads the settings as members write them. The secret is `None` where it shall stay as it is.
    pub fn parse(settings: &Value) -> Result<(Verification, Option<Secret>)> {
        let mut settings = settings.clone();
        let mut violations = Violations::new();
        let secret = match settings.as_object_mut().and_then(|settings| settings.remove("secret")) {
            None => None,
            Some(Value::String(secret)) if (1..=1024).contains(&secret.len()) => Some(Secret::new(secret)),
            Some(_) => {
                violations.add("/verification/secret", "secret must be text of 1 to 1024 bytes");
                None
            }
        };
        let read: Verification =
            serde_json::from_value(settings).map_err(|error| Error::invalid("/verification", error.to_string()))?;
        for (name, place) in [("signature", Some(&read.signature)), ("timestamp", read.timestamp.as_ref())] {
            if place.is_some_and(|place| HeaderName::from_bytes(place.header.as_bytes()).is_err()) {
                violations.add(format!("/verification/{name}/header"), "is not the name of a header");
            }
        }
        if !read.template.contains("[payload]") || read.template.len() > 1024 {
            violations.add("/verification/template", "the template must contain [payload] and have at most 1024 bytes");
        }
        if (read.template.contains("[timestamp]") || read.tolerance_seconds.is_some()) && read.timestamp.is_none() {
            violations.add("/verification/timestamp", "say where the timestamp stands");
        }
        violations.finish()?;
        Ok((read, secret))
    }

    /// Refuses a request whose signature is not that of its body and timestamp.
    pub fn check(&self, secret: &Secret, headers: &HeaderMap, body: &[u8], now: Time) -> Result<()> {
        let refused = |why: &str| Error::new(Code::InvalidSignature, why.to_owned());
        let signatures = self.signature.values(headers);
        if signatures.is_empty() {
            return Err(refused("the signature is missing"));
        }
        let timestamp = match &self.timestamp {
            None => None,
            Some(place) => {
                Some(place.values(headers).into_iter().next().ok_or_else(|| refused("the timestamp is missing"))?)
            }
        };
        let expected = self.sign(secret, timestamp.as_deref().unwrap_or_default(), body);
        // Every signature is compared, so that the time does not tell which one fits.
        let fits = signatures.iter().take(SIGNATURES).fold(false, |fits, signature| {
            let signature = match self.digest {
                Digest::Hex => signature.to_ascii_lowercase(),
                Digest::Base64 => signature.clone(),
            };
            same(signature.as_bytes(), expected.as_bytes()) | fits
        });
        if !fits {
            return Err(refused("the signature does not match"));
        }
        match (self.tolerance_seconds, timestamp) {
            (Some(tolerance), Some(text)) => {
                let at = instant(&text).ok_or_else(|| refused("the timestamp cannot be read"))?;
                let apart = now.as_millisecond().abs_diff(at.as_millisecond());
                if apart > u64::from(tolerance) * 1000 {
                    return Err(refused("the timestamp is too far from now"));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn sign(&self, secret: &Secret, timestamp: &str, body: &[u8]) -> String {
        let text = self.text(timestamp, body);
        let key = secret.expose().as_bytes();
        let signature = match self.algorithm {
            Algorithm::Sha1 => mac::<Hmac<Sha1>>(key, &text),
            Algorithm::Sha256 => mac::<Hmac<Sha256>>(key, &text),
        };
        match self.digest {
            Digest::Hex => hex::encode(signature),
            Digest::Base64 => STANDARD.encode(signature),
        }
    }

    /// The template with its tokens filled in, in one pass: what stands in a body is not a token.
    fn text(&self, timestamp: &str, body: &[u8]) -> Vec<u8> {
        let mut text = Vec::with_capacity(self.template.len() + body.len());
        for (place, part) in self.template.split("[payload]").enumerate() {
            if place > 0 {
                text.extend_from_slice(body);
            }
            text.extend_from_slice(part.replace("[timestamp]", timestamp).as_bytes());
        }
        text
    }
}

fn mac<M: Mac + KeyInit>(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = <M as KeyInit>::new_from_slice(key).unwrap_or_else(|_| unreachable!("any key length fits"));
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

/// Unix seconds, milliseconds, or RFC 3339.
fn instant(text: &str) -> Option<Time> {
    match text.parse::<i64>() {
        Ok(number) if number > LARGEST_SECONDS => Some(Time::from_millisecond(number)),
        Ok(number) => Some(Time::from_millisecond(number.checked_mul(1000)?)),
        Err(_) => Time::parse(text).ok(),
    }
}

impl Place {
    /// The values at this place: the whole header, or the parts of it that have the prefix.
    fn values(&self, headers: &HeaderMap) -> Vec<String> {
        let lines = headers.get_all(self.header.as_str()).into_iter().filter_map(|value| value.to_str().ok());
        match &self.parse_prefix {
            None => lines.map(str::to_owned).collect(),
            Some(prefix) => lines
                .flat_map(|line| line.split(','))
                .filter_map(|part| part.trim().strip_prefix(prefix.as_str()))
                .map(str::to_owned)
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stripe() -> Value {
        json!({ "secret": "whsec_test", "algorithm": "sha256", "digest": "hex",
            "signature": { "header": "stripe-signature", "parsePrefix": "v1=" },
            "timestamp": { "header": "stripe-signature", "parsePrefix": "t=" },
            "template": "[timestamp].[payload]" })
    }

    const SIGNED: &str = "t=1767225600,v1=fb465e799758e287e908328d741e57b33f728c2a64fc53e26cc50786a4770bf5";

    fn check(settings: &Value, name: &'static str, header: &[u8], body: &[u8], now: i64) -> bool {
        let (verification, secret) = Verification::parse(settings).unwrap();
        let mut headers = HeaderMap::new();
        let Ok(header) = http::HeaderValue::from_bytes(header) else { return false };
        headers.insert(name, header);
        verification.check(&secret.unwrap(), &headers, body, Time::from_millisecond(now * 1000)).is_ok()
    }

    fn stripe_accepts(header: &[u8], body: &[u8]) -> bool {
        check(&stripe(), "stripe-signature", header, body, 0)
    }

    #[test]
    fn the_vector_of_the_specification_is_accepted_and_every_other_byte_is_not() {
        let body = br#"{"ok":true}"#;
        assert!(stripe_accepts(SIGNED.as_bytes(), body));
        for place in 0..body.len() {
            let mut changed = body.to_vec();
            changed[place] ^= 1;
            assert!(!stripe_accepts(SIGNED.as_bytes(), &changed), "byte {place} of the body");
        }
        for place in 0..SIGNED.len() {
            let mut changed = SIGNED.as_bytes().to_vec();
            changed[place] ^= 1;
            assert!(!stripe_accepts(&changed, body), "byte {place} of the header");
        }
    }

    #[test]
    fn one_of_several_signatures_is_enough() {
        let rolled = SIGNED.replace("v1=", "v1=00, v1=");
        assert!(stripe_accepts(rolled.as_bytes(), br#"{"ok":true}"#));
        assert!(stripe_accepts(
            SIGNED.to_uppercase().replace("T=", "t=").replace("V1=", "v1=").as_bytes(),
            br#"{"ok":true}"#
        ));
    }

    #[test]
    fn a_timestamp_must_be_near_when_a_tolerance_says_so() {
        let mut settings = stripe();
        settings["toleranceSeconds"] = json!(300);
        for (now, fits) in
            [(1_767_225_600, true), (1_767_225_900, true), (1_767_225_901, false), (1_767_225_299, false)]
        {
            let found = check(&settings, "stripe-signature", SIGNED.as_bytes(), br#"{"ok":true}"#, now);
            assert_eq!(found, fits, "{now}");
        }
        assert_eq!(instant("1767225600000"), instant("1767225600"));
        assert_eq!(instant("2026-01-01T00:00:00Z"), instant("1767225600"));
        assert_eq!(instant("yesterday"), None);
    }

    #[test]
    fn tokens_in_a_body_are_not_tokens() {
        let (verification, _) = Verification::parse(&stripe()).unwrap();
        assert_eq!(verification.text("1", b"[timestamp][payload]"), b"1.[timestamp][payload]");
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let change = |key: &str, value: Value| {
            let mut settings = stripe();
            settings[key] = value;
            Verification::parse(&settings).map(drop).unwrap_err().violations()[0].pointer.clone().unwrap()
        };
        assert_eq!(change("secret", json!("")), "/verification/secret");
        assert_eq!(change("template", json!("[timestamp]")), "/verification/template");
        assert_eq!(change("timestamp", Value::Null), "/verification/timestamp");
        assert_eq!(change("signature", json!({ "header": "no header" })), "/verification/signature/header");
        assert_eq!(change("algorithm", json!("md5")), "/verification");
    }
}
