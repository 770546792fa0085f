//! Secrets: sealed with AEAD where they must be read back, hashed where they must only be recognised.
//!
//! Nothing here has a `Debug` that shows anything.

use std::fmt;

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::error::{Error, Result};
use crate::ids::Ids;

/// Text that must not be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself. Every call is a place to look at in review.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Holds the master key; seals, opens, and derives keys for one purpose each.
#[derive(Clone)]
pub struct Vault {
    master: [u8; 32],
}

impl Vault {
    const NONCE: usize = 12;

    pub fn new(master: [u8; 32]) -> Vault {
        Vault { master }
    }

    /// Reads a master key: 32 bytes in base64.
    pub fn parse_key(text: &str) -> Option<[u8; 32]> {
        STANDARD.decode(text.trim()).ok()?.try_into().ok()
    }

    /// Encrypts a secret for a column. `purpose` is bound to the text, so that it opens nowhere else.
    pub fn seal(&self, ids: &Ids, purpose: &str, secret: &Secret) -> Result<Vec<u8>> {
        let nonce = ids.bytes::<{ Vault::NONCE }>();
        let payload = Payload { msg: secret.expose().as_bytes(), aad: purpose.as_bytes() };
        let sealed =
            self.cipher()?.encrypt(&Nonce::from(nonce), payload).map_err(|_| Error::internal("sealing failed"))?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// Decrypts what [`Vault::seal`] made for the same purpose.
    pub fn open(&self, purpose: &str, sealed: &[u8]) -> Result<Secret> {
        let broken = || Error::internal(format!("a sealed {purpose} does not open: was the master key changed?"));
        let (nonce, text) = sealed.split_at_checked(Vault::NONCE).ok_or_else(broken)?;
        let nonce: [u8; Vault::NONCE] = nonce.try_into().map_err(|_| broken())?;
        let payload = Payload { msg: text, aad: purpose.as_bytes() };
        let plain = self.cipher()?.decrypt(&Nonce::from(nonce), payload).map_err(|_| broken())?;
        String::from_utf8(plain).map(Secret).map_err(|_| broken())
    }

    /// A key for one purpose, for signing what the server itself will verify.
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        hmac_sha256(&self.master, &[b"cardwire:", purpose.as_bytes()])
    }

    fn cipher(&self) -> Result<Aes256Gcm> {
        Aes256Gcm::new_from_slice(&self.derive("seal"))
            .map_err(|_| Error::internal("the sealing key has a wrong length"))
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault(…)")
    }
}

/// HMAC-SHA256 over the parts in order.
pub fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac =
        <Hmac<Sha256> as KeyInit>::new_from_slice(key).unwrap_or_else(|_| unreachable!("any key length fits"));
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// A hash by which a random token or secret is recognised. Not for passwords.
pub fn token_hash(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}

/// 32 random bytes as unpadded base64url: tokens and client secrets.
pub fn random_token(ids: &Ids) -> Secret {
    Secret(URL_SAFE_NO_PAD.encode(ids.bytes::<32>()))
}

/// Compares without telling where the difference lies.
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_for_its_purpose_only() {
        let vault = Vault::new([7; 32]);
        let sealed = vault.seal(&Ids::random(), "webhook secret", &Secret::new("whsec_x")).unwrap();
        assert_eq!(vault.open("webhook secret", &sealed).unwrap().expose(), "whsec_x");
        assert!(vault.open("push key", &sealed).is_err());
        assert!(Vault::new([8; 32]).open("webhook secret", &sealed).is_err());
        assert!(vault.open("webhook secret", &sealed[..5]).is_err());
    }

    #[test]
    fn nothing_secret_is_printed() {
        assert_eq!(format!("{:?} {:?}", Secret::new("x"), Vault::new([0; 32])), "Secret(…) Vault(…)");
    }
}
