//! What the requests to a trigger do: nothing, test runs, or live runs (§9.5).

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel_async::RunQueryDsl;

use super::edit::find_locked;
use super::sample;
use crate::access::{Access, Level, Resource, audit};
use crate::app::App;
use crate::clock::Time;
use crate::db::Tx;
use crate::db::schema::triggers;
use crate::error::{Code, Error, Result};
use crate::flows::{self, Trigger};
use crate::ids::TriggerId;

/// A mode that members choose. A trigger is paused by the server alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Test,
    Live,
    Disabled,
}

impl Mode {
    fn word(self) -> &'static str {
        match self {
            Mode::Test => "test",
            Mode::Live => "live",
            Mode::Disabled => "disabled",
        }
    }

    /// The modes from which this one may be chosen. Triggers without a URL have no test mode: nobody can try them alone.
    fn from(self, kind: &str) -> &'static [&'static str] {
        match self {
            Mode::Test if kind != "webhook" => &[],
            Mode::Live if kind != "webhook" => &["live", "disabled"],
            Mode::Test => &["test", "live", "disabled", "paused"],
            Mode::Live => &["test", "live"],
            Mode::Disabled => &["test", "live", "paused", "disabled"],
        }
    }
}

/// Switches a trigger. To go live the flow must be published and the mapping must do with the sample.
pub async fn set(app: &App, access: &Access, id: TriggerId, mode: Mode) -> Result<Trigger> {
    let level = if mode == Mode::Test { Level::Edit } else { Level::Admin };
    access.require(Resource::ActionFlow, level)?;
    change(app, access, id, mode, From::Mode).await
}

/// Puts a paused trigger back to work.
pub async fn reactivate(app: &App, access: &Access, id: TriggerId) -> Result<Trigger> {
    access.require(Resource::ActionFlow, Level::Admin)?;
    change(app, access, id, Mode::Live, From::Pause).await
}

/// Where a change may begin.
enum From {
    /// In the modes from which the new one may be chosen.
    Mode,
    Pause,
}

async fn change(app: &App, access: &Access, id: TriggerId, mode: Mode, from: From) -> Result<Trigger> {
    // The mapping runs outside the transaction, on the revision that the transaction then insists on.
    let checked = super::edit::read(app, access, id).await?;
    if mode == Mode::Live {
        sample::must_map(app, &checked).await?;
    }
    app.transact(async |tx| {
        let trigger = find_locked(tx, access.env(), id).await?;
        let from = match from {
            From::Mode => mode.from(&trigger.kind),
            From::Pause => &["paused"],
        };
        if !from.contains(&trigger.mode.as_str()) {
            let detail = format!("a trigger that is {} cannot become {} this way", trigger.mode, mode.word());
            return Err(Error::conflict(detail));
        }
        if mode == Mode::Live {
            if trigger.revision != checked.revision {
                return Err(Error::conflict("the trigger was changed meanwhile"));
            }
            let flow = flows::lock_in(tx, access.env(), trigger.flow_id).await?;
            // An event trigger waits for the publication.
            if flow.published_version.is_none() && trigger.kind == "webhook" {
                return Err(Error::new(Code::NotPublished, "the flow is not published"));
            }
        }
        let trigger = write_in(tx, &trigger, mode).await?;
        audit::record_in(tx, access, "trigger.mode", id, &["mode"]).await?;
        Ok(trigger)
    })
    .await
}

async fn write_in(tx: &Tx, trigger: &Trigger, mode: Mode) -> Result<Trigger> {
    if mode == Mode::Live && trigger.mode != "live" {
        // What was recorded until now fires nothing.
        let since = triggers::since_xid.eq(sql::<BigInt>("pg_current_xact_id()::text::bigint"));
        let row = triggers::table.find((trigger.environment_id, trigger.id));
        diesel::update(row).set(since).execute(&mut tx.conn()).await?;
    }
    Ok(diesel::update(triggers::table.find((trigger.environment_id, trigger.id)))
        .set((
            triggers::mode.eq(mode.word()),
            triggers::paused_at.eq(None::<Time>),
            triggers::paused_reason.eq(None::<String>),
            triggers::paused_shape.eq(None::<serde_json::Value>),
            triggers::capture_until.eq(trigger.capture_until.filter(|_| mode != Mode::Disabled)),
            triggers::updated_at.eq(tx.now()),
            triggers::revision.eq(triggers::revision + 1),
        ))
        .returning(Trigger::as_returning())
        .get_result(&mut tx.conn())
        .await?)
}
