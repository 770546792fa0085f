//! What callers see of an error: message, `extensions.code`, `extensions.pointer`, and nothing of our insides.

use async_graphql::{ErrorExtensionValues, PathSegment, Response, ServerError, Value};

use crate::error::{Code, Error, Violation};

/// Makes a response fit to leave the process. Every response passes here exactly once.
///
/// One error with several violations becomes several errors at the same path. Faults of ours are logged here and
/// leave only their code.
pub fn finish(mut response: Response) -> Response {
    if !response.errors.is_empty() {
        response.errors = std::mem::take(&mut response.errors).into_iter().flat_map(translate).collect();
    }
    response
}

/// A response that carries nothing but `error`.
pub fn refusal(error: &Error) -> Response {
    report(error);
    Response::from_errors(error.violations().iter().map(|violation| shown(violation, &[], error)).collect())
}

/// The errors of `error` as they stand in an `error` message of a websocket.
pub fn violations(error: &Error) -> Vec<ServerError> {
    refusal(error).errors
}

/// The code of the first error, as a type.
pub fn code(response: &Response) -> Option<Code> {
    let extensions = response.errors.first()?.extensions.as_ref()?;
    let Some(Value::String(word)) = extensions.get("code") else { return None };
    Code::ALL.iter().copied().find(|code| code.word() == word)
}

/// Whether the operation was refused before any of it was executed.
pub fn is_refusal(response: &Response) -> bool {
    response.data == Value::Null
        && !response.errors.is_empty()
        && response.errors.iter().all(|error| error.path.is_empty())
}

fn translate(error: ServerError) -> Vec<ServerError> {
    if let Some(ours) = error.source::<Error>() {
        report(ours);
        return ours.violations().iter().map(|violation| located(violation, &error, ours)).collect();
    }
    if error.source.is_some() && error.extensions.is_none() {
        tracing::error!(error.message = %error.message, "a resolver failed with an error that is not ours to show");
        let hidden = Error::internal(error.message.clone());
        return hidden.violations().iter().map(|violation| located(violation, &error, &hidden)).collect();
    }
    vec![from_engine(error)]
}

/// Errors of the engine: syntax, validation and coercion. They speak about the caller's own document.
fn from_engine(mut error: ServerError) -> ServerError {
    let mut extensions = error.extensions.take().unwrap_or_default();
    if let Some(Value::String(detail)) = extensions.get("detail") {
        error.message.clone_from(detail);
        extensions.unset("detail");
    }
    if extensions.get("code").is_none() {
        let code = if error.path.is_empty() { Code::BadRequest } else { Code::ValidationFailed };
        extensions.set("code", code.word());
    }
    error.extensions = Some(extensions);
    error
}

fn located(violation: &Violation, place: &ServerError, error: &Error) -> ServerError {
    let mut shown = shown(violation, &place.path, error);
    shown.locations.clone_from(&place.locations);
    shown
}

fn shown(violation: &Violation, path: &[PathSegment], error: &Error) -> ServerError {
    let mut extensions = ErrorExtensionValues::default();
    extensions.set("code", violation.code.word());
    if let Some(pointer) = &violation.pointer {
        extensions.set("pointer", pointer.clone());
    }
    if let Some(seconds) = error.retry_after_seconds() {
        extensions.set("retryAfter", seconds);
    }
    let mut shown = ServerError::new(violation.detail.clone(), None).with_path(path.to_vec());
    shown.extensions = Some(extensions);
    shown
}

fn report(error: &Error) {
    if error.code().status() >= 500 {
        tracing::error!(%error, "a GraphQL operation failed");
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::{EmptyMutation, EmptySubscription, Object, Schema};

    use super::*;
    use crate::error::Violations;

    struct Root;

    #[Object]
    impl Root {
        async fn broken(&self) -> crate::error::Result<i32> {
            Err(Error::internal("relation \"cards\" does not exist"))
        }

        async fn foreign(&self) -> async_graphql::Result<i32> {
            Ok("x".parse::<i32>()?)
        }

        async fn wrong(&self) -> crate::error::Result<i32> {
            let mut violations = Violations::new();
            violations.add("/name", "name is required");
            violations.add("/limit", "limit is too high");
            violations.finish()?;
            Ok(1)
        }
    }

    async fn run(query: &str) -> Response {
        finish(Schema::new(Root, EmptyMutation, EmptySubscription).execute(query).await)
    }

    #[tokio::test]
    async fn several_violations_are_several_errors_with_pointers() {
        let answer = serde_json::to_value(run("{ wrong }").await).unwrap();
        assert_eq!(answer["errors"][0]["extensions"]["pointer"], "/name");
        assert_eq!(answer["errors"][1]["extensions"]["code"], "validation_failed");
        assert_eq!(answer["errors"][1]["path"][0], "wrong");
    }

    #[tokio::test]
    async fn the_inside_stays_inside() {
        for query in ["{ broken }", "{ foreign }"] {
            let answer = serde_json::to_value(run(query).await).unwrap();
            assert_eq!(answer["errors"][0]["extensions"]["code"], "internal");
            assert!(!answer.to_string().contains("relation") && !answer.to_string().contains("digit"), "{answer}");
        }
    }

    #[tokio::test]
    async fn a_document_that_does_not_fit_the_schema_is_a_bad_request() {
        let response = run("{ nothing }").await;
        assert!(is_refusal(&response));
        assert_eq!(code(&response), Some(Code::BadRequest));
    }
}
