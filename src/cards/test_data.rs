//! Removes the test cards and test events of an environment, in the background and a bounded number at a time (§8.5).
//!
//! Each round is one transaction: cards or events go, apps that show the cards see them go, and the row of the deletion
//! says how far it has come. So a deletion goes on where it stopped, whenever the process ends.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::access::{Access, Level, Resource, audit};
use crate::app::App;
use crate::cards::feed_change::{self, FeedChange, Op};
use crate::cards::instance::CardInstance;
use crate::cards::lifecycle::Status;
use crate::clock::Time;
use crate::db::schema::{cards, test_data_deletions as deletions};
use crate::db::{Prepared, Tx};
use crate::error::Result;
use crate::ids::{EnvId, TaskId};
use crate::realtime::{Announcement, Work};
use crate::worker::{Progress, Worker};

/// Cards of one round; each may lock a feed.
const CARDS: i64 = 200;
/// Events of one round.
const EVENTS: i64 = 2_000;

/// A deletion and how far it has come.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = deletions)]
pub struct Deletion {
    pub environment_id: EnvId,
    pub id: TaskId,
    /// Only what is older goes.
    pub before: Time,
    /// `running` or `complete`.
    pub status: String,
    pub cards: i64,
    pub events: i64,
    pub created_at: Time,
    pub finished_at: Option<Time>,
}

/// Begins to remove the test cards that were created, and the test events that happened, before a time.
pub async fn delete(app: &App, access: &Access, before: Time) -> Result<Deletion> {
    access.require(Resource::Environment, Level::Edit)?;
    app.transact(async |tx| {
        let id: TaskId = tx.id();
        let deletion = diesel::insert_into(deletions::table)
            .values((
                deletions::environment_id.eq(access.env()),
                deletions::id.eq(id),
                deletions::before.eq(before.min(tx.now())),
                deletions::status.eq("running"),
                deletions::created_at.eq(tx.now()),
            ))
            .returning(Deletion::as_returning())
            .get_result(&mut tx.conn())
            .await?;
        audit::record_in(tx, access, "test-data.delete", id, &[]).await?;
        tx.announce(Announcement::Wake(Work::TestData));
        Ok(deletion)
    })
    .await
}

/// One deletion.
pub async fn find(app: &App, access: &Access, id: TaskId) -> Result<Option<Deletion>> {
    access.require(Resource::Environment, Level::View)?;
    let row = deletions::table.find((access.env(), id)).select(Deletion::as_select());
    Ok(row.first(&mut &*app.read().await?).await.optional()?)
}

/// The worker.
pub struct Remover;

impl Worker for Remover {
    const NAME: &'static str = "test-data-remover";

    fn work() -> Option<Work> {
        Some(Work::TestData)
    }

    async fn run(&self, app: &App) -> Result<Progress> {
        let found = app
            .transact(async |tx| {
                let running: Option<Deletion> = deletions::table
                    .filter(deletions::status.eq("running"))
                    .order(deletions::created_at)
                    .select(Deletion::as_select())
                    .for_update()
                    .skip_locked()
                    .first(&mut tx.conn())
                    .await
                    .optional()?;
                let Some(deletion) = running else { return Ok(None) };
                remove_some_in(tx, &deletion).await.map(Some)
            })
            .await?;
        Ok(found.map_or(Progress::Idle, |()| Progress::More))
    }
}

/// Removes the next cards, or the next events when no card is left, or ends the deletion.
async fn remove_some_in(tx: &mut Tx, deletion: &Deletion) -> Result<()> {
    let row = || deletions::table.find((deletion.environment_id, deletion.id));
    let removed = remove_cards_in(tx, deletion).await?;
    if removed > 0 {
        let cards = deletions::cards.eq(deletions::cards + removed);
        diesel::update(row()).set(cards).execute(&mut tx.conn()).await?;
        return Ok(());
    }
    let gone = remove_events(tx.conn(), deletion).await?;
    if gone.events > 0 {
        return Ok(());
    }
    let over = (deletions::status.eq("complete"), deletions::finished_at.eq(tx.now()));
    diesel::update(row()).set(over).execute(&mut tx.conn()).await?;
    Ok(())
}

async fn remove_cards_in(tx: &mut Tx, deletion: &Deletion) -> Result<i64> {
    let env = deletion.environment_id;
    let locked: Vec<CardInstance> = cards::table
        .filter(cards::environment_id.eq(env).and(cards::is_test).and(cards::created_at.lt(deletion.before)))
        .order(cards::id)
        .limit(CARDS)
        .select(CardInstance::as_select())
        .for_update()
        .load(&mut tx.conn())
        .await?;
    let ids: Vec<_> = locked.iter().map(|card| card.id).collect();
    let own = cards::table.filter(cards::environment_id.eq(env).and(cards::id.eq_any(ids)));
    diesel::delete(own).execute(&mut tx.conn()).await?;
    let changes = locked
        .iter()
        .filter(|card| card.status == Status::Active)
        .map(|card| FeedChange { customer: card.customer_id, card: card.id, op: Op::Delete })
        .collect();
    feed_change::advance_in(tx, env, changes).await?;
    Ok(i64::try_from(locked.len()).unwrap_or(i64::MAX))
}

#[derive(QueryableByName)]
struct Gone {
    #[diesel(sql_type = BigInt)]
    events: i64,
}

/// Deletes the next test events by (`occurred_at`, id), and notes in the same statement how far it came.
async fn remove_events(conn: &AsyncPgConnection, deletion: &Deletion) -> Result<Gone> {
    let query = sql_query(
        "WITH next AS (
             SELECT e.id, e.received_at, e.occurred_at FROM test_data_deletions d
             JOIN events e ON e.environment_id = d.environment_id
             WHERE d.environment_id = $1 AND d.id = $2 AND e.is_test
               AND e.occurred_at >= d.passed_at AND e.occurred_at < d.before
               AND (e.occurred_at, e.id) > (d.passed_at, d.passed_id)
             ORDER BY e.occurred_at, e.id LIMIT $3
         ), gone AS (
             DELETE FROM events USING next
             WHERE events.environment_id = $1 AND events.id = next.id AND events.received_at = next.received_at
         ), last AS (
             SELECT occurred_at, id FROM next ORDER BY occurred_at DESC, id DESC LIMIT 1
         ), noted AS (
             UPDATE test_data_deletions SET passed_at = last.occurred_at, passed_id = last.id,
                    events = events + (SELECT count(*) FROM next)
             FROM last WHERE environment_id = $1 AND test_data_deletions.id = $2
         )
         SELECT count(*) AS events FROM next",
    )
    .bind::<SqlUuid, _>(deletion.environment_id)
    .bind::<SqlUuid, _>(deletion.id)
    .bind::<BigInt, _>(EVENTS);
    Ok(Prepared(query).get_result(&mut &*conn).await?)
}
