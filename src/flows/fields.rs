//! Reads a JSON document property by property and remembers every violation with its pointer.

use serde_json::{Map, Value};

use crate::error::Violations;
use crate::text::pointer_token;

/// The properties of one JSON object. Null counts as absent.
pub(super) struct Fields<'a> {
    map: &'a Map<String, Value>,
    pointer: String,
}

impl<'a> Fields<'a> {
    /// Opens an object; anything else is a violation.
    pub fn open(value: &'a Value, pointer: impl Into<String>, violations: &mut Violations) -> Option<Fields<'a>> {
        let pointer = pointer.into();
        let Some(map) = value.as_object() else {
            violations.add(pointer, "must be an object");
            return None;
        };
        Some(Fields { map, pointer })
    }

    /// The pointer of a property.
    pub fn pointer(&self, name: &str) -> String {
        join(&self.pointer, name)
    }

    pub fn value(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// A property that must be there.
    pub fn required(&self, name: &str, violations: &mut Violations) -> Option<&'a Value> {
        let value = self.value(name);
        if value.is_none() {
            violations.add(self.pointer(name), format!("{name} is required"));
        }
        value
    }

    pub fn text(&self, name: &str, violations: &mut Violations) -> Option<&'a str> {
        let value = self.value(name)?;
        if value.as_str().is_none() {
            violations.add(self.pointer(name), format!("{name} must be a string"));
        }
        value.as_str()
    }

    pub fn required_text(&self, name: &str, violations: &mut Violations) -> Option<&'a str> {
        self.required(name, violations)?;
        self.text(name, violations)
    }

    pub fn list(&self, name: &str, violations: &mut Violations) -> Option<&'a Vec<Value>> {
        let value = self.value(name)?;
        if !value.is_array() {
            violations.add(self.pointer(name), format!("{name} must be an array"));
        }
        value.as_array()
    }

    pub fn object(&self, name: &str, violations: &mut Violations) -> Option<&'a Map<String, Value>> {
        let value = self.value(name)?;
        if !value.is_object() {
            violations.add(self.pointer(name), format!("{name} must be an object"));
        }
        value.as_object()
    }

    pub fn truth(&self, name: &str, violations: &mut Violations) -> Option<bool> {
        let value = self.value(name)?;
        if !value.is_boolean() {
            violations.add(self.pointer(name), format!("{name} must be true or false"));
        }
        value.as_bool()
    }

    /// Refuses every property that is not in the list.
    pub fn only(&self, known: &[&str], violations: &mut Violations) {
        for name in self.map.keys().filter(|name| !known.contains(&name.as_str())) {
            violations.add(self.pointer(name), format!("unknown property `{name}`"));
        }
    }
}

/// Appends a property name or index to a JSON Pointer.
pub(super) fn join(pointer: &str, name: impl std::fmt::Display) -> String {
    format!("{pointer}/{}", pointer_token(&name.to_string()))
}
