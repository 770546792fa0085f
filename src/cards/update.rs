//! Renders open cards anew when their variables change (specification 8.7).

use diesel::prelude::*;
use diesel::sql_types::{Jsonb, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde::Serialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::cards::deliver::message;
use crate::cards::feed_change::{self, FeedChange, Op};
use crate::cards::instance::CardInstance;
use crate::cards::lifecycle::Status;
use crate::cards::version::Pinned;
use crate::cards::{placement, render, variable};
use crate::customers::Customer;
use crate::db::schema::cards;
use crate::db::{Prepared, Tx};
use crate::error::{Error, Result};
use crate::events;
use crate::ids::{EnvId, Id, RunId};

/// A locked open card, and what it is to be rendered from.
pub(crate) struct Revision<'a> {
    pub card: CardInstance,
    pub customer: &'a Customer,
    /// The version that the card was made from.
    pub pinned: &'a Pinned,
    /// What the step gives for the template's variables.
    pub variables: Map<String, Value>,
    pub context: render::Context,
}

/// Locks the open cards of runs, in the order of their ids.
pub(crate) async fn open_of_runs(conn: &AsyncPgConnection, env: EnvId, runs: &[RunId]) -> Result<Vec<CardInstance>> {
    let open = cards::table
        .filter(cards::environment_id.eq(env).and(cards::run_id.eq_any(runs)))
        .filter(cards::status.eq_any(Status::OPEN))
        .order(cards::id)
        .select(CardInstance::as_select())
        .for_no_key_update();
    Ok(open.load(&mut &*conn).await?)
}

/// Renders the cards and writes those that come out different, with their events and the changes of the feeds that
/// show them. A card that cannot be rendered stays as it is, and a `card-error` says why. Gives how many changed.
pub(crate) async fn update_in(tx: &mut Tx, env: EnvId, revisions: Vec<Revision<'_>>) -> Result<usize> {
    let before: Vec<&CardInstance> = revisions.iter().map(|revision| &revision.card).collect();
    let mut streams = placement::streams_of(tx.conn(), env, &before).await?;
    let mut news = Vec::new();
    let mut changes = Vec::new();
    let mut changed = Vec::new();
    for revision in &revisions {
        let card = &revision.card;
        let streams = streams.remove(&card.id).unwrap_or_default();
        match rendered(revision) {
            Ok(row) if row.same_as(card) => {}
            Ok(row) => {
                news.push(card.event("card-updated", card.status, streams));
                if card.status == Status::Active {
                    let change = FeedChange { customer: card.customer_id, card: card.id, op: Op::Update };
                    changes.push(change);
                }
                changed.push((card, row));
            }
            Err(error) => {
                let mut event = card.event("card-error", card.status, streams);
                event.properties = Some(json!({ "message": message(&error) }));
                news.push(event);
            }
        }
    }
    events::record_in(tx, env, &news).await?;
    let versions = feed_change::advance_in(tx, env, changes).await?;
    for (card, row) in changed.iter_mut().filter(|(card, _)| card.status == Status::Active) {
        row.feed_version = versions.get(&card.customer_id).copied().unwrap_or(card.feed_version);
    }
    let rows: Vec<&Row> = changed.iter().map(|(_, row)| row).collect();
    write_in(tx, env, &rows).await?;
    Ok(rows.len())
}

/// The parts of a card that rendering makes, by the names of the columns.
#[derive(Serialize)]
struct Row {
    id: Uuid,
    feed_version: i64,
    definition: Value,
    runtime_variables: Value,
    variables: Value,
}

impl Row {
    fn same_as(&self, card: &CardInstance) -> bool {
        self.definition == card.definition
            && self.runtime_variables == card.runtime_variables
            && self.variables == card.variables
    }
}

fn rendered(revision: &Revision<'_>) -> Result<Row> {
    let Revision { card, customer, pinned, variables, context } = revision;
    let variables = variable::resolve(pinned.content.variables(), variables, &customer.profile())?;
    let rendered = render::card(&pinned.content, &context.clone().with_variables(&variables))?;
    let (definition, runtime_variables) = rendered.into_parts();
    Ok(Row {
        id: card.id.uuid(),
        feed_version: card.feed_version,
        definition,
        runtime_variables,
        variables: Value::Object(variables),
    })
}

async fn write_in(tx: &mut Tx, env: EnvId, rows: &[&Row]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let update = diesel::sql_query(
        "UPDATE cards SET definition = new.definition, runtime_variables = new.runtime_variables,
             variables = new.variables, feed_version = new.feed_version, updated_at = $2
         FROM jsonb_to_recordset($3) AS new (id uuid, feed_version bigint, definition json, runtime_variables json,
             variables json)
         WHERE cards.environment_id = $1 AND cards.id = new.id",
    )
    .bind::<SqlUuid, _>(env)
    .bind::<Timestamptz, _>(tx.now())
    .bind::<Jsonb, _>(serde_json::to_value(rows)?);
    if Prepared(update).execute(&mut tx.conn()).await? != rows.len() {
        return Err(Error::internal("a card vanished although its row was locked"));
    }
    Ok(())
}
