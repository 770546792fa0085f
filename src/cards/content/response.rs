//! The customer's answer to a form: which values it may have and what is recorded.

use serde_json::{Map, Value};

use super::element::{Definition, Input, Place};
use super::validation;
use crate::error::{Error, Result, Violations};
use crate::text::pointer_token;

/// The most bytes of values that an answer may have.
pub const MOST_VALUES: usize = 64 * 1024;

/// An accepted answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// The button's own values, overlaid with the form's, and the button's name as a null.
    pub values: Map<String, Value>,
}

/// Checks an answer given with a button against a card as it was rendered (specification §4.4 and §6.3).
///
/// All violations are reported, one for each input, pointing at `/values/<name>`.
pub fn complete(top_card: &Value, subviews: &Value, button: &str, values: &Map<String, Value>) -> Result<Completion> {
    if serde_json::to_string(values)?.len() > MOST_VALUES {
        return Err(Error::invalid("/values", format!("values take more than {} KiB", MOST_VALUES / 1024)));
    }
    let forms = forms(top_card, subviews, button);
    // Forms of several subviews may have a button of the same name: the one that knows all values is meant.
    let form = forms.iter().find(|form| values.keys().all(|name| form.knows(name))).or_else(|| forms.first());
    let Some(form) = form else {
        return Err(Error::invalid("/buttonName", format!("the card has no submit button `{button}`")));
    };
    let mut violations = Violations::new();
    for name in values.keys().filter(|name| !form.knows(name)) {
        violations.add(pointer(name), format!("the form has no input `{name}`"));
    }
    for field in &form.fields {
        if let Some(fault) = field.fault(values.get(field.name)) {
            violations.add(pointer(field.name), fault);
        }
    }
    violations.finish()?;
    let mut recorded = form.own.cloned().unwrap_or_default();
    recorded.extend(values.clone());
    if !form.fields.iter().any(|field| field.name == button) {
        recorded.insert(button.to_owned(), Value::Null);
    }
    Ok(Completion { values: recorded })
}

fn pointer(name: &str) -> String {
    format!("/values/{}", pointer_token(name))
}

/// A form seen from one of its submit buttons.
struct Form<'c> {
    fields: Vec<Field<'c>>,
    /// The static values of the button.
    own: Option<&'c Map<String, Value>>,
}

struct Field<'c> {
    name: &'c str,
    input: Input,
    attributes: &'c Value,
    validations: Option<&'c Map<String, Value>>,
}

impl Form<'_> {
    fn knows(&self, name: &str) -> bool {
        self.fields.iter().any(|field| field.name == name) || self.own.is_some_and(|own| own.contains_key(name))
    }
}

impl Field<'_> {
    fn fault(&self, answer: Option<&Value>) -> Option<String> {
        let name = self.name;
        if let Some(answer) = answer {
            if let Some(fault) = validation::mistyped(self.input, answer) {
                return Some(format!("{name} {fault}"));
            }
            if !self.offers(answer) {
                return Some(format!("{name} must be what the form offers"));
            }
        }
        validation::first_violation(self.validations?, name, answer)
    }

    /// Whether an option or items of that kind were offered. Other inputs offer everything.
    fn offers(&self, answer: &Value) -> bool {
        let listed = |list: &str, key: &str| -> Vec<&Value> {
            let items = self.attributes.get(list).and_then(Value::as_array);
            items.into_iter().flatten().filter_map(|item| item.get(key)).collect()
        };
        match (self.input, answer) {
            (Input::Choice, Value::Null) => true,
            (Input::Choice, answer) => listed("options", "value").contains(&answer),
            (Input::Checks, Value::Object(checks)) => {
                let keys = listed("items", "key");
                checks.keys().all(|key| keys.iter().any(|offered| offered.as_str() == Some(key)))
            }
            _ => true,
        }
    }
}

/// The forms that have a submit button of that name, top card first.
fn forms<'c>(top_card: &'c Value, subviews: &'c Value, button: &str) -> Vec<Form<'c>> {
    let views = std::iter::once(top_card).chain(subviews.as_array().into_iter().flatten());
    let elements = views.flat_map(|view| children(view, "elements"));
    let forms = elements.filter(|element| kind(element) == Some("form"));
    forms.filter_map(|form| read(form, button)).collect()
}

fn read<'c>(form: &'c Value, button: &str) -> Option<Form<'c>> {
    let mut fields = Vec::new();
    let mut submit = None;
    let rows = children(form, "children").flat_map(|child| std::iter::once(child).chain(children(child, "children")));
    for element in rows {
        let Some(definition) = kind(element).and_then(Definition::named) else { continue };
        let Some(attributes) = element.get("attributes") else { continue };
        let Some(name) = attributes.get("name").and_then(Value::as_str) else { continue };
        match definition.place {
            Place::Input(input) => {
                let validations = element.get("validations").and_then(Value::as_object);
                fields.push(Field { name, input, attributes, validations });
            }
            _ if definition.name == "submitButton" && name == button && submit.is_none() => submit = Some(attributes),
            _ => {}
        }
    }
    let own = submit?.get("values").and_then(Value::as_object);
    Some(Form { fields, own })
}

fn children<'c>(element: &'c Value, key: &str) -> impl Iterator<Item = &'c Value> + use<'c> {
    element.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn kind(element: &Value) -> Option<&str> {
    element.get("type").and_then(Value::as_str)
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "cases are written where they are used")]
mod tests {
    use serde_json::json;

    use super::*;

    fn card(inputs: Value) -> Value {
        let mut children = vec![json!({ "id": "b", "type": "buttonRow", "children": [
                { "id": "c", "type": "submitButton", "attributes": { "name": "send", "values": { "code": 7 } } }] })];
        children.extend(inputs.as_array().unwrap().iter().cloned());
        json!({ "elements": [{ "id": "f", "type": "form", "children": children }] })
    }

