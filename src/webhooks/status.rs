//! Active and disabled: who turns a subscription off, how it comes back, and when it may be deleted.

use diesel::sql_query;
use diesel::sql_types::{Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;

use super::stream;
use super::subscription::{Subscription, find_locked_in};
use crate::access::{Access, Actor, Level, Resource, audit};
use crate::app::App;
use crate::db::Tx;
use crate::error::{Error, Result};
use crate::ids::WebhookId;

/// Why a subscription is disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Api,
    Member,
    Failures,
    Gone,
}

impl Reason {
    pub fn word(self) -> &'static str {
        match self {
            Reason::Api => "api",
            Reason::Member => "member",
            Reason::Failures => "failures",
            Reason::Gone => "gone",
        }
    }
}

/// Stops a subscription; what waits is dropped. A disabled one stays as it is.
pub async fn disable(app: &App, access: &Access, id: WebhookId) -> Result<Subscription> {
    access.require(Resource::WebhookSubscription, Level::Admin)?;
    let reason = if matches!(access.actor(), Actor::Member(_)) { Reason::Member } else { Reason::Api };
    app.transact(async |tx| disable_in(tx, access, id, reason).await).await
}

pub(super) async fn disable_in(tx: &mut Tx, access: &Access, id: WebhookId, reason: Reason) -> Result<Subscription> {
    let mut subscription = find_locked_in(tx, access.env(), id).await?;
    if !subscription.active() {
        return Ok(subscription);
    }
    sql_query(
        "UPDATE webhook_subscriptions
         SET status = 'disabled', disabled_reason = $3, disabled_at = $4, updated_at = $4, revision = revision + 1
         WHERE environment_id = $1 AND id = $2",
    )
    .bind::<SqlUuid, _>(access.env())
    .bind::<SqlUuid, _>(id)
    .bind::<Text, _>(reason.word())
    .bind::<Timestamptz, _>(tx.now())
    .execute(&mut tx.conn())
    .await?;
    stream::drop_waiting_in(tx, access.env(), id).await?;
    audit::record_in(tx, access, "webhook-subscription.disable", id, &["status"]).await?;
    subscription.status = "disabled".to_owned();
    subscription.disabled_reason = Some(reason.word().to_owned());
    subscription.disabled_at = Some(tx.now());
    subscription.updated_at = tx.now();
    subscription.revision += 1;
    Ok(subscription)
}

/// Starts a disabled subscription again: with events recorded from now on, and a zero count of failures.
pub async fn enable(app: &App, access: &Access, id: WebhookId) -> Result<Subscription> {
    access.require(Resource::WebhookSubscription, Level::Admin)?;
    app.transact(async |tx| {
        let mut subscription = find_locked_in(tx, access.env(), id).await?;
        if subscription.active() {
            return Ok(subscription);
        }
        sql_query(
            "UPDATE webhook_subscriptions
             SET status = 'active', disabled_reason = NULL, disabled_at = NULL, updated_at = $3, revision = revision + 1,
                 since_xid = pg_current_xact_id()::text::bigint
             WHERE environment_id = $1 AND id = $2",
        )
        .bind::<SqlUuid, _>(access.env())
        .bind::<SqlUuid, _>(id)
        .bind::<Timestamptz, _>(tx.now())
        .execute(&mut tx.conn())
        .await?;
        stream::drop_waiting_in(tx, access.env(), id).await?;
        audit::record_in(tx, access, "webhook-subscription.enable", id, &["status"]).await?;
        subscription.status = "active".to_owned();
        (subscription.disabled_reason, subscription.disabled_at) = (None, None);
        subscription.updated_at = tx.now();
        subscription.revision += 1;
        Ok(subscription)
    })
    .await
}

/// Deletes a disabled subscription; an active one is a conflict.
pub async fn delete(app: &App, access: &Access, id: WebhookId) -> Result<()> {
    access.require(Resource::WebhookSubscription, Level::Admin)?;
    app.transact(async |tx| {
        if find_locked_in(tx, access.env(), id).await?.active() {
            return Err(Error::conflict("disable the webhook subscription before deleting it"));
        }
        sql_query("DELETE FROM webhook_subscriptions WHERE environment_id = $1 AND id = $2")
            .bind::<SqlUuid, _>(access.env())
            .bind::<SqlUuid, _>(id)
            .execute(&mut tx.conn())
            .await?;
        audit::record_in(tx, access, "webhook-subscription.delete", id, &[]).await
    })
    .await
}
