//! Append-only tables are cut into days, so that forgetting is dropping a table.

use std::time::Duration;

use diesel::sql_query;
use diesel::sql_types::{Integer, Text, Timestamptz};
use diesel_async::RunQueryDsl;
use parking_lot::Mutex;

use crate::app::App;
use crate::clock::{Time, day_of};
use crate::error::Result;
use crate::worker::{Progress, Worker};

/// A partitioned table and how long its days are kept. `None`: its area forgets them.
struct Kept {
    table: &'static str,
    days: Option<u64>,
}

const TABLES: &[Kept] = &[
    Kept { table: "events", days: None },
    Kept { table: "export_chunks", days: None },
    Kept { table: "feed_changes", days: Some(1) },
    // The longest schedule of retries, a hundred of them, spans seventeen days.
    Kept { table: "webhook_deliveries", days: Some(30) },
    Kept { table: "webhook_requests", days: Some(30) },
];

const DAY: Duration = Duration::from_secs(24 * 3600);
const DAYS_AHEAD: i32 = 7;

/// Makes the partitions of the coming days and drops those past their time.
pub async fn maintain(app: &App, now: Time) -> Result<()> {
    let conn = app.read().await?;
    for kept in TABLES {
        sql_query("SELECT ensure_partitions($1::regclass, $2::timestamptz, $3)")
            .bind::<Text, _>(kept.table)
            .bind::<Timestamptz, _>(day_of(now).minus(DAY))
            .bind::<Integer, _>(DAYS_AHEAD + 1)
            .execute(&mut &*conn)
            .await?;
        if let Some(days) = kept.days {
            sql_query("SELECT drop_partitions($1::regclass, $2::timestamptz)")
                .bind::<Text, _>(kept.table)
                .bind::<Timestamptz, _>(day_of(now).minus(DAY * u32::try_from(days).unwrap_or(u32::MAX)))
                .execute(&mut &*conn)
                .await?;
        }
    }
    Ok(())
}

/// Keeps the partitions ahead of the clock.
#[derive(Default)]
pub struct Partitioner {
    /// The day for which they are made.
    made: Mutex<Option<Time>>,
}

impl Worker for Partitioner {
    const NAME: &'static str = "partitioner";

    async fn run(&self, app: &App) -> Result<Progress> {
        let today = day_of(app.clock().now());
        if *self.made.lock() != Some(today) {
            maintain(app, today).await?;
            *self.made.lock() = Some(today);
        }
        Ok(Progress::NextAt(today.plus(DAY)))
    }
}
