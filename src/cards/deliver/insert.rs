//! The rows of new cards, by whole columns.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Jsonb, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;

use crate::cards::instance::CardInstance;
use crate::clock::Time;
use crate::db::{Prepared, Tx};
use crate::error::Result;
use crate::ids::{CardId, EnvId, Id, StreamId};
use crate::realtime::{Announcement, Work};

#[derive(QueryableByName)]
struct Due {
    #[diesel(sql_type = SqlUuid)]
    id: CardId,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    due_at: Option<Time>,
}

/// Inserts the cards in one statement and learns when each changes by itself.
pub(super) async fn cards_in(tx: &mut Tx, env: EnvId, fresh: &mut [(usize, CardInstance)]) -> Result<()> {
    if fresh.is_empty() {
        return Ok(());
    }
    let due = insert(tx, env, fresh).await?;
    let due: HashMap<CardId, Option<Time>> = due.into_iter().map(|due| (due.id, due.due_at)).collect();
    for (_, card) in fresh.iter_mut() {
        card.due_at = due.get(&card.id).copied().flatten();
    }
    if fresh.iter().any(|(_, card)| card.due_at.is_some()) {
        tx.announce(Announcement::Wake(Work::CardTimers));
    }
    Ok(())
}

fn column<'a, T>(fresh: &'a [(usize, CardInstance)], part: impl Fn(&'a CardInstance) -> T) -> Vec<T> {
    fresh.iter().map(|(_, card)| part(card)).collect()
}

/// A list in one text: `UNNEST` takes apart lists of lists too.
fn streams(ids: &[StreamId]) -> String {
    ids.iter().map(|id| id.uuid().to_string()).collect::<Vec<_>>().join(",")
}

async fn insert(tx: &Tx, env: EnvId, fresh: &[(usize, CardInstance)]) -> Result<Vec<Due>> {
    let insert = diesel::sql_query(INSERT)
        .bind::<SqlUuid, _>(env)
        .bind::<Timestamptz, _>(tx.now())
        .bind::<Array<SqlUuid>, _>(column(fresh, |card| card.id))
        .bind::<Array<SqlUuid>, _>(column(fresh, |card| card.customer_id))
        .bind::<Array<Text>, _>(column(fresh, |card| card.user_id.as_str()))
        .bind::<Array<SqlUuid>, _>(column(fresh, |card| card.template_id))
        .bind::<Array<Text>, _>(column(fresh, |card| card.template_name.as_str()))
        .bind::<Array<Integer>, _>(column(fresh, |card| card.template_version))
        .bind::<Array<Bool>, _>(column(fresh, |card| card.send_notifications))
        .bind::<Array<SqlUuid>, _>(column(fresh, |card| card.lifecycle_id))
        .bind::<Array<SqlUuid>, _>(column(fresh, |card| card.flow_id))
        .bind::<Array<Integer>, _>(column(fresh, |card| card.flow_version))
        .bind::<Array<SqlUuid>, _>(column(fresh, |card| card.run_id))
        .bind::<Array<Text>, _>(column(fresh, |card| card.step_key.as_str()))
        .bind::<Array<Text>, _>(column(fresh, |card| card.invocation.as_str()))
        .bind::<Array<Text>, _>(column(fresh, |card| card.trigger_source.as_str()))
        .bind::<Array<Bool>, _>(column(fresh, |card| card.is_test))
        .bind::<Array<Text>, _>(column(fresh, |card| card.status.word()))
        .bind::<Array<SmallInt>, _>(column(fresh, |card| card.priority))
        .bind::<Array<Nullable<Text>>, _>(column(fresh, |card| card.stream_ids.as_deref().map(streams)))
        .bind::<Array<Text>, _>(column(fresh, |card| card.target_platforms.join(",")))
        .bind::<Array<Nullable<Timestamptz>>, _>(column(fresh, |card| card.embargo_at))
        .bind::<Array<Nullable<Timestamptz>>, _>(column(fresh, |card| card.expires_at))
        .bind::<Array<Nullable<Timestamptz>>, _>(column(fresh, |card| card.published_at))
        .bind::<Array<Nullable<Timestamptz>>, _>(column(fresh, |card| card.active_since))
        .bind::<Array<Nullable<Text>>, _>(column(fresh, |card| card.snooze_interval.as_deref()))
        .bind::<Array<Jsonb>, _>(column(fresh, |card| &card.definition))
        .bind::<Array<Jsonb>, _>(column(fresh, |card| &card.runtime_variables))
        .bind::<Array<Jsonb>, _>(column(fresh, |card| &card.variables))
        .bind::<Array<Jsonb>, _>(column(fresh, |card| &card.detail))
        .bind::<Array<Jsonb>, _>(column(fresh, |card| &card.metadata))
        .bind::<Array<Jsonb>, _>(column(fresh, |card| &card.notification_detail))
        .bind::<Array<Jsonb>, _>(column(fresh, |card| &card.card_options))
        .bind::<Array<BigInt>, _>(column(fresh, |card| card.feed_version));
    Ok(Prepared(insert).load(&mut tx.conn()).await?)
}

const INSERT: &str = "
    INSERT INTO cards (environment_id, created_at, updated_at, id, customer_id, user_id, template_id, template_name, template_version, send_notifications,
        lifecycle_id, flow_id, flow_version, run_id, step_key, invocation, trigger_source, is_test, status,
        priority, stream_ids, target_platforms, embargo_at, expires_at, published_at, active_since,
        snooze_interval, definition, runtime_variables, variables, detail, metadata, notification_detail,
        card_options, feed_version)
    SELECT $1, $2, $2, id, customer_id, user_id, template_id, template_name, template_version, send_notifications,
        lifecycle_id, flow_id, flow_version, run_id, step_key, invocation, trigger_source, is_test, status,
        priority, string_to_array(stream_ids, ',')::uuid[], string_to_array(target_platforms, ','), embargo_at,
        expires_at, published_at, active_since, snooze_interval, definition, runtime_variables, variables,
        detail, metadata, notification_detail, card_options, feed_version
    FROM UNNEST(
         $3::uuid[], $4::uuid[], $5::text[], $6::uuid[], $7::text[], $8::int[], $9::bool[], $10::uuid[],
         $11::uuid[], $12::int[], $13::uuid[], $14::text[], $15::text[], $16::text[], $17::bool[], $18::text[],
         $19::smallint[], $20::text[], $21::text[], $22::timestamptz[], $23::timestamptz[], $24::timestamptz[],
         $25::timestamptz[], $26::text[], $27::jsonb[], $28::jsonb[], $29::jsonb[], $30::jsonb[], $31::jsonb[],
         $32::jsonb[], $33::jsonb[], $34::bigint[])
         AS new (id, customer_id, user_id, template_id, template_name, template_version, send_notifications,
                 lifecycle_id, flow_id, flow_version, run_id, step_key, invocation, trigger_source, is_test,
                 status, priority, stream_ids, target_platforms, embargo_at, expires_at, published_at,
                 active_since, snooze_interval, definition, runtime_variables, variables, detail, metadata,
                 notification_detail, card_options, feed_version)
    RETURNING id, due_at";
