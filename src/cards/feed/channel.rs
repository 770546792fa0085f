//! One feed that several subscriptions of this process follow: read once, told to all.
//!
//! Cast: a [`Channel`] is one view, held by whoever follows it. It knows how far it has read, and keeps the latest
//! [`Step`]s. A follower has a [`Cursor`] and no queue: when it can take something it asks what leads from its cursor
//! to now. One step is handed out as it is, several are merged into one. Whoever stands where no kept step begins is
//! served from the database, so a channel is never needed to be right, only to be fast.
//!
//! Bells ring before reading is done, never after: each ring is counted, and a reading covers the rings that were
//! counted before it began.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use serde_json::value::RawValue;

use super::batch::Batches;
use super::{Change, Cursor, Patch, Removal, ResyncReason, Upsert, UpsertReason, View};
use crate::app::App;
use crate::error::Result;
use crate::ids::CardId;
use crate::realtime::Listener;

/// Steps that are kept for followers that are behind.
const RING: usize = 32;

/// The channels of this process. Cheap to clone.
#[derive(Clone, Default)]
pub struct Channels {
    open: Arc<Mutex<HashMap<Arc<View>, Weak<Channel>>>>,
    batches: Batches,
}

impl Channels {
    /// Follows a view, together with everybody who follows it already. Listening begins here, before any reading.
    pub fn join(&self, app: &App, view: &View) -> Arc<Channel> {
        let mut open = self.open.lock();
        if let Some(channel) = open.get(view).and_then(Weak::upgrade) {
            return channel;
        }
        let listener = app.hub().listen(view.env, view.customer, &[view.container]);
        let state = tokio::sync::Mutex::default();
        let view = Arc::new(view.clone());
        let channel = Arc::new(Channel { home: self.clone(), view: view.clone(), listener, state });
        open.insert(view, Arc::downgrade(&channel));
        channel
    }

    pub(super) fn batches(&self) -> &Batches {
        &self.batches
    }
}

/// One view that is followed.
pub struct Channel {
    home: Channels,
    view: Arc<View>,
    listener: Listener,
    state: tokio::sync::Mutex<State>,
}

impl Drop for Channel {
    fn drop(&mut self) {
        let mut open = self.home.open.lock();
        // A successor may have taken the place already.
        if open.get(&self.view).is_some_and(|channel| channel.strong_count() == 0) {
            open.remove(&self.view);
        }
    }
}

/// From one state of a feed to the next.
#[derive(Debug)]
pub struct Step {
    pub from: Cursor,
    pub patch: Patch,
    /// What was made of this step for the wire, by the form in which it was asked for.
    forms: Mutex<Vec<(u64, Arc<RawValue>)>>,
}

impl Step {
    fn new(from: Cursor, patch: Patch) -> Step {
        Step { from, patch, forms: Mutex::default() }
    }

    /// What somebody else made of this step in the same form.
    pub fn form(&self, form: u64) -> Option<Arc<RawValue>> {
        self.forms.lock().iter().find(|(known, _)| *known == form).map(|(_, text)| text.clone())
    }

    pub fn keep_form(&self, form: u64, text: Arc<RawValue>) {
        self.forms.lock().push((form, text));
    }
}

/// What a follower is told.
pub enum Told {
    Step(Arc<Step>),
    /// The cursor moves, past changes that do not show.
    Nothing(Cursor),
    Resync(ResyncReason),
}

#[derive(Default)]
struct State {
    /// Where the newest step leads.
    at: Option<Cursor>,
    /// Rings that the last reading covers.
    covered: u64,
    steps: VecDeque<Arc<Step>>,
}

impl Channel {
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// The rings so far: a reading that begins after this call covers them.
    pub fn rung(&self) -> u64 {
        self.listener.rung()
    }

    /// Says what a follower has read by itself, which covers these rings.
    pub async fn begin(&self, cursor: &Cursor, covered: u64) {
        let mut state = self.state.lock().await;
        if state.at.is_none() {
            state.at = Some(cursor.clone());
            state.covered = covered;
            self.listener.has_read(cursor.version());
        }
    }

    /// Waits for the next ring after those that the follower knows, and says what leads from its cursor to now.
    pub async fn next(self: &Arc<Self>, app: &App, cursor: &Cursor, known: &mut u64) -> Result<Told> {
        *known = self.listener.rung_after(*known).await;
        let told = self.since(app, cursor, *known).await?;
        if matches!(told, Told::Step(_)) {
            metrics::histogram!("cardwire_feed_lag_seconds").record(self.listener.since_rung().as_secs_f64());
        }
        Ok(told)
    }

