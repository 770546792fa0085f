//! Signing in by email and password, and the sessions that come of it (§3.2).

use std::sync::Arc;
use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Binary, Integer, Nullable, Timestamptz};
use diesel_async::RunQueryDsl;

use super::audit::{self, Place};
use super::member::{self, Member};
use super::{Actor, RequestInfo, Viewer, password};
use crate::app::App;
use crate::clock::Time;
use crate::db::Tx;
use crate::db::schema::{member_sessions, members, organisations, sign_in_attempts};
use crate::error::{Code, Error, Result};
use crate::ids::{Ids, MemberId, OrgId};
use crate::secret::{Secret, random_token, token_hash};

/// What a session token begins with, so that bearer tokens can be told apart without trying.
pub const PREFIX: &str = "cws_";

/// Failures within [`WINDOW`] after which an address is locked for as long.
const MOST_FAILURES: i32 = 10;
const WINDOW: Duration = Duration::from_secs(15 * 60);

/// How exactly the last use of a session is known. Writing every use down would cost a write for each request.
const USE_NOTED_EVERY: Duration = Duration::from_secs(60);
const ATTEMPTS_KEPT: Duration = Duration::from_secs(24 * 3600);

/// A member who has just signed in, and the token that only they get to see.
pub struct SignedIn {
    pub token: Secret,
    pub member: Member,
}

/// Signs a member in. An unknown address and a wrong password get the same answer in the same time.
pub async fn sign_in(app: &App, info: &RequestInfo, email: &str, password: &str) -> Result<SignedIn> {
    let email = normalised(email);
    let email_hash = token_hash(&email);
    // Counted before the password is looked at: a hundred guesses at once are a hundred attempts.
    app.transact(async |tx| count_attempt_in(tx, &email_hash).await).await??;
    let known: Option<(Member, String)> = members::table
        .filter(members::email.eq(&email))
        .select((Member::as_select(), members::password_hash))
        .first(&mut &*app.read().await?)
        .await
        .optional()?;
    let matches = password::matches(password, known.as_ref().map(|(_, hash)| hash.as_str())).await?;
    let Some((member, _)) = known.filter(|_| matches) else {
        return Err(Error::new(Code::Unauthenticated, "the email address or the password is wrong"));
    };
    app.transact(async |tx| {
        diesel::delete(sign_in_attempts::table.find(&email_hash)).execute(&mut tx.conn()).await?;
        let token = open_in(tx, member.id).await?;
        let place = Place { org: member.organisation_id, env: None, address: info.address };
        audit::append_in(tx, place, &Actor::Member(member.id), "member.sign-in", member.id, &[]).await?;
        Ok(SignedIn { token, member })
    })
    .await
}

/// Email addresses are compared without regard to case.
pub(super) fn normalised(email: &str) -> String {
    email.trim().to_lowercase()
}

/// Refuses what is not an email address by any reading.
pub(super) fn check_email(email: &str) -> Result<()> {
    let parts: Vec<&str> = email.split('@').collect();
    let fits = matches!(parts.as_slice(), [user, host] if !user.is_empty() && !host.is_empty())
        && email.chars().count() <= 254
        && !email.chars().any(|c| c.is_control() || c.is_whitespace());
    if fits { Ok(()) } else { Err(Error::invalid("", "is not an email address")) }
}

#[derive(QueryableByName)]
struct Attempts {
    #[diesel(sql_type = Integer)]
    attempts: i32,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    locked_until: Option<Time>,
}

