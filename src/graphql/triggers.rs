//! Triggers of flows, their samples and mappings (specification 9.10).

use async_graphql::{ComplexObject, Context, Enum, InputObject, MaybeUndefined, Object, SimpleObject, Subscription};
use futures_util::{Stream, TryStreamExt};

use super::context::{app, viewer};
use super::scalars::{Json, JsonObject};
use crate::clock::Time;
use crate::error::Result;
use crate::flows;
use crate::ids::{EnvId, EventId, FlowId, TemplateId, TriggerId, TriggerRequestId};
use crate::triggers::edit::{self, Kind, Settings};
use crate::triggers::event::{self, outcome};
use crate::triggers::mapping::Problem;
use crate::triggers::shape::{self, Check};
use crate::triggers::{follow, mode, replay, request_log, sample};

#[derive(Default)]
pub struct TriggersQuery;

#[derive(Default)]
pub struct TriggersMutation;

#[derive(Default)]
pub struct TriggersSubscription;

/// Something that starts a flow.
pub struct Trigger(pub flows::Trigger);

/// A mode that members choose; `paused` is chosen by the server alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "crate::triggers::mode::Mode")]
pub enum TriggerMode {
    Test,
    Live,
    Disabled,
}

/// What of a live request is compared with the sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "crate::triggers::shape::Check")]
pub enum TriggerShapeCheck {
    Mapped,
    Strict,
    Off,
}

#[Object]
impl Trigger {
    async fn id(&self) -> TriggerId {
        self.0.id
    }

    async fn environment_id(&self) -> EnvId {
        self.0.environment_id
    }

    async fn flow_id(&self) -> FlowId {
        self.0.flow_id
    }

    async fn kind(&self) -> &str {
        &self.0.kind
    }

    /// `test`, `live`, `paused` or `disabled`.
    async fn mode(&self) -> &str {
        &self.0.mode
    }

    async fn name(&self) -> &str {
        &self.0.name
    }

    /// Where requests are posted; of webhook triggers only.
    async fn url(&self, ctx: &Context<'_>) -> Result<Option<String>> {
        let origin = app(ctx)?.origin().as_str().trim_end_matches('/');
        Ok((self.0.kind == "webhook").then(|| format!("{origin}/hooks/{}", self.0.id)))
    }

    async fn mapping(&self) -> JsonObject {
        JsonObject::of(self.0.mapping.clone())
    }

    async fn shape_check(&self) -> TriggerShapeCheck {
        Check::parse(&self.0.shape_check).into()
    }

    async fn allowed_addresses(&self) -> &[String] {
        &self.0.allowed_addresses
    }

    /// How requests are signed, without the secret.
    async fn verification(&self) -> Option<JsonObject> {
        self.0.verification.clone().map(JsonObject::of)
    }

    async fn sample(&self) -> Option<Json> {
        self.0.sample.clone().map(Json)
    }

    async fn sample_headers(&self) -> JsonObject {
        JsonObject::of(self.0.sample_headers.clone())
    }

    async fn sample_at(&self) -> Option<Time> {
        self.0.sample_at
    }

    /// Until then the next request becomes the sample.
    async fn capture_until(&self, ctx: &Context<'_>) -> Result<Option<Time>> {
        let now = app(ctx)?.clock().now();
        Ok(self.0.capture_until.filter(|until| *until > now))
    }

    async fn paused_at(&self) -> Option<Time> {
        self.0.paused_at
    }

    async fn paused_reason(&self) -> Option<&str> {
        self.0.paused_reason.as_deref()
    }

    /// Paths and types of the request that paused the trigger.
    async fn paused_shape(&self) -> Option<JsonObject> {
        self.0.paused_shape.clone().map(JsonObject::of)
    }

    /// The type of event that fires an event trigger.
    async fn event_name(&self) -> Option<&str> {
        self.0.event_name.as_deref()
    }

    /// What must hold of the envelope of an event besides.
    #[graphql(name = "where")]
    async fn condition(&self) -> Option<JsonObject> {
        self.0.condition.clone().map(JsonObject::of)
    }

    /// The template whose cards an event must concern.
    async fn card_template_id(&self) -> Option<TemplateId> {
        self.0.event_template_id
    }

