//! Invitations: how people become members (§3.2).

use std::time::Duration;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::audit::{self, Place};
use super::member::{self, Member, NewMember};
use super::session::{self, SignedIn};
use super::{Access, Actor, Level, RequestInfo, Resource, Viewer, password};
use crate::app::App;
use crate::clock::Time;
use crate::db::Tx;
use crate::db::page::{Page, PageRequest};
use crate::db::schema::{groups, member_invitations, members};
use crate::error::{Code, Error, Result, Violations};
use crate::ids::{GroupId, InvitationId, MemberId, OrgId};
use crate::secret::{Secret, random_token, token_hash};
use crate::text;

const LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);

#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = member_invitations)]
pub struct Invitation {
    pub organisation_id: OrgId,
    pub id: InvitationId,
    pub first_name: String,
    pub last_name: String,
    pub email: String,
    pub group_ids: Vec<GroupId>,
    pub invited_by: MemberId,
    pub created_at: Time,
    pub expires_at: Time,
    pub accepted_at: Option<Time>,
    pub revoked_at: Option<Time>,
}

/// An invitation with its token and the link, which only the inviter gets to see.
pub struct Invited {
    pub invitation: Invitation,
    pub token: Secret,
    pub link: Secret,
}

/// Whom to invite.
#[derive(Clone, Debug)]
pub struct Invitee {
    pub first_name: String,
    pub last_name: String,
    pub email: String,
    pub group_ids: Vec<GroupId>,
}

/// Invites somebody. Choosing groups needs the permission to put members in groups.
pub async fn invite(app: &App, access: &Access, invitee: Invitee) -> Result<Invited> {
    access.require(Resource::Member, Level::Edit)?;
    if !invitee.group_ids.is_empty() {
        access.require(Resource::MemberGroupAssignment, Level::Edit)?;
    }
    let inviter = access.actor().member().ok_or_else(|| Error::forbidden("only members invite members"))?;
    let email = session::normalised(&invitee.email);
    let mut violations = Violations::new();
    violations.check(text::object_name(&invitee.first_name, "/firstName"));
    violations.check(text::object_name(&invitee.last_name, "/lastName"));
    violations.check(session::check_email(&email).map_err(|error| error.at("/email")));
    violations.finish()?;
    let token = random_token(app.ids());
    let invitation = app
        .transact(async |tx| {
            refuse_members_in(tx, &email).await?;
            member::may_join(tx.conn(), access, &invitee.group_ids).await?;
            let invitation: Invitation = diesel::insert_into(member_invitations::table)
                .values((
                    member_invitations::organisation_id.eq(access.org()),
                    member_invitations::id.eq(tx.id::<InvitationId>()),
                    member_invitations::first_name.eq(&invitee.first_name),
                    member_invitations::last_name.eq(&invitee.last_name),
                    member_invitations::email.eq(&email),
                    member_invitations::group_ids.eq(&invitee.group_ids),
                    member_invitations::token_hash.eq(token_hash(token.expose())),
                    member_invitations::invited_by.eq(inviter),
                    member_invitations::created_at.eq(tx.now()),
                    member_invitations::expires_at.eq(tx.now().plus(LIFETIME)),
                ))
                .returning(Invitation::as_select())
                .get_result(&mut tx.conn())
                .await?;
            let fields = ["firstName", "lastName", "email", "groupIds"];
            audit::record_in(tx, access, "member.invite", invitation.id, &fields).await?;
            Ok(invitation)
        })
        .await?;
    let origin = app.origin().origin().ascii_serialization();
    let link = Secret::new(format!("{origin}/invitations/{}", token.expose()));
    Ok(Invited { invitation, token, link })
}

/// Tells the inviter early. What keeps addresses unique is the constraint that accepting meets.
async fn refuse_members_in(tx: &mut Tx, email: &str) -> Result<()> {
    let taken: Option<MemberId> =
        members::table.filter(members::email.eq(email)).select(members::id).first(&mut tx.conn()).await.optional()?;
    match taken {
        Some(_) => Err(Error::new(Code::AlreadyExists, "a member has this email address").at("/email")),
        None => Ok(()),
    }
}

/// Lists invitations that can still be accepted.
pub async fn list(app: &App, viewer: &Viewer, page: PageRequest<InvitationId>) -> Result<Page<Invitation>> {
    viewer.organisation().require(Resource::Member, Level::View)?;
    let mut query = member_invitations::table
        .filter(member_invitations::organisation_id.eq(viewer.org))
        .filter(member_invitations::accepted_at.is_null())
        .filter(member_invitations::revoked_at.is_null())
        .filter(member_invitations::expires_at.gt(app.clock().now()))
        .order(member_invitations::id)
        .limit(page.limit())
        .select(Invitation::as_select())
        .into_boxed();
    if let Some(after) = page.after {
        query = query.filter(member_invitations::id.gt(after));
    }
    let rows = query.load(&mut &*app.read().await?).await?;
    Ok(page.page(rows))
}

/// Takes an invitation back.
pub async fn revoke(app: &App, access: &Access, id: InvitationId) -> Result<Invitation> {
    access.require(Resource::Member, Level::Edit)?;
    app.transact(async |tx| {
        let revoked: Option<Invitation> = diesel::update(member_invitations::table.find((access.org(), id)))
            .filter(member_invitations::accepted_at.is_null())
            .filter(member_invitations::revoked_at.is_null())
            .set(member_invitations::revoked_at.eq(tx.now()))
            .returning(Invitation::as_select())
            .get_result(&mut tx.conn())
            .await
            .optional()?;
        let revoked = revoked.ok_or_else(|| Error::not_found("invitation"))?;
        audit::record_in(tx, access, "member.revoke-invitation", id, &[]).await?;
        Ok(revoked)
    })
    .await
}

/// Makes the invited person a member and signs them in. An invitation is good for one acceptance.
pub async fn accept(app: &App, info: &RequestInfo, token: &str, password: &str) -> Result<SignedIn> {
    password::check(password).map_err(|error| error.at("/password"))?;
    let password_hash = password::hash(password, app.ids().bytes()).await?;
    app.transact(async |tx| {
        let accepted: Option<Invitation> = diesel::update(member_invitations::table)
            .filter(member_invitations::token_hash.eq(token_hash(token)))
            .filter(member_invitations::accepted_at.is_null())
            .filter(member_invitations::revoked_at.is_null())
            .filter(member_invitations::expires_at.gt(tx.now()))
            .set(member_invitations::accepted_at.eq(tx.now()))
            .returning(Invitation::as_select())
            .get_result(&mut tx.conn())
            .await
            .optional()?;
        let invitation = accepted.ok_or_else(|| Error::not_found("invitation"))?;
        let org = invitation.organisation_id;
        let new = NewMember {
            first_name: &invitation.first_name,
            last_name: &invitation.last_name,
            email: &invitation.email,
            password_hash: &password_hash,
        };
        let member: Member = member::insert_in(tx, org, new).await?;
        // A group may have gone since; the others still count.
        let groups: Vec<GroupId> = groups::table
            .filter(groups::organisation_id.eq(org).and(groups::id.eq_any(&invitation.group_ids)))
            .select(groups::id)
            .for_key_share()
            .load(&mut tx.conn())
            .await?;
        member::join_in(tx, org, member.id, &groups).await?;
        let token = session::open_in(tx, member.id).await?;
        let place = Place { org, env: None, address: info.address };
        audit::append_in(tx, place, &Actor::Member(member.id), "member.accept-invitation", invitation.id, &[]).await?;
        Ok(SignedIn { token, member })
    })
    .await
}
