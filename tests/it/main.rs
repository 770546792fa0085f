//! One integration binary: real server, real Postgres, public protocols.

mod flows;
mod foundation;
mod laws;
mod support;
