//! Documents that apps register before they send them.

use async_graphql::parser::parse_query;
use async_graphql::{Context, InputObject, Object, SimpleObject};

use crate::access::document::{self, Document, Restriction};
use crate::clock::Time;
use crate::db::page::PageRequest;
use crate::error::{Result, Violations};
use crate::graphql::connection::Connection;
use crate::graphql::{context, limits};
use crate::ids::{EnvId, SdkKeyId};

/// A registered document.
pub struct SdkDocument(Document);

#[Object]
impl SdkDocument {
    /// SHA-256 of the text in hex: `extensions.persistedQuery.sha256Hash` of an operation without a text.
    async fn hash(&self) -> &str {
        &self.0.hash
    }

    async fn document(&self) -> &str {
        &self.0.document
    }

    async fn created(&self) -> Time {
        self.0.created_at
    }
}

#[derive(InputObject)]
struct RegisterSdkDocumentsInput {
    environment_id: EnvId,
    /// Exactly the texts that apps send, byte for byte.
    documents: Vec<String>,
}

#[derive(InputObject)]
struct DeleteSdkDocumentInput {
    environment_id: EnvId,
    hash: String,
}

#[derive(InputObject)]
struct RestrictSdkDocumentsInput {
    environment_id: EnvId,
    /// Whether SDK keys may run registered documents only.
    registered_only: bool,
}

#[derive(SimpleObject)]
struct RegisterSdkDocumentsPayload {
    documents: Vec<SdkDocument>,
}

#[derive(SimpleObject)]
struct DeleteSdkDocumentPayload {
    hash: String,
}

#[derive(SimpleObject)]
struct RestrictSdkDocumentsPayload {
    registered_only: bool,
}

/// Refuses what is not GraphQL, so that a slip is found when the app is built.
fn check(documents: &[String]) -> Result<()> {
    let mut violations = Violations::new();
    for (index, document) in documents.iter().enumerate() {
        let parses = limits::check_text(document).is_ok() && parse_query(document).is_ok();
        if !parses {
            violations.add(format!("/documents/{index}"), "does not parse");
        }
    }
    violations.finish()
}

#[derive(Default)]
pub struct DocumentQuery;

#[Object]
impl DocumentQuery {
    /// The documents that the apps of an environment have registered, in the order of their hashes.
    async fn sdk_documents(
        &self,
        ctx: &Context<'_>,
        environment_id: EnvId,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<Connection<SdkDocument>> {
        let access = context::viewer(ctx)?.access(environment_id)?;
        let first = PageRequest::<SdkKeyId>::new(first, None)?.first;
        let page = document::list(context::app(ctx)?, &access, first, after.as_deref()).await?;
        Ok(Connection::paged(page, |row| row.hash.clone(), SdkDocument))
    }
}

#[derive(Default)]
pub struct DocumentMutation;

#[Object]
impl DocumentMutation {
    /// Registers the documents of an app.
    async fn register_sdk_documents(
        &self,
        ctx: &Context<'_>,
        input: RegisterSdkDocumentsInput,
    ) -> Result<RegisterSdkDocumentsPayload> {
        let access = context::viewer(ctx)?.access(input.environment_id)?;
        check(&input.documents)?;
        let documents = document::register(context::app(ctx)?, &access, input.documents).await?;
        Ok(RegisterSdkDocumentsPayload { documents: documents.into_iter().map(SdkDocument).collect() })
    }

    async fn delete_sdk_document(
        &self,
        ctx: &Context<'_>,
        input: DeleteSdkDocumentInput,
    ) -> Result<DeleteSdkDocumentPayload> {
        let access = context::viewer(ctx)?.access(input.environment_id)?;
        document::delete(context::app(ctx)?, &access, &input.hash).await?;
        Ok(DeleteSdkDocumentPayload { hash: input.hash })
    }

    /// Lets the SDK keys of an environment run registered documents only, or anything.
    async fn restrict_sdk_documents(
        &self,
        ctx: &Context<'_>,
        input: RestrictSdkDocumentsInput,
    ) -> Result<RestrictSdkDocumentsPayload> {
        let access = context::viewer(ctx)?.access(input.environment_id)?;
        let restriction = if input.registered_only { Restriction::Registered } else { Restriction::Anything };
        document::restrict(context::app(ctx)?, &access, restriction).await?;
        Ok(RestrictSdkDocumentsPayload { registered_only: input.registered_only })
    }
}
