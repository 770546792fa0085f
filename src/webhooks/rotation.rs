//! Rotates a subscription's secret with an overlap in which old and new both sign.

use std::time::Duration;

use super::sign;
use super::subscription::{SEAL, Subscription, find_locked_in, save_in};
use crate::access::{Access, Level, Resource, audit};
use crate::app::App;
use crate::error::{Error, Result};
use crate::ids::WebhookId;

const DEFAULT_HOURS: i32 = 24;
const MOST_HOURS: i32 = 168;

/// Makes a new secret. The old one goes on signing for the overlap, 24 hours unless said otherwise.
pub async fn rotate(app: &App, access: &Access, id: WebhookId, overlap_hours: Option<i32>) -> Result<Subscription> {
    access.require(Resource::WebhookSubscription, Level::Admin)?;
    let hours = overlap_hours.unwrap_or(DEFAULT_HOURS);
    let overlap = u64::try_from(hours)
        .ok()
        .filter(|_| hours <= MOST_HOURS)
        .map(|hours| Duration::from_secs(hours * 3600))
        .ok_or_else(|| Error::invalid("/overlapHours", format!("overlapHours must be between 0 and {MOST_HOURS}")))?;
    app.transact(async |tx| {
        let mut subscription = find_locked_in(tx, access.env(), id).await?;
        let new = app.vault().seal(tx.ids(), SEAL, &sign::generate(tx.ids()))?;
        let old = std::mem::replace(&mut subscription.secret, new);
        (subscription.previous_secret, subscription.previous_secret_until) =
            if overlap.is_zero() { (None, None) } else { (Some(old), Some(tx.now().plus(overlap))) };
        save_in(tx, &mut subscription).await?;
        audit::record_in(tx, access, "webhook-subscription.rotate-secret", id, &["secret"]).await?;
        Ok(subscription)
    })
    .await
}

/// Ends the overlap: only the new secret signs from now on.
pub async fn finish(app: &App, access: &Access, id: WebhookId) -> Result<Subscription> {
    access.require(Resource::WebhookSubscription, Level::Admin)?;
    app.transact(async |tx| {
        let mut subscription = find_locked_in(tx, access.env(), id).await?;
        if subscription.previous_secret.is_none() {
            return Ok(subscription);
        }
        (subscription.previous_secret, subscription.previous_secret_until) = (None, None);
        save_in(tx, &mut subscription).await?;
        audit::record_in(tx, access, "webhook-subscription.finish-rotation", id, &["secret"]).await?;
        Ok(subscription)
    })
    .await
}
