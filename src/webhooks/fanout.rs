//! Turns events into numbered rows of the logs of the subscriptions they concern.
//!
//! One transaction reads a batch in commit-safe order, appends to the logs and moves the reader's place, so a row is
//! neither missing nor double, whenever the process ends; the constraint on (subscription, event) is the second lock.

use std::collections::{BTreeMap, HashMap, HashSet};

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::stream;
use crate::app::App;
use crate::clock::Time;
use crate::db::{Prepared, Tx};
use crate::error::Result;
use crate::events::consumer::{Consumer, Fact, Place, Position};
use crate::events::kind;
use crate::ids::{EnvId, EventId, FlowId, TemplateId, WebhookId};
use crate::realtime::{Announcement, Work};

/// The name of the place up to which events are matched.
pub(super) const READER: &str = "webhooks";
/// Events one transaction looks at.
const BATCH: i64 = 2000;
/// Rows after which a transaction takes no further event.
const MOST_ROWS: usize = 20_000;

/// The worker.
pub struct Fanout;

impl Consumer for Fanout {
    const READER: &'static str = READER;
    const WORKER: &'static str = "webhook-fanout";
    const WORK: Work = Work::Fanout;
    const NOBODY: &'static str = "NOT EXISTS (SELECT FROM webhook_subscriptions WHERE status = 'active')";

    async fn pass(&self, app: &App, place: &mut Place) -> Result<bool> {
        let conn = app.read_record().await?;
        // Matched outside the transaction: events below a place never change.
        let facts = place.read(&conn, app.clock().now(), BATCH).await?;
        let Some((passed, rows)) = matches(&conn, &facts).await? else { return Ok(false) };
        drop(conn);
        let more =
            facts.len() == usize::try_from(BATCH).unwrap_or(0) || facts.last().map(Fact::position) != Some(passed);
        if rows.is_empty() {
            place.pass(app, passed).await?;
            return Ok(more);
        }
        app.transact(async |tx| {
            append_in(tx, rows).await?;
            tx.announce(Announcement::Wake(Work::Webhooks));
            place.advance_in(tx, passed).await
        })
        .await?;
        Ok(more)
    }
}

/// A subscription as far as matching asks.
#[derive(Clone, Debug, QueryableByName)]
struct Interest {
    #[diesel(sql_type = SqlUuid)]
    environment_id: EnvId,
    #[diesel(sql_type = SqlUuid)]
    id: WebhookId,
    #[diesel(sql_type = Array<Text>)]
    types: Vec<String>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    template_id: Option<TemplateId>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    flow_id: Option<FlowId>,
    #[diesel(sql_type = Bool)]
    include_test_events: bool,
    #[diesel(sql_type = BigInt)]
    since_xid: i64,
}

impl Interest {
    fn covers(&self, fact: &Fact) -> bool {
        fact.xid > self.since_xid
            && (self.include_test_events || !fact.is_test)
            && (self.template_id.is_none() || self.template_id == fact.template_id)
            && (self.flow_id.is_none() || self.flow_id == fact.flow_id)
    }
}

/// The events for each subscription, in order; ordered by subscription, the order in which streams are locked.
pub(super) type Rows = BTreeMap<(EnvId, WebhookId), Vec<(EventId, Time)>>;

/// Matches events with the active subscriptions of their environments. Gives the place up to which it came.
async fn matches(conn: &AsyncPgConnection, facts: &[Fact]) -> Result<Option<(Position, Rows)>> {
    if facts.is_empty() {
        return Ok(None);
    }
    let envs: HashSet<EnvId> = facts.iter().map(|fact| fact.environment_id).collect();
    let names: HashSet<_> = facts.iter().map(|fact| kind::of(&fact.name, fact.custom)).collect();
    let interests: Vec<Interest> = Prepared(
        sql_query(
            "SELECT environment_id, id, types, template_id, flow_id, include_test_events, since_xid
         FROM webhook_subscriptions WHERE environment_id = ANY($1) AND status = 'active' AND types && $2",
        )
        .bind::<Array<SqlUuid>, _>(envs.into_iter().collect::<Vec<_>>())
        .bind::<Array<Text>, _>(names.into_iter().collect::<Vec<_>>()),
    )
    .load(&mut &*conn)
    .await?;
    Ok(distribute(facts, &interests))
}

fn distribute(facts: &[Fact], interests: &[Interest]) -> Option<(Position, Rows)> {
    let mut by_type: HashMap<(EnvId, &str), Vec<&Interest>> = HashMap::new();
    for interest in interests {
        for name in &interest.types {
            by_type.entry((interest.environment_id, name)).or_default().push(interest);
        }
    }
    let mut rows = Rows::new();
    let mut count = 0;
    let mut passed = None;
    for fact in facts {
        if count >= MOST_ROWS {
            break;
        }
        let name = kind::of(&fact.name, fact.custom);
        let interested = by_type.get(&(fact.environment_id, name.as_ref())).map_or(&[][..], Vec::as_slice);
        for interest in interested.iter().filter(|interest| interest.covers(fact)) {
            rows.entry((fact.environment_id, interest.id)).or_default().push((fact.id, fact.received_at));
            count += 1;
        }
        passed = Some(fact.position());
    }
    passed.map(|passed| (passed, rows))
}

