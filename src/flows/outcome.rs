//! What became of a start request: per entry, how many customers, and why some were refused.

use crate::error::{Error, Violation};
use crate::ids::BatchId;

/// The most errors that are told for one entry whose customers all fail alike.
const TOLD: usize = 100;

/// The answer to a start request.
#[derive(Debug)]
pub struct Started {
    pub batch: BatchId,
    pub entries: Vec<EntryOutcome>,
}

/// The answer to one entry.
#[derive(Debug)]
pub struct EntryOutcome {
    pub invocation: String,
    /// Customers for whom a run began.
    pub accepted: usize,
    /// Customers for whom this invocation has started a run before.
    pub duplicate: usize,
    /// Customers who may not get tests.
    pub ignored: usize,
    pub rejected: usize,
    pub errors: Vec<EntryError>,
}

/// One reason for a refusal.
#[derive(Clone, Debug)]
pub struct EntryError {
    pub violation: Violation,
    pub user_id: Option<String>,
}

/// The word for an entry as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryStatus {
    /// A run began for at least one customer.
    Accepted,
    Duplicate,
    Ignored,
    Rejected,
}

impl EntryStatus {
    pub fn word(self) -> &'static str {
        match self {
            EntryStatus::Accepted => "accepted",
            EntryStatus::Duplicate => "duplicate",
            EntryStatus::Ignored => "ignored",
            EntryStatus::Rejected => "rejected",
        }
    }
}

impl EntryOutcome {
    pub(super) fn new(invocation: String) -> EntryOutcome {
        EntryOutcome { invocation, accepted: 0, duplicate: 0, ignored: 0, rejected: 0, errors: Vec::new() }
    }

    /// The first that holds of: accepted, duplicate, ignored. So a repeated request is a duplicate even where it
    /// would be refused today.
    pub fn status(&self) -> EntryStatus {
        if self.accepted > 0 {
            EntryStatus::Accepted
        } else if self.duplicate > 0 {
            EntryStatus::Duplicate
        } else if self.ignored > 0 {
            EntryStatus::Ignored
        } else {
            EntryStatus::Rejected
        }
    }

    /// Counts a refused customer and says why.
    pub(super) fn reject(&mut self, user_id: &str, error: &Error) {
        self.rejected += 1;
        let room = TOLD.saturating_sub(self.errors.len());
        let told = error.violations().iter().take(room);
        self.errors.extend(
            told.map(|violation| EntryError { violation: violation.clone(), user_id: Some(user_id.to_owned()) }),
        );
    }

    /// Says what is wrong with the entry itself.
    pub(super) fn refuse(&mut self, error: Error) {
        let errors = error.into_violations().into_iter();
        self.errors.extend(errors.map(|violation| EntryError { violation, user_id: None }));
    }
}

impl Started {
    /// The reasons, when nothing at all could be done with the request.
    pub fn refusal(&self) -> Option<Vec<EntryError>> {
        let all = self.entries.iter().all(|entry| entry.status() == EntryStatus::Rejected);
        all.then(|| self.entries.iter().flat_map(|entry| entry.errors.clone()).collect())
    }

    /// The same as an error, for callers that have no place for user ids beside one.
    pub fn or_refusal(self) -> crate::error::Result<Started> {
        match self.refusal() {
            Some(errors) if !errors.is_empty() => {
                Err(Error::from_violations(errors.into_iter().map(|error| error.violation).collect()))
            }
            _ => Ok(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(accepted: usize, duplicate: usize, ignored: usize, rejected: usize) -> EntryOutcome {
        EntryOutcome { accepted, duplicate, ignored, rejected, ..EntryOutcome::new("x".to_owned()) }
    }

    #[test]
    fn one_word_for_mixed_fates() {
        for (entry, status) in [
            (outcome(1, 5, 5, 5), EntryStatus::Accepted),
            (outcome(0, 1, 1, 1), EntryStatus::Duplicate),
            (outcome(0, 0, 1, 1), EntryStatus::Ignored),
            (outcome(0, 0, 0, 1), EntryStatus::Rejected),
            (outcome(0, 0, 0, 0), EntryStatus::Rejected),
        ] {
            assert_eq!(entry.status(), status, "{entry:?}");
        }
    }

    #[test]
    fn a_refused_crowd_is_counted_but_not_listed_in_full() {
        let mut entry = outcome(0, 0, 0, 0);
        for n in 0..1_000 {
            entry.reject(&n.to_string(), &Error::invalid("/flows/0", "no"));
        }
        assert_eq!((entry.rejected, entry.errors.len()), (1_000, TOLD));
    }
}
