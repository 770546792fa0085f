//! Writing customers' data: what a change may say, and merging it into what is stored (specification 7.1–7.4).

use std::collections::HashMap;

use diesel::prelude::*;
use diesel::sql_types::{Jsonb, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use serde::Serialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::preferences;
use super::profile::{self, CORE_FIELDS, Customer};
use crate::access::{Access, Level, Resource, SdkAccess, audit};
use crate::app::App;
use crate::clock::{Time, zone};
use crate::db::schema::customers;
use crate::db::{Prepared, Tx};
use crate::error::{Error, Result, Violation, Violations};
use crate::ids::{EnvId, Id};
use crate::text::{check_user_id, pointer_token};

/// The most customers that one call may write.
pub const MOST_CHANGES: usize = 1_000;
/// The most characters of a text in a profile.
const LONGEST_TEXT: usize = 1_000;

/// What is to become of one customer: fields that are not named stay, null clears.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    /// Core fields that change; checked.
    core: Map<String, Value>,
    /// Preferences that change; checked.
    preferences: Option<Value>,
    /// All tags are taken away. Tags are given where they are managed.
    untag: bool,
}

impl Change {
    /// Reads `{profile?, preferences?, tags?}`. Reports every violation with its pointer.
    pub fn parse(entry: &Map<String, Value>) -> Result<Change> {
        let mut violations = Violations::new();
        let mut change = Change::default();
        if let Some(given) = entry.get("profile").filter(|given| !given.is_null()) {
            change.core = violations.check(check_profile(given, "/profile")).unwrap_or_default();
        }
        if let Some(given) = entry.get("preferences").filter(|given| !given.is_null()) {
            // Whether a preference is valid does not depend on the stored ones.
            violations.check(preferences::merge(&Map::new(), given, "/preferences"));
            change.preferences = Some(given.clone());
        }
        match entry.get("tags") {
            None | Some(Value::Null) => {}
            Some(Value::Array(names)) => {
                change.untag = true;
                for (index, name) in names.iter().enumerate() {
                    let name = name.as_str().unwrap_or_default();
                    violations.add(format!("/tags/{index}"), format!("there is no tag `{name}`"));
                }
            }
            Some(_) => violations.add("/tags", "must be a list of names"),
        }
        violations.finish()?;
        Ok(change)
    }

    /// A change of core fields only.
    pub(crate) fn of_profile(given: Map<String, Value>) -> Result<Change> {
        Ok(Change { core: check_profile(&Value::Object(given), "")?, ..Change::default() })
    }

    /// A change of preferences only.
    fn of_preferences(given: &Value, pointer: &str) -> Result<Change> {
        preferences::merge(&Map::new(), given, pointer)?;
        Ok(Change { preferences: Some(given.clone()), ..Change::default() })
    }

    /// The names of what changes, for the audit log.
    fn fields(&self) -> Vec<&str> {
        let core = self.core.keys().map(String::as_str);
        core.chain(self.preferences.as_ref().map(|_| "preferences")).chain(self.untag.then_some("tags")).collect()
    }

    /// Makes the change to a customer in memory.
    pub(crate) fn apply(&self, customer: &mut Customer, now: Time) -> Result<()> {
        for (name, value) in &self.core {
            let text = value.as_str().map(str::to_owned);
            match name.as_str() {
                "external_id" => customer.external_id = text,
                "name" => customer.name = text,
                "email" => customer.email = text,
                "phone" => customer.phone = text,
                "city" => customer.city = text,
                "region" => customer.region = text,
                "country" => customer.country = text,
                _ => customer.timezone = text,
            }
        }
        if let Some(given) = &self.preferences {
            let stored = customer.preferences.as_object().cloned().unwrap_or_default();
            customer.preferences = Value::Object(preferences::merge(&stored, given, "/preferences")?);
            customer.preferences_updated_at = Some(now);
        }
        if self.untag {
            customer.tags.clear();
        }
        Ok(())
    }
}

/// Checks the profile fields of a write: core fields only, texts or null.
pub(super) fn check_profile(given: &Value, pointer: &str) -> Result<Map<String, Value>> {
    let fields = given.as_object().ok_or_else(|| Error::invalid(pointer, "must be an object"))?;
    let mut violations = Violations::new();
    for (name, value) in fields {
        let place = format!("{pointer}/{}", pointer_token(name));
        if !CORE_FIELDS.contains(&name.as_str()) {
            violations.add(place, "is not a field of customers");
            continue;
        }
        match value {
            Value::Null => {}
            Value::String(text) if text.chars().count() > LONGEST_TEXT => {
                violations.add(place, format!("has at most {LONGEST_TEXT} characters"));
            }
            Value::String(text) if text.contains('\0') => violations.add(place, "has no NUL characters"),
            Value::String(text) if name == "timezone" => {
                violations.check(zone(text).map_err(|error| error.at(place)));
            }
            Value::String(_) => {}
            _ => violations.add(place, "must be a string or null"),
        }
    }
    violations.finish()?;
    Ok(fields.clone())
}

