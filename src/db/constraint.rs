//! Constraint names become domain errors at the query that may break them.

use diesel::result::{DatabaseErrorKind, Error as DieselError};

use crate::error::{Error, Result};

pub trait OnConstraint<T>: Sized {
    /// Gives the error of `meaning` when the named constraint was violated; other errors stay what they are.
    fn on_constraint(self, name: &str, meaning: impl FnOnce() -> Error) -> Result<T>;
}

impl<T> OnConstraint<T> for Result<T, DieselError> {
    fn on_constraint(self, name: &str, meaning: impl FnOnce() -> Error) -> Result<T> {
        self.map_err(|error| match &error {
            DieselError::DatabaseError(
                DatabaseErrorKind::UniqueViolation
                | DatabaseErrorKind::ForeignKeyViolation
                | DatabaseErrorKind::CheckViolation,
                information,
            ) if information.constraint_name() == Some(name) => meaning(),
            _ => error.into(),
        })
    }
}
