//! Databases for tests: a throw-away cluster, a migrated template, a copy per test.
//!
//! nextest runs each test in a process of its own, so the cluster outlives a process: the first test that needs it
//! starts it under a lock, and it ends by itself when nobody has used it for a while (a watchdog in the cluster's
//! shell). `CARDWIRE_TEST_DATABASE_URL` names a cluster to use instead.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use cardwire::db::migrations;
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};

/// A database that is dropped with the test.
pub struct TestDatabase {
    pub url: String,
    name: String,
    cluster: String,
    directory: PathBuf,
}

impl TestDatabase {
    /// Copies the template.
    pub async fn create() -> TestDatabase {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let cluster = cluster().await;
        let name = format!("test_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut conn = AsyncPgConnection::establish(&at(&cluster, "postgres")).await.unwrap();
        let template = template_name();
        let copy = format!(
            "DROP DATABASE IF EXISTS {name} (FORCE); CREATE DATABASE {name} TEMPLATE {template} STRATEGY wal_log"
        );
        // Two statements that cannot share a transaction are sent one by one.
        for statement in copy.split("; ") {
            conn.batch_execute(statement).await.unwrap();
        }
        let directory = root().join(&name);
        fs::create_dir_all(&directory).unwrap();
        TestDatabase { url: at(&cluster, &name), name, cluster, directory }
    }

    /// An empty database, for tests of the migrations themselves.
    pub async fn create_empty() -> TestDatabase {
        let database = TestDatabase::create().await;
        let mut conn = AsyncPgConnection::establish(&at(&database.cluster, "postgres")).await.unwrap();
        for statement in [format!("DROP DATABASE {}", database.name), format!("CREATE DATABASE {}", database.name)] {
            conn.batch_execute(&statement).await.unwrap();
        }
        database
    }

    /// A directory of this test's own.
    pub fn directory(&self) -> PathBuf {
        self.directory.clone()
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let name = self.name.clone();
        let url = at(&self.cluster, "postgres");
        // A thread of its own, because the runtime of the test may be ending.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                if let Ok(mut conn) = AsyncPgConnection::establish(&url).await {
                    let _ = conn.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
                }
            });
        });
        let _ = dropping.join();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The connection string of the cluster, without a database, ready for use with [`at`].
#[expect(clippy::disallowed_methods, reason = "tests have no Config before they have a database")]
async fn cluster() -> String {
    fs::create_dir_all(root()).unwrap();
    let lock = File::create(root().join("lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let cluster = std::env::var("CARDWIRE_TEST_DATABASE_URL").unwrap_or_else(|_| start_cluster());
    ensure_template(&cluster).await;
    cluster
}

fn at(cluster: &str, database: &str) -> String {
    match cluster.split_once("///") {
        Some((scheme, rest)) => format!("{scheme}///{database}{}", rest.trim_start_matches(|c| c != '?')),
        None => {
            let mut url = url::Url::parse(cluster).unwrap();
            url.set_path(database);
            url.to_string()
        }
    }
}

/// Everything of this checkout's test runs lives here.
fn root() -> PathBuf {
    let checkout = env!("CARGO_MANIFEST_DIR");
    let hash = checkout.bytes().fold(5381_u64, |hash, byte| hash.wrapping_mul(33) ^ u64::from(byte));
    PathBuf::from(format!("/tmp/cardwire-test-{hash:x}"))
}

fn start_cluster() -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/test-cluster");
    let output = Command::new(script).arg(root()).output().unwrap();
    assert!(output.status.success(), "the test cluster does not start: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The template carries the hash of the migrations, so that changed migrations make a new one.
fn template_name() -> String {
    let mut hash = 5381_u64;
    let mut files: Vec<PathBuf> = Vec::new();
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    for entry in fs::read_dir(migrations).unwrap() {
        files.push(entry.unwrap().path().join("up.sql"));
    }
    files.sort();
    for file in files {
        for byte in fs::read(&file).unwrap_or_default() {
            hash = hash.wrapping_mul(33) ^ u64::from(byte);
        }
    }
    format!("template_{hash:x}")
}

async fn ensure_template(cluster: &str) {
    let template = template_name();
    if AsyncPgConnection::establish(&at(cluster, &template)).await.is_ok() {
        return;
    }
    let mut conn = AsyncPgConnection::establish(&at(cluster, "postgres")).await.unwrap();
    conn.batch_execute("DROP DATABASE IF EXISTS template_new").await.unwrap();
    conn.batch_execute("CREATE DATABASE template_new").await.unwrap();
    migrations::run(&at(cluster, "template_new")).await.unwrap();
    conn.batch_execute(&format!("ALTER DATABASE template_new RENAME TO {template}")).await.unwrap();
}
