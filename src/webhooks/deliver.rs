//! The worker that makes the requests.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::attempt::DEADLINE;
use super::desk::Desk;
use super::stream;
use crate::app::App;
use crate::error::Result;
use crate::realtime::Work;
use crate::worker::{Progress, Worker};

/// How long a round lasts when there is always more to do.
const ROUND: Duration = Duration::from_secs(1);
/// How often to look for streams that became due without a hint: retries, pauses, other nodes' work.
const LOOK: Duration = Duration::from_millis(250);

/// Delivers what waits in the streams of all subscriptions.
///
/// A round ends when nothing is due, or after a while with requests under way: those live on in the desk until the
/// next round. Dropping the worker drops them; their streams are leased again, and what has no outcome is sent again.
pub struct Deliverer {
    desk: Mutex<Desk>,
    deadline: Duration,
}

impl Default for Deliverer {
    fn default() -> Deliverer {
        Deliverer::with_deadline(DEADLINE)
    }
}

impl Deliverer {
    /// A worker whose requests must be over sooner or later than usual.
    pub fn with_deadline(deadline: Duration) -> Deliverer {
        Deliverer { desk: Mutex::default(), deadline }
    }

    async fn round(&self, app: &App, desk: &mut Desk) -> Result<Progress> {
        let started = Instant::now();
        let mut looked: Option<Instant> = None;
        loop {
            if looked.is_none_or(|looked| looked.elapsed() >= LOOK) {
                desk.claim(app).await?;
                looked = Some(Instant::now());
            }
            desk.feed(app).await?;
            desk.begin(app, self.deadline);
            desk.save(app);
            if desk.is_empty() {
                return desk.next(app).await;
            }
            if started.elapsed() >= ROUND {
                return Ok(Progress::More);
            }
            tokio::select! {
                Some(done) = desk.requests.join_next() => if let Ok(done) = done {
                    desk.collect(app, done);
                },
                Some(outcome) = desk.saving.join_next() => desk.saved(app, outcome)?,
                () = app.wakes().of(Work::Webhooks).notified() => looked = None,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }
}

/// Gives back the streams of a process that ends.
pub async fn release(app: &App) -> Result<()> {
    stream::release(app, app.node()).await
}

impl Worker for Deliverer {
    const NAME: &'static str = "webhook-deliverer";

    fn work() -> Option<Work> {
        Some(Work::Webhooks)
    }

    async fn run(&self, app: &App) -> Result<Progress> {
        let mut desk = self.desk.lock().await;
        let outcome = self.round(app, &mut desk).await;
        if outcome.is_err() {
            desk.doubt();
        }
        outcome
    }
}
