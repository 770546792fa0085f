//! What an app may report before anybody has signed in to it: that a request failed (specification 10.2).

use serde_json::Value;

use super::{Sent, check, event_id, remember_in};
use crate::access::AppAccess;
use crate::access::rate::ANONYMOUS_EVENTS;
use crate::app::App;
use crate::cards::scene;
use crate::clock::Time;
use crate::error::{Error, Result};
use crate::events::{self, EventContext, NewEvent};

/// The one event that needs no customer.
const REQUEST_FAILED: &str = "request-failed";

/// An event as an app without a customer reports it.
#[derive(Clone, Debug)]
pub struct AnonymousReport {
    /// `evt_…` or a UUID.
    pub id: String,
    pub name: String,
    pub timestamp: Option<Time>,
    pub properties: Option<Value>,
    pub local_timestamp: Option<String>,
}

impl<'a> From<&'a AnonymousReport> for Sent<'a> {
    fn from(AnonymousReport { id, properties, local_timestamp, .. }: &'a AnonymousReport) -> Sent<'a> {
        Sent { id, properties: properties.as_ref(), local_timestamp: local_timestamp.as_deref() }
    }
}

/// Records the failed requests that are new among the reports. Gives the ids that need not be sent again: all of
/// them. `rate_limited` when the address has reported too many, and then nothing is recorded.
pub async fn track_anonymous(app: &App, access: &AppAccess, reports: Vec<AnonymousReport>) -> Result<Vec<String>> {
    check(&reports, ANONYMOUS_EVENTS as usize)?;
    let processed = reports.iter().map(|report| report.id.clone()).collect();
    let ours: Vec<AnonymousReport> = reports.into_iter().filter(|report| report.name == REQUEST_FAILED).collect();
    if ours.is_empty() {
        return Ok(processed);
    }
    let count = u32::try_from(ours.len()).map_err(Error::internal)?;
    app.limits().anonymous_events.take_many(access.info.address, count, app.clock().now())?;
    app.transact(async |tx| {
        let mut new =
            remember_in(tx, access.env, ours.iter().filter_map(|report| event_id(&report.id)).collect()).await?;
        let events: Vec<NewEvent> = ours
            .iter()
            .filter_map(|report| {
                let id = event_id(&report.id).filter(|id| new.remove(id))?;
                Some(NewEvent { id: Some(id), ..event(access, report) })
            })
            .collect();
        events::record_in(tx, access.env, &events).await.map(drop)
    })
    .await?;
    Ok(processed)
}

fn event(access: &AppAccess, report: &AnonymousReport) -> NewEvent {
    NewEvent {
        timestamp: report.timestamp,
        context: Some(EventContext {
            ip: access.info.address.map(|address| address.to_string()),
            action_source: None,
            user_local_timestamp: report.local_timestamp.clone(),
        }),
        properties: report.properties.clone(),
        sdk: Some(scene::app_context(&access.sdk)),
        ..NewEvent::anonymous(REQUEST_FAILED)
    }
}
