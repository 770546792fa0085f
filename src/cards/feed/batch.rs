//! Reads what changed for many followers with one statement.
//!
//! Whoever asks while a reading is under way waits for the next one, which answers all who wait by then. A quiet
//! server so reads at once, and a busy one reads rarely and much. A reading runs in a task of its own: those who wait
//! do not depend on the connection of the one who happened to ask first.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::patch::{self, Comparison};
use super::read::{self, Wanted};
use super::{Change, Cursor, View};
use crate::app::App;
use crate::error::{Error, Result};

/// Readings that run at once.
const READERS: usize = 2;
/// Followers that one reading answers.
const MOST: usize = 100;

/// Those who wait to hear what changed. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Batches(Arc<Mutex<Queue>>);

#[derive(Default)]
struct Queue {
    waiting: Vec<Question>,
    reading: usize,
}

struct Question {
    view: Arc<View>,
    cursor: Cursor,
    answer: oneshot::Sender<Result<Change>>,
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
        if let Some(turn) = self.wait(Question { view: view.clone(), cursor: cursor.clone(), answer }) {
            tokio::spawn(serve(app.clone(), turn));
        }
        answered.await.map_err(Error::internal)?
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
        answer(&app, questions).await;
    }
}

async fn answer(app: &App, questions: Vec<Question>) {
    match changes(app, &questions).await {
        Ok(changes) => {
            for (question, change) in questions.into_iter().zip(changes) {
                // Whoever does not wait any more has left.
                let _ = question.answer.send(change);
            }
        }
        Err(error) => {
            let error = Arc::new(error);
            for question in questions {
                let _ = question.answer.send(Err(Error::unavailable(1, error.clone())));
            }
        }
    }
}

async fn changes(app: &App, questions: &[Question]) -> Result<Vec<Result<Change>>> {
    let conn = app.read().await?;
    let asked: Vec<_> =
        questions.iter().map(|question| (&*question.view, Wanted::Since(&question.cursor))).collect();
    let readings = read::read_many(&conn, &asked).await?;
    let mut refused = Vec::new();
    let mut comparisons = Vec::with_capacity(questions.len());
    for (place, (question, reading)) in questions.iter().zip(readings).enumerate() {
        match reading {
            Ok(reading) => comparisons.push(Comparison { view: &question.view, cursor: &question.cursor, reading }),
            Err(error) => refused.push((place, error)),
        }
    }
    let mut changes = patch::between(&conn, comparisons, app.clock().now()).await?;
    // In ascending order, so that each insertion puts those behind it where they belong.
    for (place, error) in refused {
        changes.insert(place, Err(error));
    }
    Ok(changes)
}
