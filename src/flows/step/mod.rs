//! The step types that a flow can have, and what their `config` may say (specification 8.3).
//!
//! One file for each type. Reading a `config` reports everything that is wrong with it; whether steps fit each other
//! is for the graph to say.

mod branch;
mod cancel_cards;
mod send_card;
mod send_event;
mod send_notification;
mod send_request;
mod update_customer;
mod wait;

use serde_json::{Map, Value};

pub use branch::Branch;
pub use cancel_cards::CancelCards;
pub use send_card::SendCard;
pub use send_event::SendEvent;
pub use send_notification::SendNotification;
pub use send_request::{Body, FAILURE_PATH, SUCCESS_PATH, SendRequest};
pub use update_customer::UpdateCustomer;
pub use wait::{CardAction, MATCHED_PATH, TIMEOUT_PATH, Wait};

use super::fields::{Fields, join};
use crate::cards::render;
use crate::error::Violations;

/// What a step does.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    SendCard(Box<SendCard>),
    SendNotification(SendNotification),
    Wait(Wait),
    Branch(Branch),
    SendRequest(Box<SendRequest>),
    UpdateCustomer(UpdateCustomer),
    SendEvent(SendEvent),
    CancelCards(CancelCards),
    /// Ends the whole run, waits included.
    End,
}

impl Action {
    /// The word for this action in a definition.
    pub fn kind(&self) -> &'static str {
        match self {
            Action::SendCard(_) => "sendCard",
            Action::SendNotification(_) => "sendNotification",
            Action::Wait(_) => "wait",
            Action::Branch(_) => "branch",
            Action::SendRequest(_) => "sendRequest",
            Action::UpdateCustomer(_) => "updateCustomer",
            Action::SendEvent(_) => "sendEvent",
            Action::CancelCards(_) => "cancelCards",
            Action::End => "end",
        }
    }

    /// The named paths that lead on from here. Without any, children name no path.
    pub fn paths(&self) -> Vec<&str> {
        match self {
            Action::Branch(branch) => branch.paths(),
            Action::Wait(Wait::CardAction(_)) => vec![MATCHED_PATH, TIMEOUT_PATH],
            Action::SendRequest(_) => vec![SUCCESS_PATH, FAILURE_PATH],
            _ => Vec::new(),
        }
    }

    /// The other steps that the configuration names, with pointers relative to the step.
    pub fn mentioned_steps(&self) -> Vec<(&str, String)> {
        match self {
            Action::Wait(Wait::CardAction(wait)) => vec![(wait.step.as_str(), "/config/step".to_owned())],
            Action::SendNotification(SendNotification { card_step: Some(step), .. }) => {
                vec![(step.as_str(), "/config/cardStep".to_owned())]
            }
            Action::CancelCards(CancelCards::Steps(steps)) => {
                let named = steps.iter().enumerate();
                named.map(|(place, step)| (step.as_str(), format!("/config/steps/{place}"))).collect()
            }
            _ => Vec::new(),
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
        let action = match kind {
            "sendCard" => Action::SendCard(Box::new(SendCard::parse(config, &at, violations)?)),
            "sendNotification" => Action::SendNotification(SendNotification::parse(config, &at, violations)?),
            "wait" => Action::Wait(Wait::parse(config, &at, violations)?),
            "branch" => Action::Branch(Branch::parse(config, &at, violations)?),
            "sendRequest" => Action::SendRequest(Box::new(SendRequest::parse(config, &at, violations)?)),
            "updateCustomer" => Action::UpdateCustomer(UpdateCustomer::parse(config, &at, violations)?),
            "sendEvent" => Action::SendEvent(SendEvent::parse(config, &at, violations)?),
            "cancelCards" => Action::CancelCards(CancelCards::parse(config, &at, violations)?),
            "end" => {
                Fields::open(config, at, violations)?.only(&[], violations);
                Action::End
            }
            _ => {
                violations.add(join(pointer, "type"), format!("`{kind}` is not a step type"));
                return None;
            }
        };
        Some(action)
    }
}

/// What expressions of a flow can begin with (specification 8.4).
const PARTS: &[&str] = &["payload", "variables", "profile", "steps", "run"];

/// Checks the expressions in every text of a value.
fn check_templates(value: &Value, pointer: &str, violations: &mut Violations) {
    match value {
        Value::String(text) => check_template(text, pointer, violations),
        Value::Array(items) => {
            for (place, item) in items.iter().enumerate() {
                check_templates(item, &join(pointer, place), violations);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                check_templates(field, &join(pointer, name), violations);
            }
        }
        _ => {}
    }
}

/// Checks the expressions in a text: they must be well formed and begin with a part of the context.
fn check_template(text: &str, pointer: &str, violations: &mut Violations) {
    let Some(mentions) = violations.check(render::mentions(text).map_err(|error| error.at(pointer))) else { return };
    for name in mentions.into_iter().filter_map(|mention| mention.name) {
        let first = name.split('.').next().unwrap_or_default();
        if !PARTS.contains(&first) {
            let parts = PARTS.join(", ");
            violations.add(pointer, format!("`{name}` begins with none of the parts of a flow's context: {parts}"));
        }
    }
}
