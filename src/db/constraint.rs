//! Constraint names become domain errors at the query that may break them.

use diesel::result::{DatabaseErrorKind, Error as DieselError};

use crate::error::{Error, Result};

pub trait OnConstraint<T>: Sized {
    /// Gives the error of `meaning` when the named constraint was violated; other errors stay what they are.
    fn on_constraint(self, name: &str, meaning: impl FnOnce() -> Error) -> Result<T>;
}

impl<T> OnConstraint<T> for Result<T, DieselError> {
    fn on_constraint(self, name: &str, meaning: impl FnOnce() -> Error) -> Result<T> {
        self.map_err(|error| if violated(&error) == Some(name) { meaning() } else { error.into() })
    }
}

/// The name of the constraint that a statement violated, for statements that may violate several.
pub fn violated(error: &DieselError) -> Option<&str> {
    match error {
        DieselError::DatabaseError(
            DatabaseErrorKind::UniqueViolation
            | DatabaseErrorKind::ForeignKeyViolation
            | DatabaseErrorKind::CheckViolation,
            information,
        ) => information.constraint_name(),
        _ => None,
    }
}