    /// The flow from which an event must stem.
    async fn action_flow_config_id(&self) -> Option<FlowId> {
        self.0.event_flow_id
    }

    /// The last 50 events that an event trigger was asked about, newest first; of one outcome, where one is named.
    async fn recent_events(&self, ctx: &Context<'_>, outcome: Option<String>) -> Result<Vec<TriggerEvent>> {
        let access = viewer(ctx)?.access(self.0.environment_id)?;
        let entries = outcome::recent(app(ctx)?, &access, self.0.id, outcome.as_deref()).await?;
        Ok(entries.into_iter().map(TriggerEvent::from).collect())
    }

    /// The last 50 requests, newest first.
    async fn recent_requests(&self, ctx: &Context<'_>) -> Result<Vec<TriggerRequest>> {
        let access = viewer(ctx)?.access(self.0.environment_id)?;
        let entries = request_log::recent(app(ctx)?, &access, self.0.id).await?;
        Ok(entries.into_iter().map(TriggerRequest::from).collect())
    }

    async fn created(&self) -> Time {
        self.0.created_at
    }

    async fn updated(&self) -> Time {
        self.0.updated_at
    }

    async fn revision(&self) -> i32 {
        self.0.revision
    }
}

/// A request to the URL of a trigger, and what became of it.
#[derive(SimpleObject)]
pub struct TriggerRequest {
    id: TriggerRequestId,
    time: Time,
    /// The HTTP status that was answered.
    status: i32,
    /// The code of a refusal.
    code: Option<String>,
    /// Why it was refused.
    detail: Option<String>,
    size: i32,
    address: String,
    flow_invocation_id: Option<String>,
    /// What was sent is kept, for seven days, and can be replayed.
    replayable: bool,
    replayed_at: Option<Time>,
}

impl From<request_log::Entry> for TriggerRequest {
    fn from(entry: request_log::Entry) -> TriggerRequest {
        TriggerRequest {
            id: entry.id,
            replayable: entry.kept.is_some(),
            replayed_at: entry.replayed_at,
            time: entry.at,
            status: i32::from(entry.status),
            code: entry.code,
            detail: entry.detail,
            size: entry.bytes,
            address: entry.address,
            flow_invocation_id: entry.invocation,
        }
    }
}

/// An event that an event trigger was asked about, and what became of it.
#[derive(SimpleObject)]
pub struct TriggerEvent {
    time: Time,
    event_id: EventId,
    /// `started`, `duplicate`, `ignored` (a test event of somebody who may not get tests), `condition` (it did not hold),
    /// `own-flow`, `hop-limit`, `disabled`, `gone`, `failed`, or the code of a refusal.
    outcome: String,
    detail: Option<String>,
    flow_invocation_id: Option<String>,
}

impl From<outcome::Entry> for TriggerEvent {
    fn from(entry: outcome::Entry) -> TriggerEvent {
        TriggerEvent {
            time: entry.at,
            event_id: entry.event_id,
            outcome: entry.outcome,
            detail: entry.detail,
            flow_invocation_id: entry.invocation,
        }
    }
}

/// What is wrong with a mapping, and where.
#[derive(SimpleObject)]
pub struct MappingError {
    /// A JSON Pointer into the mapped request.
    path: Option<String>,
    message: String,
    /// Of a script, counted from 1.
    line: Option<i32>,
    column: Option<i32>,
}

impl From<Problem> for MappingError {
    fn from(problem: Problem) -> MappingError {
        let number = |number: Option<u32>| number.and_then(|number| i32::try_from(number).ok());
        MappingError {
            path: problem.path,
            message: problem.message,
            line: number(problem.line),
            column: number(problem.column),
        }
    }
}

/// A property of a sample that a mapping can read.
#[derive(SimpleObject)]
pub struct MappableProperty {
    /// JSONPath.
    path: String,
    #[graphql(name = "type")]
    kind: &'static str,
    example: Json,
}

/// The kinds of triggers that members make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "crate::triggers::edit::Kind")]
pub enum TriggerKind {
    Webhook,
    Event,
}

