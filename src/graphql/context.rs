//! What a resolver can ask of its request: the application and who calls.

use async_graphql::Context;

use crate::access::authenticate::Principal;
use crate::access::{AppAccess, RequestInfo, SdkAccess, Viewer};
use crate::app::App;
use crate::error::{Code, Error, Result};

/// The application.
pub fn app<'a>(ctx: &Context<'a>) -> Result<&'a App> {
    ctx.data::<App>().map_err(|error| Error::internal(error.message))
}

/// The member or API credential that calls; `unauthenticated` for everybody else.
pub fn viewer<'a>(ctx: &Context<'a>) -> Result<&'a Viewer> {
    match (ctx.data_opt::<Viewer>(), ctx.data_opt::<SdkAccess>()) {
        (Some(viewer), _) => Ok(viewer),
        (None, Some(_)) => Err(Error::forbidden("this operation is not for customers")),
        (None, None) => Err(Error::new(Code::Unauthenticated, "sign in or send an access token")),
    }
}

/// The customer in an app that calls; `unauthenticated` for everybody else.
pub fn sdk<'a>(ctx: &Context<'a>) -> Result<&'a SdkAccess> {
    ctx.data_opt::<SdkAccess>()
        .ok_or_else(|| Error::new(Code::Unauthenticated, "send a customer's token and the name of the SDK API key"))
}

/// An app, whether somebody is signed in to it or not.
pub fn sdk_app(ctx: &Context<'_>) -> Result<AppAccess> {
    match ctx.data_opt::<Principal>() {
        Some(Principal::Sdk(access)) => Ok(access.app()),
        Some(Principal::SdkAnonymous(app)) => Ok(app.clone()),
        _ => Err(Error::new(Code::Unauthenticated, "send the name of the SDK API key")),
    }
}

/// The circumstances of the request, also of one that nobody signed.
pub fn info(ctx: &Context<'_>) -> RequestInfo {
    ctx.data_opt::<RequestInfo>().cloned().unwrap_or_default()
}
