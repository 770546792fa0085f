//! What a customer was last seen doing (specification 7.1): written at most once in 30 s each.
//!
//! Row locks on customers are taken in the order of their ids, after locks on cards and before locks on feeds.

use diesel::sql_types::{Array, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;

use crate::access::{SdkAccess, SdkContext};
use crate::app::App;
use crate::db::{Prepared, Tx};
use crate::error::Result;
use crate::ids::{CustomerId, EnvId};

/// Something that happened to a customer's cards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CardActivity {
    Published,
    Displayed,
    Completed,
    Dismissed,
    Expired,
}

impl CardActivity {
    /// The statement that notes it. One constant text each, so that each is prepared once.
    ///
    /// Rows are looked up by their whole key, one after another: a plan that was made for a few customers must do for
    /// millions.
    fn statement(self) -> &'static str {
        macro_rules! note {
            ($column:literal) => {
                concat!(
                    "UPDATE customers SET ",
                    $column,
                    " = $3 WHERE environment_id = $1 AND id = ANY(ARRAY(
                         SELECT due.id FROM (SELECT UNNEST($2::uuid[]) AS id ORDER BY id) AS wanted CROSS JOIN LATERAL (
                             SELECT id FROM customers
                             WHERE environment_id = $1 AND id = wanted.id AND (",
                    $column,
                    " IS NULL OR ",
                    $column,
                    " <= $3 - interval '30 seconds') FOR NO KEY UPDATE) AS due))"
                )
            };
        }
        match self {
            CardActivity::Published => note!("last_published_card_at"),
            CardActivity::Displayed => note!("last_displayed_card_at"),
            CardActivity::Completed => note!("last_completed_card_at"),
            CardActivity::Dismissed => note!("last_dismissed_card_at"),
            CardActivity::Expired => note!("last_expired_card_at"),
        }
    }
}

/// Notes that something happened to cards of these customers.
pub(crate) async fn note_cards_in(
    tx: &mut Tx,
    env: EnvId,
    customers: Vec<CustomerId>,
    activity: CardActivity,
) -> Result<()> {
    if customers.is_empty() {
        return Ok(());
    }
    let note = diesel::sql_query(activity.statement())
        .bind::<SqlUuid, _>(env)
        .bind::<Array<SqlUuid>, _>(customers)
        .bind::<Timestamptz, _>(tx.now());
    Prepared(note).execute(&mut tx.conn()).await?;
    Ok(())
}

/// Notes that the customer's app was here: an authentication or an event of an SDK.
pub async fn note_seen(app: &App, access: &SdkAccess) -> Result<()> {
    let note = diesel::sql_query(seen_statement(&access.sdk))
        .bind::<SqlUuid, _>(access.env)
        .bind::<SqlUuid, _>(access.customer)
        .bind::<Timestamptz, _>(app.clock().now())
        .bind::<Nullable<Text>, _>(&access.sdk.app_version)
        .bind::<Nullable<Text>, _>(&access.sdk.device)
        .bind::<Nullable<Text>, _>(&access.sdk.sdk_version);
    Prepared(note).execute(&mut &*app.read().await?).await?;
    Ok(())
}

fn seen_statement(sdk: &SdkContext) -> &'static str {
    macro_rules! note {
        ($platform:literal) => {
            concat!(
                "UPDATE customers SET first_seen_at = COALESCE(first_seen_at, $3), last_seen_at = $3,
                     last_app_version = COALESCE($4, last_app_version),
                     last_",
                $platform,
                "_seen_at = $3,
                     last_",
                $platform,
                "_device = COALESCE($5, last_",
                $platform,
                "_device),
                     last_",
                $platform,
                "_sdk_version = COALESCE($6, last_",
                $platform,
                "_sdk_version)
                 WHERE environment_id = $1 AND id = $2
                   AND (last_",
                $platform,
                "_seen_at IS NULL
                        OR last_",
                $platform,
                "_seen_at <= $3 - interval '30 seconds')"
            )
        };
    }
    match sdk.platform.as_deref() {
        Some("Web") => note!("web"),
        Some("iOS") => note!("ios"),
        Some("Android") => note!("android"),
        // Device and version belong to a platform; the casts give the parameters that are not used a type.
        _ => {
            "UPDATE customers SET first_seen_at = COALESCE(first_seen_at, $3), last_seen_at = $3,
                 last_app_version = COALESCE($4, last_app_version)
             WHERE environment_id = $1 AND id = $2 AND ($5::text IS NULL OR true) AND ($6::text IS NULL OR true)
               AND (last_seen_at IS NULL OR last_seen_at <= $3 - interval '30 seconds')"
        }
    }
}
