//! One integration binary: real server, real Postgres, public protocols.

mod access;
mod foundation;
mod laws;
mod support;