    fn answer(inputs: Value, values: Value) -> Result<Value> {
        complete(&card(inputs), &json!([]), "send", values.as_object().unwrap())
            .map(|completion| Value::Object(completion.values))
    }

    fn faults(inputs: Value, values: Value) -> Vec<String> {
        let error = answer(inputs, values).expect_err("a fault");
        error.violations().iter().map(|v| format!("{} {}", v.pointer.as_deref().unwrap_or(""), v.detail)).collect()
    }

    fn input(kind: &str, attributes: Value, validations: Value) -> Value {
        let mut attributes = attributes;
        attributes["name"] = json!("v");
        json!([{ "id": "i", "type": kind, "attributes": attributes, "validations": validations }])
    }

    #[test]
    fn the_buttons_values_are_overlaid_and_its_name_is_recorded() {
        let text = || input("textInput", json!({}), json!({}));
        assert_eq!(answer(text(), json!({ "v": "x" })).unwrap(), json!({ "v": "x", "code": 7, "send": null }));
        assert_eq!(answer(text(), json!({ "code": 8 })).unwrap(), json!({ "code": 8, "send": null }));
        assert_eq!(faults(text(), json!({ "a/b": 1 })), ["/values/a~1b the form has no input `a/b`"]);
    }

    #[test]
    fn a_button_named_like_an_input_does_not_hide_its_value() {
        let inputs = json!([{ "id": "i", "type": "textInput", "attributes": { "name": "send" } }]);
        assert_eq!(answer(inputs, json!({ "send": "x" })).unwrap(), json!({ "send": "x", "code": 7 }));
    }

    #[test]
    fn an_unknown_button_is_refused() {
        let error = complete(&card(json!([])), &json!([]), "other", &Map::new()).unwrap_err();
        assert_eq!(error.violations()[0].pointer.as_deref(), Some("/buttonName"));
    }

    #[test]
    fn every_kind_of_validation() {
        for (kind, attributes, validations, bad, good) in [
            ("textInput", json!({}), json!({ "required": { "value": true } }), json!(""), json!("x")),
            ("textInput", json!({}), json!({ "minLength": { "value": 2 } }), json!("é"), json!("éé")),
            ("textInput", json!({}), json!({ "maxLength": { "value": 1 } }), json!("éé"), json!("é")),
            ("textInput", json!({}), json!({ "pattern": { "value": "^a+$" } }), json!("b"), json!("aa")),
            ("numberInput", json!({}), json!({ "min": { "value": 1.5 } }), json!(1), json!(2)),
            ("numberInput", json!({}), json!({ "max": { "value": 3 } }), json!(3.1), json!(null)),
            ("stepper", json!({}), json!({ "max": { "value": 3 } }), json!(4), json!(3)),
            (
                "dateInput",
                json!({}),
                json!({ "minDate": { "value": "2026-01-02" } }),
                json!("2026-01-01"),
                json!("2026-01-02"),
            ),
            ("dateInput", json!({}), json!({ "maxDate": { "value": "2026-01-02" } }), json!("2026-01-03"), json!(null)),
            (
                "checkboxes",
                json!({ "items": [{ "key": "a" }, { "key": "b" }] }),
                json!({ "minChecked": { "value": 1 } }),
                json!(null),
                json!({ "a": true }),
            ),
            (
                "checkboxes",
                json!({ "items": [{ "key": "a" }, { "key": "b" }] }),
                json!({ "maxChecked": { "value": 1 } }),
                json!({ "a": true, "b": true }),
                json!({ "a": true, "b": false }),
            ),
            (
                "checkboxes",
                json!({ "items": [{ "key": "a" }] }),
                json!({}),
                json!({ "z": true }),
                json!({ "a": false }),
            ),
            ("dropdown", json!({ "options": [{ "title": "A", "value": "a" }] }), json!({}), json!("b"), json!("a")),
            ("switch", json!({}), json!({}), json!("true"), json!(true)),
            ("dateInput", json!({}), json!({}), json!("26.3.2026"), json!("2026-03-26")),
            ("numberInput", json!({}), json!({}), json!("1"), json!(1)),
        ] {
            let inputs = || input(kind, attributes.clone(), validations.clone());
            assert_eq!(faults(inputs(), json!({ "v": bad })).len(), 1, "{kind} {validations} {bad}");
            assert!(answer(inputs(), json!({ "v": good })).is_ok(), "{kind} {validations} {good}");
        }
    }

    #[test]
    fn the_first_failing_kind_speaks_with_its_own_message() {
        let validations = json!({ "pattern": { "value": "^x", "message": "Begin with x" },
            "minLength": { "value": 3, "message": "Too short" }, "required": { "value": true } });
        let text = || input("textInput", json!({}), validations.clone());
        assert_eq!(faults(text(), json!({ "v": "a" })), ["/values/v Too short"]);
        assert_eq!(faults(text(), json!({ "v": "abc" })), ["/values/v Begin with x"]);
        assert_eq!(faults(text(), json!({})), ["/values/v v is required"]);
    }

    #[test]
    fn absent_values_fail_only_what_needs_a_value() {
        let validations = json!({ "minLength": { "value": 3 }, "pattern": { "value": "^x" } });
        assert!(answer(input("textInput", json!({}), validations), json!({ "v": null })).is_ok());
    }

    #[test]
    fn too_much_is_refused() {
        let error =
            answer(input("textInput", json!({}), json!({})), json!({ "v": "x".repeat(MOST_VALUES) })).unwrap_err();
        assert_eq!(error.violations()[0].pointer.as_deref(), Some("/values"));
    }
}
