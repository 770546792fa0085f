//! Tells the customer's devices something.

use serde_json::{Map, Value};

use super::{check_template, check_templates};
use crate::error::Violations;
use crate::flows::fields::{Fields, join};
use crate::ids::{ContainerId, Id};

#[derive(Clone, Debug, PartialEq)]
pub struct SendNotification {
    /// Templates.
    pub title: String,
    pub body: String,
    /// Handed to the app; texts in it are templates.
    pub detail: Map<String, Value>,
    /// Devices that registered one of these are told.
    pub containers: Vec<ContainerId>,
    /// The key of the *send card* step whose card the notification is about.
    pub card_step: Option<String>,
}

impl SendNotification {
    pub(super) fn parse(config: &Value, pointer: &str, violations: &mut Violations) -> Option<SendNotification> {
        let fields = Fields::open(config, pointer, violations)?;
        fields.only(&["title", "body", "detail", "containerIds", "cardStep"], violations);
        let title = fields.required_text("title", violations);
        let body = fields.required_text("body", violations);
        for (name, text) in [("title", title), ("body", body)] {
            if let Some(text) = text {
                check_template(text, &fields.pointer(name), violations);
            }
        }
        let detail = fields.object("detail", violations).cloned().unwrap_or_default();
        check_templates(&Value::Object(detail.clone()), &fields.pointer("detail"), violations);
        let card_step = fields.text("cardStep", violations).map(str::to_owned);
        let listed = fields.list("containerIds", violations);
        if card_step.is_none() && listed.is_none_or(Vec::is_empty) {
            violations.add(fields.pointer("containerIds"), "name a container, or the step of a card in `cardStep`");
        }
        let mut containers = Vec::new();
        for (place, id) in listed.into_iter().flatten().enumerate() {
            match id.as_str().and_then(|id| ContainerId::parse(id).ok()) {
                Some(id) => containers.push(id),
                None => violations.add(join(&fields.pointer("containerIds"), place), "there is no such container"),
            }
        }
        Some(SendNotification { title: title?.to_owned(), body: body?.to_owned(), detail, containers, card_step })
    }
}
