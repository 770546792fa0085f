//! Who may do what: organisations, environments, members, roles, credentials, SDK keys, and the audit log.
//!
//! Cast: a request is authenticated as a [`Viewer`] (a member or an API credential, who may see several
//! environments) or as [`SdkAccess`] (one customer in one environment). A viewer enters one environment and gets
//! [`Access`]; every entry point of every area takes one of these and asks [`Access::require`] first, so that no
//! transport can forget to. `access` knows no card, flow or webhook: facts about them carry ids.

mod permission;
mod viewer;

pub use permission::{Grants, Level, Resource};
pub use viewer::{Access, Actor, RequestInfo, SdkAccess, SdkContext, Viewer};
