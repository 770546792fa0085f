//! Cards: the content of a template version with one customer's values in it.

use serde_json::{Map, Value, json};

use super::{Context, Renderer};
use crate::cards::content::Content;
use crate::cards::content::element::{Attribute, Definition};
use crate::error::Result;
use crate::text::pointer_token;

/// A card as apps get it.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    pub top_card: Value,
    pub subviews: Value,
    pub actions: Value,
    /// `{name, type, default, format}` of each variable that the app resolves.
    pub runtime_variables: Value,
}

impl Rendered {
    /// `{topCard, subviews, actions}`, as cards keep it, and the variables that the app resolves.
    pub fn into_parts(self) -> (Value, Value) {
        // Not `json!`, which would write every part anew.
        let parts = [("topCard", self.top_card), ("subviews", self.subviews), ("actions", self.actions)];
        let definition = parts.into_iter().map(|(name, part)| (name.to_owned(), part)).collect();
        (Value::Object(definition), self.runtime_variables)
    }
}

/// Renders content. Runtime variables stay `{{name}}`. Errors point into the content.
pub fn card(content: &Content, context: &Context) -> Result<Rendered> {
    let mut renderer = Renderer::new(context);
    let runtime = || content.variables().iter().filter(|variable| variable.runtime);
    renderer.runtime = runtime().map(|variable| variable.name.as_str()).collect();
    let top_card = renderer.view(content.top_card(), "/topCard")?;
    let mut subviews = Vec::with_capacity(content.subviews().len());
    for (index, subview) in content.subviews().iter().enumerate() {
        subviews.push(renderer.view(subview, &format!("/subviews/{index}"))?);
    }
    let actions = renderer.actions(&content.actions())?;
    let runtime_variables = runtime()
        .map(|variable| {
            json!({ "name": variable.name, "type": variable.kind, "default": variable.default, "format": variable.format })
        })
        .collect();
    Ok(Rendered {
        top_card,
        subviews: Value::Array(subviews),
        actions,
        runtime_variables: Value::Array(runtime_variables),
    })
}

impl Renderer<'_> {
    /// Renders a top card or subview.
    fn view(&mut self, view: &Value, pointer: &str) -> Result<Value> {
        let mut rendered = Map::new();
        for (key, value) in view.as_object().into_iter().flatten() {
            let value = match key.as_str() {
                "elements" => self.elements(value, &format!("{pointer}/elements"))?,
                "title" => self.string(value, &format!("{pointer}/title"))?,
                _ => value.clone(),
            };
            rendered.insert(key.clone(), value);
        }
        Ok(Value::Object(rendered))
    }

    fn elements(&mut self, elements: &Value, pointer: &str) -> Result<Value> {
        let elements = elements.as_array().map_or(&[] as &[Value], Vec::as_slice);
        let rendered: Result<Vec<Value>> = elements
            .iter()
            .enumerate()
            .map(|(index, element)| self.element(element, &format!("{pointer}/{index}")))
            .collect();
        rendered.map(Value::Array)
    }

    fn element(&mut self, element: &Value, pointer: &str) -> Result<Value> {
        let definition = element.get("type").and_then(Value::as_str).and_then(Definition::named);
        let mut rendered = Map::new();
        for (key, value) in element.as_object().into_iter().flatten() {
            let value = match (key.as_str(), value) {
                ("attributes", Value::Object(attributes)) => {
                    let mut kept = Map::new();
                    for (name, value) in attributes {
                        let slot = definition.and_then(|definition| definition.slot(name));
                        let value = match slot.filter(|_| !value.is_null()) {
                            Some(slot) => {
                                let result = self.attribute(slot.attribute, value);
                                result.map_err(|error| {
                                    error.at(format!("{pointer}/attributes/{}", pointer_token(name)))
                                })?
                            }
                            None => value.clone(),
                        };
                        kept.insert(name.clone(), value);
                    }
                    Value::Object(kept)
                }
                ("children", Value::Array(_)) => self.elements(value, &format!("{pointer}/children"))?,
                ("validations", Value::Object(_)) => self.messages(value, &format!("{pointer}/validations"))?,
                _ => value.clone(),
            };
            rendered.insert(key.clone(), value);
        }
        Ok(Value::Object(rendered))
    }

    fn attribute(&mut self, kind: Attribute, value: &Value) -> Result<Value> {
        match kind {
            Attribute::Text => self.string(value, ""),
            Attribute::Markdown => self.markdown(value.as_str().unwrap_or("")).map(Value::String),
            Attribute::Url => self.url(value.as_str().unwrap_or("")).map(Value::String),
            Attribute::Initial | Attribute::Values => self.json(value),
            Attribute::Link => self.fields(value, |renderer, key, value| match key {
                "url" => renderer.url(value.as_str().unwrap_or("")).map(Value::String),
                "payload" => renderer.json(value),
                _ => Ok(value.clone()),
            }),
            Attribute::Options | Attribute::Items => {
                let items = value.as_array().into_iter().flatten();
                let rendered: Result<Vec<Value>> = items
                    .map(|item| {
                        self.fields(item, |renderer, key, value| match key {
                            "title" | "label" => renderer.string(value, ""),
                            "value" | "checked" => renderer.json(value),
                            _ => Ok(value.clone()),
                        })
                    })
                    .collect();
                rendered.map(Value::Array)
            }
            Attribute::Word(_)
            | Attribute::Name
            | Attribute::Flag
            | Attribute::Count
            | Attribute::Number
            | Attribute::Interval => Ok(value.clone()),
        }
    }

    fn fields(
        &mut self,
        object: &Value,
        mut render: impl FnMut(&mut Self, &str, &Value) -> Result<Value>,
    ) -> Result<Value> {
        let mut rendered = Map::new();
        for (key, value) in object.as_object().into_iter().flatten() {
            rendered.insert(key.clone(), render(self, key, value)?);
        }
        Ok(Value::Object(rendered))
    }

    fn messages(&mut self, validations: &Value, pointer: &str) -> Result<Value> {
        self.fields(validations, |renderer, kind, validation| {
            renderer.fields(validation, |renderer, key, value| match key {
                "message" => renderer.string(value, &format!("{pointer}/{kind}/message")),
                _ => Ok(value.clone()),
            })
        })
    }

    fn actions(&mut self, actions: &Value) -> Result<Value> {
        self.fields(actions, |renderer, name, action| {
            renderer.fields(action, |renderer, key, value| match key {
                "feedbackLabel" => renderer.string(value, &format!("/actions/{name}/feedbackLabel")),
                _ => Ok(value.clone()),
            })
        })
    }

    fn string(&mut self, value: &Value, pointer: &str) -> Result<Value> {
        match value.as_str() {
            Some(source) => match self.text(source) {
                Ok(text) => Ok(Value::String(text)),
                Err(error) => Err(if pointer.is_empty() { error } else { error.at(pointer) }),
            },
            None => Ok(value.clone()),
        }
    }
}
