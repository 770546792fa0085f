//! What a template says beside its elements: menu actions, delivery defaults and notification.

use serde_json::{Map, Value, json};

use crate::cards::options::CardOptions;
use crate::clock::Period;
use crate::error::Violations;
use crate::text::pointer_token;

/// The delivery defaults of a template.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delivery {
    /// Only priority, expiry interval and platforms can be set by a template.
    pub options: CardOptions,
    /// How long a snooze lasts that names no end: an ISO 8601 duration as it was written.
    pub snooze_interval: Option<String>,
}

/// The notification that goes with a card. Title and body are templates.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Notification {
    pub send: bool,
    pub title: Option<String>,
    pub body: Option<String>,
    pub sound: Option<String>,
    pub badge: Option<Value>,
}

/// Reads properties of one object and notes what is wrong.
pub(crate) struct Reader<'c, 'v> {
    object: &'c Map<String, Value>,
    pointer: String,
    violations: &'v mut Violations,
}

impl<'c, 'v> Reader<'c, 'v> {
    /// Begins with the object at `key` of `document`; gives nothing when there is none.
    pub fn new(
        document: &'c Value,
        key: &str,
        known: &[&str],
        violations: &'v mut Violations,
    ) -> Option<Reader<'c, 'v>> {
        let value = document.get(key).filter(|value| !value.is_null())?;
        let pointer = format!("/{key}");
        let Some(object) = value.as_object() else {
            violations.add(pointer, format!("{key} must be an object"));
            return None;
        };
        for name in object.keys().filter(|name| !known.contains(&name.as_str())) {
            violations.add(format!("{pointer}/{}", pointer_token(name)), format!("unknown property `{name}`"));
        }
        Some(Reader { object, pointer, violations })
    }

    fn take<T>(&mut self, key: &str, rule: &str, read: impl FnOnce(&'c Value) -> Option<T>) -> Option<T> {
        let value = self.object.get(key).filter(|value| !value.is_null())?;
        let read = read(value);
        if read.is_none() {
            self.violations.add(format!("{}/{key}", self.pointer), format!("{key} {rule}"));
        }
        read
    }

    pub fn flag(&mut self, key: &str) -> bool {
        self.take(key, "must be true or false", Value::as_bool).unwrap_or(false)
    }

    pub fn text(&mut self, key: &str) -> Option<String> {
        self.take(key, "must be a string", |value| value.as_str().map(str::to_owned))
    }

    fn interval(&mut self, key: &str) -> Option<String> {
        self.take(key, "must be a positive ISO 8601 duration such as PT30M", |value| {
            value.as_str().filter(|text| Period::parse(text).is_ok()).map(str::to_owned)
        })
    }
}

impl Delivery {
    pub(super) fn read(document: &Value, violations: &mut Violations) -> Delivery {
        const KNOWN: [&str; 4] = ["priority", "expiresInterval", "snoozeInterval", "targetPlatforms"];
        let Some(mut reader) = Reader::new(document, "delivery", &KNOWN, violations) else {
            return Delivery::default();
        };
        let snooze_interval = reader.interval("snoozeInterval");
        let options = CardOptions::parse(&document["delivery"], "/delivery");
        Delivery { options: violations.check(options).unwrap_or_default(), snooze_interval }
    }
}

impl Notification {
    pub(super) fn read(document: &Value, violations: &mut Violations) -> Notification {
        const KNOWN: [&str; 5] = ["sendNotifications", "title", "body", "sound", "badge"];
        let Some(mut reader) = Reader::new(document, "notification", &KNOWN, violations) else {
            return Notification::default();
        };
        Notification {
            send: reader.flag("sendNotifications"),
            title: reader.text("title"),
            body: reader.text("body"),
            sound: reader.text("sound"),
            badge: reader.take("badge", "must be true, false or a whole number", |value| {
                (value.is_boolean() || value.is_u64()).then(|| value.clone())
            }),
        }
    }
}

/// Checks the menu actions; gives the pointers and texts of their templates.
pub(crate) fn check_actions<'c>(document: &'c Value, violations: &mut Violations) -> Vec<(String, &'c str)> {
    const MENU: [&str; 4] = ["dismiss", "snooze", "voteUp", "voteDown"];
    let Some(reader) = Reader::new(document, "actions", &MENU, violations) else { return Vec::new() };
    let actions = &document["actions"];
    drop(reader);
    let mut labels = Vec::new();
    for name in MENU {
        let votes = name.starts_with("vote");
        let known: &[&str] = if votes { &["overflow", "feedback", "feedbackLabel"] } else { &["overflow", "swipe"] };
        let mut own = Violations::new();
        if let Some(mut reader) = Reader::new(actions, name, known, &mut own) {
            for flag in known.iter().filter(|key| **key != "feedbackLabel") {
                reader.flag(flag);
            }
            if votes && reader.text("feedbackLabel").is_some() {
                let label = actions[name]["feedbackLabel"].as_str().unwrap_or("");
                labels.push((format!("/actions/{name}/feedbackLabel"), label));
            }
        }
        if let Err(error) = own.finish() {
            violations.extend(error.at("/actions"));
        }
    }
    labels
}

/// The menu of content that names none.
pub(super) fn usual_actions() -> Value {
    json!({ "dismiss": { "overflow": true, "swipe": true }, "snooze": { "overflow": true, "swipe": false } })
}
