//! The names events may have, and who makes each of them.

/// Who makes an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The server, when something changed.
    Platform,
    /// An SDK, which reports what it saw.
    Sdk,
}

use Origin::{Platform, Sdk};

/// Every standard event name.
pub const CATALOGUE: &[(&str, Origin)] = &[
    ("card-published", Platform),
    ("card-embargoed", Platform),
    ("card-snoozed", Platform),
    ("card-unsnoozed", Platform),
    ("card-completed", Platform),
    ("card-dismissed", Platform),
    ("card-expired", Platform),
    ("card-cancelled", Platform),
    ("card-error", Platform),
    ("card-updated", Platform),
    ("card-voted-up", Platform),
    ("card-voted-down", Platform),
    ("card-displayed", Sdk),
    ("card-subview-displayed", Sdk),
    ("card-subview-exited", Sdk),
    ("runtime-vars-updated", Sdk),
    ("stream-displayed", Sdk),
    ("user-redirected", Sdk),
    ("snooze-options-displayed", Sdk),
    ("snooze-options-canceled", Sdk),
    ("video-played", Sdk),
    ("video-completed", Sdk),
    ("sdk-initialized", Sdk),
    ("request-failed", Sdk),
    ("notification-received", Sdk),
    ("notification-sent", Platform),
    ("notification-failed", Platform),
    ("notification-suppressed", Platform),
    ("action-flow-started", Platform),
    ("action-flow-completed", Platform),
    ("action-flow-failed", Platform),
    ("action-flow-cancelled", Platform),
    ("action-flow-step-completed", Platform),
    ("action-flow-step-failed", Platform),
    ("segment-entered", Platform),
    ("segment-exited", Platform),
];

/// What stands before the name of a custom event where standard names may stand too.
pub const CUSTOM: &str = "custom:";

/// Who makes events of a standard name. `None`: no such name.
pub fn origin(name: &str) -> Option<Origin> {
    CATALOGUE.iter().find(|(known, _)| *known == name).map(|(_, origin)| *origin)
}

/// Tells whether `name` may name a custom event: 1 to 128 characters, not a standard name.
pub fn custom_name(name: &str) -> bool {
    let length = name.chars().count();
    (1..=128).contains(&length) && !name.chars().any(char::is_control) && origin(name).is_none()
}

/// Tells whether a subscription may ask for this type: a standard name, or `custom:` and a custom one.
pub fn subscribable(kind: &str) -> bool {
    match kind.strip_prefix(CUSTOM) {
        Some(name) => custom_name(name),
        None => origin(kind).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        for kind in ["card-published", "stream-displayed", "custom:order paid", "custom:custom:x"] {
            assert!(subscribable(kind), "{kind}");
        }
        let long = format!("custom:{}", "x".repeat(129));
        for kind in ["", "card-publish", "Card-Published", "order paid", "custom:", "custom:card-published", "custom:a\u{7}b", &long] {
            assert!(!subscribable(kind), "{kind}");
        }
    }

    #[test]
    fn names_are_unique() {
        let names: std::collections::HashSet<_> = CATALOGUE.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), CATALOGUE.len());
    }
}
