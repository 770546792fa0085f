//! Asks event triggers about what happened: each event that is recorded, once, in commit-safe order.

use std::collections::{HashMap, HashSet};

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bool, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;

use super::firing::{self, Firing};
use super::outcome::{self, Outcome};
use crate::app::App;
use crate::clock::{Time, zone};
use crate::db::Prepared;
use crate::error::{Result, Violations};
use crate::events::consumer::{Consumer, Fact, Place};
use crate::events::kind;
use crate::flows::condition::Condition;
use crate::ids::{EnvId, EventId, FlowId, TemplateId, TriggerId};
use crate::realtime::{Announcement, Work};

/// Events that one transaction passes.
const BATCH: i64 = 2_000;

/// The worker.
pub struct Matcher;

impl Consumer for Matcher {
    const READER: &'static str = "event-triggers";
    const WORKER: &'static str = "event-trigger-matcher";
    const WORK: Work = Work::EventTriggers;
    const NOBODY: &'static str = "NOT EXISTS (SELECT FROM triggers WHERE kind = 'event' AND mode = 'live')";

    async fn pass(&self, app: &App, place: &mut Place) -> Result<bool> {
        let conn = app.read_record().await?;
        let now = app.clock().now();
        // Conditions are asked outside the transaction: events below a place never change.
        let facts = place.read(&conn, now, BATCH).await?;
        let Some(passed) = facts.last().map(Fact::position) else { return Ok(false) };
        let verdicts = judge(&conn, &facts, now).await?;
        drop(conn);
        app.transact(async |tx| {
            if !verdicts.fire.is_empty() {
                firing::insert_in(tx, &verdicts.fire).await?;
                tx.announce(Announcement::Wake(Work::Firings));
            }
            outcome::record_in(tx, &verdicts.pass).await?;
            place.advance_in(tx, passed).await
        })
        .await?;
        Ok(true)
    }
}

/// An event trigger as far as matching asks.
#[derive(Clone, Debug, QueryableByName)]
struct Interest {
    #[diesel(sql_type = SqlUuid)]
    environment_id: EnvId,
    #[diesel(sql_type = SqlUuid)]
    id: TriggerId,
    #[diesel(sql_type = SqlUuid)]
    flow_id: FlowId,
    #[diesel(sql_type = Text)]
    event_name: String,
    #[diesel(sql_type = Nullable<Jsonb>)]
    condition: Option<Value>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    event_template_id: Option<TemplateId>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    event_flow_id: Option<FlowId>,
    #[diesel(sql_type = BigInt)]
    since_xid: i64,
    #[diesel(sql_type = Bool)]
    published: bool,
    /// Where days begin.
    #[diesel(sql_type = Text)]
    time_zone: String,
}

/// What is to be said of an event before anybody has read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It does not concern the trigger.
    None,
    Pass(&'static str),
    /// The condition decides.
    Ask,
    Fire,
}

impl Interest {
    fn verdict(&self, fact: &Fact) -> Verdict {
        let concerns = fact.xid > self.since_xid
            && (self.event_template_id.is_none() || self.event_template_id == fact.template_id)
            && (self.event_flow_id.is_none() || self.event_flow_id == fact.flow_id);
        if !concerns {
            Verdict::None
        } else if fact.flow_id == Some(self.flow_id) {
            Verdict::Pass("own-flow")
        } else if !self.published {
            Verdict::Pass("not_published")
        } else if self.condition.is_some() {
            Verdict::Ask
        } else {
            Verdict::Fire
        }
    }

    fn firing(&self, fact: &Fact) -> Firing {
        Firing {
            environment_id: self.environment_id,
            trigger_id: self.id,
            event_id: fact.id,
            received_at: fact.received_at,
            attempts: 0,
        }
    }

    fn pass(&self, fact: &Fact, word: &'static str) -> Outcome {
        Outcome::plain((self.environment_id, self.id, fact.id), word)
    }
}

/// What a batch of events comes to.
#[derive(Debug, Default)]
struct Verdicts {
    fire: Vec<Firing>,
    pass: Vec<Outcome>,
}

/// Matches events with the live triggers of their environments.
async fn judge(conn: &AsyncPgConnection, facts: &[Fact], now: Time) -> Result<Verdicts> {
    let interests = interests(conn, facts).await?;
    let mut by_type: HashMap<(EnvId, &str), Vec<&Interest>> = HashMap::new();
    for interest in &interests {
        by_type.entry((interest.environment_id, &interest.event_name)).or_default().push(interest);
    }
    let (mut verdicts, mut asked) = (Verdicts::default(), Vec::new());
    for fact in facts {
        let name = kind::of(&fact.name, fact.custom);
        for interest in by_type.get(&(fact.environment_id, name.as_ref())).into_iter().flatten() {
            match interest.verdict(fact) {
                Verdict::None => {}
                Verdict::Pass(word) => verdicts.pass.push(interest.pass(fact, word)),
                Verdict::Ask => asked.push((fact, *interest)),
                Verdict::Fire => verdicts.fire.push(interest.firing(fact)),
            }
        }
    }
    ask(conn, &asked, now, &mut verdicts).await?;
    Ok(verdicts)
}

