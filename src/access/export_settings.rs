//! Who may say what leaves an environment with its events (§10.7).

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{Access, Level, Resource, audit};
use crate::app::App;
use crate::db::schema::environments;
use crate::error::{Error, Result};
use crate::events::ExportSettings;

/// New settings; what is absent stays.
#[derive(Clone, Copy, Debug, Default, AsChangeset)]
#[diesel(table_name = environments)]
pub struct Changes {
    #[diesel(column_name = export_test_cards)]
    pub test_cards: Option<bool>,
    #[diesel(column_name = export_request_payload)]
    pub request_payload: Option<bool>,
    #[diesel(column_name = export_card_response)]
    pub card_response: Option<bool>,
}

pub async fn read(app: &App, access: &Access) -> Result<ExportSettings> {
    access.require(Resource::AnalyticsExportSettings, Level::View)?;
    ExportSettings::find(&*app.read().await?, access.env()).await
}

/// Changes the settings. Files that are written already stay as they are.
pub async fn update(app: &App, access: &Access, changes: Changes) -> Result<ExportSettings> {
    access.require(Resource::AnalyticsExportSettings, Level::Edit)?;
    let fields = [
        changes.test_cards.map(|_| "testCards"),
        changes.request_payload.map(|_| "requestPayload"),
        changes.card_response.map(|_| "cardResponseData"),
    ];
    let fields: Vec<&str> = fields.into_iter().flatten().collect();
    if fields.is_empty() {
        return ExportSettings::find(&*app.read().await?, access.env()).await;
    }
    app.transact(async |tx| {
        let changed: Option<ExportSettings> = diesel::update(environments::table.find(access.env()))
            .filter(environments::archived_at.is_null())
            .set((
                changes,
                environments::updated_at.eq(tx.now()),
                environments::revision.eq(environments::revision + 1),
            ))
            .returning(ExportSettings::as_select())
            .get_result(&mut tx.conn())
            .await
            .optional()?;
        let changed = changed.ok_or_else(|| Error::not_found("environment"))?;
        audit::record_in(tx, access, "analytics-export-settings.update", access.env(), &fields).await?;
        Ok(changed)
    })
    .await
}
