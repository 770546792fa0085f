//! Card templates and their versions in GraphQL.

use async_graphql::{Context, Enum, InputObject, Object, SimpleObject};

use super::connection::Connection;
use super::context::{app, viewer};
use super::scalars::{Json, JsonObject};
use crate::cards::template::{self, TemplateState};
use crate::cards::version::{self, Sample};
use crate::clock::Time;
use crate::db::page::PageRequest;
use crate::error::Result;
use crate::ids::{EnvId, StreamId, TemplateId};

/// What can be done with a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "TemplateState")]
pub enum CardTemplateState {
    /// Never published, editable.
    Draft,
    /// The draft is locked until it is approved, rejected or taken back.
    AwaitingApproval,
    /// All approvals are given; not yet published.
    Approved,
    /// The latest version is published and there is no newer draft.
    Published,
    /// Published, and a newer draft exists.
    Changed,
    /// Not usable in new runs; open cards stay.
    Archived,
}

/// What can be done with a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum CardTemplateVersionState {
    Draft,
    AwaitingApproval,
    Approved,
    Published,
    Superseded,
}

/// The versioned definition of a card.
pub struct CardTemplate(pub template::Template);

#[Object]
impl CardTemplate {
    async fn id(&self) -> TemplateId {
        self.0.id
    }

    async fn name(&self) -> &str {
        &self.0.name
    }

    async fn state(&self) -> CardTemplateState {
        self.0.state.into()
    }

    /// The version in force for live runs.
    async fn published_version(&self) -> Option<i32> {
        self.0.published_version
    }

    /// The version that is being edited.
    async fn draft_version(&self) -> Option<i32> {
        self.0.draft_version
    }

    /// The content of the draft, or of the published version where no draft exists.
    async fn content(&self, ctx: &Context<'_>) -> Result<JsonObject> {
        let access = viewer(ctx)?.access(self.0.environment_id)?;
        let version = version::view(app(ctx)?, &access, self.0.id, self.0.latest_version()).await?;
        Ok(JsonObject::of(version.content))
    }

    /// The versions, newest first; at most 200.
    async fn versions(&self, ctx: &Context<'_>) -> Result<Vec<CardTemplateVersion>> {
        let access = viewer(ctx)?.access(self.0.environment_id)?;
        let versions = version::list(app(ctx)?, &access, self.0.id).await?;
        Ok(versions.into_iter().map(CardTemplateVersion).collect())
    }

