//! A customer: the row, the profile as the API shows it, and how customers come into being (specification 7.1).

use std::collections::{HashMap, HashSet};

use diesel::prelude::*;
use diesel::sql_types::{Array, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::{Map, Value};

use crate::access::member;
use crate::clock::Time;
use crate::db::schema::customers;
use crate::db::{Placed, Prepared, Tx};
use crate::error::Result;
use crate::ids::{CustomerId, EnvId};

/// The type of a customer who may receive test cards.
pub const TEST: &str = "test";
/// The type of everybody else.
pub const LIVE: &str = "live";

/// The editable fields that every environment has.
pub const CORE_FIELDS: [&str; 8] = ["external_id", "name", "email", "phone", "city", "region", "country", "timezone"];

/// A person who receives cards.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = customers, check_for_backend(diesel::pg::Pg))]
pub struct Customer {
    pub environment_id: EnvId,
    pub id: CustomerId,
    /// The id by which the caller knows the customer.
    pub user_id: String,
    pub user_type: String,
    pub external_id: Option<String>,
    pub name: Option<String>,
    pub email: Option<String>,
    pub phone: Option<String>,
    pub city: Option<String>,
    pub region: Option<String>,
    pub country: Option<String>,
    pub timezone: Option<String>,
    /// Values of custom fields by name.
    pub custom: Value,
    pub tags: Vec<String>,
    /// Only what was set; [`super::preferences::shown`] adds what holds otherwise.
    pub preferences: Value,
    pub preferences_updated_at: Option<Time>,
    pub first_seen_at: Option<Time>,
    pub last_seen_at: Option<Time>,
    pub last_web_seen_at: Option<Time>,
    pub last_ios_seen_at: Option<Time>,
    pub last_android_seen_at: Option<Time>,
    pub last_web_device: Option<String>,
    pub last_ios_device: Option<String>,
    pub last_android_device: Option<String>,
    pub last_web_sdk_version: Option<String>,
    pub last_ios_sdk_version: Option<String>,
    pub last_android_sdk_version: Option<String>,
    pub last_app_version: Option<String>,
    pub last_published_card_at: Option<Time>,
    pub last_displayed_card_at: Option<Time>,
    pub last_completed_card_at: Option<Time>,
    pub last_dismissed_card_at: Option<Time>,
    pub last_expired_card_at: Option<Time>,
    pub created_at: Time,
    pub updated_at: Time,
}

impl Customer {
    /// A customer of whom nothing is known, as their row begins.
    fn new(environment_id: EnvId, id: CustomerId, user_id: String, user_type: &str, now: Time) -> Customer {
        Customer {
            environment_id,
            id,
            user_id,
            user_type: user_type.to_owned(),
            external_id: None,
            name: None,
            email: None,
            phone: None,
            city: None,
            region: None,
            country: None,
            timezone: None,
            custom: Value::Object(Map::new()),
            tags: Vec::new(),
            preferences: Value::Object(Map::new()),
            preferences_updated_at: None,
            first_seen_at: None,
            last_seen_at: None,
            last_web_seen_at: None,
            last_ios_seen_at: None,
            last_android_seen_at: None,
            last_web_device: None,
            last_ios_device: None,
            last_android_device: None,
            last_web_sdk_version: None,
            last_ios_sdk_version: None,
            last_android_sdk_version: None,
            last_app_version: None,
            last_published_card_at: None,
            last_displayed_card_at: None,
            last_completed_card_at: None,
            last_dismissed_card_at: None,
            last_expired_card_at: None,
            created_at: now,
            updated_at: now,
        }
    }

    pub fn test(&self) -> bool {
        self.user_type == TEST
    }

    /// The `profile` object: core fields always, what was never seen left out, custom fields beside them.
    pub fn profile(&self) -> Map<String, Value> {
        let mut profile = self.custom.as_object().cloned().unwrap_or_default();
        profile.insert("user_type".into(), Value::from(self.user_type.as_str()));
        for (name, value) in CORE_FIELDS.into_iter().zip(self.core()) {
            profile.insert(name.into(), value.map_or(Value::Null, Value::from));
        }
        for (name, seen) in self.seen() {
            if let Some(seen) = seen {
                profile.insert(name.into(), Value::from(seen.to_string()));
            }
        }
        for (name, text) in self.devices() {
            if let Some(text) = text {
                profile.insert(name.into(), Value::from(text));
            }
        }
        profile
    }

    /// The values of [`CORE_FIELDS`], in their order.
    pub fn core(&self) -> [Option<&str>; 8] {
        [
            self.external_id.as_deref(),
            self.name.as_deref(),
            self.email.as_deref(),
            self.phone.as_deref(),
            self.city.as_deref(),
            self.region.as_deref(),
            self.country.as_deref(),
            self.timezone.as_deref(),
        ]
    }

    fn seen(&self) -> [(&'static str, Option<Time>); 10] {
        [
            ("first_seen_at", self.first_seen_at),
            ("last_seen_at", self.last_seen_at),
            ("last_web_seen_at", self.last_web_seen_at),
            ("last_ios_seen_at", self.last_ios_seen_at),
            ("last_android_seen_at", self.last_android_seen_at),
            ("last_published_card_at", self.last_published_card_at),
            ("last_displayed_card_at", self.last_displayed_card_at),
            ("last_completed_card_at", self.last_completed_card_at),
            ("last_dismissed_card_at", self.last_dismissed_card_at),
            ("last_expired_card_at", self.last_expired_card_at),
        ]
    }

    fn devices(&self) -> [(&'static str, Option<&str>); 7] {
        [
            ("last_web_device", self.last_web_device.as_deref()),
            ("last_ios_device", self.last_ios_device.as_deref()),
            ("last_android_device", self.last_android_device.as_deref()),
            ("last_web_sdk_version", self.last_web_sdk_version.as_deref()),
            ("last_ios_sdk_version", self.last_ios_sdk_version.as_deref()),
            ("last_android_sdk_version", self.last_android_sdk_version.as_deref()),
            ("last_app_version", self.last_app_version.as_deref()),
        ]
    }
}

pub async fn find(conn: &AsyncPgConnection, env: EnvId, id: CustomerId) -> Result<Option<Customer>> {
    let customer = customers::table.find((env, id)).select(Customer::as_select()).first(&mut &*conn).await;
    Ok(customer.optional()?)
}

/// Customers by our own id, in no order.
pub async fn find_many(conn: &AsyncPgConnection, env: EnvId, ids: &[CustomerId]) -> Result<Vec<Customer>> {
    let found = customers::table
        .filter(customers::environment_id.eq(env).and(customers::id.eq_any(ids)))
        .select(Customer::as_select());
    Ok(found.load(&mut &*conn).await?)
}

/// Customers by the caller's id, in no order; unknown ids are left out.
pub async fn find_by_user_ids(conn: &AsyncPgConnection, env: EnvId, user_ids: &[String]) -> Result<Vec<Customer>> {
    // Each is looked up by its key: a plan that was made while there were few customers must do when there are many.
    let find = diesel::sql_query(
        "SELECT found.* FROM (SELECT DISTINCT UNNEST($2::text[]) AS user_id) AS wanted CROSS JOIN LATERAL (
             SELECT * FROM customers
             WHERE customers.environment_id = $1 AND customers.user_id = wanted.user_id LIMIT 1) AS found",
    )
    .bind::<SqlUuid, _>(env)
    .bind::<Array<Text>, _>(user_ids);
    Ok(Placed::<_, customers::SqlType>::new(find).load(&mut &*conn).await?)
}

pub async fn find_by_user_id(conn: &AsyncPgConnection, env: EnvId, user_id: &str) -> Result<Option<Customer>> {
    let customer = customers::table
        .filter(customers::environment_id.eq(env).and(customers::user_id.eq(user_id)))
        .select(Customer::as_select());
    Ok(customer.first(&mut &*conn).await.optional()?)
}

/// Gives the customers of these ids in the order given, making those who do not exist yet.
///
/// A member's user id becomes a test customer, every other a live one. The ids are taken as checked.
pub(crate) async fn ensure_in(tx: &mut Tx, env: EnvId, user_ids: &[String]) -> Result<Vec<Customer>> {
    let mut known = by_user_id(find_by_user_ids(tx.conn(), env, user_ids).await?);
    let missing = missing(user_ids, &known);
    known.extend(by_user_id(make_in(tx, env, missing).await?));
    Ok(user_ids.iter().filter_map(|user_id| known.get(user_id).cloned()).collect())
}

/// Gives, in no order, customers whom a look in the same transaction has not found; as [`ensure_in`] makes them.
pub(crate) async fn make_in(tx: &mut Tx, env: EnvId, mut missing: Vec<String>) -> Result<Vec<Customer>> {
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    // Concurrent writers meet in the same order.
    missing.sort_unstable();
    let members = member::test_user_ids(tx.conn(), env, &missing).await?;
    create_in(tx, env, &missing, &members).await
}

/// Gives those of these ids who may get test cards, in the order given: test accounts, and members, who become
/// customers on the way. Others are left out.
pub(crate) async fn test_users_in(tx: &mut Tx, env: EnvId, user_ids: &[String]) -> Result<Vec<Customer>> {
    let mut known = by_user_id(find_by_user_ids(tx.conn(), env, user_ids).await?);
    let missing = missing(user_ids, &known);
    if !missing.is_empty() {
        let members = member::test_user_ids(tx.conn(), env, &missing).await?;
        let members_only: Vec<String> = missing.into_iter().filter(|user_id| members.contains(user_id)).collect();
        known.extend(by_user_id(create_in(tx, env, &members_only, &members).await?));
    }
    Ok(user_ids.iter().filter_map(|user_id| known.get(user_id)).filter(|customer| customer.test()).cloned().collect())
}

fn by_user_id(customers: Vec<Customer>) -> HashMap<String, Customer> {
    customers.into_iter().map(|customer| (customer.user_id.clone(), customer)).collect()
}

/// The ids nobody has yet, sorted and once each, so that concurrent writers meet in the same order.
fn missing(user_ids: &[String], known: &HashMap<String, Customer>) -> Vec<String> {
    let mut missing: Vec<String> = user_ids.iter().filter(|user_id| !known.contains_key(*user_id)).cloned().collect();
    missing.sort_unstable();
    missing.dedup();
    missing
}

#[derive(QueryableByName)]
struct Made {
    #[diesel(sql_type = SqlUuid)]
    id: CustomerId,
}

/// Makes customers with nothing but their id. One who came into being meanwhile is given as they are.
async fn create_in(tx: &mut Tx, env: EnvId, user_ids: &[String], members: &[String]) -> Result<Vec<Customer>> {
    if user_ids.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<CustomerId> = user_ids.iter().map(|_| tx.id()).collect();
    let types: Vec<&str> = user_ids.iter().map(|id| if members.contains(id) { TEST } else { LIVE }).collect();
    let insert = diesel::sql_query(
        "INSERT INTO customers (environment_id, created_at, updated_at, id, user_id, user_type)
         SELECT $1, $2, $2, UNNEST($3::uuid[]), UNNEST($4::text[]), UNNEST($5::text[])
         ON CONFLICT (environment_id, user_id) DO NOTHING RETURNING id",
    )
    .bind::<SqlUuid, _>(env)
    .bind::<Timestamptz, _>(tx.now())
    .bind::<Array<SqlUuid>, _>(&ids)
    .bind::<Array<Text>, _>(user_ids)
    .bind::<Array<Text>, _>(&types);
    let made: Vec<Made> = Prepared(insert).load(&mut tx.conn()).await?;
    let made: HashSet<CustomerId> = made.into_iter().map(|made| made.id).collect();
    let mut customers = Vec::with_capacity(user_ids.len());
    let mut others = Vec::new();
    for ((id, user_id), user_type) in ids.into_iter().zip(user_ids).zip(types) {
        if made.contains(&id) {
            customers.push(Customer::new(env, id, user_id.clone(), user_type, tx.now()));
        } else {
            others.push(user_id.clone());
        }
    }
    if !others.is_empty() {
        customers.extend(find_by_user_ids(tx.conn(), env, &others).await?);
    }
    Ok(customers)
}
