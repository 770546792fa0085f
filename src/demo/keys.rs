//! The key pair of the demo's app owner.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use pem::{EncodeConfig, LineEnding, Pem};
use serde_json::json;

use crate::clock::Time;
use crate::error::{Error, Result};

/// Both halves in PEM.
pub struct Pair {
    pub private: String,
    pub public: String,
}

/// Makes a P-256 key pair.
pub fn generate() -> Result<Pair> {
    let broken = |_| Error::internal("no key could be made");
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(broken)?;
    let private = pair.to_pkcs8v1().map_err(broken)?;
    let public = pair.public_key().as_der().map_err(broken)?;
    let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
    Ok(Pair {
        private: pem::encode_config(&Pem::new("PRIVATE KEY", private.as_ref()), config),
        public: pem::encode_config(&Pem::new("PUBLIC KEY", public.as_ref()), config),
    })
}

/// Signs a token for a customer, as the backend of an app would after its own sign-in.
pub fn token(private: &str, customer: &str, now: Time) -> Result<String> {
    const DAYS: i64 = 6;
    let claims = json!({ "sub": customer, "iat": now.as_second(), "exp": now.as_second() + DAYS * 24 * 3600 });
    let key = EncodingKey::from_ec_pem(private.as_bytes()).map_err(Error::internal)?;
    jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &key).map_err(Error::internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_token_is_verified_by_the_public_half() {
        let pair = generate().unwrap();
        let token = token(&pair.private, "user-123", Time::from_millisecond(4_000_000_000_000)).unwrap();
        let key = jsonwebtoken::DecodingKey::from_ec_pem(pair.public.as_bytes()).unwrap();
        let validation = jsonwebtoken::Validation::new(Algorithm::ES256);
        let claims = jsonwebtoken::decode::<serde_json::Value>(&token, &key, &validation).unwrap().claims;
        assert_eq!(claims["sub"], "user-123");
    }
}
