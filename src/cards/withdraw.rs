//! Cards of runs: what became of them, and taking back those that are still open.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;

use crate::cards::instance::CardInstance;
use crate::cards::lifecycle::Status;
use crate::cards::transition::{self, Circumstances, Transition};
use crate::clock::Time;
use crate::db::schema::cards;
use crate::db::{Prepared, Tx};
use crate::error::Result;
use crate::ids::{CardId, EnvId, RunId};

/// A card as a later step of its run sees it.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = cards)]
pub struct Fate {
    pub id: CardId,
    pub run_id: RunId,
    pub step_key: String,
    pub status: Status,
    pub response: Option<Value>,
    pub button_name: Option<String>,
    pub closed_at: Option<Time>,
    pub created_at: Time,
}

/// What became of the cards of some runs.
pub async fn fates(conn: &AsyncPgConnection, env: EnvId, runs: &[RunId]) -> Result<Vec<Fate>> {
    let found =
        cards::table.filter(cards::environment_id.eq(env).and(cards::run_id.eq_any(runs))).select(Fate::as_select());
    Ok(found.load(&mut &*conn).await?)
}

/// Cancels the open cards that these steps of runs have sent. Gives the run of each.
///
/// Locks cards, and feeds after them, so a transaction that locks customers or feeds otherwise must not call it.
pub(crate) async fn withdraw_in(tx: &mut Tx, env: EnvId, steps: &[(RunId, String)]) -> Result<Vec<(RunId, String)>> {
    let (runs, keys): (Vec<RunId>, Vec<&str>) = steps.iter().map(|(run, key)| (*run, key.as_str())).unzip();
    let lock = sql_query(
        "SELECT cards.* FROM cards
         JOIN UNNEST($2::uuid[], $3::text[]) AS asked (run_id, step_key) USING (run_id, step_key)
         WHERE cards.environment_id = $1 AND cards.status IN ('embargoed', 'active', 'snoozed')
         ORDER BY cards.id FOR NO KEY UPDATE OF cards",
    )
    .bind::<SqlUuid, _>(env)
    .bind::<Array<SqlUuid>, _>(runs)
    .bind::<Array<Text>, _>(keys);
    let open: Vec<CardInstance> = Prepared(lock).load(&mut tx.conn()).await?;
    // The statement may have waited for whoever closed a card meanwhile; its row is then the new one.
    let open: Vec<CardInstance> = open.into_iter().filter(|card| card.status.open()).collect();
    let withdrawn = open.iter().map(|card| (card.run_id, card.step_key.clone())).collect();
    let transitions: Vec<Transition> = open.into_iter().map(|card| Transition::new(card, Status::Cancelled)).collect();
    transition::apply_in(tx, env, &transitions, &Circumstances::default()).await?;
    Ok(withdrawn)
}
