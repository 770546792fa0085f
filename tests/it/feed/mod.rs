//! The feed as an app follows it.

mod changes;
mod follow;
mod limits;
mod nodes;
mod revocation;
mod storm;
mod track;
