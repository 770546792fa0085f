//! Starts of one flow that come at the same time are committed together.
//!
//! A commit waits for the disk whatever it holds. While one is under way, further requests gather, and the next
//! transaction takes as many as fit. Nobody waits for company: a request that finds nobody at work begins at once.
//! Each request keeps its own batch, outcomes and errors.
//!
//! Whoever hangs up while requests are gathered leaves them as they are: those that were taken are carried out.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{Asked, Caller, Mode, StartRequest, Started, begin};
use crate::app::App;
use crate::error::{Code, Error, Result};
use crate::events::TriggerSource;
use crate::ids::{EnvId, FlowId};

/// The most customers of a request that is started together with others, and of all requests of a transaction.
pub(super) const MOST_CUSTOMERS: usize = 20;
const MOST_TOGETHER: usize = 200;
/// Transactions for one flow at a time: one is made up while another is flushed to disk.
const AT_ONCE: usize = 2;
/// Requests that may wait for one flow; more are sent away.
const MOST_WAITING: usize = 10_000;

/// The requests that wait to be started, by flow.
#[derive(Clone, Default)]
pub(crate) struct Gathering(Arc<Mutex<HashMap<Line, Queue>>>);

/// What requests have in common that are started together.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Line {
    env: EnvId,
    flow: FlowId,
    source: TriggerSource,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    working: usize,
}

struct Waiting {
    request: StartRequest,
    address: Option<IpAddr>,
    answer: oneshot::Sender<Result<Started>>,
}

/// The right to start those who wait. Given back when nobody waits, or when its holder breaks down.
struct Turn {
    gathering: Gathering,
    line: Line,
    ended: bool,
}

/// Starts the published flow, together with whoever asks for the same meanwhile.
#[expect(clippy::disallowed_methods, reason = "those who wait hear of a failure: their answers end with it")]
pub(super) async fn start(
    app: &App,
    env: EnvId,
    flow: FlowId,
    request: StartRequest,
    caller: Caller,
) -> Result<Started> {
    let (answer, answered) = oneshot::channel();
    let line = Line { env, flow, source: caller.source };
    if let Some(turn) = app.gathering().wait(line, Waiting { request, address: caller.address, answer })? {
        tokio::spawn(serve(app.clone(), turn));
    }
    answered.await.map_err(Error::internal)?
}

impl Gathering {
    /// Adds a request. Gives a turn when so few are at work that another may begin.
    fn wait(&self, line: Line, waiting: Waiting) -> Result<Option<Turn>> {
        let mut lines = self.0.lock();
        let queue = lines.entry(line).or_default();
        if queue.waiting.len() >= MOST_WAITING {
            return Err(Error::unavailable(1, "too many starts of this flow are waiting"));
        }
        queue.waiting.push_back(waiting);
        if queue.working == AT_ONCE {
            return Ok(None);
        }
        queue.working += 1;
        Ok(Some(Turn { gathering: self.clone(), line, ended: false }))
    }
}

impl Turn {
    /// Those who are started next. Without any the turn ends, in the same instant in which that is seen.
    fn next(&mut self) -> Option<Vec<Waiting>> {
        let mut lines = self.gathering.0.lock();
        let queue = lines.get_mut(&self.line)?;
        let mut customers = 0;
        let count = queue.waiting.iter().take_while(|waiting| {
            customers += waiting.request.customers();
            customers <= MOST_TOGETHER
        });
        let count = count.count();
        if count > 0 {
            return Some(queue.waiting.drain(..count).collect());
        }
        self.ended = true;
        queue.working -= 1;
        if queue.working == 0 {
            lines.remove(&self.line);
        }
        None
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let mut lines = self.gathering.0.lock();
        if let Some(queue) = lines.get_mut(&self.line) {
            queue.working -= 1;
            if queue.working == 0 {
                // Nobody is left who would take those who wait: they hear of a failure.
                lines.remove(&self.line);
            }
        }
    }
}

