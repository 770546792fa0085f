//! A `jsonb` column as text, for JSON that only passes through.

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::pg::{Pg, PgValue};
use diesel::sql_types::Jsonb;
use serde_json::value::RawValue;

/// JSON as Postgres wrote it, checked but not read into a tree.
#[derive(Clone, Debug, FromSqlRow)]
pub struct StoredJson(pub Box<RawValue>);

impl FromSql<Jsonb, Pg> for StoredJson {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        // The binary form is a version byte, always 1, and the text.
        let text = value.as_bytes().strip_prefix(&[1]).ok_or("unknown version of jsonb")?;
        Ok(StoredJson(serde_json::from_slice(text)?))
    }
}
