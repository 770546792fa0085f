//! Simulations of flows in GraphQL.

use std::time::Duration;

use async_graphql::{Context, Object, SimpleObject};

use super::context::{app, viewer};
use super::flows::RunStatus;
use super::scalars::JsonObject;
use crate::clock::Time;
use crate::error::Result;
use crate::flows::{self, Scenario};
use crate::ids::FlowId;

/// How far a simulation looks when nobody says.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

#[derive(Default)]
pub struct SimulationQuery;

/// What a flow would do.
#[derive(SimpleObject)]
pub struct FlowSimulation {
    /// `RUNNING` where something is still waited for at the end.
    status: RunStatus,
    /// In the order in which they end; those that wait come last.
    steps: Vec<SimulatedStep>,
}

/// A step that would be reached.
#[derive(SimpleObject)]
pub struct SimulatedStep {
    key: String,
    #[graphql(name = "type")]
    kind: &'static str,
    /// `completed`, `failed` or `waiting`.
    status: &'static str,
    started_at: Time,
    finished_at: Option<Time>,
    /// When a step that waits would go on by itself.
    wakes_at: Option<Time>,
    /// The named path that is decided for.
    path: Option<String>,
    input: Option<JsonObject>,
    output: JsonObject,
    /// Why it failed.
    message: Option<String>,
    /// The card as the customer would see it.
    card: Option<JsonObject>,
}

impl From<flows::SimulatedStep> for SimulatedStep {
    fn from(step: flows::SimulatedStep) -> SimulatedStep {
        SimulatedStep {
            key: step.key,
            kind: step.kind,
            status: step.status,
            started_at: step.started_at,
            finished_at: step.finished_at,
            wakes_at: step.wakes_at,
            path: step.path,
            input: step.input.map(JsonObject::of),
            output: JsonObject::of(step.output),
            message: step.message,
            card: step.card.map(JsonObject::of),
        }
    }
}

#[Object]
impl SimulationQuery {
    /// Plays the draft of a flow for a customer with a clock of its own, and does nothing of it. `assume` says what
    /// the outside does, by step: `{event, buttonName, values, after}` for a wait for a card, `{status, body}` for a
    /// request. Without it customers do nothing, and requests are answered with 200.
    #[expect(clippy::too_many_arguments, reason = "the arguments of the field are what a caller may say")]
    async fn simulate_flow(
        &self,
        ctx: &Context<'_>,
        flow_id: FlowId,
        user_id: String,
        payload: Option<JsonObject>,
        until: Option<Time>,
        assume: Option<JsonObject>,
    ) -> Result<FlowSimulation> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, flow_id).await?;
        let scenario = Scenario {
            flow: flow_id,
            user_id,
            payload: payload.map(JsonObject::into_value),
            until: until.unwrap_or_else(|| app.clock().now().plus(YEAR)),
            assume: assume.map(JsonObject::into_value),
        };
        let simulation = flows::simulate(app, &access, scenario).await?;
        let steps = simulation.steps.into_iter().map(SimulatedStep::from).collect();
        Ok(FlowSimulation { status: simulation.status.into(), steps })
    }
}
