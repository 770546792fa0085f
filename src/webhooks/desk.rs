//! All lanes of this process: claims streams, feeds lanes, begins requests, and saves outcomes together.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use http::HeaderMap;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::attempt::{self, Answer, Composed, Target};
use super::backlog::{self, Numbered, Retry, Waiting, Wanted};
use super::lane::{Effect, Job, Lane};
use super::request_log::{self, Attempt, Entry};
use super::status::{self, Reason};
use super::stream::{self, Advance};
use super::{credential, payload, subscription};
use crate::access::Access;
use crate::app::App;
use crate::clock::Time;
use crate::error::{Error, Result};
use crate::ids::{EnvId, OrgId, WebhookId};
use crate::worker::Progress;

/// The most streams in hand at once.
const MOST_LANES: usize = 1000;
/// The most requests under way at once.
const MOST_REQUESTS: usize = 2048;
/// The most rows held in memory by all lanes together.
const MOST_ROWS: usize = 20_000;
/// How long a stream rests whose subscription cannot be used, such as one sealed with another key.
const UNUSABLE_REST: Duration = Duration::from_secs(60);

/// What this process has in hand.
#[derive(Default)]
pub struct Desk {
    lanes: HashMap<WebhookId, Lane>,
    pub requests: JoinSet<Done>,
    outbox: Outbox,
}

/// Outcomes that are not saved yet.
#[derive(Default)]
struct Outbox {
    entries: Vec<Entry>,
    postponed: Vec<Retry>,
    finished: Vec<Numbered>,
    disabled: Vec<(OrgId, EnvId, WebhookId, Reason)>,
}

/// A request that is over.
pub struct Done {
    webhook: WebhookId,
    lease: Uuid,
    job: Job,
    answer: Answer,
    entry: Entry,
}

impl Desk {
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Leases streams that are due, and looks again into the logs of those in hand.
    pub async fn claim(&mut self, app: &App) -> Result<()> {
        self.lanes.values_mut().for_each(Lane::look_again);
        let room = MOST_LANES.saturating_sub(self.lanes.len());
        if room == 0 {
            return Ok(());
        }
        let now = app.clock().now();
        let conn = app.read().await?;
        let held = self.lanes.keys().copied().collect();
        let limit = i64::try_from(room).unwrap_or(i64::MAX);
        let claimed = stream::claim(&conn, stream::Claim { holder: app.node(), held, now, limit }).await?;
        if claimed.is_empty() {
            return Ok(());
        }
        let wanted = claimed.iter().map(|stream| (stream.environment_id, stream.webhook_id));
        let mut subscriptions: HashMap<_, _> = subscription::with_conventions(&conn, wanted)
            .await?
            .into_iter()
            .map(|(subscription, convention)| (subscription.id, (subscription, convention)))
            .collect();
        let carried = subscriptions
            .values()
            .filter_map(|(subscription, _)| Some((subscription.environment_id, subscription.credential_id?)));
        let credentials = credential::find_many(&conn, carried.collect()).await?;
        let credentials: HashMap<_, _> = credentials.into_iter().map(|found| (found.id, found)).collect();
        let mut left = Vec::new();
        for stream in claimed {
            let Some((subscription, convention)) = subscriptions.remove(&stream.webhook_id) else { continue };
            let credential = subscription.credential_id.and_then(|id| credentials.get(&id));
            match Target::new(app, &subscription, &convention, credential, &subscription.url) {
                Ok(target) => {
                    let numbered = |seq| Numbered { env: stream.environment_id, webhook: stream.webhook_id, seq };
                    left.extend(stream.open.iter().copied().map(numbered));
                    self.lanes.insert(stream.webhook_id, Lane::new(stream, convention.organisation_id, target, now));
                }
                Err(error) => {
                    tracing::error!(webhook.id = %stream.webhook_id, %error, "a webhook subscription cannot be used");
                    rest(app, &stream).await?;
                }
            }
        }
        if !left.is_empty() {
            let mut rows = by_webhook(backlog::numbered(&conn, &left).await?);
            for webhook in left.iter().map(|left| left.webhook).collect::<HashSet<_>>() {
                if let Some(lane) = self.lanes.get_mut(&webhook) {
                    lane.recover(rows.remove(&webhook).unwrap_or_default());
                }
            }
        }
        Ok(())
    }

