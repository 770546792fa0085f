//! What each type of credential consists of, and whether what a caller gives may be so.

use serde::{Deserialize, Serialize};

use crate::error::{Result, Violations};
use crate::net::AddressRules;

const LONGEST: usize = 4096;

/// How an OAuth token is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    /// POST with a form.
    Body,
    /// GET with query parameters.
    QueryGet,
    /// POST with query parameters and an empty body.
    QueryPost,
}

/// All of a credential that is not secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Settings {
    OauthClientCredentials { identity_url: String, client_id: String, scope: Option<String>, scheme: Scheme },
    AwsSigned { access_key_id: String, sign_query: bool, region: Option<String>, service: Option<String> },
    Basic { username: String },
}

/// The secret part. Never shown, and without `Debug`.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Secrets {
    /// The client secret, the secret access key or the password.
    pub main: String,
    pub session_token: Option<String>,
}

/// A type of credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    OauthClientCredentials,
    AwsSigned,
    Basic,
}

/// What a caller gives; each type takes its own fields and refuses the others.
#[derive(Clone, Default)]
pub struct Given {
    pub kind: Option<Kind>,
    pub identity_url: Option<String>,
    pub client_id: Option<String>,
    pub client_secret: Option<String>,
    pub scope: Option<String>,
    pub scheme: Option<Scheme>,
    pub access_key_id: Option<String>,
    pub secret_access_key: Option<String>,
    pub session_token: Option<String>,
    pub sign_query: Option<bool>,
    pub region: Option<String>,
    pub service: Option<String>,
    pub username: Option<String>,
    pub password: Option<String>,
}

impl Given {
    /// What is given, and for the rest what there is.
    pub(super) fn over(mut self, settings: Settings, secrets: Secrets) -> Given {
        fn keep<T>(given: &mut Option<T>, there_is: Option<T>) {
            if given.is_none() {
                *given = there_is;
            }
        }
        let main = Some(secrets.main);
        match settings {
            Settings::OauthClientCredentials { identity_url, client_id, scope, scheme } => {
                self.kind = Some(Kind::OauthClientCredentials);
                keep(&mut self.identity_url, Some(identity_url));
                keep(&mut self.client_id, Some(client_id));
                keep(&mut self.client_secret, main);
                keep(&mut self.scope, scope);
                keep(&mut self.scheme, Some(scheme));
            }
            Settings::AwsSigned { access_key_id, sign_query, region, service } => {
                self.kind = Some(Kind::AwsSigned);
                keep(&mut self.access_key_id, Some(access_key_id));
                keep(&mut self.secret_access_key, main);
                keep(&mut self.session_token, secrets.session_token);
                keep(&mut self.sign_query, Some(sign_query));
                keep(&mut self.region, region);
                keep(&mut self.service, service);
            }
            Settings::Basic { username } => {
                self.kind = Some(Kind::Basic);
                keep(&mut self.username, Some(username));
                keep(&mut self.password, main);
            }
        }
        self
    }

    /// Splits into what may be shown and what may not. Reports every fault with its pointer.
    pub(super) fn complete(self, rules: &AddressRules) -> Result<(Settings, Secrets)> {
        let mut violations = Violations::new();
        let kind = self.kind.unwrap_or(Kind::Basic);
        if self.kind.is_none() {
            violations.add("/type", "type is required");
        }
        self.check_fields(kind, &mut violations);
        if let Some(url) = self.identity_url.as_deref().filter(|_| kind == Kind::OauthClientCredentials) {
            violations.check(rules.parse(url, "/identityUrl"));
        }
        violations.finish()?;
        let text = Option::unwrap_or_default;
        Ok(match kind {
            Kind::OauthClientCredentials => (
                Settings::OauthClientCredentials {
                    identity_url: text(self.identity_url),
                    client_id: text(self.client_id),
                    scope: self.scope.filter(|scope| !scope.is_empty()),
                    scheme: self.scheme.unwrap_or(Scheme::Body),
                },
                Secrets { main: text(self.client_secret), session_token: None },
            ),
            Kind::AwsSigned => (
                Settings::AwsSigned {
                    access_key_id: text(self.access_key_id),
                    sign_query: self.sign_query.unwrap_or(false),
                    region: self.region.filter(|region| !region.is_empty()),
                    service: self.service.filter(|service| !service.is_empty()),
                },
                Secrets {
                    main: text(self.secret_access_key),
                    session_token: self.session_token.filter(|token| !token.is_empty()),
                },
            ),
            Kind::Basic => (
                Settings::Basic { username: text(self.username) },
                Secrets { main: text(self.password), session_token: None },
            ),
        })
    }

    fn check_fields(&self, kind: Kind, violations: &mut Violations) {
        use Kind::{AwsSigned, Basic, OauthClientCredentials};
        for (name, value, of, required) in [
            ("identityUrl", &self.identity_url, OauthClientCredentials, true),
            ("clientId", &self.client_id, OauthClientCredentials, true),
            ("clientSecret", &self.client_secret, OauthClientCredentials, true),
            ("scope", &self.scope, OauthClientCredentials, false),
            ("accessKeyId", &self.access_key_id, AwsSigned, true),
            ("secretAccessKey", &self.secret_access_key, AwsSigned, true),
            ("sessionToken", &self.session_token, AwsSigned, false),
            ("region", &self.region, AwsSigned, false),
            ("service", &self.service, AwsSigned, false),
            ("username", &self.username, Basic, true),
            ("password", &self.password, Basic, true),
        ] {
            let pointer = format!("/{name}");
            match value {
                Some(_) if of != kind => violations.add(pointer, "does not belong to this type"),
                Some(text) if text.len() > LONGEST || text.chars().any(char::is_control) => {
                    violations.add(pointer, format!("must have at most {LONGEST} bytes and no control characters"));
                }
                Some(text) if required && text.is_empty() => violations.add(pointer, "must not be empty"),
                None if required && of == kind => violations.add(pointer, format!("{name} is required")),
                _ => {}
            }
        }
        // The colon ends the user name in the header (RFC 7617).
        if self.username.as_deref().is_some_and(|name| name.contains(':')) {
            violations.add("/username", "must not contain a colon");
        }
        for (pointer, given, of) in [
            ("/scheme", self.scheme.is_some(), OauthClientCredentials),
            ("/signQuery", self.sign_query.is_some(), AwsSigned),
        ] {
            if given && of != kind {
                violations.add(pointer, "does not belong to this type");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn pointers(given: Given) -> Vec<String> {
        let rules = AddressRules::new(&Config::for_database("postgres:///x", "x".into()));
        let Err(error) = given.complete(&rules) else { return Vec::new() };
        error.violations().iter().filter_map(|violation| violation.pointer.clone()).collect()
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn each_type_takes_its_own_fields() {
        assert_eq!(pointers(Given::default()), ["/type", "/username", "/password"]);
        let basic = Given { kind: Some(Kind::Basic), username: some("a:b"), password: some("p"), ..Given::default() };
        assert_eq!(pointers(basic.clone()), ["/username"]);
        assert_eq!(pointers(Given { username: some("ana"), ..basic.clone() }), Vec::<String>::new());
        let mixed = Given { username: some("ana"), scope: some("x"), sign_query: Some(true), ..basic };
        assert_eq!(pointers(mixed), ["/scope", "/signQuery"]);
        let oauth = Given {
            kind: Some(Kind::OauthClientCredentials),
            identity_url: some("https://10.0.0.1/token"),
            client_id: some("id"),
            client_secret: some(""),
            ..Given::default()
        };
        assert_eq!(pointers(oauth), ["/clientSecret", "/identityUrl"]);
    }
}
