//! Variables of templates and flows: their declaration, conversion to the declared type, and where values come from.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

use crate::clock::Time;
use crate::error::{Error, Result, Violations};
use crate::text::{identifier, pointer_token};

/// The most variables that a template or a flow may declare.
pub const MOST_VARIABLES: usize = 100;

/// The declared type of a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    String,
    Number,
    Date,
    Boolean,
    List,
}

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::Number => "number",
            Kind::Date => "date",
            Kind::Boolean => "boolean",
            Kind::List => "list",
        }
    }

    fn parse(word: &str) -> Option<Kind> {
        [Kind::String, Kind::Number, Kind::Date, Kind::Boolean, Kind::List].into_iter().find(|kind| kind.word() == word)
    }

    fn expectation(self) -> &'static str {
        match self {
            Kind::String => "must be a string",
            Kind::Number => "must be a number",
            Kind::Date => "must be an ISO 8601 date or date-time",
            Kind::Boolean => "must be true or false",
            Kind::List => "must be a list of strings",
        }
    }
}

/// A declared variable (specification §4.5).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Variable {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Already of the declared type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    #[serde(default)]
    pub required: bool,
    /// How apps show a runtime variable; opaque to the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Resolved in the app rather than here.
    #[serde(default)]
    pub runtime: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile_field: Option<String>,
}

impl Variable {
    /// Reads a list of declarations; every violation is reported, its pointer beginning with `pointer`.
    pub fn parse_list(value: &Value, pointer: &str) -> Result<Vec<Variable>> {
        let Some(items) = value.as_array() else {
            return Err(Error::invalid(pointer, "variables must be a list"));
        };
        if items.len() > MOST_VARIABLES {
            return Err(Error::invalid(pointer, format!("more than {MOST_VARIABLES} variables")));
        }
        let mut violations = Violations::new();
        let mut variables: Vec<Variable> = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let pointer = format!("{pointer}/{index}");
            let Some(variable) = Variable::parse(item, &pointer, &mut violations) else { continue };
            if variables.iter().any(|other| other.name == variable.name) {
                violations.add(format!("{pointer}/name"), format!("variable `{}` is declared twice", variable.name));
            }
            variables.push(variable);
        }
        violations.finish().map(|()| variables)
    }

    /// Gives nothing after noting what is wrong.
    fn parse(value: &Value, pointer: &str, violations: &mut Violations) -> Option<Variable> {
        const KEYS: [&str; 7] = ["name", "type", "default", "required", "format", "runtime", "profileField"];
        let Some(object) = value.as_object() else {
            violations.add(pointer, "a variable must be an object");
            return None;
        };
        for key in object.keys().filter(|key| !KEYS.contains(&key.as_str())) {
            violations.add(format!("{pointer}/{}", pointer_token(key)), format!("unknown property `{key}`"));
        }
        let name = match object.get("name").and_then(Value::as_str) {
            Some(name) if identifier(name) => Some(name.to_owned()),
            _ => {
                violations.add(format!("{pointer}/name"), NAME_RULE);
                None
            }
        };
        let kind = object.get("type").and_then(Value::as_str).and_then(Kind::parse);
        if kind.is_none() {
            violations.add(format!("{pointer}/type"), "type must be string, number, date, boolean or list");
        }
        let required = flag(object, "required", pointer, violations);
        let runtime = flag(object, "runtime", pointer, violations);
        if required && runtime {
            violations.add(format!("{pointer}/required"), "a runtime variable cannot be required");
        }
        let format = word(object, "format", pointer, violations);
        let profile_field = word(object, "profileField", pointer, violations);
        let mut variable =
            Variable { name: name?, kind: kind?, default: None, required, format, runtime, profile_field };
        if let Some(default) = object.get("default").filter(|default| !default.is_null()) {
            let default = convert(&variable, default.clone()).map_err(|error| error.at(format!("{pointer}/default")));
            variable.default = violations.check(default);
        }
        Some(variable)
    }
}

const NAME_RULE: &str = "a name begins with a letter or `_` and has at most 128 letters, digits, `_`, `.` and `-`";

