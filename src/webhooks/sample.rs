//! Sample events for tests of a subscription: the documented shape of each type, with example values.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::subscription::Subscription;
use crate::clock::Time;
use crate::error::Result;
use crate::events::kind::CUSTOM;
use crate::events::{CardContext, EventContext, PlatformContext, SdkEventContext, StreamContext, TriggerSource, names};
use crate::ids::{EventId, Ids};

/// The envelope in the order of its documentation.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sample<'a> {
    id: EventId,
    #[serde(skip_serializing_if = "Option::is_none")]
    analytics_event: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_name: Option<&'a str>,
    end_user_id: &'a str,
    timestamp: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    card_context: Option<CardContext>,
    event_context: EventContext,
    properties: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    sdk_context: Option<SdkEventContext>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_context: Option<StreamContext>,
    platform_context: PlatformContext,
}

/// Makes a sample of a type for a subscription: in its scope, and marked as a test.
pub fn event(kind: &str, id: EventId, now: Time, subscription: &Subscription, ids: &Ids) -> Result<String> {
    let custom = kind.strip_prefix(CUSTOM);
    let card = kind.starts_with("card-") || kind == "runtime-vars-updated" || kind == "user-redirected";
    let sdk =
        custom.is_none() && (names::SDK.contains(&kind) || status(kind).is_some_and(|(_, by_customer)| by_customer));
    let sample = Sample {
        id,
        analytics_event: custom.is_none().then_some(kind),
        event_type: custom.map(|_| "custom"),
        event_name: custom,
        end_user_id: "user-123",
        timestamp: now,
        card_context: card.then(|| card_context(kind, now, subscription, ids)),
        event_context: EventContext {
            ip: Some("203.0.113.9".to_owned()),
            action_source: sdk.then(|| "card-button".to_owned()),
            user_local_timestamp: sdk.then(|| now.to_string().replace('Z', "+00:00")),
        },
        properties: properties(kind),
        sdk_context: sdk.then(|| SdkEventContext {
            platform: Some("Web".to_owned()),
            sdk_version: Some("1.0.0".to_owned()),
            sdk_device: Some("Example device".to_owned()),
            sdk_timezone: Some("UTC".to_owned()),
            is_dnd_active: false,
            container_id: Some(ids.make(now)),
            client_app_version: Some("unknown".to_owned()),
        }),
        stream_context: sdk.then(|| StreamContext {
            stream_id: ids.make(now),
            stream_name: "Example stream".to_owned(),
            more: Map::new(),
        }),
        platform_context: PlatformContext {
            lifecycle_id: card.then(|| ids.make(now)),
            target_stream_ids: card.then(|| vec![ids.make(now)]),
            target_platforms: card.then(|| ["Web", "iOS", "Android"].map(str::to_owned).to_vec()),
            flow_instance_id: custom.is_none().then(|| ids.make(now)),
            flow_invocation_id: custom.is_none().then(|| "example-invocation".to_owned()),
            flow_config_id: Some(subscription.flow_id.unwrap_or_else(|| ids.make(now))).filter(|_| custom.is_none()),
            flow_version: custom.is_none().then_some(1),
            trigger_event_source: custom.is_none().then_some(TriggerSource::Api),
            is_test: true,
            event_detail: custom.is_none().then(|| json!({ "amount": "12" })),
            event_notification_detail: custom.is_none().then(|| json!({})),
            payload_metadata: None,
        },
    };
    Ok(serde_json::to_string(&sample)?)
}

fn card_context(kind: &str, now: Time, subscription: &Subscription, ids: &Ids) -> CardContext {
    let (status, _) = status(kind).unwrap_or(("active", true));
    CardContext {
        card_instance_id: (kind != "card-error").then(|| ids.make(now)),
        card_instance_status: (kind != "card-error").then(|| status.to_owned()),
        previous_status: (status != "active" && status != "embargoed").then(|| "active".to_owned()),
        card_template_id: subscription.template_id.unwrap_or_else(|| ids.make(now)),
        card_template_name: "Example card".to_owned(),
        card_template_version: 1,
        card_template_settings: json!({ "sendNotifications": false }),
        published_at: (status != "embargoed" && kind != "card-error").then_some(now),
    }
}

/// The status of a card after an event of its lifecycle, and whether customers bring it about.
fn status(kind: &str) -> Option<(&'static str, bool)> {
    Some(match kind {
        "card-published" | "card-unsnoozed" | "card-updated" => ("active", false),
        "card-embargoed" => ("embargoed", false),
        "card-snoozed" => ("snoozed", true),
        "card-completed" => ("completed", true),
        "card-dismissed" => ("dismissed", true),
        "card-expired" => ("expired", false),
        "card-cancelled" => ("cancelled", false),
        "card-voted-up" | "card-voted-down" => ("active", true),
        _ => return None,
    })
}

fn properties(kind: &str) -> Value {
    match kind {
        "card-completed" => json!({ "values": { "choice": "yes", "accept": null }, "buttonName": "accept" }),
        "card-embargoed" => json!({ "embargo": "2030-01-01T00:00:00.000Z" }),
        "card-snoozed" => json!({ "unsnoozeAt": "2030-01-01T00:00:00.000Z", "interval": "PT1H" }),
        "card-error" => json!({ "message": "example" }),
        "card-voted-up" | "card-voted-down" => json!({ "source": "api" }),
        "card-subview-displayed" | "card-subview-exited" => {
            json!({ "subviewId": "details", "subviewTitle": "Details" })
        }
        "runtime-vars-updated" => json!({ "resolvedVariables": { "amount": "12" } }),
        "stream-displayed" => json!({ "displayMode": "stream" }),
        "user-redirected" => json!({ "linkMethod": "url", "url": "https://example.com/", "trigger": "linkButton" }),
        "video-played" | "video-completed" => json!({ "media": "https://example.com/video.mp4" }),
        "request-failed" => json!({ "operation": "feed", "statusCode": 500 }),
        "notification-sent" | "notification-failed" | "notification-suppressed" => json!({ "platform": "Web" }),
        "action-flow-step-completed" | "action-flow-step-failed" => {
            json!({ "stepKey": "offer", "stepType": "sendCard" })
        }
        "segment-entered" | "segment-exited" => json!({ "segmentName": "Example segment" }),
        _ => json!({}),
    }
}
