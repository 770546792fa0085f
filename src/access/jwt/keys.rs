//! The public keys that may sign customers' tokens.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde_json::Value;

use super::refused;
use crate::error::{Error, Result, Violations};

/// One PEM key, or a set in which a token's `kid` chooses.
#[derive(Debug)]
pub(crate) enum Keys {
    Single(Key),
    Set(Vec<Key>),
}

#[derive(Debug)]
pub(crate) struct Key {
    id: Option<String>,
    algorithms: &'static [Algorithm],
    key: DecodingKey,
}

const RSA: &[Algorithm] =
    &[Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];
const P256: &[Algorithm] = &[Algorithm::ES256];
const P384: &[Algorithm] = &[Algorithm::ES384];
const ED25519: &[Algorithm] = &[Algorithm::EdDSA];

/// The size of a PKCS#1 public key of just under 2,048 bits, the least the verifier accepts.
const SMALLEST_RSA_DER: usize = 260;
const MOST_KEYS: usize = 50;

impl Keys {
    /// Reads one public key in PEM.
    pub(crate) fn from_pem(pem: &str) -> Result<Keys> {
        let wrong =
            || Error::invalid("", "is not a PEM public key of RSA (2048 bits or more), P-256, P-384 or Ed25519");
        if pem.contains("PRIVATE KEY") {
            return Err(Error::invalid("", "is a private key; only the public key belongs here"));
        }
        if !pem.contains("-----BEGIN PUBLIC KEY-----") && !pem.contains("-----BEGIN RSA PUBLIC KEY-----") {
            return Err(wrong());
        }
        let bytes = pem.trim().as_bytes();
        let key = DecodingKey::from_rsa_pem(bytes)
            .or_else(|_| DecodingKey::from_ec_pem(bytes))
            .or_else(|_| DecodingKey::from_ed_pem(bytes))
            .map_err(|_| wrong())?;
        let length = key.try_get_as_bytes().map_or(0, <[u8]>::len);
        let algorithms = match (key.family(), length) {
            (AlgorithmFamily::Rsa, SMALLEST_RSA_DER..) => RSA,
            (AlgorithmFamily::Ec, 65) => P256,
            (AlgorithmFamily::Ec, 97) => P384,
            (AlgorithmFamily::Ed, 32) => ED25519,
            _ => return Err(wrong()),
        };
        Ok(Keys::Single(Key { id: None, algorithms, key }))
    }

    /// Reads a set that a member wrote: every key must be usable, and pointers say which is not.
    pub(crate) fn from_inline_set(set: &Value) -> Result<Keys> {
        let listed = listed(set)?;
        let mut violations = Violations::new();
        let mut keys = Vec::new();
        for (index, jwk) in listed.iter().enumerate() {
            keys.extend(violations.check(read(jwk).map_err(|error| error.at(format!("/keys/{index}")))));
        }
        violations.finish()?;
        Ok(Keys::Set(keys))
    }

    /// Reads a set that somebody else publishes: keys for other purposes are passed over.
    pub(crate) fn from_published_set(set: &Value) -> Result<Keys> {
        let keys: Vec<Key> = listed(set)?.iter().filter_map(|jwk| read(jwk).ok()).collect();
        if keys.is_empty() {
            return Err(Error::invalid("/keys", "holds no key we can use"));
        }
        Ok(Keys::Set(keys))
    }

    pub(crate) fn knows(&self, id: &str) -> bool {
        match self {
            Keys::Single(_) => true,
            Keys::Set(keys) => keys.iter().any(|key| key.id.as_deref() == Some(id)),
        }
    }

    /// The key for a token of this algorithm and `kid`. In a set of several keys the token must name one.
    pub(super) fn select(&self, algorithm: Algorithm, id: Option<&str>) -> Result<&DecodingKey> {
        let key = match (self, id) {
            (Keys::Single(key), _) => Some(key),
            (Keys::Set(keys), Some(id)) => keys.iter().find(|key| key.id.as_deref() == Some(id)),
            (Keys::Set(keys), None) => match keys.as_slice() {
                [only] => Some(only),
                _ => None,
            },
        };
        let key = key.ok_or_else(|| refused("no key of the API key's set has the kid of the token"))?;
        if !key.algorithms.contains(&algorithm) {
            return Err(refused("the token's algorithm does not fit the key"));
        }
        Ok(&key.key)
    }
}

fn listed(set: &Value) -> Result<&Vec<Value>> {
    let keys =
        set.get("keys").and_then(Value::as_array).ok_or_else(|| Error::invalid("/keys", "must be a list of keys"))?;
    if keys.is_empty() || keys.len() > MOST_KEYS {
        return Err(Error::invalid("/keys", format!("must hold 1 to {MOST_KEYS} keys")));
    }
    Ok(keys)
}

fn read(value: &Value) -> Result<Key> {
    let wrong = |detail: &str| Error::invalid("", detail);
    if value.get("d").is_some() || value.get("k").is_some() {
        return Err(wrong("holds private or symmetric material; only public keys belong here"));
    }
    let jwk: Jwk = serde_json::from_value(value.clone()).map_err(|_| wrong("is not a JSON Web Key we know"))?;
    if jwk.common.public_key_use.as_ref().is_some_and(|purpose| *purpose != PublicKeyUse::Signature) {
        return Err(wrong("is not a key for signatures"));
    }
    let family = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => RSA,
        AlgorithmParameters::EllipticCurve(parameters) => match parameters.curve {
            EllipticCurve::P256 => P256,
            EllipticCurve::P384 => P384,
            _ => return Err(wrong("uses a curve that is not P-256 or P-384")),
        },
        AlgorithmParameters::OctetKeyPair(parameters) if parameters.curve == EllipticCurve::Ed25519 => ED25519,
        _ => return Err(wrong("is not an RSA, P-256, P-384 or Ed25519 key")),
    };
    let algorithms = match jwk.common.key_algorithm {
        None => family,
        Some(named) => family
            .iter()
            .position(|algorithm| named.to_string() == format!("{algorithm:?}"))
            .and_then(|at| family.get(at..=at))
            .ok_or_else(|| wrong("names an algorithm that does not fit the key"))?,
    };
    let key = DecodingKey::from_jwk(&jwk).map_err(|_| wrong("holds a part that is not base64url"))?;
    Ok(Key { id: jwk.common.key_id, algorithms, key })
}
