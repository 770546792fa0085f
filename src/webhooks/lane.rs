//! One leased stream in memory: what waits, what is under way, and what each outcome means.
//!
//! A lane knows no database and no network. It takes rows, gives out [`Job`]s as the window and the pause after
//! failures allow, and turns outcomes into [`Effect`]s, which are saved in one transaction with those of other lanes.
//!
//! A batch is first written down as a request to be made and begins when that is saved: whoever sends it, after a crash
//! too, sends the same events under the same id, whatever has been appended meanwhile.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::attempt::{Answer, Target};
use super::backlog::{Numbered, Retry, Waiting};
use super::ledger::Ledger;
use super::payload;
use super::retry;
use super::status::Reason;
use super::stream::{Advance, Advanced, BATCH_WAIT, Claimed, LONGEST_PAUSE, TERM, Tally};
use super::window::Window;
use crate::clock::Time;
use crate::ids::{EventId, OrgId};

/// The most rows a lane holds in memory.
const MOST_ROWS: usize = 512;
/// After so long a lane is given back, so that secrets and settings are read anew.
const LONGEST_HOLD: Duration = Duration::from_secs(60);

/// One request to be made.
#[derive(Clone, Debug)]
pub struct Job {
    /// The deliveries it carries.
    pub seqs: Vec<i64>,
    pub events: Vec<(EventId, String)>,
    /// How often it was tried before.
    pub attempts: u32,
    /// Which period between failures it belongs to.
    epoch: u64,
    /// From the table of retries, not from the log.
    again: bool,
}

/// What an outcome changes in the database.
#[derive(Clone, Debug)]
pub enum Effect {
    Postpone(Retry),
    Finish(Numbered),
    Disable(Reason),
}

/// One leased stream.
pub struct Lane {
    claimed: Claimed,
    pub org: OrgId,
    pub target: Arc<Target>,
    ledger: Ledger,
    window: Window,
    failures: u32,
    /// Raised with each counted failure: requests of an earlier epoch say nothing new when they fail too.
    epoch: u64,
    paused_until: Option<Time>,
    fresh: VecDeque<Waiting>,
    again: VecDeque<Job>,
    /// Batches that are not written down yet, and those of which that is being saved.
    formed: Vec<Job>,
    writing: Vec<Job>,
    /// The requests of the table of retries that are in hand: until their outcome is saved they look due there.
    taken: HashSet<i64>,
    /// Those of them with an outcome that is not being saved yet, and those of which it is.
    ended: Vec<i64>,
    settled: Vec<i64>,
    /// All outcomes of the stream, so that a save which is repeated counts nothing twice.
    tally: Tally,
    loaded: i64,
    exhausted: bool,
    retry_at: Option<Time>,
    in_flight: usize,
    changed: bool,
    /// Nothing new is begun; the lane ends when nothing is under way.
    ending: bool,
    /// The end is being saved.
    leaving: bool,
    /// Whether the stream is still ours, the next save tells.
    doubted: bool,
    claimed_at: Time,
    saved_at: Time,
}

impl Lane {
    pub fn new(claimed: Claimed, org: OrgId, target: Target, now: Time) -> Lane {
        Lane {
            org,
            target: Arc::new(target),
            ledger: Ledger::new(claimed.cursor, &claimed.open),
            window: Window::new(),
            failures: u32::try_from(claimed.failures).unwrap_or(0),
            epoch: 0,
            paused_until: None,
            fresh: VecDeque::new(),
            again: VecDeque::new(),
            formed: Vec::new(),
            writing: Vec::new(),
            taken: HashSet::new(),
            ended: Vec::new(),
            settled: Vec::new(),
            tally: claimed.tally,
            loaded: claimed.cursor,
            exhausted: false,
            retry_at: claimed.retry_at,
            in_flight: 0,
            changed: false,
            ending: false,
            leaving: false,
            doubted: false,
            claimed_at: now,
            saved_at: now,
            claimed,
        }
    }

    pub fn lease(&self) -> Uuid {
        self.claimed.lease
    }

    /// Takes up what a predecessor left without an outcome. Rows that are gone have nothing left to send.
    pub fn recover(&mut self, rows: Vec<Waiting>) {
        let found: HashSet<i64> = rows.iter().map(|row| row.seq).collect();
        for seq in self.ledger.open() {
            if !found.contains(&seq) {
                self.ledger.finish(seq);
                self.tally.dropped += 1;
                self.changed = true;
            }
        }
        self.fresh.extend(rows);
    }

    /// There may be more in the log than was there at the last look.
    pub fn look_again(&mut self) {
        self.exhausted = false;
    }

    /// How many rows of the log, and from where, the lane would take now.
    pub fn wants(&self, now: Time) -> Option<(i64, usize)> {
        if self.exhausted || !self.may_begin(now) {
            return None;
        }
        let unit = if self.target.batched { payload::BATCH } else { 1 };
        let most = if self.failures > 0 { unit } else { (self.window.limit() * 2 * unit).clamp(16, MOST_ROWS) };
        (self.fresh.len() < most.div_ceil(2)).then(|| (self.loaded, most - self.fresh.len()))
    }

