//! Repairs lost hints: compares what listeners have read with what the database holds.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;

use crate::app::App;
use crate::db::Prepared;
use crate::error::Result;
use crate::ids::{ContainerId, CustomerId, EnvId};
use crate::realtime::Announcement;
use crate::worker::{Progress, Worker};

/// A change that was made by another process is found after at most this time.
const PERIOD: Duration = Duration::from_millis(500);

/// Asks the database about the feeds and containers that somebody in this process listens to.
pub struct Sweeper;

#[derive(QueryableByName)]
struct Head {
    #[diesel(sql_type = SqlUuid)]
    environment_id: EnvId,
    #[diesel(sql_type = SqlUuid)]
    customer_id: CustomerId,
    #[diesel(sql_type = BigInt)]
    version: i64,
}

#[derive(QueryableByName)]
struct Shown {
    #[diesel(sql_type = SqlUuid)]
    environment_id: EnvId,
    #[diesel(sql_type = SqlUuid)]
    id: ContainerId,
    #[diesel(sql_type = BigInt)]
    mark: i64,
}

impl Worker for Sweeper {
    const NAME: &'static str = "feed sweeper";

    async fn run(&self, app: &App) -> Result<Progress> {
        sweep_feeds(app).await?;
        sweep_containers(app).await?;
        Ok(Progress::NextAt(app.clock().now().plus(PERIOD)))
    }
}

async fn sweep_feeds(app: &App) -> Result<()> {
    let watched = app.hub().watched_feeds();
    if watched.is_empty() {
        return Ok(());
    }
    let (environments, customers): (Vec<EnvId>, Vec<CustomerId>) = watched.into_iter().unzip();
    let statement = sql_query(
        "SELECT h.environment_id, h.customer_id, h.version FROM feed_heads h
         JOIN UNNEST($1::uuid[], $2::uuid[]) AS watched (environment_id, customer_id)
             USING (environment_id, customer_id)",
    )
    .bind::<Array<SqlUuid>, _>(environments)
    .bind::<Array<SqlUuid>, _>(customers);
    let heads: Vec<Head> = Prepared(statement).load(&mut &*app.read().await?).await?;
    for head in heads {
        let Head { environment_id: env, customer_id: customer, version } = head;
        app.hub().announce(&Announcement::Feed { env, customer, version });
    }
    Ok(())
}

async fn sweep_containers(app: &App) -> Result<()> {
    let watched = app.hub().watched_containers();
    if watched.is_empty() {
        return Ok(());
    }
    let (environments, containers): (Vec<EnvId>, Vec<ContainerId>) = watched.into_iter().unzip();
    // One number for both revisions and what is exposed: it changes when one of them does.
    let statement = sql_query(
        "SELECT k.environment_id, k.id, (k.revision::bigint << 32) + (s.revision::bigint << 1)
             + e.expose_metadata_to_sdk::int AS mark
         FROM containers k
         JOIN environments e ON e.id = k.environment_id
         JOIN streams s ON s.environment_id = k.environment_id AND s.id = k.stream_id
         JOIN UNNEST($1::uuid[], $2::uuid[]) AS watched (environment_id, id)
             ON watched.environment_id = k.environment_id AND watched.id = k.id",
    )
    .bind::<Array<SqlUuid>, _>(environments)
    .bind::<Array<SqlUuid>, _>(containers);
    let shown: Vec<Shown> = Prepared(statement).load(&mut &*app.read().await?).await?;
    for container in shown {
        app.hub().found_container(container.environment_id, container.id, container.mark);
    }
    Ok(())
}
