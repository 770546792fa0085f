//! How many cards a customer has, in all and in each container of the app (specification 5.5).

use std::collections::BTreeMap;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Bool, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::access::SdkAccess;
use crate::app::App;
use crate::db::Prepared;
use crate::error::Result;
use crate::ids::{CardId, ContainerId};

/// The active cards of a place, and those of them that were never displayed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    pub active: Vec<CardId>,
    pub unseen: Vec<CardId>,
}

/// The cards of a customer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserMetrics {
    pub total: Metrics,
    /// The containers that the caller's key is granted to.
    pub by_container: BTreeMap<ContainerId, Metrics>,
}

#[derive(QueryableByName)]
struct Counted {
    /// None in the rows of the total.
    #[diesel(sql_type = Nullable<SqlUuid>)]
    container_id: Option<ContainerId>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    card_id: Option<CardId>,
    #[diesel(sql_type = Nullable<Bool>)]
    unseen: Option<bool>,
}

/// Counts in one statement, so that total and containers agree.
pub async fn user_metrics(app: &App, access: &SdkAccess) -> Result<UserMetrics> {
    let counted = count(&*app.read().await?, access).await?;
    let mut metrics = UserMetrics::default();
    for row in counted {
        let place = match row.container_id {
            Some(container) => metrics.by_container.entry(container).or_default(),
            None => &mut metrics.total,
        };
        if let Some(card) = row.card_id {
            place.active.push(card);
            if row.unseen == Some(true) {
                place.unseen.push(card);
            }
        }
    }
    Ok(metrics)
}

async fn count(conn: &AsyncPgConnection, access: &SdkAccess) -> Result<Vec<Counted>> {
    let statement = sql_query(
        "WITH mine AS MATERIALIZED (
            SELECT c.id, c.unseen, c.stream_ids, c.template_id FROM cards c
            WHERE c.environment_id = $1 AND c.customer_id = $2 AND c.status = 'active'
                AND ($4 IS NULL OR $4 = ANY (c.target_platforms))
        )
        SELECT NULL::uuid AS container_id, id AS card_id, unseen FROM mine
        UNION ALL
        SELECT k.id, mine.id, mine.unseen
        FROM container_keys g
        JOIN containers k ON k.environment_id = g.environment_id AND k.id = g.container_id
        JOIN streams s ON s.environment_id = k.environment_id AND s.id = k.stream_id
        LEFT JOIN mine ON s.built_in OR s.id = ANY (mine.stream_ids)
            OR (mine.stream_ids IS NULL AND EXISTS (SELECT FROM stream_templates t
                WHERE t.environment_id = $1 AND t.stream_id = s.id AND t.template_id = mine.template_id))
        WHERE g.environment_id = $1 AND g.sdk_key_id = $3
        ORDER BY card_id",
    )
    .bind::<SqlUuid, _>(access.env)
    .bind::<SqlUuid, _>(access.customer)
    .bind::<SqlUuid, _>(access.key)
    .bind::<Nullable<Text>, _>(access.sdk.platform.as_deref());
    Ok(Prepared(statement).load(&mut &*conn).await?)
}