/// Counts an attempt. The inner error says that the address is locked; the count is kept either way.
async fn count_attempt_in(tx: &mut Tx, email_hash: &[u8]) -> Result<Result<()>> {
    diesel::delete(sign_in_attempts::table.filter(sign_in_attempts::began_at.lt(tx.now().minus(ATTEMPTS_KEPT))))
        .execute(&mut tx.conn())
        .await?;
    let counted: Attempts = sql_query(
        "INSERT INTO sign_in_attempts AS known (email_hash, attempts, began_at) VALUES ($1, 1, $2)
         ON CONFLICT (email_hash) DO UPDATE SET
             attempts = CASE WHEN coalesce(known.locked_until, known.began_at + $3 * interval '1 second') <= $2
                 THEN 1 ELSE least(known.attempts, 1000000) + 1 END,
             began_at = CASE WHEN coalesce(known.locked_until, known.began_at + $3 * interval '1 second') <= $2
                 THEN $2 ELSE known.began_at END,
             locked_until = CASE
                 WHEN coalesce(known.locked_until, known.began_at + $3 * interval '1 second') <= $2 THEN NULL
                 WHEN known.locked_until IS NULL AND known.attempts + 1 >= $4 THEN $2 + $3 * interval '1 second'
                 ELSE known.locked_until END
         RETURNING attempts, locked_until",
    )
    .bind::<Binary, _>(email_hash)
    .bind::<Timestamptz, _>(tx.now())
    .bind::<Integer, _>(i32::try_from(WINDOW.as_secs()).unwrap_or(i32::MAX))
    .bind::<Integer, _>(MOST_FAILURES)
    .get_result(&mut tx.conn())
    .await?;
    if counted.attempts <= MOST_FAILURES {
        return Ok(Ok(()));
    }
    let left = counted.locked_until.map_or(0, |until| until.since(tx.now()).as_secs());
    Ok(Err(Error::rate_limited(left.max(1))))
}

/// Begins a session and gives its token.
pub(super) async fn open_in(tx: &mut Tx, member: MemberId) -> Result<Secret> {
    let token = new_token(tx.ids());
    diesel::insert_into(member_sessions::table)
        .values((
            member_sessions::token_hash.eq(token_hash(token.expose())),
            member_sessions::member_id.eq(member),
            member_sessions::created_at.eq(tx.now()),
            member_sessions::last_used_at.eq(tx.now()),
        ))
        .execute(&mut tx.conn())
        .await?;
    Ok(token)
}

fn new_token(ids: &Ids) -> Secret {
    Secret::new(format!("{PREFIX}{}", random_token(ids).expose()))
}

/// Who a session token belongs to. Use within the inactivity time keeps the session alive.
pub(super) async fn viewer(app: &App, token: &str, info: RequestInfo) -> Result<Viewer> {
    let hash = token_hash(token);
    let conn = app.read().await?;
    let found: Option<(MemberId, OrgId, Time, i32)> = member_sessions::table
        .inner_join(members::table.on(members::id.eq(member_sessions::member_id)))
        .inner_join(organisations::table.on(organisations::id.eq(members::organisation_id)))
        .filter(member_sessions::token_hash.eq(&hash))
        .select((
            members::id,
            members::organisation_id,
            member_sessions::last_used_at,
            organisations::inactivity_minutes,
        ))
        .first(&mut &*conn)
        .await
        .optional()?;
    let (member, org, last_used_at, inactivity_minutes) =
        found.ok_or_else(|| Error::new(Code::Unauthenticated, "the session is unknown or has ended"))?;
    let idle = app.clock().now().since(last_used_at);
    if idle >= Duration::from_secs(60 * u64::try_from(inactivity_minutes).unwrap_or(0)) {
        diesel::delete(member_sessions::table.find(&hash)).execute(&mut &*conn).await?;
        return Err(Error::new(Code::TokenExpired, "the session ended for lack of activity"));
    }
    if idle >= USE_NOTED_EVERY {
        diesel::update(member_sessions::table.find(&hash))
            .set(member_sessions::last_used_at.eq(app.clock().now()))
            .execute(&mut &*conn)
            .await?;
    }
    let viewer = member::viewer(&conn, org, member, info).await?;
    Ok(Viewer { session: Some(Arc::from(hash)), ..viewer })
}

/// Ends the session of the request. API credentials have none to end.
pub async fn sign_out(app: &App, viewer: &Viewer) -> Result<()> {
    let session = viewer.session.as_ref().ok_or_else(|| Error::forbidden("only a signed-in member can sign out"))?;
    app.transact(async |tx| {
        diesel::delete(member_sessions::table.find(session.as_ref())).execute(&mut tx.conn()).await?;
        audit::record_in(tx, &viewer.organisation(), "member.sign-out", object(viewer), &[]).await
    })
    .await
}

fn object(viewer: &Viewer) -> String {
    viewer.actor.member().map(|member| member.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn email_addresses() {
        assert_eq!(normalised(" Ana@Example.COM "), "ana@example.com");
        for (email, fits) in
            [("ana@example.com", true), ("ana", false), ("@example.com", false), ("a@b@c", false), ("a b@c", false)]
        {
            assert_eq!(check_email(email).is_ok(), fits, "{email}");
        }
    }
}
