//! The audit log: who changed what, when, and from where (§3.8). Never values, never secrets.

use std::fmt::Display;
use std::net::IpAddr;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{Access, Actor, Level, Resource, Viewer};
use crate::app::App;
use crate::clock::Time;
use crate::db::Tx;
use crate::db::page::{Page, PageRequest};
use crate::db::schema::audit_entries;
use crate::error::Result;
use crate::ids::{self, AuditId, EnvId, OrgId};

/// One line of the log.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = audit_entries)]
pub struct Entry {
    pub organisation_id: OrgId,
    pub id: AuditId,
    pub environment_id: Option<EnvId>,
    pub at: Time,
    /// The id of the member or credential, or `system:` and the part of the server.
    pub actor: String,
    pub action: String,
    pub object_type: String,
    pub object_id: String,
    pub fields: Vec<String>,
    pub address: Option<String>,
}

/// Writes down a change by whoever has `access`. `fields` are the names of what changed.
pub(crate) async fn record_in(
    tx: &mut Tx,
    access: &Access,
    action: &str,
    object: impl Display,
    fields: &[&str],
) -> Result<()> {
    let place = Place { org: access.org(), env: access.environment(), address: access.info().address };
    append_in(tx, place, access.actor(), action, object, fields).await
}

/// Where something happened.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub org: OrgId,
    pub env: Option<EnvId>,
    pub address: Option<IpAddr>,
}

/// Writes down what somebody did who has no [`Access`] yet, such as a sign-in.
pub(super) async fn append_in(
    tx: &mut Tx,
    place: Place,
    actor: &Actor,
    action: &str,
    object: impl Display,
    fields: &[&str],
) -> Result<()> {
    let object_id = object.to_string();
    let entry = Entry {
        organisation_id: place.org,
        id: tx.id(),
        environment_id: place.env,
        at: tx.now(),
        actor: match actor {
            Actor::Member(member) => member.to_string(),
            Actor::Credential(credential) => credential.to_string(),
            Actor::System(part) => format!("system:{part}"),
        },
        action: action.to_owned(),
        // Customers are addressed by the caller's own ids; everything else carries its kind in the prefix.
        object_type: ids::noun(&object_id).unwrap_or("customer").to_owned(),
        object_id,
        fields: fields.iter().map(|field| (*field).to_owned()).collect(),
        address: place.address.map(|address| address.to_string()),
    };
    diesel::insert_into(audit_entries::table).values(entry).execute(&mut tx.conn()).await?;
    Ok(())
}

/// Which entries to show; what is absent does not narrow.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub environment: Option<EnvId>,
    pub actor: Option<String>,
    pub action: Option<String>,
    pub object_id: Option<String>,
    pub from: Option<Time>,
    pub to: Option<Time>,
}

/// Lists entries of the organisation, newest first.
pub async fn list(app: &App, viewer: &Viewer, filter: Filter, page: PageRequest<AuditId>) -> Result<Page<Entry>> {
    viewer.organisation().require(Resource::AuditLog, Level::View)?;
    let mut query = audit_entries::table
        .filter(audit_entries::organisation_id.eq(viewer.org))
        .order(audit_entries::id.desc())
        .limit(page.limit())
        .select(Entry::as_select())
        .into_boxed();
    if let Some(after) = page.after {
        query = query.filter(audit_entries::id.lt(after));
    }
    if let Some(env) = filter.environment {
        query = query.filter(audit_entries::environment_id.eq(env));
    }
    if let Some(actor) = filter.actor {
        query = query.filter(audit_entries::actor.eq(actor));
    }
    if let Some(action) = filter.action {
        query = query.filter(audit_entries::action.eq(action));
    }
    if let Some(object) = filter.object_id {
        query = query.filter(audit_entries::object_id.eq(object));
    }
    if let Some(from) = filter.from {
        query = query.filter(audit_entries::at.ge(from));
    }
    if let Some(to) = filter.to {
        query = query.filter(audit_entries::at.lt(to));
    }
    let rows = query.load(&mut &*app.read().await?).await?;
    Ok(page.page(rows))
}
