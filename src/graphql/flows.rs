//! Flows and runs in GraphQL.

use async_graphql::{Context, Enum, InputObject, Object, SimpleObject};

use super::connection::Connection;
use super::context::{app, viewer};
use super::requests::StepRequest;
use super::scalars::JsonObject;
use super::tasks::FlowTask;
use super::triggers::Trigger;
use crate::access::CredentialRole;
use crate::clock::Time;
use crate::db::page::PageRequest;
use crate::error::{Error, Result};
use crate::events::TriggerSource;
use crate::flows::{self, CardsOfRuns, Changes, Chosen, FlowFilter, NewFlow, RunFilter, StartRequest};
use crate::ids::{BatchId, CardId, CustomerId, EnvId, FlowId, LifecycleId, RunId, TriggerId};

#[derive(Default)]
pub struct FlowsQuery;

#[derive(Default)]
pub struct FlowsMutation;

/// What can be done with a flow now.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "crate::flows::State")]
pub enum FlowStatus {
    Draft,
    Published,
    Changed,
    Archived,
}

/// Where a run is.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "crate::flows::RunStatus")]
pub enum RunStatus {
    Running,
    Completed,
    Failed,
    Cancelled,
}

/// What became of one entry of a start request.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "crate::flows::EntryStatus")]
pub enum StartStatus {
    Accepted,
    Duplicate,
    Ignored,
    Rejected,
}

/// A versioned graph of steps that sends cards.
pub struct Flow(flows::FlowView);

impl Flow {
    pub(super) fn of(view: flows::FlowView) -> Flow {
        Flow(view)
    }
}

#[Object]
impl Flow {
    async fn id(&self) -> FlowId {
        self.0.flow.id
    }

    async fn environment_id(&self) -> EnvId {
        self.0.flow.environment_id
    }

    async fn name(&self) -> &str {
        &self.0.flow.name
    }

    async fn description(&self) -> &str {
        &self.0.flow.description
    }

    async fn metadata(&self) -> JsonObject {
        JsonObject::of(self.0.flow.metadata.clone())
    }

    async fn status(&self) -> FlowStatus {
        self.0.flow.status.into()
    }

    async fn published_version(&self) -> Option<i32> {
        self.0.flow.published_version
    }

    async fn draft_version(&self) -> Option<i32> {
        self.0.flow.draft_version
    }

    /// The draft, or the published definition where there is no draft.
    async fn definition(&self) -> JsonObject {
        JsonObject::of(self.0.definition.clone())
    }

    async fn triggers(&self) -> Vec<Trigger> {
        self.0.triggers.iter().cloned().map(Trigger).collect()
    }

    async fn created(&self) -> Time {
        self.0.flow.created_at
    }

    async fn updated(&self) -> Time {
        self.0.flow.updated_at
    }

    async fn revision(&self) -> i32 {
        self.0.flow.revision
    }
}

/// One execution of a flow for one customer.
pub struct Run(flows::RunView);

impl Run {
    pub(super) fn of(view: flows::RunView) -> Run {
        Run(view)
    }
}

#[Object]
impl Run {
    async fn id(&self) -> RunId {
        self.0.run.id
    }

    async fn flow_id(&self) -> FlowId {
        self.0.run.flow_id
    }

    async fn flow_version(&self) -> i32 {
        self.0.run.flow_version
    }

    async fn flow_invocation_id(&self) -> &str {
        &self.0.run.invocation
    }

    async fn lifecycle_id(&self) -> LifecycleId {
        self.0.run.lifecycle_id
    }

    async fn batch_id(&self) -> BatchId {
        self.0.run.batch_id
    }

    async fn user_id(&self) -> &str {
        &self.0.run.user_id
    }

    async fn customer_id(&self) -> CustomerId {
        self.0.run.customer_id
    }

    async fn status(&self) -> RunStatus {
        self.0.run.status.into()
    }

    async fn is_test(&self) -> bool {
        self.0.run.is_test
    }

    /// The steps that are finished, in that order.
    async fn steps(&self) -> Vec<RunStep> {
        self.0.steps.iter().map(RunStep::from).collect()
    }

    /// The steps that are reached and not finished, by key.
    async fn open_steps(&self) -> Vec<OpenStep> {
        self.0.open.iter().map(OpenStep::from).collect()
    }

    /// The requests of *send request* steps, oldest first.
    async fn requests(&self) -> Vec<StepRequest> {
        self.0.requests.iter().map(|(effect, attempts)| StepRequest::of(effect, attempts)).collect()
    }

    async fn started_at(&self) -> Time {
        self.0.run.started_at
    }

    async fn finished_at(&self) -> Option<Time> {
        self.0.run.finished_at
    }
}

