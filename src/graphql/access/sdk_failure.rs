//! The log of failed SDK requests.

use async_graphql::{Context, Object};

use crate::access::sdk_failure::{self, SdkFailure};
use crate::clock::Time;
use crate::db::page::PageRequest;
use crate::error::Result;
use crate::graphql::connection::Connection;
use crate::graphql::context;
use crate::ids::{EnvId, SdkFailureId};

/// A request of an app that was refused.
pub struct FailedSdkRequest(SdkFailure);

#[Object]
impl FailedSdkRequest {
    async fn id(&self) -> SdkFailureId {
        self.0.id
    }

    async fn time(&self) -> Time {
        self.0.at
    }

    /// The HTTP status of the code.
    async fn status(&self) -> i32 {
        self.0.status
    }

    async fn code(&self) -> &str {
        &self.0.code
    }

    /// The name of the operation. Null when the request was refused before it was read.
    async fn operation(&self) -> Option<&str> {
        self.0.operation.as_deref()
    }

    /// The name of the SDK API key that the app sent.
    async fn key_name(&self) -> &str {
        &self.0.key_name
    }

    /// The names of the claims in the app's token, unverified.
    async fn claims(&self) -> &[String] {
        &self.0.claims
    }
}

#[derive(Default)]
pub struct SdkFailureQuery;

#[Object]
impl SdkFailureQuery {
    /// The last 100 requests of apps that were refused, newest first.
    async fn failed_sdk_requests(
        &self,
        ctx: &Context<'_>,
        environment_id: EnvId,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<Connection<FailedSdkRequest>> {
        let access = context::viewer(ctx)?.access(environment_id)?;
        let page = PageRequest::new(first, after.as_deref())?;
        let rows = sdk_failure::list(context::app(ctx)?, &access, page).await?;
        Ok(Connection::of(rows, |row| row.id, FailedSdkRequest))
    }
}
