//! What customers may do with a card, as an app asks for it (specification 6.3).

use serde_json::{Map, Value};

use crate::clock::Time;
use crate::error::{Error, Result};
use crate::ids::{CardId, ContainerId};

/// The part of an app that the customer used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionSource {
    OverflowMenu,
    CardButton,
    Swipe,
    Api,
}

impl ActionSource {
    /// The word in `eventContext.actionSource`.
    pub fn word(self) -> &'static str {
        match self {
            ActionSource::OverflowMenu => "overflow-menu",
            ActionSource::CardButton => "card-button",
            ActionSource::Swipe => "swipe",
            ActionSource::Api => "api",
        }
    }
}

/// What every action says: which card, where it was shown, and how it was done.
#[derive(Clone, Debug)]
pub struct Target {
    pub container: ContainerId,
    pub card: CardId,
    /// The customer's own clock, offset included, as the app wrote it.
    pub local_timestamp: Option<String>,
    pub source: Option<ActionSource>,
}

#[derive(Clone, Debug)]
pub struct CompleteCard {
    pub target: Target,
    pub button_name: String,
    pub values: Map<String, Value>,
}

#[derive(Clone, Debug)]
pub struct DismissCard {
    pub target: Target,
}

#[derive(Clone, Debug)]
pub struct SnoozeCard {
    pub target: Target,
    /// An ISO 8601 duration. Without it and without `until` the template's own interval is taken.
    pub interval: Option<String>,
    pub until: Option<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vote {
    Up,
    Down,
}

#[derive(Clone, Debug)]
pub struct VoteCard {
    pub target: Target,
    pub direction: Vote,
    /// `not-relevant`, `too-often` or `other`; only with a vote down.
    pub reason: Option<String>,
    pub message: Option<String>,
}

/// The most characters of a message with a vote.
const LONGEST_MESSAGE: usize = 280;
const REASONS: [&str; 3] = ["not-relevant", "too-often", "other"];

/// Checks reason and message of a vote. `feedback`: the card invites words with a vote up.
pub(crate) fn check_vote(vote: &VoteCard, feedback: bool) -> Result<()> {
    if let Some(reason) = &vote.reason {
        if vote.direction == Vote::Up {
            return Err(Error::invalid("/reason", "a vote up has no reason"));
        }
        if !REASONS.contains(&reason.as_str()) {
            return Err(Error::invalid("/reason", "must be not-relevant, too-often or other"));
        }
    }
    let Some(message) = &vote.message else { return Ok(()) };
    let allowed = match vote.direction {
        Vote::Up => feedback,
        Vote::Down => vote.reason.as_deref() == Some("other"),
    };
    if !allowed {
        return Err(Error::invalid(
            "/message",
            "a message is taken only with the reason other, or where the card asks for feedback",
        ));
    }
    if message.chars().count() > LONGEST_MESSAGE {
        return Err(Error::invalid("/message", format!("a message has at most {LONGEST_MESSAGE} characters")));
    }
    Ok(())
}

/// Tells whether a rendered card asks for words with a vote up, in its menu or on a button.
pub(crate) fn invites_feedback(definition: &Value) -> bool {
    fn button(value: &Value) -> bool {
        match value {
            Value::Array(items) => items.iter().any(button),
            Value::Object(fields) => {
                let here = fields.get("type").and_then(Value::as_str) == Some("voteUpButton")
                    && value.pointer("/attributes/feedback") == Some(&Value::Bool(true));
                here || fields.values().any(button)
            }
            _ => false,
        }
    }
    let menu = definition.pointer("/actions/voteUp/feedback") == Some(&Value::Bool(true));
    menu || ["topCard", "subviews"].iter().filter_map(|part| definition.get(part)).any(button)
}

/// Checks `userLocalTimestamp`: a date-time with an offset. Its text is kept.
pub(crate) fn check_local_timestamp(text: Option<&str>) -> Result<()> {
    let Some(text) = text else { return Ok(()) };
    // A civil date-time parses as no timestamp, so the offset is demanded by the type.
    text.parse::<jiff::Timestamp>()
        .map(drop)
        .map_err(|_| Error::invalid("/userLocalTimestamp", "must be an RFC 3339 date-time with an offset"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ids::Ids;

    fn vote(direction: Vote, reason: Option<&str>, message: Option<&str>) -> VoteCard {
        let (ids, now) = (Ids::seeded(1), Time::from_millisecond(0));
        let target = Target { container: ids.make(now), card: ids.make(now), local_timestamp: None, source: None };
        VoteCard { target, direction, reason: reason.map(str::to_owned), message: message.map(str::to_owned) }
    }

    #[test]
    fn words_go_with_the_right_votes_only() {
        let long = "x".repeat(281);
        for (direction, reason, message, feedback, pointer) in [
            (Vote::Up, None, None, false, None),
            (Vote::Up, None, Some("great"), true, None),
            (Vote::Up, None, Some("great"), false, Some("/message")),
            (Vote::Up, Some("other"), None, true, Some("/reason")),
            (Vote::Down, Some("too-often"), None, false, None),
            (Vote::Down, Some("too-often"), Some("stop"), true, Some("/message")),
            (Vote::Down, Some("other"), Some("stop"), false, None),
            (Vote::Down, Some("other"), Some(long.as_str()), false, Some("/message")),
            (Vote::Down, Some("dull"), None, false, Some("/reason")),
            (Vote::Down, None, Some("stop"), true, Some("/message")),
        ] {
            let found = check_vote(&vote(direction, reason, message), feedback).err();
            let found = found.and_then(|error| error.violations()[0].pointer.clone());
            assert_eq!(found.as_deref(), pointer, "{direction:?} {reason:?} {message:?}");
        }
    }

    #[test]
    fn feedback_is_invited_by_menu_or_button() {
        assert!(invites_feedback(&json!({"actions": {"voteUp": {"overflow": true, "feedback": true}}})));
        assert!(!invites_feedback(&json!({"actions": {"voteDown": {"feedback": true}}})));
        let button = json!({"type": "voteUpButton", "attributes": {"feedback": true}});
        let row = json!({"type": "form", "children": [{"type": "buttonRow", "children": [button]}]});
        assert!(invites_feedback(&json!({"topCard": {"elements": []}, "subviews": [{"elements": [row]}]})));
        assert!(!invites_feedback(&json!({"topCard": {"elements": []}, "subviews": []})));
    }

    #[test]
    fn local_time_keeps_an_offset() {
        for (text, fits) in [
            ("2021-03-26T13:46:50.591+13:00", true),
            ("2021-03-26T13:46:50Z", true),
            ("2021-03-26T13:46:50", false),
            ("noon", false),
        ] {
            assert_eq!(check_local_timestamp(Some(text)).is_ok(), fits, "{text}");
        }
        check_local_timestamp(None).unwrap();
    }
}
