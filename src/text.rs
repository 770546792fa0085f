//! Rules for text that callers choose: names, ids, JSON depth.

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// The deepest JSON that is read.
pub const JSON_DEPTH: usize = 32;

/// The most characters a customer's id may have.
pub const LONGEST_USER_ID: usize = 256;

/// Writes a property name as one token of a JSON Pointer.
pub fn pointer_token(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// Tells whether a text of the JSON holds U+0000, which Postgres keeps in none.
pub fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        Value::Object(fields) => names_or_values_hold_nul(fields),
        _ => false,
    }
}

fn names_or_values_hold_nul(fields: &Map<String, Value>) -> bool {
    fields.iter().any(|(name, value)| name.contains('\0') || holds_nul(value))
}

/// Refuses an object in which a text holds U+0000.
pub fn object_without_nul(fields: &Map<String, Value>, pointer: &str) -> Result<()> {
    if names_or_values_hold_nul(fields) {
        return Err(Error::invalid(pointer, "holds the character U+0000, which cannot be kept"));
    }
    Ok(())
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

/// Checks a name of an object: 1–256 characters, no control characters, not only spaces.
pub fn object_name(name: &str, pointer: &str) -> Result<()> {
    if name.trim().is_empty() {
        return Err(Error::invalid(pointer, "a name is required"));
    }
    if name.chars().count() > 256 || name.chars().any(char::is_control) {
        return Err(Error::invalid(pointer, "a name has at most 256 characters and no control characters"));
    }
    Ok(())
}

/// Tells whether `name` is a name of a variable, field or input: `[A-Za-z_][A-Za-z0-9_.-]{0,127}`.
pub fn identifier(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= 128
        && bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

/// The pattern of names that contain `part`, for `ILIKE`.
pub fn containing(part: &str) -> String {
    let escaped = part.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    format!("%{escaped}%")
}

/// Refuses JSON that is nested deeper than [`JSON_DEPTH`].
pub fn shallow(value: &Value, pointer: &str) -> Result<()> {
    fn fits(value: &Value, left: usize) -> bool {
        match value {
            Value::Array(items) => left > 0 && items.iter().all(|item| fits(item, left - 1)),
            Value::Object(fields) => left > 0 && fields.values().all(|field| fits(field, left - 1)),
            _ => true,
        }
    }
    if fits(value, JSON_DEPTH) {
        Ok(())
    } else {
        Err(Error::invalid(pointer, format!("JSON may be nested at most {JSON_DEPTH} deep")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers() {
        for (name, fits) in
            [("amount", true), ("_a.b-c", true), ("1a", false), ("", false), ("a b", false), ("ä", false)]
        {
            assert_eq!(identifier(name), fits, "{name}");
        }
        assert!(identifier(&"a".repeat(128)) && !identifier(&"a".repeat(129)));
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| (0..depth).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
        assert!(shallow(&nested(JSON_DEPTH), "").is_ok());
        assert!(shallow(&nested(JSON_DEPTH + 1), "").is_err());
    }

    #[test]
    fn patterns_take_every_character_literally() {
        assert_eq!(containing(r"50%_\"), r"%50\%\_\\%");
    }

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
