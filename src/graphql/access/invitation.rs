//! Invitations of members.

use async_graphql::{Context, InputObject, Object, SimpleObject};

use super::member::Member;
use super::setup::SignInPayload;
use crate::access::invitation::{self, Invitee};
use crate::clock::Time;
use crate::db::page::PageRequest;
use crate::error::Result;
use crate::graphql::connection::Connection;
use crate::graphql::context;
use crate::ids::{GroupId, InvitationId, MemberId};

/// Somebody who may become a member.
pub struct MemberInvitation(invitation::Invitation);

#[Object]
impl MemberInvitation {
    async fn id(&self) -> InvitationId {
        self.0.id
    }

    async fn first_name(&self) -> &str {
        &self.0.first_name
    }

    async fn last_name(&self) -> &str {
        &self.0.last_name
    }

    async fn email(&self) -> &str {
        &self.0.email
    }

    async fn group_ids(&self) -> &[GroupId] {
        &self.0.group_ids
    }

    async fn invited_by(&self) -> MemberId {
        self.0.invited_by
    }

    async fn created(&self) -> Time {
        self.0.created_at
    }

    async fn expires_at(&self) -> Time {
        self.0.expires_at
    }

    async fn revoked_at(&self) -> Option<Time> {
        self.0.revoked_at
    }
}

#[derive(InputObject)]
struct InviteMemberInput {
    first_name: String,
    last_name: String,
    email: String,
    #[graphql(default)]
    group_ids: Vec<GroupId>,
}

#[derive(SimpleObject)]
struct InviteMemberPayload {
    invitation: MemberInvitation,
    /// What the invited person opens; shown here and never again.
    link: String,
    /// What the link carries, for acceptInvitation.
    token: String,
}

#[derive(InputObject)]
struct AcceptInvitationInput {
    token: String,
    /// At least 12 characters.
    password: String,
}

#[derive(SimpleObject)]
struct RevokeInvitationPayload {
    invitation: MemberInvitation,
}

#[derive(Default)]
pub struct InvitationQuery;

#[Object]
impl InvitationQuery {
    /// Invitations that can still be accepted.
    async fn member_invitations(
        &self,
        ctx: &Context<'_>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<Connection<MemberInvitation>> {
        let page = PageRequest::new(first, after.as_deref())?;
        let rows = invitation::list(context::app(ctx)?, context::viewer(ctx)?, page).await?;
        Ok(Connection::of(rows, |row| row.id, MemberInvitation))
    }
}

#[derive(Default)]
pub struct InvitationMutation;

#[Object]
impl InvitationMutation {
    /// Invites somebody for seven days.
    async fn invite_member(&self, ctx: &Context<'_>, input: InviteMemberInput) -> Result<InviteMemberPayload> {
        let invitee = Invitee {
            first_name: input.first_name,
            last_name: input.last_name,
            email: input.email,
            group_ids: input.group_ids,
        };
        let invited = invitation::invite(context::app(ctx)?, &super::organisation(ctx)?, invitee).await?;
        Ok(InviteMemberPayload {
            invitation: MemberInvitation(invited.invitation),
            link: invited.link.expose().to_owned(),
            token: invited.token.expose().to_owned(),
        })
    }

    /// Makes the invited person a member and begins a session.
    async fn accept_invitation(&self, ctx: &Context<'_>, input: AcceptInvitationInput) -> Result<SignInPayload> {
        let accepted =
            invitation::accept(context::app(ctx)?, &context::info(ctx), &input.token, &input.password).await?;
        super::set_session_cookie(ctx, &accepted.token)?;
        Ok(SignInPayload { session_token: accepted.token.expose().to_owned(), member: Member(accepted.member) })
    }

    async fn revoke_invitation(&self, ctx: &Context<'_>, id: InvitationId) -> Result<RevokeInvitationPayload> {
        let revoked = invitation::revoke(context::app(ctx)?, &super::organisation(ctx)?, id).await?;
        Ok(RevokeInvitationPayload { invitation: MemberInvitation(revoked) })
    }
}
