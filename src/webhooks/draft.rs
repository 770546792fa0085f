//! What a caller says about a subscription, and whether it may be so.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

use super::subscription::Subscription;
use super::{header, sign};
use crate::error::{Error, Result, Violations};
use crate::events::kind;
use crate::ids::{FlowId, OutgoingCredentialId, TemplateId};
use crate::net::AddressRules;
use crate::secret::Secret;

const LONGEST_NAME: usize = 256;

/// The fields a caller mentions; absent ones keep their value or get their default.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// `Some(None)` takes the name away.
    pub name: Option<Option<String>>,
    pub types: Option<Vec<String>>,
    pub url: Option<String>,
    /// `Some(None)` takes the URL away.
    pub test_url: Option<Option<String>>,
    pub method: Option<String>,
    pub headers: Option<BTreeMap<String, String>>,
    pub secret: Option<Secret>,
    /// `Some(None)` takes the credential away.
    pub credential: Option<Option<OutgoingCredentialId>>,
    /// The source of a script. `Some(None)` takes it away.
    pub mapping: Option<Option<String>>,
    pub include_test_events: Option<bool>,
    pub include_request_payload: Option<bool>,
    pub include_card_response: Option<bool>,
    pub batched: Option<bool>,
    pub max_retries: Option<i32>,
    pub disable_after_failures: Option<bool>,
    /// Fixed at creation: in an update it must be the one there is.
    pub scope: Scope,
    pub expected_revision: Option<i32>,
}

/// Narrows a subscription to the events of a template, a flow, or both. Fixed at creation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    pub template: Option<TemplateId>,
    pub flow: Option<FlowId>,
}

impl Scope {
    pub(super) fn check_unchanged(self, subscription: &Subscription) -> Result<()> {
        let mut violations = Violations::new();
        if self.template.is_some() && self.template != subscription.template_id {
            violations.add("/cardTemplateId", "cardTemplateId cannot be changed");
        }
        if self.flow.is_some() && self.flow != subscription.flow_id {
            violations.add("/actionFlowConfigId", "actionFlowConfigId cannot be changed");
        }
        violations.finish()
    }
}

impl Draft {
    /// Checks a draft from which a subscription is made.
    pub(super) fn check_new(self, rules: &AddressRules, own_header: &str) -> Result<Draft> {
        let mut violations = Violations::new();
        if self.types.is_none() {
            violations.add("/types", "types is required");
        }
        if self.url.is_none() {
            violations.add("/url", "url is required");
        }
        if let Err(error) = self.check_fields(rules, own_header) {
            violations.extend(error);
        }
        violations.finish()?;
        Ok(self.tidy())
    }

    /// Checks a draft of changes.
    pub(super) fn check(self, rules: &AddressRules, own_header: &str) -> Result<Draft> {
        self.check_fields(rules, own_header)?;
        Ok(self.tidy())
    }

    fn check_fields(&self, rules: &AddressRules, own_header: &str) -> Result<()> {
        let mut violations = Violations::new();
        if let Some(Some(name)) = &self.name
            && (name.chars().count() > LONGEST_NAME || name.chars().any(char::is_control))
        {
            violations
                .add("/name", format!("name must have at most {LONGEST_NAME} characters and no control characters"));
        }
        if let Some(types) = &self.types {
            if types.is_empty() {
                violations.add("/types", "at least one type is required");
            }
            for (index, name) in types.iter().enumerate().filter(|(_, name)| !kind::known(name)) {
                violations.add(format!("/types/{index}"), format!("{name:?} is not the name of an event"));
            }
        }
        if let Some(url) = &self.url {
            violations.check(rules.parse(url, "/url"));
        }
        if let Some(Some(url)) = &self.test_url {
            violations.check(rules.parse(url, "/testUrl"));
        }
        if self.method.as_deref().is_some_and(|method| !matches!(method, "POST" | "PUT")) {
            violations.add("/method", "method must be POST or PUT");
        }
        if let Some(headers) = &self.headers {
            violations.check(header::check(headers, own_header));
        }
        if let Some(secret) = &self.secret {
            violations.check(sign::check(secret.expose()));
        }
        if self.max_retries.is_some_and(|retries| !(0..=100).contains(&retries)) {
            violations.add("/maxRetries", "maxRetries must be between 0 and 100");
        }
        violations.finish()
    }

