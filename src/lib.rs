//! Cardwire: cards for customers inside other people's apps.
//!
//! The map, in reading order. ARCHITECTURE.md tells the story; each area's module names its cast.

#![recursion_limit = "256"]

// Foundations: no domain in them.
pub mod clock;
pub mod config;
pub mod error;
pub mod ids;
pub mod net;
pub mod secret;
pub mod telemetry;
pub mod text;

// How rows become effects.
pub mod app;
pub mod db;
pub mod realtime;
pub mod sandbox;
pub mod worker;

// The domain, from what everything needs to what needs everything.
pub mod events;

pub mod access;
pub mod customers;
pub mod streams;

pub mod cards;
pub mod flows;
pub mod triggers;
pub mod webhooks;

// The two ways in.
pub mod graphql;
pub mod rest;

// The program around it.
pub mod command;
mod demo;
pub mod server;

use events::consumer::Reader;
use worker::AnyWorker;

/// Gives back what the workers of a process that ends have leased, so that nobody waits for it.
pub(crate) async fn release(app: &app::App) -> error::Result<()> {
    events::consumer::release(app, app.node()).await?;
    webhooks::deliver::release(app).await
}

/// The workers of a server process, in the order in which [`worker::settle`] calls them.
pub fn workers() -> Vec<AnyWorker> {
    vec![
        AnyWorker::new(Reader::new(webhooks::fanout::Fanout)),
        AnyWorker::new(Reader::new(triggers::event::Matcher)),
        AnyWorker::new(triggers::event::Starter),
        AnyWorker::new(triggers::request_log::Forgetter),
        AnyWorker::new(webhooks::deliver::Deliverer::default()),
        AnyWorker::new(webhooks::replay::Replayer),
        AnyWorker::new(webhooks::reconcile::Bookkeeper::default()),
        AnyWorker::new(db::partitions::Partitioner::default()),
        AnyWorker::new(events::export::Sealer::default()),
        AnyWorker::new(events::export::Writer),
        AnyWorker::new(events::retention::Retainer),
        AnyWorker::new(cards::test_data::Remover),
        AnyWorker::new(flows::Reactor),
        AnyWorker::new(flows::Engine),
        AnyWorker::new(flows::Starter),
        // A second one: while the first waits for its commit, this has the database to itself.
        AnyWorker::new(flows::Engine),
        AnyWorker::new(Reader::new(flows::CardWaits)),
        AnyWorker::new(flows::Gauges::default()),
        AnyWorker::new(flows::Performer::default()),
        AnyWorker::new(cards::timers::CardTimers),
        AnyWorker::new(cards::feed::Sweeper),
        AnyWorker::new(access::revocation::Revoker),
        AnyWorker::new(cards::track::Forgetter),
    ]
}
