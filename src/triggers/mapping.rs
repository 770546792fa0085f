//! How a foreign request becomes the target schema (§9.4).

use std::collections::BTreeMap;

use http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use serde_json_path::JsonPath;

use crate::error::{Code, Error, Result, Violation, Violations};
use crate::sandbox::{Call, SOURCE_BYTES, Sandbox};

/// The script that new mappings begin with.
pub const DEFAULT_SCRIPT: &str = "function map(payload, headers) {
  return { targetUserIds: [payload.targetUserIds].flat(), variables: payload.variables };
}
";

const PROPERTIES: usize = 200;
const PATH_BYTES: usize = 256;

/// What is done with a body before it must have the target schema.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", deny_unknown_fields)]
pub enum Mapping {
    /// The body has the target schema already.
    #[default]
    None,
    /// Target property → where its value comes from.
    Structured { properties: BTreeMap<String, Rule> },
    /// A function `map(payload, headers)`.
    Script { source: String },
}

/// Where a value comes from: a path into the body, or a constant.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
}

/// Why a mapping gives nothing, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// A pointer into the mapped request.
    pub path: Option<String>,
    pub message: String,
    /// Of a script, counted from 1.
    pub line: Option<u32>,
    pub column: Option<u32>,
}

impl Problem {
    pub fn new(path: &str, message: impl Into<String>) -> Problem {
        Problem { path: Some(path.to_owned()), message: message.into(), line: None, column: None }
    }
}

/// The error of problems: `mapping_failed`, with a pointer for each.
pub fn failed(problems: Vec<Problem>) -> Error {
    let told = problems.into_iter().map(|problem| {
        let place = match (problem.line, problem.column) {
            (Some(line), Some(column)) => format!(" (line {line}, column {column})"),
            _ => String::new(),
        };
        let detail = format!("{}{place}", problem.message);
        Violation { code: Code::MappingFailed, detail, pointer: problem.path, parameter: None }
    });
    Error::from_violations(told.collect())
}

impl Mapping {
    /// Reads a mapping and refuses one that cannot work with any body.
    pub fn parse(value: &Value) -> Result<Mapping> {
        let mapping: Mapping =
            serde_json::from_value(value.clone()).map_err(|error| Error::invalid("/mapping", error.to_string()))?;
        let mut violations = Violations::new();
        match &mapping {
            Mapping::None => {}
            Mapping::Structured { properties } => {
                if properties.is_empty() || properties.len() > PROPERTIES {
                    violations.add("/mapping/properties", format!("there must be 1 to {PROPERTIES} properties"));
                }
                for (name, rule) in properties {
                    rule.check(name, &mut violations);
                }
            }
            Mapping::Script { source } if source.len() > SOURCE_BYTES => {
                violations.add("/mapping/source", format!("a script has at most {} KiB", SOURCE_BYTES / 1024));
            }
            Mapping::Script { .. } => {}
        }
        violations.finish()?;
        Ok(mapping)
    }

    /// Maps a body. The inner error says what is wrong with body or mapping; the outer one is ours.
    pub async fn apply(&self, sandbox: &Sandbox, body: &Value, headers: &Value) -> Result<Result<Value, Vec<Problem>>> {
        let mapped = match self {
            Mapping::None => body.clone(),
            Mapping::Structured { properties } => match structured(properties, body) {
                Ok(mapped) => mapped,
                Err(problems) => return Ok(Err(problems)),
            },
            Mapping::Script { source } => {
                let call = Call { source, function: "map", arguments: &[body, headers] };
                match sandbox.call(call).await? {
                    Ok(mapped) if mapped.is_object() => mapped,
                    Ok(_) => {
                        let message = "the script must return an object".to_owned();
                        return Ok(Err(vec![Problem { path: None, message, line: Some(1), column: Some(1) }]));
                    }
                    Err(fault) => {
                        let (line, column) = (fault.line, fault.column);
                        return Ok(Err(vec![Problem { path: None, message: fault.message, line, column }]));
                    }
                }
            }
        };
        Ok(Ok(normalised(mapped)))
    }
}

impl Rule {
    fn check(&self, name: &str, violations: &mut Violations) {
        let pointer = format!("/mapping/properties/{}", crate::text::pointer_token(name));
        if !is_target(name) {
            violations.add(pointer.clone(), format!("`{name}` is not a property of the target schema"));
        }
        match (&self.path, &self.value) {
            (Some(path), None) if path.len() > PATH_BYTES => {
                violations.add(pointer, format!("a path has at most {PATH_BYTES} bytes"));
            }
            (Some(path), None) => {
                if let Err(error) = JsonPath::parse(path) {
                    violations.add(pointer, format!("the path is not JSONPath: {error}"));
                }
            }
            (None, Some(_)) if self.default.is_none() => {}
            _ => violations.add(pointer, "give either a path, with or without a default, or a value"),
        }
    }