/// Appends rows to the logs, numbered under the lock of each stream.
pub(super) async fn append_in(tx: &mut Tx, mut rows: Rows) -> Result<()> {
    let heads = stream::lock_heads_in(tx, rows.keys().copied()).await?;
    let mut columns = Columns::default();
    let mut grown = Vec::with_capacity(heads.len());
    for head in heads {
        let Some(events) = rows.remove(&(head.environment_id, head.webhook_id)) else { continue };
        let mut seq = head.head;
        for (event, received_at) in events {
            seq += 1;
            columns.envs.push(head.environment_id);
            columns.webhooks.push(head.webhook_id);
            columns.seqs.push(seq);
            columns.events.push(event);
            columns.received.push(received_at);
        }
        grown.push(stream::Head { head: seq, ..head });
    }
    Prepared(
        sql_query(
            "INSERT INTO webhook_deliveries (environment_id, webhook_id, seq, event_id, received_at)
         SELECT * FROM UNNEST($1::uuid[], $2::uuid[], $3::bigint[], $4::uuid[], $5::timestamptz[])
         ON CONFLICT ON CONSTRAINT webhook_deliveries_event_id_key DO NOTHING",
        )
        .bind::<Array<SqlUuid>, _>(columns.envs)
        .bind::<Array<SqlUuid>, _>(columns.webhooks)
        .bind::<Array<BigInt>, _>(columns.seqs)
        .bind::<Array<SqlUuid>, _>(columns.events)
        .bind::<Array<Timestamptz>, _>(columns.received),
    )
    .execute(&mut tx.conn())
    .await?;
    stream::grow_in(tx, &grown).await
}

#[derive(Default)]
struct Columns {
    envs: Vec<EnvId>,
    webhooks: Vec<WebhookId>,
    seqs: Vec<i64>,
    events: Vec<EventId>,
    received: Vec<Time>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Id, Ids};

    fn id<T: Id>(seed: u64) -> T {
        Ids::seeded(seed).make(Time::from_millisecond(1_767_225_600_000))
    }

    fn interest(webhook: u64, types: &[&str]) -> Interest {
        Interest {
            environment_id: id(1),
            id: id(webhook),
            types: types.iter().map(|&name| name.to_owned()).collect(),
            template_id: None,
            flow_id: None,
            include_test_events: true,
            since_xid: 10,
        }
    }

    fn fact(name: &str) -> Fact {
        Fact {
            environment_id: id(1),
            id: id(99),
            name: name.to_owned(),
            custom: false,
            xid: 11,
            received_at: Time::from_millisecond(0),
            is_test: false,
            template_id: Some(id(5)),
            flow_id: Some(id(6)),
        }
    }

    fn covered(interest: &Interest, fact: Fact) -> bool {
        let (_, rows) = distribute(&[fact], std::slice::from_ref(interest)).unwrap();
        !rows.is_empty()
    }

    #[test]
    fn matching() {
        let plain = interest(2, &["card-published", "custom:paid"]);
        assert!(covered(&plain, fact("card-published")));
        assert!(!covered(&plain, fact("card-completed")));
        assert!(!covered(&plain, fact("paid")));
        assert!(covered(&plain, Fact { custom: true, ..fact("paid") }));
        assert!(!covered(&plain, Fact { environment_id: id(7), ..fact("card-published") }), "another environment");
        assert!(!covered(&plain, Fact { xid: 10, ..fact("card-published") }), "before the subscription");
        let live_only = Interest { include_test_events: false, ..plain.clone() };
        assert!(!covered(&live_only, Fact { is_test: true, ..fact("card-published") }));
        assert!(covered(&live_only, fact("card-published")));
        let scoped = Interest { template_id: Some(id(5)), flow_id: Some(id(6)), ..plain };
        assert!(covered(&scoped, fact("card-published")));
        assert!(!covered(&scoped, Fact { flow_id: None, ..fact("card-published") }));
        assert!(!covered(&scoped, Fact { template_id: Some(id(8)), ..fact("card-published") }));
    }

    #[test]
    fn a_batch_ends_when_it_has_made_enough_rows() {
        let interests: Vec<_> = (2..102).map(|webhook| interest(webhook, &["card-published"])).collect();
        let facts: Vec<_> = (0..1000).map(|event| Fact { id: id(1000 + event), ..fact("card-published") }).collect();
        let (passed, rows) = distribute(&facts, &interests).unwrap();
        assert_eq!(rows.values().map(Vec::len).sum::<usize>(), MOST_ROWS);
        assert_eq!(passed, facts[199].position());
        assert!(distribute(&[], &interests).is_none());
    }
}
