//! Reading customers: one, or pages of those who fit a search.

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Bool;
use diesel_async::RunQueryDsl;

use super::profile::{self, Customer, TEST};
use crate::access::{Access, Level, Resource};
use crate::app::App;
use crate::db::page::{Page, PageRequest};
use crate::db::schema::customers;
use crate::error::{Error, Result};
use crate::ids::CustomerId;

/// Which customers; what is absent does not narrow.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// A part of id, name, email, phone or external id, whatever the case.
    pub text: Option<String>,
    pub tag: Option<String>,
    pub test: Option<bool>,
}

/// The customer whom the caller knows by this id.
pub async fn find(app: &App, access: &Access, user_id: &str) -> Result<Customer> {
    access.require(Resource::Customer, Level::View)?;
    let conn = app.read().await?;
    profile::find_by_user_id(&conn, access.env(), user_id).await?.ok_or_else(|| Error::not_found("customer"))
}

/// A page of customers, oldest first.
pub async fn list(
    app: &App,
    access: &Access,
    search: &Search,
    page: PageRequest<CustomerId>,
) -> Result<Page<Customer>> {
    access.require(Resource::Customer, Level::View)?;
    load(app, access, search, page).await
}

/// A page of test accounts, oldest first.
pub async fn test_accounts(app: &App, access: &Access, page: PageRequest<CustomerId>) -> Result<Page<Customer>> {
    access.require(Resource::TestAccount, Level::View)?;
    load(app, access, &Search { test: Some(true), ..Search::default() }, page).await
}

async fn load(app: &App, access: &Access, search: &Search, page: PageRequest<CustomerId>) -> Result<Page<Customer>> {
    let mut query = customers::table
        .filter(customers::environment_id.eq(access.env()))
        .order(customers::id)
        .limit(page.limit())
        .select(Customer::as_select())
        .into_boxed();
    if let Some(after) = page.after {
        query = query.filter(customers::id.gt(after));
    }
    if let Some(tag) = &search.tag {
        // The index has those only who have a tag at all.
        query = query.filter(customers::tags.contains(vec![tag]).and(sql::<Bool>("tags <> '{}'")));
    }
    match search.test {
        Some(true) => query = query.filter(customers::user_type.eq(TEST)),
        Some(false) => query = query.filter(customers::user_type.ne(TEST)),
        None => {}
    }
    if let Some(text) = &search.text {
        let pattern = containing(text);
        query = query.filter(
            customers::user_id
                .nullable()
                .ilike(pattern.clone())
                .or(customers::name.ilike(pattern.clone()))
                .or(customers::email.ilike(pattern.clone()))
                .or(customers::phone.ilike(pattern.clone()))
                .or(customers::external_id.ilike(pattern)),
        );
    }
    let conn = app.read().await?;
    Ok(page.page(query.load(&mut &*conn).await?))
}

/// A LIKE pattern for text that contains `text`, whatever signs are in it.
fn containing(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    format!("%{escaped}%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_like_are_only_signs() {
        assert_eq!(containing("50%_a\\b"), "%50\\%\\_a\\\\b%");
    }
}
