//! Signs requests over the exact bytes sent, in the standard way and in the platform's own, through a rotation too.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue};

use crate::clock::Time;
use crate::error::{Error, Result};
use crate::ids::Ids;
use crate::secret::{Secret, hmac_sha256};

/// What generated secrets begin with.
const PREFIX: &str = "whsec_";

pub const ID_HEADER: &str = "webhook-id";
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";
pub const SIGNATURE_HEADER: &str = "webhook-signature";
/// The name of the platform's own header where an environment has not chosen another.
pub const OWN_HEADER: &str = "x-cardwire-signature";

/// How the own header writes its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Hex,
    Base64,
}

impl Encoding {
    /// Reads the word an environment stores.
    pub fn read(word: &str) -> Encoding {
        if word == "base64" { Encoding::Base64 } else { Encoding::Hex }
    }

    fn write(self, bytes: &[u8]) -> String {
        match self {
            Encoding::Hex => hex::encode(bytes),
            Encoding::Base64 => STANDARD.encode(bytes),
        }
    }
}

/// The secrets that sign now: during the overlap of a rotation there are two.
#[derive(Clone)]
pub struct Secrets {
    pub current: Secret,
    pub previous: Option<Secret>,
}

/// Everything needed to sign the requests of one subscription.
#[derive(Clone)]
pub struct Signer {
    pub secrets: Secrets,
    /// The name of the own header.
    pub header: String,
    pub encoding: Encoding,
}

impl Signer {
    /// The signature headers for one attempt.
    pub fn headers(&self, id: &str, at: Time, body: &[u8]) -> Result<Vec<(HeaderName, HeaderValue)>> {
        let timestamp = at.as_second().to_string();
        let Secrets { current, previous } = &self.secrets;
        let mut standard = standard(current, id, &timestamp, body);
        if let Some(previous) = previous {
            standard = format!("{standard} {}", self::standard(previous, id, &timestamp, body));
        }
        let mut headers = vec![
            header(ID_HEADER, id)?,
            header(TIMESTAMP_HEADER, &timestamp)?,
            header(SIGNATURE_HEADER, &standard)?,
            header(&self.header, &self.own(previous.as_ref().unwrap_or(current), body))?,
        ];
        if previous.is_some() {
            headers.push(header(&format!("{}-next", self.header), &self.own(current, body))?);
        }
        Ok(headers)
    }

    fn own(&self, secret: &Secret, body: &[u8]) -> String {
        self.encoding.write(&hmac_sha256(secret.expose().as_bytes(), &[body]))
    }
}

fn standard(secret: &Secret, id: &str, timestamp: &str, body: &[u8]) -> String {
    let parts = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body];
    format!("v1,{}", STANDARD.encode(hmac_sha256(&key(secret), &parts)))
}

/// The key of the standard signature: what the text after `whsec_` encodes, or an own secret's bytes.
fn key(secret: &Secret) -> Vec<u8> {
    let decoded = secret.expose().strip_prefix(PREFIX).and_then(|text| STANDARD.decode(text).ok());
    decoded.unwrap_or_else(|| secret.expose().as_bytes().to_vec())
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue)> {
    let name = HeaderName::try_from(name).map_err(Error::internal)?;
    Ok((name, HeaderValue::try_from(value).map_err(Error::internal)?))
}

/// Makes a new secret.
pub fn generate(ids: &Ids) -> Secret {
    Secret::new(format!("{PREFIX}{}", STANDARD.encode(ids.bytes::<32>())))
}