/// A step that a run has reached and not finished.
#[derive(SimpleObject)]
pub struct OpenStep {
    key: String,
    /// `ready`, `waiting` or `retrying`.
    status: String,
    /// When it goes on by itself.
    wake_at: Time,
    /// The card whose events it waits for.
    waits_for_card: Option<CardId>,
    reached_at: Option<Time>,
}

impl From<&flows::OpenStep> for OpenStep {
    fn from(step: &flows::OpenStep) -> OpenStep {
        OpenStep {
            key: step.step_key.clone(),
            status: step.status.clone(),
            wake_at: step.wake_at,
            waits_for_card: step.wait_card,
            reached_at: step.reached_at,
        }
    }
}

/// A finished step of a run.
#[derive(SimpleObject)]
pub struct RunStep {
    key: String,
    #[graphql(name = "type")]
    kind: String,
    /// `completed` or `failed`.
    status: String,
    /// The named path on which the run went on.
    path: Option<String>,
    /// What the step was given, where its configuration does not say it already.
    input: Option<JsonObject>,
    output: JsonObject,
    /// Why it failed.
    message: Option<String>,
    started_at: Time,
    finished_at: Time,
}

impl From<&flows::FinishedStep> for RunStep {
    fn from(step: &flows::FinishedStep) -> RunStep {
        RunStep {
            key: step.step_key.clone(),
            kind: step.step_type.clone(),
            status: step.status.clone(),
            path: step.path.clone(),
            input: step.input.clone().map(JsonObject::of),
            output: JsonObject::of(step.output.clone()),
            message: step.message.clone(),
            started_at: step.started_at,
            finished_at: step.finished_at,
        }
    }
}

#[derive(InputObject)]
pub struct CreateFlowInput {
    environment_id: EnvId,
    name: String,
    description: Option<String>,
    metadata: Option<JsonObject>,
    /// Variables and steps; absent: an empty flow.
    definition: Option<JsonObject>,
}

/// Absent fields stay. A new definition goes to the draft.
#[derive(InputObject)]
pub struct UpdateFlowInput {
    id: FlowId,
    name: Option<String>,
    description: Option<String>,
    metadata: Option<JsonObject>,
    definition: Option<JsonObject>,
    expected_revision: Option<i32>,
}

#[derive(InputObject)]
pub struct PublishFlowInput {
    flow_id: FlowId,
    /// Segment triggers whose present members shall be started.
    start_for_current_members: Option<Vec<TriggerId>>,
    /// What runs in progress do; they stay on their version if nothing is said.
    #[graphql(default_with = "RunsInProgress::Stay")]
    runs_in_progress: RunsInProgress,
}

/// What runs in progress do when a new version of their flow is published.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "crate::flows::Followers")]
pub enum RunsInProgress {
    /// They end on the version with which they began.
    Stay,
    /// Those that can go on from where they are do so in the new version; the others stay.
    Move,
    Cancel,
}

/// What publishing the draft would mean for runs in progress.
#[derive(SimpleObject)]
pub struct FlowPublishPreview {
    waiting: Vec<WaitingRuns>,
    /// Runs that could not move to the draft.
    stranded_runs: i64,
}

/// Live runs that are at a step.
#[derive(SimpleObject)]
pub struct WaitingRuns {
    version: i32,
    step_key: String,
    runs: i64,
    /// Why they could not go on in the draft; absent where they can.
    stranded: Option<String>,
}

#[derive(InputObject)]
pub struct ArchiveFlowInput {
    flow_id: FlowId,
    /// Stops the runs in progress too.
    #[graphql(default)]
    cancel_runs: bool,
}

#[derive(InputObject)]
pub struct CloneFlowInput {
    flow_id: FlowId,
    /// Absent: `Copy of` and the name of the original.
    name: Option<String>,
}

#[derive(InputObject)]
pub struct StartFlowInput {
    flow_id: FlowId,
    /// The entries of a start request, as REST takes them.
    flows: Vec<JsonObject>,
}

/// Exactly one of `flowInvocationId` and `flowInstanceId` is given.
#[derive(InputObject)]
pub struct CancelRunsInput {
    flow_id: FlowId,
    flow_invocation_id: Option<String>,
    flow_instance_id: Option<RunId>,
    /// Cancels the open cards of the runs too.
    #[graphql(default)]
    cancel_cards: bool,
}

#[derive(SimpleObject)]
pub struct CreateFlowPayload {
    flow: Flow,
}

#[derive(SimpleObject)]
pub struct UpdateFlowPayload {
    flow: Flow,
}

#[derive(SimpleObject)]
pub struct PublishFlowPayload {
    version: i32,
    flow: Flow,
    /// What moves or cancels the runs in progress, where that was asked for.
    task: Option<FlowTask>,
}

