//! A real server process that can be killed and started again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::client::{Answer, Client};
use crate::support::world::{bearer, text};

/// How long a restarted server may take to bring everything to its end.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// An empty data directory.
pub fn directory(name: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("cardwire-crash-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    directory
}

/// `cardwire demo` in a process of its own, on a durable private cluster.
pub struct Process {
    child: Child,
    pub ready: Value,
    pub client: Client,
}

impl Process {
    pub async fn start(directory: &Path) -> Process {
        let ready_file = directory.join("ready.json");
        let _ = fs::remove_file(&ready_file);
        let log = fs::OpenOptions::new().create(true).append(true).open(directory.join("server.log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_cardwire"))
            .args(["demo", "--listen", "127.0.0.1:0", "--rest-rate", "100000", "--token-rate", "1000"])
            .args(["--address-connections", "20000", "--data-dir"])
            .arg(directory)
            .arg("--ready-file")
            .arg(&ready_file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let deadline = Instant::now() + PATIENCE;
        let ready: Value = loop {
            if let Some(ready) = fs::read_to_string(&ready_file).ok().and_then(|text| serde_json::from_str(&text).ok())
            {
                break ready;
            }
            let log = || fs::read_to_string(directory.join("server.log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "the server is not ready: {}", log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let client = Client::new(ready["origin"].as_str().unwrap());
        Process { child, ready, client }
    }

    pub fn path(&self, rest: &str) -> String {
        format!("/v1/{}/{rest}", text(&self.ready["environmentId"]))
    }

    pub async fn token(&self, role: &str) -> String {
        bearer(&self.client, &self.ready["credentials"][role]).await
    }

    /// Calls GraphQL as the app of the ready customer. None: the server went away.
    pub async fn app(&self, query: &str, variables: Value) -> Option<Answer> {
        let token = format!("Bearer {}", text(&self.ready["customerToken"]));
        let key = text(&self.ready["sdkKey"]["name"]);
        let headers = [
            ("authorization", token.as_str()),
            ("x-cardwire-api-key", key.as_str()),
            ("content-type", "application/json"),
        ];
        let body = json!({ "query": query, "variables": variables }).to_string();
        self.client.try_send("POST", "/graphql", &headers, body).await.ok()
    }

    /// A gauge or counter of the server.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.client.get("", "/metrics").await.text;
        let line = text.lines().find(|line| line.split([' ', '{']).next() == Some(name));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
    }

    /// Resident memory in kilobytes.
    pub fn memory(&self) -> u64 {
        let pid = self.child.id().to_string();
        let output = Command::new("ps").args(["-o", "rss=", "-p", &pid]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