    /// Loads what lanes want: due retries, and rows of their logs.
    pub async fn feed(&mut self, app: &App) -> Result<()> {
        let now = app.clock().now();
        let share = (MOST_ROWS / self.lanes.len().max(1)).max(16);
        let mut logs = Vec::new();
        let mut retries = Vec::new();
        for lane in self.lanes.values() {
            let (env, webhook) = (lane.target.env, lane.target.webhook);
            let size = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
            if let Some((after, most)) = lane.wants(now) {
                logs.push(Wanted { env, webhook, after, most: size(most.min(share)) });
            }
            if let Some(most) = lane.wants_retries(now) {
                retries.push(Wanted { env, webhook, after: 0, most: size(most) });
            }
        }
        if logs.is_empty() && retries.is_empty() {
            return Ok(());
        }
        let conn = app.read().await?;
        if !retries.is_empty() {
            let due = backlog::due_retries(&conn, &retries, now).await?;
            let numbered: Vec<Numbered> = due
                .iter()
                .flat_map(|retry| {
                    let number = |seq| Numbered { env: retry.environment_id, webhook: retry.webhook_id, seq };
                    retry.seqs.iter().copied().map(number)
                })
                .collect();
            let rows = if numbered.is_empty() { Vec::new() } else { backlog::numbered(&conn, &numbered).await? };
            self.give_retries(&retries, due, rows);
        }
        if !logs.is_empty() {
            let mut rows = by_webhook(backlog::beyond(&conn, &logs).await?);
            for wanted in logs {
                if let Some(lane) = self.lanes.get_mut(&wanted.webhook) {
                    let most = usize::try_from(wanted.most).unwrap_or(usize::MAX);
                    lane.load(rows.remove(&wanted.webhook).unwrap_or_default(), most);
                }
            }
        }
        Ok(())
    }

    fn give_retries(&mut self, wanted: &[Wanted], due: Vec<Retry>, rows: Vec<Waiting>) {
        let rows: HashMap<(WebhookId, i64), Waiting> =
            rows.into_iter().map(|row| ((row.webhook_id, row.seq), row)).collect();
        let mut due_of: HashMap<WebhookId, Vec<(Retry, Vec<Waiting>)>> = HashMap::new();
        for retry in due {
            let carried = retry.seqs.iter().filter_map(|seq| rows.get(&(retry.webhook_id, *seq)).cloned()).collect();
            due_of.entry(retry.webhook_id).or_default().push((retry, carried));
        }
        for wanted in wanted {
            if let Some(lane) = self.lanes.get_mut(&wanted.webhook) {
                let effects = lane.load_retries(due_of.remove(&wanted.webhook).unwrap_or_default());
                let org = lane.org;
                self.note(org, wanted.env, wanted.webhook, effects);
            }
        }
    }

    /// Begins every request that may begin.
    pub fn begin(&mut self, app: &App, deadline: Duration) {
        let now = app.clock().now();
        for lane in self.lanes.values_mut() {
            while self.requests.len() < MOST_REQUESTS
                && let Some(job) = lane.next(now)
            {
                let (app, target, lease) = (app.clone(), lane.target.clone(), lane.lease());
                self.requests.spawn(async move { carry(&app, &target, lease, job, deadline).await });
            }
        }
    }

    /// Takes a request that is over, and whatever else is over by now.
    pub fn collect(&mut self, app: &App, first: Done) {
        let mut next = Some(first);
        while let Some(done) = next {
            self.take(app, done);
            next = self.requests.try_join_next().and_then(Result::ok);
        }
    }

    fn take(&mut self, app: &App, done: Done) {
        let Done { webhook, lease, job, answer, entry } = done;
        let outcome = if answer.delivered() { "delivered" } else { answer.error.unwrap_or("status") };
        metrics::counter!("cardwire_webhook_attempts_total", "outcome" => outcome).increment(1);
        metrics::histogram!("cardwire_webhook_attempt_seconds").record(answer.duration.as_secs_f64());
        let env = entry.environment_id;
        self.outbox.entries.push(entry);
        // A lane that was lost meanwhile has a new holder, who sends again what has no outcome.
        let Some(lane) = self.lanes.get_mut(&webhook).filter(|lane| lane.lease() == lease) else { return };
        let effects = lane.settle(job, &answer, app.clock().now(), app.ids().fraction());
        let org = lane.org;
        self.note(org, env, webhook, effects);
    }

