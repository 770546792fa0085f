//! Setting up an empty instance, once, with a one-time token (§3.1).

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::audit::{self, Place};
use super::environment::{self, Environment};
use super::group::{self, Assignment};
use super::member::{self, Member, NewMember};
use super::organisation::Organisation;
use super::{Actor, RequestInfo, password, role, session};
use crate::app::App;
use crate::db::Tx;
use crate::db::schema::{instance_setup, organisations};
use crate::error::{Code, Error, Result, Violations};
use crate::ids::OrgId;
use crate::secret::{Secret, random_token, token_hash};
use crate::text;

/// What the first person says.
pub struct Beginning {
    pub setup_token: Secret,
    pub organisation_name: String,
    pub owner_name: String,
    pub owner_email: String,
    pub password: Secret,
}

/// What has come into being.
pub struct Begun {
    pub session_token: Secret,
    pub organisation: Organisation,
    pub environment: Environment,
    pub member: Member,
}

/// Makes the set-up token of an instance that is not set up: the configured one, else a new one, which only the
/// caller gets to see. `None` when the instance is set up.
pub async fn prepare(app: &App) -> Result<Option<Secret>> {
    use diesel::query_dsl::methods::FilterDsl;
    let token = app.config().setup_token.clone().unwrap_or_else(|| random_token(app.ids()));
    let written = diesel::insert_into(instance_setup::table)
        .values((instance_setup::only_one.eq(true), instance_setup::token_hash.eq(token_hash(token.expose()))))
        .on_conflict(instance_setup::only_one)
        .do_update()
        .set(instance_setup::token_hash.eq(token_hash(token.expose())))
        .filter(instance_setup::completed_at.is_null())
        .execute(&mut &*app.read().await?)
        .await?;
    Ok((written > 0).then_some(token))
}

/// Creates the organisation, its Sandbox, the default roles, the Owners and the first of them. Works once: the row
/// of the instance is claimed in the transaction that does the rest.
pub async fn set_up_instance(app: &App, info: &RequestInfo, beginning: Beginning) -> Result<Begun> {
    let email = session::normalised(&beginning.owner_email);
    let mut violations = Violations::new();
    violations.check(text::object_name(&beginning.organisation_name, "/organisationName"));
    violations.check(text::object_name(&beginning.owner_name, "/ownerName"));
    violations.check(session::check_email(&email).map_err(|error| error.at("/ownerEmail")));
    violations.check(password::check(beginning.password.expose()).map_err(|error| error.at("/password")));
    violations.finish()?;
    let password_hash = password::hash(beginning.password.expose(), app.ids().bytes()).await?;
    app.transact(async |tx| {
        claim_in(tx, &beginning.setup_token).await?;
        let organisation = organisation_in(tx, &beginning.organisation_name).await?;
        let sandbox = environment::Settings { name: Some("Sandbox".to_owned()), ..Default::default() };
        let environment = environment::create_in(tx, organisation.id, &sandbox).await?;
        let (first_name, last_name) = beginning.owner_name.split_once(' ').unwrap_or((&beginning.owner_name, ""));
        let new = NewMember { first_name, last_name, email: &email, password_hash: &password_hash };
        let member = member::insert_in(tx, organisation.id, new).await?;
        let [owner_role, ..] = role::insert_defaults_in(tx, organisation.id).await?;
        let owners = group::insert_in(tx, organisation.id, "Owners", "Those who may do everything").await?;
        let everywhere = [Assignment { role_id: owner_role, environment_ids: None }];
        group::assign_in(tx, organisation.id, owners.id, &everywhere).await?;
        member::join_in(tx, organisation.id, member.id, &[owners.id]).await?;
        let session_token = session::open_in(tx, member.id).await?;
        let place = Place { org: organisation.id, env: None, address: info.address };
        audit::append_in(tx, place, &Actor::Member(member.id), "instance.set-up", organisation.id, &[]).await?;
        Ok(Begun { session_token, organisation, environment, member })
    })
    .await
}

/// Uses the token up. Of several calls at once one gets the row, the others wait for it and find it taken.
async fn claim_in(tx: &mut Tx, token: &Secret) -> Result<()> {
    let claimed = diesel::update(instance_setup::table)
        .filter(instance_setup::completed_at.is_null())
        .filter(instance_setup::token_hash.eq(token_hash(token.expose())))
        .set(instance_setup::completed_at.eq(tx.now()))
        .execute(&mut tx.conn())
        .await?;
    if claimed == 1 {
        return Ok(());
    }
    let done = instance_setup::table
        .filter(instance_setup::completed_at.is_not_null())
        .count()
        .get_result::<i64>(&mut tx.conn())
        .await?;
    match done {
        0 => Err(Error::new(Code::Unauthenticated, "the set-up token is not valid").at("/setupToken")),
        _ => Err(Error::conflict("this instance is already set up")),
    }
}

async fn organisation_in(tx: &mut Tx, name: &str) -> Result<Organisation> {
    let organisation = diesel::insert_into(organisations::table)
        .values((
            organisations::id.eq(tx.id::<OrgId>()),
            organisations::name.eq(name),
            organisations::created_at.eq(tx.now()),
            organisations::updated_at.eq(tx.now()),
        ))
        .returning(Organisation::as_select())
        .get_result(&mut tx.conn())
        .await?;
    Ok(organisation)
}
