//! The organisation: its settings, and the rule that it is never without an owner (§3.1, §3.3).

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Integer, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;

use super::{Access, Level, Resource, Viewer, audit};
use crate::app::App;
use crate::clock::Time;
use crate::db::Tx;
use crate::db::schema::{group_members, group_roles, organisations, roles};
use crate::error::{Error, Result};
use crate::events::retention::DEFAULT_DAYS;
use crate::ids::OrgId;
use crate::text;

/// The longest retention, in days.
const MOST_DAYS: i32 = 3_650;

#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = organisations)]
pub struct Organisation {
    pub id: OrgId,
    pub name: String,
    pub inactivity_minutes: i32,
    /// How long things are kept, by what they are.
    pub retention_days: Value,
    pub created_at: Time,
    pub updated_at: Time,
    pub revision: i32,
}

impl Organisation {
    /// How many days analytics events are kept.
    pub fn event_retention_days(&self) -> i32 {
        let days = self.retention_days.get("events").and_then(Value::as_i64);
        days.and_then(|days| i32::try_from(days).ok()).unwrap_or(DEFAULT_DAYS)
    }
}

/// New settings; what is absent stays.
#[derive(Clone, Debug, Default, AsChangeset)]
#[diesel(table_name = organisations)]
pub struct Settings {
    pub name: Option<String>,
    pub inactivity_minutes: Option<i32>,
    #[diesel(skip_update)]
    pub event_retention_days: Option<i32>,
}

/// The organisation of the viewer.
pub async fn find(app: &App, viewer: &Viewer) -> Result<Organisation> {
    viewer.organisation().require(Resource::Organisation, Level::View)?;
    load(&*app.read().await?, viewer.org).await
}

async fn load(conn: &AsyncPgConnection, org: OrgId) -> Result<Organisation> {
    Ok(organisations::table.find(org).select(Organisation::as_select()).first(&mut &*conn).await?)
}

pub async fn update(app: &App, access: &Access, settings: Settings, expected: Option<i32>) -> Result<Organisation> {
    access.require(Resource::Organisation, Level::Edit)?;
    if let Some(name) = &settings.name {
        text::object_name(name, "/name")?;
    }
    if settings.inactivity_minutes.is_some_and(|minutes| !(1..=1440).contains(&minutes)) {
        return Err(Error::invalid("/inactivityMinutes", "must be between 1 and 1440"));
    }
    if settings.event_retention_days.is_some_and(|days| !(1..=MOST_DAYS).contains(&days)) {
        return Err(Error::invalid("/eventRetentionDays", format!("must be between 1 and {MOST_DAYS}")));
    }
    app.transact(async |tx| {
        if let Some(days) = settings.event_retention_days {
            let keep = sql_query(
                "UPDATE organisations SET retention_days = jsonb_set(retention_days, '{events}', to_jsonb($2)) WHERE id = $1",
            );
            keep.bind::<SqlUuid, _>(access.org()).bind::<Integer, _>(days).execute(&mut tx.conn()).await?;
        }
        let changed: Organisation = diesel::update(organisations::table.find(access.org()))
            .set((
                &settings,
                organisations::updated_at.eq(tx.now()),
                organisations::revision.eq(organisations::revision + 1),
            ))
            .returning(Organisation::as_select())
            .get_result(&mut tx.conn())
            .await?;
        super::expect_revision(changed.revision - 1, expected)?;
        let fields = [
            settings.name.as_ref().map(|_| "name"),
            settings.inactivity_minutes.map(|_| "inactivityMinutes"),
            settings.event_retention_days.map(|_| "eventRetentionDays"),
        ];
        let fields: Vec<&str> = fields.into_iter().flatten().collect();
        audit::record_in(tx, access, "organisation.update", access.org(), &fields).await?;
        Ok(changed)
    })
    .await
}

/// Makes changes of who may do what wait for one another, so that two of them cannot each remove the other's owner.
pub(super) async fn lock_in(tx: &mut Tx, org: OrgId) -> Result<()> {
    let _: OrgId =
        organisations::table.find(org).select(organisations::id).for_no_key_update().first(&mut tx.conn()).await?;
    Ok(())
}

/// Refuses a state in which no member has Owner in all environments. Call it after the change, under the lock.
pub(super) async fn keep_an_owner_in(tx: &mut Tx, org: OrgId) -> Result<()> {
    let owners: i64 = group_members::table
        .inner_join(
            group_roles::table.on(group_roles::organisation_id
                .eq(group_members::organisation_id)
                .and(group_roles::group_id.eq(group_members::group_id))),
        )
        .inner_join(
            roles::table
                .on(roles::organisation_id.eq(group_roles::organisation_id).and(roles::id.eq(group_roles::role_id))),
        )
        .filter(group_members::organisation_id.eq(org))
        .filter(group_roles::environment_ids.is_null())
        .filter(roles::built_in.eq("owner"))
        .count()
        .get_result(&mut tx.conn())
        .await?;
    if owners == 0 {
        return Err(Error::conflict("an organisation keeps at least one member with Owner in all environments"));
    }
    Ok(())
}