    fn note(&mut self, org: OrgId, env: EnvId, webhook: WebhookId, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Postpone(retry) => self.outbox.postponed.push(retry),
                Effect::Finish(numbered) => self.outbox.finished.push(numbered),
                Effect::Disable(reason) => self.outbox.disabled.push((org, env, webhook, reason)),
            }
        }
    }

    /// Saves all outcomes in one transaction, and gives back the streams whose lanes are over.
    pub async fn save(&mut self, app: &App) -> Result<()> {
        let now = app.clock().now();
        let advances: Vec<Advance> = self.lanes.values_mut().filter_map(|lane| lane.advance(now)).collect();
        if advances.is_empty() && self.outbox.entries.is_empty() {
            return Ok(());
        }
        let outbox = &self.outbox;
        let saved = app
            .transact(async |tx| {
                let held: HashSet<WebhookId> = stream::lock_held_in(tx, &advances).await?.into_iter().collect();
                let postponed: Vec<&Retry> =
                    outbox.postponed.iter().filter(|retry| held.contains(&retry.webhook_id)).collect();
                backlog::postpone_in(tx, &postponed).await?;
                let finished: Vec<Numbered> =
                    outbox.finished.iter().filter(|done| held.contains(&done.webhook)).copied().collect();
                backlog::finish_in(tx, &finished).await?;
                let saved = stream::advance_in(tx, &advances).await?;
                request_log::write_in(tx, &outbox.entries).await?;
                for (org, env, webhook, reason) in &outbox.disabled {
                    if held.contains(webhook) {
                        let system = Access::system(*org, *env, "webhooks");
                        status::disable_in(tx, &system, *webhook, *reason).await?;
                    }
                }
                Ok(saved)
            })
            .await?;
        let disabled: HashSet<WebhookId> = self.outbox.disabled.iter().map(|(_, _, webhook, _)| *webhook).collect();
        self.outbox = Outbox::default();
        let saved: HashMap<WebhookId, _> = saved.into_iter().map(|saved| (saved.webhook_id, saved)).collect();
        for advance in advances {
            let webhook = advance.webhook_id;
            match (saved.get(&webhook), self.lanes.get_mut(&webhook)) {
                (Some(saved), Some(lane)) if !advance.release && !disabled.contains(&webhook) => lane.saved(saved, now),
                _ => drop(self.lanes.remove(&webhook)),
            }
        }
        Ok(())
    }

    /// When the next request may begin, once nothing is in hand.
    pub async fn next(&self, app: &App) -> Result<Progress> {
        let now = app.clock().now();
        Ok(match stream::next_due(&*app.read().await?, app.node(), now).await? {
            Some(at) if at <= now => Progress::More,
            Some(at) => Progress::NextAt(at),
            None => Progress::Idle,
        })
    }
}

/// Lays a stream aside for a while.
async fn rest(app: &App, stream: &stream::Claimed) -> Result<()> {
    let advance = Advance {
        environment_id: stream.environment_id,
        webhook_id: stream.webhook_id,
        lease: stream.lease,
        cursor: stream.cursor,
        open: stream.open.clone(),
        failures: stream.failures,
        paused_until: Some(app.clock().now().plus(UNUSABLE_REST)),
        ready_at: None,
        release: true,
    };
    app.transact(async |tx| stream::advance_in(tx, std::slice::from_ref(&advance)).await).await?;
    Ok(())
}

fn by_webhook(rows: Vec<Waiting>) -> HashMap<WebhookId, Vec<Waiting>> {
    let mut by_webhook: HashMap<WebhookId, Vec<Waiting>> = HashMap::new();
    for row in rows {
        by_webhook.entry(row.webhook_id).or_default().push(row);
    }
    by_webhook
}

/// Makes one request. A panic on the way is a failed attempt.
async fn carry(app: &App, target: &Arc<Target>, lease: Uuid, job: Job, deadline: Duration) -> Done {
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
    let events: Vec<_> = job.events.iter().map(|(id, event)| (*id, event.as_str())).collect();
    let composed = std::panic::catch_unwind(AssertUnwindSafe(|| target.compose(attempt.request, &events, at)))
        .unwrap_or_else(|_| Err(Error::internal("composing panicked")));
    let answer = match &composed {
        Ok(composed) => AssertUnwindSafe(attempt::send(app, target, composed, deadline))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| Answer::failed("internal")),
        Err(error) => {
            tracing::error!(webhook.id = %target.webhook, %error, "a webhook request could not be composed");
            Answer::failed("internal")
        }
    };
    let composed = composed.unwrap_or_else(|_| Composed { headers: HeaderMap::new(), body: String::new() });
    let entry = Entry::redacted(target, attempt, &composed, &answer);
    Done { webhook: target.webhook, lease, job, answer, entry }
}

/// An id for an entry of the request log, which sorts by time.
pub fn log_id(app: &App, at: Time) -> Uuid {
    crate::ids::Id::uuid(app.ids().make::<crate::ids::RequestId>(at))
}
