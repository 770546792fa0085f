//! The rows of new cards, by whole columns.

use diesel::sql_types::{Array, BigInt, Bool, Integer, Json, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;

use super::Drawn;
use crate::cards::instance::CardInstance;
use crate::db::{Prepared, Tx};
use crate::error::Result;
use crate::ids::{EnvId, Id, StreamId};
use crate::realtime::{Announcement, Work};

/// Inserts the cards in one statement.
pub(super) async fn cards_in(tx: &mut Tx, env: EnvId, fresh: &[Drawn]) -> Result<()> {
    if fresh.is_empty() {
        return Ok(());
    }
    insert(tx, env, fresh).await?;
    if fresh.iter().any(|drawn| drawn.card.embargo_at.is_some() || drawn.card.expires_at.is_some()) {
        tx.announce(Announcement::Wake(Work::CardTimers));
    }
    Ok(())
}

fn column<'a, T>(fresh: &'a [Drawn], part: impl Fn(&'a CardInstance) -> T) -> Vec<T> {
    fresh.iter().map(|drawn| part(&drawn.card)).collect()
}

/// A list in one text: `UNNEST` takes apart lists of lists too.
fn streams(ids: &[StreamId]) -> String {
    ids.iter().map(|id| id.uuid().to_string()).collect::<Vec<_>>().join(",")
}

async fn insert(tx: &Tx, env: EnvId, fresh: &[Drawn]) -> Result<()> {
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
        .bind::<Array<Json>, _>(column(fresh, |card| &card.definition))
        .bind::<Array<Json>, _>(column(fresh, |card| &card.runtime_variables))
        .bind::<Array<Json>, _>(column(fresh, |card| &card.variables))
        .bind::<Array<Json>, _>(column(fresh, |card| &card.detail))
        .bind::<Array<Json>, _>(column(fresh, |card| &card.metadata))
        .bind::<Array<Json>, _>(column(fresh, |card| &card.notification_detail))
        .bind::<Array<Json>, _>(column(fresh, |card| &card.card_options))
        .bind::<Array<BigInt>, _>(column(fresh, |card| card.feed_version));
    Prepared(insert).execute(&mut tx.conn()).await?;
    Ok(())
}

const INSERT: &str = "
    INSERT INTO cards (environment_id, created_at, updated_at, id, customer_id, user_id, template_id, template_name, template_version, send_notifications,
        lifecycle_id, flow_id, flow_version, run_id, step_key, invocation, trigger_source, is_test, status,
        priority, stream_ids, target_platforms, embargo_at, expires_at, published_at, active_since,
        snooze_interval, definition, runtime_variables, variables, detail, metadata, notification_detail,
        card_options, feed_version)
    SELECT $1, $2, $2, UNNEST($3::uuid[]), UNNEST($4::uuid[]), UNNEST($5::text[]), UNNEST($6::uuid[]), UNNEST($7::text[]),
        UNNEST($8::int[]), UNNEST($9::bool[]), UNNEST($10::uuid[]), UNNEST($11::uuid[]), UNNEST($12::int[]),
        UNNEST($13::uuid[]), UNNEST($14::text[]), UNNEST($15::text[]), UNNEST($16::text[]), UNNEST($17::bool[]),
        UNNEST($18::text[]), UNNEST($19::smallint[]), string_to_array(UNNEST($20::text[]), ',')::uuid[],
        string_to_array(UNNEST($21::text[]), ','), UNNEST($22::timestamptz[]), UNNEST($23::timestamptz[]),
        UNNEST($24::timestamptz[]), UNNEST($25::timestamptz[]), UNNEST($26::text[]), UNNEST($27::json[]),
        UNNEST($28::json[]), UNNEST($29::json[]), UNNEST($30::json[]), UNNEST($31::json[]), UNNEST($32::json[]),
        UNNEST($33::json[]), UNNEST($34::bigint[])";
