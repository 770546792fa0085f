//! The content of a card template: its JSON form, what is refused on save, and answers to its forms.
//!
//! - `element` holds the element types as data,
//! - `validate` walks a document and reports every violation with a JSON Pointer,
//! - `attribute` checks what attributes hold,
//! - `form` checks what is said about a template beside its elements: menu, delivery, notification,
//! - `validation` and `response` check what customers answer.
//!
//! Content knows no customers and no rows; `render` makes cards of it.

mod attribute;
pub(crate) mod element;
mod form;
mod response;
mod validate;
mod validation;

use serde::{Serialize, Serializer};
use serde_json::Value;

pub use form::{Delivery, Notification};
pub use response::{Completion, complete};

use super::variable::Variable;
use crate::error::{Error, Result, Violations};
use crate::text;

/// The most bytes that a template's content may have as JSON.
pub const MOST_BYTES: usize = 512 * 1024;
pub const MOST_ELEMENTS: usize = 200;
pub const MOST_SUBVIEWS: usize = 50;

/// Checked content. Its JSON is kept as it was given.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    document: Value,
    variables: Vec<Variable>,
    delivery: Delivery,
    notification: Notification,
}

impl Content {
    /// Checks content as an author gives it. Every violation is reported, pointers begin at the content.
    pub fn parse(document: &Value) -> Result<Content> {
        if !document.is_object() {
            return Err(Error::invalid("", "content must be an object"));
        }
        text::shallow(document, "")?;
        if serde_json::to_string(document)?.len() > MOST_BYTES {
            return Err(Error::invalid("", format!("content takes more than {} KiB", MOST_BYTES / 1024)));
        }
        let mut violations = Violations::new();
        let content = Content::read(document.clone(), &mut violations);
        validate::check(&content, &mut violations);
        violations.finish().map(|()| content)
    }

    /// Takes content from where only checked content is stored.
    pub fn stored(document: Value) -> Content {
        // Rules may have become stricter since; what was published stays in force.
        Content::read(document, &mut Violations::new())
    }

    fn read(document: Value, violations: &mut Violations) -> Content {
        let variables = document.get("variables").filter(|value| !value.is_null());
        let variables = variables.map_or(Ok(Vec::new()), |value| Variable::parse_list(value, "/variables"));
        let variables = violations.check(variables).unwrap_or_default();
        let delivery = Delivery::read(&document, violations);
        let notification = Notification::read(&document, violations);
        Content { document, variables, delivery, notification }
    }

    /// The content as JSON, in the form in which it was given.
    pub fn document(&self) -> &Value {
        &self.document
    }

    pub fn variables(&self) -> &[Variable] {
        &self.variables
    }

    pub fn delivery(&self) -> &Delivery {
        &self.delivery
    }

    pub fn notification(&self) -> &Notification {
        &self.notification
    }

    pub fn top_card(&self) -> &Value {
        &self.document["topCard"]
    }

    pub fn subviews(&self) -> &[Value] {
        self.document.get("subviews").and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// The menu actions; without any in the content a card can be dismissed, and snoozed from the menu.
    pub fn actions(&self) -> Value {
        let given = self.document.get("actions").filter(|actions| !actions.is_null());
        given.cloned().unwrap_or_else(form::usual_actions)
    }
}

impl Serialize for Content {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.document.serialize(serializer)
    }
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "cases are written where they are used")]
mod tests;
