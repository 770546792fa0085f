//! Test accounts: customers who may receive test cards (specification 3.5).

use diesel::dsl::exists;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::{Map, Value};

use super::change::check_profile;
use super::profile::{self, Customer, TEST};
use crate::access::{Access, Level, Resource, audit};
use crate::app::App;
use crate::db::schema::{cards, customers};
use crate::db::{OnConstraint, Tx};
use crate::error::{Code, Error, Result};
use crate::ids::CustomerId;
use crate::text::check_user_id;

/// A test account to be made.
#[derive(Clone, Debug)]
pub struct NewTestAccount {
    /// Made up when absent.
    pub user_id: Option<String>,
    pub name: String,
    /// Further core fields of the profile.
    pub profile: Map<String, Value>,
}

/// Makes a test account, or makes one of a live customer who has no open live cards.
pub async fn create(app: &App, access: &Access, new: NewTestAccount) -> Result<Customer> {
    access.require(Resource::TestAccount, Level::Edit)?;
    let fields = checked(Some(new.name), new.profile)?;
    let user_id = match new.user_id {
        Some(user_id) => {
            check_user_id(&user_id).map_err(|error| error.at("/id"))?;
            user_id
        }
        None => format!("test-{}", hex::encode(app.ids().bytes::<8>())),
    };
    app.transact(async |tx| {
        let customer = match lock_in(tx, access, &user_id).await? {
            Some(customer) => turn_in(tx, access, &customer).await?,
            None => insert_in(tx, access, &user_id).await?,
        };
        fill_in(tx, access, customer, &fields).await?;
        audit::record_in(tx, access, "test-account.create", customer, &names(&fields)).await?;
        found(profile::find(tx.conn(), access.env(), customer).await?)
    })
    .await
}

/// Renames a test account or changes other fields of its profile.
pub async fn update(
    app: &App,
    access: &Access,
    user_id: &str,
    name: Option<String>,
    profile: Map<String, Value>,
) -> Result<Customer> {
    access.require(Resource::TestAccount, Level::Edit)?;
    let fields = checked(name, profile)?;
    app.transact(async |tx| {
        let customer = found(lock_in(tx, access, user_id).await?.filter(Customer::test))?;
        fill_in(tx, access, customer.id, &fields).await?;
        audit::record_in(tx, access, "test-account.update", customer.id, &names(&fields)).await?;
        found(profile::find(tx.conn(), access.env(), customer.id).await?)
    })
    .await
}

fn found(customer: Option<Customer>) -> Result<Customer> {
    customer.ok_or_else(|| Error::not_found("test account"))
}

/// The fields to write, name included.
fn checked(name: Option<String>, mut profile: Map<String, Value>) -> Result<Map<String, Value>> {
    if let Some(name) = name {
        crate::text::object_name(&name, "/name")?;
        profile.insert("name".to_owned(), Value::String(name));
    }
    check_profile(&Value::Object(profile), "")
}

fn names(fields: &Map<String, Value>) -> Vec<&str> {
    fields.keys().map(String::as_str).collect()
}

async fn lock_in(tx: &mut Tx, access: &Access, user_id: &str) -> Result<Option<Customer>> {
    let customer = customers::table
        .filter(customers::environment_id.eq(access.env()).and(customers::user_id.eq(user_id)))
        .select(Customer::as_select())
        .for_update();
    Ok(customer.first(&mut tx.conn()).await.optional()?)
}

/// Makes a live customer a test account.
async fn turn_in(tx: &mut Tx, access: &Access, customer: &Customer) -> Result<CustomerId> {
    if customer.test() {
        return Err(taken());
    }
    // Whether cards are open is a question to their table, not to their rules: customers do not know cards.
    let open = cards::table
        .filter(cards::environment_id.eq(access.env()).and(cards::customer_id.eq(customer.id)))
        .filter(cards::status.eq_any(["embargoed", "active", "snoozed"]).and(cards::is_test.eq(false)));
    if diesel::select(exists(open)).get_result::<bool>(&mut tx.conn()).await? {
        return Err(Error::conflict("the customer has open live cards").at("/id"));
    }
    diesel::update(customers::table.find((access.env(), customer.id)))
        .set((customers::user_type.eq(TEST), customers::updated_at.eq(tx.now())))
        .execute(&mut tx.conn())
        .await?;
    Ok(customer.id)
}

async fn insert_in(tx: &mut Tx, access: &Access, user_id: &str) -> Result<CustomerId> {
    let id: CustomerId = tx.id();
    diesel::insert_into(customers::table)
        .values((
            customers::environment_id.eq(access.env()),
            customers::id.eq(id),
            customers::user_id.eq(user_id),
            customers::user_type.eq(TEST),
            customers::created_at.eq(tx.now()),
            customers::updated_at.eq(tx.now()),
        ))
        .execute(&mut tx.conn())
        .await
        .on_constraint("customers_environment_id_user_id_key", taken)?;
    Ok(id)
}

fn taken() -> Error {
    Error::new(Code::AlreadyExists, "a test account with this id exists").at("/id")
}

/// Writes checked core fields.
async fn fill_in(tx: &mut Tx, access: &Access, id: CustomerId, fields: &Map<String, Value>) -> Result<()> {
    let field = |name: &str| fields.get(name).map(|value| value.as_str().map(str::to_owned));
    let set = (
        field("external_id").map(|value| customers::external_id.eq(value)),
        field("name").map(|value| customers::name.eq(value)),
        field("email").map(|value| customers::email.eq(value)),
        field("phone").map(|value| customers::phone.eq(value)),
        field("city").map(|value| customers::city.eq(value)),
        field("region").map(|value| customers::region.eq(value)),
        field("country").map(|value| customers::country.eq(value)),
        field("timezone").map(|value| customers::timezone.eq(value)),
        customers::updated_at.eq(tx.now()),
    );
    diesel::update(customers::table.find((access.env(), id))).set(set).execute(&mut tx.conn()).await?;
    Ok(())
}
