//! Typed identifiers: TypeIDs outside, bare UUIDv7 in Postgres, one door to randomness.

use std::sync::Arc;

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::serialize::{self, Output, ToSql};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use type_safe_id::{DynamicType, TypeSafeId};
use uuid::Uuid;

use crate::clock::Time;
use crate::error::{Error, Result};

/// An identifier with a prefix of its own.
pub trait Id: Copy + Send + Sync + 'static {
    const PREFIX: &'static str;
    /// What error messages call the thing.
    const NOUN: &'static str;

    fn from_uuid(uuid: Uuid) -> Self;
    fn uuid(self) -> Uuid;

    /// When an id was made that sorts by that.
    fn made_at(self) -> Time {
        let millis = self.uuid().as_u64_pair().0 >> 16;
        Time::from_millisecond(millis.cast_signed())
    }

    /// Reads a TypeID. A wrong prefix or shape is answered like an unknown id.
    fn parse(text: &str) -> Result<Self> {
        let id: TypeSafeId<DynamicType> = text.parse().map_err(|_| Error::not_found(Self::NOUN))?;
        if id.type_prefix() != Self::PREFIX {
            return Err(Error::not_found(Self::NOUN));
        }
        Ok(Self::from_uuid(id.uuid()))
    }
}

/// An identifier that is the key of rows in one table of an environment.
pub trait Tenanted: Id {
    const TABLE: &'static str;
}

/// Formats a TypeID.
fn write(prefix: &'static str, uuid: Uuid, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
    let kind = DynamicType::new(prefix).map_err(|_| std::fmt::Error)?;
    write!(f, "{}", TypeSafeId::from_type_and_uuid(kind, uuid))
}

macro_rules! id {
    ($($name:ident, $prefix:literal, $noun:literal $(, $table:literal)?;)*) => {$(
        #[doc = concat!("Identifies a ", $noun, ": `", $prefix, "_…`.")]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, AsExpression, FromSqlRow)]
        #[diesel(sql_type = diesel::sql_types::Uuid)]
        pub struct $name(Uuid);

        impl Id for $name {
            const PREFIX: &'static str = $prefix;
            const NOUN: &'static str = $noun;

            fn from_uuid(uuid: Uuid) -> Self {
                $name(uuid)
            }

            fn uuid(self) -> Uuid {
                self.0
            }
        }

        $(impl Tenanted for $name {
            const TABLE: &'static str = $table;
        })?

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write($prefix, self.0, f)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                Id::parse(text)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                Id::parse(&text).map_err(|_| serde::de::Error::custom(concat!("not the id of a ", $noun)))
            }
        }

        impl ToSql<diesel::sql_types::Uuid, Pg> for $name {
            fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
                ToSql::<diesel::sql_types::Uuid, Pg>::to_sql(&self.0, out)
            }
        }

        impl FromSql<diesel::sql_types::Uuid, Pg> for $name {
            fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
                <Uuid as FromSql<diesel::sql_types::Uuid, Pg>>::from_sql(value).map($name)
            }
        }
    )*

        /// What the prefix of a TypeID says its thing is called.
        pub fn noun(text: &str) -> Option<&'static str> {
            match text.rsplit_once('_')?.0 {
                $($prefix => Some($noun),)*
                _ => None,
            }
        }
    };
}

id! {
    OrgId, "org", "organisation";
    EnvId, "env", "environment";
    MemberId, "mem", "member";
    InvitationId, "invt", "invitation";
    RoleId, "role", "role";
    GroupId, "grp", "group";
    AuditId, "aud", "audit entry";
    CredentialId, "cred", "API credential", "api_credentials";
    SdkKeyId, "key", "SDK API key", "sdk_keys";
    SdkFailureId, "sdkf", "failed SDK request";
    ThemeId, "thm", "theme", "themes";
    TemplateId, "tmpl", "card template", "card_templates";
    StreamId, "strm", "stream", "streams";
    ContainerId, "ctnr", "stream container", "containers";
    CardId, "card", "card", "cards";
    LifecycleId, "life", "lifecycle";
    FlowId, "flow", "action flow", "flows";
    RunId, "run", "flow run", "runs";
    InvocationId, "finv", "flow invocation";
    BatchId, "batch", "start request";
    TriggerId, "trig", "trigger", "triggers";
    TriggerRequestId, "treq", "trigger request";
    CustomerId, "usr", "customer", "customers";
    EventId, "evt", "event", "events";
    WebhookId, "whk", "webhook subscription", "webhook_subscriptions";
    OutgoingCredentialId, "ocred", "outgoing credential", "outgoing_credentials";
    RequestId, "req", "outgoing request";
    ReplayId, "rply", "webhook replay", "webhook_replays";
    NotificationId, "ntf", "notification";
    TaskId, "task", "task", "flow_tasks";
}

