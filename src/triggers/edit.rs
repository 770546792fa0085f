//! Triggers as members write them: made, changed, deleted.

use std::net::IpAddr;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use ipnet::IpNet;
use serde_json::Value;

use super::event;
use super::mapping::Mapping;
use super::shape::Check;
use super::verification::Verification;
use crate::access::{Access, Level, Resource, audit, expect_revision};
use crate::app::App;
use crate::db::Tx;
use crate::db::schema::triggers;
use crate::error::{Code, Error, Result, Violations};
use crate::flows::{self, Trigger};
use crate::ids::{EnvId, FlowId, TriggerId};
use crate::secret::Secret;
use crate::text;

/// The purpose under which shared secrets are sealed.
pub(super) const SEAL: &str = "trigger secret";

const MOST_TRIGGERS: usize = 50;
const MOST_ADDRESSES: usize = 1_000;

/// What members set; absent fields stay, or are those of a new trigger.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub name: Option<String>,
    pub mapping: Option<Value>,
    pub shape_check: Option<Check>,
    /// Addresses and ranges from which requests may come; none at all admits every address.
    pub allowed_addresses: Option<Vec<String>>,
    /// `Some(None)` takes the verification away.
    pub verification: Option<Option<Value>>,
    /// Of event triggers only; shape check, addresses and verification are of webhook triggers only.
    pub event: event::Settings,
    pub expected_revision: Option<i32>,
}

/// The kinds of triggers that members make. Every flow has its `api` trigger from the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Webhook,
    Event,
}

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Kind::Webhook => "webhook",
            Kind::Event => "event",
        }
    }

    /// The mode of a new trigger. One that fires for customers is switched on by whoever may send to them.
    fn first_mode(self) -> &'static str {
        match self {
            Kind::Webhook => "test",
            Kind::Event => "disabled",
        }
    }
}

/// Settings that have been checked.
struct Checked {
    mapping: Option<Value>,
    addresses: Option<Vec<String>>,
    verification: Option<Option<(Verification, Option<Secret>)>>,
}

impl Settings {
    fn check(&self) -> Result<Checked> {
        let mut violations = Violations::new();
        if let Some(name) = self.name.as_deref().filter(|name| !name.is_empty()) {
            violations.check(text::object_name(name, "/name"));
        }
        let mapping = self.mapping.as_ref().and_then(|mapping| violations.check(Mapping::parse(mapping)));
        let verification = match &self.verification {
            None => None,
            Some(None) => Some(None),
            Some(Some(settings)) => violations.check(Verification::parse(settings)).map(Some),
        };
        if let Some(addresses) = &self.allowed_addresses {
            if addresses.len() > MOST_ADDRESSES {
                violations.add("/allowedAddresses", format!("there may be at most {MOST_ADDRESSES} addresses"));
            }
            for (place, address) in addresses.iter().enumerate().filter(|(_, address)| range(address).is_none()) {
                violations.add(format!("/allowedAddresses/{place}"), format!("`{address}` is no address and no range"));
            }
        }
        self.event.check(&mut violations);
        violations.finish()?;
        Ok(Checked {
            mapping: mapping.map(serde_json::to_value).transpose()?,
            addresses: self.allowed_addresses.clone(),
            verification,
        })
    }
}

impl Settings {
    /// Refuses settings that triggers of another kind have.
    fn must_suit(&self, kind: &str) -> Result<()> {
        let of_webhooks = [
            ("/shapeCheck", self.shape_check.is_some()),
            ("/allowedAddresses", self.allowed_addresses.as_ref().is_some_and(|list| !list.is_empty())),
            ("/verification", self.verification.as_ref().is_some_and(Option::is_some)),
        ];
        let mut violations = Violations::new();
        if kind == Kind::Event.word() {
            for (pointer, _) in of_webhooks.into_iter().filter(|(_, given)| *given) {
                violations.add(pointer, "belongs to webhook triggers");
            }
        } else if self.event.any() {
            violations.add("/eventName", "event, restrictions and condition belong to event triggers");
        }
        violations.finish()
    }
}

fn range(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// Tells whether a list admits an address.
pub(super) fn admits(list: &[String], address: IpAddr) -> bool {
    list.is_empty() || list.iter().filter_map(|one| range(one)).any(|range| range.contains(&address))
}

/// Makes a trigger of a flow: a webhook trigger in test mode, an event trigger disabled.
pub async fn create(app: &App, access: &Access, flow: FlowId, kind: Kind, settings: Settings) -> Result<Trigger> {
    access.require(Resource::ActionFlow, Level::Edit)?;
    let checked = settings.check()?;
    settings.must_suit(kind.word())?;
    if kind == Kind::Event && settings.event.event_name.is_none() {
        return Err(Error::invalid("/eventName", "name the event that fires the trigger"));
    }
    app.transact(async |tx| {
        let env = access.env();
        flows::lock_in(tx, env, flow).await?;
        if flows::triggers(tx.conn(), env, &[flow]).await?.len() >= MOST_TRIGGERS {
            return Err(Error::conflict(format!("a flow has at most {MOST_TRIGGERS} triggers")));
        }
        let id: TriggerId = tx.ids().unguessable();
        diesel::insert_into(triggers::table)
            .values((
                triggers::environment_id.eq(env),
                triggers::id.eq(id),
                triggers::flow_id.eq(flow),
                triggers::kind.eq(kind.word()),
                triggers::mode.eq(kind.first_mode()),
                triggers::event_name.eq(&settings.event.event_name),
                triggers::created_at.eq(tx.now()),
                triggers::updated_at.eq(tx.now()),
            ))
            .execute(&mut tx.conn())
            .await?;
        let trigger = find_locked(tx, env, id).await?;
        let trigger = save_in(app, tx, trigger, &settings, checked).await?;
        audit::record_in(tx, access, "trigger.create", id, &["flowId", "mapping"]).await?;
        Ok(trigger)
    })
    .await
}

/// Changes a trigger; requests that come from now on meet the new settings.
pub async fn update(app: &App, access: &Access, id: TriggerId, settings: Settings) -> Result<Trigger> {
    access.require(Resource::ActionFlow, Level::Edit)?;
    let checked = settings.check()?;
    app.transact(async |tx| {
        let trigger = find_locked(tx, access.env(), id).await?;
        expect_revision(trigger.revision, settings.expected_revision)?;
        settings.must_suit(&trigger.kind)?;
        let trigger = save_in(app, tx, trigger, &settings, checked).await?;
        audit::record_in(tx, access, "trigger.update", id, &changed(&settings)).await?;
        Ok(trigger)
    })
    .await
}

fn changed(settings: &Settings) -> Vec<&'static str> {
    let fields = [
        ("name", settings.name.is_some()),
        ("mapping", settings.mapping.is_some()),
        ("shapeCheck", settings.shape_check.is_some()),
        ("allowedAddresses", settings.allowed_addresses.is_some()),
        ("verification", settings.verification.is_some()),
        ("eventName", settings.event.event_name.is_some()),
        ("where", settings.event.condition.is_some()),
        ("cardTemplateId", settings.event.template.is_some()),
        ("actionFlowConfigId", settings.event.flow.is_some()),
    ];
    fields.into_iter().filter_map(|(name, given)| given.then_some(name)).collect()
}

