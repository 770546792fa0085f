//! Themes, streams and stream containers in GraphQL.

use async_graphql::{Context, InputObject, MaybeUndefined, Object, SimpleObject};

use super::connection::Connection;
use super::context::{app, sdk_app, viewer};
use super::scalars::JsonObject;
use crate::clock::Time;
use crate::db::page::PageRequest;
use crate::error::{Code, Error, Result};
use crate::ids::{ContainerId, EnvId, SdkKeyId, StreamId, TemplateId, ThemeId};
use crate::streams::worn::{self, Worn};
use crate::streams::{container, stream, theme};

/// Styles streams, cards and card elements.
pub struct Theme {
    worn: Worn,
    /// The caller holds what it asks for.
    unchanged: bool,
}

impl Theme {
    fn alone(theme: theme::Theme) -> Theme {
        Theme { worn: Worn { light: theme, dark: None }, unchanged: false }
    }
}

#[Object]
impl Theme {
    async fn id(&self) -> ThemeId {
        self.worn.light.id
    }

    async fn name(&self) -> &str {
        &self.worn.light.name
    }

    /// An object with the keys `variables`, `container`, `card`, `subview` and `system`.
    async fn document(&self) -> JsonObject {
        JsonObject::of(self.worn.light.document.clone())
    }

    /// Whether this is the default theme of the environment.
    async fn built_in(&self) -> bool {
        self.worn.light.built_in
    }

    async fn created(&self) -> Time {
        self.worn.light.created_at
    }

    async fn updated(&self) -> Time {
        self.worn.light.updated_at
    }

    /// The document for light surroundings. Null when `ifEtag` is the present etag.
    async fn light(&self) -> Option<JsonObject> {
        (!self.unchanged).then(|| JsonObject::of(self.worn.light().clone()))
    }

    /// The document for dark surroundings, else the light one. Null when `ifEtag` is the present etag.
    async fn dark(&self) -> Option<JsonObject> {
        (!self.unchanged).then(|| JsonObject::of(self.worn.dark().clone()))
    }

    /// The fonts that the documents name.
    async fn font_families(&self) -> Vec<String> {
        self.worn.font_families()
    }

    /// Changes when the documents do.
    async fn etag(&self) -> String {
        self.worn.etag()
    }

    /// Whether `ifEtag` is the present etag.
    async fn unchanged(&self) -> bool {
        self.unchanged
    }

    async fn revision(&self) -> i32 {
        self.worn.light.revision
    }
}

/// A curated collection of card templates.
pub struct Stream(pub stream::Stream);

#[Object]
impl Stream {
    async fn id(&self) -> StreamId {
        self.0.id
    }

    async fn name(&self) -> &str {
        &self.0.name
    }

    /// Whether this is the stream that shows every card.
    async fn built_in(&self) -> bool {
        self.0.built_in
    }

