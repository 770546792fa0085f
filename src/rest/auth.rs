//! Extractors: who calls, and what they may do in the environment that the path names.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;

use crate::access::{Access, Actor, Principal, RequestInfo, Viewer, authenticate};
use crate::app::App;
use crate::error::{Error, Result};
use crate::ids::{EnvId, Id};

/// A member or an API credential, in no environment yet.
pub struct Caller(pub Viewer);

/// A caller in the environment of `/v1/{env}/…`. Handlers ask [`Access::require_role`] which credentials may go on.
pub struct Authenticated(pub Access);

/// The circumstances of a request that nobody needs to sign.
pub struct Circumstances(pub RequestInfo);

impl FromRequestParts<App> for Caller {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Caller> {
        let principal = authenticate::from_headers(app, &parts.headers, peer(parts)?.ip()).await?;
        let viewer = principal.viewer()?;
        if let (Principal::Credential(_), Actor::Credential(credential)) = (&principal, &viewer.actor) {
            app.limits().rest.take(*credential, app.clock().now())?;
        }
        Ok(Caller(viewer.clone()))
    }
}

impl FromRequestParts<App> for Authenticated {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Authenticated> {
        let Caller(viewer) = Caller::from_request_parts(parts, app).await?;
        let segment = parts.uri.path().strip_prefix("/v1/").and_then(|rest| rest.split('/').next()).unwrap_or_default();
        viewer.access(EnvId::parse(segment)?).map(Authenticated)
    }
}

impl FromRequestParts<App> for Circumstances {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Circumstances> {
        let address = authenticate::client_address(app, &parts.headers, peer(parts)?.ip());
        Ok(Circumstances(RequestInfo { address: Some(address) }))
    }
}

fn peer(parts: &Parts) -> Result<SocketAddr> {
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    peer.map(|peer| peer.0).ok_or_else(|| Error::internal("the server does not tell the peer's address"))
}