/// An entry of a batch that was not taken, and why.
#[derive(Clone, Debug)]
pub struct Refused {
    pub index: usize,
    pub violation: Violation,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Outcome {
    pub created: usize,
    pub updated: usize,
    pub errors: Vec<Refused>,
}

/// Writes a batch of `{id, profile?, preferences?, tags?}`, making customers who do not exist. Entries with
/// faults are left out and reported; the others are written together.
pub async fn upsert(app: &App, access: &Access, entries: &[Value]) -> Result<Outcome> {
    access.require(Resource::Customer, Level::Edit)?;
    check_size(entries.len())?;
    let mut outcome = Outcome::default();
    let mut changes = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        match read_entry(entry) {
            Ok(change) => changes.push(change),
            Err(error) => {
                outcome
                    .errors
                    .extend(error.into_violations().into_iter().map(|violation| Refused { index, violation }));
            }
        }
    }
    (outcome.created, outcome.updated) = app.transact(async |tx| write_audited_in(tx, access, &changes).await).await?;
    Ok(outcome)
}

/// Changes the preferences of several customers by their ids, making those who do not exist. All or nothing;
/// pointers go on from `pointer` with the customer's id.
pub async fn set_preferences(
    app: &App,
    access: &Access,
    by_user_id: &Map<String, Value>,
    pointer: &str,
) -> Result<Outcome> {
    access.require(Resource::Customer, Level::Edit)?;
    check_size(by_user_id.len())?;
    let mut violations = Violations::new();
    let mut changes = Vec::with_capacity(by_user_id.len());
    for (user_id, given) in by_user_id {
        let pointer = format!("{pointer}/{}", pointer_token(user_id));
        violations.check(check_user_id(user_id).map_err(|error| error.at(pointer.as_str())));
        let change = violations.check(Change::of_preferences(given, &pointer));
        changes.extend(change.map(|change| (user_id.clone(), change)));
    }
    violations.finish()?;
    let (created, updated) = app.transact(async |tx| write_audited_in(tx, access, &changes).await).await?;
    Ok(Outcome { created, updated, errors: Vec::new() })
}

/// Changes the customer of a token, as their app asks.
pub async fn update_me(
    app: &App,
    access: &SdkAccess,
    profile: Option<Value>,
    preferences: Option<Value>,
) -> Result<Customer> {
    let mut entry = Map::new();
    entry.extend(profile.map(|profile| ("profile".to_owned(), profile)));
    entry.extend(preferences.map(|preferences| ("preferences".to_owned(), preferences)));
    let change = Change::parse(&entry)?;
    app.transact(async |tx| {
        let changes = [(access.user_id.clone(), change)];
        write_in(tx, access.env, &changes).await?;
        let customer = profile::find_by_user_id(tx.conn(), access.env, &access.user_id).await?;
        customer.ok_or_else(|| Error::not_found("customer"))
    })
    .await
}

/// Takes over what the claims of a verified token say of the profile. Values that a field does not allow are left
/// out, and nothing is written when nothing changes.
pub(crate) async fn take_claims(app: &App, customer: &Customer, said: Map<String, Value>) -> Result<()> {
    let held: HashMap<&str, Option<&str>> = CORE_FIELDS.into_iter().zip(customer.core()).collect();
    let news = said.into_iter().filter(|(name, value)| {
        held.get(name.as_str()).is_some_and(|held| *held != value.as_str())
            && check_profile(&json!({ name: value }), "").is_ok()
    });
    let change = Change { core: news.collect(), ..Change::default() };
    if change == Change::default() {
        return Ok(());
    }
    let changes = [(customer.user_id.clone(), change)];
    app.transact(async |tx| write_in(tx, customer.environment_id, &changes).await.map(drop)).await
}

fn check_size(entries: usize) -> Result<()> {
    if entries > MOST_CHANGES {
        return Err(Error::invalid("", format!("one call writes at most {MOST_CHANGES} customers")));
    }
    Ok(())
}

fn read_entry(entry: &Value) -> Result<(String, Change)> {
    let fields = entry.as_object().ok_or_else(|| Error::invalid("", "must be an object"))?;
    let id = fields.get("id").and_then(Value::as_str).ok_or_else(|| Error::invalid("/id", "an id is required"))?;
    check_user_id(id).map_err(|error| error.at("/id"))?;
    Ok((id.to_owned(), Change::parse(fields)?))
}

async fn write_audited_in(tx: &mut Tx, access: &Access, changes: &[(String, Change)]) -> Result<(usize, usize)> {
    let written = write_in(tx, access.env(), changes).await?;
    let by_user_id: HashMap<&str, &Customer> =
        written.customers.iter().map(|customer| (customer.user_id.as_str(), customer)).collect();
    for (user_id, change) in changes {
        if let Some(customer) = by_user_id.get(user_id.as_str()) {
            audit::record_in(tx, access, "customer.upsert", customer.id, &change.fields()).await?;
        }
    }
    Ok((written.created, changes.len() - written.created))
}

/// What [`write_in`] wrote.
struct Written {
    created: usize,
    customers: Vec<Customer>,
}

