//! Keeping a websocket alive past the end of its token.

use async_graphql::{Context, Object, SimpleObject};

use crate::clock::Time;
use crate::error::{Code, Error, Result};
use crate::graphql::context::{app, sdk};
use crate::graphql::transport::Renewal;

#[derive(Default)]
pub struct ConnectionMutation;

/// A connection that goes on.
#[derive(SimpleObject)]
struct RenewedConnection {
    ok: bool,
    expires_at: Time,
}

#[Object]
impl ConnectionMutation {
    /// Keeps this websocket open with a new token of the same customer.
    async fn renew_connection(&self, ctx: &Context<'_>, auth_token: String) -> Result<RenewedConnection> {
        let access = sdk(ctx)?;
        let renewal =
            ctx.data_opt::<Renewal>().ok_or_else(|| Error::new(Code::BadRequest, "only a websocket can be renewed"))?;
        Ok(RenewedConnection { ok: true, expires_at: renewal.renew(app(ctx)?, access, &auth_token).await? })
    }
}
