//! The sample from which a trigger is set up: pasted or captured, mapped on trial, started as a test.

use std::time::Duration;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::{Map, Value};

use super::edit::{Kind, find_locked};
use super::mapping::{self, DEFAULT_SCRIPT, Mapping, Problem};
use super::receive::BODY_BYTES;
use super::{edit, event, shape, target};
use crate::access::{Access, Level, Resource, audit};
use crate::app::App;
use crate::clock::Time;
use crate::db::schema::triggers;
use crate::error::{Code, Error, Result};
use crate::events::TriggerSource;
use crate::flows::{self, Caller, Mode, StartRequest, Started, Trigger};
use crate::ids::TriggerId;
use crate::text;

/// How long a capture waits for a request.
const WINDOW: Duration = Duration::from_secs(600);

/// Stores a pasted sample.
pub async fn set(app: &App, access: &Access, id: TriggerId, sample: Value) -> Result<Trigger> {
    access.require(Resource::ActionFlow, Level::Edit)?;
    text::shallow(&sample, "/sample")?;
    if sample.to_string().len() > BODY_BYTES {
        return Err(Error::invalid("/sample", format!("a sample has at most {} KiB", BODY_BYTES / 1024)));
    }
    app.transact(async |tx| {
        find_locked(tx, access.env(), id).await?;
        let trigger = diesel::update(triggers::table.find((access.env(), id)))
            .set((
                triggers::sample.eq(&sample),
                triggers::sample_headers.eq(Value::Object(Map::new())),
                triggers::sample_at.eq(tx.now()),
                triggers::updated_at.eq(tx.now()),
                triggers::revision.eq(triggers::revision + 1),
            ))
            .returning(Trigger::as_returning())
            .get_result(&mut tx.conn())
            .await?;
        audit::record_in(tx, access, "trigger.sample", id, &["sample"]).await?;
        Ok(trigger)
    })
    .await
}

/// Opens a window in which the next request becomes the sample.
pub async fn arm(app: &App, access: &Access, id: TriggerId) -> Result<Trigger> {
    let until = app.clock().now().plus(WINDOW);
    set_window(app, access, id, Some(until)).await
}

/// Closes the window again.
pub async fn cancel_capture(app: &App, access: &Access, id: TriggerId) -> Result<Trigger> {
    set_window(app, access, id, None).await
}

async fn set_window(app: &App, access: &Access, id: TriggerId, until: Option<Time>) -> Result<Trigger> {
    access.require(Resource::ActionFlow, Level::Edit)?;
    app.transact(async |tx| {
        let trigger = find_locked(tx, access.env(), id).await?;
        if trigger.kind != "webhook" {
            return Err(Error::conflict("only a webhook trigger captures requests"));
        }
        if until.is_some() && trigger.mode == "disabled" {
            return Err(Error::conflict("a disabled trigger captures nothing"));
        }
        Ok(diesel::update(triggers::table.find((access.env(), id)))
            .set((
                triggers::capture_until.eq(until),
                triggers::updated_at.eq(tx.now()),
                triggers::revision.eq(triggers::revision + 1),
            ))
            .returning(Trigger::as_returning())
            .get_result(&mut tx.conn())
            .await?)
    })
    .await
}

/// What a mapping can read of a sample.
pub fn properties(access: &Access, sample: &Value) -> Result<Vec<shape::Property>> {
    access.require(Resource::ActionFlow, Level::View)?;
    text::shallow(sample, "/sample")?;
    Ok(shape::properties(sample))
}

/// The script that new mappings begin with.
pub fn preset(access: &Access) -> Result<&'static str> {
    access.require(Resource::ActionFlow, Level::View)?;
    Ok(DEFAULT_SCRIPT)
}

/// Something to be mapped on trial.
#[derive(Clone, Copy, Debug)]
pub struct Trial<'a> {
    pub kind: Kind,
    pub mapping: &'a Value,
    /// The body of a request, or the envelope of an event.
    pub sample: &'a Value,
    pub headers: &'a Value,
}

/// Maps a sample without starting anything. The inner error says what is wrong.
pub async fn preview(app: &App, access: &Access, trial: Trial<'_>) -> Result<Result<Value, Vec<Problem>>> {
    access.require(Resource::ActionFlow, Level::Edit)?;
    text::shallow(trial.sample, "/sample")?;
    let mapping = Mapping::parse(trial.mapping)?;
    let mapped = match trial.kind {
        Kind::Webhook => mapping.apply(app.sandbox(), trial.sample, trial.headers).await?,
        Kind::Event => event::map(app, &mapping, trial.sample).await?,
    };
    Ok(mapped.and_then(|mapped| understand(trial.kind, &mapped).map(|_| mapped)))
}

fn understand(kind: Kind, mapped: &Value) -> Result<StartRequest, Vec<Problem>> {
    match kind {
        Kind::Webhook => target::read(mapped),
        Kind::Event => event::read(mapped),
    }
}

/// What the saved mapping makes of a sample.
async fn saved(app: &App, trigger: &Trigger, sample: &Value) -> Result<Result<StartRequest, Vec<Problem>>> {
    let mapping: Mapping = serde_json::from_value(trigger.mapping.clone())?;
    let kind = if trigger.kind == Kind::Event.word() { Kind::Event } else { Kind::Webhook };
    let mapped = match kind {
        Kind::Webhook => mapping.apply(app.sandbox(), sample, &trigger.sample_headers).await?,
        Kind::Event => event::map(app, &mapping, sample).await?,
    };
    Ok(mapped.and_then(|mapped| understand(kind, &mapped)))
}

/// What is wrong with the mapping of a trigger on its own sample; nothing without a sample.
pub async fn warnings(app: &App, trigger: &Trigger) -> Result<Vec<Problem>> {
    let Some(sample) = &trigger.sample else { return Ok(Vec::new()) };
    Ok(saved(app, trigger, sample).await?.err().unwrap_or_default())
}

/// Refuses a trigger whose mapping fails on its sample.
pub(super) async fn must_map(app: &App, trigger: &Trigger) -> Result<()> {
    let problems = warnings(app, trigger).await?;
    if problems.is_empty() { Ok(()) } else { Err(mapping::failed(problems)) }
}

/// Starts the drafts with the saved mapping of the saved sample, as a test. Each call is an invocation of its own.
pub async fn test(app: &App, access: &Access, id: TriggerId) -> Result<Started> {
    access.require(Resource::ActionFlow, Level::Edit)?;
    let trigger = edit::read(app, access, id).await?;
    let Some(sample) = &trigger.sample else {
        return Err(Error::new(Code::Conflict, "the trigger has no sample: paste or capture one first"));
    };
    let mut request = saved(app, &trigger, sample).await?.map_err(mapping::failed)?;
    for entry in &mut request.entries {
        entry.invocation = None;
    }
    let source = if trigger.kind == "event" { TriggerSource::Event } else { TriggerSource::Webhook };
    let caller = Caller { mode: Mode::Test, source, address: access.info().address, trigger: Some(id) };
    app.transact(async |tx| flows::start_in(tx, access.env(), trigger.flow_id, &request, caller).await?.or_refusal())
        .await
}