/// Merges the changes into customers, in the order given. Row locks are taken in the order of our own ids.
async fn write_in(tx: &mut Tx, env: EnvId, changes: &[(String, Change)]) -> Result<Written> {
    let mut user_ids: Vec<String> = changes.iter().map(|(user_id, _)| user_id.clone()).collect();
    user_ids.sort_unstable();
    user_ids.dedup();
    let known = profile::find_by_user_ids(tx.conn(), env, &user_ids).await?.len();
    let created = profile::ensure_in(tx, env, &user_ids).await?.len() - known;
    let customers = merge_in(tx, env, &user_ids, changes).await?;
    Ok(Written { created, customers })
}

/// Merges the changes into customers that exist, in the order given. Locks their rows in the order of our own ids.
pub(crate) async fn update_in(tx: &mut Tx, env: EnvId, changes: &[(String, Change)]) -> Result<()> {
    let user_ids: Vec<String> = changes.iter().map(|(user_id, _)| user_id.clone()).collect();
    merge_in(tx, env, &user_ids, changes).await.map(drop)
}

async fn merge_in(tx: &mut Tx, env: EnvId, user_ids: &[String], changes: &[(String, Change)]) -> Result<Vec<Customer>> {
    let locked: Vec<Customer> = customers::table
        .filter(customers::environment_id.eq(env).and(customers::user_id.eq_any(user_ids)))
        .order(customers::id)
        .select(Customer::as_select())
        .for_no_key_update()
        .load(&mut tx.conn())
        .await?;
    let mut merged: HashMap<String, Customer> =
        locked.into_iter().map(|customer| (customer.user_id.clone(), customer)).collect();
    for (user_id, change) in changes {
        if let Some(customer) = merged.get_mut(user_id) {
            change.apply(customer, tx.now())?;
        }
    }
    let customers: Vec<Customer> = merged.into_values().collect();
    store_in(tx, env, &customers).await?;
    Ok(customers)
}

/// The editable data of a customer by the names of the columns.
#[derive(Serialize)]
struct Row<'a> {
    id: Uuid,
    external_id: &'a Option<String>,
    name: &'a Option<String>,
    email: &'a Option<String>,
    phone: &'a Option<String>,
    city: &'a Option<String>,
    region: &'a Option<String>,
    country: &'a Option<String>,
    timezone: &'a Option<String>,
    tags: &'a [String],
    preferences: &'a Value,
    preferences_updated_at: Option<Time>,
}

async fn store_in(tx: &mut Tx, env: EnvId, changed: &[Customer]) -> Result<()> {
    let rows: Vec<Row<'_>> = changed
        .iter()
        .map(|customer| Row {
            id: customer.id.uuid(),
            external_id: &customer.external_id,
            name: &customer.name,
            email: &customer.email,
            phone: &customer.phone,
            city: &customer.city,
            region: &customer.region,
            country: &customer.country,
            timezone: &customer.timezone,
            tags: &customer.tags,
            preferences: &customer.preferences,
            preferences_updated_at: customer.preferences_updated_at,
        })
        .collect();
    let update = diesel::sql_query(
        "UPDATE customers SET external_id = new.external_id, name = new.name, email = new.email, phone = new.phone,
             city = new.city, region = new.region, country = new.country, timezone = new.timezone, tags = new.tags,
             preferences = new.preferences, preferences_updated_at = new.preferences_updated_at, updated_at = $2
         FROM jsonb_to_recordset($3) AS new (id uuid, external_id text, name text, email text, phone text, city text,
             region text, country text, timezone text, tags text[], preferences jsonb,
             preferences_updated_at timestamptz)
         WHERE customers.environment_id = $1 AND customers.id = new.id",
    )
    .bind::<SqlUuid, _>(env)
    .bind::<Timestamptz, _>(tx.now())
    .bind::<Jsonb, _>(serde_json::to_value(rows)?);
    Prepared(update).execute(&mut tx.conn()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(entry: &Value) -> Result<(String, Change)> {
        read_entry(entry)
    }

    #[test]
    fn every_violation_has_its_pointer() {
        let error =
            parse(&json!({"id": "a", "profile": {"name": 7, "colour": "red", "timezone": "Mars", "city": null},
            "preferences": {"timezone": "Mars"}, "tags": ["vip"]}))
            .unwrap_err();
        let mut pointers: Vec<_> =
            error.violations().iter().filter_map(|violation| violation.pointer.clone()).collect();
        pointers.sort();
        assert_eq!(
            pointers,
            ["/preferences/timezone", "/profile/colour", "/profile/name", "/profile/timezone", "/tags/0"]
        );
    }

    #[test]
    fn an_id_is_required() {
        for entry in [json!({}), json!({"id": 7}), json!({"id": ""}), json!([])] {
            assert!(parse(&entry).is_err(), "{entry}");
        }
        assert_eq!(parse(&json!({"id": "a"})).unwrap(), ("a".to_owned(), Change::default()));
    }

    #[test]
    fn fields_are_named_for_the_audit_log() {
        let (_, change) =
            parse(&json!({"id": "a", "profile": {"name": "Ana"}, "preferences": {}, "tags": []})).unwrap();
        assert_eq!(change.fields(), ["name", "preferences", "tags"]);
    }
}