#[derive(SimpleObject)]
pub struct ArchiveFlowPayload {
    flow: Flow,
}

#[derive(SimpleObject)]
pub struct CloneFlowPayload {
    flow: Flow,
}

#[derive(SimpleObject)]
pub struct DeleteFlowPayload {
    id: FlowId,
}

#[derive(SimpleObject)]
pub struct CancelRunsPayload {
    runs: usize,
    cards: usize,
}

/// The answer to a start request.
#[derive(SimpleObject)]
pub struct StartFlowPayload {
    batch_id: BatchId,
    flows: Vec<StartedEntry>,
}

/// The answer to one entry of a start request.
#[derive(SimpleObject)]
pub struct StartedEntry {
    flow_invocation_id: String,
    status: StartStatus,
    accepted: usize,
    duplicate: usize,
    ignored: usize,
    rejected: usize,
    errors: Vec<StartError>,
}

/// Why a customer, or a whole entry, was refused.
#[derive(SimpleObject)]
pub struct StartError {
    code: &'static str,
    detail: String,
    pointer: Option<String>,
    user_id: Option<String>,
}

impl From<flows::Started> for StartFlowPayload {
    fn from(started: flows::Started) -> StartFlowPayload {
        let error = |error: flows::EntryError| StartError {
            code: error.violation.code.word(),
            detail: error.violation.detail,
            pointer: error.violation.pointer,
            user_id: error.user_id,
        };
        let entry = |entry: flows::EntryOutcome| StartedEntry {
            status: entry.status().into(),
            flow_invocation_id: entry.invocation,
            accepted: entry.accepted,
            duplicate: entry.duplicate,
            ignored: entry.ignored,
            rejected: entry.rejected,
            errors: entry.errors.into_iter().map(error).collect(),
        };
        StartFlowPayload { batch_id: started.batch, flows: started.entries.into_iter().map(entry).collect() }
    }
}

#[Object]
impl FlowsQuery {
    async fn flow(&self, ctx: &Context<'_>, id: FlowId) -> Result<Flow> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, id).await?;
        flows::flow(app, &access, id).await.map(Flow)
    }