    /// Drops repeated types and empty names.
    fn tidy(mut self) -> Draft {
        if let Some(types) = &mut self.types {
            let mut seen = HashSet::new();
            types.retain(|name| seen.insert(name.clone()));
        }
        self.name = self.name.map(|name| name.filter(|name| !name.is_empty()));
        self
    }

    /// The names of the fields that would change.
    pub(super) fn changes(&self, subscription: &Subscription) -> Vec<&'static str> {
        fn differs<T: PartialEq>(wanted: Option<&T>, there_is: &T) -> bool {
            wanted.is_some_and(|wanted| wanted != there_is)
        }
        let now = subscription;
        let fields = [
            ("name", differs(self.name.as_ref(), &now.name)),
            ("types", differs(self.types.as_ref(), &now.types)),
            ("url", differs(self.url.as_ref(), &now.url)),
            ("testUrl", differs(self.test_url.as_ref(), &now.test_url)),
            ("method", differs(self.method.as_ref(), &now.method)),
            ("headers", differs(self.headers.as_ref(), &now.custom_headers())),
            ("secret", self.secret.is_some()),
            ("credentialId", differs(self.credential.as_ref(), &now.credential_id)),
            ("mapping", differs(self.mapping.as_ref(), &now.mapping)),
            ("includeTestEvents", differs(self.include_test_events.as_ref(), &now.include_test_events)),
            ("includeRequestPayload", differs(self.include_request_payload.as_ref(), &now.include_request_payload)),
            ("includeCardResponse", differs(self.include_card_response.as_ref(), &now.include_card_response)),
            ("isBatched", differs(self.batched.as_ref(), &now.batched)),
            ("maxRetries", differs(self.max_retries.as_ref(), &now.max_retries)),
            ("disableAfterFailures", differs(self.disable_after_failures.as_ref(), &now.disable_after_failures)),
        ];
        fields.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }

    /// Writes the mentioned fields into a subscription. The secret is sealed elsewhere.
    pub(super) fn apply(self, subscription: &mut Subscription) {
        fn set<T>(field: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *field = value;
            }
        }
        set(&mut subscription.name, self.name);
        set(&mut subscription.types, self.types);
        set(&mut subscription.url, self.url);
        set(&mut subscription.test_url, self.test_url);
        set(&mut subscription.method, self.method);
        set(&mut subscription.credential_id, self.credential);
        set(&mut subscription.mapping, self.mapping);
        set(&mut subscription.include_test_events, self.include_test_events);
        set(&mut subscription.include_request_payload, self.include_request_payload);
        set(&mut subscription.include_card_response, self.include_card_response);
        set(&mut subscription.batched, self.batched);
        set(&mut subscription.max_retries, self.max_retries);
        set(&mut subscription.disable_after_failures, self.disable_after_failures);
        if let Some(headers) = self.headers {
            subscription.headers = headers.into_iter().map(|(name, value)| (name, Value::String(value))).collect();
        }
    }
}

/// Reads a draft from JSON, with a pointer to each field of a wrong type.
pub fn read(body: &Value) -> Result<Draft> {
    let Value::Object(body) = body else { return Err(Error::invalid("", "the body must be an object")) };
    let mut fields = Fields { body, violations: Violations::new() };
    let draft = Draft {
        name: fields.nullable("name", "a text", text),
        types: fields.one("types", "a list of texts", texts),
        url: fields.one("url", "a text", text),
        test_url: fields.nullable("testUrl", "a text", text),
        method: fields.one("method", "a text", text),
        headers: fields.one("headers", "an object of texts", headers),
        secret: fields.one("secret", "a text", text).map(Secret::new),
        credential: fields.nullable("credentialId", "the id of an outgoing credential", |id| id.as_str()?.parse().ok()),
        mapping: fields.nullable("mapping", "the source of a script", text),
        include_test_events: fields.one("includeTestEvents", "true or false", Value::as_bool),
        include_request_payload: fields.one("includeRequestPayload", "true or false", Value::as_bool),
        include_card_response: fields.one("includeCardResponse", "true or false", Value::as_bool),
        batched: fields.one("isBatched", "true or false", Value::as_bool),
        max_retries: fields.one("maxRetries", "a whole number", whole),
        disable_after_failures: fields.one("disableAfterFailures", "true or false", Value::as_bool),
        scope: Scope {
            template: fields.one("cardTemplateId", "the id of a card template", |id| id.as_str()?.parse().ok()),
            flow: fields.one("actionFlowConfigId", "the id of an action flow", |id| id.as_str()?.parse().ok()),
        },
        expected_revision: fields.one("expectedRevision", "a whole number", whole),
    };
    fields.violations.finish()?;
    Ok(draft)
}

