//! Setting up, signing in, signing out.

use async_graphql::{Context, InputObject, Object, SimpleObject};

use super::environment::Environment;
use super::member::{Member, Organisation};
use crate::access::{session, setup};
use crate::error::Result;
use crate::graphql::context;
use crate::secret::Secret;

#[derive(InputObject)]
struct SetUpInstanceInput {
    /// The one-time token that the server printed or was configured with.
    setup_token: String,
    organisation_name: String,
    owner_name: String,
    owner_email: String,
    /// At least 12 characters.
    password: String,
}

#[derive(SimpleObject)]
struct SetUpInstancePayload {
    session_token: String,
    organisation: Organisation,
    environment: Environment,
    member: Member,
}

#[derive(InputObject)]
struct SignInInput {
    email: String,
    password: String,
}

#[derive(SimpleObject)]
pub(super) struct SignInPayload {
    /// Send it as a bearer token. Browsers also get it as a cookie.
    pub session_token: String,
    pub member: Member,
}

#[derive(SimpleObject)]
struct SignOutPayload {
    ok: bool,
}

#[derive(Default)]
pub struct SetupMutation;

#[Object]
impl SetupMutation {
    /// Creates the organisation, its Sandbox environment and the first owner. Works once.
    async fn set_up_instance(&self, ctx: &Context<'_>, input: SetUpInstanceInput) -> Result<SetUpInstancePayload> {
        let beginning = setup::Beginning {
            setup_token: Secret::new(input.setup_token),
            organisation_name: input.organisation_name,
            owner_name: input.owner_name,
            owner_email: input.owner_email,
            password: Secret::new(input.password),
        };
        let begun = setup::set_up_instance(context::app(ctx)?, &context::info(ctx), beginning).await?;
        super::set_session_cookie(ctx, &begun.session_token)?;
        Ok(SetUpInstancePayload {
            session_token: begun.session_token.expose().to_owned(),
            organisation: Organisation(begun.organisation),
            environment: Environment(begun.environment),
            member: Member(begun.member),
        })
    }

    /// Begins a session.
    async fn sign_in(&self, ctx: &Context<'_>, input: SignInInput) -> Result<SignInPayload> {
        let signed_in =
            session::sign_in(context::app(ctx)?, &context::info(ctx), &input.email, &input.password).await?;
        super::set_session_cookie(ctx, &signed_in.token)?;
        Ok(SignInPayload { session_token: signed_in.token.expose().to_owned(), member: Member(signed_in.member) })
    }

    /// Ends the session of this request.
    async fn sign_out(&self, ctx: &Context<'_>) -> Result<SignOutPayload> {
        session::sign_out(context::app(ctx)?, context::viewer(ctx)?).await?;
        super::clear_session_cookie(ctx)?;
        Ok(SignOutPayload { ok: true })
    }
}
