//! The check of content on save: structure, names, places and limits.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::element::{BANNER, Children, Definition, Input, Place};
use super::validation::Rule;
use super::{Content, MOST_ELEMENTS, MOST_SUBVIEWS, form};
use crate::cards::render;
use crate::cards::variable::Variable;
use crate::error::Violations;
use crate::text::pointer_token;

/// Reports everything that is wrong with the elements, menu and notification of content.
pub(super) fn check(content: &Content, violations: &mut Violations) {
    let document = &content.document;
    let subviews = content.subviews();
    let mut check = Check {
        violations,
        variables: &content.variables,
        subviews: subviews.iter().filter_map(|subview| subview.get("id")?.as_str()).collect(),
        ids: HashSet::new(),
        names: HashSet::new(),
        elements: 0,
        top_card: true,
    };
    check.known(document, "", &["topCard", "subviews", "actions", "variables", "delivery", "notification"]);
    match document.get("topCard") {
        Some(top_card) => check.view(top_card, "/topCard", &["elements"]),
        None => check.violations.add("/topCard", "topCard is required"),
    }
    check.top_card = false;
    check.subviews(document);
    for (pointer, label) in form::check_actions(document, check.violations) {
        check.template(label, &pointer);
    }
    for (key, template) in [("title", &content.notification.title), ("body", &content.notification.body)] {
        if let Some(template) = template {
            check.template(template, &format!("/notification/{key}"));
        }
    }
    if check.elements > MOST_ELEMENTS {
        check.violations.add("", format!("more than {MOST_ELEMENTS} elements"));
    }
}

/// The walk through a document.
pub(super) struct Check<'c, 'v> {
    pub violations: &'v mut Violations,
    pub variables: &'c [Variable],
    /// Ids of subviews, for links.
    pub subviews: HashSet<&'c str>,
    ids: HashSet<&'c str>,
    /// Names of inputs in this top card or subview.
    names: HashSet<&'c str>,
    elements: usize,
    top_card: bool,
}