struct Fields<'a> {
    body: &'a serde_json::Map<String, Value>,
    violations: Violations,
}

impl Fields<'_> {
    /// A field for which null means the same as absence.
    fn one<T>(&mut self, name: &str, form: &str, read: impl FnOnce(&Value) -> Option<T>) -> Option<T> {
        self.nullable(name, form, read).flatten()
    }

    /// A field that null empties.
    fn nullable<T>(&mut self, name: &str, form: &str, read: impl FnOnce(&Value) -> Option<T>) -> Option<Option<T>> {
        match self.body.get(name)? {
            Value::Null => Some(None),
            value => {
                let read = read(value);
                if read.is_none() {
                    self.violations.add(format!("/{name}"), format!("{name} must be {form}"));
                }
                Some(read)
            }
        }
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn texts(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(text).collect()
}

fn whole(value: &Value) -> Option<i32> {
    i32::try_from(value.as_i64()?).ok()
}

fn headers(value: &Value) -> Option<BTreeMap<String, String>> {
    value.as_object()?.iter().map(|(name, value)| Some((name.clone(), text(value)?))).collect()
}

/// Reads custom headers from JSON.
pub fn read_headers(value: &Value) -> Result<BTreeMap<String, String>> {
    headers(value).ok_or_else(|| Error::invalid("/headers", "headers must be an object of texts"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::Config;

    fn rules() -> AddressRules {
        AddressRules::new(&Config::for_database("postgres:///x", "x".into()))
    }

    fn pointers(error: &Error) -> Vec<&str> {
        error.violations().iter().filter_map(|violation| violation.pointer.as_deref()).collect()
    }

    fn check_new(body: &Value) -> Result<Draft> {
        read(body)?.check_new(&rules(), sign::OWN_HEADER)
    }

    #[test]
    fn the_request_of_the_seed() {
        let draft = check_new(&json!({
            "types": ["card-published", "card-completed", "card-published", "custom:order paid"],
            "url": "https://example.com/card-state-webhook",
            "headers": {"My-Custom-Header": "123"},
            "somethingElse": 1,
        }))
        .unwrap();
        assert_eq!(draft.types.unwrap(), ["card-published", "card-completed", "custom:order paid"]);
        assert_eq!(draft.headers.unwrap()["My-Custom-Header"], "123");
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let error = check_new(&json!({
            "types": ["card-published", "nope"], "url": "http://10.0.0.1/", "testUrl": "ftp://x/", "method": "GET",
            "headers": {"Host": "x"}, "secret": "short", "maxRetries": 101, "name": "a\u{1}",
        }))
        .unwrap_err();
        assert_eq!(
            pointers(&error),
            ["/name", "/types/1", "/url", "/testUrl", "/method", "/headers/Host", "/secret", "/maxRetries"]
        );
        assert_eq!(pointers(&check_new(&json!({})).unwrap_err()), ["/types", "/url"]);
        assert_eq!(pointers(&check_new(&json!({"types": [], "url": "https://x.example/"})).unwrap_err()), ["/types"]);
    }

    #[test]
    fn wrong_types_have_pointers() {
        let error = read(&json!({
            "types": "card-published", "url": 1, "headers": {"x": 1}, "isBatched": "yes", "maxRetries": 1.5,
            "cardTemplateId": "1",
        }))
        .unwrap_err();
        assert_eq!(pointers(&error), ["/types", "/url", "/headers", "/isBatched", "/maxRetries", "/cardTemplateId"]);
        assert!(read(&json!([])).is_err());
    }

    #[test]
    fn null_takes_away_what_may_be_absent() {
        let draft = read(&json!({"name": null, "testUrl": null, "method": null})).unwrap();
        assert_eq!((draft.name, draft.test_url, draft.method), (Some(None), Some(None), None));
    }
}
