//! Sends one card of a template to the customer.

use serde_json::{Map, Value};

use super::check_templates;
use crate::cards::options::CardOptions;
use crate::error::Violations;
use crate::flows::fields::Fields;
use crate::ids::{Id, TemplateId};

#[derive(Clone, Debug, PartialEq)]
pub struct SendCard {
    pub template: TemplateId,
    /// What fills the template's variables: text with expressions, or a plain JSON value.
    pub variables: Map<String, Value>,
    pub options: CardOptions,
    /// Whether devices are told of the card; absent, the template decides.
    pub send_notifications: Option<bool>,
}

const KNOWN: &[&str] = &[
    "templateId",
    "variables",
    "streamIds",
    "priority",
    "embargo",
    "expires",
    "expiresInterval",
    "targetPlatforms",
    "sendNotifications",
];

impl SendCard {
    pub(super) fn parse(config: &Value, pointer: &str, violations: &mut Violations) -> Option<SendCard> {
        let fields = Fields::open(config, pointer, violations)?;
        fields.only(KNOWN, violations);
        let template = fields.required_text("templateId", violations).and_then(|text| {
            let known = TemplateId::parse(text).ok();
            if known.is_none() {
                violations.add(fields.pointer("templateId"), "there is no such card template");
            }
            known
        });
        let variables = fields.object("variables", violations).cloned().unwrap_or_default();
        check_templates(&Value::Object(variables.clone()), &fields.pointer("variables"), violations);
        let options = violations.check(CardOptions::parse_step(config, pointer));
        let send_notifications = fields.truth("sendNotifications", violations);
        Some(SendCard { template: template?, variables, options: options?, send_notifications })
    }
}
