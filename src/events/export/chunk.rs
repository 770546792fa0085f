//! Pieces of files in the database: written under the fence of a claim, read one at a time.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Binary, Integer, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::Format;
use crate::clock::Time;
use crate::db::Prepared;
use crate::error::{Error, Result};
use crate::ids::EnvId;

/// The bytes of one piece; the last one of a file may have less.
pub(super) const BYTES: usize = 1 << 19;

/// The files that somebody writes, or has written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub env: EnvId,
    pub hour: Time,
    pub claim: Uuid,
}

/// Adds a piece and extends the claim until then. A conflict when the claim was lost.
pub(super) async fn write(
    conn: &AsyncPgConnection,
    place: Place,
    (format, number): (Format, i32),
    bytes: &[u8],
    until: Time,
) -> Result<()> {
    let query = sql_query(
        "WITH held AS (
             UPDATE exports SET due_at = $7 WHERE environment_id = $1 AND hour = $2 AND claim = $3 AND status = 'waiting'
             RETURNING environment_id
         )
         INSERT INTO export_chunks (environment_id, hour, claim, format, number, bytes)
         SELECT environment_id, $2, $3, $4, $5, $6 FROM held",
    )
    .bind::<SqlUuid, _>(place.env)
    .bind::<Timestamptz, _>(place.hour)
    .bind::<SqlUuid, _>(place.claim)
    .bind::<Text, _>(format.word())
    .bind::<Integer, _>(number)
    .bind::<Binary, _>(bytes)
    .bind::<Timestamptz, _>(until);
    match Prepared(query).execute(&mut &*conn).await? {
        1 => Ok(()),
        _ => Err(Error::conflict("the files of an hour were taken over")),
    }
}

#[derive(QueryableByName)]
struct Piece {
    #[diesel(sql_type = Binary)]
    bytes: Vec<u8>,
}

/// One piece; `None` behind the last.
pub(super) async fn read(
    conn: &AsyncPgConnection,
    place: Place,
    format: Format,
    number: i32,
) -> Result<Option<Vec<u8>>> {
    let query = sql_query(
        "SELECT bytes FROM export_chunks
         WHERE environment_id = $1 AND hour = $2 AND claim = $3 AND format = $4 AND number = $5",
    )
    .bind::<SqlUuid, _>(place.env)
    .bind::<Timestamptz, _>(place.hour)
    .bind::<SqlUuid, _>(place.claim)
    .bind::<Text, _>(format.word())
    .bind::<Integer, _>(number);
    let piece: Option<Piece> = Prepared(query).get_result(&mut &*conn).await.optional()?;
    Ok(piece.map(|piece| piece.bytes))
}
