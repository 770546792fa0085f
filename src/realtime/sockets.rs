//! The open websockets of this process, so that a shutdown can close them in paced batches.
//!
//! Why a registry of our own: an upgraded connection is no longer known to the HTTP server, whose graceful
//! shutdown would forget it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Sockets closed together; the pause between batches spreads the reconnects.
const BATCH: usize = 100;
const PAUSE: Duration = Duration::from_millis(20);

/// The open sockets. Cheap to clone.
#[derive(Clone, Default)]
pub struct Sockets(Arc<Mutex<Registry>>);

#[derive(Default)]
struct Registry {
    next: u64,
    open: HashMap<u64, CancellationToken>,
    closing: bool,
}

/// The place of one socket. Leaves the registry when dropped.
pub struct Seat {
    sockets: Sockets,
    number: u64,
    leave: CancellationToken,
}

impl Sockets {
    /// Takes a place. `None` while the server is shutting down.
    pub fn enter(&self) -> Option<Seat> {
        let mut registry = self.0.lock();
        if registry.closing {
            return None;
        }
        let number = registry.next;
        registry.next += 1;
        let leave = CancellationToken::new();
        registry.open.insert(number, leave.clone());
        metrics::gauge!("cardwire_websockets_open").increment(1.0);
        Some(Seat { sockets: self.clone(), number, leave })
    }

    pub fn count(&self) -> usize {
        self.0.lock().open.len()
    }

    /// Admits nobody more, asks every socket to leave, batch by batch, and waits for them up to `within`.
    pub async fn drain(&self, within: Duration) {
        let leaving: Vec<CancellationToken> = {
            let mut registry = self.0.lock();
            registry.closing = true;
            registry.open.values().cloned().collect()
        };
        let end = tokio::time::Instant::now() + within;
        let batches = u32::try_from(leaving.len().div_ceil(BATCH)).unwrap_or(u32::MAX).max(1);
        let pause = PAUSE.min(within / 2 / batches);
        for batch in leaving.chunks(BATCH) {
            batch.iter().for_each(CancellationToken::cancel);
            tokio::time::sleep(pause).await;
        }
        while self.count() > 0 && tokio::time::Instant::now() < end {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Seat {
    /// Waits until the socket is asked to leave.
    pub async fn asked_to_leave(&self) {
        self.leave.cancelled().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.sockets.0.lock().open.remove(&self.number);
        metrics::gauge!("cardwire_websockets_open").decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_drain_asks_everybody_and_admits_nobody() {
        let sockets = Sockets::default();
        let seat = sockets.enter().unwrap();
        assert_eq!(sockets.count(), 1);
        let leaving = async move {
            seat.asked_to_leave().await;
            drop(seat);
        };
        tokio::join!(leaving, sockets.drain(Duration::from_secs(1)));
        assert_eq!(sockets.count(), 0);
        assert!(sockets.enter().is_none());
    }
}
