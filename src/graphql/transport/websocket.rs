//! One websocket: a loop over frames, answers and the clock, in one task.
//!
//! There is no outgoing queue. An answer is pulled from its operation when the socket can take it; while a peer does
//! not read, its operations rest, and a subscription that is asked again looks at the newest state. A write that
//! takes ten seconds ends the connection with 1013, and the client may resume.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_graphql::Response;
use async_graphql::parser::types::OperationType;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::response::IntoResponse;
use futures_util::stream::{AbortHandle, BoxStream, SelectAll, StreamExt, abortable, once};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until, timeout};

use super::endpoint::{Endpoint, Live, Operation, Ready, SDK_BODY};
use super::handover::Answer;
use super::protocol::{ClientMessage, Close, SUB_PROTOCOL, ServerMessage};
use super::session::{Due, Session, no_place};
use crate::access::authenticate;
use crate::error::{Code, Error};
use crate::graphql::errors;
use crate::realtime::{Full, Leave, Seat};

/// `connection_init` must come within this time.
const INIT: Duration = Duration::from_secs(10);
const PING: Duration = Duration::from_secs(25);
/// A peer that says nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(60);
const WRITE: Duration = Duration::from_secs(10);
/// How long the peer gets to answer a close.
const FAREWELL: Duration = Duration::from_secs(2);
/// Subscriptions that one connection may hold.
const SUBSCRIPTIONS: usize = 20;
/// Queries and mutations that may run at once on one connection.
const REQUESTS: usize = 40;
/// Frames that a peer may send in a second, and at once.
const FRAMES: f64 = 50.0;
const BURST: f64 = 200.0;
/// Read buffers are per connection; small ones let one machine hold many.
const READ_BUFFER: usize = 1024;

/// Accepts an upgrade.
pub fn accept(upgrade: WebSocketUpgrade, endpoint: Arc<Endpoint>, address: IpAddr) -> axum::response::Response {
    let limit = endpoint.app.config().body_limit;
    let upgrade = upgrade
        .protocols([SUB_PROTOCOL])
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(limit)
        .max_frame_size(limit);
    let spoken = upgrade.selected_protocol().is_some();
    let seat = match endpoint.app.hub().sockets().enter(address) {
        // Before the upgrade a refusal costs least, and clients come again later.
        Err(full @ (Full::Address | Full::Customer)) => return no_place(full).into_response(),
        seat => seat.ok(),
    };
    upgrade.on_upgrade(move |socket| async move {
        match (spoken, seat) {
            (false, _) => Box::pin(part(socket, Close::unknown_protocol())).await,
            (true, None) => Box::pin(part(socket, Close::leaving())).await,
            (true, Some(seat)) => Box::new(Connection::new(socket, endpoint, address, seat)).serve().await,
        }
    })
}

/// Why the loop ends.
enum End {
    Close(Close),
    /// The peer is not there any more.
    Gone,
}

impl From<Close> for End {
    fn from(close: Close) -> End {
        End::Close(close)
    }
}

struct Connection {
    socket: WebSocket,
    endpoint: Arc<Endpoint>,
    address: IpAddr,
    session: Option<Session>,
    /// Few, so that looking through them is quicker and smaller than a map.
    running: Vec<Running>,
    answers: SelectAll<BoxStream<'static, Step>>,
    seat: Seat,
    budget: Budget,
    /// Counts operations, so that the end of an old one is not taken for that of a new one with its id.
    operations: u64,
    opened_at: Instant,
    heard_at: Instant,
    pinged_at: Instant,
}

struct Running {
    id: Arc<str>,
    number: u64,
    label: Option<String>,
    kind: OperationType,
    abort: AbortHandle,
    _live: Option<Live>,
}

/// What an operation gives: an answer, or its end.
struct Step {
    id: Arc<str>,
    number: u64,
    answer: Option<Answer>,
}

enum Event {
    Frame(Option<Result<Message, axum::Error>>),
    Step(Step),
    Clock,
    Leave(Leave),
}

/// How many frames the peer may send: a bucket that fills with time.
struct Budget {
    frames: f64,
    at: Instant,
}

impl Budget {
    fn refill(&mut self, now: Instant) {
        self.frames = BURST.min(self.frames + FRAMES * now.duration_since(self.at).as_secs_f64());
        self.at = now;
    }

