//! Rules for text that callers choose: names, ids, JSON depth.

use serde_json::Value;

use crate::error::{Error, Result};

/// The deepest JSON that is read.
pub const JSON_DEPTH: usize = 32;

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

/// Checks an id that the caller chose: 1–256 characters without control characters.
pub fn external_id(id: &str, pointer: &str) -> Result<()> {
    let length = id.chars().count();
    if length == 0 || length > 256 || id.chars().any(char::is_control) {
        return Err(Error::invalid(pointer, "an id has 1 to 256 characters and no control characters"));
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

/// Escapes one token of a JSON Pointer.
pub fn pointer_token(token: &str) -> String {
    token.replace('~', "~0").replace('/', "~1")
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
}
