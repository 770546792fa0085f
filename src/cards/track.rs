//! Events that apps report (specification 5.6, 10.2): each is taken once, whichever way and however often it comes.
//!
//! An app must be able to empty its offline queue, so nothing that it can never mend is refused: events of another
//! customer, of unknown names, containers or cards are acknowledged and dropped.

mod anonymous;

pub use anonymous::{AnonymousReport, track_anonymous};

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::access::SdkAccess;
use crate::app::App;
use crate::cards::action::check_local_timestamp;
use crate::cards::instance::{self, CardInstance};
use crate::cards::scene::{self, Scene};
use crate::cards::{displayed, placement};
use crate::clock::Time;
use crate::customers::profile;
use crate::db::{Prepared, Tx};
use crate::error::{Error, Result, Violations};
use crate::events::{self, EventContext, NewEvent, names};
use crate::ids::{CardId, ContainerId, EnvId, EventId, Id};
use crate::text;
use crate::worker::{Progress, Worker};

/// Events of one call.
const MOST_EVENTS: usize = 500;
/// Bytes of the properties of one event.
const MOST_BYTES: usize = 32 * 1024;
/// A repeat is recognised for so long.
const REMEMBERED: Duration = Duration::from_secs(30 * 24 * 3600);
/// Ids that one round of forgetting removes.
const FORGET: i64 = 5_000;
/// What an app may say about the stream.
const STREAM_FIELDS: [&str; 3] = ["streamLength", "cardPositionInStream", "displayMode"];

/// An event as an app reports it.
#[derive(Clone, Debug)]
pub struct Report {
    /// `evt_…` or a UUID.
    pub id: String,
    pub name: String,
    pub timestamp: Option<Time>,
    pub container: Option<String>,
    pub card: Option<String>,
    /// Whom it is about; the customer of the token without it.
    pub user_id: Option<String>,
    pub properties: Option<Value>,
    pub stream: Map<String, Value>,
    pub local_timestamp: Option<String>,
}

/// Records what is new and ours among the reports. Gives the ids that need not be sent again: all of them.
pub async fn track(app: &App, access: &SdkAccess, reports: Vec<Report>) -> Result<Vec<String>> {
    check(&reports, MOST_EVENTS)?;
    let processed = reports.iter().map(|report| report.id.clone()).collect();
    let ours = reports.into_iter().filter_map(|report| Accepted::of(access, report)).collect::<Vec<_>>();
    if !ours.is_empty() {
        app.transact(async |tx| track_in(tx, access, ours).await).await?;
    }
    Ok(processed)
}

/// What every report has, whoever sends it.
struct Sent<'a> {
    id: &'a str,
    properties: Option<&'a Value>,
    local_timestamp: Option<&'a str>,
}

impl<'a> From<&'a Report> for Sent<'a> {
    fn from(Report { id, properties, local_timestamp, .. }: &'a Report) -> Sent<'a> {
        Sent { id, properties: properties.as_ref(), local_timestamp: local_timestamp.as_deref() }
    }
}

/// Refuses more reports than this, and those that no repetition would mend.
fn check<'a, R>(reports: &'a [R], most: usize) -> Result<()>
where
    Sent<'a>: From<&'a R>,
{
    if reports.len() > most {
        return Err(Error::invalid("/events", format!("one call reports at most {most} events")));
    }
    let mut violations = Violations::new();
    for (index, report) in reports.iter().enumerate() {
        check_report(&mut violations, &format!("/events/{index}"), &Sent::from(report));
    }
    violations.finish()
}

fn check_report(violations: &mut Violations, pointer: &str, report: &Sent<'_>) {
    let &Sent { id, properties, local_timestamp } = report;
    if event_id(id).is_none() {
        violations.add(format!("{pointer}/id"), "must be an evt_ id or a UUID");
    }
    if let Some(properties) = properties {
        violations.check(text::shallow(properties, &format!("{pointer}/properties")));
        if properties.to_string().len() > MOST_BYTES {
            violations.add(format!("{pointer}/properties"), format!("take at most {} KiB", MOST_BYTES / 1024));
        }
    }
    violations.check(check_local_timestamp(local_timestamp).map_err(|error| error.at(pointer)));
}

fn event_id(text: &str) -> Option<EventId> {
    EventId::parse(text).ok().or_else(|| Uuid::parse_str(text).ok().map(EventId::from_uuid))
}

/// A report that may be recorded.
struct Accepted {
    id: EventId,
    name: &'static str,
    container: Option<ContainerId>,
    card: Option<CardId>,
    report: Report,
}

impl Accepted {
    /// `None` for what is dropped: other customers, unknown names, ids that cannot exist.
    fn of(access: &SdkAccess, report: Report) -> Option<Accepted> {
        if report.user_id.as_ref().is_some_and(|user_id| *user_id != access.user_id) {
            return None;
        }
        let name = names::SDK.iter().copied().find(|name| *name == report.name)?;
        let container = report.container.as_deref().map(ContainerId::parse).transpose().ok()?;
        let card = report.card.as_deref().map(CardId::parse).transpose().ok()?;
        Some(Accepted { id: event_id(&report.id)?, name, container, card, report })
    }
}

