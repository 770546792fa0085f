//! Timed changes: embargoes and snoozes that end, cards that expire (specification 6.1).

use std::collections::BTreeMap;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::app::App;
use crate::cards::instance::CardInstance;
use crate::cards::lifecycle::Status;
use crate::cards::transition::{self, Circumstances, Transition};
use crate::clock::Time;
use crate::db::Tx;
use crate::db::schema::cards;
use crate::error::Result;
use crate::ids::EnvId;
use crate::realtime::Work;
use crate::worker::{Progress, Worker};

/// Cards per transaction: each may lock a feed.
const BATCH: i64 = 200;

/// Makes the changes whose time has come. Any number of them may run at once: each takes cards nobody else holds.
pub struct CardTimers;

impl Worker for CardTimers {
    const NAME: &'static str = "card-timers";

    fn work() -> Option<Work> {
        Some(Work::CardTimers)
    }

    async fn run(&self, app: &App) -> Result<Progress> {
        let changed = app.transact(ring_in).await?;
        if changed > 0 {
            return Ok(Progress::More);
        }
        Ok(next(app).await?.map_or(Progress::Idle, Progress::NextAt))
    }
}

/// Makes one batch of changes that are due, the most overdue first. Gives their number.
async fn ring_in(tx: &mut Tx) -> Result<usize> {
    let due: Vec<CardInstance> = cards::table
        .filter(cards::due_at.le(tx.now()))
        .order(cards::due_at)
        .limit(BATCH)
        .select(CardInstance::as_select())
        .for_no_key_update()
        .skip_locked()
        .load(&mut tx.conn())
        .await?;
    let changed = due.len();
    let mut by_environment: BTreeMap<EnvId, Vec<Transition>> = BTreeMap::new();
    for card in due {
        let to = destination(&card, tx.now());
        by_environment.entry(card.environment_id).or_default().push(Transition::new(card, to));
    }
    for (env, transitions) in by_environment {
        transition::apply_in(tx, env, &transitions, &Circumstances::default()).await?;
    }
    Ok(changed)
}

/// Where a card goes when its time has come. Expiry wins over everything that is due as well.
fn destination(card: &CardInstance, now: Time) -> Status {
    if card.expires_at.is_some_and(|expires| expires <= now) { Status::Expired } else { Status::Active }
}

/// When the next card changes by itself.
async fn next(app: &App) -> Result<Option<Time>> {
    let conn = app.read().await?;
    let due = cards::table.filter(cards::due_at.is_not_null()).order(cards::due_at).select(cards::due_at);
    Ok(due.first::<Option<Time>>(&mut &*conn).await.optional()?.flatten())
}
