//! One integration binary: real server, real Postgres, public protocols.

mod access;
mod crash;
mod flows;
mod foundation;
mod graphql;
mod hostile;
mod laws;
mod support;
mod walk;
mod webhooks;