async fn track_in(tx: &mut Tx, access: &SdkAccess, accepted: Vec<Accepted>) -> Result<()> {
    let mut new = remember_in(tx, access.env, accepted.iter().map(|event| event.id).collect()).await?;
    let scenes = scenes_in(tx, access, &accepted).await?;
    let cards = cards_in(tx, access, &accepted).await?;
    let references: Vec<&CardInstance> = cards.values().collect();
    let streams = placement::streams_of(tx.conn(), access.env, &references).await?;
    let mut customer = profile::find(tx.conn(), access.env, access.customer).await?;
    let dnd = match &mut customer {
        Some(customer) => scene::do_not_disturb(tx.conn(), access.env, customer, tx.now()).await?,
        None => return Err(Error::not_found("customer")),
    };
    let mut events = Vec::with_capacity(accepted.len());
    let mut seen = Vec::new();
    for Accepted { id, name, container, card, report } in accepted {
        let card = card.map(|card| cards.get(&card));
        let scene = container.map(|container| scenes.get(&container));
        // A card or container that is not the customer's, or not there, makes the event meaningless.
        if matches!(card, Some(None)) || matches!(scene, Some(None)) || !new.remove(&id) {
            continue;
        }
        let mut event = match card.flatten() {
            Some(card) => {
                if name == "card-displayed" {
                    seen.push(card.id);
                }
                card.event(name, card.status, streams.get(&card.id).cloned().unwrap_or_default())
            }
            None => NewEvent::new(name, access.customer, access.user_id.clone()),
        };
        event.id = Some(id);
        event.timestamp = report.timestamp;
        event.properties = report.properties;
        event.context = Some(EventContext {
            ip: access.info.address.map(|address| address.to_string()),
            action_source: None,
            user_local_timestamp: report.local_timestamp,
        });
        event.sdk = Some(scene::sdk_context(access, container, dnd));
        event.stream = scene.flatten().map(|scene| {
            let mut context = scene.stream_context();
            context.more =
                report.stream.into_iter().filter(|(name, _)| STREAM_FIELDS.contains(&name.as_str())).collect();
            context
        });
        events.push(event);
    }
    events::record_in(tx, access.env, &events).await?;
    if !seen.is_empty() {
        displayed::displayed_in(tx, access.env, access.customer, &seen).await?;
    }
    Ok(())
}

/// Keeps the ids, and gives those that were not known.
async fn remember_in(tx: &mut Tx, env: EnvId, mut ids: Vec<EventId>) -> Result<HashSet<EventId>> {
    #[derive(QueryableByName)]
    struct Remembered {
        #[diesel(sql_type = SqlUuid)]
        event_id: EventId,
    }
    // In one order everywhere, so that two calls with the same events do not wait for each other in a circle.
    ids.sort_unstable();
    let remember = sql_query(
        "INSERT INTO sdk_events (environment_id, event_id, received_at)
         SELECT $1, event_id, $2 FROM UNNEST($3::uuid[]) AS new (event_id)
         ON CONFLICT (environment_id, event_id) DO NOTHING RETURNING event_id",
    )
    .bind::<SqlUuid, _>(env)
    .bind::<Timestamptz, _>(tx.now())
    .bind::<Array<SqlUuid>, _>(ids);
    let remembered: Vec<Remembered> = Prepared(remember).load(&mut tx.conn()).await?;
    Ok(remembered.into_iter().map(|row| row.event_id).collect())
}

/// The containers that the reports name, as far as they are the app's to show.
async fn scenes_in(tx: &mut Tx, access: &SdkAccess, accepted: &[Accepted]) -> Result<HashMap<ContainerId, Scene>> {
    let named: HashSet<ContainerId> = accepted.iter().filter_map(|event| event.container).collect();
    let mut scenes = HashMap::with_capacity(named.len());
    for container in named {
        match Scene::enter(tx.conn(), access, container, tx.now()).await {
            Ok(scene) => {
                scenes.insert(container, scene);
            }
            Err(error) if error.code().status() < 500 => {}
            Err(error) => return Err(error),
        }
    }
    Ok(scenes)
}

/// The cards that the reports name, as far as they are the customer's.
async fn cards_in(tx: &mut Tx, access: &SdkAccess, accepted: &[Accepted]) -> Result<HashMap<CardId, CardInstance>> {
    let named: Vec<CardId> = accepted.iter().filter_map(|event| event.card).collect();
    let cards = instance::find_many(tx.conn(), access.env, &named).await?;
    Ok(cards.into_iter().filter(|card| card.customer_id == access.customer).map(|card| (card.id, card)).collect())
}

/// Forgets the ids of events after the time for which repeats are recognised.
pub struct Forgetter;

impl Worker for Forgetter {
    const NAME: &'static str = "sdk event forgetter";

    async fn run(&self, app: &App) -> Result<Progress> {
        let now = app.clock().now();
        let forgotten = sql_query(
            "DELETE FROM sdk_events WHERE (environment_id, event_id) IN (
                 SELECT environment_id, event_id FROM sdk_events WHERE received_at < $1 LIMIT $2)",
        )
        .bind::<Timestamptz, _>(now.minus(REMEMBERED))
        .bind::<diesel::sql_types::BigInt, _>(FORGET)
        .execute(&mut &*app.read().await?)
        .await?;
        let full = i64::try_from(forgotten).is_ok_and(|forgotten| forgotten == FORGET);
        Ok(if full { Progress::More } else { Progress::NextAt(now.plus(Duration::from_secs(3600))) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_ours_or_uuids() {
        assert!(event_id("evt_00000000000000000000000000").is_some());
        assert!(event_id("6f8b9c2e-1f60-4b7e-8a3e-0c8f0a4b1d2e").is_some());
        assert!(event_id("card_00000000000000000000000000").is_none());
        assert!(event_id("7").is_none());
    }
}
