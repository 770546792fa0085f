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

use ::deadpool::managed::QueueMode;
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::deadpool::{self, Object};
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod};

pub use constraint::{OnConstraint, violated};
pub(crate) use prepared::Prepared;
pub use stored_json::StoredJson;
pub use tx::Tx;

use crate::error::{Error, Result};

/// A pooled connection. Dereferences to [`AsyncPgConnection`].
pub type Connection = Object<AsyncPgConnection>;

/// How long a request waits for a free connection before it is told to come back.
const WAIT: Duration = Duration::from_secs(10);

/// The connections of this process.
#[derive(Clone)]
pub struct Pool(deadpool::Pool<AsyncPgConnection>);

impl Pool {
    pub fn new(url: &str, size: usize) -> Result<Pool> {
        let mut config = ManagerConfig::default();
        config.recycling_method = RecyclingMethod::Fast;
        let manager = AsyncDieselConnectionManager::new_with_config(url, config);
        deadpool::Pool::builder(manager)
            .max_size(size)
            .wait_timeout(Some(WAIT))
            .create_timeout(Some(WAIT))
            // The one that was used last has its plans and caches at hand; the others make theirs when they are needed.
            .queue_mode(QueueMode::Lifo)
            .runtime(::deadpool::Runtime::Tokio1)
            .build()
            .map(Pool)
            .map_err(Error::internal)
    }

    pub async fn get(&self) -> Result<Connection> {
        self.0.get().await.map_err(|error| Error::unavailable(1, error))
    }

    pub fn close(&self) {
        self.0.close();
    }
}
