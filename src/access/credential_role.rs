//! What each role of API credentials may do (§3.7).

use super::{Grants, Level, Resource};

/// The role of an API credential. Unlike a member's roles it is fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CredentialRole {
    /// Administers an environment.
    Workbench,
    /// Sends cards and keeps customers up to date.
    Events,
    /// Makes and deletes credentials of the two other roles.
    Auth,
}

impl CredentialRole {
    pub const ALL: [CredentialRole; 3] = [CredentialRole::Workbench, CredentialRole::Events, CredentialRole::Auth];

    pub fn word(self) -> &'static str {
        match self {
            CredentialRole::Workbench => "workbench",
            CredentialRole::Events => "events",
            CredentialRole::Auth => "auth",
        }
    }

    pub fn parse(word: &str) -> Option<CredentialRole> {
        CredentialRole::ALL.into_iter().find(|role| role.word() == word)
    }

    /// The levels in the credential's environment. What `events` may do beyond a level, such as test a flow that it
    /// may not edit, the operation allows with [`Access::require_or`](super::Access::require_or).
    pub fn grants(self) -> Grants {
        let mut grants = Grants::new();
        match self {
            CredentialRole::Workbench => {
                for resource in Resource::ALL.iter().filter(|resource| administered_by_workbench(**resource)) {
                    grants.give(*resource, resource.highest());
                }
            }
            CredentialRole::Events => {
                for (resource, level) in [
                    (Resource::ActionFlow, Level::View),
                    (Resource::SendToCustomers, Level::Edit),
                    (Resource::CardInstance, Level::Edit),
                    (Resource::Customer, Level::Admin),
                    (Resource::Tag, Level::View),
                    (Resource::CustomField, Level::View),
                    (Resource::Segment, Level::View),
                    (Resource::Analytics, Level::View),
                ] {
                    grants.give(resource, level);
                }
            }
            CredentialRole::Auth => grants.give(Resource::ApiAuthenticationControl, Level::Admin),
        }
        grants
    }
}

fn administered_by_workbench(resource: Resource) -> bool {
    !resource.concerns_organisation()
        && !matches!(
            resource,
            Resource::ApiAuthenticationControl | Resource::ApprovalOverride | Resource::SendToCustomers
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_hold_what_the_table_says() {
        let [workbench, events, auth] = CredentialRole::ALL.map(CredentialRole::grants);
        for resource in [
            Resource::ApiAuthenticationControl,
            Resource::ApprovalOverride,
            Resource::SendToCustomers,
            Resource::Member,
            Resource::AuditLog,
        ] {
            assert_eq!(workbench.level(resource), None, "{resource:?}");
        }
        assert_eq!(workbench.level(Resource::CardTemplate), Some(Level::Admin));
        assert_eq!(workbench.level(Resource::Environment), Some(Level::Admin));
        assert_eq!(events.level(Resource::WebhookSubscription), None);
        assert_eq!(events.level(Resource::Customer), Some(Level::Admin));
        assert_eq!(auth.iter().collect::<Vec<_>>(), [(Resource::ApiAuthenticationControl, Level::Admin)]);
    }
}
