//! What a simulation takes the outside to do: answers of other systems, and what the customer does with cards.
//!
//! `{"<wait step>": {"event", "buttonName"?, "values"?, "after"?}, "<sendRequest step>": {"status", "body"?}}`

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::clock::{Period, Time};
use crate::error::{Result, Violations};
use crate::events::names;
use crate::flows::fields::Fields;
use crate::flows::graph::Graph;
use crate::flows::step::{Action, Wait};

/// What is taken for granted of one step.
#[derive(Debug)]
pub(super) enum Assumed {
    /// The customer does this to the card, so long after the wait began.
    Reaction {
        name: String,
        after: Option<Period>,
        properties: Value,
    },
    Answer {
        status: i64,
        body: Value,
    },
}

/// All that is taken for granted, by step.
#[derive(Debug, Default)]
pub(super) struct Assumptions(HashMap<String, Assumed>);

/// Something that will be done to the card of a step.
#[derive(Debug)]
pub(super) struct Happening {
    pub at: Time,
    /// The step that sent the card.
    pub step: String,
    pub name: String,
    pub properties: Value,
}

impl Happening {
    pub fn expiry(at: Time, step: &str) -> Happening {
        Happening { at, step: step.to_owned(), name: "card-expired".to_owned(), properties: json!({}) }
    }

    pub fn cancellation(at: Time, step: &str) -> Happening {
        Happening { at, step: step.to_owned(), name: "card-cancelled".to_owned(), properties: json!({}) }
    }
}

impl Assumptions {
    /// Reads what was given; pointers begin with `/assume`.
    pub fn parse(given: Option<&Value>, graph: &Graph) -> Result<Assumptions> {
        let mut violations = Violations::new();
        let mut assumptions = HashMap::new();
        let nothing = Value::Object(Map::new());
        let given = given.unwrap_or(&nothing);
        for (key, value) in given.as_object().into_iter().flatten() {
            let pointer = format!("/assume/{}", crate::text::pointer_token(key));
            let assumed = match graph.step(key).map(|step| &step.action) {
                Some(Action::Wait(Wait::CardAction(_))) => reaction(value, pointer, &mut violations),
                Some(Action::SendRequest(_)) => answer(value, pointer, &mut violations),
                Some(_) => {
                    violations.add(pointer, "only waits for cards and requests depend on the outside");
                    None
                }
                None => {
                    violations.add(pointer, "the flow has no such step");
                    None
                }
            };
            assumptions.extend(assumed.map(|assumed| (key.clone(), assumed)));
        }
        violations.finish().map(|()| Assumptions(assumptions))
    }

    pub fn of(&self, key: &str) -> Option<&Assumed> {
        self.0.get(key)
    }

    /// Status and body with which the request of a step is answered.
    pub fn answer(&self, key: &str) -> (i64, Value) {
        match self.0.get(key) {
            Some(Assumed::Answer { status, body }) => (*status, body.clone()),
            _ => (200, Value::Null),
        }
    }
}

fn reaction(value: &Value, pointer: String, violations: &mut Violations) -> Option<Assumed> {
    let fields = Fields::open(value, pointer, violations)?;
    fields.only(&["event", "buttonName", "values", "after"], violations);
    let name = fields.required_text("event", violations)?;
    if !names::OF_CARDS_IN_USE.contains(&name) {
        violations.add(fields.pointer("event"), format!("is one of {}", names::OF_CARDS_IN_USE.join(", ")));
    }
    let after = fields.text("after", violations);
    let after =
        after.and_then(|text| violations.check(Period::parse(text).map_err(|error| error.at(fields.pointer("after")))));
    let mut properties = Map::new();
    for field in ["buttonName", "values"] {
        properties.extend(fields.value(field).map(|value| (field.to_owned(), value.clone())));
    }
    Some(Assumed::Reaction { name: name.to_owned(), after, properties: Value::Object(properties) })
}

fn answer(value: &Value, pointer: String, violations: &mut Violations) -> Option<Assumed> {
    let fields = Fields::open(value, pointer, violations)?;
    fields.only(&["status", "body"], violations);
    let status = fields.required("status", violations)?.as_i64().filter(|status| (100..600).contains(status));
    if status.is_none() {
        violations.add(fields.pointer("status"), "is an HTTP status");
    }
    Some(Assumed::Answer { status: status?, body: fields.value("body").cloned().unwrap_or_default() })
}
