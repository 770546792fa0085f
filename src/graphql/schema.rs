//! The roots of the schema. Each area adds a line to each root it has fields in.

use async_graphql::MergedObject;

use super::flows::{FlowsMutation, FlowsQuery};
use super::sdk::{SdkMutation, SdkQuery};
use super::streams::{StreamsMutation, StreamsQuery};
use super::templates::{TemplatesMutation, TemplatesQuery};
use crate::app::App;

/// The whole schema.
pub type Schema = async_graphql::Schema<Query, Mutation, async_graphql::EmptySubscription>;

/// Everything that can be read.
#[derive(MergedObject, Default)]
pub struct Query(FlowsQuery, SdkQuery, StreamsQuery, TemplatesQuery);

/// Everything that can be changed.
#[derive(MergedObject, Default)]
pub struct Mutation(FlowsMutation, SdkMutation, StreamsMutation, TemplatesMutation);

/// The schema for an application.
pub fn build(app: &App) -> Schema {
    let schema = Schema::build(Query::default(), Mutation::default(), async_graphql::EmptySubscription)
        .data(app.clone())
        .limit_directives(10);
    if app.config().introspection { schema.finish() } else { schema.disable_introspection().finish() }
}

/// The schema as text.
pub fn sdl() -> String {
    Schema::build(Query::default(), Mutation::default(), async_graphql::EmptySubscription).finish().sdl()
}
