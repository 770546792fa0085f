//! Makes one request of a lane, and always comes back: with what a panic on the way left, if need be.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use uuid::Uuid;

use super::attempt::{self, Answer, Composed, Keep, Target};
use super::lane::Job;
use super::payload;
use super::request_log::{Attempt, Entry};
use super::slots::Slot;
use crate::app::App;
use crate::clock::Time;
use crate::ids::{EnvId, WebhookId};

/// A request to be made, for the lane that holds this lease.
pub struct Order {
    pub lease: Uuid,
    pub slot: Slot,
    pub job: Job,
}

/// A request that is over.
pub struct Done {
    pub env: EnvId,
    pub webhook: WebhookId,
    pub order: Order,
    pub answer: Answer,
    /// Absent when not even that could be written.
    pub entry: Option<Entry>,
}

/// Makes a request. A panic on the way is a failed attempt, wherever it is: a stream waits for all it has under way.
pub async fn carry(app: App, target: Arc<Target>, order: Order, deadline: Duration) -> Done {
    let (answer, entry) = surely(make(&app, &target, &order.job, deadline)).await;
    Done { env: target.env, webhook: target.webhook, order, answer, entry }
}

async fn surely(making: impl Future<Output = (Answer, Option<Entry>)>) -> (Answer, Option<Entry>) {
    AssertUnwindSafe(making).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!("a webhook request panicked");
        (Answer::failed("internal"), None)
    })
}

async fn make(app: &App, target: &Target, job: &Job, deadline: Duration) -> (Answer, Option<Entry>) {
    let at = app.clock().now();
    let ids: Vec<_> = job.events.iter().map(|(id, _)| *id).collect();
    let attempt = Attempt {
        id: log_id(app, at),
        at,
        request: payload::request_id(target.webhook, &ids),
        first_event: ids[0],
        events: ids.len(),
        number: job.attempts + 1,
    };
    let mut composed = Composed::default();
    // What was composed before a panic is worth its entry in the log.
    let sending = send(app, target, job, attempt, deadline, &mut composed);
    let answer = AssertUnwindSafe(sending).catch_unwind().await.unwrap_or_else(|_| Answer::failed("internal"));
    let entry = catch_unwind(AssertUnwindSafe(|| Entry::redacted(target, attempt, &composed, &answer))).ok();
    (answer, entry)
}

async fn send(
    app: &App,
    target: &Target,
    job: &Job,
    attempt: Attempt,
    deadline: Duration,
    composed: &mut Composed,
) -> Answer {
    let events: Vec<_> = job.events.iter().map(|(id, event)| (*id, event.as_str())).collect();
    match target.compose(app, attempt.request, &events, attempt.at).await {
        Ok(ready) => *composed = ready,
        Err(uncomposed) => return uncomposed.answer(target.webhook),
    }
    attempt::send(app, target, composed, deadline, Keep::Size).await
}

/// An id for an entry of the request log, which sorts by time.
pub fn log_id(app: &App, at: Time) -> Uuid {
    crate::ids::Id::uuid(app.ids().make::<crate::ids::RequestId>(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_failed_attempt() {
        let (answer, entry) = surely(async { panic!("anywhere") }).await;
        assert_eq!((answer.delivered(), answer.error), (false, Some("internal")));
        assert!(entry.is_none());
    }
}