#[derive(InputObject)]
pub struct CreateTriggerInput {
    pub flow_id: FlowId,
    /// `WEBHOOK` where nothing is said.
    pub kind: Option<TriggerKind>,
    pub name: Option<String>,
    pub mapping: Option<JsonObject>,
    pub shape_check: Option<TriggerShapeCheck>,
    /// Addresses and ranges; an empty list admits every address.
    pub allowed_addresses: Option<Vec<String>>,
    pub verification: Option<JsonObject>,
    /// The type of event that fires an event trigger: a name of the catalogue, or `custom:` and the name of a custom event.
    pub event_name: Option<String>,
    /// A condition over the envelope of the event, such as `{"value":"properties.total","op":"gt","to":100}`.
    #[graphql(name = "where")]
    pub condition: Option<JsonObject>,
    /// Only events of cards of this template.
    pub card_template_id: Option<TemplateId>,
    /// Only events that stem from this flow.
    pub action_flow_config_id: Option<FlowId>,
}

#[derive(InputObject)]
pub struct UpdateTriggerInput {
    pub id: TriggerId,
    pub expected_revision: Option<i32>,
    pub name: Option<String>,
    pub mapping: Option<JsonObject>,
    pub shape_check: Option<TriggerShapeCheck>,
    pub allowed_addresses: Option<Vec<String>>,
    /// Null takes the verification away. Without a secret the one there is stays.
    pub verification: MaybeUndefined<JsonObject>,
    pub event_name: Option<String>,
    /// Null takes the condition away.
    #[graphql(name = "where")]
    pub condition: MaybeUndefined<JsonObject>,
    /// Null admits every template.
    pub card_template_id: MaybeUndefined<TemplateId>,
    /// Null admits every flow.
    pub action_flow_config_id: MaybeUndefined<FlowId>,
}

/// An input that may be absent, null, or a value.
fn change<T>(input: MaybeUndefined<T>) -> Option<Option<T>> {
    match input {
        MaybeUndefined::Undefined => None,
        MaybeUndefined::Null => Some(None),
        MaybeUndefined::Value(value) => Some(Some(value)),
    }
}

#[derive(InputObject)]
pub struct SetTriggerModeInput {
    pub id: TriggerId,
    pub mode: TriggerMode,
}

#[derive(InputObject)]
pub struct SetTriggerSampleInput {
    pub id: TriggerId,
    pub sample: Json,
}

#[derive(InputObject)]
pub struct PreviewMappingInput {
    /// Where it is tried.
    pub environment_id: EnvId,
    /// The body of a request, or the envelope of an event.
    pub sample: Json,
    pub mapping: JsonObject,
    pub headers: Option<JsonObject>,
    /// `WEBHOOK` where nothing is said.
    pub kind: Option<TriggerKind>,
}

/// A saved trigger, and what its author should know.
#[derive(SimpleObject)]
#[graphql(complex)]
pub struct TriggerPayload {
    trigger: Trigger,
}

#[ComplexObject]
impl TriggerPayload {
    /// What is wrong with the mapping on the sample, and advice for triggers that are live.
    async fn warnings(&self, ctx: &Context<'_>) -> Result<Vec<MappingError>> {
        let trigger = &self.trigger.0;
        let mut warnings: Vec<MappingError> =
            sample::warnings(app(ctx)?, trigger).await?.into_iter().map(MappingError::from).collect();
        if trigger.mode == "live" {
            let message = "the trigger is live: switch it to test mode before you edit it".to_owned();
            warnings.push(MappingError { path: None, message, line: None, column: None });
        }
        Ok(warnings)
    }
}

impl From<flows::Trigger> for TriggerPayload {
    fn from(trigger: flows::Trigger) -> TriggerPayload {
        TriggerPayload { trigger: Trigger(trigger) }
    }
}

#[derive(SimpleObject)]
pub struct DeleteTriggerPayload {
    id: TriggerId,
}

/// A mapped sample, or what is wrong.
#[derive(SimpleObject)]
pub struct PreviewMappingPayload {
    output: Option<Json>,
    errors: Vec<MappingError>,
}

#[derive(InputObject)]
pub struct ReplayTriggerRequestInput {
    pub trigger_id: TriggerId,
    pub request_id: TriggerRequestId,
}

