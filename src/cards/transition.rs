//! Changes of state: the one way in which cards that exist go from one state to another (specification 6.1).
//!
//! A change writes the card, its event, the customer's activity and the feed in one transaction. Whoever calls
//! [`apply_in`] holds the row locks of the cards and has checked that the change is allowed; of two racing
//! actions the second finds the state that the first left.

use diesel::sql_types::{Jsonb, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::cards::feed_change::{self, FeedChange, Op};
use crate::cards::instance::CardInstance;
use crate::cards::lifecycle::Status;
use crate::cards::placement;
use crate::clock::Time;
use crate::customers::activity::{self, CardActivity};
use crate::db::{Prepared, Tx};
use crate::error::{Error, Result};
use crate::events::{self, EventContext, NewEvent, Recorded, SdkEventContext, StreamContext};
use crate::ids::{CustomerId, EnvId, Id, StreamId};

/// A change that is about to happen to a locked card.
pub(crate) struct Transition {
    pub card: CardInstance,
    pub to: Status,
    pub properties: Option<Value>,
    /// The end of a snooze.
    pub unsnooze_at: Option<Time>,
    pub response: Option<Value>,
    pub button_name: Option<String>,
}

impl Transition {
    pub(crate) fn new(card: CardInstance, to: Status) -> Transition {
        Transition { card, to, properties: None, unsnooze_at: None, response: None, button_name: None }
    }
}

/// What the events of one request have in common.
#[derive(Clone, Debug, Default)]
pub(crate) struct Circumstances {
    pub context: Option<EventContext>,
    pub sdk: Option<SdkEventContext>,
    pub stream: Option<StreamContext>,
}

impl Circumstances {
    /// Fills the contexts of an event.
    pub(crate) fn around(&self, mut event: NewEvent) -> NewEvent {
        event.context.clone_from(&self.context);
        event.sdk.clone_from(&self.sdk);
        event.stream.clone_from(&self.stream);
        event
    }
}

/// Makes the changes. Gives their events in the order of the changes.
pub(crate) async fn apply_in(
    tx: &mut Tx,
    env: EnvId,
    transitions: &[Transition],
    around: &Circumstances,
) -> Result<Vec<Recorded>> {
    if transitions.is_empty() {
        return Ok(Vec::new());
    }
    let cards: Vec<&CardInstance> = transitions.iter().map(|transition| &transition.card).collect();
    let mut streams = placement::streams_of(tx.conn(), env, &cards).await?;
    let events: Vec<NewEvent> = transitions
        .iter()
        .map(|transition| {
            let streams = streams.remove(&transition.card.id).unwrap_or_default();
            around.around(event(transition, streams, tx.now()))
        })
        .collect();
    let recorded = events::record_in(tx, env, &events).await?;
    note_activity_in(tx, env, transitions).await?;
    let changes = transitions.iter().filter_map(feed_change).collect();
    let versions = feed_change::advance_in(tx, env, changes).await?;
    let changed: Vec<Changed<'_>> = transitions
        .iter()
        .map(|transition| {
            let version = feed_change(transition).and_then(|change| versions.get(&change.customer).copied());
            changed(transition, version, tx.now())
        })
        .collect();
    write_in(tx, env, &changed).await?;
    Ok(recorded)
}

/// The name of the event that a change makes.
fn event_name(from: Status, to: Status) -> &'static str {
    match to {
        Status::Embargoed => "card-embargoed",
        Status::Active if from == Status::Snoozed => "card-unsnoozed",
        Status::Active => "card-published",
        Status::Snoozed => "card-snoozed",
        Status::Completed => "card-completed",
        Status::Dismissed => "card-dismissed",
        Status::Cancelled => "card-cancelled",
        Status::Expired => "card-expired",
    }
}

fn event(transition: &Transition, streams: Vec<StreamId>, now: Time) -> NewEvent {
    let Transition { card, to, .. } = transition;
    let mut event = card.event(event_name(card.status, *to), *to, streams);
    if let Some(context) = &mut event.card {
        context.previous_status = Some(card.status.word().to_owned());
        context.published_at = published_at(transition, now);
    }
    event.properties.clone_from(&transition.properties);
    event
}

fn published_at(transition: &Transition, now: Time) -> Option<Time> {
    let published = transition.card.status == Status::Embargoed && transition.to == Status::Active;
    if published { Some(now) } else { transition.card.published_at }
}

