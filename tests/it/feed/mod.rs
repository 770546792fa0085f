//! The feed as an app follows it.

mod changes;
mod crowd;
mod follow;
mod limits;
mod mutations;
mod nodes;
mod revocation;
mod storm;
mod track;
