//! Pages of lists that are ordered by id: every list of the product is read through one.

use crate::error::{Error, Result};
use crate::ids::Id;

/// The most rows one page of GraphQL holds.
pub const MAXIMUM: i64 = 200;
/// The rows of a page for which no size was asked.
pub const DEFAULT: i64 = 50;

/// Which page: how many rows, and after which one.
#[derive(Clone, Copy, Debug)]
pub struct PageRequest<T> {
    pub first: i64,
    pub after: Option<T>,
}

impl<T: Id> PageRequest<T> {
    /// Checks `first` against the limits and reads the cursor, which is the id of the last row seen.
    pub fn new(first: Option<i32>, after: Option<&str>) -> Result<PageRequest<T>> {
        let first = first.map_or(DEFAULT, i64::from);
        if !(1..=MAXIMUM).contains(&first) {
            return Err(Error::invalid("/first", format!("first must be between 1 and {MAXIMUM}")));
        }
        let after = match after {
            Some(cursor) => {
                Some(T::parse(cursor).map_err(|_| Error::invalid("/after", "is not a cursor of this list"))?)
            }
            None => None,
        };
        Ok(PageRequest { first, after })
    }

    /// How many rows to load: one more than asked for tells whether there is a next page.
    pub fn limit(&self) -> i64 {
        self.first + 1
    }

    /// The rows loaded with [`PageRequest::limit`], as a page.
    pub fn page<R>(&self, mut rows: Vec<R>) -> Page<R> {
        let size = usize::try_from(self.first).unwrap_or(usize::MAX);
        let more = rows.len() > size;
        rows.truncate(size);
        Page { rows, more }
    }
}

/// Some rows of a list, and whether there are more.
#[derive(Debug)]
pub struct Page<R> {
    pub rows: Vec<R>,
    pub more: bool,
}
