//! A card as an app gets it: what was rendered and stored passes through as text.

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::pg::{Pg, PgValue};
use diesel::sql_types::Json;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::clock::Time;
use crate::db::StoredJson;
use crate::error::Result;
use crate::ids::{CardId, LifecycleId};

/// A card in a feed.
#[derive(Clone, Debug)]
pub struct Card {
    pub id: CardId,
    pub created: Time,
    pub lifecycle: LifecycleId,
    pub priority: i16,
    pub active_since: Time,
    pub updated: Time,
    pub expires: Option<Time>,
    pub is_test: bool,
    pub unseen: bool,
    pub top_card: StoredJson,
    pub subviews: StoredJson,
    pub actions: StoredJson,
    pub runtime_variables: StoredJson,
    /// The metadata of the start request, where the environment shows it to apps.
    pub payload: Option<StoredJson>,
}

/// The stored definition, cut into its parts without being read.
#[derive(Debug, Deserialize, FromSqlRow)]
#[serde(rename_all = "camelCase")]
pub(super) struct Definition {
    pub top_card: Box<RawValue>,
    #[serde(default)]
    pub subviews: Option<Box<RawValue>>,
    #[serde(default)]
    pub actions: Option<Box<RawValue>>,
}

impl FromSql<Json, Pg> for Definition {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Definition> {
        Ok(serde_json::from_slice(value.as_bytes())?)
    }
}

/// A part that the stored definition may lack.
pub(super) fn or_empty(part: Option<Box<RawValue>>, empty: &str) -> Result<StoredJson> {
    match part {
        Some(part) => Ok(StoredJson(part)),
        None => Ok(StoredJson(serde_json::from_str(empty)?)),
    }
}
