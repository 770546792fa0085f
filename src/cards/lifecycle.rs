//! The states of a card and the changes between them (specification 6.1).

use std::fmt;
use std::str::FromStr;

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types::Text;

use crate::error::{Code, Error, Result};

/// Where a card is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = Text)]
pub enum Status {
    Embargoed,
    Active,
    Snoozed,
    Completed,
    Dismissed,
    Cancelled,
    Expired,
}

impl Status {
    pub const ALL: [Status; 7] = [
        Status::Embargoed,
        Status::Active,
        Status::Snoozed,
        Status::Completed,
        Status::Dismissed,
        Status::Cancelled,
        Status::Expired,
    ];
    /// The states that a card can still leave.
    pub const OPEN: [Status; 3] = [Status::Embargoed, Status::Active, Status::Snoozed];

    /// The word that stands on the wire and in the database.
    pub fn word(self) -> &'static str {
        match self {
            Status::Embargoed => "embargoed",
            Status::Active => "active",
            Status::Snoozed => "snoozed",
            Status::Completed => "completed",
            Status::Dismissed => "dismissed",
            Status::Cancelled => "cancelled",
            Status::Expired => "expired",
        }
    }

    pub fn open(self) -> bool {
        Status::OPEN.contains(&self)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Status {
    type Err = Error;

    fn from_str(word: &str) -> Result<Status> {
        Status::ALL
            .into_iter()
            .find(|status| status.word() == word)
            .ok_or_else(|| Error::new(Code::ValidationFailed, "is not a status of a card"))
    }
}

impl ToSql<Text, Pg> for Status {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        <str as ToSql<Text, Pg>>::to_sql(self.word(), out)
    }
}

impl FromSql<Text, Pg> for Status {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        let word = <String as FromSql<Text, Pg>>::from_sql(value)?;
        Ok(word.parse()?)
    }
}
