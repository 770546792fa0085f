//! Opens what a server needs, in order: database, schema, master key, application.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use url::Url;

use crate::app::{App, Node, Parts};
use crate::clock::Clock;
use crate::config::Config;
use crate::db::embedded::Cluster;
use crate::db::{Pool, migrations, partitions};
use crate::error::{Error, Result};
use crate::ids::Ids;
use crate::secret::Vault;

/// The database: somebody else's, or a private cluster that lives as long as this does.
pub enum Database {
    Foreign(String),
    Private(Cluster),
}

impl Database {
    pub async fn open(config: &Config) -> Result<Database> {
        match &config.database_url {
            Some(url) => Ok(Database::Foreign(url.expose().to_owned())),
            None => Cluster::start(&config.data_dir, config.postgres_bin.as_deref()).await.map(Database::Private),
        }
    }

    pub fn url(&self) -> &str {
        match self {
            Database::Foreign(url) => url,
            Database::Private(cluster) => cluster.url(),
        }
    }

    pub async fn close(self) {
        if let Database::Private(cluster) = self {
            cluster.stop().await;
        }
    }
}

/// Everything open, not yet serving.
pub struct Opened {
    pub app: App,
    pub listener: TcpListener,
    pub database: Database,
}

impl Opened {
    pub async fn open(config: Config) -> Result<Opened> {
        raise_file_limit();
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|error| Error::internal(format!("cannot listen on {}: {error}", config.listen)))?;
        let address = listener.local_addr().map_err(Error::internal)?;
        let origin = match &config.origin {
            Some(origin) => origin.clone(),
            None => Url::parse(&format!("http://{address}")).map_err(Error::internal)?,
        };
        let database = Database::open(&config).await?;
        migrations::run(database.url()).await?;
        let vault = Vault::new(master_key(&config)?);
        let pool = Pool::new(database.url(), config.database_connections)?;
        let node = match database {
            // The lock on its data directory keeps every other server out.
            Database::Private(_) => Node::Only,
            Database::Foreign(_) => Node::OneOfSeveral,
        };
        let app = App::new(Parts { config, origin, pool, clock: Clock::system(), ids: Ids::random(), vault, node })?;
        partitions::maintain(&app, app.clock().now()).await?;
        Ok(Opened { app, listener, database })
    }
}

/// The configured key, or the one in the data directory, made at the first start.
fn master_key(config: &Config) -> Result<[u8; 32]> {
    if let Some(key) = config.master_key {
        return Ok(key.0);
    }
    let path = config.data_dir.join("master.key");
    match std::fs::read_to_string(&path) {
        Ok(text) => Vault::parse_key(&text)
            .ok_or_else(|| Error::internal(format!("{} does not hold 32 bytes in base64", path.display()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => make_master_key(&path),
        Err(error) => Err(Error::internal(format!("{} cannot be read: {error}", path.display()))),
    }
}

/// Writes beside and renames, so that a crash leaves no half key.
fn make_master_key(path: &Path) -> Result<[u8; 32]> {
    let key = Ids::random().bytes::<32>();
    let beside = path.with_extension("new");
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        writeln!(file, "{}", STANDARD.encode(key))?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().map_err(|error| Error::internal(format!("{} cannot be written: {error}", path.display())))?;
    Ok(key)
}

/// Each connection is an open file, and the limit that shells give is made for other programs.
fn raise_file_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}
