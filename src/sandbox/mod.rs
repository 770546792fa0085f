//! Runs scripts of members: JavaScript in child processes that can do nothing but compute.
//!
//! Cast: the [`Sandbox`] keeps a pool of warm children (`worker`); a child is this program under a hidden command
//! ([`child`]) and makes a fresh engine for each [`Call`]. Both sides speak in frames (`frame`).
//!
//! Invariants: a script has no files, no network, no clock that waits, no modules. The engine bounds memory, stack and
//! CPU time; the operating system bounds the process once more; whoever is not done at the deadline is killed, because
//! the engine's native loops ask nobody. What a call leaves behind is never seen by the next one.
//!
//! Why not threads: a native loop of the engine cannot be stopped inside a process (measured: seconds for one
//! `indexOf`), and a fault in it would be a fault of the server.

pub mod child;
mod frame;
mod worker;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Semaphore;

use self::worker::Worker;
use crate::error::{Code, Error, Result};

/// The largest source of a script.
pub const SOURCE_BYTES: usize = 64 * 1024;

/// Calls that may wait for a child.
const QUEUE: usize = 256;
/// How long a call waits for a child.
const PATIENCE: Duration = Duration::from_secs(2);

/// A function of a script, and what it is given.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    pub source: &'a str,
    /// The name of a function that the source defines at its top level.
    pub function: &'static str,
    pub arguments: &'a [&'a Value],
}

/// Why a script gave no value, and where.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Fault {
    pub message: String,
    /// Counted from 1; that of the function when nothing closer is known.
    pub line: Option<u32>,
    pub column: Option<u32>,
}

impl From<Fault> for Error {
    /// `mapping_failed`, with the place in the text.
    fn from(fault: Fault) -> Error {
        let place = match (fault.line, fault.column) {
            (Some(line), Some(column)) => format!(" (line {line}, column {column})"),
            _ => String::new(),
        };
        Error::new(Code::MappingFailed, format!("{}{place}", fault.message))
    }
}

/// A pool of child processes.
pub struct Sandbox {
    program: PathBuf,
    seats: Semaphore,
    waiting: AtomicUsize,
    idle: Mutex<Vec<Worker>>,
}

impl Sandbox {
    /// `program` is the `cardwire` executable. Children are started when they are needed and kept.
    pub fn new(program: PathBuf) -> Sandbox {
        let seats = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 16);
        Sandbox { program, seats: Semaphore::new(seats), waiting: AtomicUsize::new(0), idle: Mutex::default() }
    }

    /// Calls a function of a script. The inner error is the script's fault; the outer one, `unavailable`, is that of a
    /// server with too much to do.
    pub async fn call(&self, call: Call<'_>) -> Result<Result<Value, Fault>> {
        if call.source.len() > SOURCE_BYTES {
            let message = format!("a script has at most {} KiB", SOURCE_BYTES / 1024);
            return Ok(Err(Fault { message, line: None, column: None }));
        }
        let request = frame::Request::of(call)?;
        let _seat = self.seat().await?;
        let kept = self.idle.lock().pop();
        if let Some(mut worker) = kept {
            match worker.call(&request).await {
                // It ended while it was idle.
                worker::Answer::Dead => {}
                answer => return self.conclude(worker, answer),
            }
        }
        let mut worker = Worker::spawn(&self.program)?;
        let answer = worker.call(&request).await;
        self.conclude(worker, answer)
    }

    /// Waits for a free child, but not in a long queue and not for long.
    async fn seat(&self) -> Result<tokio::sync::SemaphorePermit<'_>> {
        let busy = || Error::unavailable(1, "all sandboxes are busy");
        if let Ok(seat) = self.seats.try_acquire() {
            return Ok(seat);
        }
        let place = Place::take(&self.waiting).ok_or_else(busy)?;
        let seat = tokio::time::timeout(PATIENCE, self.seats.acquire()).await.map_err(|_| busy())?;
        drop(place);
        seat.map_err(Error::internal)
    }

    /// Keeps a child that is well; one that is not is killed by being dropped.
    fn conclude(&self, worker: Worker, answer: worker::Answer) -> Result<Result<Value, Fault>> {
        match answer {
            worker::Answer::Done(outcome) => {
                self.idle.lock().push(worker);
                Ok(outcome)
            }
            worker::Answer::Killed(fault) => Ok(Err(fault)),
            worker::Answer::Dead => Err(Error::internal("a sandbox ended before its first call")),
        }
    }
}

/// A place in the queue.
struct Place<'a>(&'a AtomicUsize);

impl Place<'_> {
    fn take(waiting: &AtomicUsize) -> Option<Place<'_>> {
        let place = Place(waiting);
        (waiting.fetch_add(1, Ordering::Relaxed) < QUEUE).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
