//! Removing test cards and test events (specification 8.5).

use async_graphql::{Context, InputObject, Object, SimpleObject};

use super::context::{app, viewer};
use crate::cards::test_data::{self, Deletion};
use crate::clock::Time;
use crate::error::Result;
use crate::ids::{EnvId, TaskId};

#[derive(Default)]
pub struct TestDataQuery;

#[derive(Default)]
pub struct TestDataMutation;

/// A removal of test data in the background.
#[derive(SimpleObject)]
pub struct TestDataDeletion {
    task_id: TaskId,
    before: Time,
    /// `running` or `complete`.
    status: String,
    /// Test cards that are gone.
    cards: i64,
    /// Test events that are gone.
    events: i64,
    created: Time,
    finished_at: Option<Time>,
}

impl From<Deletion> for TestDataDeletion {
    fn from(deletion: Deletion) -> TestDataDeletion {
        TestDataDeletion {
            task_id: deletion.id,
            before: deletion.before,
            status: deletion.status,
            cards: deletion.cards,
            events: deletion.events,
            created: deletion.created_at,
            finished_at: deletion.finished_at,
        }
    }
}

#[derive(InputObject)]
pub struct DeleteTestDataInput {
    environment_id: EnvId,
    /// What is younger stays.
    before: Time,
}

#[derive(SimpleObject)]
pub struct DeleteTestDataPayload {
    deletion: TestDataDeletion,
}

#[Object]
impl TestDataQuery {
    /// How far a removal of test data has come.
    async fn test_data_deletion(
        &self,
        ctx: &Context<'_>,
        environment_id: EnvId,
        task_id: TaskId,
    ) -> Result<Option<TestDataDeletion>> {
        let access = viewer(ctx)?.access(environment_id)?;
        Ok(test_data::find(app(ctx)?, &access, task_id).await?.map(Into::into))
    }
}

#[Object]
impl TestDataMutation {
    /// Removes the test cards created, and the test events that happened, before a time. Files that are written already
    /// stay as they are.
    async fn delete_test_data(&self, ctx: &Context<'_>, input: DeleteTestDataInput) -> Result<DeleteTestDataPayload> {
        let access = viewer(ctx)?.access(input.environment_id)?;
        let deletion = test_data::delete(app(ctx)?, &access, input.before).await?.into();
        Ok(DeleteTestDataPayload { deletion })
    }
}
