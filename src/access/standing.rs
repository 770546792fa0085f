//! What a member's groups give: levels that hold everywhere, and levels in listed environments.

use std::collections::BTreeMap;

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;

use super::{Access, Actor, DefaultRole, Grants};
use crate::db::schema::{group_members, group_roles, roles};
use crate::error::{Error, Result};
use crate::ids::{EnvId, MemberId, OrgId};

/// The levels of a member, or of the server itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// From role assignments that are valid in all environments.
    pub everywhere: Grants,
    /// From those that are valid in listed environments.
    pub listed: BTreeMap<EnvId, Grants>,
}

impl Standing {
    pub(super) async fn of_member(conn: &AsyncPgConnection, org: OrgId, member: MemberId) -> Result<Standing> {
        let rows: Vec<(Option<String>, Value, Option<Vec<EnvId>>)> =
            group_members::table
                .inner_join(
                    group_roles::table.on(group_roles::organisation_id
                        .eq(group_members::organisation_id)
                        .and(group_roles::group_id.eq(group_members::group_id))),
                )
                .inner_join(roles::table.on(
                    roles::organisation_id.eq(group_roles::organisation_id).and(roles::id.eq(group_roles::role_id)),
                ))
                .filter(group_members::organisation_id.eq(org))
                .filter(group_members::member_id.eq(member))
                .select((roles::built_in, roles::levels, group_roles::environment_ids))
                .load(&mut &*conn)
                .await?;
        let mut standing = Standing::default();
        for (built_in, levels, environments) in rows {
            standing.add(&role_grants(built_in.as_deref(), &levels), environments.as_deref());
        }
        Ok(standing)
    }

    /// The standing of whoever acts. API credentials have none in the organisation.
    pub(super) async fn of_actor(conn: &AsyncPgConnection, access: &Access) -> Result<Standing> {
        match access.actor() {
            Actor::Member(member) => Standing::of_member(conn, access.org(), *member).await,
            Actor::System(_) => Ok(Standing { everywhere: Grants::everything(), listed: BTreeMap::new() }),
            Actor::Credential(_) => Ok(Standing::default()),
        }
    }

    fn add(&mut self, grants: &Grants, environments: Option<&[EnvId]>) {
        match environments {
            None => self.everywhere.join(grants),
            Some(listed) => {
                for env in listed {
                    self.listed.entry(*env).or_default().join(&grants.in_environment());
                }
            }
        }
    }

    pub(super) fn in_environment(&self, env: EnvId) -> Grants {
        let mut grants = self.everywhere.in_environment();
        if let Some(listed) = self.listed.get(&env) {
            grants.join(listed);
        }
        grants
    }

    /// Refuses to hand out a role in environments (`None`: in all) where it holds a level above one's own.
    pub(super) fn may_grant(&self, grants: &Grants, environments: Option<&[EnvId]>) -> Result<(), Error> {
        match environments {
            None => grants.within(&self.everywhere),
            Some(listed) => {
                listed.iter().try_for_each(|env| grants.in_environment().within(&self.in_environment(*env)))
            }
        }
    }
}

/// The levels of a role: those of the code for a default role, else those of its row.
pub(super) fn role_grants(built_in: Option<&str>, levels: &Value) -> Grants {
    match built_in.and_then(DefaultRole::parse) {
        Some(default) => default.grants(),
        None => Grants::from_row(levels),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Level, Resource};
    use crate::clock::Time;
    use crate::error::Code;
    use crate::ids::Ids;

    fn env() -> EnvId {
        Ids::random().make(Time::from_millisecond(0))
    }

    #[test]
    fn roles_in_listed_environments_say_nothing_about_the_organisation() {
        let (here, there) = (env(), env());
        let mut standing = Standing::default();
        standing.add(&DefaultRole::Owner.grants(), Some(&[here]));
        standing.add(&DefaultRole::Editor.grants(), None);
        assert_eq!(standing.everywhere.level(Resource::Member), None);
        assert_eq!(standing.in_environment(here).level(Resource::Member), None);
        assert_eq!(standing.in_environment(here).level(Resource::Theme), Some(Level::Admin));
        assert_eq!(standing.in_environment(there).level(Resource::Theme), Some(Level::Edit));
    }

    #[test]
    fn nobody_grants_above_their_own_level() {
        let (here, there) = (env(), env());
        let mut standing = Standing::default();
        standing.add(&DefaultRole::Admin.grants(), Some(&[here]));
        standing.add(&DefaultRole::Editor.grants(), None);
        let admin = DefaultRole::Admin.grants();
        assert!(standing.may_grant(&admin, Some(&[here])).is_ok());
        assert_eq!(standing.may_grant(&admin, Some(&[here, there])).unwrap_err().code(), Code::Forbidden);
        assert_eq!(standing.may_grant(&admin, None).unwrap_err().code(), Code::Forbidden);
        assert!(standing.may_grant(&DefaultRole::Editor.grants(), None).is_ok());
    }
}
