//! Workers turn due rows into effects.
//!
//! A [`Worker`] takes no input: it claims what is due, does it, and says when it wants to be called again. The
//! [`Runner`] calls it at that time, or sooner when somebody announces [`Work`]; tests call it directly until
//! nothing is due. Workers of several nodes share their work by claims on its rows.

mod runner;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

pub use runner::{Runner, settle};

use crate::app::App;
use crate::clock::Time;
use crate::error::Result;
use crate::realtime::Work;

/// What a round of work came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing is due, and nobody knows when something will be.
    Idle,
    /// Nothing is due before this time.
    NextAt(Time),
    /// There is more to do at once.
    More,
}

/// Something that runs in the background for as long as the server does.
pub trait Worker: Send + Sync + 'static {
    /// The name in logs and metrics.
    const NAME: &'static str;

    /// The announcement that wakes it, if any.
    fn work() -> Option<Work> {
        None
    }

    /// Does one bounded round. Must be idempotent: it may be stopped at any await and called again.
    fn run(&self, app: &App) -> impl Future<Output = Result<Progress>> + Send;
}

type Round<'a> = Pin<Box<dyn Future<Output = Result<Progress>> + Send + 'a>>;

/// A worker without its type, for the one list of workers.
pub struct AnyWorker {
    name: &'static str,
    work: Option<Work>,
    run: Box<dyn for<'a> Fn(&'a App) -> Round<'a> + Send + Sync>,
}

impl AnyWorker {
    pub fn new<W: Worker>(worker: W) -> AnyWorker {
        let worker = Arc::new(worker);
        AnyWorker {
            name: W::NAME,
            work: W::work(),
            run: Box::new(move |app| {
                let worker = worker.clone();
                Box::pin(async move { worker.run(app).await })
            }),
        }
    }
}
