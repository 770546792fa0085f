//! Deleting customers with their cards. Cards of a deleted customer go without lifecycle events (specification 6.1).

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::access::{Access, Level, Resource, audit};
use crate::app::App;
use crate::cards::feed_change::{self, FeedChange, Op};
use crate::cards::instance::CardInstance;
use crate::cards::lifecycle::Status;
use crate::customers::{Customer, profile};
use crate::db::Tx;
use crate::db::schema::{cards, customers};
use crate::error::{Error, Result};
use crate::ids::EnvId;

/// Deletes a test account and its cards. Apps that show them see them go.
pub async fn test_account(app: &App, access: &Access, user_id: &str) -> Result<()> {
    access.require(Resource::TestAccount, Level::Admin)?;
    app.transact(async |tx| {
        let customer = profile::find_by_user_id(tx.conn(), access.env(), user_id).await?;
        let customer = customer.filter(Customer::test).ok_or_else(|| Error::not_found("test account"))?;
        erase_in(tx, access.env(), &customer).await?;
        audit::record_in(tx, access, "test-account.delete", customer.id, &[]).await
    })
    .await
}

/// Deletes the customer and the cards. The feed's head stays, so that open subscriptions learn of it.
async fn erase_in(tx: &mut Tx, env: EnvId, customer: &Customer) -> Result<()> {
    let own = || cards::table.filter(cards::environment_id.eq(env).and(cards::customer_id.eq(customer.id)));
    let locked: Vec<CardInstance> =
        own().order(cards::id).select(CardInstance::as_select()).for_update().load(&mut tx.conn()).await?;
    diesel::delete(own()).execute(&mut tx.conn()).await?;
    diesel::delete(customers::table.find((env, customer.id))).execute(&mut tx.conn()).await?;
    let changes = locked
        .iter()
        .filter(|card| card.status == Status::Active)
        .map(|card| FeedChange { customer: customer.id, card: card.id, op: Op::Delete })
        .collect();
    feed_change::advance_in(tx, env, changes).await?;
    Ok(())
}
