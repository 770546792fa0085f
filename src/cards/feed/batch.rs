//! Reads what changed for many feeds with one statement.
//!
//! A channel whose bell has rung waits here for its reading, and so does a client that comes back to a place where no
//! channel stands. While a reading is under way the next ones gather, and one statement answers all who wait by then:
//! a quiet server reads at once, a busy one rarely and much. Readings run in tasks of their own, so that nobody
//! depends on the connection of the one who happened to come first.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::channel::{Channel, Reading};
use super::patch::Comparison;
use super::read::{self, Wanted};
use super::{Change, Cursor, View};
use crate::app::App;
use crate::error::{Error, Result};

/// Readings that run at once.
const READERS: usize = 2;
/// Feeds that one reading looks at.
const MOST: usize = 100;

/// Those who wait for a reading. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Batches(Arc<Mutex<Queue>>);

#[derive(Default)]
struct Queue {
    waiting: Vec<Question>,
    reading: usize,
}

/// One who waits.
enum Question {
    Channel(Arc<Channel>),
    Client { view: Arc<View>, cursor: Cursor, answer: oneshot::Sender<Result<Change>> },
}

/// One who is answered now.
enum Asked {
    Channel(Reading),
    Client { view: Arc<View>, cursor: Cursor, answer: oneshot::Sender<Result<Change>> },
}

impl Question {
    /// Begins the reading. `None`: the channel has nothing to be read from.
    fn begin(self, app: &App) -> Option<Asked> {
        match self {
            Question::Channel(channel) => channel.begin_reading(app).map(Asked::Channel),
            Question::Client { view, cursor, answer } => Some(Asked::Client { view, cursor, answer }),
        }
    }
}

impl Asked {
    fn place(&self) -> (&View, &Cursor) {
        match self {
            Asked::Channel(reading) => (reading.view(), reading.from()),
            Asked::Client { view, cursor, .. } => (view, cursor),
        }
    }

    fn answer(self, change: Result<Change>) {
        match self {
            Asked::Channel(reading) => reading.end(change),
            // Whoever does not wait any more has left.
            Asked::Client { answer, .. } => drop(answer.send(change)),
        }
    }
}

/// The right to read. Given back at the end, also at that of a panic.
struct Turn {
    batches: Batches,
    ended: bool,
}

impl Batches {
    /// What changed since the cursor.
    pub async fn follow(&self, app: &App, view: &Arc<View>, cursor: &Cursor) -> Result<Change> {
        let (answer, answered) = oneshot::channel();
        self.ask(app, Question::Client { view: view.clone(), cursor: cursor.clone(), answer });
        answered.await.map_err(Error::internal)?
    }

    /// Reads on for a channel.
    pub fn channel(&self, app: &App, channel: Arc<Channel>) {
        self.ask(app, Question::Channel(channel));
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "those who wait hear of a failure: whatever a reading holds ends with it"
    )]
    fn ask(&self, app: &App, question: Question) {
        if let Some(turn) = self.wait(question) {
            tokio::spawn(serve(app.clone(), turn));
        }
    }

    /// Adds one who waits. Gives a turn when so few read that another may begin.
    fn wait(&self, question: Question) -> Option<Turn> {
        let mut queue = self.0.lock();
        queue.waiting.push(question);
        if queue.reading == READERS {
            return None;
        }
        queue.reading += 1;
        Some(Turn { batches: self.clone(), ended: false })
    }
}

impl Turn {
    /// Those who are answered next. Without any the turn ends, in the same instant in which that is seen.
    fn next(&mut self) -> Option<Vec<Question>> {
        let mut queue = self.batches.0.lock();
        if queue.waiting.is_empty() {
            queue.reading -= 1;
            self.ended = true;
            return None;
        }
        let count = queue.waiting.len().min(MOST);
        Some(queue.waiting.drain(..count).collect())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.ended {
            self.batches.0.lock().reading -= 1;
        }
    }
}

async fn serve(app: App, mut turn: Turn) {
    while let Some(questions) = turn.next() {
        let asked: Vec<Asked> = questions.into_iter().filter_map(|question| question.begin(&app)).collect();
        if !asked.is_empty() {
            answer(&app, asked).await;
        }
    }
}

async fn answer(app: &App, asked: Vec<Asked>) {
    match changes(app, &asked).await {
        Ok(changes) => asked.into_iter().zip(changes).for_each(|(asked, change)| asked.answer(change)),
        Err(error) => {
            tracing::error!(%error, "feeds could not be read");
            asked.into_iter().for_each(|asked| asked.answer(Err(error.for_another())));
        }
    }
}

async fn changes(app: &App, asked: &[Asked]) -> Result<Vec<Result<Change>>> {
    let places: Vec<_> = asked.iter().map(Asked::place).collect();
    let wanted: Vec<_> = places.iter().map(|(view, cursor)| (*view, Wanted::Since(cursor))).collect();
    let readings = {
        let conn = app.read_feeds().await?;
        read::read_many(&conn, &wanted, app.clock().now()).await?
    };
    let change = |((view, cursor), reading)| Comparison { view, cursor, reading: reading? }.change();
    Ok(places.into_iter().zip(readings).map(change).collect())
}