/// What a replay started.
#[derive(SimpleObject)]
pub struct ReplayTriggerRequestPayload {
    flow_invocation_id: Option<String>,
    accepted: i32,
    /// Customers for whom this invocation has started a run before.
    duplicate: i32,
    /// Customers who may not get tests.
    ignored: i32,
}

/// What a test started.
#[derive(SimpleObject)]
pub struct TestTriggerPayload {
    flow_invocation_id: Option<String>,
    accepted: i32,
    /// Customers who may not get tests.
    ignored: i32,
}

#[Object]
impl TriggersQuery {
    async fn trigger(&self, ctx: &Context<'_>, id: TriggerId) -> Result<Trigger> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, id).await?;
        edit::read(app, &access, id).await.map(Trigger)
    }

    /// What a mapping can read of a sample: the first 200 properties.
    async fn mappable_properties(
        &self,
        ctx: &Context<'_>,
        environment_id: EnvId,
        sample: Json,
    ) -> Result<Vec<MappableProperty>> {
        let access = viewer(ctx)?.access(environment_id)?;
        let wrap =
            |one: shape::Property| MappableProperty { path: one.path, kind: one.kind, example: Json(one.example) };
        Ok(sample::properties(&access, &sample.0)?.into_iter().map(wrap).collect())
    }

    /// The preset `Default`: the script that new mappings begin with.
    async fn default_mapping_script(&self, ctx: &Context<'_>, environment_id: EnvId) -> Result<&'static str> {
        sample::preset(&viewer(ctx)?.access(environment_id)?)
    }

    /// Maps a sample without starting anything.
    async fn preview_mapping(&self, ctx: &Context<'_>, input: PreviewMappingInput) -> Result<PreviewMappingPayload> {
        let access = viewer(ctx)?.access(input.environment_id)?;
        let headers = input.headers.map_or_else(|| serde_json::json!({}), JsonObject::into_value);
        let mapping = input.mapping.into_value();
        let kind = input.kind.map_or(Kind::Webhook, Into::into);
        let trial = sample::Trial { kind, mapping: &mapping, sample: &input.sample.0, headers: &headers };
        Ok(match sample::preview(app(ctx)?, &access, trial).await? {
            Ok(output) => PreviewMappingPayload { output: Some(Json(output)), errors: Vec::new() },
            Err(problems) => {
                let errors = problems.into_iter().map(MappingError::from).collect();
                PreviewMappingPayload { output: None, errors }
            }
        })
    }
}

#[Object]
impl TriggersMutation {
    /// Makes a webhook trigger in test mode, or an event trigger, which is disabled until it is set live.
    async fn create_trigger(&self, ctx: &Context<'_>, input: CreateTriggerInput) -> Result<TriggerPayload> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, input.flow_id).await?;
        let settings = Settings {
            name: input.name,
            mapping: input.mapping.map(JsonObject::into_value),
            shape_check: input.shape_check.map(Into::into),
            allowed_addresses: input.allowed_addresses,
            verification: input.verification.map(|settings| Some(settings.into_value())),
            event: event::Settings {
                event_name: input.event_name,
                condition: input.condition.map(|condition| Some(condition.into_value())),
                template: input.card_template_id.map(Some),
                flow: input.action_flow_config_id.map(Some),
            },
            expected_revision: None,
        };
        let kind = input.kind.map_or(Kind::Webhook, Into::into);
        edit::create(app, &access, input.flow_id, kind, settings).await.map(Into::into)
    }

    async fn update_trigger(&self, ctx: &Context<'_>, input: UpdateTriggerInput) -> Result<TriggerPayload> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, input.id).await?;
        let settings = Settings {
            name: input.name,
            mapping: input.mapping.map(JsonObject::into_value),
            shape_check: input.shape_check.map(Into::into),
            allowed_addresses: input.allowed_addresses,
            verification: change(input.verification).map(|settings| settings.map(JsonObject::into_value)),
            event: event::Settings {
                event_name: input.event_name,
                condition: change(input.condition).map(|condition| condition.map(JsonObject::into_value)),
                template: change(input.card_template_id),
                flow: change(input.action_flow_config_id),
            },
            expected_revision: input.expected_revision,
        };
        edit::update(app, &access, input.id, settings).await.map(Into::into)
    }