/// Converts a value to the declared type: strings where they fit, everything else only when it has the type.
pub fn convert(variable: &Variable, value: Value) -> Result<Value> {
    let fits = match (variable.kind, &value) {
        (Kind::String, Value::String(_)) | (Kind::Number, Value::Number(_)) | (Kind::Boolean, Value::Bool(_)) => true,
        (Kind::Date, Value::String(text)) => Time::parse(text.trim()).is_ok(),
        (Kind::List, Value::Array(items)) => items.iter().all(Value::is_string),
        (Kind::Number, Value::String(text)) => match number(text) {
            Some(number) => return Ok(Value::Number(number)),
            None => false,
        },
        (Kind::Boolean, Value::String(text)) => match text.trim() {
            "true" => return Ok(Value::Bool(true)),
            "false" => return Ok(Value::Bool(false)),
            _ => false,
        },
        _ => false,
    };
    if fits {
        return Ok(value);
    }
    let Variable { name, kind, .. } = variable;
    Err(Error::invalid("", format!("variable `{name}` {}", kind.expectation())))
}

/// Reads a number as JSON writes it, with an optional sign and surrounding space.
pub(crate) fn number(text: &str) -> Option<Number> {
    let text = text.trim();
    let digits = text.trim_start_matches(['+', '-']);
    if text.len() > digits.len() + 1 || !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let text = text.strip_prefix('+').unwrap_or(text);
    if let Ok(whole) = text.parse::<i64>() {
        return Some(whole.into());
    }
    text.parse::<f64>().ok().and_then(Number::from_f64)
}

/// Gives each variable the first of: the supplied value, the profile field, the default (specification §8.4).
///
/// A supplied null counts as absent, a profile value of another type as missing. Supplied names that are not
/// declared are left out. Runtime variables are the app's and get no value. Errors point at
/// `/payload/variables/<name>`; all of them are reported.
pub fn resolve(
    variables: &[Variable],
    supplied: &Map<String, Value>,
    profile: &Map<String, Value>,
) -> Result<Map<String, Value>> {
    let mut violations = Violations::new();
    let mut resolved = Map::new();
    for variable in variables.iter().filter(|variable| !variable.runtime) {
        let pointer = format!("/payload/variables/{}", variable.name);
        if let Some(value) = supplied.get(&variable.name).filter(|value| !value.is_null()) {
            if let Some(value) = violations.check(convert(variable, value.clone()).map_err(|error| error.at(pointer))) {
                resolved.insert(variable.name.clone(), value);
            }
            continue;
        }
        match from_profile(variable, profile).or_else(|| variable.default.clone()) {
            Some(value) => {
                resolved.insert(variable.name.clone(), value);
            }
            None if variable.required => {
                violations.add(pointer, format!("variable `{}` is required", variable.name));
            }
            None => {}
        }
    }
    violations.finish().map(|()| resolved)
}

fn from_profile(variable: &Variable, profile: &Map<String, Value>) -> Option<Value> {
    let value = profile.get(variable.profile_field.as_ref()?).filter(|value| !value.is_null())?.clone();
    let value = match (variable.kind, value) {
        (Kind::String, Value::Number(number)) => Value::String(number.to_string()),
        (Kind::String, Value::Bool(flag)) => Value::String(flag.to_string()),
        (_, value) => value,
    };
    convert(variable, value).ok()
}

fn flag(object: &Map<String, Value>, key: &str, pointer: &str, violations: &mut Violations) -> bool {
    match object.get(key) {
        None | Some(Value::Null) => false,
        Some(Value::Bool(flag)) => *flag,
        Some(_) => {
            violations.add(format!("{pointer}/{key}"), format!("{key} must be true or false"));
            false
        }
    }
}

