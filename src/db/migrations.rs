//! Brings a database to the schema of this version.

use diesel_async::{AsyncConnection, AsyncMigrationHarness, AsyncPgConnection, SimpleAsyncConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use crate::error::{Error, Result};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

/// Keeps two servers that start at once from migrating at once.
const LOCK: i64 = 0x6361_7264_7769_7265;

/// Applies what is pending and gives the names of what was applied.
pub async fn run(url: &str) -> Result<Vec<String>> {
    let mut conn = AsyncPgConnection::establish(url).await.map_err(|error| Error::unavailable(1, error))?;
    conn.batch_execute(&format!("SELECT pg_advisory_lock({LOCK})")).await?;
    let mut harness = AsyncMigrationHarness::new(conn);
    let applied = harness.run_pending_migrations(MIGRATIONS).map_err(Error::internal)?;
    Ok(applied.iter().map(ToString::to_string).collect())
}

/// Takes every migration back, newest first. For the test that migrations go both ways.
pub async fn revert_all(url: &str) -> Result<usize> {
    let conn = AsyncPgConnection::establish(url).await.map_err(|error| Error::unavailable(1, error))?;
    let mut harness = AsyncMigrationHarness::new(conn);
    Ok(harness.revert_all_migrations(MIGRATIONS).map_err(Error::internal)?.len())
}

/// Tells whether migrations wait to be applied.
pub async fn pending(url: &str) -> Result<bool> {
    let conn = AsyncPgConnection::establish(url).await.map_err(|error| Error::unavailable(1, error))?;
    AsyncMigrationHarness::new(conn).has_pending_migration(MIGRATIONS).map_err(Error::internal)
}
