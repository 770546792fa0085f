//! What was done to cards for which runs wait: the past of a card, and the reader of events that wakes the runs.
//!
//! A wait is first committed and then looks at the past. The reader wakes whoever waits for a card when it passes an
//! event of that card, and the engine looks at the past again. An event that commits before the look is found by it;
//! one that commits later is passed by the reader when the wait can be seen. So none is missed, and one that is seen
//! twice does no harm.

use std::collections::HashMap;

use diesel::QueryableByName;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::{Map, Value};

use crate::app::App;
use crate::clock::Time;
use crate::db::{Prepared, Tx};
use crate::error::Result;
use crate::events::consumer::{Consumer, Place, Position};
use crate::events::names;
use crate::ids::{CardId, EnvId};
use crate::realtime::{Announcement, Work};

/// Events of cards in use that one transaction passes.
const BATCH: i64 = 5_000;

/// Something that was done to a card.
#[derive(Debug)]
pub(in crate::flows) struct Reaction {
    pub name: String,
    pub envelope: Map<String, Value>,
}

impl Reaction {
    /// Tells whether nothing more can happen to the card afterwards.
    pub fn closes(&self) -> bool {
        matches!(&*self.name, "card-completed" | "card-dismissed" | "card-expired" | "card-cancelled")
    }
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = SqlUuid)]
    card_id: CardId,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    payload: String,
}

/// What was done to some cards, in the order in which it was recorded. Each card comes with its customer's id; none of
/// them was sent before `since`.
pub(in crate::flows) async fn of_cards(
    conn: &AsyncPgConnection,
    env: EnvId,
    cards: &[(CardId, String)],
    since: Time,
) -> Result<HashMap<CardId, Vec<Reaction>>> {
    let mut found: HashMap<CardId, Vec<Reaction>> = HashMap::new();
    if cards.is_empty() {
        return Ok(found);
    }
    let (ids, users): (Vec<CardId>, Vec<&str>) = cards.iter().map(|(card, user)| (*card, user.as_str())).unzip();
    let query = sql_query(
        "SELECT events.card_id, events.name, events.payload
         FROM UNNEST($2::uuid[], $3::text[]) AS asked (card_id, end_user_id)
         JOIN cards ON cards.environment_id = $1 AND cards.id = asked.card_id
         JOIN events ON events.environment_id = $1 AND events.end_user_id = asked.end_user_id
              AND events.card_id = asked.card_id AND events.received_at >= cards.created_at
         WHERE events.name = ANY($4) AND events.received_at >= $5
         ORDER BY events.xid, events.id",
    )
    .bind::<SqlUuid, _>(env)
    .bind::<Array<SqlUuid>, _>(ids)
    .bind::<Array<Text>, _>(users)
    .bind::<Array<Text>, _>(names::OF_CARDS_IN_USE)
    .bind::<Timestamptz, _>(since);
    // Not prepared: the plan is for the days that are asked, and made in the middle of a transaction.
    let rows: Vec<Row> = query.load(&mut &*conn).await?;
    for row in rows {
        let envelope = serde_json::from_str(&row.payload)?;
        found.entry(row.card_id).or_default().push(Reaction { name: row.name, envelope });
    }
    Ok(found)
}

/// The condition of the index of events for which runs may wait: those of [`names::OF_CARDS_IN_USE`].
macro_rules! of_cards_in_use {
    () => {
        "name IN ('card-completed', 'card-dismissed', 'card-snoozed', 'card-expired', 'card-cancelled', 'card-displayed',
            'card-voted-up', 'card-voted-down')"
    };
}

/// Wakes runs that wait for cards to which something was done.
pub struct CardWaits;

impl Consumer for CardWaits {
    const READER: &'static str = "card-waits";
    const WORKER: &'static str = "flow-card-waits";
    const WORK: Work = Work::CardWaits;
    const NOBODY: &'static str = concat!(
        "NOT EXISTS (SELECT FROM events WHERE (xid, id) > ($1, $2) AND received_at >= $3 AND ",
        of_cards_in_use!(),
        ")"
    );

    async fn pass(&self, app: &App, place: &mut Place) -> Result<bool> {
        let used = ahead(&*app.read_record().await?, place, app.clock().now()).await?;
        let Some(passed) = used.last().copied() else { return Ok(false) };
        app.transact(async |tx| {
            if wake_in(tx, place, passed).await? > 0 {
                tx.announce(Announcement::Wake(Work::Reactions));
                tx.announce(Announcement::Wake(Work::Flows));
            }
            place.advance_in(tx, passed).await
        })
        .await?;
        Ok(true)
    }
}

/// The events that are safe to pass and may be waited for.
async fn ahead(conn: &AsyncPgConnection, place: &Place, now: Time) -> Result<Vec<Position>> {
    let after = place.position();
    let used = sql_query(concat!(
        "SELECT xid, id AS event_id FROM events
         WHERE (xid, id) > ($1, $2) AND xid < pg_snapshot_xmin(pg_current_snapshot())::text::bigint
             AND received_at >= $4 AND ",
        of_cards_in_use!(),
        " ORDER BY xid, id LIMIT $3"
    ))
    .bind::<BigInt, _>(after.xid)
    .bind::<SqlUuid, _>(after.event_id)
    .bind::<BigInt, _>(BATCH)
    .bind::<Timestamptz, _>(place.since(now));
    Ok(Prepared(used).load(&mut &*conn).await?)
}

/// Readies the tokens that wait for cards of the events between two places, also those that a worker holds now: it
/// may have looked at the past too early.
async fn wake_in(tx: &Tx, place: &Place, to: Position) -> Result<usize> {
    let (now, after) = (tx.now(), place.position());
    let wake = sql_query(concat!(
        "UPDATE tokens SET status = 'ready', lane = 0, wake_at = $5
         FROM (SELECT DISTINCT environment_id, card_id FROM events
               WHERE (xid, id) > ($1, $2) AND (xid, id) <= ($3, $4) AND received_at >= $6
                   AND card_id IS NOT NULL AND ",
        of_cards_in_use!(),
        ") AS used
         WHERE tokens.environment_id = used.environment_id AND tokens.wait_card = used.card_id",
    ))
    .bind::<BigInt, _>(after.xid)
    .bind::<SqlUuid, _>(after.event_id)
    .bind::<BigInt, _>(to.xid)
    .bind::<SqlUuid, _>(to.event_id)
    .bind::<Timestamptz, _>(now)
    .bind::<Timestamptz, _>(place.since(now));
    // Not prepared, for the same reason as above.
    Ok(wake.execute(&mut tx.conn()).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_condition_names_what_can_be_waited_for() {
        let named: Vec<&str> = of_cards_in_use!().split('\'').skip(1).step_by(2).collect();
        assert_eq!(named, names::OF_CARDS_IN_USE);
    }
}
