//! Customers and test accounts.

use async_graphql::{Context, Enum, ID, InputObject, MaybeUndefined, Object, SimpleObject};
use serde_json::{Map, Value};

use super::connection::Connection;
use super::context;
use super::scalars::{JsonObject, TimeZone};
use crate::cards::erase;
use crate::clock::Time;
use crate::customers::change::{self, Outcome};
use crate::customers::list::{self, Search};
use crate::customers::preferences;
use crate::customers::test_account::{self, NewTestAccount};
use crate::customers::{Customer, profile};
use crate::db::page::PageRequest;
use crate::error::Result;
use crate::ids::{CustomerId, EnvId};

/// Whether somebody may receive test cards.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
pub enum UserType {
    Live,
    Test,
}

/// A person who receives cards.
pub struct CustomerNode(pub Customer);

/// A person who receives cards.
#[Object(name = "Customer")]
impl CustomerNode {
    /// The id by which the caller knows the customer.
    async fn id(&self) -> ID {
        ID(self.0.user_id.clone())
    }

    /// The id by which the server knows the customer.
    async fn internal_id(&self) -> CustomerId {
        self.0.id
    }

    async fn environment_id(&self) -> EnvId {
        self.0.environment_id
    }

    async fn user_type(&self) -> UserType {
        if self.0.test() { UserType::Test } else { UserType::Live }
    }

    async fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    /// Core, activity and custom fields by their names.
    async fn profile(&self) -> JsonObject {
        JsonObject(self.0.profile())
    }

    async fn preferences(&self) -> JsonObject {
        JsonObject::of(preferences::shown(&self.0.preferences))
    }

    async fn preferences_updated(&self) -> Option<Time> {
        self.0.preferences_updated_at
    }

    async fn tags(&self) -> &[String] {
        &self.0.tags
    }

    async fn created(&self) -> Time {
        self.0.created_at
    }

    async fn updated(&self) -> Time {
        self.0.updated_at
    }
}

/// What is to become of one customer: what is not named stays, null clears.
#[derive(InputObject)]
pub struct CustomerInput {
    id: String,
    profile: Option<JsonObject>,
    preferences: Option<JsonObject>,
    tags: Option<Vec<String>>,
}

impl CustomerInput {
    fn entry(self) -> Value {
        let mut entry = Map::new();
        entry.insert("id".into(), Value::String(self.id));
        entry.extend(self.profile.map(|profile| ("profile".to_owned(), profile.into_value())));
        entry.extend(self.preferences.map(|preferences| ("preferences".to_owned(), preferences.into_value())));
        entry.extend(self.tags.map(|tags| ("tags".to_owned(), Value::from(tags))));
        Value::Object(entry)
    }
}

/// Customers to make or change.
#[derive(InputObject)]
pub struct UpsertCustomersInput {
    environment_id: EnvId,
    /// At most 1,000.
    customers: Vec<CustomerInput>,
}

/// What became of a batch of customers.
#[derive(SimpleObject)]
pub struct UpsertedCustomers {
    created: usize,
    updated: usize,
    errors: Vec<RefusedCustomer>,
}

/// An entry that was not taken.
#[derive(SimpleObject)]
pub struct RefusedCustomer {
    index: usize,
    pointer: Option<String>,
    title: String,
}

impl From<Outcome> for UpsertedCustomers {
    fn from(outcome: Outcome) -> UpsertedCustomers {
        let refused = outcome.errors.into_iter().map(|refused| RefusedCustomer {
            index: refused.index,
            pointer: refused.violation.pointer,
            title: refused.violation.detail,
        });
        UpsertedCustomers { created: outcome.created, updated: outcome.updated, errors: refused.collect() }
    }
}

/// The core fields of a test account beside its name.
#[derive(InputObject, Default)]
pub struct ProfileInput {
    external_id: MaybeUndefined<String>,
    email: MaybeUndefined<String>,
    phone: MaybeUndefined<String>,
    city: MaybeUndefined<String>,
    region: MaybeUndefined<String>,
    country: MaybeUndefined<String>,
    timezone: MaybeUndefined<TimeZone>,
}

impl ProfileInput {
    /// The fields that are named, null for those that are cleared.
    fn fields(self) -> Map<String, Value> {
        let timezone = self.timezone.map_value(|zone| zone.0);
        let values = [self.external_id, self.email, self.phone, self.city, self.region, self.country, timezone];
        let names = profile::CORE_FIELDS.into_iter().filter(|name| *name != "name");
        let given = names.zip(values).filter(|(_, value)| !value.is_undefined());
        given.map(|(name, value)| (name.to_owned(), value.take().map_or(Value::Null, Value::String))).collect()
    }
}

