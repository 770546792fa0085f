//! One websocket: a loop over frames, answers and the clock, in one task.
//!
//! There is no outgoing queue. An answer is pulled from its operation when the socket can take it; while a peer does
//! not read, its operations rest, and a subscription that is asked again looks at the newest state. What a subscription
//! says by itself ([`Outlet`]) goes out beside this loop, if the socket takes it. A write that takes ten seconds ends the
//! connection with 1013, and the client may resume.

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_graphql::Response;
use async_graphql::parser::types::OperationType;
use axum::response::IntoResponse;
use futures_util::stream::StreamExt;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until, timeout};
use tungstenite::Message;
use tungstenite::error::Error as Broken;
use tungstenite::protocol::CloseFrame;

use super::endpoint::{Endpoint, Live, Operation, Ready, SDK_BODY};
use super::handover::{Answer, Answers};
use super::protocol::{ClientMessage, Close, ServerMessage};
use super::session::{Due, Session, no_place};
use super::upgrade::Upgrade;
use super::wire::{self, Outlet, Wire};
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

/// Accepts an upgrade.
#[expect(
    clippy::disallowed_methods,
    reason = "a connection ends alone, whatever becomes of it, and its seat lets a drain wait for it"
)]
pub fn accept(upgrade: Upgrade, endpoint: Arc<Endpoint>, address: IpAddr) -> axum::response::Response {
    let seat = match endpoint.app.hub().sockets().enter(address) {
        // Before the upgrade a refusal costs least, and clients come again later.
        Err(full @ (Full::Address | Full::Customer)) => return no_place(full).into_response(),
        seat => seat.ok(),
    };
    let response = upgrade.response();
    tokio::spawn(async move {
        let spoken = upgrade.spoken;
        let Some((stream, read)) = upgrade.connection().await else { return };
        let wire = Arc::new(Wire::new(stream, read, endpoint.app.config().body_limit));
        match (spoken, seat) {
            (false, _) => Box::pin(part(&wire, Close::unknown_protocol())).await,
            (true, None) => Box::pin(part(&wire, Close::leaving())).await,
            (true, Some(seat)) => Box::new(Connection::new(wire, endpoint, address, seat)).serve().await,
        }
    });
    response
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
    wire: Arc<Wire>,
    endpoint: Arc<Endpoint>,
    address: IpAddr,
    session: Option<Session>,
    running: Running,
    seat: Seat,
    budget: Budget,
    opened_at: Instant,
    heard_at: Instant,
    pinged_at: Instant,
}

/// The operations of a connection. Few, so that looking through them is quicker and smaller than a map.
#[derive(Default)]
struct Running {
    operations: Vec<Operating>,
    /// The one that is asked first, so that none that always has something to say silences the others.
    first: usize,
}

struct Operating {
    id: Arc<str>,
    label: Option<String>,
    kind: OperationType,
    answers: Answers,
    _live: Option<Live>,
}

/// What an operation gives: an answer, or its end.
struct Step {
    id: Arc<str>,
    answer: Option<Answer>,
}

enum Event {
    Frame(Result<Message, Broken>),
    Step(Step),
    Clock,
    /// Something that was said beside this loop was not taken whole.
    Clogged,
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
    fn new(wire: Arc<Wire>, endpoint: Arc<Endpoint>, address: IpAddr, seat: Seat) -> Connection {
        let now = Instant::now();
        Connection {
            wire,
            endpoint,
            address,
            session: None,
            running: Running::default(),
            seat,
            budget: Budget { frames: BURST, at: now },
            opened_at: now,
            heard_at: now,
            pinged_at: now,
        }
    }

