//! The roots of the schema. Each area adds a line to each root it has fields in.

use async_graphql::{MergedObject, MergedSubscription};

use super::access::{AccessMutation, AccessQuery};
use super::cards::{CardsMutation, CardsQuery};
use super::customers::{CustomersMutation, CustomersQuery};
use super::events::{EventsQuery, EventsSubscription};
use super::flows::{FlowsMutation, FlowsQuery};
use super::outgoing_credentials::{OutgoingCredentialMutation, OutgoingCredentialQuery};
use super::requests::RequestsMutation;
use super::runs::RunMutation;
use super::sdk::{SdkMutation, SdkQuery, SdkSubscription};
use super::simulation::SimulationQuery;
use super::streams::{StreamsMutation, StreamsQuery};
use super::tasks::{TasksMutation, TasksQuery, TasksSubscription};
use super::templates::{TemplatesMutation, TemplatesQuery};
use super::test_data::{TestDataMutation, TestDataQuery};
use super::triggers::{TriggersMutation, TriggersQuery, TriggersSubscription};
use super::webhook_inspection::{WebhookInspectionMutation, WebhookInspectionQuery, WebhookInspectionSubscription};
use super::webhooks::{WebhooksMutation, WebhooksQuery};
use crate::app::App;

/// The whole schema.
pub type Schema = async_graphql::Schema<Query, Mutation, Subscription>;

/// Everything that can be read.
#[derive(MergedObject, Default)]
pub struct Query(
    AccessQuery,
    SdkQuery,
    CardsQuery,
    CustomersQuery,
    FlowsQuery,
    TasksQuery,
    SimulationQuery,
    StreamsQuery,
    TemplatesQuery,
    TriggersQuery,
    WebhooksQuery,
    WebhookInspectionQuery,
    OutgoingCredentialQuery,
    EventsQuery,
    TestDataQuery,
);

/// Everything that can be changed.
#[derive(MergedObject, Default)]
pub struct Mutation(
    AccessMutation,
    SdkMutation,
    CardsMutation,
    CustomersMutation,
    FlowsMutation,
    RequestsMutation,
    TasksMutation,
    RunMutation,
    StreamsMutation,
    TemplatesMutation,
    TriggersMutation,
    WebhooksMutation,
    WebhookInspectionMutation,
    OutgoingCredentialMutation,
    TestDataMutation,
);

/// Everything that can be followed.
#[derive(MergedSubscription, Default)]
pub struct Subscription(
    SdkSubscription,
    EventsSubscription,
    TasksSubscription,
    TriggersSubscription,
    WebhookInspectionSubscription,
);

/// The schema for an application.
pub fn build(app: &App) -> Schema {
    let schema = Schema::build(Query::default(), Mutation::default(), Subscription::default())
        .data(app.clone())
        .limit_directives(10);
    if app.config().introspection { schema.finish() } else { schema.disable_introspection().finish() }
}

/// The schema as text.
pub fn sdl() -> String {
    Schema::build(Query::default(), Mutation::default(), Subscription::default()).finish().sdl()
}
