//! Starts flows with the events that fired their triggers.
//!
//! Events are mapped outside any transaction, because scripts take time; then one transaction starts the runs of a
//! trigger, writes down what became of each event and removes the firings. What fails for reasons of ours is tried again
//! later, one firing at a time.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, Bool, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::StreamExt;
use serde_json::{Value, json};
use uuid::Uuid;

use super::firing::{self, Claim, Firing};
use super::outcome::{self, Outcome};
use crate::app::App;
use crate::customers::profile;
use crate::db::{Prepared, Tx};
use crate::error::{Code, Error, Result};
use crate::events::{NewEvent, PlatformContext, TriggerSource, record_in};
use crate::flows::{self, Caller, Cause, EntryStatus, Mode, StartRequest, Trigger};
use crate::ids::{EnvId, EventId, TriggerId};
use crate::realtime::Work;
use crate::triggers::mapping::{self, Mapping};
use crate::worker::{Progress, Worker};

/// Firings that one round takes.
const BATCH: i64 = 200;
/// Triggers that are served at the same time.
const TOGETHER: usize = 8;
/// How long a firing is its taker's; beyond what mapping a whole batch may take.
const TERM: Duration = Duration::from_secs(60);
/// Attempts after which a firing is given up: some four hours.
const MOST_ATTEMPTS: i16 = 50;
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// The hop count at which a start is refused (§8.6).
const MOST_HOPS: i16 = 10;

/// The worker.
pub struct Starter;

impl Worker for Starter {
    const NAME: &'static str = "event-trigger-starter";

    fn work() -> Option<Work> {
        Some(Work::Firings)
    }

    async fn run(&self, app: &App) -> Result<Progress> {
        let conn = app.read().await?;
        let now = app.clock().now();
        let fence = Uuid::from_bytes(app.ids().bytes());
        let taken = firing::take(&conn, Claim { fence, most: BATCH, now, until: now.plus(TERM) }).await?;
        if taken.is_empty() {
            return Ok(firing::next_due(&conn).await?.map_or(Progress::Idle, Progress::NextAt));
        }
        drop(conn);
        let mut groups: BTreeMap<(EnvId, TriggerId), Vec<Firing>> = BTreeMap::new();
        for firing in taken {
            groups.entry((firing.environment_id, firing.trigger_id)).or_default().push(firing);
        }
        let serving = futures_util::stream::iter(groups.into_values());
        serving.for_each_concurrent(TOGETHER, async |group| serve(app, fence, group).await).await;
        Ok(Progress::More)
    }
}

/// Serves the firings of one trigger: together, or each for itself when that fails.
async fn serve(app: &App, fence: Uuid, mut group: Vec<Firing>) {
    group.sort_unstable_by_key(|firing| (firing.received_at, firing.event_id));
    if group.len() > 1 && attempt(app, fence, &group).await.is_ok() {
        return;
    }
    for firing in group {
        if let Err(error) = attempt(app, fence, &[firing]).await
            && let Err(error) = put_off(app, fence, firing, &error).await
        {
            tracing::warn!(env.id = %firing.environment_id, trigger.id = %firing.trigger_id, error = %error,
                "a firing could not be put off; it is taken again when its lease ends");
        }
    }
}

/// Leaves a firing for later, or gives it up and says so.
async fn put_off(app: &App, fence: Uuid, firing: Firing, error: &Error) -> Result<()> {
    tracing::warn!(env.id = %firing.environment_id, trigger.id = %firing.trigger_id, event.id = %firing.event_id,
        attempts = firing.attempts, error = %error, "an event could not start its flow yet");
    if firing.attempts < MOST_ATTEMPTS {
        let pause = Duration::from_secs(1 << firing.attempts.clamp(1, 9)).min(LONGEST_PAUSE);
        let until = app.clock().now().plus(pause);
        return firing::postpone(&*app.read().await?, fence, firing, until).await;
    }
    app.transact(async |tx| {
        firing::finish_in(tx, fence, &[firing]).await?;
        outcome::record_in(tx, &[Outcome::plain(of(firing), "failed")]).await
    })
    .await
}

fn of(firing: Firing) -> (EnvId, TriggerId, EventId) {
    (firing.environment_id, firing.trigger_id, firing.event_id)
}

