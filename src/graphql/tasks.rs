//! Starts of many customers in GraphQL: files, lists, and the tasks that carry them out.

use std::time::Duration;

use async_graphql::{Context, Enum, InputObject, Object, SimpleObject, Subscription, Upload};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use tokio_util::io::ReaderStream;

use super::connection::Connection;
use super::context::{app, viewer};
use super::flows::Flow;
use super::scalars::JsonObject;
use crate::access::Access;
use crate::app::App;
use crate::clock::Time;
use crate::db::page::PageRequest;
use crate::error::{Error, Result};
use crate::flows::{self, Incoming, Purpose, TaskStatus};
use crate::ids::{EnvId, FlowId, TaskId};

#[derive(Default)]
pub struct TasksQuery;

#[derive(Default)]
pub struct TasksMutation;

#[derive(Default)]
pub struct TasksSubscription;

/// How often progress is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// What a task does.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "crate::flows::TaskKind")]
pub enum FlowTaskKind {
    /// Starts the rows of a file.
    Csv,
    /// Starts the customers of a list.
    Manual,
    /// Moves runs to a version that was published.
    Move,
    /// Cancels the runs of earlier versions.
    Cancel,
}

/// How far a task is.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
pub enum FlowTaskStatus {
    Pending,
    Processing,
    Complete,
    Failed,
}

impl From<TaskStatus> for FlowTaskStatus {
    fn from(status: TaskStatus) -> FlowTaskStatus {
        match status {
            TaskStatus::Receiving | TaskStatus::Pending => FlowTaskStatus::Pending,
            TaskStatus::Processing => FlowTaskStatus::Processing,
            TaskStatus::Complete => FlowTaskStatus::Complete,
            TaskStatus::Failed => FlowTaskStatus::Failed,
        }
    }
}

/// Something that is done to many customers, or many runs of a flow, in the background.
#[derive(SimpleObject)]
pub struct FlowTask {
    id: TaskId,
    environment_id: EnvId,
    /// Absent where each row names its flow.
    flow_id: Option<FlowId>,
    kind: FlowTaskKind,
    is_test: bool,
    status: FlowTaskStatus,
    /// Rows of the file, customers of the list, or runs looked at so far.
    rows_total: i64,
    /// Rows for which a run began; runs that were moved or cancelled.
    rows_accepted: i64,
    /// Customers who may not get tests, who do not exist, or for whom the invocation has started a run before.
    rows_ignored: i64,
    /// Rows that could not be started; runs that could not be moved.
    rows_rejected: i64,
    /// `{row, message}`; the first ones.
    errors: Vec<JsonObject>,
    created: Time,
    finished_at: Option<Time>,
}

impl From<flows::Task> for FlowTask {
    fn from(task: flows::Task) -> FlowTask {
        FlowTask {
            status: task.status.into(),
            kind: task.kind.into(),
            errors: task.errors.as_array().into_iter().flatten().cloned().map(JsonObject::of).collect(),
            id: task.id,
            environment_id: task.environment_id,
            flow_id: task.flow_id,
            is_test: task.is_test,
            rows_total: task.rows_total,
            rows_accepted: task.rows_accepted,
            rows_ignored: task.rows_ignored,
            rows_rejected: task.rows_rejected,
            created: task.created_at,
            finished_at: task.finished_at,
        }
    }
}

/// Whom a manual start would reach.
#[derive(SimpleObject)]
pub struct ManualStartPreview {
    /// Those of the customers who exist.
    count: i64,
    limit: usize,
    exceeds_limit: bool,
}

#[derive(InputObject)]
pub struct StartFlowForCustomersInput {
    flow_id: FlowId,
    /// The ids by which the customers are known.
    customer_ids: Vec<String>,
}

#[derive(InputObject)]
pub struct BulkStartFlowInput {
    flow_id: FlowId,
    /// A CSV file, as the REST endpoint takes it.
    csv: Upload,
    #[graphql(default)]
    is_test: bool,
}

#[derive(InputObject)]
pub struct SendTestBatchInput {
    environment_id: EnvId,
    /// A CSV file with the further column `flowConfigId`.
    csv: Upload,
}

#[derive(SimpleObject)]
pub struct StartFlowForCustomersPayload {
    task: FlowTask,
}

#[derive(SimpleObject)]
pub struct BulkStartFlowPayload {
    task: FlowTask,
}

#[derive(SimpleObject)]
pub struct SendTestBatchPayload {
    task: FlowTask,
}

#[derive(SimpleObject)]
pub struct CancelFlowTaskPayload {
    task: FlowTask,
}

/// The bytes of an uploaded file, as they are asked for.
fn incoming(upload: Upload, ctx: &Context<'_>) -> Result<Incoming> {
    let file = upload.value(ctx).map_err(Error::internal)?.content;
    Ok(ReaderStream::new(tokio::fs::File::from_std(file)).map_err(Error::internal).boxed())
}

