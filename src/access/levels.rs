//! Levels as rows and inputs write them: an object from resource to level.

use serde_json::{Map, Value};

use super::{Grants, Level, Resource};
use crate::error::{Error, Result, Violations};
use crate::text;

impl Grants {
    /// Reads stored levels. Resources of another version of the server are passed over.
    pub(super) fn from_row(levels: &Value) -> Grants {
        let mut grants = Grants::new();
        for (resource, level) in levels.as_object().into_iter().flatten() {
            if let (Some(resource), Some(level)) = (Resource::parse(resource), level.as_str().and_then(Level::parse)) {
                grants.give(resource, level);
            }
        }
        grants
    }

    pub(super) fn to_row(&self) -> Value {
        let levels: Map<String, Value> =
            self.iter().map(|(resource, level)| (resource.word().to_owned(), level.word().into())).collect();
        Value::Object(levels)
    }

    /// Makes grants from the words of a caller. Pointers name the resource at fault.
    pub fn from_words<'a>(levels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Grants> {
        let mut grants = Grants::new();
        let mut violations = Violations::new();
        for (resource, level) in levels {
            let pointer = format!("/{}", text::pointer_token(resource));
            match (Resource::parse(resource), Level::parse(level)) {
                (None, _) => violations.add(pointer, "is not a resource"),
                (_, None) => violations.add(pointer, "is not a level: view, edit or admin"),
                (Some(resource), Some(level)) if level > resource.highest() => {
                    let highest = resource.highest().word();
                    violations.add(pointer, format!("{} has no level above {highest}", resource.word()));
                }
                (Some(resource), Some(level)) => grants.give(resource, level),
            }
        }
        violations.finish()?;
        Ok(grants)
    }

    /// What is left when only single environments are concerned.
    pub(super) fn in_environment(&self) -> Grants {
        let mut grants = Grants::new();
        for (resource, level) in self.iter().filter(|(resource, _)| !resource.concerns_organisation()) {
            grants.give(resource, level);
        }
        grants
    }

    /// Refuses levels above those of the caller.
    pub(super) fn within(&self, own: &Grants) -> Result<()> {
        match self.iter().find(|(resource, level)| own.level(*resource) < Some(*level)) {
            None => Ok(()),
            Some((resource, level)) => Err(Error::forbidden(format!(
                "nobody grants a level above their own: {} on {}",
                level.word(),
                resource.word()
            ))),
        }
    }

    /// The levels here that are higher than in `before`.
    pub(super) fn raised_from(&self, before: &Grants) -> Grants {
        let mut grants = Grants::new();
        for (resource, level) in self.iter().filter(|(resource, level)| before.level(*resource) < Some(*level)) {
            grants.give(resource, level);
        }
        grants
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_round_trip_through_rows() {
        let grants = Grants::from_words([("card-template", "edit"), ("member", "view")]).unwrap();
        assert_eq!(Grants::from_row(&grants.to_row()), grants);
        assert_eq!(grants.in_environment().iter().collect::<Vec<_>>(), [(Resource::CardTemplate, Level::Edit)]);
    }

    #[test]
    fn unknown_words_and_senseless_levels_are_refused_with_a_pointer() {
        for (resource, level) in [("cards", "view"), ("theme", "all"), ("analytics", "edit")] {
            let error = Grants::from_words([(resource, level)]).unwrap_err();
            assert_eq!(error.violations()[0].pointer, Some(format!("/{resource}")));
        }
    }

    #[test]
    fn only_what_is_raised_is_granted() {
        let before = Grants::from_words([("theme", "admin"), ("stream", "view")]).unwrap();
        let after = Grants::from_words([("theme", "edit"), ("stream", "edit"), ("tag", "view")]).unwrap();
        let raised = after.raised_from(&before);
        assert_eq!(raised, Grants::from_words([("stream", "edit"), ("tag", "view")]).unwrap());
        assert!(raised.within(&Grants::from_words([("stream", "edit"), ("tag", "edit")]).unwrap()).is_ok());
        assert!(raised.within(&before).is_err());
    }
}