/// Checks a secret that a member chose.
pub fn check(text: &str) -> Result<Secret> {
    let length = text.chars().count();
    if !(24..=512).contains(&length) || text.chars().any(char::is_control) {
        return Err(Error::invalid("/secret", "secret must have 24 to 512 characters and no control characters"));
    }
    Ok(Secret::new(text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    const OWN: &str = "a secret of our own, rather long";
    const ID: &str = "evt_00000000000000000000000000";
    const BODY: &[u8] = br#"{"ok":true}"#;

    fn at() -> Time {
        Time::from_millisecond(1_767_225_600_000)
    }

    fn signer(current: &str, previous: Option<&str>) -> Signer {
        let secrets = Secrets { current: Secret::new(current), previous: previous.map(Secret::new) };
        Signer { secrets, header: OWN_HEADER.to_owned(), encoding: Encoding::Hex }
    }

    fn headers(signer: &Signer) -> Vec<(String, String)> {
        let text = |(name, value): (HeaderName, HeaderValue)| (name.to_string(), value.to_str().unwrap().to_owned());
        signer.headers(ID, at(), BODY).unwrap().into_iter().map(text).collect()
    }

    fn value(headers: &[(String, String)], name: &str) -> String {
        headers.iter().find(|(known, _)| known == name).unwrap().1.clone()
    }

    #[test]
    fn the_vector_of_the_specification() {
        let headers = headers(&signer(SECRET, None));
        assert_eq!(
            headers,
            [
                ("webhook-id", ID),
                ("webhook-timestamp", "1767225600"),
                ("webhook-signature", "v1,tnr9MtQAa9hRwT1HTbc+TZHeB9vXBuEmFTcx4EiE/sU="),
                ("x-cardwire-signature", "14961ab7cb5b1129f92889c5b1cfcc88415422daa8bd800221331419fbc66cdd"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }

    #[test]
    fn in_a_rotation_both_secrets_sign_and_no_check_breaks() {
        let old = headers(&signer(SECRET, None));
        let new = headers(&signer(OWN, None));
        let both = headers(&signer(OWN, Some(SECRET)));
        let expected = format!("{} {}", value(&new, SIGNATURE_HEADER), value(&old, SIGNATURE_HEADER));
        assert_eq!(value(&both, SIGNATURE_HEADER), expected);
        assert_eq!(value(&both, OWN_HEADER), value(&old, OWN_HEADER));
        assert_eq!(value(&both, "x-cardwire-signature-next"), value(&new, OWN_HEADER));
    }

    #[test]
    fn an_environment_chooses_name_and_encoding() {
        let signer = Signer { header: "x-acme".to_owned(), encoding: Encoding::Base64, ..signer(SECRET, Some(OWN)) };
        let headers = headers(&signer);
        assert_eq!(STANDARD.decode(value(&headers, "x-acme")).unwrap().len(), 32);
        assert!(headers.iter().any(|(name, _)| name == "x-acme-next"));
    }

    #[test]
    fn generated_and_own_secrets() {
        let secret = generate(&Ids::seeded(1));
        assert_eq!(key(&secret).len(), 32);
        assert_eq!(key(&Secret::new("whsec_not base64 at all!")), b"whsec_not base64 at all!");
        assert!(check(&"x".repeat(24)).is_ok());
        for bad in ["too short", &"x".repeat(513), "a control character \u{0} in it"] {
            assert_eq!(check(bad).unwrap_err().violations()[0].pointer.as_deref(), Some("/secret"));
        }
    }

    proptest! {
        /// A reader of the header finds one signature per secret, and none that another body or time would have.
        #[test]
        fn signatures_can_be_read_and_bind_what_they_cover(
            secret in "whsec_[A-Za-z0-9+/]{0,44}={0,2}|[ -~]{24,60}",
            body in proptest::collection::vec(any::<u8>(), 0..200),
            millis in 0_i64..4_000_000_000_000,
            rotating in any::<bool>(),
        ) {
            let signer = signer(&secret, rotating.then_some(OWN));
            let read = |body: &[u8], millis: i64| {
                let headers = signer.headers(ID, Time::from_millisecond(millis), body).unwrap();
                let (_, value) = headers.iter().find(|(name, _)| name == SIGNATURE_HEADER).unwrap();
                value.to_str().unwrap().split(' ').map(|one| {
                    let encoded = one.strip_prefix("v1,").unwrap();
                    STANDARD.decode(encoded).unwrap()
                }).collect::<Vec<_>>()
            };
            let signatures = read(&body, millis);
            prop_assert_eq!(signatures.len(), 1 + usize::from(rotating));
            prop_assert!(signatures.iter().all(|signature| signature.len() == 32));
            prop_assert_ne!(&read(&[&body[..], b" "].concat(), millis), &signatures);
            prop_assert_ne!(&read(&body, millis + 1000), &signatures);
        }
    }
}
