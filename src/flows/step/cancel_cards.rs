//! Cancels cards that the run has sent and that are still open.

use serde_json::Value;

use crate::error::Violations;
use crate::flows::fields::{Fields, join};

#[derive(Clone, Debug, PartialEq)]
pub enum CancelCards {
    /// Those of all steps of the run.
    All,
    /// Those of the *send card* steps with these keys.
    Steps(Vec<String>),
}

impl CancelCards {
    pub(super) fn parse(config: &Value, pointer: &str, violations: &mut Violations) -> Option<CancelCards> {
        let fields = Fields::open(config, pointer, violations)?;
        fields.only(&["steps"], violations);
        let at = fields.pointer("steps");
        match fields.required("steps", violations)? {
            Value::String(all) if all == "all" => Some(CancelCards::All),
            Value::Array(listed) if !listed.is_empty() => {
                let mut steps = Vec::with_capacity(listed.len());
                for (place, key) in listed.iter().enumerate() {
                    match key.as_str() {
                        Some(key) => steps.push(key.to_owned()),
                        None => violations.add(join(&at, place), "the key of a step is a string"),
                    }
                }
                Some(CancelCards::Steps(steps))
            }
            _ => {
                violations.add(at, "is `all` or a list of the keys of steps");
                None
            }
        }
    }
}
