//! Hints over Postgres: one connection beside the pool, which notifies and listens.
//!
//! Why not in the transaction of the change: the commits of transactions that notify wait for one another.

use std::future::poll_fn;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, Statement};

use super::wire;
use crate::error::{Error, Result};

const CHANNEL: &str = "cardwire_hints";
/// Messages that may wait to be heard; more are lost.
const WAITING: usize = 1024;
/// A payload has room for 7,999 bytes, of which base64 takes a quarter.
pub const MOST_HINTS: usize = (7_999 / 4 * 3 - wire::HEAD) / wire::HINT;

pub struct Link {
    client: Client,
    notify: Statement,
    heard: mpsc::Receiver<String>,
    /// Drives the connection; ends with this.
    _driver: JoinSet<()>,
}

impl Link {
    pub async fn connect(url: &str) -> Result<Link> {
        let mut config: Config = url.parse().map_err(Error::internal)?;
        config.application_name("cardwire hints");
        let (client, mut connection) = config.connect(NoTls).await.map_err(Error::internal)?;
        let (hear, heard) = mpsc::channel(WAITING);
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
                match message {
                    Ok(AsyncMessage::Notification(notification)) => {
                        if let Err(mpsc::error::TrySendError::Closed(_)) =
                            hear.try_send(notification.payload().to_owned())
                        {
                            return;
                        }
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::debug!(%error, "the connection for hints broke");
                        return;
                    }
                }
            }
        });
        client.batch_execute(&format!("LISTEN {CHANNEL}")).await.map_err(Error::internal)?;
        let notify = client.prepare("SELECT pg_notify($1, $2)").await.map_err(Error::internal)?;
        Ok(Link { client, notify, heard, _driver: driver })
    }

    pub async fn send(&mut self, message: &[u8]) -> Result<()> {
        let payload = STANDARD_NO_PAD.encode(message);
        self.client.execute(&self.notify, &[&CHANNEL, &payload]).await.map_err(Error::internal)?;
        Ok(())
    }

    pub async fn receive(&mut self) -> Result<Vec<u8>> {
        let payload = self.heard.recv().await.ok_or_else(|| Error::internal("the connection for hints ended"))?;
        // What is no base64 was said by somebody else, and says nothing.
        Ok(STANDARD_NO_PAD.decode(payload).unwrap_or_default())
    }
}
