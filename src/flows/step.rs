//! The step types that a flow can have, and what their `config` may say.

use serde_json::{Map, Value};

use super::fields::{Fields, join};
use crate::cards::options::CardOptions;
use crate::cards::render;
use crate::clock::{Period, Time};
use crate::error::Violations;
use crate::ids::{Id, TemplateId};

/// What a step does.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    SendCard(Box<SendCard>),
    Wait(Wait),
    /// Ends the whole run, waits included.
    End,
}

/// Sends one card of a template to the customer.
#[derive(Clone, Debug, PartialEq)]
pub struct SendCard {
    pub template: TemplateId,
    /// What fills the template's variables: text with expressions, or a plain JSON value.
    pub variables: Map<String, Value>,
    pub options: CardOptions,
    pub send_notifications: Option<bool>,
}

/// Lets time pass before the next step.
#[derive(Clone, Debug, PartialEq)]
pub enum Wait {
    Duration(Period),
    /// Text that gives a date-time; a time in the past is no wait.
    Until(String),
}

/// The step types of the specification that this server cannot run yet.
const LATER: &[&str] = &["sendNotification", "branch", "sendRequest", "updateCustomer", "sendEvent", "cancelCards"];

impl Action {
    /// The word for this action in a definition.
    pub fn kind(&self) -> &'static str {
        match self {
            Action::SendCard(_) => "sendCard",
            Action::Wait(_) => "wait",
            Action::End => "end",
        }
    }

    /// Reads `type` and `config` of the step at `pointer`.
    pub(super) fn parse(
        kind: &str,
        config: Option<&Value>,
        pointer: &str,
        violations: &mut Violations,
    ) -> Option<Action> {
        let absent = Value::Object(Map::new());
        let config = config.unwrap_or(&absent);
        let at = join(pointer, "config");
        match kind {
            "sendCard" => SendCard::parse(config, &at, violations).map(|card| Action::SendCard(Box::new(card))),
            "wait" => Wait::parse(config, &at, violations).map(Action::Wait),
            "end" => {
                Fields::open(config, at, violations)?.only(&[], violations);
                Some(Action::End)
            }
            later if LATER.contains(&later) => {
                violations.add(join(pointer, "type"), format!("the step type `{later}` is not available yet"));
                None
            }
            _ => {
                violations.add(join(pointer, "type"), format!("`{kind}` is not a step type"));
                None
            }
        }
    }
}

impl SendCard {
    fn parse(config: &Value, pointer: &str, violations: &mut Violations) -> Option<SendCard> {
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
        for (name, value) in &variables {
            check_template(value, join(&fields.pointer("variables"), name), violations);
        }
        let options = violations.check(CardOptions::parse_step(config, pointer));
        let send_notifications = fields.truth("sendNotifications", violations);
        Some(SendCard { template: template?, variables, options: options?, send_notifications })
    }
}

impl Wait {
    fn parse(config: &Value, pointer: &str, violations: &mut Violations) -> Option<Wait> {
        let fields = Fields::open(config, pointer, violations)?;
        match fields.required_text("for", violations)? {
            "duration" => {
                fields.only(&["for", "duration"], violations);
                let text = fields.required_text("duration", violations)?;
                let period = Period::parse(text).map_err(|error| error.at(fields.pointer("duration")));
                violations.check(period).map(Wait::Duration)
            }
            "until" => {
                fields.only(&["for", "until"], violations);
                let text = fields.required_text("until", violations)?;
                if text.contains("{{") {
                    check_template(&Value::from(text), fields.pointer("until"), violations);
                } else if let Err(error) = Time::parse(text) {
                    violations.extend(error.at(fields.pointer("until")));
                }
                Some(Wait::Until(text.to_owned()))
            }
            "cardAction" => {
                violations.add(fields.pointer("for"), "waiting for a card action is not available yet");
                None
            }
            other => {
                violations.add(fields.pointer("for"), format!("`{other}` is not something to wait for"));
                None
            }
        }
    }
}

/// Checks the expressions in a text; other values are taken as they are.
fn check_template(value: &Value, pointer: String, violations: &mut Violations) {
    if let Some(text) = value.as_str() {
        violations.check(render::check_template(text).map_err(|error| error.at(pointer)));
    }
}
