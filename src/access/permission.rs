//! Resources and levels.

use std::collections::BTreeMap;

macro_rules! resources {
    ($($variant:ident = $word:literal;)*) => {
        /// What a permission is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Resource { $($variant),* }

        impl Resource {
            pub const ALL: &'static [Resource] = &[$(Resource::$variant),*];

            /// The word that stands on the wire and in rows.
            pub fn word(self) -> &'static str {
                match self { $(Resource::$variant => $word),* }
            }

            pub fn parse(word: &str) -> Option<Resource> {
                match word { $($word => Some(Resource::$variant),)* _ => None }
            }
        }
    };
}

resources! {
    CardTemplate = "card-template";
    ActionFlow = "action-flow";
    SendToCustomers = "send-to-customers";
    Theme = "theme";
    Stream = "stream";
    StreamContainer = "stream-container";
    Customer = "customer";
    CardInstance = "card-instance";
    CustomField = "custom-field";
    Tag = "tag";
    Segment = "segment";
    Analytics = "analytics";
    AnalyticsExportSettings = "analytics-export-settings";
    WebhookSubscription = "webhook-subscription";
    WebhookRequestLog = "webhook-request-log";
    WebhookCredential = "webhook-credential";
    ApiAuthenticationControl = "api-authentication-control";
    SdkApiKey = "sdk-api-key";
    NotificationPlatform = "notification-platform";
    TestAccount = "test-account";
    Integration = "integration";
    ApprovalConfiguration = "approval-configuration";
    ApprovalOverride = "approval-override";
    Environment = "environment";
    Organisation = "organisation";
    Member = "member";
    MemberGroupAssignment = "member-group-assignment";
    Role = "role";
    Group = "group";
    AuditLog = "audit-log";
    SdkRequestLog = "sdk-request-log";
}

/// How much of a resource: each level includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    View,
    Edit,
    Admin,
}

impl Level {
    pub fn word(self) -> &'static str {
        match self {
            Level::View => "view",
            Level::Edit => "edit",
            Level::Admin => "admin",
        }
    }

    pub fn parse(word: &str) -> Option<Level> {
        match word {
            "view" => Some(Level::View),
            "edit" => Some(Level::Edit),
            "admin" => Some(Level::Admin),
            _ => None,
        }
    }
}

/// The levels somebody has. Absent: the resource is invisible to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants(BTreeMap<Resource, Level>);

impl Grants {
    pub fn new() -> Grants {
        Grants::default()
    }

    /// Every resource at Admin.
    pub fn everything() -> Grants {
        Grants(Resource::ALL.iter().map(|resource| (*resource, Level::Admin)).collect())
    }

    /// Adds a level; the highest counts.
    pub fn give(&mut self, resource: Resource, level: Level) {
        let held = self.0.entry(resource).or_insert(level);
        *held = (*held).max(level);
    }

    /// Adds all that another set holds.
    pub fn join(&mut self, other: &Grants) {
        for (resource, level) in &other.0 {
            self.give(*resource, *level);
        }
    }

    pub fn level(&self, resource: Resource) -> Option<Level> {
        self.0.get(&resource).copied()
    }

    pub fn iter(&self) -> impl Iterator<Item = (Resource, Level)> {
        self.0.iter().map(|(resource, level)| (*resource, *level))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_level_counts() {
        let mut grants = Grants::new();
        grants.give(Resource::Stream, Level::Edit);
        grants.give(Resource::Stream, Level::View);
        assert_eq!(grants.level(Resource::Stream), Some(Level::Edit));
        assert_eq!(grants.level(Resource::Theme), None);
    }

    #[test]
    fn words_round_trip() {
        for resource in Resource::ALL {
            assert_eq!(Resource::parse(resource.word()), Some(*resource));
        }
        assert_eq!(Resource::ALL.len(), 31);
    }
}
