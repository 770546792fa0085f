//! Lets time pass, or waits for what the customer does with a card.

use serde_json::Value;

use super::check_template;
use crate::clock::{Period, Time};
use crate::error::Violations;
use crate::events::names;
use crate::flows::condition::Condition;
use crate::flows::fields::Fields;

/// The path of a wait whose event came.
pub const MATCHED_PATH: &str = "matched";
/// The path of a wait whose event did not come in time, or cannot come any more.
pub const TIMEOUT_PATH: &str = "timeout";

#[derive(Clone, Debug, PartialEq)]
pub enum Wait {
    Duration(Period),
    /// Text that gives a date-time; a time in the past is no wait.
    Until(String),
    CardAction(Box<CardAction>),
}

/// Waits for an event of the card that an earlier step sent. One that came before counts.
#[derive(Clone, Debug, PartialEq)]
pub struct CardAction {
    /// The key of the *send card* step.
    pub step: String,
    pub events: Vec<String>,
    pub button: Option<String>,
    /// Asked of the event's envelope, beside the parts of the flow's context.
    pub filter: Option<Condition>,
    pub timeout: Period,
}

impl Wait {
    pub(super) fn parse(config: &Value, pointer: &str, violations: &mut Violations) -> Option<Wait> {
        let fields = Fields::open(config, pointer, violations)?;
        match fields.required_text("for", violations)? {
            "duration" => {
                fields.only(&["for", "duration"], violations);
                period(&fields, "duration", violations).map(Wait::Duration)
            }
            "until" => {
                fields.only(&["for", "until"], violations);
                let text = fields.required_text("until", violations)?;
                if text.contains("{{") {
                    check_template(text, &fields.pointer("until"), violations);
                } else if let Err(error) = Time::parse(text) {
                    violations.extend(error.at(fields.pointer("until")));
                }
                Some(Wait::Until(text.to_owned()))
            }
            "cardAction" => CardAction::parse(&fields, violations).map(|wait| Wait::CardAction(Box::new(wait))),
            other => {
                violations.add(fields.pointer("for"), format!("`{other}` is not something to wait for"));
                None
            }
        }
    }
}

impl CardAction {
    fn parse(fields: &Fields<'_>, violations: &mut Violations) -> Option<CardAction> {
        fields.only(&["for", "step", "events", "buttonName", "where", "timeout"], violations);
        let step = fields.required_text("step", violations);
        let events = fields.required("events", violations).and_then(|_| fields.list("events", violations));
        let events: Vec<String> = events.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        let listed = fields.value("events").and_then(Value::as_array).map_or(0, Vec::len);
        let known = events.iter().all(|event| names::OF_CARDS_IN_USE.contains(&event.as_str()));
        if fields.value("events").is_some_and(Value::is_array) && (!known || events.is_empty() || events.len() < listed)
        {
            let names = names::OF_CARDS_IN_USE.join(", ");
            violations.add(fields.pointer("events"), format!("names one or more of: {names}"));
        }
        let button = fields.text("buttonName", violations);
        let filter = fields.value("where");
        let filter = filter.map(|filter| Condition::parse(filter, &fields.pointer("where"), violations));
        let timeout = period(fields, "timeout", violations);
        Some(CardAction {
            step: step?.to_owned(),
            events,
            button: button.map(str::to_owned),
            filter: match filter {
                Some(filter) => Some(filter?),
                None => None,
            },
            timeout: timeout?,
        })
    }
}

fn period(fields: &Fields<'_>, name: &str, violations: &mut Violations) -> Option<Period> {
    let text = fields.required_text(name, violations)?;
    violations.check(Period::parse(text).map_err(|error| error.at(fields.pointer(name))))
}