#[derive(InputObject)]
pub struct CreateTestAccountInput {
    environment_id: EnvId,
    /// Made up when absent.
    id: Option<String>,
    name: String,
    #[graphql(flatten)]
    profile: ProfileInput,
}

#[derive(InputObject)]
pub struct UpdateTestAccountInput {
    environment_id: EnvId,
    id: String,
    name: Option<String>,
    #[graphql(flatten)]
    profile: ProfileInput,
}

#[derive(SimpleObject)]
pub struct TestAccountPayload {
    test_account: CustomerNode,
}

#[derive(SimpleObject)]
pub struct DeletedTestAccount {
    id: ID,
}

#[derive(Default)]
pub struct CustomersQuery;

#[Object]
impl CustomersQuery {
    /// The customer whom the caller knows by this id.
    async fn customer(&self, ctx: &Context<'_>, environment_id: EnvId, id: String) -> Result<CustomerNode> {
        let access = context::viewer(ctx)?.access(environment_id)?;
        list::find(context::app(ctx)?, &access, &id).await.map(CustomerNode)
    }

    /// Customers, oldest first.
    #[expect(clippy::too_many_arguments, reason = "each is an argument of the field")]
    async fn customers(
        &self,
        ctx: &Context<'_>,
        environment_id: EnvId,
        #[graphql(desc = "A part of id, name, email, phone or external id.")] q: Option<String>,
        tag: Option<String>,
        user_type: Option<UserType>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<Connection<CustomerNode>> {
        let access = context::viewer(ctx)?.access(environment_id)?;
        let page = PageRequest::new(first, after.as_deref())?;
        let search = Search { text: q, tag, test: user_type.map(|kind| kind == UserType::Test) };
        let customers = list::list(context::app(ctx)?, &access, &search, page).await?;
        Ok(Connection::of(customers, |customer| customer.id, CustomerNode))
    }

    /// Customers who may receive test cards, oldest first.
    async fn test_accounts(
        &self,
        ctx: &Context<'_>,
        environment_id: EnvId,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<Connection<CustomerNode>> {
        let access = context::viewer(ctx)?.access(environment_id)?;
        let page = PageRequest::new(first, after.as_deref())?;
        let accounts = list::test_accounts(context::app(ctx)?, &access, page).await?;
        Ok(Connection::of(accounts, |customer| customer.id, CustomerNode))
    }
}

#[derive(Default)]
pub struct CustomersMutation;

#[Object]
impl CustomersMutation {
    /// Makes or changes customers. Entries with faults are reported and left out.
    async fn upsert_customers(&self, ctx: &Context<'_>, input: UpsertCustomersInput) -> Result<UpsertedCustomers> {
        let access = context::viewer(ctx)?.access(input.environment_id)?;
        let entries: Vec<Value> = input.customers.into_iter().map(CustomerInput::entry).collect();
        Ok(change::upsert(context::app(ctx)?, &access, &entries).await?.into())
    }

    /// Makes a customer who may receive test cards.
    async fn create_test_account(
        &self,
        ctx: &Context<'_>,
        input: CreateTestAccountInput,
    ) -> Result<TestAccountPayload> {
        let access = context::viewer(ctx)?.access(input.environment_id)?;
        let new = NewTestAccount { user_id: input.id, name: input.name, profile: input.profile.fields() };
        let customer = test_account::create(context::app(ctx)?, &access, new).await?;
        Ok(TestAccountPayload { test_account: CustomerNode(customer) })
    }

    /// Renames a test account or changes its profile.
    async fn update_test_account(
        &self,
        ctx: &Context<'_>,
        input: UpdateTestAccountInput,
    ) -> Result<TestAccountPayload> {
        let access = context::viewer(ctx)?.access(input.environment_id)?;
        let fields = input.profile.fields();
        let customer = test_account::update(context::app(ctx)?, &access, &input.id, input.name, fields).await?;
        Ok(TestAccountPayload { test_account: CustomerNode(customer) })
    }

    /// Deletes a test account with its cards.
    async fn delete_test_account(
        &self,
        ctx: &Context<'_>,
        environment_id: EnvId,
        id: String,
    ) -> Result<DeletedTestAccount> {
        let access = context::viewer(ctx)?.access(environment_id)?;
        erase::test_account(context::app(ctx)?, &access, &id).await?;
        Ok(DeletedTestAccount { id: ID(id) })
    }
}
