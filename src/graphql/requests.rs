//! Requests that steps of flows make, in GraphQL.

use async_graphql::{Context, Enum, InputObject, Object, SimpleObject};

use super::context::{app, viewer};
use super::scalars::Json;
use crate::clock::Time;
use crate::error::{Error, Result};
use crate::flows::{self, Attempt, Effect, Resolution};
use crate::ids::RunId;

#[derive(Default)]
pub struct RequestsMutation;

/// A request of a *send request* step.
#[derive(SimpleObject)]
pub struct StepRequest {
    step_key: String,
    /// `intended`, `performing`, `succeeded`, `failed`, or `unknown`: then a member must resolve it.
    status: String,
    method: String,
    url: String,
    /// The `idempotency-key` of all attempts.
    idempotency_key: String,
    attempts: Vec<RequestAttempt>,
    due_at: Time,
    created: Time,
    finished_at: Option<Time>,
}

/// One try of a request.
#[derive(SimpleObject)]
pub struct RequestAttempt {
    attempt: i16,
    /// `performing`, `succeeded`, `failed`, or `unknown`: it may have arrived.
    status: String,
    http_status: Option<i16>,
    /// A word for what went wrong where there was no whole answer.
    error: Option<String>,
    started_at: Time,
    finished_at: Option<Time>,
}

impl StepRequest {
    pub fn of(effect: &Effect, attempts: &[Attempt]) -> StepRequest {
        let attempt = |attempt: &Attempt| RequestAttempt {
            attempt: attempt.attempt,
            status: attempt.status.clone(),
            http_status: attempt.http_status,
            error: attempt.error.clone(),
            started_at: attempt.started_at,
            finished_at: attempt.finished_at,
        };
        StepRequest {
            step_key: effect.step_key.clone(),
            status: effect.status.clone(),
            method: effect.method.clone(),
            url: effect.url.clone(),
            idempotency_key: effect.key(),
            attempts: attempts.iter().map(attempt).collect(),
            due_at: effect.due_at,
            created: effect.created_at,
            finished_at: effect.finished_at,
        }
    }
}

/// What became of a request.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
pub enum RequestResolution {
    Succeeded,
    Failed,
    /// It shall be made once more, with the same `idempotency-key`.
    Repeat,
}

#[derive(InputObject)]
pub struct ResolveRequestInput {
    run_id: RunId,
    step_key: String,
    resolution: RequestResolution,
    /// For a request that succeeded: the body of its answer.
    body: Option<Json>,
}

#[derive(SimpleObject)]
pub struct ResolveRequestPayload {
    run: super::flows::Run,
}

#[Object]
impl RequestsMutation {
    /// Says what became of a request whose outcome is unknown, so that its run can go on.
    async fn resolve_request(&self, ctx: &Context<'_>, input: ResolveRequestInput) -> Result<ResolveRequestPayload> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, input.run_id).await?;
        let resolution = match (input.resolution, input.body) {
            (RequestResolution::Succeeded, body) => Resolution::Succeeded(body.map(|body| body.0)),
            (_, Some(_)) => return Err(Error::invalid("/body", "only a request that succeeded has an answer")),
            (RequestResolution::Failed, None) => Resolution::Failed,
            (RequestResolution::Repeat, None) => Resolution::Repeat,
        };
        flows::resolve(app, &access, input.run_id, &input.step_key, resolution).await?;
        let run = flows::run(app, &access, input.run_id).await?;
        Ok(ResolveRequestPayload { run: super::flows::Run::of(run) })
    }
}
