//! The check of what attributes hold.

use std::collections::HashSet;

use serde_json::Value;

use super::element::{Attribute, Definition, Input, Place};
use super::validate::Check;
use super::validation;
use crate::cards::render;
use crate::clock::Period;
use crate::text::{identifier, pointer_token};

impl<'c> Check<'c, '_> {
    pub(super) fn attribute(&mut self, kind: Attribute, value: &'c Value, of: &'static Definition, pointer: &str) {
        match kind {
            Attribute::Text | Attribute::Markdown => self.text(value, pointer),
            Attribute::Url => self.url(value, pointer),
            Attribute::Word(words) => {
                if !value.as_str().is_some_and(|word| words.contains(&word)) {
                    self.add(pointer, format!("must be one of {}", words.join(", ")));
                }
            }
            Attribute::Name => {
                if !value.as_str().is_some_and(identifier) {
                    let rule = "must begin with a letter or `_` and have at most 128 letters, digits, `_`, `.` and `-`";
                    self.add(pointer, rule);
                }
            }
            Attribute::Flag => self.expect(value.is_boolean(), pointer, "must be true or false"),
            Attribute::Count => {
                self.expect(value.as_u64().is_some_and(|count| count > 0), pointer, "must be a whole number from 1");
            }
            Attribute::Number => self.expect(value.is_number(), pointer, "must be a number"),
            Attribute::Initial => self.initial(value, of, pointer),
            Attribute::Values => {
                self.expect(value.is_object(), pointer, "must be an object");
                self.json(value, pointer);
            }
            Attribute::Link => self.link(value, of, pointer),
            Attribute::Options => self.options(value, pointer),
            Attribute::Items => self.items(value, pointer),
            Attribute::Interval => {
                let fits = value.as_str().is_some_and(|text| Period::parse(text).is_ok());
                self.expect(fits, pointer, "must be a positive ISO 8601 duration such as PT30M");
            }
        }
    }

    fn expect(&mut self, fits: bool, pointer: &str, detail: &str) {
        if !fits {
            self.add(pointer, detail);
        }
    }

    fn url(&mut self, value: &Value, pointer: &str) {
        self.text(value, pointer);
        if value.as_str().is_some_and(render::runs_as_script) {
            self.add(pointer, "the schemes javascript, data and vbscript are not allowed");
        }
    }

    /// The first value of an input: a template, or a value of the input's type.
    fn initial(&mut self, value: &Value, of: &Definition, pointer: &str) {
        if let Some(text) = value.as_str() {
            self.template(text, pointer);
            if text.contains("{{") {
                return;
            }
        }
        if let Place::Input(input) = of.place
            && let Some(detail) = validation::mistyped(input, value)
        {
            self.add(pointer, detail);
        }
    }

    /// Checks the templates in a JSON value.
    fn json(&mut self, value: &Value, pointer: &str) {
        match value {
            Value::String(text) => self.template(text, pointer),
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.json(item, &format!("{pointer}/{index}"));
                }
            }
            Value::Object(fields) => {
                for (key, field) in fields {
                    self.json(field, &format!("{pointer}/{}", pointer_token(key)));
                }
            }
            _ => {}
        }
    }

    fn link(&mut self, link: &'c Value, of: &Definition, pointer: &str) {
        let Some(kind) = link.get("kind").and_then(Value::as_str) else {
            return self.add(pointer, "a link must be an object with a kind");
        };
        let known: &[&str] = match kind {
            "url" => &["kind", "url", "target"],
            "subview" => &["kind", "subview"],
            "payload" => &["kind", "payload"],
            _ => &["kind"],
        };
        self.known(link, pointer, known);
        match kind {
            "url" => {
                match link.get("url") {
                    Some(url) => self.url(url, &format!("{pointer}/url")),
                    None => self.add(&format!("{pointer}/url"), "url is required"),
                }
                if let Some(target) = link.get("target").filter(|target| !target.is_null()) {
                    self.expect(target.is_string(), &format!("{pointer}/target"), "must be a string");
                }
            }
            "subview" => {
                let exists = link.get("subview").and_then(Value::as_str).is_some_and(|id| self.subviews.contains(id));
                self.expect(exists, &format!("{pointer}/subview"), "must be the id of a subview");
            }
            "payload" => {
                let payload = link.get("payload").unwrap_or(&Value::Null);
                self.expect(payload.is_object(), &format!("{pointer}/payload"), "must be an object");
                self.json(payload, &format!("{pointer}/payload"));
            }
            "open" => self.expect(of.name == "image", &format!("{pointer}/kind"), "only an image can be opened"),
            "none" => {}
            _ => self.add(&format!("{pointer}/kind"), "must be one of url, subview, payload, open, none"),
        }
    }

    fn options(&mut self, value: &'c Value, pointer: &str) {
        let Some(options) = value.as_array() else { return self.add(pointer, "options must be a list") };
        self.expect(!options.is_empty(), pointer, "needs at least one option");
        let mut seen = HashSet::new();
        for (index, option) in options.iter().enumerate() {
            let pointer = format!("{pointer}/{index}");
            if !option.is_object() {
                self.add(&pointer, "an option must be an object with title and value");
                continue;
            }
            self.known(option, &pointer, &["title", "value"]);
            self.text(option.get("title").unwrap_or(&Value::Null), &format!("{pointer}/title"));
            let pointer = format!("{pointer}/value");
            let value = option.get("value").unwrap_or(&Value::Null);
            match value.as_str() {
                Some(text) => self.template(text, &pointer),
                None => {
                    let fits = !value.is_null() && validation::mistyped(Input::Choice, value).is_none();
                    self.expect(fits, &pointer, "must be a string, a number, true or false");
                }
            }
            self.expect(seen.insert(value.to_string()), &pointer, "is used twice");
        }
    }

    fn items(&mut self, value: &'c Value, pointer: &str) {
        let Some(items) = value.as_array() else { return self.add(pointer, "items must be a list") };
        self.expect(!items.is_empty(), pointer, "needs at least one item");
        let mut seen = HashSet::new();
        for (index, item) in items.iter().enumerate() {
            let pointer = format!("{pointer}/{index}");
            if !item.is_object() {
                self.add(&pointer, "an item must be an object with key, label and checked");
                continue;
            }
            self.known(item, &pointer, &["key", "label", "checked"]);
            let key = item.get("key").and_then(Value::as_str).unwrap_or("");
            self.expect(!key.is_empty(), &format!("{pointer}/key"), "key is required");
            self.expect(seen.insert(key), &format!("{pointer}/key"), "is used twice");
            self.text(item.get("label").unwrap_or(&Value::Null), &format!("{pointer}/label"));
            match item.get("checked") {
                None | Some(Value::Null | Value::Bool(_)) => {}
                Some(Value::String(text)) if text.contains("{{") => self.template(text, &format!("{pointer}/checked")),
                Some(_) => self.add(&format!("{pointer}/checked"), "must be true, false or an expression"),
            }
        }
    }
}
