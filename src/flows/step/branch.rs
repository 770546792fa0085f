//! Goes on along the first path whose condition holds.

use serde_json::Value;

use crate::cards::render;
use crate::clock::Time;
use crate::error::{Result, Violations};
use crate::flows::condition::Condition;
use crate::flows::fields::{Fields, join};

/// The path that is taken when no condition holds.
const DEFAULT_PATH: &str = "default";
/// The most conditions of one branch.
const CONDITIONS: usize = 50;

#[derive(Clone, Debug, PartialEq)]
pub struct Branch {
    /// Path and condition; the first that holds decides.
    conditions: Vec<(String, Condition)>,
}

impl Branch {
    pub(super) fn parse(config: &Value, pointer: &str, violations: &mut Violations) -> Option<Branch> {
        let fields = Fields::open(config, pointer, violations)?;
        fields.only(&["conditions"], violations);
        fields.required("conditions", violations)?;
        let listed = fields.list("conditions", violations)?;
        if listed.is_empty() || listed.len() > CONDITIONS {
            violations.add(fields.pointer("conditions"), format!("a branch has 1 to {CONDITIONS} conditions"));
            return None;
        }
        let mut conditions: Vec<(String, Condition)> = Vec::with_capacity(listed.len());
        let mut whole = true;
        for (place, value) in listed.iter().enumerate() {
            let at = join(&fields.pointer("conditions"), place);
            match read(value, at, violations) {
                Some((path, condition)) => {
                    if conditions.iter().any(|(other, _)| *other == path) {
                        let pointer = format!("{}/{place}/path", fields.pointer("conditions"));
                        violations.add(pointer, format!("an earlier condition leads to `{path}`"));
                    }
                    conditions.push((path, condition));
                }
                None => whole = false,
            }
        }
        whole.then_some(Branch { conditions })
    }

    /// The names of the paths, `default` last.
    pub fn paths(&self) -> Vec<&str> {
        self.conditions.iter().map(|(path, _)| path.as_str()).chain([DEFAULT_PATH]).collect()
    }

    /// The path to take for what `context` holds.
    pub fn decide(&self, context: &render::Context, now: Time) -> Result<&str> {
        for (path, condition) in &self.conditions {
            if condition.holds(context, now)? {
                return Ok(path);
            }
        }
        Ok(DEFAULT_PATH)
    }
}

fn read(value: &Value, pointer: String, violations: &mut Violations) -> Option<(String, Condition)> {
    let fields = Fields::open(value, pointer, violations)?;
    fields.only(&["path", "if"], violations);
    let path = fields.required_text("path", violations);
    if path == Some(DEFAULT_PATH) || path.is_some_and(|path| path.is_empty() || path.len() > 64) {
        violations.add(fields.pointer("path"), "a path has a name of at most 64 bytes other than `default`");
    }
    let condition = fields.required("if", violations);
    let condition = condition.and_then(|condition| Condition::parse(condition, &fields.pointer("if"), violations));
    Some((path?.to_owned(), condition?))
}