    /// When the next frame may be read. `None`: now.
    fn ready_at(&mut self, now: Instant) -> Option<Instant> {
        self.refill(now);
        (self.frames < 1.0).then(|| now + Duration::from_secs_f64((1.0 - self.frames) / FRAMES))
    }
}

impl Connection {
    fn new(socket: WebSocket, endpoint: Arc<Endpoint>, address: IpAddr, seat: Seat) -> Connection {
        let now = Instant::now();
        Connection {
            socket,
            endpoint,
            address,
            session: None,
            running: Vec::new(),
            answers: SelectAll::new(),
            seat,
            budget: Budget { frames: BURST, at: now },
            operations: 0,
            opened_at: now,
            heard_at: now,
            pinged_at: now,
        }
    }

    /// Boxed, so that the task does not hold it twice.
    async fn serve(mut self: Box<Self>) {
        match self.run().await {
            Err(End::Close(close)) => {
                self.answers.clear();
                self.running.clear();
                Box::pin(part(self.socket, close)).await;
            }
            Err(End::Gone) | Ok(()) => {}
        }
    }

    async fn run(&mut self) -> Result<(), End> {
        let mut leaving = pin!(self.seat.asked_to_leave());
        // It rings at the next deadline or before, and is set anew only where that comes nearer.
        let mut alarm = pin!(sleep_until(self.deadline()));
        loop {
            // Who sends too much is read later, so that the peer's own buffers fill and not ours.
            let readable = self.budget.ready_at(Instant::now()).is_none();
            let event = tokio::select! {
                biased;
                leave = &mut leaving => Event::Leave(leave),
                () = &mut alarm => Event::Clock,
                frame = self.socket.recv(), if readable => Event::Frame(frame),
                Some(step) = self.answers.next() => Event::Step(step),
            };
            match event {
                Event::Leave(Leave::Stopping) => return Err(Close::leaving().into()),
                Event::Leave(Leave::Broken) => return Err(End::Gone),
                Event::Leave(Leave::Revoked) => return Err(Close::revoked().into()),
                Event::Step(step) => {
                    let passed_on = matches!(step.answer, Some(Answer::Data(_)));
                    self.step(step).await?;
                    if passed_on {
                        // It asks nothing of the clock.
                        continue;
                    }
                }
                Event::Frame(frame) => self.frame(frame).await?,
                Event::Clock => {}
            }
            self.clock().await?;
            let deadline = self.deadline();
            if deadline < alarm.deadline() || alarm.is_elapsed() {
                alarm.as_mut().reset(deadline);
            }
        }
    }

    /// The next instant at which the clock asks for something.
    fn deadline(&mut self) -> Instant {
        let mut deadline = (self.heard_at + SILENCE).min(self.pinged_at + PING);
        if let Some(ready) = self.budget.ready_at(Instant::now()) {
            deadline = deadline.min(ready);
        }
        match &self.session {
            None => deadline = deadline.min(self.opened_at + INIT),
            Some(session) => {
                if let Some(quiet) = session.quiet_for(self.endpoint.app.clock().now()) {
                    deadline = deadline.min(Instant::now() + quiet.max(Duration::from_millis(1)));
                }
            }
        }
        deadline
    }

    async fn clock(&mut self) -> Result<(), End> {
        let now = Instant::now();
        if now >= self.heard_at + SILENCE {
            return Err(Close::silent().into());
        }
        if now >= self.pinged_at + PING {
            self.pinged_at = now;
            self.send(Message::Ping(Vec::new().into())).await?;
        }
        if let Some(session) = &mut self.session
            && session.refresh()
        {
            // What let the connection in is another token now.
            session.sit(&self.seat).map_err(|error| Close::refusing(&error))?;
        }
        let time = self.endpoint.app.clock().now();
        match self.session.as_mut().map(|session| session.due(time)) {
            None if now >= self.opened_at + INIT => Err(Close::too_slow_to_start().into()),
            Some(Due::End) => Err(Close::forbidden("token_expired: the token has expired").into()),
            Some(Due::Warning(end)) => {
                self.say(&ServerMessage::Ping { payload: json!({"type": "tokenExpiring", "expiresAt": end}) }).await
            }
            None | Some(Due::Nothing) => Ok(()),
        }
    }