#[Object]
impl TasksQuery {
    /// Counts those of the customers whom a manual start would reach.
    async fn manual_start_preview(
        &self,
        ctx: &Context<'_>,
        environment_id: EnvId,
        customer_ids: Vec<String>,
    ) -> Result<ManualStartPreview> {
        let access = viewer(ctx)?.access(environment_id)?;
        let preview = flows::preview(app(ctx)?, &access, &customer_ids).await?;
        let flows::Preview { count, limit } = preview;
        let exceeds_limit = usize::try_from(count).unwrap_or(0).max(customer_ids.len()) > limit;
        Ok(ManualStartPreview { count, limit, exceeds_limit })
    }

    /// The flows that can be started by hand: those that are published, newest first.
    async fn startable_flows(
        &self,
        ctx: &Context<'_>,
        environment_id: EnvId,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<Connection<Flow>> {
        let access = viewer(ctx)?.access(environment_id)?;
        let page = PageRequest::<FlowId>::new(first, after.as_deref())?;
        let listed = flows::startable(app(ctx)?, &access, &page).await?;
        Ok(Connection::of(listed, |view| view.flow.id, Flow::of))
    }

    /// The tasks of an environment, newest first; of one flow where one is named.
    async fn flow_tasks(
        &self,
        ctx: &Context<'_>,
        environment_id: EnvId,
        flow_id: Option<FlowId>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<Connection<FlowTask>> {
        let access = viewer(ctx)?.access(environment_id)?;
        let page = PageRequest::<TaskId>::new(first, after.as_deref())?;
        let listed = flows::tasks(app(ctx)?, &access, flow_id, &page).await?;
        Ok(Connection::of(listed, |task| task.id, FlowTask::from))
    }

    async fn flow_task(&self, ctx: &Context<'_>, id: TaskId) -> Result<FlowTask> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, id).await?;
        Ok(flows::task(app, &access, id).await?.into())
    }
}

#[Object]
impl TasksMutation {
    /// Starts a published flow in the background, for customers who exist.
    async fn start_flow_for_customers(
        &self,
        ctx: &Context<'_>,
        input: StartFlowForCustomersInput,
    ) -> Result<StartFlowForCustomersPayload> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, input.flow_id).await?;
        let task = flows::start_for_customers(app, &access, input.flow_id, &input.customer_ids).await?;
        Ok(StartFlowForCustomersPayload { task: flows::task(app, &access, task).await?.into() })
    }

    /// Starts the rows of a CSV file in the background.
    async fn bulk_start_flow(&self, ctx: &Context<'_>, input: BulkStartFlowInput) -> Result<BulkStartFlowPayload> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, input.flow_id).await?;
        let purpose = if input.is_test { Purpose::Test(input.flow_id) } else { Purpose::Live(input.flow_id) };
        let task = flows::start_from_csv(app, &access, purpose, incoming(input.csv, ctx)?).await?;
        Ok(BulkStartFlowPayload { task: flows::task(app, &access, task).await?.into() })
    }

    /// Sends tests of the flows that the rows of a CSV file name.
    async fn send_test_batch(&self, ctx: &Context<'_>, input: SendTestBatchInput) -> Result<SendTestBatchPayload> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.access(input.environment_id)?;
        let task = flows::start_from_csv(app, &access, Purpose::TestSender, incoming(input.csv, ctx)?).await?;
        Ok(SendTestBatchPayload { task: flows::task(app, &access, task).await?.into() })
    }

    /// Stops a task. What it has started goes on.
    async fn cancel_flow_task(&self, ctx: &Context<'_>, id: TaskId) -> Result<CancelFlowTaskPayload> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, id).await?;
        flows::cancel_task(app, &access, id).await?;
        Ok(CancelFlowTaskPayload { task: flows::task(app, &access, id).await?.into() })
    }
}

#[Subscription]
impl TasksSubscription {
    /// The state of a task now, whenever it has changed, and at its end.
    async fn task_progress(
        &self,
        ctx: &Context<'_>,
        task_id: TaskId,
    ) -> Result<impl Stream<Item = async_graphql::Result<FlowTask>> + 'static> {
        let app = app(ctx)?.clone();
        let access = viewer(ctx)?.locate(&app, task_id).await?;
        flows::task(&app, &access, task_id).await?;
        let follow = Following { app, access, id: task_id, told: None };
        Ok(stream::unfold(Some(follow), async |follow| follow?.next().await))
    }
}

/// Follows one task. It is looked at now and then: a task changes many times a second, and nobody reads that fast.
struct Following {
    app: App,
    access: Access,
    id: TaskId,
    /// What was said last.
    told: Option<(i64, TaskStatus)>,
}

impl Following {
    async fn next(mut self) -> Option<(async_graphql::Result<FlowTask>, Option<Following>)> {
        if self.told.is_some_and(|(_, status)| status.over()) {
            return None;
        }
        loop {
            let task = match flows::task(&self.app, &self.access, self.id).await {
                Ok(task) => task,
                Err(error) => return Some((Err(error.into()), None)),
            };
            let now = (task.rows_accepted + task.rows_ignored + task.rows_rejected, task.status);
            if self.told != Some(now) {
                self.told = Some(now);
                return Some((Ok(task.into()), Some(self)));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
