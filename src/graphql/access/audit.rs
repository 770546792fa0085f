//! The audit log.

use async_graphql::{Context, InputObject, Object};

use crate::access::audit::{self, Entry, Filter};
use crate::clock::Time;
use crate::db::page::PageRequest;
use crate::error::Result;
use crate::graphql::connection::Connection;
use crate::graphql::context;
use crate::ids::{AuditId, EnvId};

/// Who changed what, when, and from where.
pub struct AuditEntry(Entry);

#[Object]
impl AuditEntry {
    async fn id(&self) -> AuditId {
        self.0.id
    }

    async fn time(&self) -> Time {
        self.0.at
    }

    /// The id of a member or an API credential, or `system:` and the part of the server that acted.
    async fn actor(&self) -> &str {
        &self.0.actor
    }

    async fn environment_id(&self) -> Option<EnvId> {
        self.0.environment_id
    }

    async fn action(&self) -> &str {
        &self.0.action
    }

    async fn object_type(&self) -> &str {
        &self.0.object_type
    }

    async fn object_id(&self) -> &str {
        &self.0.object_id
    }

    /// The names of the fields that changed.
    async fn fields(&self) -> &[String] {
        &self.0.fields
    }

    async fn address(&self) -> Option<&str> {
        self.0.address.as_deref()
    }
}

#[derive(InputObject, Default)]
struct AuditLogFilter {
    environment_id: Option<EnvId>,
    actor: Option<String>,
    action: Option<String>,
    object_id: Option<String>,
    from: Option<Time>,
    to: Option<Time>,
}

#[derive(Default)]
pub struct AuditQuery;

#[Object]
impl AuditQuery {
    /// The audit log of the organisation, newest first.
    async fn audit_log(
        &self,
        ctx: &Context<'_>,
        filter: Option<AuditLogFilter>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<Connection<AuditEntry>> {
        let filter = filter.unwrap_or_default();
        let filter = Filter {
            environment: filter.environment_id,
            actor: filter.actor,
            action: filter.action,
            object_id: filter.object_id,
            from: filter.from,
            to: filter.to,
        };
        let page = PageRequest::<AuditId>::new(first, after.as_deref())?;
        let rows = audit::list(context::app(ctx)?, context::viewer(ctx)?, filter, page).await?;
        Ok(Connection::of(rows, |row| row.id, AuditEntry))
    }
}