fn word(object: &Map<String, Value>, key: &str, pointer: &str, violations: &mut Violations) -> Option<String> {
    match object.get(key) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) if text.len() <= 256 => Some(text.clone()),
        Some(_) => {
            violations.add(format!("{pointer}/{key}"), format!("{key} must be a string of at most 256 bytes"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn variable(kind: &str) -> Variable {
        Variable::parse_list(&json!([{ "name": "v", "type": kind }]), "").unwrap().remove(0)
    }

    #[test]
    fn strings_become_the_declared_type_where_they_fit() {
        for (kind, value, converted) in [
            ("number", json!("1"), json!(1)),
            ("number", json!(" -2.50 "), json!(-2.5)),
            ("number", json!(3), json!(3)),
            ("boolean", json!("true"), json!(true)),
            ("boolean", json!(false), json!(false)),
            ("date", json!("2026-03-26"), json!("2026-03-26")),
            ("date", json!("2026-03-26T10:00:00+13:00"), json!("2026-03-26T10:00:00+13:00")),
            ("string", json!("x"), json!("x")),
            ("list", json!(["a", "b"]), json!(["a", "b"])),
        ] {
            assert_eq!(convert(&variable(kind), value).unwrap(), converted);
        }
        for (kind, value) in [
            ("number", json!("one")),
            ("number", json!("")),
            ("number", json!("inf")),
            ("number", json!("--1")),
            ("number", json!(true)),
            ("boolean", json!("yes")),
            ("boolean", json!(1)),
            ("date", json!("soon")),
            ("date", json!(1)),
            ("string", json!(1)),
            ("list", json!("a")),
            ("list", json!([1])),
        ] {
            assert!(convert(&variable(kind), value.clone()).is_err(), "{kind} {value}");
        }
    }

    #[test]
    fn every_fault_of_a_declaration_is_reported() {
        let list = json!([
            { "name": "1x", "type": "number" },
            { "name": "a", "type": "money" },
            { "name": "b", "type": "number", "default": "many" },
            { "name": "c", "type": "string", "required": true, "runtime": true },
            { "name": "d", "type": "string", "colour": 1 },
            { "name": "d", "type": "string" },
            7,
        ]);
        let error = Variable::parse_list(&list, "/variables").unwrap_err();
        let pointers: Vec<_> = error.violations().iter().filter_map(|violation| violation.pointer.as_deref()).collect();
        assert_eq!(
            pointers,
            [
                "/variables/0/name",
                "/variables/1/type",
                "/variables/2/default",
                "/variables/3/required",
                "/variables/4/colour",
                "/variables/5/name",
                "/variables/6"
            ]
        );
    }

    #[test]
    fn values_come_from_the_request_then_the_profile_then_the_default() {
        let variables = Variable::parse_list(
            &json!([
                { "name": "a", "type": "number", "default": 1, "profileField": "age" },
                { "name": "b", "type": "string", "profileField": "age" },
                { "name": "c", "type": "string" },
                { "name": "d", "type": "string", "runtime": true, "default": "x" },
            ]),
            "",
        )
        .unwrap();
        let resolved = |supplied: Value, profile: Value| {
            Value::Object(resolve(&variables, supplied.as_object().unwrap(), profile.as_object().unwrap()).unwrap())
        };
        assert_eq!(resolved(json!({ "a": "5", "z": 1 }), json!({ "age": 9 })), json!({ "a": 5, "b": "9" }));
        assert_eq!(resolved(json!({ "a": null }), json!({ "age": 9 })), json!({ "a": 9, "b": "9" }));
        assert_eq!(resolved(json!({}), json!({ "age": [] })), json!({ "a": 1 }));
    }

    #[test]
    fn all_missing_and_misfitting_values_are_named() {
        let variables = Variable::parse_list(
            &json!([{ "name": "a", "type": "number", "required": true }, { "name": "b", "type": "number" }]),
            "",
        )
        .unwrap();
        let error = resolve(&variables, json!({ "b": "x" }).as_object().unwrap(), &Map::new()).unwrap_err();
        let pointers: Vec<_> = error.violations().iter().filter_map(|violation| violation.pointer.as_deref()).collect();
        assert_eq!(pointers, ["/payload/variables/a", "/payload/variables/b"]);
    }

    proptest! {
        #[test]
        fn written_numbers_are_read_back(number in any::<i64>(), fraction in -1e9..1e9_f64) {
            prop_assert_eq!(super::number(&number.to_string()), Some(Number::from(number)));
            prop_assert_eq!(super::number(&format!("{fraction:?}")), Number::from_f64(fraction));
        }

        #[test]
        fn conversion_is_idempotent(text in "\\PC{0,12}") {
            for kind in ["string", "number", "boolean", "date"] {
                let variable = variable(kind);
                if let Ok(once) = convert(&variable, Value::String(text.clone())) {
                    prop_assert_eq!(convert(&variable, once.clone()).unwrap(), once);
                }
            }
        }
    }
}
