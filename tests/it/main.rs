//! One integration binary: real server, real Postgres, public protocols.

mod access;
mod content;
mod foundation;
mod graphql;
mod laws;
mod support;
mod walk;
