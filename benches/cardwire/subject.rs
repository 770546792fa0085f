//! The server under measurement: `cardwire demo` in a process of its own.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A running server and what its ready file said.
pub struct Subject {
    child: Child,
    pub directory: PathBuf,
    pub ready: Value,
    pub http: reqwest::Client,
}

impl Subject {
    pub async fn start() -> Subject {
        let directory = std::env::temp_dir().join(format!("cardwire-bench-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        // The first start makes the cluster; the second finds it with a setting that tells when commits happened.
        drop(Subject::start_in(directory.clone()).await);
        let settings =
            fs::OpenOptions::new().append(true).open(directory.join("postgres/cluster/postgresql.auto.conf"));
        writeln!(settings.unwrap(), "track_commit_timestamp = on").unwrap();
        Subject::start_in(directory).await
    }

    /// Starts on a data directory that may exist.
    pub async fn start_in(directory: PathBuf) -> Subject {
        fs::create_dir_all(&directory).unwrap();
        let ready_file = directory.join("ready.json");
        let _ = fs::remove_file(&ready_file);
        let log = fs::File::create(directory.join("server.log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_cardwire"))
            .args(["demo", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(&directory)
            .arg("--ready-file")
            .arg(&ready_file)
            .args(["--customer-connections", "1000000", "--address-connections", "1000000"])
            .args(["--rest-rate", "1000000", "--token-rate", "1000000", "--sdk-rate", "1000000", "--log", "warn"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let ready = loop {
            if let Some(ready) = fs::read_to_string(&ready_file).ok().and_then(|text| serde_json::from_str(&text).ok())
            {
                break ready;
            }
            assert!(Instant::now() < deadline, "the server is not ready: see {}", directory.display());
            tokio::time::sleep(Duration::from_millis(2)).await;
        };
        #[expect(clippy::disallowed_methods, reason = "the load generator calls loopback")]
        let http = reqwest::Client::new();
        Subject { child, directory, ready, http }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A text of the ready file.
    pub fn text(&self, pointer: &str) -> String {
        self.ready.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no {pointer}")).to_owned()
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.text("/origin"))
    }

    pub fn path(&self, rest: &str) -> String {
        self.url(&format!("/v1/{}/{rest}", self.text("/environmentId")))
    }

    /// The connection string of its private cluster.
    pub fn database(&self) -> (String, String) {
        let canonical = self.directory.canonicalize().unwrap();
        let sockets = canonical.join("postgres/run");
        let host = sockets.to_string_lossy().into_owned();
        (host.clone(), format!("host={host} user=cardwire dbname=cardwire"))
    }

    /// An access token for one of the credentials.
    pub async fn token(&self, role: &str) -> String {
        let id = self.text(&format!("/credentials/{role}/clientId"));
        let secret = self.text(&format!("/credentials/{role}/clientSecret"));
        let request = self.http.post(self.url("/oauth2/token")).basic_auth(id, Some(secret));
        let answer: Value =
            request.form(&[("grant_type", "client_credentials")]).send().await.unwrap().json().await.unwrap();
        answer["access_token"].as_str().unwrap().to_owned()
    }

    /// A token for a customer in an app.
    pub fn customer_token(&self, customer: &str) -> String {
        let key = jsonwebtoken::EncodingKey::from_ec_pem(self.text("/sdkKey/privateKeyPem").as_bytes()).unwrap();
        let now = jiff_now();
        let claims = json!({ "sub": customer, "iat": now, "exp": now + 3600 });
        jsonwebtoken::encode(&jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256), &claims, &key).unwrap()
    }

    /// Starts the demo's flow for customers, one entry each.
    pub async fn start_flows(&self, token: &str, customers: &[String]) {
        self.starts().send(token, customers).await;
    }

    /// The way to start flows, for a task of its own.
    pub fn starts(&self) -> Starts {
        let url = self.path(&format!("action-flow/{}/start", self.text("/flowConfigId")));
        Starts { http: self.http.clone(), url }
    }

    /// A number from the server's database.
    pub async fn count(&self, query: &str) -> i64 {
        self.rows(query).await.remove(0).get(0)
    }

    /// Rows from the server's database.
    pub async fn rows(&self, query: &str) -> Vec<tokio_postgres::Row> {
        let (client, connection) = tokio_postgres::connect(&self.database().1, tokio_postgres::NoTls).await.unwrap();
        let driving = async { connection.await.unwrap() };
        let asking = async {
            let rows = client.query(query, &[]).await.unwrap();
            drop(client);
            rows
        };
        tokio::join!(asking, driving).0
    }

    /// Waits until every reader of events has passed all of them.
    pub async fn read_all(&self) {
        let behind = "SELECT count(*) FROM consumers c WHERE EXISTS (
                          SELECT FROM events e WHERE (e.xid, e.id) > (c.xid, c.event_id))";
        while self.count(behind).await > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until a count no longer grows.
    pub async fn quiet(&self, query: &str) {
        let mut before = -1;
        for _ in 0..600 {
            let now = self.count(query).await;
            if now == before {
                return;
            }
            before = now;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

/// Starts the demo's flow.
pub struct Starts {
    http: reqwest::Client,
    url: String,
}

impl Starts {
    /// Starts it for customers, one entry each.
    pub async fn send(&self, token: &str, customers: &[String]) {
        for chunk in customers.chunks(200) {
            let flows: Vec<Value> = chunk
                .iter()
                .map(|customer| {
                    json!({ "target": { "type": "user", "targetUserIds": customer },
                            "payload": { "variables": { "amount": "12" } } })
                })
                .collect();
            let request = self.http.post(&self.url).bearer_auth(token).json(&json!({ "flows": flows }));
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "tokens are signed for the wall clock")]
fn jiff_now() -> i64 {
    jiff::Timestamp::now().as_second()
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}
