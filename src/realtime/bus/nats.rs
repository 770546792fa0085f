//! Hints over NATS: a subject of this installation, at most once, which is all that hints need.

use async_nats::{Client, ConnectOptions, Subscriber};
use futures_util::StreamExt;

use crate::error::{Error, Result};

/// A message of this many hints is well below the 1 MiB that NATS servers take.
pub const MOST_HINTS: usize = 10_000;

pub struct Link {
    client: Client,
    subject: String,
    heard: Subscriber,
}

impl Link {
    /// Connects; from then on the client reconnects by itself.
    pub async fn connect(url: &str, subject: &str) -> Result<Link> {
        let subject = format!("cardwire.hints.{subject}");
        let client = ConnectOptions::new().name("cardwire").connect(url).await.map_err(Error::internal)?;
        let heard = client.subscribe(subject.clone()).await.map_err(Error::internal)?;
        client.flush().await.map_err(Error::internal)?;
        Ok(Link { client, subject, heard })
    }

    pub async fn send(&mut self, message: &[u8]) -> Result<()> {
        self.client.publish(self.subject.clone(), message.to_vec().into()).await.map_err(Error::internal)?;
        self.client.flush().await.map_err(Error::internal)
    }

    pub async fn receive(&mut self) -> Result<Vec<u8>> {
        let message = self.heard.next().await.ok_or_else(|| Error::internal("the subscription to hints ended"))?;
        Ok(message.payload.to_vec())
    }
}
