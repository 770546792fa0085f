//! What a caller can be told: one error type, the codes of the specification, pointers to the field at fault.
//!
//! An [`Error`] carries one or more [`Violation`]s. The transports translate it (`rest::errors`,
//! `graphql::errors`); nothing else decides about status codes. A cause is kept for the log and never shown.

use std::fmt;

use futures_util::FutureExt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Does something of which a panic is a fault of ours like any other. The panic itself is logged where it happens.
pub async fn surviving_panics<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let outcome = std::panic::AssertUnwindSafe(work).catch_unwind().await;
    outcome.unwrap_or_else(|_| Err(Error::internal("a panic")))
}

macro_rules! codes {
    ($($variant:ident = $word:literal, $status:literal, $title:literal;)*) => {
        /// The error codes callers can rely on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $($variant),* }

        impl Code {
            /// Every code, for documentation and tests.
            pub const ALL: &'static [Code] = &[$(Code::$variant),*];

            /// The word that stands on the wire.
            pub fn word(self) -> &'static str {
                match self { $(Code::$variant => $word),* }
            }

            /// The HTTP status that goes with the word.
            pub fn status(self) -> u16 {
                match self { $(Code::$variant => $status),* }
            }

            /// A short heading for people.
            pub fn title(self) -> &'static str {
                match self { $(Code::$variant => $title),* }
            }
        }
    };
}

codes! {
    BadRequest = "bad_request", 400, "Bad request";
    InvalidJson = "invalid_json", 400, "Invalid JSON";
    ValidationFailed = "validation_failed", 400, "Invalid request";
    InvalidFilter = "invalid_filter", 400, "Invalid filter";
    MultipleRequired = "multiple_required", 400, "Several cards match";
    UnscopedRequest = "unscoped_request", 400, "Selector required";
    QueryTooComplex = "query_too_complex", 400, "Query too complex";
    Unauthenticated = "unauthenticated", 401, "Not authenticated";
    TokenExpired = "token_expired", 401, "Token expired";
    InvalidSignature = "invalid_signature", 401, "Invalid signature";
    Forbidden = "forbidden", 403, "Forbidden";
    AddressNotAllowed = "address_not_allowed", 403, "Address not allowed";
    KeyNotGranted = "key_not_granted", 403, "Key not granted";
    NotFound = "not_found", 404, "Not found";
    MethodNotAllowed = "method_not_allowed", 405, "Method not allowed";
    Conflict = "conflict", 409, "Conflict";
    AlreadyExists = "already_exists", 409, "Already exists";
    InUse = "in_use", 409, "In use";
    NotPublished = "not_published", 409, "Not published";
    ApprovalRequired = "approval_required", 409, "Approval required";
    CardClosed = "card_closed", 409, "Card closed";
    TriggerPaused = "trigger_paused", 409, "Trigger paused";
    IntegrationDisabled = "integration_disabled", 409, "Integration disabled";
    Gone = "gone", 410, "Gone";
    PayloadTooLarge = "payload_too_large", 413, "Payload too large";
    UnsupportedMediaType = "unsupported_media_type", 415, "Unsupported media type";
    MappingFailed = "mapping_failed", 422, "Mapping failed";
    ShapeMismatch = "shape_mismatch", 422, "Shape mismatch";
    RateLimited = "rate_limited", 429, "Too many requests";
    Internal = "internal", 500, "Internal error";
    Unavailable = "unavailable", 503, "Unavailable";
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub code: Code,
    pub detail: String,
    /// A JSON Pointer into the body or input.
    pub pointer: Option<String>,
    /// The query parameter at fault.
    pub parameter: Option<&'static str>,
}

/// The error of every operation. Small on purpose: it travels through every `Result`.
pub struct Error(Box<Inner>);

struct Inner {
    violations: Vec<Violation>,
    retry_after_seconds: Option<u64>,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub fn new(code: Code, detail: impl Into<String>) -> Error {
        Error::from_violations(vec![Violation { code, detail: detail.into(), pointer: None, parameter: None }])
    }

    /// The same for somebody else who is concerned by it. What caused it stays with the first.
    pub fn for_another(&self) -> Error {
        let Inner { violations, retry_after_seconds, .. } = &*self.0;
        Error(Box::new(Inner {
            violations: violations.clone(),
            retry_after_seconds: *retry_after_seconds,
            cause: None,
        }))
    }

    /// Several violations of one request. The list must not be empty.
    pub fn from_violations(violations: Vec<Violation>) -> Error {
        debug_assert!(!violations.is_empty(), "an error says at least one thing");
        Error(Box::new(Inner { violations, retry_after_seconds: None, cause: None }))
    }