/// What a feed sees of a change: only what enters or leaves the active cards.
fn feed_change(transition: &Transition) -> Option<FeedChange> {
    let Transition { card, to, .. } = transition;
    let op = match (card.status, to) {
        (Status::Snoozed, Status::Active) => Op::Unsnooze,
        (_, Status::Active) => Op::Publish,
        (Status::Active, Status::Snoozed) => Op::Snooze,
        (Status::Active, Status::Completed) => Op::Complete,
        (Status::Active, Status::Dismissed) => Op::Dismiss,
        (Status::Active, Status::Cancelled) => Op::Cancel,
        (Status::Active, Status::Expired) => Op::Expire,
        _ => return None,
    };
    Some(FeedChange { customer: card.customer_id, card: card.id, op })
}

async fn note_activity_in(tx: &mut Tx, env: EnvId, transitions: &[Transition]) -> Result<()> {
    let customers = |fits: &dyn Fn(&Transition) -> bool| -> Vec<CustomerId> {
        transitions.iter().filter(|transition| fits(transition)).map(|transition| transition.card.customer_id).collect()
    };
    let published = |transition: &Transition| event_name(transition.card.status, transition.to) == "card-published";
    activity::note_cards_in(tx, env, customers(&published), CardActivity::Published).await?;
    for (status, activity) in [
        (Status::Completed, CardActivity::Completed),
        (Status::Dismissed, CardActivity::Dismissed),
        (Status::Expired, CardActivity::Expired),
    ] {
        activity::note_cards_in(tx, env, customers(&|transition| transition.to == status), activity).await?;
    }
    Ok(())
}

/// The new values of a card, by the names of the columns.
#[derive(Serialize)]
struct Changed<'a> {
    id: Uuid,
    previous: &'static str,
    status: &'static str,
    feed_version: i64,
    unsnooze_at: Option<Time>,
    published_at: Option<Time>,
    active_since: Option<Time>,
    closed_at: Option<Time>,
    response: Option<&'a Value>,
    button_name: Option<&'a str>,
}

fn changed(transition: &Transition, version: Option<i64>, now: Time) -> Changed<'_> {
    let Transition { card, to, .. } = transition;
    Changed {
        id: card.id.uuid(),
        previous: card.status.word(),
        status: to.word(),
        feed_version: version.unwrap_or(card.feed_version),
        unsnooze_at: transition.unsnooze_at,
        published_at: published_at(transition, now),
        active_since: if *to == Status::Active { Some(now) } else { card.active_since },
        closed_at: (!to.open()).then_some(now),
        response: transition.response.as_ref(),
        button_name: transition.button_name.as_deref(),
    }
}

async fn write_in(tx: &mut Tx, env: EnvId, changed: &[Changed<'_>]) -> Result<()> {
    let update = diesel::sql_query(
        "UPDATE cards SET status = new.status, feed_version = new.feed_version, unsnooze_at = new.unsnooze_at,
             published_at = new.published_at, active_since = new.active_since, closed_at = new.closed_at,
             response = new.response, button_name = new.button_name, updated_at = $2
         FROM jsonb_to_recordset($3) AS new (id uuid, previous text, status text, feed_version bigint,
             unsnooze_at timestamptz, published_at timestamptz, active_since timestamptz, closed_at timestamptz,
             response jsonb, button_name text)
         WHERE cards.environment_id = $1 AND cards.id = new.id AND cards.status = new.previous",
    )
    .bind::<SqlUuid, _>(env)
    .bind::<Timestamptz, _>(tx.now())
    .bind::<Jsonb, _>(serde_json::to_value(changed)?);
    let written = Prepared(update).execute(&mut tx.conn()).await?;
    if written != changed.len() {
        return Err(Error::internal("a card changed although its row was locked"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_has_its_event() {
        for (from, to, name) in [
            (Status::Embargoed, Status::Active, "card-published"),
            (Status::Snoozed, Status::Active, "card-unsnoozed"),
            (Status::Active, Status::Snoozed, "card-snoozed"),
            (Status::Snoozed, Status::Expired, "card-expired"),
            (Status::Embargoed, Status::Cancelled, "card-cancelled"),
        ] {
            assert_eq!(event_name(from, to), name);
            assert!(events::names::standard(name));
        }
    }
}