    /// Switches a trigger to another mode. To go live the flow must be published and the mapping must do with the sample.
    async fn set_trigger_mode(&self, ctx: &Context<'_>, input: SetTriggerModeInput) -> Result<TriggerPayload> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, input.id).await?;
        mode::set(app, &access, input.id, input.mode.into()).await.map(Into::into)
    }

    /// Puts a paused trigger back to work.
    async fn reactivate_trigger(&self, ctx: &Context<'_>, id: TriggerId) -> Result<TriggerPayload> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, id).await?;
        mode::reactivate(app, &access, id).await.map(Into::into)
    }

    /// Deletes a disabled trigger.
    async fn delete_trigger(&self, ctx: &Context<'_>, id: TriggerId) -> Result<DeleteTriggerPayload> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, id).await?;
        edit::delete(app, &access, id).await?;
        Ok(DeleteTriggerPayload { id })
    }

    /// Stores a pasted sample.
    async fn set_trigger_sample(&self, ctx: &Context<'_>, input: SetTriggerSampleInput) -> Result<TriggerPayload> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, input.id).await?;
        sample::set(app, &access, input.id, input.sample.0).await.map(Into::into)
    }

    /// Lets the next request within 10 minutes become the sample.
    async fn arm_trigger_capture(&self, ctx: &Context<'_>, trigger_id: TriggerId) -> Result<TriggerPayload> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, trigger_id).await?;
        sample::arm(app, &access, trigger_id).await.map(Into::into)
    }

    async fn cancel_trigger_capture(&self, ctx: &Context<'_>, trigger_id: TriggerId) -> Result<TriggerPayload> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, trigger_id).await?;
        sample::cancel_capture(app, &access, trigger_id).await.map(Into::into)
    }

    /// Starts the flow's draft with the saved mapping of the saved sample, for test users only.
    async fn test_trigger(&self, ctx: &Context<'_>, trigger_id: TriggerId) -> Result<TestTriggerPayload> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, trigger_id).await?;
        let started = sample::test(app, &access, trigger_id).await?;
        let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        Ok(TestTriggerPayload {
            accepted: number(started.entries.iter().map(|entry| entry.accepted).sum()),
            ignored: number(started.entries.iter().map(|entry| entry.ignored).sum()),
            flow_invocation_id: started.entries.into_iter().next().map(|entry| entry.invocation),
        })
    }

    /// Starts the flow with a request that the log keeps, through the present mapping: live runs of a live trigger, test
    /// runs of one in test mode. It starts nothing twice.
    async fn replay_trigger_request(
        &self,
        ctx: &Context<'_>,
        input: ReplayTriggerRequestInput,
    ) -> Result<ReplayTriggerRequestPayload> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, input.trigger_id).await?;
        let started = replay::replay(app, &access, input.trigger_id, input.request_id).await?;
        let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        Ok(ReplayTriggerRequestPayload {
            accepted: number(started.entries.iter().map(|entry| entry.accepted).sum()),
            duplicate: number(started.entries.iter().map(|entry| entry.duplicate).sum()),
            ignored: number(started.entries.iter().map(|entry| entry.ignored).sum()),
            flow_invocation_id: started.entries.into_iter().next().map(|entry| entry.invocation),
        })
    }
}

#[Subscription]
impl TriggersSubscription {
    /// The trigger whenever a request has become its sample.
    async fn trigger_sample_captured(
        &self,
        ctx: &Context<'_>,
        trigger_id: TriggerId,
    ) -> Result<impl Stream<Item = async_graphql::Result<Trigger>> + use<>> {
        let app = app(ctx)?;
        let access = viewer(ctx)?.locate(app, trigger_id).await?;
        let followed = follow::captures(app, &access, trigger_id).await?;
        Ok(followed.map_ok(Trigger).map_err(Into::into))
    }

    /// Each trigger of the environment that the server pauses, with the reason.
    async fn trigger_paused(
        &self,
        ctx: &Context<'_>,
        environment_id: EnvId,
    ) -> Result<impl Stream<Item = async_graphql::Result<Trigger>> + use<>> {
        let access = viewer(ctx)?.access(environment_id)?;
        let followed = follow::pauses(app(ctx)?, &access).await?;
        Ok(followed.map_ok(Trigger).map_err(Into::into))
    }
}
