//! One integration binary: real server, real Postgres, public protocols.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "what is not there fails the test")]

mod access;
mod cards;
mod clients;
mod content;
mod crash;
mod customers;
mod events;
mod feed;
mod flows;
mod foundation;
mod graphql;
mod hostile;
mod laws;
mod sandbox;
mod support;
mod triggers;
mod walk;
mod webhooks;
