//! Action flows: versioned graphs of steps that send cards to customers, one run for each.
//!
//! Cast: a [`Flow`] has versions (`version`), whose definitions are [`graph::Graph`]s of [`step::Action`]s. A
//! [`StartRequest`] names customers and what the flow is given; [`mod@start`] turns it into [`Run`]s. The [`Engine`]
//! moves runs from step to step and asks `cards` to deliver.
//!
//! Invariants: an invocation starts at most one run for a customer, for ever (`invocations`). A run keeps to the
//! flow version and the template versions it started with (`batches`). A step finishes once in a run: its token
//! leaves, its outcome, its events and the tokens of its children come in the same transaction. `flows` knows
//! `cards`, `customers` and `streams`; none of them knows it.

mod cancel;
pub mod condition;
mod context;
mod effect;
mod engine;
mod fields;
mod flow;
mod gauges;
mod graph;
mod notification;
mod outcome;
mod reactions;
mod request;
mod revise;
mod run;
mod start;
mod step;
mod task;
mod transfer;
mod version;
mod view;

pub use cancel::{Cancelled, CardsOfRuns, Chosen, cancel};
pub use effect::{Attempt, Effect, Performer, Resolution, resolve};
pub use engine::simulate::{Scenario, SimulatedStep, Simulation, simulate};
pub use engine::{Engine, Reactor};
pub(crate) use flow::lock_in;
pub use flow::{
    Changes, Flow, FlowFilter, NewFlow, RunsInProgress, State, Trigger, Window, archive, clone, create, delete,
    trigger, triggers, update,
};
pub use gauges::Gauges;
pub use graph::Graph;
pub use outcome::{EntryError, EntryOutcome, EntryStatus, Started};
pub use reactions::CardWaits;
pub use request::{Cause, StartRequest};
pub use revise::{Revised, update_variables};
pub use run::{FinishedStep, OpenStep, Run, RunFilter, RunStatus};
pub(crate) use start::gather::Gathering;
pub(crate) use start::{Caller, start_in};
pub use start::{Mode, start, test};
pub use task::{
    Incoming, MOST_BYTES, MOST_CUSTOMERS, Preview, Purpose, Starter, Task, TaskKind, TaskStatus, cancel_task, preview,
    start_for_customers, start_from_csv, task, tasks,
};
pub use transfer::{Followers, PublishPreview, WaitingRuns, publish_preview};
pub use version::{Published, publish};
pub use view::{FlowView, RunView, flow, flow_window, flows, run, runs, startable};
