//! The version of each customer's feed, and the log of what changed in it (DESIGN: the realtime feed).
//!
//! [`advance_in`] is the only writer. It takes the row locks of the feed heads in the order of the customers' ids
//! and holds them to the commit, so within one feed the order of versions is the order of commits, without gaps.
//! Locks on cards and customers are taken before; nothing is locked after.

use std::collections::{BTreeSet, HashMap};

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::clock::Time;
use crate::db::schema::feed_heads;
use crate::db::{Prepared, Tx};
use crate::error::Result;
use crate::ids::{CardId, CustomerId, EnvId};
use crate::realtime::Announcement;

/// What happened to a card in a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    Publish,
    Unsnooze,
    /// Rendered anew.
    Update,
    /// Seen for the first time.
    Displayed,
    Complete,
    Dismiss,
    Snooze,
    Cancel,
    Expire,
    /// The customer was deleted.
    Delete,
}

impl Op {
    pub const ALL: [Op; 10] = [
        Op::Publish,
        Op::Unsnooze,
        Op::Update,
        Op::Displayed,
        Op::Complete,
        Op::Dismiss,
        Op::Snooze,
        Op::Cancel,
        Op::Expire,
        Op::Delete,
    ];

    /// The word in the database and, as far as it is a reason, on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Op::Publish => "publish",
            Op::Unsnooze => "unsnooze",
            Op::Update => "update",
            Op::Displayed => "displayed",
            Op::Complete => "complete",
            Op::Dismiss => "dismiss",
            Op::Snooze => "snooze",
            Op::Cancel => "cancel",
            Op::Expire => "expire",
            Op::Delete => "delete",
        }
    }

    pub fn parse(word: &str) -> Option<Op> {
        Op::ALL.into_iter().find(|op| op.word() == word)
    }
}

/// A change of one card in its customer's feed.
#[derive(Clone, Debug)]
pub struct FeedChange {
    pub customer: CustomerId,
    pub card: CardId,
    pub op: Op,
}

/// Where a customer's feed is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = feed_heads, check_for_backend(diesel::pg::Pg))]
pub struct Head {
    /// Versions of different epochs cannot be compared.
    pub epoch: i64,
    pub version: i64,
}

/// The head of a customer's feed. A feed that never changed has none.
pub async fn head(conn: &AsyncPgConnection, env: EnvId, customer: CustomerId) -> Result<Option<Head>> {
    let head = feed_heads::table.find((env, customer)).select(Head::as_select()).first(&mut &*conn).await;
    Ok(head.optional()?)
}

#[derive(QueryableByName)]
struct Raised {
    #[diesel(sql_type = SqlUuid)]
    customer_id: CustomerId,
    #[diesel(sql_type = BigInt)]
    version: i64,
}

/// Raises the version of every feed that is touched, once each, and logs the changes under the new versions.
///
/// Gives the new version of each customer's feed; the caller writes it to the cards. Announces after the commit.
pub(crate) async fn advance_in(tx: &mut Tx, env: EnvId, changes: Vec<FeedChange>) -> Result<HashMap<CustomerId, i64>> {
    if changes.is_empty() {
        return Ok(HashMap::new());
    }
    let customers: BTreeSet<CustomerId> = changes.iter().map(|change| change.customer).collect();
    // INSERT … ON CONFLICT locks row by row in the order of the array, which is the order of the set.
    let raise = diesel::sql_query(
        "INSERT INTO feed_heads AS head (environment_id, customer_id, epoch, version)
         SELECT $1, customer_id, $2, 1 FROM UNNEST($3::uuid[]) WITH ORDINALITY AS new (customer_id, place) ORDER BY place
         ON CONFLICT (environment_id, customer_id) DO UPDATE SET version = head.version + 1
         RETURNING customer_id, version",
    )
    .bind::<SqlUuid, _>(env)
    .bind::<BigInt, _>(tx.now().as_millisecond())
    .bind::<Array<SqlUuid>, _>(customers.into_iter().collect::<Vec<_>>());
    let raised: Vec<Raised> = Prepared(raise).load(&mut tx.conn()).await?;
    let versions: HashMap<CustomerId, i64> = raised.into_iter().map(|head| (head.customer_id, head.version)).collect();
    log_in(tx, env, changes, &versions).await?;
    for (customer, version) in &versions {
        tx.announce(Announcement::Feed { env, customer: *customer, version: *version });
    }
    Ok(versions)
}

async fn log_in(tx: &mut Tx, env: EnvId, changes: Vec<FeedChange>, versions: &HashMap<CustomerId, i64>) -> Result<()> {
    let mut customers = Vec::with_capacity(changes.len());
    let mut numbers = Vec::with_capacity(changes.len());
    let mut cards = Vec::with_capacity(changes.len());
    let mut ops = Vec::with_capacity(changes.len());
    for change in changes {
        customers.push(change.customer);
        numbers.push(versions.get(&change.customer).copied().unwrap_or_default());
        cards.push(change.card);
        ops.push(change.op.word());
    }
    let log = diesel::sql_query(
        "INSERT INTO feed_changes (environment_id, customer_id, version, card_id, op, created_at)
         SELECT $1, UNNEST($3::uuid[]), UNNEST($4::bigint[]), UNNEST($5::uuid[]), UNNEST($6::text[]), $2",
    )
    .bind::<SqlUuid, _>(env)
    .bind::<Timestamptz, Time>(tx.now())
    .bind::<Array<SqlUuid>, _>(customers)
    .bind::<Array<BigInt>, _>(numbers)
    .bind::<Array<SqlUuid>, _>(cards)
    .bind::<Array<Text>, _>(ops);
    Prepared(log).execute(&mut tx.conn()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip() {
        for op in Op::ALL {
            assert_eq!(Op::parse(op.word()), Some(op));
        }
        assert_eq!(Op::parse("vanish"), None);
    }
}