    /// What the rule gives for a body; absent where its path finds nothing.
    fn read(&self, body: &Value) -> Result<Option<Value>, String> {
        let Some(path) = &self.path else { return Ok(self.value.clone()) };
        let path = JsonPath::parse(path).map_err(|error| error.to_string())?;
        let found = path.query(body).all();
        Ok(match found.as_slice() {
            [] => self.default.clone(),
            [one] => Some((*one).clone()),
            many => Some(many.iter().map(|value| (*value).clone()).collect()),
        })
    }
}

/// Tells whether a structured mapping may set the property.
fn is_target(name: &str) -> bool {
    match name.split_once('.') {
        None => super::target::PROPERTIES.contains(&name),
        Some((object, rest)) => {
            ["cardOptions", "variables", "notificationDetail", "metadata"].contains(&object) && !rest.is_empty()
        }
    }
}

fn structured(properties: &BTreeMap<String, Rule>, body: &Value) -> Result<Value, Vec<Problem>> {
    let (mut mapped, mut problems) = (Map::new(), Vec::new());
    for (name, rule) in properties {
        let value = match rule.read(body) {
            Ok(Some(value)) => value,
            Ok(None) => continue,
            Err(message) => {
                problems.push(Problem::new(&format!("/{}", name.replace('.', "/")), message));
                continue;
            }
        };
        match name.split_once('.') {
            None => {
                mapped.insert(name.clone(), value);
            }
            Some((object, rest)) => {
                // The order of names puts an object before its properties.
                let inner = mapped.entry(object).or_insert_with(|| json!({}));
                match inner.as_object_mut() {
                    Some(inner) => {
                        inner.insert(rest.to_owned(), value);
                    }
                    None => problems.push(Problem::new(&format!("/{object}"), format!("`{object}` is not an object"))),
                }
            }
        }
    }
    if problems.is_empty() { Ok(Value::Object(mapped)) } else { Err(problems) }
}

/// A lone target becomes a list of one, and a number its text.
fn normalised(mut mapped: Value) -> Value {
    let text = |value: Value| if value.is_number() { Value::from(value.to_string()) } else { value };
    if let Some(ids) = mapped.get_mut("targetUserIds") {
        *ids = match ids.take() {
            Value::Array(ids) => ids.into_iter().map(text).collect(),
            Value::Null => Value::Null,
            one @ (Value::Object(_) | Value::Bool(_)) => one,
            one => json!([text(one)]),
        };
    }
    mapped
}

/// Headers as scripts see them: lower-case names, several values joined by commas.
pub fn headers(headers: &HeaderMap) -> Value {
    let mut seen: Map<String, Value> = Map::new();
    for (name, value) in headers {
        if name == http::header::AUTHORIZATION || name == http::header::COOKIE {
            continue;
        }
        let value = String::from_utf8_lossy(value.as_bytes()).replace('\0', "\u{fffd}");
        let joined = match seen.get(name.as_str()).and_then(Value::as_str) {
            Some(before) => format!("{before}, {value}"),
            None => value,
        };
        seen.insert(name.as_str().to_owned(), joined.into());
    }
    Value::Object(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(properties: &Value, body: &Value) -> Result<Value, Vec<Problem>> {
        let mapping = json!({ "type": "structured", "properties": properties });
        let Mapping::Structured { properties } = Mapping::parse(&mapping).unwrap() else { unreachable!() };
        structured(&properties, body).map(normalised)
    }

    #[test]
    fn paths_constants_and_defaults() {
        let body = json!({ "customer": { "id": 17 }, "items": [{ "n": "a" }, { "n": "b" }], "nothing": [] });
        let mapped = map(
            &json!({
                "targetUserIds": { "path": "$.customer.id" },
                "variables.total": { "path": "$.total", "default": "0" },
                "variables.names": { "path": "$.items[*].n" },
                "variables.gone": { "path": "$.nothing[0]" },
                "cardOptions.priority": { "value": 2 },
            }),
            &body,
        );
        let expected = json!({ "targetUserIds": ["17"], "variables": { "total": "0", "names": ["a", "b"] },
            "cardOptions": { "priority": 2 } });
        assert_eq!(mapped, Ok(expected));
    }

    #[test]
    fn a_mapping_that_cannot_work_is_refused_with_every_pointer() {
        for (mapping, pointers) in [
            (json!({ "type": "magic" }), &["/mapping"][..]),
            (json!({ "type": "structured" }), &["/mapping"]),
            (json!({ "type": "structured", "properties": {} }), &["/mapping/properties"]),
            (
                json!({ "type": "structured", "properties": {
                    "targetUserIds": { "path": "customer.id" }, "surprise": { "value": 1 },
                    "metadata.a/b": { "path": "$.a", "value": 1 } } }),
                &[
                    "/mapping/properties/metadata.a~1b",
                    "/mapping/properties/surprise",
                    "/mapping/properties/targetUserIds",
                ],
            ),
            (json!({ "type": "script", "source": "x".repeat(SOURCE_BYTES + 1) }), &["/mapping/source"]),
        ] {
            let error = Mapping::parse(&mapping).unwrap_err();
            let mut found: Vec<_> = error.violations().iter().filter_map(|one| one.pointer.as_deref()).collect();
            found.sort_unstable();
            assert_eq!(found, pointers, "{error}");
        }
    }
}
