//! A kept request once more: for what was refused before somebody mended the mapping.
//!
//! The present mapping reads it, as if it came now. It starts nothing twice: without a `flowInvocationId` of its own it
//! has that of the start it led to, or one that is the request's.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{edit, mapping, receive, request_log};
use crate::access::{Access, Level, Resource, audit};
use crate::app::App;
use crate::db::schema::trigger_requests;
use crate::error::{Error, Result};
use crate::events::TriggerSource;
use crate::flows::{self, Caller, Mode, Started};
use crate::ids::{TriggerId, TriggerRequestId};

/// Starts the flow with a kept request: live runs of a live trigger, test runs of one in test mode. A mapping that
/// does not do with it is told of and pauses nothing.
pub async fn replay(app: &App, access: &Access, id: TriggerId, request: TriggerRequestId) -> Result<Started> {
    let trigger = edit::read(app, access, id).await?;
    let mode = match &*trigger.mode {
        "live" => Mode::Live,
        "test" => Mode::Test,
        other => return Err(Error::conflict(format!("a trigger that is {other} starts nothing"))),
    };
    match mode {
        Mode::Live => access.require(Resource::SendToCustomers, Level::Edit)?,
        Mode::Test => access.require(Resource::ActionFlow, Level::Edit)?,
    }
    let kept = request_log::kept(app, access.env(), id, request).await?;
    let mut start = receive::read(app, &trigger, &kept.posted).await?.map_err(mapping::failed)?;
    for entry in &mut start.entries {
        let before = || kept.invocation.clone().unwrap_or_else(|| request.to_string());
        entry.invocation.get_or_insert_with(before);
    }
    let caller = Caller { mode, source: TriggerSource::Webhook, address: access.info().address, trigger: Some(id) };
    app.transact(async |tx| {
        let started = flows::start_in(tx, access.env(), trigger.flow_id, &start, caller).await?.or_refusal()?;
        diesel::update(trigger_requests::table.find((access.env(), id, request)))
            .set(trigger_requests::replayed_at.eq(tx.now()))
            .execute(&mut tx.conn())
            .await?;
        audit::record_in(tx, access, "trigger.replay", id, &[]).await?;
        Ok(started)
    })
    .await
}
