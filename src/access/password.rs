//! Passwords of members: Argon2id, off the request threads.

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use tokio::sync::Semaphore;

use crate::error::{Error, Result};

/// The shortest password a member may choose, in characters (§3.2).
pub const SHORTEST: usize = 12;
const LONGEST: usize = 1024;

/// Each computation takes 19 MiB; this many may run at once, the rest wait.
static ROOM: Semaphore = Semaphore::const_new(4);

/// Verified when nobody has the given address, so that an unknown address takes as long as a wrong password.
const DECOY: &str = "$argon2id$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$0KcDjgFzyqJwV3Tr8QVvAv9Cn7yTZkLJIWLJv5JxUKE";

/// Refuses a password that is too short or absurdly long.
pub(crate) fn check(password: &str) -> Result<()> {
    let length = password.chars().count();
    if length < SHORTEST {
        return Err(Error::invalid("", format!("the password needs at least {SHORTEST} characters")));
    }
    if length > LONGEST {
        return Err(Error::invalid("", format!("the password has more than {LONGEST} characters")));
    }
    Ok(())
}

/// Hashes a password into a PHC string.
pub(crate) async fn hash(password: &str, salt: [u8; 16]) -> Result<String> {
    let password = password.to_owned();
    computed(move || {
        Argon2::default()
            .hash_password_with_salt(password.as_bytes(), &salt)
            .map(|hash| hash.to_string())
            .map_err(|error| Error::internal(error.to_string()))
    })
    .await?
}

/// Whether the password belongs to the hash. Without a hash the work is done all the same, and the answer is no.
pub(crate) async fn matches(password: &str, hash: Option<&str>) -> Result<bool> {
    if password.len() > 4 * LONGEST {
        return Ok(false);
    }
    let password = password.to_owned();
    let known = hash.is_some();
    let hash = hash.unwrap_or(DECOY).to_owned();
    let matches = computed(move || {
        let hash = PasswordHash::new(&hash).map_err(|error| Error::internal(error.to_string()))?;
        Ok::<_, Error>(Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
    })
    .await??;
    Ok(matches && known)
}

async fn computed<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let _room = ROOM.acquire().await.map_err(Error::internal)?;
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_matches() {
        let hashed = hash("correct horse battery", [7; 16]).await.unwrap();
        assert!(hashed.starts_with("$argon2id$v=19$"));
        assert!(matches("correct horse battery", Some(&hashed)).await.unwrap());
        assert!(!matches("correct horse batterY", Some(&hashed)).await.unwrap());
        assert!(!matches("correct horse battery", None).await.unwrap());
    }

    #[test]
    fn short_and_endless_passwords_are_refused() {
        assert!(check("elevenchars").is_err());
        assert!(check("twelve chars").is_ok());
        assert!(check("zwölf zeiche").is_ok());
        assert!(check(&"x".repeat(LONGEST + 1)).is_err());
    }
}
