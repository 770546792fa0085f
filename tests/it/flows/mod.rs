//! Flows through REST and GraphQL: starting, running, waiting, stopping, and the life of definitions.

mod along;
mod bulk;
mod engine;
mod lanes;
mod lifecycle;
mod publish;
mod requests;
mod simulation;
mod stage;
mod start;
mod steps;
mod variables;
