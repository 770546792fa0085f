//! A bounded closed loop: some tasks that call one after another for a while.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

/// What a loop came to.
pub struct Outcome {
    pub per_second: f64,
    pub latencies: Vec<Duration>,
}

/// Runs `tasks` loops of `call` for `time`. The call is given a number that no other call gets.
pub async fn drive<F, R>(tasks: usize, time: Duration, call: F) -> Outcome
where
    F: Fn(u64) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + Send,
{
    let call = Arc::new(call);
    let number = Arc::new(AtomicU64::new(0));
    let mut running = JoinSet::new();
    let started = Instant::now();
    for _ in 0..tasks {
        let (call, number) = (call.clone(), number.clone());
        running.spawn(async move {
            let mut latencies = Vec::new();
            while started.elapsed() < time {
                let began = Instant::now();
                call(number.fetch_add(1, Ordering::Relaxed)).await;
                latencies.push(began.elapsed());
            }
            latencies
        });
    }
    let mut latencies = Vec::new();
    while let Some(ended) = running.join_next().await {
        latencies.extend(ended.unwrap());
    }
    let per_second = latencies.len() as f64 / started.elapsed().as_secs_f64();
    Outcome { per_second, latencies }
}
