//! A client of GraphQL over server-sent events.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use serde_json::Value;

use super::world::World;

const PATIENCE: Duration = Duration::from_secs(10);

/// One stream of results.
pub struct EventStream {
    chunks: BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    text: String,
}

impl EventStream {
    /// Sends an operation of a customer and listens to its results.
    #[expect(clippy::disallowed_methods, reason = "tests call the server under test on loopback")]
    pub async fn open(world: &World, customer: &str, operation: &Value) -> EventStream {
        let request = reqwest::Client::new()
            .post(format!("{}/graphql", world.test.origin))
            .header("accept", "text/event-stream")
            .header("x-cardwire-api-key", "web")
            .bearer_auth(world.token_for(customer))
            .json(operation);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        EventStream { chunks: response.bytes_stream().boxed(), text: String::new() }
    }

    /// The next result; null when the stream completes.
    pub async fn next(&mut self) -> Value {
        self.event().await.expect("the stream broke off")
    }

    /// Tells whether the stream ends without completing, passing over results that come before.
    pub async fn breaks_off(&mut self) -> bool {
        loop {
            match self.event().await {
                Some(Value::Null) => return false,
                Some(_) => {}
                None => return true,
            }
        }
    }

    async fn event(&mut self) -> Option<Value> {
        loop {
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                match event.split_once('\n') {
                    Some(("event: next", data)) => {
                        return Some(serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap());
                    }
                    Some(("event: complete", "data:")) => return Some(Value::Null),
                    _ => assert_eq!(event, ":", "an unknown event"),
                }
            }
            let chunk = tokio::time::timeout(PATIENCE, self.chunks.next()).await.expect("nothing came");
            match chunk {
                Some(Ok(bytes)) => self.text.push_str(std::str::from_utf8(&bytes).unwrap()),
                Some(Err(_)) | None => return None,
            }
        }
    }
}
