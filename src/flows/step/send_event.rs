//! Records a custom event of the customer.

use serde_json::{Map, Value};

use super::check_templates;
use crate::error::Violations;
use crate::events::names;
use crate::flows::fields::Fields;

/// The most characters of the name of a custom event.
const LONGEST_NAME: usize = 128;

#[derive(Clone, Debug, PartialEq)]
pub struct SendEvent {
    pub name: String,
    /// Texts in it are templates.
    pub properties: Map<String, Value>,
}

impl SendEvent {
    pub(super) fn parse(config: &Value, pointer: &str, violations: &mut Violations) -> Option<SendEvent> {
        let fields = Fields::open(config, pointer, violations)?;
        fields.only(&["eventName", "properties"], violations);
        let name = fields.required_text("eventName", violations);
        if let Some(name) = name {
            if name.is_empty() || name.chars().count() > LONGEST_NAME || name.contains(char::is_control) {
                let rule = format!("the name of an event has 1 to {LONGEST_NAME} characters, none of them control");
                violations.add(fields.pointer("eventName"), rule);
            } else if names::standard(name) {
                violations.add(fields.pointer("eventName"), "is the name of a standard event");
            }
        }
        let properties = fields.object("properties", violations).cloned().unwrap_or_default();
        check_templates(&Value::Object(properties.clone()), &fields.pointer("properties"), violations);
        Some(SendEvent { name: name?.to_owned(), properties })
    }
}
