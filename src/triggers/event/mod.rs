//! Event triggers: something that happened starts a flow (§9.9).
//!
//! Cast: [`Settings`] say which events fire a trigger. The [`Matcher`] reads the record in commit-safe order and writes a
//! firing for every event and trigger that belong together. The [`Starter`] maps the event of each firing and starts the
//! flow. [`outcome`] tells members what became of which event.
//!
//! Invariants: a firing is written in the transaction that moves the reader's place and leaves in the transaction of the
//! start, so that each event starts a flow once, whenever the process ends; the event's id as the invocation is the second
//! lock, which is never opened again. Firings wait each for themselves: a trigger that cannot be served holds up no other.
//! An event of a flow never fires that flow's own trigger, and chains over several flows end at the hop limit.

mod firing;
mod matcher;
pub mod outcome;
mod settings;
mod start;

pub use matcher::Matcher;
pub use settings::Settings;
pub use start::Starter;

use serde_json::{Value, json};

use super::mapping::{Mapping, Problem};
use super::target;
use crate::app::App;
use crate::error::Result;
use crate::flows::StartRequest;

/// Maps the envelope of an event. Without a mapping of its own the target is the event's customer, and the variables are
/// its properties. The inner error says what is wrong with event or mapping; the outer one is ours.
pub(super) async fn map(app: &App, mapping: &Mapping, envelope: &Value) -> Result<Result<Value, Vec<Problem>>> {
    if !matches!(mapping, Mapping::None) {
        return mapping.apply(app.sandbox(), envelope, &json!({})).await;
    }
    let properties = envelope.get("properties").cloned().unwrap_or_else(|| json!({}));
    let target = envelope.get("endUserId").map(|id| vec![id.clone()]);
    Ok(Ok(json!({ "targetUserIds": target, "variables": properties })))
}

/// Reads a mapped event: the target schema, with one customer.
pub(super) fn read(mapped: &Value) -> Result<StartRequest, Vec<Problem>> {
    let request = target::read(mapped)?;
    match mapped["targetUserIds"].as_array().map_or(1, Vec::len) {
        1 => Ok(request),
        _ => Err(vec![Problem::new("/targetUserIds", "an event starts the flow for one customer")]),
    }
}
