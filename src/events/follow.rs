//! Follows the record as it grows: each event that is committed, once, in commit-safe order, from any place on.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::FutureExt;
use futures_util::stream::Stream;

use super::log::{Filter, Logged, Permit};
use super::tail::{self, BATCH, Spot, Start};
pub use super::tail::{Followed, Mark};
use crate::app::App;
use crate::error::Result;
use crate::ids::{EnvId, Id};

/// Follows the events of an environment from now on, or from where an earlier follower stopped.
pub async fn follow(
    app: &App,
    permit: Permit,
    filter: Filter,
    after: Option<Mark>,
) -> Result<impl Stream<Item = Result<Followed<Logged>>> + use<>> {
    filter.check()?;
    // Listening comes first, so that nothing falls between the look and the wait.
    let bell = app.wakes().recorded();
    let (env, filter) = (permit.env(), std::sync::Arc::new(filter));
    tail::follow(
        app,
        bell,
        after,
        Box::new(move |conn, from| {
            let filter = filter.clone();
            async move { beyond(conn, env, &filter, from).await }.boxed()
        }),
    )
    .await
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(embed)]
    event: Logged,
    #[diesel(sql_type = BigInt)]
    xid: i64,
}

async fn beyond(conn: &AsyncPgConnection, env: EnvId, filter: &Filter, from: Start) -> Result<Vec<(Logged, Spot)>> {
    let query = sql_query(
        "SELECT id, name, custom, end_user_id, occurred_at, received_at, is_test, payload, xid FROM events
         WHERE environment_id = $1 AND (xid, id) > ($2, $3) AND received_at >= $4
           AND xid < pg_snapshot_xmin(pg_current_snapshot())::text::bigint",
    )
    .into_boxed::<diesel::pg::Pg>()
    .bind::<SqlUuid, _>(env)
    .bind::<BigInt, _>(from.spot.xid)
    .bind::<SqlUuid, _>(from.spot.id)
    .bind::<Timestamptz, _>(from.since);
    let conditions = filter.narrow(query, 4);
    let end = format!(" ORDER BY xid, id LIMIT ${}", conditions.binds() + 1);
    let rows: Vec<Row> = conditions.finish(end).bind::<BigInt, _>(BATCH).load(&mut &*conn).await?;
    let placed = |row: Row| {
        let spot = Spot { xid: row.xid, id: row.event.id.uuid() };
        (row.event, spot)
    };
    Ok(rows.into_iter().map(placed).collect())
}
