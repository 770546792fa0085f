//! GraphQL over server-sent events, in the mode of one operation per connection.
//!
//! Results are pulled when the connection can take them: like a websocket, a stream has no queue. Each result is a
//! `next` event and the end a `complete` event. A stream that the server must end early, because the token ended or
//! the server stops, breaks off instead, so that clients come back and resume.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use async_graphql::parser::types::OperationType;
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_util::stream::{self, StreamExt};
use tokio::time::{Instant, sleep_until};

use super::endpoint::{Endpoint, Live, Ready};
use super::handover::{Answer, Answers};
use super::session::{Due, Session, no_place};
use crate::error::{Error, Result};
use crate::graphql::errors;
use crate::realtime::Seat;

/// A silent stream says something this often, so that proxies keep it open and a dead peer is found.
const HEARTBEAT: Duration = Duration::from_secs(15);
const SILENT: &str = ":\n\n";
const COMPLETE: &str = "event: complete\ndata:\n\n";

/// Answers with the results of an operation as they come.
pub fn stream(endpoint: Arc<Endpoint>, session: Session, ready: Ready) -> Result<Response> {
    let address = session.info.address.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    let seat = endpoint.app.hub().sockets().enter(address).map_err(no_place)?;
    session.sit(&seat)?;
    let Ready { request, handover, kind, label } = ready;
    let answers = endpoint.answers(request, handover);
    let now = Instant::now();
    let events =
        Events { endpoint, session, seat, kind, label, answers, ended: false, spoke_at: now, _live: Live::of(kind) };
    let events = stream::unfold(events, |mut events| async {
        match events.next().await? {
            Ok(event) => Some((Ok(event), events)),
            Err(broken) => Some((Err(broken), events.over())),
        }
    });
    Ok(respond(Body::from_stream(events)))
}

/// Answers with the reason why an operation is not executed.
pub fn refuse(error: &Error) -> Response {
    let events = [next(&errors::refusal(error)), COMPLETE.into()];
    respond(Body::from_stream(stream::iter(events.map(Ok::<Bytes, Infallible>))))
}

fn respond(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    // Proxies that collect answers before they pass them on are asked not to.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// A stream that breaks off.
#[derive(Debug, thiserror::Error)]
#[error("the stream was broken off")]
struct Broken;

struct Events {
    endpoint: Arc<Endpoint>,
    session: Session,
    seat: Seat,
    kind: OperationType,
    label: Option<String>,
    answers: Answers,
    ended: bool,
    spoke_at: Instant,
    _live: Option<Live>,
}

impl Events {
    /// The next event. `None` after the last.
    async fn next(&mut self) -> Option<Result<Bytes, Broken>> {
        if self.ended {
            return None;
        }
        let event = loop {
            let clock = self.endpoint.app.clock();
            if self.session.due(clock.now()) == Due::End {
                return Some(Err(Broken));
            }
            let expires = self.session.quiet_for(clock.now()).map(|quiet| Instant::now() + quiet);
            let heartbeat = self.spoke_at + HEARTBEAT;
            tokio::select! {
                answer = self.answers.next() => match answer {
                    Some(answer) => break self.told(answer).await,
                    None => {
                        self.ended = true;
                        break COMPLETE.into();
                    }
                },
                _ = self.seat.asked_to_leave() => return Some(Err(Broken)),
                () = sleep_until(expires.unwrap_or(heartbeat).min(heartbeat)) => {
                    if Instant::now() >= heartbeat {
                        break SILENT.into();
                    }
                }
            }
        };
        self.spoke_at = Instant::now();
        Some(Ok(event))
    }

    /// A subscription that failed gives its errors and ends.
    async fn told(&mut self, answer: Answer) -> Bytes {
        let answer = match answer {
            Answer::Data(data) => return format!("event: next\ndata: {{\"data\":{data}}}\n\n").into(),
            Answer::Response(answer) => errors::finish(*answer),
        };
        self.endpoint.note_refusal(&self.session.principal, self.label.as_deref(), errors::code(&answer)).await;
        let failed = self.kind == OperationType::Subscription && !answer.errors.is_empty();
        if failed && answer.data == async_graphql::Value::Null {
            self.answers = Answers::Ended;
        }
        next(&answer)
    }

    fn over(mut self) -> Events {
        self.ended = true;
        self
    }
}

fn next(answer: &async_graphql::Response) -> Bytes {
    match serde_json::to_string(answer) {
        // JSON has no line breaks inside, so a result is one line of data.
        Ok(json) => format!("event: next\ndata: {json}\n\n").into(),
        Err(error) => {
            tracing::error!(%error, "a result could not be written");
            SILENT.into()
        }
    }
}