    /// Takes rows of the log; fewer than were wanted means that there are no more.
    pub fn load(&mut self, rows: Vec<Waiting>, wanted: usize) {
        self.exhausted = rows.len() < wanted;
        self.loaded = rows.last().map_or(self.loaded, |row| row.seq.max(self.loaded));
        self.fresh.extend(rows);
    }

    /// How many retries the lane would take now.
    pub fn wants_retries(&self, now: Time) -> Option<usize> {
        let due = self.retry_due(now);
        let most = if self.failures > 0 { 1 } else { self.window.limit() };
        (due && self.again.is_empty() && self.may_begin(now)).then(|| most + self.taken.len())
    }

    /// Takes due retries; gives back those of which nothing is left to send.
    pub fn load_retries(&mut self, retries: Vec<(Retry, Vec<Waiting>)>) -> Vec<Effect> {
        self.retry_at = None;
        let mut effects = Vec::new();
        for (retry, rows) in retries {
            if !self.taken.insert(retry.seq) {
                continue;
            }
            let events = contents(rows);
            if events.is_empty() {
                self.ended.push(retry.seq);
                self.tally.dropped += count(&retry.seqs);
                self.changed = true;
                effects.push(Effect::Finish(self.numbered(retry.seq)));
                continue;
            }
            let attempts = u32::try_from(retry.attempts).unwrap_or(0);
            self.again.push_back(Job { seqs: retry.seqs, events, attempts, epoch: 0, again: true });
        }
        effects
    }

    /// Whether a retry is due, or from before the clock was set back.
    fn retry_due(&self, now: Time) -> bool {
        self.retry_at.is_some_and(|at| at <= now || at > now.plus(LONGEST_PAUSE))
    }

    fn may_begin(&self, now: Time) -> bool {
        !self.ending && !self.leaving && !self.doubted && self.room(now) > 0
    }

    /// How many further requests may begin: one at a time after a failure, and none during the pause.
    fn room(&self, now: Time) -> usize {
        if self.failures == 0 {
            return self.window.limit().saturating_sub(self.in_flight);
        }
        let paused = self.paused_until.is_some_and(|until| until > now);
        usize::from(!paused && self.in_flight == 0)
    }

    /// The next request, if one may begin.
    pub fn next(&mut self, now: Time) -> Option<Job> {
        if !self.may_begin(now) {
            return None;
        }
        let mut job = self.again.pop_front().or_else(|| self.next_fresh())?;
        job.epoch = self.epoch;
        self.in_flight += 1;
        Some(job)
    }