/// Makes ids. The system's generator is random; tests use a seeded one, so that runs repeat.
#[derive(Clone)]
pub struct Ids {
    source: Source,
    count: Arc<Mutex<Count>>,
}

/// How many ids were made since an instant: those of one instant sort in the order of their making, whatever is made
/// between them. It begins anew with a minute, longer than anybody makes ids of one instant.
#[derive(Default)]
struct Count {
    since: u64,
    made: u32,
}

/// The milliseconds for which ids are counted.
const COUNTED: u64 = 60_000;

#[derive(Clone)]
enum Source {
    Random,
    Seeded(Arc<Mutex<StdRng>>),
}

impl Ids {
    pub fn random() -> Ids {
        Ids { source: Source::Random, count: Arc::default() }
    }

    pub fn seeded(seed: u64) -> Ids {
        let rng = Arc::new(Mutex::new(StdRng::seed_from_u64(seed)));
        Ids { source: Source::Seeded(rng), count: Arc::default() }
    }

    /// A new id that sorts by `now`, and after those made before it in the same millisecond.
    pub fn make<T: Id>(&self, now: Time) -> T {
        let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
        let mut bytes = self.bytes::<10>();
        // The 26 bits that follow the time and the version hold the count; 48 random bits remain.
        let count = self.count(millis);
        let [_, a, b, c] = (count & 0x3fff).to_be_bytes();
        let [_, _, high, low] = (count >> 14).to_be_bytes();
        debug_assert_eq!(a, 0, "fourteen bits fit two bytes");
        (bytes[0], bytes[1], bytes[2], bytes[3]) = (high, low, b, c);
        T::from_uuid(uuid::Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid())
    }

    fn count(&self, millis: u64) -> u32 {
        let mut count = self.count.lock();
        let begins = millis >= count.since + COUNTED;
        *count = if begins { Count { since: millis, made: 0 } } else { Count { made: count.made + 1, ..*count } };
        count.made & 0x03ff_ffff
    }

    /// A new id that nobody can guess.
    pub fn unguessable<T: Id>(&self) -> T {
        T::from_uuid(uuid::Builder::from_random_bytes(self.bytes()).into_uuid())
    }

    /// Random bytes for secrets, nonces, salts and jitter.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        match &self.source {
            Source::Random => rand::rng().fill_bytes(&mut bytes),
            Source::Seeded(rng) => rng.lock().fill_bytes(&mut bytes),
        }
        bytes
    }

    /// A number in `0.0..1.0`.
    pub fn fraction(&self) -> f64 {
        let [a, b, c, d] = self.bytes::<4>();
        f64::from(u32::from_le_bytes([a, b, c, d])) / (f64::from(u32::MAX) + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn ids_are_typeids_that_round_trip() {
        let id: CardId = Ids::random().make(Time::from_millisecond(1_767_225_600_000));
        let text = id.to_string();
        assert!(text.starts_with("card_"));
        assert_eq!(text.len(), "card_".len() + 26);
        assert_eq!(text.parse::<CardId>().unwrap(), id);
    }

    #[test]
    fn another_prefix_is_an_unknown_id() {
        let id: CardId = Ids::random().make(Time::from_millisecond(0));
        let error = id.to_string().replace("card_", "tmpl_").parse::<CardId>().unwrap_err();
        assert_eq!(error.code(), Code::NotFound);
        assert_eq!("nonsense".parse::<CardId>().unwrap_err().code(), Code::NotFound);
    }

    #[test]
    fn ids_of_one_millisecond_sort_in_the_order_of_their_making() {
        let ids = Ids::random();
        let make = |_| {
            // Another transaction makes one between.
            ids.make::<CardId>(Time::from_millisecond(8));
            ids.make(Time::from_millisecond(7))
        };
        let made: Vec<CardId> = (0..100_000).map(make).collect();
        assert!(made.is_sorted());
        assert_eq!(made[0].made_at(), Time::from_millisecond(7));
    }

    #[test]
    fn seeded_ids_repeat() {
        let make = || Ids::seeded(7).make::<CardId>(Time::from_millisecond(5));
        assert_eq!(make(), make());
    }
}
