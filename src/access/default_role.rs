//! The three default roles as a table, and the highest level that each resource has (§3.3).

use super::{Grants, Level, Resource};

/// A role that every organisation has. It cannot be edited or deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultRole {
    Owner,
    Admin,
    Editor,
}

use Level::{Admin, Edit, View};

/// One row for each resource: what Owner, Admin and Editor may do with it.
type Row = (Resource, Level, Option<Level>, Option<Level>);

const TABLE: &[Row] = &[
    (Resource::CardTemplate, Admin, Some(Admin), Some(Edit)),
    (Resource::ActionFlow, Admin, Some(Admin), Some(Edit)),
    (Resource::SendToCustomers, Edit, Some(Edit), Some(Edit)),
    (Resource::Theme, Admin, Some(Admin), Some(Edit)),
    (Resource::Stream, Admin, Some(Admin), Some(Edit)),
    (Resource::StreamContainer, Admin, Some(Admin), Some(View)),
    (Resource::Customer, Admin, Some(Admin), Some(Edit)),
    (Resource::CardInstance, Edit, Some(Edit), Some(Edit)),
    (Resource::CustomField, Admin, Some(Admin), Some(Edit)),
    (Resource::Tag, Admin, Some(Admin), Some(Edit)),
    (Resource::Segment, Admin, Some(Admin), Some(Edit)),
    (Resource::Analytics, View, Some(View), Some(View)),
    (Resource::AnalyticsExportSettings, Edit, Some(Edit), Some(View)),
    (Resource::WebhookSubscription, Admin, Some(Admin), Some(View)),
    (Resource::WebhookRequestLog, View, Some(View), Some(View)),
    (Resource::WebhookCredential, Admin, Some(Admin), None),
    (Resource::ApiAuthenticationControl, Admin, Some(Admin), None),
    (Resource::SdkApiKey, Admin, Some(Admin), None),
    (Resource::NotificationPlatform, Admin, Some(Admin), None),
    (Resource::TestAccount, Admin, Some(Admin), Some(Edit)),
    (Resource::Integration, Admin, Some(Admin), Some(View)),
    (Resource::ApprovalConfiguration, Admin, Some(Admin), Some(View)),
    (Resource::ApprovalOverride, Admin, None, None),
    (Resource::Environment, Admin, Some(Admin), Some(View)),
    (Resource::Organisation, Edit, Some(View), Some(View)),
    (Resource::Member, Admin, Some(Admin), None),
    (Resource::MemberGroupAssignment, Edit, Some(Edit), None),
    (Resource::Role, Admin, Some(View), None),
    (Resource::Group, Admin, Some(View), None),
    (Resource::AuditLog, View, Some(View), None),
    (Resource::SdkRequestLog, View, Some(View), Some(View)),
];

impl DefaultRole {
    pub const ALL: [DefaultRole; 3] = [DefaultRole::Owner, DefaultRole::Admin, DefaultRole::Editor];

    /// The word that stands in rows.
    pub fn word(self) -> &'static str {
        match self {
            DefaultRole::Owner => "owner",
            DefaultRole::Admin => "admin",
            DefaultRole::Editor => "editor",
        }
    }

    pub fn parse(word: &str) -> Option<DefaultRole> {
        DefaultRole::ALL.into_iter().find(|role| role.word() == word)
    }

    pub fn title(self) -> &'static str {
        match self {
            DefaultRole::Owner => "Owner",
            DefaultRole::Admin => "Admin",
            DefaultRole::Editor => "Editor",
        }
    }

    pub fn description(self) -> &'static str {
        match self {
            DefaultRole::Owner => "May do everything",
            DefaultRole::Admin => "Runs the environments and invites members",
            DefaultRole::Editor => "Makes cards and flows",
        }
    }

    pub fn grants(self) -> Grants {
        let mut grants = Grants::new();
        for (resource, owner, admin, editor) in TABLE {
            let level = match self {
                DefaultRole::Owner => Some(*owner),
                DefaultRole::Admin => *admin,
                DefaultRole::Editor => *editor,
            };
            if let Some(level) = level {
                grants.give(*resource, level);
            }
        }
        grants
    }
}

impl Resource {
    /// The highest level that means anything. Owners have it.
    pub fn highest(self) -> Level {
        TABLE.iter().find(|row| row.0 == self).map_or(Level::Admin, |row| row.1)
    }

    /// Whether this is about the whole organisation and comes only from roles valid in all environments.
    pub fn concerns_organisation(self) -> bool {
        matches!(
            self,
            Resource::Organisation
                | Resource::Member
                | Resource::MemberGroupAssignment
                | Resource::Role
                | Resource::Group
                | Resource::AuditLog
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_one_row_for_each_resource() {
        let listed: Vec<Resource> = TABLE.iter().map(|row| row.0).collect();
        assert_eq!(listed, Resource::ALL);
    }

    #[test]
    fn default_roles_hold_what_the_table_says() {
        let [owner, admin, editor] = DefaultRole::ALL.map(DefaultRole::grants);
        for resource in Resource::ALL {
            assert_eq!(owner.level(*resource), Some(resource.highest()));
            assert!(admin.level(*resource) <= owner.level(*resource));
            assert!(editor.level(*resource) <= admin.level(*resource));
        }
        assert_eq!(admin.level(Resource::ApprovalOverride), None);
        assert_eq!(admin.level(Resource::Role), Some(View));
        assert_eq!(editor.level(Resource::SendToCustomers), Some(Edit));
        assert_eq!(editor.level(Resource::WebhookCredential), None);
        assert_eq!(DefaultRole::parse("editor"), Some(DefaultRole::Editor));
    }
}