async fn save_in(app: &App, tx: &mut Tx, before: Trigger, settings: &Settings, checked: Checked) -> Result<Trigger> {
    let (verification, secret) = match checked.verification {
        None => (before.verification, before.secret),
        Some(None) => (None, None),
        Some(Some((verification, secret))) => {
            let sealed = match (secret, before.secret) {
                (Some(secret), _) => app.vault().seal(tx.ids(), SEAL, &secret)?,
                (None, Some(kept)) => kept,
                (None, None) => return Err(Error::invalid("/verification/secret", "secret is required")),
            };
            (Some(serde_json::to_value(verification)?), Some(sealed))
        }
    };
    settings.event.must_name_what_exists(tx.conn(), before.environment_id).await?;
    let event = &settings.event;
    let shape_check = settings.shape_check.map_or(before.shape_check, |check| check.word().to_owned());
    Ok(diesel::update(triggers::table.find((before.environment_id, before.id)))
        .set((
            triggers::name.eq(settings.name.as_ref().unwrap_or(&before.name)),
            triggers::mapping.eq(checked.mapping.unwrap_or(before.mapping)),
            triggers::shape_check.eq(shape_check),
            triggers::allowed_addresses.eq(checked.addresses.unwrap_or(before.allowed_addresses)),
            triggers::verification.eq(verification),
            triggers::secret.eq(secret),
            triggers::event_name.eq(event.event_name.as_ref().or(before.event_name.as_ref())),
            triggers::condition.eq(event.condition.as_ref().unwrap_or(&before.condition)),
            triggers::event_template_id.eq(event.template.unwrap_or(before.event_template_id)),
            triggers::event_flow_id.eq(event.flow.unwrap_or(before.event_flow_id)),
            triggers::updated_at.eq(tx.now()),
            triggers::revision.eq(triggers::revision + 1),
        ))
        .returning(Trigger::as_returning())
        .get_result(&mut tx.conn())
        .await?)
}

/// Deletes a trigger that is disabled, with its log. Its URL never comes back.
pub async fn delete(app: &App, access: &Access, id: TriggerId) -> Result<()> {
    access.require(Resource::ActionFlow, Level::Admin)?;
    app.transact(async |tx| {
        let trigger = find_locked(tx, access.env(), id).await?;
        if trigger.mode != "disabled" {
            return Err(Error::new(Code::Conflict, "disable the trigger before you delete it"));
        }
        diesel::delete(triggers::table.find((access.env(), id))).execute(&mut tx.conn()).await?;
        audit::record_in(tx, access, "trigger.delete", id, &[]).await
    })
    .await
}

/// One trigger.
pub async fn read(app: &App, access: &Access, id: TriggerId) -> Result<Trigger> {
    access.require(Resource::ActionFlow, Level::View)?;
    let trigger = flows::trigger(&*app.read().await?, access.env(), id).await?;
    trigger.ok_or_else(|| Error::not_found("trigger"))
}

/// A trigger that members made, locked against other changes until the transaction ends.
pub(super) async fn find_locked(tx: &Tx, env: EnvId, id: TriggerId) -> Result<Trigger> {
    let found = triggers::table.find((env, id)).select(Trigger::as_select()).for_update().first(&mut tx.conn()).await;
    let trigger: Trigger = found.optional()?.ok_or_else(|| Error::not_found("trigger"))?;
    if trigger.kind == "api" {
        return Err(Error::conflict("the api trigger of a flow is always there and always on"));
    }
    Ok(trigger)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_addresses() {
        let list = |list: &[&str]| list.iter().map(|&one| one.to_owned()).collect::<Vec<_>>();
        for (allowed, address, admitted) in [
            (&[][..], "203.0.113.9", true),
            (&["203.0.113.9"], "203.0.113.9", true),
            (&["203.0.113.0/24", "::1"], "203.0.113.200", true),
            (&["203.0.113.0/24"], "203.0.114.1", false),
            (&["2001:db8::/32"], "2001:db8::5", true),
            (&["2001:db8::/32"], "203.0.113.9", false),
        ] {
            assert_eq!(admits(&list(allowed), address.parse().unwrap()), admitted, "{allowed:?} {address}");
        }
    }
}
