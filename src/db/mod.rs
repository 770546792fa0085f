//! Postgres: the pool, transactions, migrations, paging, partitions, and the private cluster of the embedded default.
//!
//! Cast: [`Pool`] hands out [`Connection`]s; [`Tx`] is a connection inside a transaction together with the one
//! instant of that transaction and the announcements that leave after its commit. Queries take
//! `&AsyncPgConnection`, so that independent ones can be pipelined. Nothing here knows a domain table.

mod constraint;
pub mod embedded;
pub mod migrations;
pub mod page;
pub mod partitions;
mod prepared;
#[rustfmt::skip]
pub mod schema;
mod stored_json;
mod tx;

use std::time::Duration;

use ::deadpool::managed::{Hook, HookError, Metrics, QueueMode};
use diesel::ConnectionError;
use diesel_async::pooled_connection::deadpool::{self, Object};
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod};
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use futures_util::FutureExt;

pub use constraint::{OnConstraint, violated};
pub(crate) use prepared::{Placed, Prepared};
pub use stored_json::StoredJson;
pub use tx::Tx;

use crate::error::{Error, Result};

/// A pooled connection. Dereferences to [`AsyncPgConnection`].
pub type Connection = Object<AsyncPgConnection>;

/// How long a request waits for a free connection before it is told to come back.
const WAIT: Duration = Duration::from_secs(10);

/// What is said on a connection that reads feeds.
///
/// Their one statement asks by key alone, whatever it is asked, so one plan does for all. Left to itself Postgres
/// plans it anew each time, because it expects more of an array that it cannot see: longer than reading a feed takes.
const FEEDS: &str = "SET plan_cache_mode = force_generic_plan";

/// What is said on a connection that looks at the record of events.
///
/// Its statements say which days they ask. With few days one plan does for all, and days that are not asked are passed
/// over when it is executed. With a year of them that plan takes fifty milliseconds and megabytes to make, and one that is
/// made for the days that are asked opens no others. Left to itself Postgres makes the first to compare and then the
/// second each time: a look was planned 0.8 ms and executed 0.04.
///
/// They go by the indexes that have their order, however small a day is when the plan is made; and nothing is compiled
/// because a table without such an index looks costly then.
const RECORD: &str = "SELECT set_config('enable_seqscan', 'off', false), set_config('enable_bitmapscan', 'off', false),
    set_config('jit', 'off', false), set_config('plan_cache_mode',
        CASE WHEN (SELECT count(*) FROM pg_inherits WHERE inhparent = to_regclass('events')) > 30
            THEN 'force_custom_plan' ELSE 'force_generic_plan' END, false)";

/// The connections of this process.
#[derive(Clone)]
pub struct Pool {
    all: deadpool::Pool<AsyncPgConnection>,
    /// Those who follow feeds wait for nobody else's work.
    feeds: deadpool::Pool<AsyncPgConnection>,
    record: deadpool::Pool<AsyncPgConnection>,
}

impl Pool {
    /// At most `size` connections, half as many that only read feeds, and a few that look at the record of events.
    pub fn new(url: &str, size: usize) -> Result<Pool> {
        Ok(Pool {
            all: connections(url, size, "")?,
            feeds: connections(url, size / 2, FEEDS)?,
            record: connections(url, (size / 4).clamp(2, 6), RECORD)?,
        })
    }

    pub async fn get(&self) -> Result<Connection> {
        self.all.get().await.map_err(|error| Error::unavailable(1, error))
    }

    /// A connection for reading feeds.
    pub async fn feeds(&self) -> Result<Connection> {
        self.feeds.get().await.map_err(|error| Error::unavailable(1, error))
    }

    /// A connection for looking at the record of events.
    pub async fn record(&self) -> Result<Connection> {
        self.record.get().await.map_err(|error| Error::unavailable(1, error))
    }

    pub fn close(&self) {
        self.all.close();
        self.feeds.close();
        self.record.close();
    }
}

fn saying(first: &'static str) -> ManagerConfig<AsyncPgConnection> {
    let mut config = ManagerConfig::default();
    config.custom_setup = Box::new(move |url| {
        let url = url.to_owned();
        async move {
            let mut conn = AsyncPgConnection::establish(&url).await?;
            conn.batch_execute(first).await.map_err(ConnectionError::CouldntSetupConfiguration)?;
            Ok(conn)
        }
        .boxed()
    });
    config
}

/// Tells whether a connection has doubled its age since it was used last.
///
/// The plans of a connection were made for tables as they were: for nearly empty ones any index looks good. Until
/// Postgres analyses a table that has grown it goes by them, so they are believed only as long again as they exist.
fn grown_old(metrics: &Metrics) -> bool {
    let doublings = |age: Duration| age.as_millis().max(256).ilog2();
    let last = metrics.recycled.map_or(Duration::ZERO, |recycled| recycled.duration_since(metrics.created));
    doublings(metrics.created.elapsed()) > doublings(last)
}

/// Connections on which something is said first, and again when their plans are made anew: what is best may have changed.
fn connections(url: &str, size: usize, first: &'static str) -> Result<deadpool::Pool<AsyncPgConnection>> {
    let mut config = saying(first);
    config.recycling_method = RecyclingMethod::Fast;
    let manager = AsyncDieselConnectionManager::new_with_config(url, config);
    deadpool::Pool::builder(manager)
        .max_size(size)
        .post_recycle(Hook::async_fn(move |conn: &mut AsyncPgConnection, metrics| {
            let grown = grown_old(metrics);
            async move {
                if grown {
                    let anew = format!("DISCARD PLANS; {first}");
                    conn.batch_execute(&anew).await.map_err(|error| HookError::message(error.to_string()))?;
                }
                Ok(())
            }
            .boxed()
        }))
        .wait_timeout(Some(WAIT))
        .create_timeout(Some(WAIT))
        // The one that was used last has its plans and caches at hand; the others make theirs when they are needed.
        .queue_mode(QueueMode::Lifo)
        .runtime(::deadpool::Runtime::Tokio1)
        .build()
        .map_err(Error::internal)
}
