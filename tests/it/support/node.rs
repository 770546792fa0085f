//! Outside clients: a Node script that uses packages from the npm registry against the server under test.
//!
//! The script and the test talk over the script's standard streams, a JSON object a line: the script asks for what
//! only the test can do (send a card, cut the wire, move the clock), and the test answers.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

/// A script that does not end in this time has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// The packages of the clients in a directory of `tests/clients`, installed from their lock file at the first use.
pub fn packages(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name);
    let lock = std::fs::File::create(std::env::temp_dir().join("cardwire-test-clients.lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    if !directory.join("node_modules/.package-lock.json").exists() {
        let install = std::process::Command::new("npm")
            .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"])
            .current_dir(&directory)
            .output()
            .expect("the tests of outside clients need Node with npm");
        assert!(install.status.success(), "npm ci: {}", String::from_utf8_lossy(&install.stderr));
    }
    directory
}

/// Runs a script to its end. `answer` does what the script asks for.
pub async fn run(script: &Path, input: &Value, answer: impl AsyncFn(&Value) -> Value) {
    let mut child = Command::new("node")
        .arg(script)
        .arg(input.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the tests of outside clients need Node");
    let mut stdin = child.stdin.take().unwrap();
    let mut asked = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut stderr = child.stderr.take().unwrap();
    let mut complaint = String::new();
    let talking = async {
        while let Some(line) = asked.next_line().await.unwrap() {
            let ask: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("the script said: {line}"));
            let answered = format!("{}\n", answer(&ask).await);
            // A script that has failed does not listen any more; its status tells.
            if stdin.write_all(answered.as_bytes()).await.is_err() {
                return;
            }
        }
    };
    let ended = tokio::time::timeout(PATIENCE, async {
        let (_, read, status) = tokio::join!(talking, stderr.read_to_string(&mut complaint), child.wait());
        read.unwrap();
        status.unwrap()
    })
    .await;
    let status = ended.unwrap_or_else(|_| panic!("{} does not end", script.display()));
    assert!(status.success(), "{}: {complaint}", script.display());
}
