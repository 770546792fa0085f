//! A `json` column as text, for JSON that only passes through.

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::pg::{Pg, PgValue};
use diesel::sql_types::Json;
use serde_json::value::RawValue;

/// JSON as it was written, checked but not read into a tree.
#[derive(Clone, Debug, FromSqlRow)]
pub struct StoredJson(pub Box<RawValue>);

impl FromSql<Json, Pg> for StoredJson {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        Ok(StoredJson(serde_json::from_slice(value.as_bytes())?))
    }
}