impl<'c> Check<'c, '_> {
    pub fn add(&mut self, pointer: &str, detail: impl Into<String>) {
        self.violations.add(pointer, detail);
    }

    /// Reports properties that nobody knows.
    pub fn known(&mut self, value: &Value, pointer: &str, known: &[&str]) {
        for key in value.as_object().into_iter().flat_map(Map::keys).filter(|key| !known.contains(&key.as_str())) {
            self.add(&format!("{pointer}/{}", pointer_token(key)), format!("unknown property `{key}`"));
        }
    }

    fn subviews(&mut self, document: &'c Value) {
        let Some(value) = document.get("subviews").filter(|value| !value.is_null()) else { return };
        let Some(subviews) = value.as_array() else { return self.add("/subviews", "subviews must be a list") };
        if subviews.len() > MOST_SUBVIEWS {
            self.add("/subviews", format!("more than {MOST_SUBVIEWS} subviews"));
        }
        let mut seen = HashSet::new();
        for (index, subview) in subviews.iter().enumerate() {
            let pointer = format!("/subviews/{index}");
            self.names.clear();
            match subview.get("id").and_then(Value::as_str) {
                Some(id) if valid_id(id) => {
                    if !seen.insert(id) {
                        self.add(&format!("{pointer}/id"), format!("the id `{id}` is used twice"));
                    }
                }
                _ => self.add(&format!("{pointer}/id"), ID_RULE),
            }
            if let Some(title) = subview.get("title").filter(|title| !title.is_null()) {
                self.text(title, &format!("{pointer}/title"));
            }
            self.view(subview, &pointer, &["id", "title", "elements"]);
        }
    }

    /// Checks a top card or subview.
    fn view(&mut self, view: &'c Value, pointer: &str, known: &[&str]) {
        if !view.is_object() {
            return self.add(pointer, "must be an object");
        }
        self.known(view, pointer, known);
        let Some(elements) = view.get("elements").and_then(Value::as_array) else {
            return self.add(&format!("{pointer}/elements"), "elements must be a list");
        };
        for (index, element) in elements.iter().enumerate() {
            let pointer = format!("{pointer}/elements/{index}");
            let Some(definition) = self.element(element, &pointer) else { continue };
            if definition.place != Place::Block {
                self.add(&pointer, misplaced(definition));
            }
            if definition.name == "category" && !(self.top_card && index == 0) {
                self.add(&pointer, "a category stands first in the top card");
            }
        }
    }

    fn element(&mut self, element: &'c Value, pointer: &str) -> Option<&'static Definition> {
        self.elements += 1;
        if !element.is_object() {
            self.add(pointer, "an element must be an object");
            return None;
        }
        self.known(element, pointer, &["id", "type", "attributes", "children", "validations"]);
        match element.get("id").and_then(Value::as_str) {
            Some(id) if valid_id(id) => {
                if !self.ids.insert(id) {
                    self.add(&format!("{pointer}/id"), format!("the id `{id}` is used twice"));
                }
            }
            _ => self.add(&format!("{pointer}/id"), ID_RULE),
        }
        let Some(kind) = element.get("type").and_then(Value::as_str) else {
            self.add(&format!("{pointer}/type"), "type is required");
            return None;
        };
        let Some(definition) = Definition::named(kind) else {
            self.add(&format!("{pointer}/type"), format!("unknown element type `{kind}`"));
            return None;
        };
        self.attributes(element, definition, pointer);
        self.children(element, definition, pointer);
        self.validations(element, definition, pointer);
        Some(definition)
    }

    fn attributes(&mut self, element: &'c Value, definition: &'static Definition, pointer: &str) {
        let attributes = match element.get("attributes") {
            None | Some(Value::Null) => None,
            Some(Value::Object(attributes)) => Some(attributes),
            Some(_) => return self.add(&format!("{pointer}/attributes"), "attributes must be an object"),
        };
        for (name, value) in attributes.into_iter().flatten() {
            let pointer = format!("{pointer}/attributes/{}", pointer_token(name));
            match definition.slot(name) {
                Some(_) if value.is_null() => {}
                Some(slot) => self.attribute(slot.attribute, value, definition, &pointer),
                None => self.add(&pointer, format!("`{}` has no attribute `{name}`", definition.name)),
            }
        }
        let given = |name: &str| attributes?.get(name);
        for slot in definition.slots.iter().filter(|slot| slot.required) {
            if given(slot.name).is_none_or(Value::is_null) {
                self.add(&format!("{pointer}/attributes/{}", slot.name), format!("{} is required", slot.name));
            }
        }
        if given("format").and_then(Value::as_str) == Some(BANNER) && !self.top_card {
            self.add(&format!("{pointer}/attributes/format"), "a banner stands in the top card only");
        }
        if let (Place::Input(_), Some(name)) = (definition.place, given("name").and_then(Value::as_str))
            && !self.names.insert(name)
        {
            self.add(&format!("{pointer}/attributes/name"), format!("the name `{name}` is used twice"));
        }
        if let (Place::Input(Input::Stepper), Some(attributes)) = (definition.place, attributes) {
            self.stepper(attributes, pointer);
        }
    }

    fn stepper(&mut self, attributes: &Map<String, Value>, pointer: &str) {
        let number = |name: &str, usual: f64| attributes.get(name).and_then(Value::as_f64).unwrap_or(usual);
        if number("min", 0.0) > number("max", 100.0) {
            self.add(&format!("{pointer}/attributes/max"), "max must not be less than min");
        }
        if number("step", 1.0) <= 0.0 {
            self.add(&format!("{pointer}/attributes/step"), "step must be more than 0");
        }
    }

    fn children(&mut self, element: &'c Value, definition: &'static Definition, pointer: &str) {
        let Some(value) = element.get("children").filter(|value| !value.is_null()) else { return };
        let pointer = format!("{pointer}/children");
        let Some(children) = value.as_array() else { return self.add(&pointer, "children must be a list") };
        if definition.children == Children::None && !children.is_empty() {
            return self.add(&pointer, format!("`{}` has no children", definition.name));
        }
        for (index, child) in children.iter().enumerate() {
            let pointer = format!("{pointer}/{index}");
            // Only forms and lists have children, so this goes three levels deep at most.
            if let Some(kind) = self.element(child, &pointer)
                && !definition.children.admit(kind.place)
            {
                self.add(&pointer, format!("`{}` cannot stand in `{}`", kind.name, definition.name));
            }
        }
    }

    fn validations(&mut self, element: &'c Value, definition: &'static Definition, pointer: &str) {
        let Some(value) = element.get("validations").filter(|value| !value.is_null()) else { return };
        let pointer = format!("{pointer}/validations");
        let Some(validations) = value.as_object() else { return self.add(&pointer, "validations must be an object") };
        for (name, validation) in validations {
            let pointer = format!("{pointer}/{}", pointer_token(name));
            let Some(rule) = Rule::named(name) else {
                self.add(&pointer, format!("unknown validation `{name}`"));
                continue;
            };
            if !matches!(definition.place, Place::Input(input) if rule.suits(input)) {
                self.add(&pointer, format!("`{name}` does not suit `{}`", definition.name));
                continue;
            }
            if !validation.is_object() {
                self.add(&pointer, "a validation must be an object with value and message");
                continue;
            }
            self.known(validation, &pointer, &["value", "message"]);
            if let Some(fault) = rule.fault(validation.get("value").unwrap_or(&Value::Null)) {
                self.add(&format!("{pointer}/value"), format!("value {fault}"));
            }
            if let Some(message) = validation.get("message").filter(|message| !message.is_null()) {
                self.text(message, &format!("{pointer}/message"));
            }
        }
    }

    /// Checks a text template.
    pub fn text(&mut self, value: &Value, pointer: &str) {
        match value.as_str() {
            Some(text) => self.template(text, pointer),
            None => self.add(pointer, "must be a string"),
        }
    }

    /// Checks the expressions of a template.
    pub fn template(&mut self, text: &str, pointer: &str) {
        let mentions = match render::mentions(text) {
            Ok(mentions) => mentions,
            Err(error) => return self.violations.extend(error.at(pointer)),
        };
        for mention in mentions {
            let Some(name) = mention.name else { continue };
            let variable = self.variables.iter().find(|variable| variable.name == name);
            if variable.is_some_and(|variable| variable.runtime) && mention.filtered {
                let detail = format!("`{name}` is resolved in the app, which applies no filters");
                self.violations.extend(render::fault_at(text, mention.offset, &detail).at(pointer));
            }
            // Names may have hyphens; one that nobody declared is rather a subtraction.
            if variable.is_none() && name.contains('-') && !name.contains('.') {
                let detail = format!("arithmetic is not allowed, and no variable `{name}` is declared");
                self.violations.extend(render::fault_at(text, mention.offset, &detail).at(pointer));
            }
        }
    }
}

const ID_RULE: &str = "an id must be a string of 1 to 128 characters";

fn valid_id(id: &str) -> bool {
    !id.is_empty() && id.chars().count() <= 128 && !id.contains(char::is_control)
}

fn misplaced(definition: &Definition) -> String {
    match definition.place {
        Place::ListItem => "`listItem` stands in a list only".to_owned(),
        _ => format!("`{}` stands in a form only", definition.name),
    }
}
