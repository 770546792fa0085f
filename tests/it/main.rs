//! One integration binary: real server, real Postgres, public protocols.

mod foundation;
mod laws;
mod support;