async fn serve(app: App, mut turn: Turn) {
    let line = turn.line;
    while let Some(group) = turn.next() {
        match commit(&app, line, &group).await {
            Ok(started) => group.into_iter().zip(started).for_each(|(waiting, started)| waiting.answer(Ok(started))),
            // What is wrong with one request must not be the others' misfortune.
            Err(error) if error.code() == Code::Internal && group.len() > 1 => {
                tracing::warn!(%error, "starts failed together and are tried one by one");
                for waiting in group {
                    let started = commit(&app, line, std::slice::from_ref(&waiting)).await;
                    waiting.answer(
                        started.and_then(|mut started| {
                            started.pop().ok_or_else(|| Error::internal("a start has no answer"))
                        }),
                    );
                }
            }
            Err(error) => answer_all(group, error),
        }
    }
}

/// The error itself goes to the first, so that its cause is logged once.
fn answer_all(group: Vec<Waiting>, error: Error) {
    let mut group = group.into_iter();
    let first = group.next();
    group.for_each(|waiting| waiting.answer(Err(error.for_another())));
    if let Some(first) = first {
        first.answer(Err(error));
    }
}

async fn commit(app: &App, line: Line, group: &[Waiting]) -> Result<Vec<Started>> {
    let caller = Caller { mode: Mode::Live, source: line.source, address: None, trigger: None };
    let asked: Vec<Asked<'_>> =
        group.iter().map(|waiting| Asked { request: &waiting.request, address: waiting.address }).collect();
    begin(app, line.env, line.flow, &asked, caller).await
}

impl Waiting {
    /// Whoever has hung up needs no answer.
    fn answer(self, started: Result<Started>) {
        let _ = self.answer.send(started);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ids::Ids;

    fn line() -> Line {
        let ids = Ids::seeded(1);
        Line { env: ids.unguessable(), flow: ids.unguessable(), source: TriggerSource::Api }
    }

    fn waiting(customers: usize) -> (Waiting, oneshot::Receiver<Result<Started>>) {
        let users: Vec<String> = (0..customers).map(|n| n.to_string()).collect();
        let entry = json!({ "target": { "type": "user", "targetUserIds": users } });
        let (answer, answered) = oneshot::channel();
        (Waiting { request: StartRequest::of_entry(&entry), address: None, answer }, answered)
    }

    #[test]
    fn those_who_come_meanwhile_are_taken_together() {
        let (gathering, line) = (Gathering::default(), line());
        let mut first = gathering.wait(line, waiting(1).0).unwrap().unwrap();
        assert_eq!(first.next().unwrap().len(), 1, "nobody waits for company");
        let mut second = gathering.wait(line, waiting(1).0).unwrap().unwrap();
        assert_eq!(second.next().unwrap().len(), 1);
        for _ in 0..15 {
            assert!(gathering.wait(line, waiting(20).0).unwrap().is_none(), "both are at work");
        }
        assert_eq!(first.next().unwrap().len(), 10, "200 customers");
        assert_eq!(second.next().unwrap().len(), 5);
        assert!(first.next().is_none() && second.next().is_none());
        assert!(gathering.0.lock().is_empty(), "a flow that nobody starts costs nothing");
    }

    #[test]
    fn a_turn_that_breaks_down_leaves_nobody_waiting() {
        let (gathering, line) = (Gathering::default(), line());
        let broken = gathering.wait(line, waiting(1).0).unwrap().unwrap();
        let other = gathering.wait(line, waiting(1).0).unwrap().unwrap();
        let (last, mut answered) = waiting(1);
        assert!(gathering.wait(line, last).unwrap().is_none());
        drop(broken);
        assert!(matches!(answered.try_recv(), Err(oneshot::error::TryRecvError::Empty)), "the other takes it");
        drop(other);
        assert!(matches!(answered.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
    }

    #[test]
    fn a_crowd_is_sent_away() {
        let (gathering, line) = (Gathering::default(), line());
        let _turns = [(); AT_ONCE].map(|()| gathering.wait(line, waiting(1).0).unwrap());
        for _ in AT_ONCE..MOST_WAITING {
            assert!(gathering.wait(line, waiting(1).0).is_ok());
        }
        let refused = gathering.wait(line, waiting(1).0).map(|_| ()).unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable);
    }
}
