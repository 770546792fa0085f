//! What leaves an environment with its events.

use async_graphql::{Context, InputObject, Object, SimpleObject};

use crate::access::export_settings::{self, Changes};
use crate::error::Result;
use crate::events::ExportSettings;
use crate::graphql::context::{app, viewer};
use crate::ids::EnvId;

#[derive(Default)]
pub struct ExportSettingsQuery;

#[derive(Default)]
pub struct ExportSettingsMutation;

/// What batched files, the real-time read and downloads include (specification 10.7).
#[derive(SimpleObject)]
pub struct AnalyticsExportSettings {
    /// Events of test cards and test runs.
    test_cards: bool,
    /// What the start request carried: `eventDetail`, `eventNotificationDetail`, `payloadMetadata`.
    request_payload: bool,
    /// What customers answered: `properties.values`.
    card_response_data: bool,
}

impl From<ExportSettings> for AnalyticsExportSettings {
    fn from(settings: ExportSettings) -> AnalyticsExportSettings {
        AnalyticsExportSettings {
            test_cards: settings.test_cards,
            request_payload: settings.request_payload,
            card_response_data: settings.card_response,
        }
    }
}

/// Absent fields stay.
#[derive(InputObject)]
pub struct UpdateAnalyticsExportSettingsInput {
    environment_id: EnvId,
    test_cards: Option<bool>,
    request_payload: Option<bool>,
    card_response_data: Option<bool>,
}

#[derive(SimpleObject)]
pub struct UpdateAnalyticsExportSettingsPayload {
    settings: AnalyticsExportSettings,
}

#[Object]
impl ExportSettingsQuery {
    async fn analytics_export_settings(
        &self,
        ctx: &Context<'_>,
        environment_id: EnvId,
    ) -> Result<AnalyticsExportSettings> {
        let access = viewer(ctx)?.access(environment_id)?;
        export_settings::read(app(ctx)?, &access).await.map(Into::into)
    }
}

#[Object]
impl ExportSettingsMutation {
    /// Counts for what is read and written from now on; files that exist stay as they are.
    async fn update_analytics_export_settings(
        &self,
        ctx: &Context<'_>,
        input: UpdateAnalyticsExportSettingsInput,
    ) -> Result<UpdateAnalyticsExportSettingsPayload> {
        let access = viewer(ctx)?.access(input.environment_id)?;
        let changes = Changes {
            test_cards: input.test_cards,
            request_payload: input.request_payload,
            card_response: input.card_response_data,
        };
        let settings = export_settings::update(app(ctx)?, &access, changes).await?.into();
        Ok(UpdateAnalyticsExportSettingsPayload { settings })
    }
}
