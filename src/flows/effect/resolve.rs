//! A member says what became of a request of which the server does not know it.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::{Value, json};

use super::{Effect, FAILED, INTENDED, SUCCEEDED, UNKNOWN, wake_run_in};
use crate::access::{Access, Level, Resource, audit};
use crate::app::App;
use crate::db::Tx;
use crate::db::schema::effects;
use crate::error::{Error, Result};
use crate::ids::{EnvId, RunId};
use crate::realtime::{Announcement, Work};

/// What a member found out.
#[derive(Clone, Debug)]
pub enum Resolution {
    /// It took place; the run goes on with this as the body of the answer.
    Succeeded(Option<Value>),
    /// It did not; the run takes the `failure` path.
    Failed,
    /// It shall be made once more, with the same `idempotency-key`.
    Repeat,
}

/// Resolves an effect whose outcome is unknown. Any other is a conflict.
pub async fn resolve(app: &App, access: &Access, run: RunId, step: &str, resolution: Resolution) -> Result<()> {
    access.require(Resource::ActionFlow, Level::Edit)?;
    app.transact(async |tx| {
        resolve_in(tx, access.env(), run, step, &resolution).await?;
        audit::record_in(tx, access, "action-flow.resolve-request", run, &["status"]).await
    })
    .await
}

async fn resolve_in(tx: &mut Tx, env: EnvId, run: RunId, step: &str, resolution: &Resolution) -> Result<()> {
    let found = effects::table.find((env, run, step)).select(Effect::as_select()).for_update();
    let effect: Option<Effect> = found.first(&mut tx.conn()).await.optional()?;
    let effect = effect.ok_or_else(|| Error::not_found("request of a step"))?;
    if effect.status != UNKNOWN {
        return Err(Error::conflict("the outcome of the request is not unknown"));
    }
    let (status, outcome) = match resolution {
        Resolution::Succeeded(body) => (SUCCEEDED, Some(json!({ "status": null, "body": body, "resolved": true }))),
        Resolution::Failed => (FAILED, Some(json!({ "status": null, "body": null, "error": "resolved" }))),
        Resolution::Repeat => (INTENDED, None),
    };
    let over = outcome.is_some();
    diesel::update(effects::table.find((env, run, step)))
        .set((
            effects::status.eq(status),
            effects::outcome.eq(outcome),
            effects::interruptions.eq(0),
            effects::failures.eq(0),
            effects::due_at.eq(tx.now()),
            effects::finished_at.eq(over.then_some(tx.now())),
        ))
        .execute(&mut tx.conn())
        .await?;
    if over {
        return wake_run_in(tx, &effect).await;
    }
    tx.announce(Announcement::Wake(Work::Effects));
    Ok(())
}
