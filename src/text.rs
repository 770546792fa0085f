//! Text rules shared by names, ids and templates.

use crate::error::{Error, Result};

/// The most characters a customer's id may have.
pub const LONGEST_USER_ID: usize = 256;

/// Writes a property name as one token of a JSON Pointer.
pub fn pointer_token(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// Checks a customer's id as callers write it: 1–256 characters, none of them a control character.
pub fn check_user_id(id: &str) -> Result<()> {
    let length = id.chars().count();
    if length == 0 || length > LONGEST_USER_ID {
        return Err(Error::invalid("", format!("a user id has 1 to {LONGEST_USER_ID} characters")));
    }
    if id.chars().any(char::is_control) {
        return Err(Error::invalid("", "a user id has no control characters"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointer_tokens_are_escaped() {
        assert_eq!(pointer_token("a/b~c"), "a~1b~0c");
    }

    #[test]
    fn user_ids_are_almost_any_text() {
        for id in ["user-123", "ana@example.com", "用户", &"x".repeat(256)] {
            check_user_id(id).unwrap();
        }
        for id in ["", "a\u{0}b", "a\nb", "\u{85}", &"x".repeat(257)] {
            assert!(check_user_id(id).is_err(), "{id:?}");
        }
    }
}
