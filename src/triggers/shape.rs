//! Whether a request looks like the sample from which its trigger was set up (§9.6), and what a sample offers.

use serde_json::{Map, Value};
use serde_json_path::JsonPath;

use super::mapping::Mapping;

/// The most properties that are told of one body.
const TOLD: usize = 200;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// What the mapping reads.
    Mapped,
    /// Every property of the sample.
    Strict,
    Off,
}

impl Check {
    pub fn parse(word: &str) -> Check {
        match word {
            "strict" => Check::Strict,
            "off" => Check::Off,
            _ => Check::Mapped,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Check::Mapped => "mapped",
            Check::Strict => "strict",
            Check::Off => "off",
        }
    }
}

/// A property of a sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Property {
    /// JSONPath.
    pub path: String,
    pub kind: &'static str,
    pub example: Value,
}

/// The paths at which a body is not shaped like the sample. Empty: it fits.
pub fn mismatches(check: Check, mapping: &Mapping, sample: &Value, body: &Value) -> Vec<String> {
    let mut found = Vec::new();
    match (check, mapping) {
        (Check::Off, _) | (Check::Mapped, Mapping::None) => {}
        (Check::Strict, _) => compare("$", sample, Some(body), &mut found),
        (Check::Mapped, _) if kind(sample) != kind(body) => found.push("$".to_owned()),
        (Check::Mapped, Mapping::Structured { properties }) => {
            for rule in properties.values().filter(|rule| rule.default.is_none()) {
                let Some((path, text)) = rule.path.as_ref().and_then(|text| Some((JsonPath::parse(text).ok()?, text)))
                else {
                    continue;
                };
                let expected = path.query(sample).all().first().copied();
                let seen = path.query(body).all().first().copied();
                if expected.is_some_and(|expected| !fits(expected, seen)) {
                    found.push(text.clone());
                }
            }
        }
        (Check::Mapped, Mapping::Script { .. }) => {
            for (name, expected) in sample.as_object().into_iter().flatten() {
                if !fits(expected, body.get(name)) {
                    found.push(step("$", name));
                }
            }
        }
    }
    found.truncate(TOLD);
    found
}

/// Null in the sample fits everything; null in the request is missing.
fn fits(expected: &Value, seen: Option<&Value>) -> bool {
    expected.is_null() || seen.is_some_and(|seen| kind(seen) == kind(expected))
}

fn compare(path: &str, expected: &Value, seen: Option<&Value>, found: &mut Vec<String>) {
    if expected.is_null() {
        return;
    }
    let Some(seen) = seen.filter(|seen| kind(seen) == kind(expected)) else {
        found.push(path.to_owned());
        return;
    };
    match expected {
        Value::Object(fields) => {
            for (name, expected) in fields {
                compare(&step(path, name), expected, seen.get(name), found);
            }
        }
        Value::Array(items) => {
            if let (Some(expected), Some(seen)) = (items.first(), seen.get(0)) {
                compare(&format!("{path}[0]"), expected, Some(seen), found);
            }
        }
        _ => {}
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn step(path: &str, name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if plain {
        return format!("{path}.{name}");
    }
    format!("{path}['{}']", name.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Every property of a sample, parents first; of arrays the first item.
pub fn properties(sample: &Value) -> Vec<Property> {
    let mut found = Vec::new();
    collect("$", sample, &mut found);
    found
}

fn collect(path: &str, value: &Value, found: &mut Vec<Property>) {
    if found.len() >= TOLD {
        return;
    }
    if path != "$" {
        found.push(Property { path: path.to_owned(), kind: kind(value), example: value.clone() });
    }
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| collect(&step(path, name), value, found)),
        Value::Array(items) => items.iter().take(1).for_each(|item| collect(&format!("{path}[0]"), item, found)),
        _ => {}
    }
}

/// Paths and types of a body without any of its values.
pub fn redacted(body: &Value) -> Value {
    let shape = properties(body).into_iter().map(|property| (property.path, property.kind.into()));
    Value::Object(std::iter::once(("$".to_owned(), kind(body).into())).chain(shape).collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_compared() {
        let structured = Mapping::parse(&json!({ "type": "structured", "properties": {
            "targetUserIds": { "path": "$.customer.id" }, "variables.a": { "path": "$.extra", "default": "" } } }))
        .unwrap();
        let script = Mapping::Script { source: String::new() };
        let sample = json!({ "customer": { "id": "x", "tags": [{ "n": 1 }] }, "extra": true, "any": null });
        for (check, mapping, body, wrong) in [
            (Check::Mapped, &structured, json!({ "customer": { "id": "y" } }), &[][..]),
            (Check::Mapped, &structured, json!({ "customer": { "id": 5 } }), &["$.customer.id"]),
            (Check::Mapped, &structured, json!({ "customer": { "id": null } }), &["$.customer.id"]),
            (Check::Mapped, &structured, json!([]), &["$"]),
            (Check::Mapped, &script, json!({ "customer": {}, "extra": false, "new": 1 }), &[]),
            (Check::Mapped, &script, json!({ "customer": [], "any": 1 }), &["$.customer", "$.extra"]),
            (Check::Mapped, &Mapping::None, json!({}), &[]),
            (Check::Strict, &script, sample.clone(), &[]),
            (
                Check::Strict,
                &script,
                json!({ "customer": { "id": "x", "tags": [{}] }, "extra": 1 }),
                &["$.customer.tags[0].n", "$.extra"],
            ),
            (Check::Strict, &script, json!({ "customer": { "id": "x", "tags": [] }, "extra": true }), &[]),
            (Check::Off, &script, json!(1), &[]),
        ] {
            let mut found = mismatches(check, mapping, &sample, &body);
            found.sort_unstable();
            assert_eq!(found, wrong, "{check:?} {body}");
        }
    }

    #[test]
    fn a_sample_offers_its_properties() {
        let found = properties(&json!({ "a": { "b c": 1 }, "l": [{ "x": "y" }, 2] }));
        let found: Vec<_> = found.iter().map(|property| format!("{} {}", property.path, property.kind)).collect();
        assert_eq!(found, ["$.a object", "$.a['b c'] number", "$.l array", "$.l[0] object", "$.l[0].x string"]);
        let path = JsonPath::parse("$.a['b c']").unwrap();
        assert_eq!(path.query(&json!({ "a": { "b c": 1 } })).all(), [&json!(1)]);
    }

    #[test]
    fn a_redacted_shape_holds_no_value() {
        let shape = redacted(&json!({ "card": { "number": "4111" }, "ok": true }));
        assert_eq!(shape, json!({ "$": "object", "$.card": "object", "$.card.number": "string", "$.ok": "boolean" }));
    }
}
