//! The private cluster of the embedded default: PostgreSQL as a child of the server, in its data directory.
//!
//! Cast: [`binaries`] finds PostgreSQL, [`place`] decides where the cluster and its socket live and who owns them,
//! [`supervisor`] keeps the child running. It listens on a unix socket only. A lock file keeps a second server out;
//! after a `kill -9` of the server the child ends by itself (Linux) or is found through its pid file and ended at
//! the next start; after a `kill -9` of the child the supervisor starts it again.

mod binaries;
mod place;
mod supervisor;

use std::path::Path;
use std::time::Duration;

use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};

use self::place::Place;
use self::supervisor::Supervisor;
use crate::error::{Error, Result};

pub use self::binaries::find as find_binaries;
pub use self::place::running;

/// How long a cluster may take to answer: recovery after a crash included.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(10);
const DATABASE: &str = "cardwire";

/// A running private cluster. Dropping it stops PostgreSQL.
pub struct Cluster {
    url: String,
    supervisor: Supervisor,
    place: Place,
}

impl Cluster {
    /// Starts the cluster of a data directory, making it first where there is none.
    pub async fn start(data_dir: &Path, binaries: Option<&Path>) -> Result<Cluster> {
        let binaries = binaries::find(binaries)?;
        let data_dir = data_dir.to_owned();
        let started = tokio::task::spawn_blocking(move || {
            let place = Place::prepare(&data_dir)?;
            place.end_orphan()?;
            place.initialise(&binaries)?;
            let supervisor = Supervisor::start(&place, &binaries)?;
            Ok::<_, Error>((place, supervisor))
        });
        let (place, supervisor) = started.await.map_err(Error::internal)??;
        let url = place.url(DATABASE);
        let cluster = Cluster { url, supervisor, place };
        let maintenance = cluster.place.url("postgres");
        cluster.wait_until_ready(&maintenance).await?;
        create_database(&maintenance, &cluster.url).await?;
        cluster.place.announce(&cluster.url)?;
        Ok(cluster)
    }

    /// The connection string of the product's database.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stops PostgreSQL and waits until it has written everything.
    pub async fn stop(self) {
        let stopped = tokio::task::spawn_blocking(move || drop(self));
        if stopped.await.is_err() {
            tracing::error!("stopping PostgreSQL failed");
        }
    }

    async fn wait_until_ready(&self, url: &str) -> Result<()> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            match AsyncPgConnection::establish(url).await {
                Ok(_) => return Ok(()),
                Err(error) if tokio::time::Instant::now() >= deadline => return Err(Error::unavailable(1, error)),
                Err(_) => {}
            }
            if let Some(reason) = self.supervisor.failure() {
                return Err(Error::internal(reason));
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

async fn create_database(maintenance: &str, url: &str) -> Result<()> {
    if AsyncPgConnection::establish(url).await.is_ok() {
        return Ok(());
    }
    let mut conn = AsyncPgConnection::establish(maintenance).await.map_err(|error| Error::unavailable(1, error))?;
    conn.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await?;
    Ok(())
}
