//! Who may do what: organisations, environments, members, roles, credentials, SDK keys, and the audit log.
//!
//! Cast: a request is authenticated as a [`Viewer`] (a member or an API credential, who may see several
//! environments) or as [`SdkAccess`] (one customer in one environment). A viewer enters one environment and gets
//! [`Access`]; every entry point of every area takes one of these and asks [`Access::require`] first, so that no
//! transport can forget to. `access` knows no card, flow or webhook: facts about them carry ids.
//!
//! Entry points: [`authenticate`] for every request, [`setup`] for an empty database, [`session`] for sign-in.
//! What a member may do comes from groups of roles ([`member`], [`group`], [`role`]), what a server may do from the
//! role of its [`credential`], and customers are known by tokens that an [`sdk_key`] verifies. Nobody hands out a
//! level above their own, and an organisation is never without an owner.

pub mod audit;
pub mod authenticate;
pub mod credential;
pub mod document;
pub mod environment;
pub mod export_settings;
pub mod group;
pub mod invitation;
pub mod member;
pub mod organisation;
pub mod rate;
pub mod revocation;
pub mod role;
pub mod sdk_failure;
pub mod sdk_key;
pub mod session;
pub mod setup;

mod access_token;
mod claim_mapping;
mod credential_role;
mod default_role;
mod jwt;
mod levels;
mod password;
mod permission;
pub(crate) mod published_keys;
mod standing;
mod viewer;

pub use authenticate::Principal;
pub use claim_mapping::ClaimMapping;
pub use credential_role::CredentialRole;
pub use default_role::DefaultRole;
pub use permission::{Grants, Level, Resource};
pub use viewer::{Access, Actor, AppAccess, Proof, RequestInfo, SdkAccess, SdkContext, Viewer};

use crate::error::{Error, Result};

/// Refuses an update that was made from another revision than the one it found.
pub(crate) fn expect_revision(found: i32, expected: Option<i32>) -> Result<()> {
    match expected {
        Some(expected) if expected != found => {
            Err(Error::conflict(format!("the object is at revision {found}, not {expected}")).at("/expectedRevision"))
        }
        _ => Ok(()),
    }
}
