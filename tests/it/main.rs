//! One integration binary: real server, real Postgres, public protocols.

mod content;
mod foundation;
mod graphql;
mod laws;
mod support;
mod walk;
