//! All lanes of this process: claims streams, feeds lanes, begins requests, and has outcomes saved together.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};

use super::attempt::Target;
use super::backlog::{self, Numbered, Retry, Waiting, Wanted};
use super::carry::{Done, Order, carry};
use super::lane::Lane;
use super::outbox::Outbox;
use super::slots::Slots;
use super::stream::{self, Advance, Advanced};
use super::{credential, subscription};
use crate::app::App;
use crate::error::{Error, Result};
use crate::ids::WebhookId;
use crate::worker::Progress;

/// The most streams in hand at once.
const MOST_LANES: usize = 1000;
/// The most rows held in memory by all lanes together.
const MOST_ROWS: usize = 20_000;
/// How long a stream rests whose subscription cannot be used, such as one sealed with another key.
const UNUSABLE_REST: Duration = Duration::from_secs(60);

/// What this process has in hand.
#[derive(Default)]
pub struct Desk {
    lanes: HashMap<WebhookId, Lane>,
    slots: Slots,
    pub requests: JoinSet<Done>,
    /// Outcomes that are not being saved yet.
    outbox: Outbox,
    /// What the task in `saving` saves. Requests go on beside it.
    sent: Option<Arc<Outbox>>,
    pub saving: JoinSet<Result<Vec<Advanced>>>,
}

impl Desk {
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty() && self.sent.is_none() && self.outbox.is_empty()
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
        let held = self.lanes.values().map(|lane| (lane.target.env, lane.target.webhook)).collect();
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
            let mut rows = by_webhook(backlog::numbered(&conn, &*app.read_record().await?, &left).await?);
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
        let record = app.read_record().await?;
        if !retries.is_empty() {
            let due = backlog::due_retries(&conn, &retries, now).await?;
            let numbered: Vec<Numbered> = due
                .iter()
                .flat_map(|retry| {
                    let number = |seq| Numbered { env: retry.environment_id, webhook: retry.webhook_id, seq };
                    retry.seqs.iter().copied().map(number)
                })
                .collect();
            let rows =
                if numbered.is_empty() { Vec::new() } else { backlog::numbered(&conn, &record, &numbered).await? };
            self.give_retries(&retries, due, rows);
        }
        if !logs.is_empty() {
            let mut rows = by_webhook(backlog::beyond(&conn, &record, &logs).await?);
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
                self.outbox.note(lane.org, wanted.env, wanted.webhook, effects);
            }
        }
    }

    /// Begins every request that may begin.
    pub fn begin(&mut self, app: &App, deadline: Duration) {
        let now = app.clock().now();
        for (webhook, lane) in &mut self.lanes {
            let effects = lane.form(now);
            self.outbox.note(lane.org, lane.target.env, *webhook, effects);
            while let Some(slot) = self.slots.take(lane.target.env, lane.in_flight()) {
                let Some(job) = lane.next(now) else {
                    self.slots.give_back(slot);
                    break;
                };
                let order = Order { lease: lane.lease(), slot, job };
                self.requests.spawn(carry(app.clone(), lane.target.clone(), order, deadline));
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
        let Done { env, webhook, order, answer, entry } = done;
        self.slots.give_back(order.slot);
        let outcome = if answer.delivered() { "delivered" } else { answer.error.unwrap_or("status") };
        metrics::counter!("cardwire_webhook_attempts_total", "outcome" => outcome).increment(1);
        metrics::histogram!("cardwire_webhook_attempt_seconds").record(answer.duration.as_secs_f64());
        self.outbox.entries.extend(entry);
        // A lane that was lost meanwhile has a new holder, who sends again what has no outcome.
        let Some(lane) = self.lanes.get_mut(&webhook).filter(|lane| lane.lease() == order.lease) else { return };
        let effects = lane.settle(&order.job, &answer, app.clock().now(), app.ids().fraction());
        self.outbox.note(lane.org, env, webhook, effects);
    }

    /// Begins to save all outcomes in one transaction, unless a save is under way: what is left is for the next.
    pub fn save(&mut self, app: &App) {
        if self.sent.is_some() {
            return;
        }
        let now = app.clock().now();
        self.outbox.advances = self.lanes.values_mut().filter_map(|lane| lane.advance(now)).collect();
        if self.outbox.is_empty() {
            return;
        }
        let outbox = Arc::new(std::mem::take(&mut self.outbox));
        self.sent = Some(outbox.clone());
        let app = app.clone();
        self.saving.spawn(async move { outbox.save(&app).await });
    }

    /// Takes note of how a save ended, and lets go of lanes that are over.
    pub fn saved(&mut self, app: &App, outcome: Result<Result<Vec<Advanced>>, JoinError>) -> Result<()> {
        let Some(sent) = self.sent.take() else { return Ok(()) };
        let saved = match outcome.map_err(Error::internal).flatten() {
            Ok(saved) => saved,
            Err(error) => {
                for advance in &sent.advances {
                    if let Some(lane) = self.held(advance) {
                        lane.not_saved();
                    }
                }
                self.outbox.put_back(&sent);
                return Err(error);
            }
        };
        let now = app.clock().now();
        let disabled: HashSet<WebhookId> = sent.disabled.iter().map(|(_, _, webhook, _)| *webhook).collect();
        let saved: HashMap<WebhookId, Advanced> = saved.into_iter().map(|saved| (saved.webhook_id, saved)).collect();
        for advance in &sent.advances {
            let webhook = advance.webhook_id;
            let stays = saved.get(&webhook).filter(|_| !advance.release && !disabled.contains(&webhook));
            match (self.held(advance), stays) {
                (Some(lane), Some(saved)) => lane.saved(saved, now),
                (Some(_), None) => drop(self.lanes.remove(&webhook)),
                (None, _) => {}
            }
        }
        Ok(())
    }

    /// Asks, before anything more is sent, whether what is in hand is still ours.
    pub fn doubt(&mut self) {
        self.lanes.values_mut().for_each(Lane::doubt);
    }

    fn held(&mut self, advance: &Advance) -> Option<&mut Lane> {
        self.lanes.get_mut(&advance.webhook_id).filter(|lane| lane.lease() == advance.lease)
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
        tally: stream.tally,
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