async fn interests(conn: &AsyncPgConnection, facts: &[Fact]) -> Result<Vec<Interest>> {
    let envs: HashSet<EnvId> = facts.iter().map(|fact| fact.environment_id).collect();
    let names: HashSet<_> = facts.iter().map(|fact| kind::of(&fact.name, fact.custom)).collect();
    let query = sql_query(
        "SELECT triggers.environment_id, triggers.id, triggers.flow_id, triggers.event_name, triggers.condition,
                triggers.event_template_id, triggers.event_flow_id, triggers.since_xid,
                flows.published_version IS NOT NULL AS published, environments.time_zone
         FROM triggers
         JOIN flows ON flows.environment_id = triggers.environment_id AND flows.id = triggers.flow_id
         JOIN environments ON environments.id = triggers.environment_id
         WHERE triggers.environment_id = ANY($1) AND triggers.kind = 'event' AND triggers.mode = 'live'
           AND triggers.event_name = ANY($2) AND flows.archived_at IS NULL AND environments.archived_at IS NULL",
    )
    .bind::<Array<SqlUuid>, _>(envs.into_iter().collect::<Vec<_>>())
    .bind::<Array<Text>, _>(names.into_iter().collect::<Vec<_>>());
    Ok(Prepared(query).load(&mut &*conn).await?)
}

#[derive(QueryableByName)]
struct Envelope {
    #[diesel(sql_type = SqlUuid)]
    environment_id: EnvId,
    #[diesel(sql_type = SqlUuid)]
    id: EventId,
    #[diesel(sql_type = Text)]
    payload: String,
}

/// Asks the conditions of triggers about envelopes.
async fn ask(conn: &AsyncPgConnection, asked: &[(&Fact, &Interest)], now: Time, verdicts: &mut Verdicts) -> Result<()> {
    if asked.is_empty() {
        return Ok(());
    }
    let envelopes = envelopes(conn, asked).await?;
    for (fact, interest) in asked {
        let Some(envelope) = envelopes.get(&(fact.environment_id, fact.id)) else { continue };
        let zone = zone(&interest.time_zone).unwrap_or(jiff::tz::TimeZone::UTC);
        let condition = interest.condition.as_ref();
        let condition = condition.and_then(|stored| Condition::parse(stored, "", &mut Violations::new()));
        match condition.map(|condition| condition.holds_of(envelope, &zone, now)) {
            Some(Ok(true)) => verdicts.fire.push(interest.firing(fact)),
            Some(Ok(false)) => verdicts.pass.push(interest.pass(fact, "condition")),
            Some(Err(error)) => {
                let of = (interest.environment_id, interest.id, fact.id);
                verdicts.pass.push(Outcome::refused(of, &error));
            }
            None => verdicts.pass.push(interest.pass(fact, "failed")),
        }
    }
    Ok(())
}

async fn envelopes(conn: &AsyncPgConnection, asked: &[(&Fact, &Interest)]) -> Result<HashMap<(EnvId, EventId), Value>> {
    // The plan opens the days between, and no others.
    let received = || asked.iter().map(|(fact, _)| fact.received_at);
    let (Some(first), Some(last)) = (received().min(), received().max()) else { return Ok(HashMap::new()) };
    let query = sql_query(
        "SELECT events.environment_id, events.id, events.payload
         FROM (SELECT DISTINCT * FROM UNNEST($1::uuid[], $2::uuid[], $3::timestamptz[])) AS asked (environment_id, id, received_at)
         JOIN events USING (environment_id, id, received_at)
         WHERE events.received_at BETWEEN $4 AND $5",
    )
    .bind::<Array<SqlUuid>, _>(asked.iter().map(|(fact, _)| fact.environment_id).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(asked.iter().map(|(fact, _)| fact.id).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(asked.iter().map(|(fact, _)| fact.received_at).collect::<Vec<_>>())
    .bind::<Timestamptz, _>(first)
    .bind::<Timestamptz, _>(last);
    let rows: Vec<Envelope> = Prepared(query).load(&mut &*conn).await?;
    rows.into_iter().map(|row| Ok(((row.environment_id, row.id), serde_json::from_str(&row.payload)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Id, Ids};

    fn id<T: Id>(seed: u64) -> T {
        Ids::seeded(seed).make(Time::from_millisecond(1_767_225_600_000))
    }

    #[test]
    fn verdicts() {
        let interest = Interest {
            environment_id: id(1),
            id: id(2),
            flow_id: id(3),
            event_name: "card-completed".to_owned(),
            condition: None,
            event_template_id: None,
            event_flow_id: None,
            since_xid: 10,
            published: true,
            time_zone: "UTC".to_owned(),
        };
        let fact = Fact {
            environment_id: id(1),
            id: id(9),
            name: "card-completed".to_owned(),
            custom: false,
            xid: 11,
            received_at: Time::from_millisecond(0),
            is_test: false,
            template_id: Some(id(5)),
            flow_id: Some(id(6)),
        };
        let with = |change: fn(&mut Interest)| {
            let mut changed = interest.clone();
            change(&mut changed);
            changed.verdict(&fact)
        };
        assert_eq!(with(|_| {}), Verdict::Fire);
        assert_eq!(with(|interest| interest.since_xid = 11), Verdict::None, "recorded before the trigger went live");
        assert_eq!(with(|interest| interest.event_template_id = Some(id(5))), Verdict::Fire);
        assert_eq!(with(|interest| interest.event_template_id = Some(id(7))), Verdict::None);
        assert_eq!(with(|interest| interest.event_flow_id = Some(id(7))), Verdict::None);
        assert_eq!(with(|interest| interest.flow_id = id(6)), Verdict::Pass("own-flow"));
        assert_eq!(with(|interest| interest.published = false), Verdict::Pass("not_published"));
        assert_eq!(with(|interest| interest.condition = Some(Value::Null)), Verdict::Ask);
    }
}
