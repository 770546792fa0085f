//! Organisation, environments, members, roles, credentials, SDK keys and the audit log.

mod audit;
mod credential;
mod document;
mod environment;
mod export_settings;
mod group;
mod invitation;
mod member;
mod role;
mod sdk_failure;
mod sdk_key;
mod setup;

use async_graphql::{Context, ID, MergedObject};

use super::context;
use crate::access::{Access, authenticate};
use crate::error::Result;
use crate::secret::Secret;

#[derive(MergedObject, Default)]
pub struct AccessQuery(
    environment::EnvironmentQuery,
    credential::CredentialQuery,
    sdk_key::SdkKeyQuery,
    document::DocumentQuery,
    member::MemberQuery,
    invitation::InvitationQuery,
    role::RoleQuery,
    group::GroupQuery,
    audit::AuditQuery,
    sdk_failure::SdkFailureQuery,
    export_settings::ExportSettingsQuery,
);

#[derive(MergedObject, Default)]
pub struct AccessMutation(
    setup::SetupMutation,
    environment::EnvironmentMutation,
    credential::CredentialMutation,
    sdk_key::SdkKeyMutation,
    document::DocumentMutation,
    member::MemberMutation,
    invitation::InvitationMutation,
    role::RoleMutation,
    group::GroupMutation,
    export_settings::ExportSettingsMutation,
);

/// Access to the caller's organisation.
fn organisation(ctx: &Context<'_>) -> Result<Access> {
    Ok(context::viewer(ctx)?.organisation())
}

/// Gives a browser the session as a cookie that scripts cannot read.
fn set_session_cookie(ctx: &Context<'_>, token: &Secret) -> Result<()> {
    append_cookie(ctx, token.expose(), "")
}

fn clear_session_cookie(ctx: &Context<'_>) -> Result<()> {
    append_cookie(ctx, "", "; Max-Age=0")
}

fn append_cookie(ctx: &Context<'_>, value: &str, lifetime: &str) -> Result<()> {
    let secure = if context::app(ctx)?.origin().scheme() == "https" { "; Secure" } else { "" };
    let name = authenticate::SESSION_COOKIE;
    let cookie = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax{secure}{lifetime}");
    ctx.append_http_header("set-cookie", cookie);
    Ok(())
}

/// Ids of other objects in payloads of deletions.
fn id(id: impl std::fmt::Display) -> ID {
    ID(id.to_string())
}