    async fn frame(&mut self, frame: Option<Result<Message, axum::Error>>) -> Result<(), End> {
        self.heard_at = Instant::now();
        self.budget.frames -= 1.0;
        match frame {
            Some(Ok(Message::Text(text))) => {
                let limit = self.message_limit();
                if text.len() > limit {
                    return Err(Close::too_large(limit).into());
                }
                // Boxed, so that a connection that only waits does not hold the memory of its rarest work.
                Box::pin(self.message(ClientMessage::read(&text)?)).await
            }
            Some(Ok(Message::Binary(_))) => Err(Close::malformed("Messages are text").into()),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
            Some(Ok(Message::Close(_))) | None => Err(End::Gone),
            Some(Err(error)) => Err(broken(&error, self.endpoint.app.config().body_limit)),
        }
    }

    fn message_limit(&self) -> usize {
        match &self.session {
            Some(session) => self.endpoint.body_limit(&session.principal),
            None => SDK_BODY,
        }
    }

    async fn message(&mut self, message: ClientMessage) -> Result<(), End> {
        match message {
            ClientMessage::Init { .. } if self.session.is_some() => Err(Close::second_init().into()),
            ClientMessage::Init { payload } => self.init(&payload).await,
            ClientMessage::Ping { payload } => self.say(&ServerMessage::Pong { payload }).await,
            ClientMessage::Pong => Ok(()),
            ClientMessage::Subscribe { .. } if self.session.is_none() => Err(Close::unauthorized().into()),
            ClientMessage::Subscribe { id, payload } => self.subscribe(id, payload).await,
            ClientMessage::Complete { id } => {
                self.stop(&id);
                Ok(())
            }
        }
    }

    async fn init(&mut self, payload: &Value) -> Result<(), End> {
        let sockets = self.endpoint.app.hub().sockets().clone();
        // When a thousand come at once they wait here, and are not sent away.
        let turn = tokio::select! {
            turn = sockets.admit() => turn,
            _ = self.seat.asked_to_leave() => return Err(Close::leaving().into()),
        };
        let authenticated = authenticate::from_connection_init(&self.endpoint.app, payload, self.address);
        let authenticated = timeout(INIT, authenticated).await;
        drop(turn);
        // Waiting for a turn was not the peer's silence.
        self.heard_at = Instant::now();
        match authenticated {
            Ok(Ok(principal)) => {
                let session = Session::new(principal, self.address);
                session.sit(&self.seat).map_err(|error| Close::refusing(&error))?;
                self.session = Some(session);
                self.say(&ServerMessage::ConnectionAck).await
            }
            Ok(Err(error)) => {
                if error.code().status() >= 500 {
                    tracing::error!(%error, "a connection could not be authenticated");
                }
                Err(Close::refusing(&error).into())
            }
            Err(_) => Err(Close::try_again_later("Try again later").into()),
        }
    }

    async fn subscribe(&mut self, id: String, payload: Value) -> Result<(), End> {
        if self.running.iter().any(|running| *running.id == *id) {
            return Err(Close::reused(&id).into());
        }
        let operation = match Operation::read(payload) {
            Ok(operation) => operation,
            // The members of the payload have fixed types; only their content is the operation's own affair.
            Err(error) if error.code() == Code::BadRequest => {
                return Err(Close::malformed("\"subscribe\" payload is malformed").into());
            }
            Err(error) => return self.refuse(&id, &error).await,
        };
        let Some(session) = &mut self.session else { return Err(Close::unauthorized().into()) };
        match authenticate::again(&self.endpoint.app, &session.principal).await {
            Ok(Some(principal)) => session.principal = principal,
            Ok(None) => {}
            Err(error) => return self.refuse(&id, &error).await,
        }
        let name = operation.name.clone();
        let ready = match self.endpoint.prepare(operation, &session.principal, &session.info).await {
            Ok(ready) => ready,
            Err(error) => {
                self.endpoint.note_refusal(&session.principal, name.as_deref(), Some(error.code())).await;
                return self.refuse(&id, &error).await;
            }
        };
        let (limit, what) = match ready.kind {
            OperationType::Subscription => (SUBSCRIPTIONS, "subscriptions"),
            _ => (REQUESTS, "operations"),
        };
        let subscription = ready.kind == OperationType::Subscription;
        let live = self.running.iter().filter(|other| (other.kind == OperationType::Subscription) == subscription);
        if live.count() >= limit {
            let error = Error::new(Code::RateLimited, format!("a connection may have {limit} {what} at a time"));
            return self.refuse(&id, &error).await;
        }
        let request = ready.request.data(session.renewal().clone());
        self.start(id.into(), Ready { request, ..ready });
        Ok(())
    }

