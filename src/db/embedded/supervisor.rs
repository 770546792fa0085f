//! Keeps PostgreSQL running for as long as the server runs, and no longer.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Condvar};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};

use super::place::Place;
use crate::error::{Error, Result};

/// Quick failures in a row after which the supervisor gives up.
const ATTEMPTS: u32 = 5;
const LIVED_LONG_ENOUGH: Duration = Duration::from_secs(5);
const LARGEST_LOG: u64 = 10 << 20;

/// Runs PostgreSQL on a thread of its own.
///
/// Why a thread: the parent-death signal is sent when the *thread* that started the child ends, and the threads of
/// the async runtime come and go.
pub struct Supervisor {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    inner: std::sync::Mutex<Inner>,
    changed: Condvar,
    failure: Mutex<Option<String>>,
}

#[derive(Default)]
struct Inner {
    child: Option<Pid>,
    stopping: bool,
}

impl Supervisor {
    pub fn start(place: &Place, binaries: &Path) -> Result<Supervisor> {
        let state = Arc::new(State::default());
        let launch = Launch::new(place, binaries)?;
        let shared = state.clone();
        let thread = std::thread::Builder::new()
            .name("postgres-supervisor".into())
            .spawn(move || keep_running(&launch, &shared))
            .map_err(Error::internal)?;
        Ok(Supervisor { state, thread: Some(thread) })
    }

    /// Why PostgreSQL does not run, once the supervisor has given up.
    pub fn failure(&self) -> Option<String> {
        self.state.failure.lock().clone()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        {
            let Ok(mut inner) = self.state.inner.lock() else { return };
            inner.stopping = true;
            if let Some(child) = inner.child {
                // SIGINT is PostgreSQL's fast shutdown. The error says that it has ended already.
                let _ = kill_process(child, Signal::INT);
            }
        }
        self.state.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // The thread ends when PostgreSQL has.
            let _ = thread.join();
        }
    }
}

/// How PostgreSQL is started.
struct Launch {
    program: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    owner: Option<super::place::Owner>,
    directory: PathBuf,
}

impl Launch {
    fn new(place: &Place, binaries: &Path) -> Result<Launch> {
        if fs::metadata(&place.log).is_ok_and(|data| data.len() > LARGEST_LOG) {
            fs::remove_file(&place.log).map_err(Error::internal)?;
        }
        let settings = [
            "listen_addresses=".to_owned(),
            format!("unix_socket_directories={}", place.sockets.display()),
            "max_connections=200".to_owned(),
            "shared_buffers=256MB".to_owned(),
            "wal_buffers=16MB".to_owned(),
            "jit=off".to_owned(),
            // Tables grow from nothing within seconds; plans that were made for few rows must not last a minute.
            "autovacuum_naptime=5s".to_owned(),
            "random_page_cost=1.1".to_owned(),
            "max_wal_size=2GB".to_owned(),
            // What is left to a checkpoint goes to the disk in one burst, and a commit behind it waits for a fifth of a second.
            "backend_flush_after=512kB".to_owned(),
            "log_min_messages=warning".to_owned(),
        ];
        let mut arguments = vec!["-D".to_owned(), place.cluster.to_string_lossy().into_owned()];
        arguments.extend(settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]));
        Ok(Launch {
            program: binaries.join("postgres"),
            arguments,
            log: place.log.clone(),
            owner: place.owner,
            directory: place.sockets.clone(),
        })
    }

    fn spawn(&self) -> std::io::Result<Child> {
        use std::os::unix::process::CommandExt;
        let log: File = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = std::process::Command::new(&self.program);
        command.args(&self.arguments).current_dir(&self.directory);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // A group of its own, so that Ctrl-C at the terminal reaches the server first.
        command.process_group(0);
        if let Some(owner) = self.owner {
            command.uid(owner.uid).gid(owner.gid);
        }
        #[cfg(target_os = "linux")]
        end_with_parent(&mut command);
        command.spawn()
    }

    /// The last lines of the log, for the error.
    fn complaint(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("; ")
    }
}

#[cfg(target_os = "linux")]
#[expect(
    unsafe_code,
    reason = "a pre_exec hook is the only way to set the parent-death signal; it makes one system call"
)]
fn end_with_parent(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: the hook runs between fork and exec and makes one async-signal-safe system call.
    unsafe {
        command.pre_exec(|| Ok(rustix::process::set_parent_process_death_signal(Some(Signal::INT))?));
    }
}

fn keep_running(launch: &Launch, state: &State) {
    let mut quick_failures = 0;
    loop {
        let started = std::time::Instant::now();
        let spawned = {
            let Ok(mut inner) = state.inner.lock() else { return };
            if inner.stopping {
                return;
            }
            let spawned = launch.spawn();
            inner.child = spawned.as_ref().ok().and_then(|child| Pid::from_raw(i32::try_from(child.id()).ok()?));
            spawned
        };
        let ending = match spawned {
            Ok(mut child) => child.wait().map_or_else(|error| error.to_string(), |status| status.to_string()),
            Err(error) => format!("{} cannot be started: {error}", launch.program.display()),
        };
        let Ok(mut inner) = state.inner.lock() else { return };
        inner.child = None;
        if inner.stopping {
            return;
        }
        quick_failures = if started.elapsed() > LIVED_LONG_ENOUGH { 1 } else { quick_failures + 1 };
        if quick_failures > ATTEMPTS {
            *state.failure.lock() = Some(format!("PostgreSQL does not stay up ({ending}): {}", launch.complaint()));
            return;
        }
        tracing::warn!(%ending, "PostgreSQL ended by itself and is started again");
        let pause = Duration::from_millis(50) * 2_u32.pow(quick_failures);
        if state.changed.wait_timeout(inner, pause).is_err() {
            return;
        }
    }
}
