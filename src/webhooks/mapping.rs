//! The script of a subscription, which gives the body that is sent (specification 11.1, limits of 9.4).

use serde_json::Value;

use super::subscription::Subscription;
use super::{payload, sample};
use crate::app::App;
use crate::error::{Error, Result};
use crate::ids::EventId;
use crate::sandbox::{Call, Fault, SOURCE_BYTES};

/// Calls of a sandbox that is busy.
const ATTEMPTS: usize = 3;

/// Why there is no body.
#[derive(Debug)]
pub enum Refusal {
    /// The script's own fault.
    Script(Fault),
    /// All sandboxes were busy, several times.
    Busy,
}

impl Refusal {
    /// A word for the request log.
    pub fn word(&self) -> &'static str {
        match self {
            Refusal::Script(_) => "mapping_failed",
            Refusal::Busy => "mapping_busy",
        }
    }

    /// Where the script failed. Its message may tell of a customer, and so is not for the log of real requests.
    pub fn place(&self) -> Option<String> {
        let Refusal::Script(Fault { line: Some(line), column, .. }) = self else { return None };
        Some(column.map_or_else(|| format!("line {line}"), |column| format!("line {line}, column {column}")))
    }
}

/// Gives the body that the script makes of an envelope.
pub async fn apply(app: &App, source: &str, envelope: &str) -> Result<String, Refusal> {
    let fault = |message: String| Refusal::Script(Fault { message, line: None, column: None });
    let envelope: Value = serde_json::from_str(envelope).map_err(|error| fault(error.to_string()))?;
    for _ in 0..ATTEMPTS {
        match app.sandbox().call(Call { source, function: "map", arguments: &[&envelope] }).await {
            Ok(Ok(mapped)) if mapped.is_object() => return Ok(mapped.to_string()),
            Ok(Ok(_)) => {
                let message = "the script must return an object".to_owned();
                return Err(Refusal::Script(Fault { message, line: Some(1), column: Some(1) }));
            }
            Ok(Err(fault)) => return Err(Refusal::Script(fault)),
            Err(error) => tracing::warn!(%error, "a webhook's script found no sandbox"),
        }
    }
    Err(Refusal::Busy)
}

/// Refuses a script that fails with a sample of the subscription's first type, and says where.
pub(super) async fn check(app: &App, source: &str, subscription: &Subscription) -> Result<()> {
    if source.is_empty() || source.len() > SOURCE_BYTES {
        return Err(Error::invalid("/mapping", format!("a script has 1 to {} KiB", SOURCE_BYTES / 1024)));
    }
    let now = app.clock().now();
    let event: EventId = app.ids().make(now);
    let kind = subscription.types.first().map(String::as_str).unwrap_or_default();
    let sample = sample::event(kind, event, now, subscription, app.ids())?;
    let envelope = payload::Envelope {
        request: payload::request_id(subscription.id, &[event]),
        env: subscription.environment_id,
        webhook: subscription.id,
    };
    let envelope = if subscription.batched { envelope.batch(&[&sample]) } else { envelope.single(&sample) };
    match apply(app, source, &envelope).await {
        Ok(_) => Ok(()),
        Err(Refusal::Busy) => Err(Error::unavailable(1, "all sandboxes are busy")),
        Err(Refusal::Script(fault)) => Err(Error::from(fault).at("/mapping")),
    }
}
