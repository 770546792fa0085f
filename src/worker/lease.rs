//! Leases: one holder at a time for a name, fenced by a token that a later holder changes.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::clock::Time;
use crate::error::Result;

/// What the holder shows with every write it fences: a number that grows with each change of hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence(pub i64);

#[derive(QueryableByName)]
struct Held {
    #[diesel(sql_type = BigInt)]
    fence: i64,
}

/// Takes or renews the lease of `name` for `holder`. `None`: somebody else holds it.
pub async fn take(
    conn: &AsyncPgConnection,
    name: &str,
    holder: &str,
    now: Time,
    term: Duration,
) -> Result<Option<Fence>> {
    let held: Option<Held> = diesel::sql_query(
        "INSERT INTO leases (name, holder, fence, until_at) VALUES ($1, $2, 1, $4)
         ON CONFLICT (name) DO UPDATE SET
             holder = EXCLUDED.holder, until_at = EXCLUDED.until_at,
             fence = leases.fence + CASE WHEN leases.holder = EXCLUDED.holder THEN 0 ELSE 1 END
         WHERE leases.holder = EXCLUDED.holder OR leases.until_at <= $3
         RETURNING fence",
    )
    .bind::<Text, _>(name)
    .bind::<Text, _>(holder)
    .bind::<Timestamptz, _>(now)
    .bind::<Timestamptz, _>(now.plus(term))
    .get_result(&mut &*conn)
    .await
    .optional()?;
    Ok(held.map(|held| Fence(held.fence)))
}

/// Gives the lease back, so that the next holder need not wait for its end.
pub async fn release(conn: &AsyncPgConnection, name: &str, holder: &str) -> Result<()> {
    diesel::sql_query("UPDATE leases SET until_at = '-infinity' WHERE name = $1 AND holder = $2")
        .bind::<Text, _>(name)
        .bind::<Text, _>(holder)
        .execute(&mut &*conn)
        .await?;
    Ok(())
}
