//! The words of a task: what it does, and how far it is.

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types::Text;

/// What a task does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, AsExpression, FromSqlRow)]
#[diesel(sql_type = Text)]
pub enum TaskKind {
    /// Starts the rows of a file.
    Csv,
    /// Starts the customers of a list.
    Manual,
    /// Moves runs to a version that was published.
    Move,
    /// Cancels the runs of earlier versions.
    Cancel,
}

impl TaskKind {
    const ALL: [TaskKind; 4] = [TaskKind::Csv, TaskKind::Manual, TaskKind::Move, TaskKind::Cancel];

    pub fn word(self) -> &'static str {
        match self {
            TaskKind::Csv => "csv",
            TaskKind::Manual => "manual",
            TaskKind::Move => "move",
            TaskKind::Cancel => "cancel",
        }
    }
}

/// How far a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, AsExpression, FromSqlRow)]
#[diesel(sql_type = Text)]
pub enum TaskStatus {
    /// The rows are being received; nothing starts before all are there.
    Receiving,
    Pending,
    Processing,
    Complete,
    Failed,
}

impl TaskStatus {
    const ALL: [TaskStatus; 5] =
        [TaskStatus::Receiving, TaskStatus::Pending, TaskStatus::Processing, TaskStatus::Complete, TaskStatus::Failed];

    pub fn word(self) -> &'static str {
        match self {
            TaskStatus::Receiving => "receiving",
            TaskStatus::Pending => "pending",
            TaskStatus::Processing => "processing",
            TaskStatus::Complete => "complete",
            TaskStatus::Failed => "failed",
        }
    }

    /// Tells whether nothing will change any more.
    pub fn over(self) -> bool {
        matches!(self, TaskStatus::Complete | TaskStatus::Failed)
    }
}

impl ToSql<Text, Pg> for TaskKind {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        <str as ToSql<Text, Pg>>::to_sql(self.word(), out)
    }
}

impl FromSql<Text, Pg> for TaskKind {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        let word = <String as FromSql<Text, Pg>>::from_sql(value)?;
        TaskKind::ALL.into_iter().find(|kind| kind.word() == word).ok_or_else(|| "not a kind of task".into())
    }
}

impl ToSql<Text, Pg> for TaskStatus {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        <str as ToSql<Text, Pg>>::to_sql(self.word(), out)
    }
}

impl FromSql<Text, Pg> for TaskStatus {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        let word = <String as FromSql<Text, Pg>>::from_sql(value)?;
        TaskStatus::ALL.into_iter().find(|status| status.word() == word).ok_or_else(|| "not a status of a task".into())
    }
}