/// An event as a start needs it.
#[derive(QueryableByName)]
struct Event {
    #[diesel(sql_type = SqlUuid)]
    id: EventId,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Bool)]
    is_test: bool,
    #[diesel(sql_type = Bool)]
    of_run: bool,
    /// The hop count of the run from which it stems.
    #[diesel(sql_type = Nullable<SmallInt>)]
    hops: Option<i16>,
    #[diesel(sql_type = Text)]
    payload: String,
}

impl Event {
    /// The hop count of the run that it starts.
    fn next_hop(&self) -> i16 {
        self.hops.map_or(0, |hops| hops.saturating_add(1))
    }

    /// Tells whether this is the event of a start that the hop limit refused: it has a flow and no run. It starts nothing,
    /// or the chain would begin again.
    fn ends_a_chain(&self) -> bool {
        self.name == "action-flow-failed" && !self.of_run
    }
}

async fn events(conn: &AsyncPgConnection, group: &[Firing]) -> Result<HashMap<EventId, Event>> {
    // The plan opens the days between, and no others.
    let received = || group.iter().map(|firing| firing.received_at);
    let (Some(first), Some(last)) = (received().min(), received().max()) else { return Ok(HashMap::new()) };
    let query = sql_query(
        "SELECT events.id, events.name, events.is_test, events.run_id IS NOT NULL AS of_run, runs.hops, events.payload
         FROM UNNEST($1::uuid[], $2::uuid[], $3::timestamptz[]) AS asked (environment_id, id, received_at)
         JOIN events USING (environment_id, id, received_at)
         LEFT JOIN runs ON runs.environment_id = events.environment_id AND runs.id = events.run_id
         WHERE events.received_at BETWEEN $4 AND $5",
    )
    .bind::<Array<SqlUuid>, _>(group.iter().map(|firing| firing.environment_id).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(group.iter().map(|firing| firing.event_id).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(group.iter().map(|firing| firing.received_at).collect::<Vec<_>>())
    .bind::<Timestamptz, _>(first)
    .bind::<Timestamptz, _>(last);
    let found: Vec<Event> = Prepared(query).load(&mut &*conn).await?;
    Ok(found.into_iter().map(|event| (event.id, event)).collect())
}

/// A start that an event asks for.
struct Wish {
    firing: Firing,
    is_test: bool,
    request: StartRequest,
    hops: i16,
}

/// Serves firings of one trigger, all or none.
async fn attempt(app: &App, fence: Uuid, group: &[Firing]) -> Result<()> {
    let Some(first) = group.first() else { return Ok(()) };
    let conn = app.read_record().await?;
    let trigger = flows::trigger(&conn, first.environment_id, first.trigger_id).await?;
    let events = events(&conn, group).await?;
    drop(conn);
    let Some(trigger) = trigger else {
        return app.transact(async |tx| firing::finish_in(tx, fence, group).await).await;
    };
    let mapping: Mapping = serde_json::from_value(trigger.mapping.clone())?;
    let (mut wishes, mut outcomes) = (Vec::new(), Vec::new());
    for firing in group {
        match understand(app, &trigger, &mapping, events.get(&firing.event_id)).await? {
            Ok((request, event)) => {
                wishes.push(Wish { firing: *firing, is_test: event.is_test, request, hops: event.next_hop() });
            }
            Err(Refusal::Plain(word)) => outcomes.push(Outcome::plain(of(*firing), word)),
            Err(Refusal::Told(error)) => outcomes.push(Outcome::refused(of(*firing), &error)),
        }
    }
    let (live, test): (Vec<Wish>, Vec<Wish>) = wishes.into_iter().partition(|wish| !wish.is_test);
    let mut wishes = [(Mode::Live, live), (Mode::Test, test)];
    app.transact(async |tx| {
        let mut told = outcomes.clone();
        for (mode, wishes) in &mut wishes {
            start_in(tx, &trigger, *mode, wishes, &mut told).await?;
        }
        outcome::record_in(tx, &told).await?;
        firing::finish_in(tx, fence, group).await
    })
    .await?;
    let now = app.clock().now();
    for firing in group {
        metrics::histogram!("cardwire_event_trigger_seconds").record(now.since(firing.received_at).as_secs_f64());
    }
    Ok(())
}

/// Why an event starts nothing.
enum Refusal {
    Plain(&'static str),
    Told(Error),
}

/// Maps an event. The inner error concerns the event or the trigger, the outer one is ours.
async fn understand<'e>(
    app: &App,
    trigger: &Trigger,
    mapping: &Mapping,
    event: Option<&'e Event>,
) -> Result<Result<(StartRequest, &'e Event), Refusal>> {
    let Some(event) = event else { return Ok(Err(Refusal::Plain("gone"))) };
    if trigger.mode != "live" {
        return Ok(Err(Refusal::Plain("disabled")));
    }
    if event.ends_a_chain() {
        return Ok(Err(Refusal::Plain("hop-limit")));
    }
    let envelope: Value = serde_json::from_str(&event.payload)?;
    let mapped = super::map(app, mapping, &envelope).await?;
    let request = mapped.and_then(|mapped| super::read(&mapped)).map_err(mapping::failed);
    Ok(request.map_err(Refusal::Told).map(|mut request| {
        for entry in &mut request.entries {
            entry.invocation.get_or_insert_with(|| event.id.to_string());
            entry.cause = Some(Cause { hops: event.next_hop(), event: envelope.clone() });
        }
        (request, event)
    }))
}

/// Starts the flow for all wishes of one mode with one request.
async fn start_in(
    tx: &mut Tx,
    trigger: &Trigger,
    mode: Mode,
    wishes: &mut Vec<Wish>,
    outcomes: &mut Vec<Outcome>,
) -> Result<()> {
    let (over, wishes): (Vec<Wish>, Vec<Wish>) = wishes.drain(..).partition(|wish| wish.hops >= MOST_HOPS);
    refuse_hops_in(tx, trigger, over, outcomes).await?;
    if wishes.is_empty() {
        return Ok(());
    }
    let (mut firings, mut entries) = (Vec::new(), Vec::new());
    for wish in wishes {
        for entry in wish.request.entries {
            firings.push(wish.firing);
            entries.push(entry);
        }
    }
    let caller = Caller { mode, source: TriggerSource::Event, address: None, trigger: Some(trigger.id) };
    let (env, flow) = (trigger.environment_id, trigger.flow_id);
    match flows::start_in(tx, env, flow, &StartRequest { entries }, caller).await {
        Ok(started) => {
            for (firing, entry) in firings.into_iter().zip(started.entries) {
                let errors: Vec<_> = entry.errors.iter().map(|error| error.violation.clone()).collect();
                let plain = |word| Outcome::plain(of(firing), word);
                outcomes.push(match entry.status() {
                    EntryStatus::Rejected if !errors.is_empty() => {
                        Outcome::refused(of(firing), &Error::from_violations(errors))
                    }
                    EntryStatus::Rejected => plain("failed"),
                    EntryStatus::Accepted => Outcome { invocation: Some(entry.invocation), ..plain("started") },
                    EntryStatus::Duplicate => Outcome { invocation: Some(entry.invocation), ..plain("duplicate") },
                    EntryStatus::Ignored => plain("ignored"),
                });
            }
            Ok(())
        }
        Err(error) if matches!(error.code(), Code::Internal | Code::Unavailable) => Err(error),
        // The flow as a whole cannot be started; nothing was written yet.
        Err(error) => {
            outcomes.extend(firings.into_iter().map(|firing| Outcome::refused(of(firing), &error)));
            Ok(())
        }
    }
}

/// Ends chains that have become too long, with an event for each customer that is known.
async fn refuse_hops_in(tx: &mut Tx, trigger: &Trigger, wishes: Vec<Wish>, outcomes: &mut Vec<Outcome>) -> Result<()> {
    let mut failed = Vec::new();
    for wish in wishes {
        outcomes.push(Outcome::plain(of(wish.firing), "hop-limit"));
        for entry in wish.request.entries {
            let customers = profile::find_by_user_ids(tx.conn(), trigger.environment_id, &entry.user_ids).await?;
            failed.extend(customers.into_iter().map(|customer| {
                let mut event = NewEvent::new("action-flow-failed", customer.id, customer.user_id);
                event.properties = Some(json!({ "reason": "hop-limit" }));
                event.platform = Some(PlatformContext {
                    flow_invocation_id: entry.invocation.clone(),
                    flow_config_id: Some(trigger.flow_id),
                    trigger_event_source: Some(TriggerSource::Event),
                    is_test: wish.is_test,
                    ..PlatformContext::default()
                });
                event
            }));
        }
    }
    record_in(tx, trigger.environment_id, &failed).await?;
    Ok(())
}
