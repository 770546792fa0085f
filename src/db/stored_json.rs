//! A `jsonb` column as text, for JSON that only passes through.

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::pg::{Pg, PgValue};
use diesel::sql_types::Jsonb;
use serde_json::value::RawValue;

/// JSON as Postgres wrote it, checked but not read into a tree.
#[derive(Clone, Debug, FromSqlRow)]
pub struct StoredJson(pub Box<RawValue>);

impl StoredJson {
    /// The text of a `jsonb` value.
    fn text<'a>(value: &'a PgValue<'_>) -> deserialize::Result<&'a [u8]> {
        // The binary form is a version byte, always 1, and the text.
        Ok(value.as_bytes().strip_prefix(&[1]).ok_or("unknown version of jsonb")?)
    }
}

impl FromSql<Jsonb, Pg> for StoredJson {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        Ok(StoredJson(serde_json::from_slice(StoredJson::text(&value)?)?))
    }
}
