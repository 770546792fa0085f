//! Changing runs in progress from outside.

use async_graphql::{Context, InputObject, Object, SimpleObject};

use super::context::{app, viewer};
use super::scalars::JsonObject;
use crate::access::CredentialRole;
use crate::error::{Error, Result};
use crate::flows::{self, Chosen};
use crate::ids::{FlowId, LifecycleId, RunId};

/// Exactly one of `flowInvocationId`, `flowInstanceId` and `lifecycleId` is given.
#[derive(InputObject)]
pub struct UpdateRunVariablesInput {
    flow_id: FlowId,
    flow_invocation_id: Option<String>,
    flow_instance_id: Option<RunId>,
    lifecycle_id: Option<LifecycleId>,
    /// Only runs of this customer.
    user_id: Option<String>,
    /// New values; variables that are not named stay.
    variables: JsonObject,
}

#[derive(SimpleObject)]
pub struct UpdateRunVariablesPayload {
    runs: usize,
    /// Open cards that came out different.
    cards: usize,
}

#[derive(Default)]
pub struct RunMutation;

#[Object]
impl RunMutation {
    /// Changes variables of runs and renders their open cards anew.
    async fn update_run_variables(
        &self,
        ctx: &Context<'_>,
        input: UpdateRunVariablesInput,
    ) -> Result<UpdateRunVariablesPayload> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, input.flow_id).await?;
        access.require_role(&[CredentialRole::Events])?;
        let chosen = match (input.flow_invocation_id, input.flow_instance_id, input.lifecycle_id) {
            (Some(invocation), None, None) => Chosen::Invocation(invocation),
            (None, Some(run), None) => Chosen::Run(run),
            (None, None, Some(lifecycle)) => Chosen::Lifecycle(lifecycle),
            _ => return Err(Error::invalid("", "give one of flowInvocationId, flowInstanceId and lifecycleId")),
        };
        let given = input.variables.into_value();
        let given = given.as_object().ok_or_else(|| Error::invalid("/variables", "must be an object"))?;
        let user_id = input.user_id.as_deref();
        let revised = flows::update_variables(app, &access, input.flow_id, &chosen, user_id, given).await?;
        Ok(UpdateRunVariablesPayload { runs: revised.runs, cards: revised.cards })
    }
}