    /// How many requests are under way.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn next_fresh(&mut self) -> Option<Job> {
        while !self.target.batched {
            let row = self.fresh.pop_front()?;
            let seq = row.seq;
            self.tally.dropped += self.ledger.begin(seq);
            let events = contents(vec![row]);
            if !events.is_empty() {
                return Some(Job { seqs: vec![seq], events, attempts: 0, epoch: 0, again: false });
            }
            self.ledger.finish(seq);
            self.tally.dropped += 1;
            self.changed = true;
        }
        None
    }

    /// Forms the batches that may begin, to be written down before they do.
    pub fn form(&mut self, now: Time) -> Vec<Effect> {
        let mut effects = Vec::new();
        while self.target.batched
            && self.may_begin(now)
            && self.again.len() + self.formed.len() + self.writing.len() < self.room(now)
            && let Some(size) = self.batch(now)
        {
            let rows: Vec<Waiting> = self.fresh.drain(..size.min(self.fresh.len())).collect();
            for row in &rows {
                self.tally.dropped += self.ledger.begin(row.seq) + i64::from(row.payload.is_none());
                self.ledger.finish(row.seq);
            }
            self.changed = true;
            let seqs: Vec<i64> = rows.iter().filter(|row| row.payload.is_some()).map(|row| row.seq).collect();
            let Some(first) = seqs.first().copied() else { continue };
            effects.push(Effect::Postpone(self.retry(first, seqs.clone(), 0, now)));
            self.taken.insert(first);
            self.formed.push(Job { seqs, events: contents(rows), attempts: 0, epoch: 0, again: true });
        }
        effects
    }

    fn retry(&self, seq: i64, seqs: Vec<i64>, attempts: u32, due_at: Time) -> Retry {
        Retry {
            environment_id: self.claimed.environment_id,
            webhook_id: self.claimed.webhook_id,
            seq,
            seqs,
            attempts: i32::try_from(attempts).unwrap_or(i32::MAX),
            due_at,
        }
    }

    /// How many rows make the next batch. `None`: it still waits for others.
    fn batch(&self, now: Time) -> Option<usize> {
        let full = self.fresh.len() >= payload::BATCH;
        let due = self.batch_due()?;
        (full || due <= now || due > now.plus(BATCH_WAIT)).then_some(payload::BATCH)
    }

    fn batch_due(&self) -> Option<Time> {
        self.fresh.front().map(|row| row.received_at.plus(BATCH_WAIT))
    }

    /// Takes an outcome. `fraction` chooses the delay within its jitter.
    pub fn settle(&mut self, job: &Job, answer: &Answer, now: Time, fraction: f64) -> Vec<Effect> {
        self.in_flight -= 1;
        self.changed = true;
        let first = job.seqs.first().copied().unwrap_or_default();
        if job.again {
            self.ended.push(first);
        } else {
            job.seqs.iter().for_each(|seq| self.ledger.finish(*seq));
        }
        let finished = job.again.then(|| Effect::Finish(self.numbered(first)));
        if answer.delivered() {
            self.tally.delivered += count(&job.seqs);
            self.failures = 0;
            self.paused_until = None;
            self.window.succeeded(answer.duration);
            return finished.into_iter().collect();
        }
        if answer.gone() {
            self.ending = true;
            // What comes from the table of retries is dropped there, with all that waits.
            self.tally.given_up += if job.again { 0 } else { count(&job.seqs) };
            return vec![Effect::Disable(Reason::Gone)];
        }
        let asked = answer.asked_pause(now);
        if job.epoch == self.epoch {
            self.paused_until = Some(now.plus(retry::delay_with(self.failures, fraction, asked)));
            self.failures += 1;
            self.epoch += 1;
            self.window.failed();
        }
        let most = self.target.max_retries + 1;
        let mut effects = Vec::new();
        let attempts = job.attempts + 1;
        if attempts < most {
            let due_at = now.plus(retry::delay_with(job.attempts, fraction, asked));
            effects.push(Effect::Postpone(self.retry(first, job.seqs.clone(), attempts, due_at)));
        } else {
            self.tally.given_up += count(&job.seqs);
            effects.extend(finished);
        }
        if self.failures >= most && self.target.disable_after_failures {
            self.ending = true;
            effects.push(Effect::Disable(Reason::Failures));
        }
        effects
    }

    /// Whether the lane has nothing to do before a later time or a change.
    fn over(&self, now: Time) -> bool {
        if self.in_flight > 0 {
            return false;
        }
        if self.ending || (self.failures > 0 && self.room(now) == 0) {
            return true;
        }
        let written = !self.formed.is_empty() || !self.writing.is_empty();
        let retries = written || !self.again.is_empty() || self.retry_due(now);
        let batch_waits = self.target.batched && self.exhausted && self.batch(now).is_none();
        !retries && self.exhausted && (self.fresh.is_empty() || batch_waits)
    }

    /// What is to be saved now: progress, a renewal of the lease, or the end. What changes from here on is for the next
    /// save; [`Lane::saved`] or [`Lane::not_saved`] tells how this one ended.
    pub fn advance(&mut self, now: Time) -> Option<Advance> {
        if now.since(self.claimed_at) > LONGEST_HOLD {
            self.ending = true;
        }
        let release = self.over(now);
        if !release && !self.changed && !self.doubted && now.since(self.saved_at) < TERM / 3 {
            return None;
        }
        if release && self.exhausted && self.fresh.is_empty() {
            // Rows up to the head of the claim that were not found were dropped with their day.
            self.tally.dropped += self.ledger.pass_to(self.claimed.head);
        }
        self.changed = false;
        // Nothing begins beside a save after which the stream may be another's.
        self.leaving = release;
        self.writing = std::mem::take(&mut self.formed);
        self.settled = std::mem::take(&mut self.ended);
        Some(Advance {
            environment_id: self.claimed.environment_id,
            webhook_id: self.claimed.webhook_id,
            lease: self.claimed.lease,
            cursor: self.ledger.cursor(),
            open: self.ledger.open(),
            failures: i32::try_from(self.failures).unwrap_or(i32::MAX),
            paused_until: self.paused_until,
            ready_at: if self.target.batched { self.batch_due() } else { None },
            tally: self.tally,
            release,
        })
    }

    /// Takes note of a save: batches that are written down may begin.
    pub fn saved(&mut self, advanced: &Advanced, now: Time) {
        self.saved_at = now;
        self.doubted = false;
        self.retry_at = advanced.retry_at;
        self.again.extend(self.writing.drain(..));
        for seq in self.settled.drain(..) {
            self.taken.remove(&seq);
        }
        if advanced.revision != self.claimed.revision {
            self.ending = true;
        }
    }

    /// Takes note of a save that failed: all of it is to be saved again.
    pub fn not_saved(&mut self) {
        self.changed = true;
        self.leaving = false;
        self.formed.append(&mut self.writing);
        self.ended.append(&mut self.settled);
    }

    /// Begins nothing before the next save: the database went away, and with it perhaps a lease that it forgot, or the
    /// answer of a save that gave the stream back.
    pub fn doubt(&mut self) {
        self.doubted = true;
    }

    fn numbered(&self, seq: i64) -> Numbered {
        Numbered { env: self.claimed.environment_id, webhook: self.claimed.webhook_id, seq }
    }
}

fn count(seqs: &[i64]) -> i64 {
    i64::try_from(seqs.len()).unwrap_or(i64::MAX)
}

fn contents(rows: Vec<Waiting>) -> Vec<(EventId, String)> {
    rows.into_iter().filter_map(|row| Some((row.event_id, row.payload?))).collect()
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;
