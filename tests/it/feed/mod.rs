//! The feed as an app follows it.

mod follow;
mod limits;
mod nodes;
mod revocation;
mod storm;
mod track;