    /// The flows of an environment, newest first.
    async fn flows(
        &self,
        ctx: &Context<'_>,
        environment_id: EnvId,
        status: Option<FlowStatus>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<Connection<Flow>> {
        let access = viewer(ctx)?.access(environment_id)?;
        let page = PageRequest::<FlowId>::new(first, after.as_deref())?;
        let filter = FlowFilter::of(status.map(Into::into));
        let listed = flows::flows(app(ctx)?, &access, filter, &page).await?;
        Ok(Connection::of(listed, |view| view.flow.id, Flow))
    }

    /// Where live runs are now, and who could not move to the draft.
    async fn flow_publish_preview(&self, ctx: &Context<'_>, flow_id: FlowId) -> Result<FlowPublishPreview> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, flow_id).await?;
        let preview = flows::publish_preview(app, &access, flow_id).await?;
        let waiting = |runs: flows::WaitingRuns| WaitingRuns {
            version: runs.version,
            step_key: runs.step_key,
            runs: runs.runs,
            stranded: runs.stranded,
        };
        let waiting = preview.waiting.into_iter().map(waiting).collect();
        Ok(FlowPublishPreview { waiting, stranded_runs: preview.stranded_runs })
    }

    async fn flow_run(&self, ctx: &Context<'_>, id: RunId) -> Result<Run> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, id).await?;
        flows::run(app, &access, id).await.map(Run)
    }

    /// Runs, newest first; filters that are absent do not narrow.
    #[expect(clippy::too_many_arguments, reason = "the arguments of the field are its filters")]
    async fn flow_runs(
        &self,
        ctx: &Context<'_>,
        environment_id: EnvId,
        flow_id: Option<FlowId>,
        user_id: Option<String>,
        flow_invocation_id: Option<String>,
        status: Option<RunStatus>,
        is_test: Option<bool>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<Connection<Run>> {
        let access = viewer(ctx)?.access(environment_id)?;
        let page = PageRequest::<RunId>::new(first, after.as_deref())?;
        let status = status.map(Into::into);
        let filter = RunFilter { flow: flow_id, user_id, invocation: flow_invocation_id, status, is_test };
        let listed = flows::runs(app(ctx)?, &access, filter, &page).await?;
        Ok(Connection::of(listed, |view| view.run.id, Run))
    }
}

#[Object]
impl FlowsMutation {
    async fn create_flow(&self, ctx: &Context<'_>, input: CreateFlowInput) -> Result<CreateFlowPayload> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.access(input.environment_id)?;
        let new = NewFlow {
            name: input.name,
            description: input.description,
            metadata: input.metadata.map(JsonObject::into_value),
            definition: input.definition.map(JsonObject::into_value),
        };
        let flow = flows::create(app, &access, new).await?;
        Ok(CreateFlowPayload { flow: flows::flow(app, &access, flow.id).await.map(Flow)? })
    }

    async fn update_flow(&self, ctx: &Context<'_>, input: UpdateFlowInput) -> Result<UpdateFlowPayload> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, input.id).await?;
        let changes = Changes {
            name: input.name,
            description: input.description,
            metadata: input.metadata.map(JsonObject::into_value),
            definition: input.definition.map(JsonObject::into_value),
            expected_revision: input.expected_revision,
        };
        flows::update(app, &access, input.id, changes).await?;
        Ok(UpdateFlowPayload { flow: flows::flow(app, &access, input.id).await.map(Flow)? })
    }

    /// Puts the draft in force.
    async fn publish_flow(&self, ctx: &Context<'_>, input: PublishFlowInput) -> Result<PublishFlowPayload> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, input.flow_id).await?;
        if input.start_for_current_members.is_some_and(|triggers| !triggers.is_empty()) {
            return Err(Error::invalid("/startForCurrentMembers", "names a trigger that the flow does not have"));
        }
        let published = flows::publish(app, &access, input.flow_id, input.runs_in_progress.into()).await?;
        let task = match published.task {
            Some(task) => Some(flows::task(app, &access, task).await?.into()),
            None => None,
        };
        let flow = flows::flow(app, &access, published.flow.id).await.map(Flow)?;
        Ok(PublishFlowPayload { version: published.version, flow, task })
    }

    /// Retires a flow: nothing starts it any more.
    async fn archive_flow(&self, ctx: &Context<'_>, input: ArchiveFlowInput) -> Result<ArchiveFlowPayload> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, input.flow_id).await?;
        let runs = if input.cancel_runs { flows::RunsInProgress::Cancel } else { flows::RunsInProgress::GoOn };
        let flow = flows::archive(app, &access, input.flow_id, runs).await?;
        Ok(ArchiveFlowPayload { flow: flows::flow(app, &access, flow.id).await.map(Flow)? })
    }

    /// Copies a flow into a new draft.
    async fn clone_flow(&self, ctx: &Context<'_>, input: CloneFlowInput) -> Result<CloneFlowPayload> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, input.flow_id).await?;
        let flow = flows::clone(app, &access, input.flow_id, input.name).await?;
        Ok(CloneFlowPayload { flow: flows::flow(app, &access, flow.id).await.map(Flow)? })
    }

    async fn delete_flow(&self, ctx: &Context<'_>, id: FlowId) -> Result<DeleteFlowPayload> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, id).await?;
        flows::delete(app, &access, id).await?;
        Ok(DeleteFlowPayload { id })
    }

    /// Runs the drafts for one test user.
    async fn test_flow(
        &self,
        ctx: &Context<'_>,
        flow_id: FlowId,
        user_id: String,
        payload: Option<JsonObject>,
    ) -> Result<StartFlowPayload> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, flow_id).await?;
        let payload = payload.map(JsonObject::into_value);
        let request = StartRequest::for_customer(&user_id, payload.as_ref());
        let started = flows::test(app, &access, flow_id, &request, TriggerSource::Manual).await?;
        Ok(started.or_refusal()?.into())
    }

    /// Starts the published flow, like the REST endpoint, for API credentials of the role `events`.
    async fn start_flow(&self, ctx: &Context<'_>, input: StartFlowInput) -> Result<StartFlowPayload> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, input.flow_id).await?;
        access.require_role(&[CredentialRole::Events])?;
        let entries: Vec<_> = input.flows.into_iter().map(JsonObject::into_value).collect();
        let request = StartRequest::parse(&serde_json::json!({ "flows": entries }))?;
        let started = flows::start(app, &access, input.flow_id, request, TriggerSource::Api).await?;
        Ok(started.or_refusal()?.into())
    }

    /// Stops runs in progress.
    async fn cancel_runs(&self, ctx: &Context<'_>, input: CancelRunsInput) -> Result<CancelRunsPayload> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, input.flow_id).await?;
        let chosen = match (input.flow_invocation_id, input.flow_instance_id) {
            (Some(invocation), None) => Chosen::Invocation(invocation),
            (None, Some(run)) => Chosen::Run(run),
            _ => return Err(Error::invalid("", "give either flowInvocationId or flowInstanceId")),
        };
        let cards = if input.cancel_cards { CardsOfRuns::Cancel } else { CardsOfRuns::Stay };
        let cancelled = flows::cancel(app, &access, input.flow_id, chosen, cards).await?;
        Ok(CancelRunsPayload { runs: cancelled.runs, cards: cancelled.cards })
    }
}
