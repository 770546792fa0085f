//! Changes the customer's profile.

use serde_json::{Map, Value};

use super::check_templates;
use crate::customers::profile::CORE_FIELDS;
use crate::error::Violations;
use crate::flows::fields::{Fields, join};

#[derive(Clone, Debug, PartialEq)]
pub struct UpdateCustomer {
    /// Fields and what they become: text with expressions, or null, which clears.
    pub profile: Map<String, Value>,
}

impl UpdateCustomer {
    pub(super) fn parse(config: &Value, pointer: &str, violations: &mut Violations) -> Option<UpdateCustomer> {
        let fields = Fields::open(config, pointer, violations)?;
        fields.only(&["profile", "addTags", "removeTags"], violations);
        for name in ["addTags", "removeTags"] {
            if fields.list(name, violations).is_some_and(|names| !names.is_empty()) {
                violations.add(fields.pointer(name), "a flow cannot change tags yet");
            }
        }
        fields.required("profile", violations);
        // Fields::object takes null for absent; a null in the profile clears a field.
        let profile = fields.object("profile", violations)?;
        if profile.is_empty() {
            violations.add(fields.pointer("profile"), "names a field to change");
        }
        for (name, value) in profile {
            let pointer = join(&fields.pointer("profile"), name);
            if !CORE_FIELDS.contains(&name.as_str()) {
                violations.add(pointer, "is not a field of customers that a flow can change");
            } else if !value.is_string() && !value.is_null() {
                violations.add(pointer, "must be a text or null");
            } else {
                check_templates(value, &pointer, violations);
            }
        }
        Some(UpdateCustomer { profile: profile.clone() })
    }
}
