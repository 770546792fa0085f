//! Flows through REST and GraphQL: starting, running, waiting, stopping, and the life of definitions.

mod engine;
mod lifecycle;
mod requests;
mod stage;
mod start;
mod steps;
mod variables;
