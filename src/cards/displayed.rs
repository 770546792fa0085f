//! Cards that their customer has seen (specification 5.5).

use std::collections::BTreeMap;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::cards::feed_change::{self, FeedChange, Op};
use crate::cards::instance::CardInstance;
use crate::cards::lifecycle::Status;
use crate::customers::activity::{self, CardActivity};
use crate::db::Tx;
use crate::db::schema::cards as table;
use crate::error::Result;
use crate::ids::{CardId, CustomerId, EnvId};

/// Takes note that cards were shown to their customer: they are no longer unseen.
///
/// Cards of other customers are left alone. Only a card that was unseen changes the feed, so repeated reports
/// cost nothing.
pub(crate) async fn displayed_in(tx: &mut Tx, env: EnvId, customer: CustomerId, cards: &[CardId]) -> Result<()> {
    let unseen: Vec<CardInstance> = table::table
        .filter(table::environment_id.eq(env).and(table::id.eq_any(cards)))
        .filter(table::customer_id.eq(customer).and(table::unseen))
        .order(table::id)
        .select(CardInstance::as_select())
        .for_no_key_update()
        .load(&mut tx.conn())
        .await?;
    activity::note_cards_in(tx, env, vec![customer], CardActivity::Displayed).await?;
    let changes = unseen
        .iter()
        .filter(|card| card.status == Status::Active)
        .map(|card| FeedChange { customer, card: card.id, op: Op::Displayed })
        .collect();
    let version = feed_change::advance_in(tx, env, changes).await?.remove(&customer);
    let mut by_version: BTreeMap<i64, Vec<CardId>> = BTreeMap::new();
    for card in &unseen {
        let version = version.filter(|_| card.status == Status::Active).unwrap_or(card.feed_version);
        by_version.entry(version).or_default().push(card.id);
    }
    for (version, ids) in by_version {
        diesel::update(table::table.filter(table::environment_id.eq(env).and(table::id.eq_any(ids))))
            .set((table::unseen.eq(false), table::feed_version.eq(version)))
            .execute(&mut tx.conn())
            .await?;
    }
    Ok(())
}