    /// `validation_failed` at a JSON Pointer such as `/flows/0/target`.
    pub fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Error {
        Error::new(Code::ValidationFailed, detail).at(pointer)
    }

    /// `not_found` for a thing named in the singular: `Error::not_found("stream")`.
    pub fn not_found(what: &str) -> Error {
        Error::new(Code::NotFound, format!("{what} not found"))
    }

    pub fn forbidden(detail: impl Into<String>) -> Error {
        Error::new(Code::Forbidden, detail)
    }

    pub fn conflict(detail: impl Into<String>) -> Error {
        Error::new(Code::Conflict, detail)
    }

    /// A fault of ours. The cause goes to the log, not to the caller.
    pub fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        let mut error = Error::new(Code::Internal, "something went wrong on our side");
        error.0.cause = Some(cause.into());
        error
    }

    /// The request may succeed later.
    pub fn unavailable(retry_after_seconds: u64, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        let mut error = Error::new(Code::Unavailable, "temporarily unavailable, try again");
        error.0.retry_after_seconds = Some(retry_after_seconds);
        error.0.cause = Some(cause.into());
        error
    }

    pub fn rate_limited(retry_after_seconds: u64) -> Error {
        let mut error = Error::new(Code::RateLimited, "too many requests");
        error.0.retry_after_seconds = Some(retry_after_seconds);
        error
    }

    /// Sets the pointer of every violation that has none, and puts it before the pointers there are.
    pub fn at(mut self, pointer: impl Into<String>) -> Error {
        let prefix = pointer.into();
        for violation in &mut self.0.violations {
            violation.pointer = Some(match violation.pointer.take() {
                Some(rest) => format!("{prefix}{rest}"),
                None => prefix.clone(),
            });
        }
        self
    }

    /// Names the query parameter at fault.
    pub fn parameter(mut self, name: &'static str) -> Error {
        for violation in &mut self.0.violations {
            violation.parameter = Some(name);
        }
        self
    }

    /// The code of the first violation, which decides the status.
    pub fn code(&self) -> Code {
        self.0.violations.first().map_or(Code::Internal, |violation| violation.code)
    }

    pub fn violations(&self) -> &[Violation] {
        &self.0.violations
    }

    pub fn into_violations(self) -> Vec<Violation> {
        self.0.violations
    }

    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.0.retry_after_seconds
    }

    pub fn cause(&self) -> Option<&(dyn std::error::Error + Send + Sync)> {
        self.0.cause.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, violation) in self.0.violations.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{}: {}", violation.code.word(), violation.detail)?;
            if let Some(pointer) = &violation.pointer {
                write!(f, " at {pointer}")?;
            }
        }
        if let Some(cause) = &self.0.cause {
            write!(f, " (cause: {cause})")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

impl From<diesel::result::Error> for Error {
    fn from(error: diesel::result::Error) -> Error {
        use diesel::result::DatabaseErrorKind::{ClosedConnection, SerializationFailure, UnableToSendCommand};
        match &error {
            diesel::result::Error::DatabaseError(ClosedConnection | SerializationFailure | UnableToSendCommand, _) => {
                Error::unavailable(1, error)
            }
            _ => Error::internal(error),
        }
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Error {
        Error::internal(error)
    }
}

/// Collects violations so that a caller learns of all of them at once.
#[derive(Default)]
pub struct Violations(Vec<Violation>);

impl Violations {
    pub fn new() -> Violations {
        Violations::default()
    }

    pub fn add(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        self.0.push(Violation {
            code: Code::ValidationFailed,
            detail: detail.into(),
            pointer: Some(pointer.into()),
            parameter: None,
        });
    }

    pub fn extend(&mut self, error: Error) {
        self.0.extend(error.into_violations());
    }

    /// Adds the error of a failed part and gives the value of one that went well.
    pub fn check<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.extend(error)).ok()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn finish(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::from_violations(self.0)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_prefixed_from_the_inside_out() {
        let error = Error::invalid("/target", "target is required").at("/flows/0");
        assert_eq!(error.violations()[0].pointer.as_deref(), Some("/flows/0/target"));
        assert_eq!(error.code().status(), 400);
    }

    #[test]
    fn a_cause_is_for_the_log_only() {
        let error = Error::internal("relation \"cards\" does not exist");
        assert!(!error.violations()[0].detail.contains("cards"));
        assert!(error.to_string().contains("cards"));
    }
}
