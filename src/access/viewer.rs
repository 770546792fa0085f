//! The authenticated caller, and the permission to act in one environment.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use serde::{Deserialize, Serialize};

use super::{CredentialRole, Grants, Level, Resource};
use crate::app::App;
use crate::clock::Time;
use crate::error::{Code, Error, Result};
use crate::events::log::Permit;
use crate::ids::{CredentialId, CustomerId, EnvId, MemberId, OrgId, SdkKeyId, Tenanted};

/// Who acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    Member(MemberId),
    Credential(CredentialId),
    /// The server itself, under the name of the part that acts.
    System(&'static str),
}

impl Actor {
    /// The member, where a member acts.
    pub fn member(&self) -> Option<MemberId> {
        match self {
            Actor::Member(member) => Some(*member),
            _ => None,
        }
    }
}

/// Circumstances of a request that events and the audit log mention.
#[derive(Clone, Debug, Default)]
pub struct RequestInfo {
    pub address: Option<IpAddr>,
}

/// A member or an API credential, with what it may do in each environment it can see.
#[derive(Clone, Debug)]
pub struct Viewer {
    pub org: OrgId,
    pub actor: Actor,
    /// The role, where an API credential acts.
    pub role: Option<CredentialRole>,
    /// The hash of the session's token, where a member is signed in.
    pub session: Option<Arc<[u8]>>,
    /// When the access token of an API credential ends. Sessions end for lack of use.
    pub expires_at: Option<Time>,
    pub info: RequestInfo,
    /// What holds in the whole organisation, whatever the environment.
    pub organisation_grants: Arc<Grants>,
    pub environments: BTreeMap<EnvId, Arc<Grants>>,
}

#[derive(QueryableByName)]
struct Located {
    #[diesel(sql_type = SqlUuid)]
    environment_id: EnvId,
}

impl Viewer {
    /// Enters an environment. One that the viewer cannot see is answered like an unknown one.
    pub fn access(&self, env: EnvId) -> Result<Access> {
        let grants = self.environments.get(&env).ok_or_else(|| Error::not_found("environment"))?;
        Ok(self.with(Some(env), grants.clone()))
    }

    /// Enters the environment of an object, looked up among those the viewer can see.
    pub async fn locate<T: Tenanted>(&self, app: &App, id: T) -> Result<Access> {
        let visible: Vec<uuid::Uuid> = self.environments.keys().map(|env| crate::ids::Id::uuid(*env)).collect();
        // The table is a constant of the id's type, never a caller's text.
        let query = format!("SELECT environment_id FROM {} WHERE environment_id = ANY($1) AND id = $2", T::TABLE);
        let located: Option<Located> = sql_query(query)
            .bind::<Array<SqlUuid>, _>(visible)
            .bind::<SqlUuid, _>(id.uuid())
            .get_result(&mut &*app.read().await?)
            .await
            .optional()?;
        self.access(located.ok_or_else(|| Error::not_found(T::NOUN))?.environment_id)
    }

    /// Acts on the organisation itself.
    pub fn organisation(&self) -> Access {
        self.with(None, self.organisation_grants.clone())
    }

    fn with(&self, env: Option<EnvId>, grants: Arc<Grants>) -> Access {
        Access { org: self.org, env, actor: self.actor.clone(), role: self.role, info: self.info.clone(), grants }
    }
}

/// The permission to act: in one environment, or on the organisation.
#[derive(Clone, Debug)]
pub struct Access {
    org: OrgId,
    env: Option<EnvId>,
    actor: Actor,
    role: Option<CredentialRole>,
    info: RequestInfo,
    grants: Arc<Grants>,
}

impl Access {
    /// The server's own access to an environment, for the named part of it.
    pub(crate) fn system(org: OrgId, env: EnvId, part: &'static str) -> Access {
        let grants = Arc::new(Grants::everything());
        Access { org, env: Some(env), actor: Actor::System(part), role: None, info: RequestInfo::default(), grants }
    }

    /// Asks for a level of a resource. What one may not even view does not exist for reads.
    pub fn require(&self, resource: Resource, level: Level) -> Result<()> {
        match self.grants.level(resource) {
            Some(held) if held >= level => Ok(()),
            None if level == Level::View => Err(Error::new(Code::NotFound, "not found")),
            _ => Err(Error::forbidden(format!("this needs {} on {}", level.word(), resource.word()))),
        }
    }

    /// Asks for a level, or for an API credential of `role`, which may do this one thing without the level (§3.7).
    pub fn require_or(&self, role: CredentialRole, resource: Resource, level: Level) -> Result<()> {
        if self.role == Some(role) { Ok(()) } else { self.require(resource, level) }
    }

    /// Refuses API credentials of other roles. Members pass: the operation asks for their level.
    pub fn require_role(&self, roles: &[CredentialRole]) -> Result<()> {
        match self.role {
            Some(role) if !roles.contains(&role) => {
                Err(Error::forbidden(format!("this is not for API credentials of role {}", role.word())))
            }
            _ => Ok(()),
        }
    }

    /// The permission to read recorded events.
    pub fn read_events(&self) -> Result<Permit> {
        self.require(Resource::Analytics, Level::View)?;
        Ok(Permit::new(self.env()))
    }

    pub fn org(&self) -> OrgId {
        self.org
    }

    /// The environment. Access to the organisation has the nil environment, in which no row lives.
    pub fn env(&self) -> EnvId {
        self.env.unwrap_or_else(|| crate::ids::Id::from_uuid(uuid::Uuid::nil()))
    }

    /// The environment, when this is access to one.
    pub fn environment(&self) -> Option<EnvId> {
        self.env
    }

    pub fn actor(&self) -> &Actor {
        &self.actor
    }

    /// The role, where an API credential acts.
    pub fn role(&self) -> Option<CredentialRole> {
        self.role
    }

    pub fn info(&self) -> &RequestInfo {
        &self.info
    }

    pub fn grants(&self) -> &Grants {
        &self.grants
    }
}

/// What an SDK says of itself, as events repeat it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SdkContext {
    pub platform: Option<String>,
    pub sdk_version: Option<String>,
    pub device: Option<String>,
    pub timezone: Option<String>,
    pub app_version: Option<String>,
}

/// An app before anybody has signed in to it: known by the name of its SDK API key alone.
#[derive(Clone, Debug)]
pub struct AppAccess {
    pub env: EnvId,
    pub key: SdkKeyId,
    pub sdk: SdkContext,
    pub info: RequestInfo,
}

/// By what a customer in an app was known, for the log of failed requests.
#[derive(Debug, Default)]
pub struct Proof {
    pub key_name: String,
    /// The names of the claims in the token.
    pub claims: Vec<String>,
}

/// A customer in an app, authenticated by a token of the app's owner.
#[derive(Clone, Debug)]
pub struct SdkAccess {
    pub env: EnvId,
    pub customer: CustomerId,
    /// The customer's id as the caller knows it.
    pub user_id: String,
    pub key: SdkKeyId,
    /// The settings of the key that verified the token.
    pub key_revision: i32,
    pub proof: Arc<Proof>,
    pub sdk: SdkContext,
    pub info: RequestInfo,
    /// When the token ends.
    pub expires_at: Time,
}

impl SdkAccess {
    /// The app alone, for what needs no customer.
    pub fn app(&self) -> AppAccess {
        AppAccess { env: self.env, key: self.key, sdk: self.sdk.clone(), info: self.info.clone() }
    }
}
