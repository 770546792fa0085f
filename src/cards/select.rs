//! Which cards a list or a bulk call means: the selectors of the Cards API (specification 6.4).

use crate::cards::lifecycle::Status;
use crate::error::{Code, Error, Result};
use crate::ids::{FlowId, Id, LifecycleId, RunId, TemplateId};

/// A list holds this many cards when no limit is given.
pub const LIST_DEFAULT: i64 = 100;
/// A bulk call acts on this many cards when no limit is given.
pub const BULK_DEFAULT: i64 = 500;
/// No call reads or changes more.
pub const MAXIMUM: i64 = 1_000;

/// The cards that fit everything that is given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selector {
    pub lifecycle: Option<LifecycleId>,
    pub template: Option<TemplateId>,
    pub run: Option<RunId>,
    pub flow: Option<FlowId>,
    pub invocation: Option<String>,
    pub user_id: Option<String>,
    pub statuses: Vec<Status>,
    pub is_test: Option<bool>,
    /// An id was given that cannot exist, so no card fits.
    pub nothing: bool,
}

impl Selector {
    /// Takes one selector by its wire name. An id of the wrong kind fits no card; a name that is no selector is
    /// left to the caller.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        match name {
            "lifecycleId" => self.lifecycle = self.id(name, self.lifecycle, value)?,
            "cardTemplateId" => self.template = self.id(name, self.template, value)?,
            "flowInstanceId" => self.run = self.id(name, self.run, value)?,
            "flowConfigId" => self.flow = self.id(name, self.flow, value)?,
            "flowInvocationId" => self.invocation = Some(once(name, self.invocation.as_deref(), value)?),
            "userId" => self.user_id = Some(once(name, self.user_id.as_deref(), value)?),
            "status" => self.statuses.push(value.parse()?),
            "isTest" => self.is_test = Some(flag(value)?),
            _ => {}
        }
        Ok(())
    }

    fn id<T: Id + PartialEq>(&mut self, name: &str, held: Option<T>, value: &str) -> Result<Option<T>> {
        match (T::parse(value), held) {
            (Ok(id), Some(held)) if id != held => Err(twice(name)),
            (Ok(id), _) => Ok(Some(id)),
            (Err(_), held) => {
                self.nothing = true;
                Ok(held)
            }
        }
    }

    /// Tells whether nothing at all was given, which would mean every card of the environment.
    pub fn unscoped(&self) -> bool {
        *self == Selector::default()
    }
}

/// What a bulk call may touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// A call without any selector is meant.
    pub all: bool,
    /// More than one card may match.
    pub multiple: bool,
    /// At most so many cards are changed.
    pub limit: i64,
}

impl Default for Reach {
    fn default() -> Reach {
        Reach { all: false, multiple: false, limit: BULK_DEFAULT }
    }
}

impl Reach {
    /// Refuses a call that selects nothing and does not say that it means everything.
    pub fn check(&self, selector: &Selector) -> Result<()> {
        if !(1..=MAXIMUM).contains(&self.limit) {
            return Err(Error::invalid("/limit", format!("limit must be between 1 and {MAXIMUM}")));
        }
        if selector.unscoped() && !self.all {
            return Err(Error::new(Code::UnscopedRequest, "give a selector, or all=1 to mean every open card"));
        }
        Ok(())
    }
}

/// Reads a switch of a query string.
pub fn flag(value: &str) -> Result<bool> {
    match value {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(Error::new(Code::ValidationFailed, "must be 1, 0, true or false")),
    }
}

fn once(name: &str, held: Option<&str>, value: &str) -> Result<String> {
    match held {
        Some(held) if held != value => Err(twice(name)),
        _ => Ok(value.to_owned()),
    }
}

fn twice(name: &str) -> Error {
    Error::new(Code::BadRequest, format!("{name} is given twice with different values"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Time;
    use crate::ids::Ids;

    fn select(pairs: &[(&str, &str)]) -> Result<Selector> {
        let mut selector = Selector::default();
        for (name, value) in pairs {
            selector.set(name, value)?;
        }
        Ok(selector)
    }

    #[test]
    fn selectors_are_read_by_name_and_status_repeats() {
        let flow: FlowId = Ids::seeded(1).make(Time::from_millisecond(0));
        let selector = select(&[
            ("flowConfigId", &flow.to_string()),
            ("userId", "user-1"),
            ("status", "active"),
            ("status", "snoozed"),
            ("isTest", "false"),
            ("colour", "red"),
        ])
        .unwrap();
        assert_eq!(selector.flow, Some(flow));
        assert_eq!(selector.statuses, [Status::Active, Status::Snoozed]);
        assert_eq!(selector.is_test, Some(false));
        assert!(!selector.unscoped() && !selector.nothing);
    }

    #[test]
    fn an_id_of_another_kind_fits_nothing_and_still_scopes() {
        let selector = select(&[("lifecycleId", "card_00000000000000000000000000")]).unwrap();
        assert!(selector.nothing);
        assert!(!selector.unscoped());
    }

    #[test]
    fn contradictions_and_unknown_words_are_refused() {
        assert_eq!(select(&[("userId", "a"), ("userId", "b")]).unwrap_err().code(), Code::BadRequest);
        assert_eq!(select(&[("status", "lost")]).unwrap_err().code(), Code::ValidationFailed);
        assert_eq!(select(&[("isTest", "maybe")]).unwrap_err().code(), Code::ValidationFailed);
    }

    #[test]
    fn a_bulk_call_needs_a_scope() {
        let reach = Reach::default();
        assert_eq!(reach.check(&Selector::default()).unwrap_err().code(), Code::UnscopedRequest);
        Reach { all: true, ..reach }.check(&Selector::default()).unwrap();
        reach.check(&select(&[("userId", "")]).unwrap()).unwrap();
        assert!(Reach { limit: 1_001, all: true, ..reach }.check(&Selector::default()).is_err());
    }
}
