//! Calls workers when they are due, keeps them alive, and stops them when the server stops.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{AnyWorker, Progress};
use crate::app::App;
use crate::error::{Error, Result, surviving_panics};

/// The longest a worker sleeps: the backstop for a lost announcement.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
const FIRST_BACK_OFF: Duration = Duration::from_millis(100);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(10);
/// Rounds after which [`settle`] gives up: work that makes work forever is a defect.
const SETTLE_ROUNDS: usize = 10_000;

/// The background of one server process.
pub struct Runner {
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl Runner {
    pub fn start(app: &App, workers: Vec<AnyWorker>) -> Runner {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for worker in workers {
            tasks.spawn(keep_running(app.clone(), worker, stop.clone()));
        }
        Runner { tasks, stop }
    }

    /// Asks every worker to end after its round and waits for them, but not for ever.
    pub async fn stop(mut self, patience: Duration) {
        self.stop.cancel();
        let ended = tokio::time::timeout(patience, async { while self.tasks.join_next().await.is_some() {} }).await;
        if ended.is_err() {
            tracing::warn!("some workers did not end in time and were dropped; their work will be claimed again");
        }
    }
}

async fn keep_running(app: App, worker: AnyWorker, stop: CancellationToken) {
    let mut back_off = FIRST_BACK_OFF;
    loop {
        let pause = match round(&app, &worker).await {
            Ok(progress) => {
                back_off = FIRST_BACK_OFF;
                match progress {
                    Progress::More => Duration::ZERO,
                    Progress::Idle => LONGEST_SLEEP,
                    Progress::NextAt(at) => at.since(app.clock().now()).min(LONGEST_SLEEP),
                }
            }
            Err(error) => {
                tracing::error!(worker = worker.name, error = %error, "a round of work failed");
                back_off = (back_off * 2).min(LONGEST_BACK_OFF);
                back_off
            }
        };
        // A bell that rang during the round is kept, so what was announced meanwhile is not missed.
        let woken = async {
            match worker.work {
                Some(work) if !pause.is_zero() => app.wakes().of(work).notified().await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = woken => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// One round; a panic in it is a failed round and not the end of the worker.
async fn round(app: &App, worker: &AnyWorker) -> Result<Progress> {
    let started = tokio::time::Instant::now();
    let outcome = surviving_panics((worker.run)(app)).await;
    metrics::histogram!("cardwire_worker_round_seconds", "worker" => worker.name)
        .record(started.elapsed().as_secs_f64());
    outcome
}

/// Runs every worker until nothing is due at the present time of the clock. For tests, which own the clock.
pub async fn settle(app: &App, workers: &[AnyWorker]) -> Result<()> {
    let mut quiet = 0;
    for _ in 0..SETTLE_ROUNDS {
        let mut busy = false;
        for worker in workers {
            match (worker.run)(app).await? {
                Progress::More => busy = true,
                Progress::NextAt(at) if at <= app.clock().now() => busy = true,
                Progress::NextAt(_) | Progress::Idle => {}
            }
        }
        // One quiet pass may have made work for a worker that stands earlier in the list.
        quiet = if busy { 0 } else { quiet + 1 };
        if quiet == 2 {
            return Ok(());
        }
    }
    Err(Error::internal("work does not come to an end"))
}