    /// Boxed, so that the task does not hold it twice.
    async fn serve(mut self: Box<Self>) {
        match self.run().await {
            Err(End::Close(close)) => {
                self.running = Running::default();
                Box::pin(part(&self.wire, close)).await;
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
                frame = self.wire.receive(), if readable => Event::Frame(frame),
                step = poll_fn(|context| self.running.poll_next(context)) => Event::Step(step),
                // Asked after the operations, of which one wakes this task when that has happened.
                () = poll_fn(|_| if self.wire.is_clogged() { Poll::Ready(()) } else { Poll::Pending }) => Event::Clogged,
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
                Event::Clogged => self.unclog().await?,
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
            written(self.wire.send(Message::Ping(Vec::new().into()))).await?;
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

    async fn frame(&mut self, frame: Result<Message, Broken>) -> Result<(), End> {
        self.heard_at = Instant::now();
        self.budget.frames -= 1.0;
        match frame {
            Ok(Message::Text(text)) => {
                let limit = self.message_limit();
                if text.len() > limit {
                    return Err(Close::too_large(limit).into());
                }
                // Boxed, so that a connection that only waits does not hold the memory of its rarest work.
                Box::pin(self.message(ClientMessage::read(&text)?)).await
            }
            Ok(Message::Binary(_)) => Err(Close::malformed("Messages are text").into()),
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => Ok(()),
            Ok(Message::Close(_)) => Err(End::Gone),
            Err(error) => Err(broken(&error, self.endpoint.app.config().body_limit)),
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
                self.running.stop(&id);
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
        if self.running.get(&id).is_some() {
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
        if self.running.count_like(ready.kind) >= limit {
            let error = Error::new(Code::RateLimited, format!("a connection may have {limit} {what} at a time"));
            return self.refuse(&id, &error).await;
        }
        let request = ready.request.data(session.renewal().clone());
        self.start(id.into(), Ready { request, ..ready });
        Ok(())
    }

    fn start(&mut self, id: Arc<str>, ready: Ready) {
        let Ready { request, handover, kind, label } = ready;
        if let Some(handover) = &handover {
            handover.lead_to(Outlet::new(self.wire.clone(), &id));
        }
        let answers = self.endpoint.answers(request, handover);
        self.running.operations.push(Operating { id, label, kind, answers, _live: Live::of(kind) });
    }

    async fn step(&mut self, step: Step) -> Result<(), End> {
        let Step { id, answer } = step;
        match answer {
            Some(Answer::Data(data)) => {
                let id = Value::from(&*id).to_string();
                written(self.wire.say(&wire::next(&id, &data))).await
            }
            Some(Answer::Response(answer)) => Box::pin(self.respond(&id, *answer)).await,
            None => {
                self.running.stop(&id);
                self.say(&ServerMessage::Complete { id: &id }).await
            }
        }
    }

    async fn respond(&mut self, id: &str, answer: Response) -> Result<(), End> {
        let Some(running) = self.running.get(id) else { return Ok(()) };
        let kind = running.kind;
        let answer = errors::finish(answer);
        if let Some(session) = &self.session {
            let label = running.label.as_deref();
            self.endpoint.note_refusal(&session.principal, label, errors::code(&answer)).await;
        }
        let nothing = answer.data == async_graphql::Value::Null && !answer.errors.is_empty();
        if errors::is_refusal(&answer) || (nothing && kind == OperationType::Subscription) {
            self.running.stop(id);
            return self.say(&ServerMessage::Error { id, payload: &answer.errors }).await;
        }
        self.say(&ServerMessage::Next { id, payload: &answer }).await
    }

    async fn refuse(&mut self, id: &str, error: &Error) -> Result<(), End> {
        self.say(&ServerMessage::Error { id, payload: &errors::violations(error) }).await
    }

    async fn say(&mut self, message: &ServerMessage<'_>) -> Result<(), End> {
        match serde_json::to_string(message) {
            Ok(text) => written(self.wire.say(&[&text])).await,
            Err(error) => {
                tracing::error!(%error, "a message could not be written");
                Err(Close::try_again_later("Try again later").into())
            }
        }
    }

    /// Waits until the socket has taken what was said beside this loop.
    async fn unclog(&mut self) -> Result<(), End> {
        written(self.wire.flush()).await
    }
}

impl Running {
    fn get(&self, id: &str) -> Option<&Operating> {
        self.operations.iter().find(|operating| *operating.id == *id)
    }

    /// How many are subscriptions like this one, or pass like it.
    fn count_like(&self, kind: OperationType) -> usize {
        let subscribes = |kind| kind == OperationType::Subscription;
        self.operations.iter().filter(|other| subscribes(other.kind) == subscribes(kind)).count()
    }

    /// Ends an operation, also one that has ended by itself.
    fn stop(&mut self, id: &str) {
        if let Some(place) = self.operations.iter().position(|operating| *operating.id == *id) {
            self.operations.swap_remove(place);
        }
    }

    /// The next answer of any of them.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        let count = self.operations.len();
        for turn in 0..count {
            let place = (self.first + turn) % count;
            let Some(operating) = self.operations.get_mut(place) else { continue };
            if let Poll::Ready(answer) = operating.answers.poll_next_unpin(context) {
                self.first = place + 1;
                return Poll::Ready(Step { id: operating.id.clone(), answer });
            }
        }
        Poll::Pending
    }
}

/// Writes within the time that a peer has for it.
async fn written(write: impl Future<Output = Result<(), Broken>>) -> Result<(), End> {
    match timeout(WRITE, write).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(End::Gone),
        Err(_) => {
            metrics::counter!("cardwire_websocket_slow_closes").increment(1);
            Err(Close::try_again_later("Reading too slowly").into())
        }
    }
}

/// Says why, and waits a moment for the peer, so that the reason is not lost with the connection.
async fn part(wire: &Wire, close: Close) {
    let frame = CloseFrame { code: close.code.into(), reason: close.reason.into() };
    let farewell = async {
        if wire.send(Message::Close(Some(frame))).await.is_ok() {
            while wire.receive().await.is_ok() {}
        }
    };
    // Whoever does not answer a close is not waited for.
    let _ = timeout(FAREWELL, farewell).await;
}

/// Tells apart why frames cannot be read any more.
fn broken(error: &Broken, limit: usize) -> End {
    match error {
        Broken::Capacity(_) => Close::too_large(limit).into(),
        Broken::Utf8(_) => Close { code: 1007, reason: "Messages are UTF-8".to_owned() }.into(),
        _ => End::Gone,
    }
}
