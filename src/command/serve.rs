//! `cardwire serve`.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use axum::Router;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::open::Opened;
use super::print;
use crate::app::App;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::server::Server;

pub async fn run(config: Config) -> Result<()> {
    let opened = Opened::open(config).await?;
    let app = opened.app.clone();
    let ready = json!({ "origin": origin(&app) });
    serve_until_stopped(opened, Router::new(), async |_| Ok(ready)).await
}

/// Serves until SIGTERM or SIGINT. `prepare` runs when requests can be served and gives the ready file's content.
pub(crate) async fn serve_until_stopped(
    opened: Opened,
    extra: Router<App>,
    prepare: impl AsyncFnOnce(&App) -> Result<Value>,
) -> Result<()> {
    let Opened { app, listener, database } = opened;
    let server = Server::start(app.clone(), listener, crate::workers(), extra).await?;
    let ready = prepare(&app).await?;
    if let Some(path) = &app.config().ready_file {
        write_ready_file(path, &ready)?;
    }
    print(&format!("Cardwire serves at {}", origin(&app)));
    if let (Some(token), None) = (server.setup_token(), &app.config().setup_token) {
        print(&format!("Nobody has set it up yet; the one-time token for setUpInstance is {}", token.expose()));
    }
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::internal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::internal)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    server.stop().await;
    database.close().await;
    Ok(())
}

/// The origin without a slash at its end.
pub(crate) fn origin(app: &App) -> String {
    app.origin().as_str().trim_end_matches('/').to_owned()
}

/// Writes beside and renames, so that a reader never sees half a file. It may hold secrets: only the owner reads it.
pub(crate) fn write_ready_file(path: &Path, content: &Value) -> Result<()> {
    let beside = path.with_extension("new");
    let write = || {
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(content.to_string().as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().map_err(|error| Error::internal(format!("{} cannot be written: {error}", path.display())))
}
