//! One child process, seen from the server.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::frame::{LARGEST, Reply};
use super::{Fault, child};
use crate::error::{Error, Result};

/// When a child that has not answered is killed. Longer than the CPU time a script may take, because on a busy machine
/// a child waits for its turn.
const DEADLINE: Duration = Duration::from_millis(500);

/// What came of a call.
pub enum Answer {
    Done(Result<Value, Fault>),
    /// The child is no more because of the script.
    Killed(Fault),
    /// The child was no more before it took the call.
    Dead,
}

/// A child that waits for calls. Dropping it kills it.
pub struct Worker {
    _child: Child,
    input: ChildStdin,
    output: ChildStdout,
}

impl Worker {
    pub fn spawn(program: &Path) -> Result<Worker> {
        let mut child = Command::new(program)
            .arg(child::COMMAND)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C at the terminal is for the server, which ends its children.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Error::internal(format!("{} cannot be started: {error}", program.display())))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::internal("a sandbox has no pipes"));
        };
        Ok(Worker { _child: child, input, output })
    }

    /// Sends a call and waits for its answer until the deadline.
    pub async fn call(&mut self, request: &[u8]) -> Answer {
        let mut at = None;
        match tokio::time::timeout(DEADLINE, self.converse(request, &mut at)).await {
            Ok(Some(outcome)) => Answer::Done(outcome),
            // A child that ended before it said anything may have ended while it was idle.
            Ok(None) if at.is_none() => Answer::Dead,
            Ok(None) => Answer::Killed(fault(at, "the script used more CPU time or memory than it may")),
            Err(_) => Answer::Killed(fault(at, "the script took too long")),
        }
    }

    async fn converse(&mut self, request: &[u8], at: &mut Option<Place>) -> Option<Result<Value, Fault>> {
        self.input.write_all(request).await.ok()?;
        loop {
            match self.reply().await? {
                Reply::Calling { line, column } => *at = Some((line, column)),
                Reply::Value(text) => {
                    let value = serde_json::from_str(text.get());
                    return Some(value.map_err(|_| fault(*at, "the result is nested too deep or not Unicode")));
                }
                Reply::Fault(own) if own.line.is_none() => return Some(Err(fault(*at, &own.message))),
                Reply::Fault(own) => return Some(Err(own)),
            }
        }
    }

    async fn reply(&mut self) -> Option<Reply> {
        let length = usize::try_from(self.output.read_u32_le().await.ok()?).ok()?;
        if length > LARGEST {
            return None;
        }
        let mut body = vec![0; length];
        self.output.read_exact(&mut body).await.ok()?;
        serde_json::from_slice(&body).ok()
    }
}

/// Line and column.
type Place = (Option<u32>, Option<u32>);

fn fault(at: Option<Place>, message: &str) -> Fault {
    let (line, column) = at.unwrap_or((Some(1), Some(1)));
    Fault { message: message.to_owned(), line, column }
}
