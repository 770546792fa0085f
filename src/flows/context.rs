//! What expressions can see while a flow runs, and what events say of the run (specification 8.4).

use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

use super::request::Payload;
use super::run::Run;
use crate::cards::render;
use crate::clock::zone;
use crate::customers::profile::Customer;
use crate::events::{PlatformContext, TriggerSource};
use crate::ids::TriggerId;

/// The `payload` part: fixed at start, the same for all customers of an entry.
pub(super) fn payload(
    given: &Payload,
    user_ids: &[String],
    source: TriggerSource,
    trigger: Option<TriggerId>,
) -> Value {
    json!({
        "targetUserIds": user_ids,
        "variables": given.variables,
        "metadata": given.metadata,
        "notificationDetail": given.notification_detail,
        "cardOptions": given.written_options,
        "trigger": { "id": trigger, "kind": source },
    })
}

/// What one run can see.
pub(super) struct Scope<'a> {
    pub payload: &'a Value,
    pub variables: &'a Map<String, Value>,
    pub customer: &'a Customer,
    /// Outputs of completed steps by key.
    pub steps: Map<String, Value>,
    pub run: &'a Run,
    /// The environment's zone, for customers without one.
    pub zone: &'a TimeZone,
}

impl Scope<'_> {
    pub fn context(self) -> render::Context {
        let mut profile = self.customer.profile();
        profile.insert("tags".to_owned(), json!(self.customer.tags));
        let run = json!({
            "flowInstanceId": self.run.id,
            "flowInvocationId": self.run.invocation,
            "isTest": self.run.is_test,
            "startedAt": self.run.started_at,
        });
        // Not one `json!`, which would write every part anew.
        let parts = [
            ("payload", self.payload.clone()),
            ("variables", Value::Object(self.variables.clone())),
            ("profile", Value::Object(profile)),
            ("steps", Value::Object(self.steps)),
            ("run", run),
        ];
        let root = parts.into_iter().map(|(name, part)| (name.to_owned(), part)).collect();
        render::Context { root: Value::Object(root), zone: zone_of(self.customer, self.zone) }
    }
}

/// The customer's zone, else the environment's.
pub(super) fn zone_of(customer: &Customer, fallback: &TimeZone) -> TimeZone {
    let own = customer.timezone.as_deref().and_then(|name| zone(name).ok());
    own.unwrap_or_else(|| fallback.clone())
}

/// What the events of a run say of it.
pub(super) fn platform(run: &Run, source: TriggerSource, payload: &Value) -> PlatformContext {
    let part = |name: &str| payload.get(name).cloned();
    PlatformContext {
        lifecycle_id: Some(run.lifecycle_id),
        target_stream_ids: None,
        target_platforms: None,
        flow_instance_id: Some(run.id),
        flow_invocation_id: Some(run.invocation.clone()),
        flow_config_id: Some(run.flow_id),
        flow_version: Some(run.flow_version),
        trigger_event_source: Some(source),
        is_test: run.is_test,
        event_detail: part("variables"),
        event_notification_detail: part("notificationDetail"),
        payload_metadata: part("metadata"),
    }
}

/// The word for a source in rows.
pub(super) fn word(source: TriggerSource) -> &'static str {
    match source {
        TriggerSource::Api => "api",
        TriggerSource::Webhook => "webhook",
        TriggerSource::Segment => "segment",
        TriggerSource::Event => "event",
        TriggerSource::Sfmc => "sfmc",
        TriggerSource::Marketo => "marketo",
        TriggerSource::Manual => "manual",
        TriggerSource::Csv => "csv",
    }
}
