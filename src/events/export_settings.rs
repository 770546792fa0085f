//! What leaves an environment with its events: batched files, the real-time read and downloads obey (§10.7).

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::trim::Omit;
use crate::db::schema::environments;
use crate::error::Result;
use crate::ids::EnvId;

/// All are on in a new environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = environments)]
pub struct ExportSettings {
    /// Events of tests are included.
    #[diesel(column_name = export_test_cards)]
    pub test_cards: bool,
    /// `eventDetail`, `eventNotificationDetail` and `payloadMetadata` are included.
    #[diesel(column_name = export_request_payload)]
    pub request_payload: bool,
    /// `properties.values` is included.
    #[diesel(column_name = export_card_response)]
    pub card_response: bool,
}

impl ExportSettings {
    pub(crate) async fn find(conn: &AsyncPgConnection, env: EnvId) -> Result<ExportSettings> {
        let row = environments::table.find(env).select(ExportSettings::as_select());
        Ok(row.first(&mut &*conn).await?)
    }

    /// What is left out of an exported envelope.
    pub fn omit(self) -> Omit {
        Omit { request_payload: !self.request_payload, card_response: !self.card_response }
    }
}
