//! What the operator sees of the queue: steps that are due and how long they have been, by lane, and steps that wait.
//!
//! How many runs begin and end is counted where it happens (`cardwire_flow_runs_total`), and so is how late each
//! step is executed (`cardwire_flow_step_delay_seconds`).

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Nullable, SmallInt, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use parking_lot::Mutex;

use super::engine::settle::LANES;
use crate::app::App;
use crate::clock::Time;
use crate::db::Prepared;
use crate::error::Result;
use crate::worker::{Progress, Worker};

/// How often the queue is looked at.
const PAUSE: Duration = Duration::from_secs(15);

/// Keeps the operator's figures of the queue.
#[derive(Default)]
pub struct Gauges {
    /// When the queue is looked at next: counting it costs by its length.
    next: Mutex<Option<Time>>,
}

#[derive(QueryableByName)]
struct Due {
    /// `None` for the steps that wait for their time or for something to happen.
    #[diesel(sql_type = Nullable<SmallInt>)]
    lane: Option<i16>,
    #[diesel(sql_type = BigInt)]
    tokens: i64,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    oldest: Option<Time>,
}

impl Worker for Gauges {
    const NAME: &'static str = "flow-gauges";

    async fn run(&self, app: &App) -> Result<Progress> {
        let now = app.clock().now();
        if let Some(next) = *self.next.lock()
            && now < next
        {
            return Ok(Progress::NextAt(next));
        }
        show(&due(&*app.read().await?, now).await?, now);
        let next = now.plus(PAUSE);
        *self.next.lock() = Some(next);
        Ok(Progress::NextAt(next))
    }
}

/// Steps that are due by lane (a wait that is over is a timer's), and those that are not.
async fn due(conn: &AsyncPgConnection, now: Time) -> Result<Vec<Due>> {
    let query = sql_query(
        "SELECT lane, sum(tokens)::bigint AS tokens, min(oldest) AS oldest FROM (
             SELECT lane, count(*) AS tokens, min(wake_at) AS oldest FROM tokens WHERE status = 'ready' GROUP BY lane
             UNION ALL
             SELECT CASE WHEN wake_at <= $1 THEN 1::smallint END, count(*), min(wake_at)
             FROM tokens WHERE status <> 'ready' GROUP BY 1) AS counted
         GROUP BY lane",
    )
    .bind::<Timestamptz, _>(now);
    Ok(Prepared(query).load(&mut &*conn).await?)
}

fn show(due: &[Due], now: Time) {
    for (lane, name) in (0_i16..).zip(LANES) {
        let found = due.iter().find(|due| due.lane == Some(lane));
        let tokens = found.map_or(0.0, |due| due.tokens as f64);
        let age = found.and_then(|due| due.oldest).map_or(0.0, |oldest| now.since(oldest).as_secs_f64());
        metrics::gauge!("cardwire_flow_tokens_due", "lane" => name).set(tokens);
        metrics::gauge!("cardwire_flow_tokens_due_age_seconds", "lane" => name).set(age);
    }
    let waiting: i64 = due.iter().filter(|due| due.lane.is_none()).map(|due| due.tokens).sum();
    metrics::gauge!("cardwire_flow_tokens_waiting").set(waiting as f64);
}
