//! Notifications that steps have asked for: recorded with what is to be said and where, for those who send them.

use diesel::sql_query;
use diesel::sql_types::{Array, Bool, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use serde_json::{Value, json};

use crate::db::{Prepared, Tx};
use crate::error::Result;
use crate::ids::{CardId, ContainerId, CustomerId, EnvId, NotificationId, RunId};

/// The state of a notification that nobody has sent yet.
pub(super) const PENDING: &str = "pending";

/// A notification that shall be sent.
#[derive(Debug)]
pub(super) struct Draft {
    pub run: RunId,
    pub step_key: String,
    pub customer: CustomerId,
    pub title: String,
    pub body: String,
    pub detail: Value,
    pub containers: Vec<ContainerId>,
    pub card: Option<CardId>,
    pub is_test: bool,
}

/// Records notifications and gives their ids. A step of a run has one, however often it is executed.
pub(super) async fn record_in(tx: &mut Tx, env: EnvId, drafts: &[Draft]) -> Result<Vec<NotificationId>> {
    if drafts.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<NotificationId> = drafts.iter().map(|_| tx.id()).collect();
    let column = |part: fn(&Draft) -> &str| drafts.iter().map(part).collect::<Vec<_>>();
    let insert = sql_query(
        "INSERT INTO notifications (environment_id, id, run_id, step_key, customer_id, title, body, detail,
                                    container_ids, card_id, is_test, status, created_at)
         SELECT $1, id, run_id, step_key, customer_id, title, body, detail,
                ARRAY(SELECT jsonb_array_elements_text(containers)::uuid), card_id, is_test, 'pending', $2
         FROM UNNEST($3::uuid[], $4::uuid[], $5::text[], $6::uuid[], $7::text[], $8::text[], $9::jsonb[], $10::jsonb[],
                     $11::uuid[], $12::bool[])
              AS new (id, run_id, step_key, customer_id, title, body, detail, containers, card_id, is_test)",
    )
    .bind::<SqlUuid, _>(env)
    .bind::<Timestamptz, _>(tx.now())
    .bind::<Array<SqlUuid>, _>(&ids)
    .bind::<Array<SqlUuid>, _>(drafts.iter().map(|draft| draft.run).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(column(|draft| &draft.step_key))
    .bind::<Array<SqlUuid>, _>(drafts.iter().map(|draft| draft.customer).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(column(|draft| &draft.title))
    .bind::<Array<Text>, _>(column(|draft| &draft.body))
    .bind::<Array<Jsonb>, _>(drafts.iter().map(|draft| draft.detail.clone()).collect::<Vec<_>>())
    .bind::<Array<Jsonb>, _>(drafts.iter().map(|draft| uuids(&draft.containers)).collect::<Vec<_>>())
    .bind::<Array<Nullable<SqlUuid>>, _>(drafts.iter().map(|draft| draft.card).collect::<Vec<_>>())
    .bind::<Array<Bool>, _>(drafts.iter().map(|draft| draft.is_test).collect::<Vec<_>>());
    Prepared(insert).execute(&mut tx.conn()).await?;
    Ok(ids)
}

fn uuids(ids: &[ContainerId]) -> Value {
    json!(ids.iter().map(|id| crate::ids::Id::uuid(*id)).collect::<Vec<_>>())
}