    fn start(&mut self, id: Arc<str>, ready: Ready) {
        let Ready { request, handover, kind, label } = ready;
        self.operations += 1;
        let number = self.operations;
        let (answers, abort) = abortable(self.endpoint.answers(request, handover));
        let step = {
            let id = id.clone();
            move |answer| Step { id: id.clone(), number, answer }
        };
        let end = once(std::future::ready(step(None)));
        self.answers.push(answers.map(move |answer| step(Some(answer))).chain(end).boxed());
        self.running.push(Running { id, number, label, kind, abort, _live: Live::of(kind) });
    }

    /// Ends an operation, also one that has ended by itself.
    fn stop(&mut self, id: &str) {
        if let Some(place) = self.running.iter().position(|running| *running.id == *id) {
            self.running.swap_remove(place).abort.abort();
        }
    }

    async fn step(&mut self, step: Step) -> Result<(), End> {
        let Step { id, number, answer } = step;
        if !self.running.iter().any(|running| running.number == number) {
            return Ok(());
        }
        match answer {
            Some(Answer::Data(data)) => self.tell(&id, &data).await,
            Some(Answer::Response(answer)) => Box::pin(self.respond(&id, *answer)).await,
            None => {
                self.stop(&id);
                self.say(&ServerMessage::Complete { id: &id }).await
            }
        }
    }

    async fn respond(&mut self, id: &str, answer: Response) -> Result<(), End> {
        let Some(running) = self.running.iter().find(|running| *running.id == *id) else { return Ok(()) };
        let kind = running.kind;
        let answer = errors::finish(answer);
        if let Some(session) = &self.session {
            let label = running.label.as_deref();
            self.endpoint.note_refusal(&session.principal, label, errors::code(&answer)).await;
        }
        let nothing = answer.data == async_graphql::Value::Null && !answer.errors.is_empty();
        if errors::is_refusal(&answer) || (nothing && kind == OperationType::Subscription) {
            self.stop(id);
            return self.say(&ServerMessage::Error { id, payload: &answer.errors }).await;
        }
        self.say(&ServerMessage::Next { id, payload: &answer }).await
    }

    async fn refuse(&mut self, id: &str, error: &Error) -> Result<(), End> {
        self.say(&ServerMessage::Error { id, payload: &errors::violations(error) }).await
    }

    /// Sends data that is text already.
    async fn tell(&mut self, id: &str, data: &str) -> Result<(), End> {
        let id = Value::from(id);
        self.send(Message::Text(format!(r#"{{"type":"next","id":{id},"payload":{{"data":{data}}}}}"#).into())).await
    }

    async fn say(&mut self, message: &ServerMessage<'_>) -> Result<(), End> {
        match serde_json::to_string(message) {
            Ok(text) => self.send(Message::Text(text.into())).await,
            Err(error) => {
                tracing::error!(%error, "a message could not be written");
                Err(Close::try_again_later("Try again later").into())
            }
        }
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        match timeout(WRITE, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => {
                metrics::counter!("cardwire_websocket_slow_closes").increment(1);
                Err(Close::try_again_later("Reading too slowly").into())
            }
        }
    }
}

/// Says why, and waits a moment for the peer, so that the reason is not lost with the connection.
async fn part(mut socket: WebSocket, close: Close) {
    let frame = CloseFrame { code: close.code, reason: close.reason.into() };
    let farewell = async {
        if socket.send(Message::Close(Some(frame))).await.is_ok() {
            while let Some(Ok(_)) = socket.recv().await {}
        }
    };
    // Whoever does not answer a close is not waited for.
    let _ = timeout(FAREWELL, farewell).await;
}

/// Tells apart why frames cannot be read any more.
fn broken(error: &axum::Error, limit: usize) -> End {
    let text = error.to_string().to_ascii_lowercase();
    if text.contains("space limit") || text.contains("too long") || text.contains("too large") {
        Close::too_large(limit).into()
    } else if text.contains("utf-8") {
        Close { code: 1007, reason: "Messages are UTF-8".to_owned() }.into()
    } else {
        End::Gone
    }
}