    /// Reads at most once for everybody who asks about the same rings.
    async fn since(self: &Arc<Self>, app: &App, cursor: &Cursor, rung: u64) -> Result<Told> {
        {
            let mut state = self.state.lock().await;
            if state.covered < rung || state.at.is_none() {
                self.read(app, &mut state, cursor).await?;
            }
            let told = state.lead_from(cursor);
            if Arc::strong_count(self) == 1 {
                // Nobody else will ask for what the only follower has.
                state.steps.clear();
            }
            if let Some(told) = told {
                return Ok(told);
            }
        }
        Ok(match super::follow(app, &self.view, cursor).await? {
            Change::Nothing { cursor, .. } => Told::Nothing(cursor),
            Change::Patch(patch) => Told::Step(Arc::new(Step::new(cursor.clone(), patch))),
            Change::Resync(reason) => Told::Resync(reason),
        })
    }

    async fn read(&self, app: &App, state: &mut State, cursor: &Cursor) -> Result<()> {
        let rung = self.listener.rung();
        // What fails leaves nothing behind that could be wrong.
        let from = state.at.take().unwrap_or_else(|| cursor.clone());
        match super::follow(app, &self.view, &from).await {
            Ok(Change::Nothing { cursor, .. }) => state.at = Some(cursor),
            Ok(Change::Patch(patch)) => {
                state.at = Some(patch.cursor.clone());
                state.steps.push_back(Arc::new(Step::new(from, patch)));
                if state.steps.len() > RING {
                    state.steps.pop_front();
                }
            }
            Ok(Change::Resync(_)) => state.steps.clear(),
            Err(error) => {
                state.steps.clear();
                return Err(error);
            }
        }
        state.covered = rung;
        if let Some(at) = &state.at {
            self.listener.has_read(at.version());
        }
        Ok(())
    }
}

impl State {
    /// `None`: no kept step begins at this cursor.
    fn lead_from(&self, cursor: &Cursor) -> Option<Told> {
        let at = self.at.as_ref()?;
        if cursor.holds_what(at) {
            return Some(Told::Nothing(at.clone()));
        }
        let first = self.steps.iter().position(|step| cursor.holds_what(&step.from))?;
        Some(Told::Step(match self.steps.len() - first {
            1 => self.steps[first].clone(),
            several => {
                metrics::counter!("cardwire_feed_coalesced_steps").increment(several as u64);
                Arc::new(merge(self.steps.range(first..).map(Arc::as_ref))?)
            }
        }))
    }
}

/// One step that does what several do one after another. Each card is told once, as it is after the last.
fn merge<'a>(steps: impl Iterator<Item = &'a Step>) -> Option<Step> {
    let mut upserts: HashMap<CardId, (&Upsert, UpsertReason)> = HashMap::new();
    let mut gone: HashMap<CardId, Removal> = HashMap::new();
    let (mut first, mut last): (Option<&Step>, Option<&Step>) = (None, None);
    for step in steps {
        for removal in &step.patch.removals {
            upserts.remove(&removal.card);
            gone.insert(removal.card, *removal);
        }
        for upsert in &step.patch.upserts {
            let reason = match (upserts.get(&upsert.card.id), upsert.reason) {
                // A card that came and then changed is a card that came.
                (Some((_, reason)), UpsertReason::Update) => *reason,
                (_, reason) => reason,
            };
            upserts.insert(upsert.card.id, (upsert, reason));
        }
        first = first.or(Some(step));
        last = Some(step);
    }
    let (first, last) = (first?, &last?.patch);
    let places: HashMap<CardId, usize> =
        last.cursor.held.iter().enumerate().map(|(position, card)| (*card, position)).collect();
    let mut upserts: Vec<Upsert> = upserts
        .into_iter()
        .filter_map(|(card, (upsert, reason))| {
            Some(Upsert { card: upsert.card.clone(), position: *places.get(&card)?, reason })
        })
        .collect();
    upserts.sort_unstable_by_key(|upsert| upsert.position);
    let here: HashSet<CardId> = last.cursor.held.iter().copied().collect();
    let removals = first.from.held.iter().filter(|card| !here.contains(card)).filter_map(|card| gone.remove(card));
    let patch = Patch {
        from: first.patch.from,
        to: last.to,
        upserts,
        removals: removals.collect(),
        counts: last.counts,
        unseen: last.unseen.clone(),
        cursor: last.cursor.clone(),
    };
    Some(Step::new(first.from.clone(), patch))
}

#[cfg(test)]
mod tests;
