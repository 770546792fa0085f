//! Where a private cluster lives, who owns it, and the guard against two servers in one place.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::error::{Error, Result};
use crate::secret::token_hash;

/// A unix socket path holds about 100 bytes; the socket's own name takes 18 of them.
const LONGEST_SOCKET_DIR: usize = 80;
const ORPHAN_PATIENCE: Duration = Duration::from_secs(60);

/// The user as whom PostgreSQL runs when the server runs as root, which PostgreSQL refuses.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

/// The directories of one cluster, held by a lock for as long as this lives.
pub struct Place {
    /// The cluster's files.
    pub cluster: PathBuf,
    /// The directory of its socket.
    pub sockets: PathBuf,
    /// Where its messages go.
    pub log: PathBuf,
    pub owner: Option<Owner>,
    lock: File,
}

impl Place {
    /// Locks the data directory and makes the directories in it.
    pub fn prepare(data_dir: &Path) -> Result<Place> {
        fs::create_dir_all(data_dir).map_err(|error| unusable(data_dir, &error))?;
        let data_dir = data_dir.canonicalize().map_err(|error| unusable(data_dir, &error))?;
        let lock = lock(&data_dir.join("lock"))?;
        let owner = owner()?;
        let name = hex::encode(&token_hash(&data_dir.to_string_lossy())[..6]);
        let base = match owner {
            // Root's own directories are closed to the user as whom PostgreSQL runs.
            Some(owner) if !reachable(&data_dir, owner) => PathBuf::from("/var/lib/cardwire").join(&name),
            _ => data_dir.join("postgres"),
        };
        make(&base, owner, 0o700)?;
        let mut sockets = base.join("run");
        if sockets.as_os_str().len() > LONGEST_SOCKET_DIR {
            sockets = std::env::temp_dir().join(format!("cardwire-{name}"));
        }
        make(&sockets, owner, 0o700)?;
        Ok(Place { cluster: base.join("cluster"), sockets, log: base.join("postgres.log"), owner, lock })
    }

    /// Ends a PostgreSQL that an earlier server left behind, and forgets a pid file that names a stranger.
    pub fn end_orphan(&self) -> Result<()> {
        let file = self.cluster.join("postmaster.pid");
        let Ok(text) = fs::read_to_string(&file) else { return Ok(()) };
        let pid = text.lines().next().and_then(|line| line.trim().parse().ok()).and_then(Pid::from_raw);
        let Some(pid) = pid.filter(|pid| self.serves(*pid)) else {
            return fs::remove_file(&file).map_err(|error| unusable(&file, &error));
        };
        tracing::info!(pid = pid.as_raw_nonzero().get(), "ending the PostgreSQL that an earlier server left behind");
        let deadline = Instant::now() + ORPHAN_PATIENCE;
        // The error says that it has ended already.
        let _ = kill_process(pid, Signal::INT);
        while test_kill_process(pid).is_ok() {
            if Instant::now() > deadline {
                return Err(Error::internal(format!("the PostgreSQL with pid {} does not end", pid.as_raw_nonzero())));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Makes the cluster where there is none. A half-made one of an interrupted start is made anew.
    pub fn initialise(&self, binaries: &Path) -> Result<()> {
        let complete = self.cluster.with_extension("complete");
        if complete.exists() {
            return Ok(());
        }
        if self.cluster.exists() {
            fs::remove_dir_all(&self.cluster).map_err(|error| unusable(&self.cluster, &error))?;
        }
        let mut made = self.initdb(binaries, "C.UTF-8")?;
        if !made.status.success() {
            made = self.initdb(binaries, "C")?;
        }
        if !made.status.success() {
            return Err(Error::internal(format!("initdb failed: {}", String::from_utf8_lossy(&made.stderr))));
        }
        File::create(&complete).map_err(|error| unusable(&complete, &error))?;
        Ok(())
    }

    fn initdb(&self, binaries: &Path, locale: &str) -> Result<std::process::Output> {
        let mut command = self.command(&binaries.join("initdb"));
        command.arg("--pgdata").arg(&self.cluster).arg(format!("--locale={locale}"));
        command.args(["--username=cardwire", "--auth=trust", "--encoding=UTF8", "--no-instructions"]);
        command.output().map_err(|error| unusable(&binaries.join("initdb"), &error))
    }

    /// A command that runs as the owner of the cluster.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).current_dir(&self.sockets);
        if let Some(owner) = self.owner {
            command.uid(owner.uid).gid(owner.gid);
        }
        command
    }

    pub fn url(&self, database: &str) -> String {
        let host =
            percent_encoding::utf8_percent_encode(&self.sockets.to_string_lossy(), percent_encoding::NON_ALPHANUMERIC)
                .to_string();
        format!("postgresql:///{database}?host={host}&user=cardwire")
    }

    /// Leaves the connection string in the lock file, for commands that look at a running server.
    pub fn announce(&self, url: &str) -> Result<()> {
        let write = || {
            self.lock.set_len(0)?;
            (&self.lock).write_all(url.as_bytes())
        };
        write().map_err(Error::internal)
    }

    /// Tells whether the process is a PostgreSQL on this very cluster.
    fn serves(&self, pid: Pid) -> bool {
        let number = pid.as_raw_nonzero().get().to_string();
        let line = fs::read(format!("/proc/{number}/cmdline")).ok().or_else(|| {
            Command::new("ps").args(["-ww", "-o", "command=", "-p", &number]).output().ok().map(|output| output.stdout)
        });
        line.is_some_and(|line| String::from_utf8_lossy(&line).contains(&*self.cluster.to_string_lossy()))
    }
}

/// The connection string of the cluster that a running server keeps in a data directory.
pub fn running(data_dir: &Path) -> Option<String> {
    let path = data_dir.join("lock");
    let file = File::open(&path).ok()?;
    if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
        return None;
    }
    fs::read_to_string(&path).ok().filter(|url| !url.is_empty())
}

fn unusable(path: &Path, error: &std::io::Error) -> Error {
    Error::internal(format!("{} cannot be used: {error}", path.display()))
}

fn lock(path: &Path) -> Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(|error| unusable(path, &error))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        Error::internal(format!("another server uses this data directory: {} is locked", path.display()))
    })?;
    Ok(file)
}

fn make(dir: &Path, owner: Option<Owner>, mode: u32) -> Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(|error| unusable(dir, &error))?;
    if let Some(owner) = owner {
        chown(dir, Some(owner.uid), Some(owner.gid)).map_err(|error| unusable(dir, &error))?;
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(mode)).map_err(|error| unusable(dir, &error))
}

/// Nobody needs to be found unless we are root.
fn owner() -> Result<Option<Owner>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    for wanted in ["postgres", "nobody"] {
        for line in users.lines() {
            let fields: Vec<&str> = line.split(':').collect();
            if let [name, _, uid, gid, ..] = fields[..]
                && name == wanted
                && let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse())
            {
                return Ok(Some(Owner { uid, gid }));
            }
        }
    }
    Err(Error::internal("PostgreSQL does not run as root, and there is no user postgres or nobody to run it as"))
}

/// Tells whether the owner may walk down to a directory.
fn reachable(dir: &Path, owner: Owner) -> bool {
    dir.ancestors().all(|ancestor| {
        fs::metadata(ancestor).is_ok_and(|data| {
            let shift = if data.uid() == owner.uid {
                6
            } else if data.gid() == owner.gid {
                3
            } else {
                0
            };
            data.mode() >> shift & 1 == 1
        })
    })
}