    /// The templates that are curated now.
    async fn template_ids(&self, ctx: &Context<'_>) -> Result<Vec<TemplateId>> {
        let access = viewer(ctx)?.access(self.0.environment_id)?;
        stream::templates(app(ctx)?, &access, self.0.id).await
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

/// The slot in an app that shows exactly one stream.
pub struct StreamContainer(pub container::Container);

#[Object]
impl StreamContainer {
    async fn id(&self) -> ContainerId {
        self.0.id
    }

    async fn name(&self) -> &str {
        &self.0.name
    }

    async fn card_limit(&self) -> i32 {
        self.0.card_limit
    }

    async fn stream_id(&self) -> StreamId {
        self.0.stream_id
    }

    async fn theme_id(&self) -> ThemeId {
        self.0.theme_id
    }

    async fn dark_theme_id(&self) -> Option<ThemeId> {
        self.0.dark_theme_id
    }

    /// The SDK API keys that may show the container.
    async fn api_key_ids(&self, ctx: &Context<'_>) -> Result<Vec<SdkKeyId>> {
        let access = viewer(ctx)?.access(self.0.environment_id)?;
        container::keys(app(ctx)?, &access, self.0.id).await
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

#[derive(InputObject)]
pub struct CreateThemeInput {
    environment_id: EnvId,
    name: String,
    document: Option<JsonObject>,
}

#[derive(InputObject)]
pub struct UpdateThemeInput {
    id: ThemeId,
    name: Option<String>,
    document: Option<JsonObject>,
    expected_revision: Option<i32>,
}

#[derive(InputObject)]
pub struct CreateStreamInput {
    environment_id: EnvId,
    name: String,
    template_ids: Option<Vec<TemplateId>>,
}

#[derive(InputObject)]
pub struct UpdateStreamInput {
    id: StreamId,
    name: Option<String>,
    /// Takes the place of all templates curated before.
    template_ids: Option<Vec<TemplateId>>,
    expected_revision: Option<i32>,
}

#[derive(InputObject)]
pub struct CreateStreamContainerInput {
    environment_id: EnvId,
    name: String,
    /// 1 to 500; 50 unless given.
    card_limit: Option<i32>,
    stream_id: StreamId,
    /// The environment's default theme unless given.
    theme_id: Option<ThemeId>,
    dark_theme_id: Option<ThemeId>,
    /// The SDK API keys that may show the container; none unless given.
    api_key_ids: Option<Vec<SdkKeyId>>,
}

#[derive(InputObject)]
pub struct UpdateStreamContainerInput {
    id: ContainerId,
    name: Option<String>,
    card_limit: Option<i32>,
    stream_id: Option<StreamId>,
    theme_id: Option<ThemeId>,
    /// Null removes the dark theme.
    dark_theme_id: MaybeUndefined<ThemeId>,
    expected_revision: Option<i32>,
}

#[derive(InputObject)]
pub struct SetContainerKeysInput {
    container_id: ContainerId,
    /// Takes the place of all keys granted before.
    api_key_ids: Vec<SdkKeyId>,
    expected_revision: Option<i32>,
}

#[derive(SimpleObject)]
pub struct ThemePayload {
    theme: Theme,
}

#[derive(SimpleObject)]
pub struct StreamPayload {
    stream: Stream,
}

#[derive(SimpleObject)]
pub struct StreamContainerPayload {
    stream_container: StreamContainer,
}

#[derive(SimpleObject)]
pub struct DeleteThemePayload {
    id: ThemeId,
}

#[derive(SimpleObject)]
pub struct DeleteStreamPayload {
    id: StreamId,
}

#[derive(SimpleObject)]
pub struct DeleteStreamContainerPayload {
    id: ContainerId,
}

#[derive(Default)]
pub struct StreamsQuery;

#[Object]
impl StreamsQuery {
    /// A theme by its `id`, for the workbench; or what a container wears, for apps, which need only the API key.
    async fn theme(
        &self,
        ctx: &Context<'_>,
        id: Option<ThemeId>,
        container_id: Option<ContainerId>,
        if_etag: Option<String>,
    ) -> Result<Theme> {
        match (id, container_id) {
            (Some(id), None) => {
                let access = viewer(ctx)?.locate(app(ctx)?, id).await?;
                theme::view(app(ctx)?, &access, id).await.map(Theme::alone)
            }
            (None, Some(container)) => {
                let asking = sdk_app(ctx)?;
                let worn = worn::worn(app(ctx)?, asking.env, asking.key, container).await?;
                let unchanged = if_etag.is_some_and(|etag| etag == worn.etag());
                Ok(Theme { worn, unchanged })
            }
            _ => Err(Error::new(Code::BadRequest, "give id or containerId")),
        }
    }

    /// The themes of an environment, oldest first; with `name`, those whose name contains it.
    async fn themes(
        &self,
        ctx: &Context<'_>,
        environment_id: EnvId,
        name: Option<String>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<Connection<Theme>> {
        let access = viewer(ctx)?.access(environment_id)?;
        let request = PageRequest::new(first, after.as_deref())?;
        let page = theme::list(app(ctx)?, &access, name.as_deref(), request).await?;
        Ok(Connection::of(page, |theme| theme.id, Theme::alone))
    }

    async fn stream(&self, ctx: &Context<'_>, id: StreamId) -> Result<Stream> {
        let access = viewer(ctx)?.locate(app(ctx)?, id).await?;
        stream::view(app(ctx)?, &access, id).await.map(Stream)
    }

    /// The streams of an environment, oldest first; with `name`, those whose name contains it.
    async fn streams(
        &self,
        ctx: &Context<'_>,
        environment_id: EnvId,
        name: Option<String>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<Connection<Stream>> {
        let access = viewer(ctx)?.access(environment_id)?;
        let request = PageRequest::new(first, after.as_deref())?;
        let page = stream::list(app(ctx)?, &access, name.as_deref(), request).await?;
        Ok(Connection::of(page, |stream| stream.id, Stream))
    }

    async fn stream_container(&self, ctx: &Context<'_>, id: ContainerId) -> Result<StreamContainer> {
        let access = viewer(ctx)?.locate(app(ctx)?, id).await?;
        container::view(app(ctx)?, &access, id).await.map(StreamContainer)
    }

    /// The containers of an environment, oldest first; with `name`, those whose name contains it, with `streamId`,
    /// those that show the stream.
    #[expect(clippy::too_many_arguments, reason = "the arguments of a GraphQL field")]
    async fn stream_containers(
        &self,
        ctx: &Context<'_>,
        environment_id: EnvId,
        name: Option<String>,
        stream_id: Option<StreamId>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<Connection<StreamContainer>> {
        let access = viewer(ctx)?.access(environment_id)?;
        let request = PageRequest::new(first, after.as_deref())?;
        let selection = container::Selection { name, stream: stream_id };
        let page = container::list(app(ctx)?, &access, &selection, request).await?;
        Ok(Connection::of(page, |container| container.id, StreamContainer))
    }
}

#[derive(Default)]
pub struct StreamsMutation;

#[Object]
impl StreamsMutation {
    async fn create_theme(&self, ctx: &Context<'_>, input: CreateThemeInput) -> Result<ThemePayload> {
        let access = viewer(ctx)?.access(input.environment_id)?;
        let settings = theme::Settings { name: Some(input.name), document: input.document.map(JsonObject::into_value) };
        let theme = theme::create(app(ctx)?, &access, settings).await?;
        Ok(ThemePayload { theme: Theme::alone(theme) })
    }

    async fn update_theme(&self, ctx: &Context<'_>, input: UpdateThemeInput) -> Result<ThemePayload> {
        let access = viewer(ctx)?.locate(app(ctx)?, input.id).await?;
        let settings = theme::Settings { name: input.name, document: input.document.map(JsonObject::into_value) };
        let theme = theme::update(app(ctx)?, &access, input.id, settings, input.expected_revision).await?;
        Ok(ThemePayload { theme: Theme::alone(theme) })
    }

    async fn delete_theme(&self, ctx: &Context<'_>, id: ThemeId) -> Result<DeleteThemePayload> {
        let access = viewer(ctx)?.locate(app(ctx)?, id).await?;
        theme::delete(app(ctx)?, &access, id).await?;
        Ok(DeleteThemePayload { id })
    }

    async fn create_stream(&self, ctx: &Context<'_>, input: CreateStreamInput) -> Result<StreamPayload> {
        let access = viewer(ctx)?.access(input.environment_id)?;
        let settings = stream::Settings { name: Some(input.name), template_ids: input.template_ids };
        let stream = stream::create(app(ctx)?, &access, settings).await?;
        Ok(StreamPayload { stream: Stream(stream) })
    }

    async fn update_stream(&self, ctx: &Context<'_>, input: UpdateStreamInput) -> Result<StreamPayload> {
        let access = viewer(ctx)?.locate(app(ctx)?, input.id).await?;
        let settings = stream::Settings { name: input.name, template_ids: input.template_ids };
        let stream = stream::update(app(ctx)?, &access, input.id, settings, input.expected_revision).await?;
        Ok(StreamPayload { stream: Stream(stream) })
    }

    async fn delete_stream(&self, ctx: &Context<'_>, id: StreamId) -> Result<DeleteStreamPayload> {
        let access = viewer(ctx)?.locate(app(ctx)?, id).await?;
        stream::delete(app(ctx)?, &access, id).await?;
        Ok(DeleteStreamPayload { id })
    }

    async fn create_stream_container(
        &self,
        ctx: &Context<'_>,
        input: CreateStreamContainerInput,
    ) -> Result<StreamContainerPayload> {
        let access = viewer(ctx)?.access(input.environment_id)?;
        let settings = container::Settings {
            name: Some(input.name),
            card_limit: input.card_limit,
            stream_id: Some(input.stream_id),
            theme_id: input.theme_id,
            dark_theme_id: input.dark_theme_id.map(Some),
        };
        let keys = input.api_key_ids.unwrap_or_default();
        let container = container::create(app(ctx)?, &access, settings, &keys).await?;
        Ok(StreamContainerPayload { stream_container: StreamContainer(container) })
    }

    async fn update_stream_container(
        &self,
        ctx: &Context<'_>,
        input: UpdateStreamContainerInput,
    ) -> Result<StreamContainerPayload> {
        let access = viewer(ctx)?.locate(app(ctx)?, input.id).await?;
        let settings = container::Settings {
            name: input.name,
            card_limit: input.card_limit,
            stream_id: input.stream_id,
            theme_id: input.theme_id,
            dark_theme_id: match input.dark_theme_id {
                MaybeUndefined::Undefined => None,
                MaybeUndefined::Null => Some(None),
                MaybeUndefined::Value(theme) => Some(Some(theme)),
            },
        };
        let container = container::update(app(ctx)?, &access, input.id, settings, input.expected_revision).await?;
        Ok(StreamContainerPayload { stream_container: StreamContainer(container) })
    }

    async fn delete_stream_container(
        &self,
        ctx: &Context<'_>,
        id: ContainerId,
    ) -> Result<DeleteStreamContainerPayload> {
        let access = viewer(ctx)?.locate(app(ctx)?, id).await?;
        container::delete(app(ctx)?, &access, id).await?;
        Ok(DeleteStreamContainerPayload { id })
    }

    /// Says which SDK API keys may show a container.
    async fn set_container_keys(
        &self,
        ctx: &Context<'_>,
        input: SetContainerKeysInput,
    ) -> Result<StreamContainerPayload> {
        let access = viewer(ctx)?.locate(app(ctx)?, input.container_id).await?;
        let expected = input.expected_revision;
        let container =
            container::set_keys(app(ctx)?, &access, input.container_id, &input.api_key_ids, expected).await?;
        Ok(StreamContainerPayload { stream_container: StreamContainer(container) })
    }
}
