//! Which events can be asked for: standard names, and custom ones behind a prefix.

use super::names;

/// What stands before the name of a custom event where standard names may stand too.
pub const CUSTOM: &str = "custom:";

/// Tells whether `name` may name a custom event: 1 to 128 characters, not a standard name.
pub fn custom_name(name: &str) -> bool {
    let length = name.chars().count();
    (1..=128).contains(&length) && !name.chars().any(char::is_control) && !names::standard(name)
}

/// Tells whether this is a type of event: a standard name, or `custom:` and a custom one.
pub fn known(kind: &str) -> bool {
    kind.strip_prefix(CUSTOM).map_or_else(|| names::standard(kind), custom_name)
}

/// The type of an event, as subscriptions name it.
pub fn of(name: &str, custom: bool) -> std::borrow::Cow<'_, str> {
    if custom { format!("{CUSTOM}{name}").into() } else { name.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        for kind in ["card-published", "stream-displayed", "custom:order paid", "custom:custom:x"] {
            assert!(known(kind), "{kind}");
        }
        let long = format!("custom:{}", "x".repeat(129));
        for kind in [
            "",
            "card-publish",
            "Card-Published",
            "order paid",
            "custom:",
            "custom:card-published",
            "custom:a\u{7}b",
            &long,
        ] {
            assert!(!known(kind), "{kind}");
        }
    }

    #[test]
    fn names_are_unique() {
        let all: Vec<_> = names::SERVER.iter().chain(names::SDK).collect();
        assert_eq!(all.iter().collect::<std::collections::HashSet<_>>().len(), all.len());
        assert_eq!(all.len(), 36);
    }
}