    /// One version.
    async fn version(&self, ctx: &Context<'_>, version: i32) -> Result<CardTemplateVersion> {
        let access = viewer(ctx)?.access(self.0.environment_id)?;
        version::view(app(ctx)?, &access, self.0.id, version).await.map(CardTemplateVersion)
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

/// A version of a card template; what was published never changes.
pub struct CardTemplateVersion(version::Version);

#[Object]
impl CardTemplateVersion {
    async fn version(&self) -> i32 {
        self.0.version
    }

    async fn state(&self) -> CardTemplateVersionState {
        match self.0.state.as_str() {
            "awaiting-approval" => CardTemplateVersionState::AwaitingApproval,
            "approved" => CardTemplateVersionState::Approved,
            "published" => CardTemplateVersionState::Published,
            "superseded" => CardTemplateVersionState::Superseded,
            _ => CardTemplateVersionState::Draft,
        }
    }

    async fn name(&self) -> &str {
        &self.0.name
    }

    async fn content(&self) -> JsonObject {
        JsonObject::of(self.0.content.clone())
    }

    async fn published(&self) -> Option<Time> {
        self.0.published_at
    }

    async fn created(&self) -> Time {
        self.0.created_at
    }

    async fn updated(&self) -> Time {
        self.0.updated_at
    }
}

#[derive(InputObject)]
pub struct CreateCardTemplateInput {
    environment_id: EnvId,
    name: String,
    content: JsonObject,
}

#[derive(InputObject)]
pub struct UpdateCardTemplateInput {
    id: TemplateId,
    name: Option<String>,
    content: Option<JsonObject>,
    expected_revision: Option<i32>,
}

#[derive(InputObject)]
pub struct PublishCardTemplateInput {
    template_id: TemplateId,
    expected_revision: Option<i32>,
}

#[derive(InputObject)]
pub struct ArchiveCardTemplateInput {
    template_id: TemplateId,
    expected_revision: Option<i32>,
}

#[derive(InputObject)]
pub struct PreviewCardInput {
    template_id: TemplateId,
    /// Values for variables by name.
    variables: Option<JsonObject>,
    /// What a customer's profile would hold.
    profile: Option<JsonObject>,
}

#[derive(SimpleObject)]
pub struct CardTemplatePayload {
    card_template: CardTemplate,
}

#[derive(SimpleObject)]
pub struct DeleteCardTemplatePayload {
    id: TemplateId,
}

/// A card as apps would get it.
#[derive(SimpleObject)]
pub struct CardPreview {
    top_card: Json,
    subviews: Json,
    actions: Json,
    runtime_variables: Json,
}

#[derive(SimpleObject)]
pub struct PreviewCardPayload {
    preview: CardPreview,
}

#[derive(Default)]
pub struct TemplatesQuery;

#[Object]
impl TemplatesQuery {
    async fn card_template(&self, ctx: &Context<'_>, id: TemplateId) -> Result<CardTemplate> {
        let access = viewer(ctx)?.locate(app(ctx)?, id).await?;
        template::view(app(ctx)?, &access, id).await.map(CardTemplate)
    }

    /// The card templates of an environment, oldest first; with `name`, those whose name contains it, with
    /// `streamId`, those that the stream curates.
    #[expect(clippy::too_many_arguments, reason = "the arguments of a GraphQL field")]
    async fn card_templates(
        &self,
        ctx: &Context<'_>,
        environment_id: EnvId,
        name: Option<String>,
        states: Option<Vec<CardTemplateState>>,
        stream_id: Option<StreamId>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<Connection<CardTemplate>> {
        let access = viewer(ctx)?.access(environment_id)?;
        let request = PageRequest::new(first, after.as_deref())?;
        let states = states.map(|states| states.into_iter().map(Into::into).collect());
        let selection = template::Selection { name, states, stream: stream_id };
        let page = template::list(app(ctx)?, &access, &selection, request).await?;
        Ok(Connection::of(page, |template| template.id, CardTemplate))
    }
}

#[derive(Default)]
pub struct TemplatesMutation;

#[Object]
impl TemplatesMutation {
    /// Creates a template whose version 1 is a draft.
    async fn create_card_template(
        &self,
        ctx: &Context<'_>,
        input: CreateCardTemplateInput,
    ) -> Result<CardTemplatePayload> {
        let access = viewer(ctx)?.access(input.environment_id)?;
        let edit = template::Edit { name: Some(input.name), content: Some(input.content.into_value()) };
        let template = template::create(app(ctx)?, &access, edit).await?;
        Ok(CardTemplatePayload { card_template: CardTemplate(template) })
    }

    /// Saves the draft; the first edit after a publication opens the next one.
    async fn update_card_template(
        &self,
        ctx: &Context<'_>,
        input: UpdateCardTemplateInput,
    ) -> Result<CardTemplatePayload> {
        let access = viewer(ctx)?.locate(app(ctx)?, input.id).await?;
        let edit = template::Edit { name: input.name, content: input.content.map(JsonObject::into_value) };
        let template = template::update(app(ctx)?, &access, input.id, edit, input.expected_revision).await?;
        Ok(CardTemplatePayload { card_template: CardTemplate(template) })
    }

    /// Freezes the draft and puts it in force for new runs.
    async fn publish_card_template(
        &self,
        ctx: &Context<'_>,
        input: PublishCardTemplateInput,
    ) -> Result<CardTemplatePayload> {
        let access = viewer(ctx)?.locate(app(ctx)?, input.template_id).await?;
        let template = template::publish(app(ctx)?, &access, input.template_id, input.expected_revision).await?;
        Ok(CardTemplatePayload { card_template: CardTemplate(template) })
    }

    /// Takes a template out of use; open cards stay.
    async fn archive_card_template(
        &self,
        ctx: &Context<'_>,
        input: ArchiveCardTemplateInput,
    ) -> Result<CardTemplatePayload> {
        let access = viewer(ctx)?.locate(app(ctx)?, input.template_id).await?;
        let template = template::archive(app(ctx)?, &access, input.template_id, input.expected_revision).await?;
        Ok(CardTemplatePayload { card_template: CardTemplate(template) })
    }

    async fn delete_card_template(&self, ctx: &Context<'_>, id: TemplateId) -> Result<DeleteCardTemplatePayload> {
        let access = viewer(ctx)?.locate(app(ctx)?, id).await?;
        template::delete(app(ctx)?, &access, id).await?;
        Ok(DeleteCardTemplatePayload { id })
    }

    /// Renders the draft for sample values, as an editor does; nothing is stored.
    async fn preview_card(&self, ctx: &Context<'_>, input: PreviewCardInput) -> Result<PreviewCardPayload> {
        let access = viewer(ctx)?.locate(app(ctx)?, input.template_id).await?;
        let sample =
            Sample { variables: input.variables.unwrap_or_default().0, profile: input.profile.unwrap_or_default().0 };
        let card = version::preview(app(ctx)?, &access, input.template_id, sample).await?;
        let preview = CardPreview {
            top_card: Json(card.top_card),
            subviews: Json(card.subviews),
            actions: Json(card.actions),
            runtime_variables: Json(card.runtime_variables),
        };
        Ok(PreviewCardPayload { preview })
    }
}
