//! One feed that several subscriptions of this process follow: read once, told to all.
//!
//! Cast: a [`Channel`] is one view, held by whoever follows it. It knows how far it has read, and keeps the latest
//! [`Step`]s. When its bell rings it waits for a [`Reading`], and its followers hear of what that found. A follower has
//! a [`Cursor`] and no queue: while it stands where the channel stands it may [`rest`](super::rest) and is told the next
//! step; else, when it can take something, it asks what leads from its cursor to now. One step is handed out as it is,
//! several are merged into one. Whoever stands where no kept step begins is served from the database, so a channel is
//! never needed to be right, only to be fast.
//!
//! Bells ring before reading is done, never after: a ring during a reading asks for another one.

use std::collections::{HashMap, HashSet, VecDeque};
use std::pin::pin;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::batch::Batches;
use super::rest::{Rest, Slot, Tell};
use super::{Change, Cursor, Patch, Removal, ResyncReason, Upsert, UpsertReason, View};
use crate::app::App;
use crate::error::{Error, Result};
use crate::ids::CardId;
use crate::realtime::Listener;

/// Steps that are kept for followers that are behind.
const RING: usize = 32;
/// Followers that are told one after another. More are told by several tasks, so that none holds up the others' feeds.
const TOLD_TOGETHER: usize = 64;

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
        let view = Arc::new(view.clone());
        let channel = Arc::new_cyclic(|channel: &Weak<Channel>| {
            let on_ring = {
                let (app, channel) = (app.clone(), channel.clone());
                move || {
                    if let Some(channel) = channel.upgrade() {
                        channel.ring(&app);
                    }
                }
            };
            let listener = app.hub().listen_with(view.env, view.customer, &[view.container], on_ring);
            let (state, news) = (Mutex::default(), Notify::new());
            Channel { home: self.clone(), view: view.clone(), listener, state, news }
        });
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
    state: Mutex<State>,
    /// Followers wait here.
    news: Notify,
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
    forms: Mutex<Vec<(u64, Arc<str>)>>,
}

impl Step {
    fn new(from: Cursor, patch: Patch) -> Step {
        Step { from, patch, forms: Mutex::default() }
    }

    /// What somebody else made of this step in the same form.
    pub fn form(&self, form: u64) -> Option<Arc<str>> {
        self.forms.lock().iter().find(|(known, _)| *known == form).map(|(_, text)| text.clone())
    }

    pub fn keep_form(&self, form: u64, text: Arc<str>) {
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
    steps: VecDeque<Arc<Step>>,
    /// How often there was something to look at.
    news: u64,
    /// Those who stand where the newest step leads, and some who have left.
    resting: Vec<Arc<Slot>>,
    /// Why there is nothing to follow.
    refusal: Option<Error>,
    turn: Turn,
}

/// Where a channel stands among those who are read.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Turn {
    #[default]
    Idle,
    Waiting,
    Reading,
    /// It rang during the reading.
    Again,
}

impl Channel {
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// The rings so far: a reading that begins after this call covers them.
    pub fn rung(&self) -> u64 {
        self.listener.rung()
    }

    /// Says what a follower has read by itself, which covers these rings. Gives the news that it knows by that.
    pub fn begin(self: &Arc<Self>, app: &App, cursor: &Cursor, covered: u64) -> Option<u64> {
        let known = {
            let mut state = self.state.lock();
            if state.at.is_none() {
                state.at = Some(cursor.clone());
                state.refusal = None;
                self.listener.has_read(cursor.version());
            }
            let here = state.at.as_ref().is_some_and(|at| cursor.holds_what(at));
            here.then_some(state.news)
        };
        if self.rung() > covered {
            self.ring(app);
        }
        known
    }

    /// Lets a follower rest that knows the news so far. `None`: there are others, at which it must look.
    pub fn rest(&self, cursor: &Cursor, known: Option<u64>, tell: Tell) -> Option<Rest> {
        let mut state = self.state.lock();
        if known != Some(state.news) {
            return None;
        }
        if state.resting.len() == state.resting.capacity() {
            state.resting.retain(|slot| slot.rests());
            // Most channels have one follower.
            let more = state.resting.len().max(1);
            state.resting.reserve_exact(more);
        }
        let slot = Arc::new(Slot::new(cursor.clone(), tell));
        state.resting.push(slot.clone());
        Some(Rest(slot))
    }

    /// Waits for news after those that the follower knows, and says what leads from its cursor to now. A follower that
    /// knows none looks at once.
    pub async fn next(self: &Arc<Self>, app: &App, cursor: &Cursor, known: &mut Option<u64>) -> Result<Told> {
        loop {
            let mut news = pin!(self.news.notified());
            // From here on nothing is missed, also before the first poll.
            news.as_mut().enable();
            if let Some(told) = self.look(cursor, known) {
                match told? {
                    Some(told) => return Ok(told),
                    None => break,
                }
            }
            news.await;
        }
        let covered = self.rung();
        // Boxed, so that who only waits does not keep the memory of what happens rarely.
        let (told, cursor) = match Box::pin(super::follow(app, &self.view, cursor)).await? {
            Change::Nothing { cursor, .. } => (Told::Nothing(cursor.clone()), cursor),
            Change::Patch(patch) => {
                let next = patch.cursor.clone();
                (Told::Step(Arc::new(Step::new(cursor.clone(), patch))), next)
            }
            Change::Resync(reason) => return Ok(Told::Resync(reason)),
        };
        // A channel that stands nowhere stands here now, else nothing would be read for it.
        if self.state.lock().at.is_none() {
            *known = self.begin(app, &cursor, covered);
        }
        Ok(told)
    }

    /// `None`: no news. `Some(None)`: no kept step begins at this cursor.
    fn look(self: &Arc<Self>, cursor: &Cursor, known: &mut Option<u64>) -> Option<Result<Option<Told>>> {
        let mut state = self.state.lock();
        if *known == Some(state.news) {
            return None;
        }
        *known = Some(state.news);
        match &state.refusal {
            Some(refusal) => Some(Err(refusal.for_another())),
            None => {
                let told = state.lead_from(cursor);
                if Arc::strong_count(self) == 1 {
                    // Nobody else will ask for what the only follower has.
                    state.steps.clear();
                }
                Some(Ok(told))
            }
        }
    }

    /// Asks for a reading, unless one is to come that has not begun.
    fn ring(self: &Arc<Self>, app: &App) {
        let before = {
            let turn = &mut self.state.lock().turn;
            let next = match turn {
                Turn::Idle | Turn::Waiting => Turn::Waiting,
                Turn::Reading | Turn::Again => Turn::Again,
            };
            std::mem::replace(turn, next)
        };
        if before == Turn::Idle {
            self.home.batches.channel(app, self.clone());
        }
    }

    /// Begins the reading that was asked for. `None`: nobody has begun to follow.
    pub(super) fn begin_reading(self: Arc<Self>, app: &App) -> Option<Reading> {
        let from = {
            let mut state = self.state.lock();
            state.turn = if state.at.is_some() { Turn::Reading } else { Turn::Idle };
            state.at.clone()
        };
        from.map(|from| Reading { app: app.clone(), channel: self, from, ended: false })
    }

    fn end_reading(self: &Arc<Self>, app: &App, from: &Cursor, change: Result<Change>) {
        let mut state = self.state.lock();
        let again = state.turn == Turn::Again;
        state.turn = if again { Turn::Waiting } else { Turn::Idle };
        let found = state.take(from, change);
        let resting = match &found {
            Found::Nothing => Vec::new(),
            Found::Step(_) => state.resting.clone(),
            Found::Break => std::mem::take(&mut state.resting),
        };
        if !matches!(found, Found::Nothing) {
            state.news = state.news.wrapping_add(1);
            metrics::histogram!("cardwire_feed_lag_seconds").record(self.listener.since_rung().as_secs_f64());
        }
        if let Some(at) = &state.at {
            self.listener.has_read(at.version());
        }
        drop(state);
        self.news.notify_waiters();
        match found {
            Found::Nothing => {}
            Found::Step(step) => self.tell(&step, &resting),
            Found::Break => resting.iter().for_each(|slot| slot.rouse()),
        }
        if again {
            self.home.batches.channel(app, self.clone());
        }
    }

    /// Tells those who rest.
    #[expect(
        clippy::disallowed_methods,
        reason = "a follower that is not told is found behind at the next step, and then looks for itself"
    )]
    fn tell(self: &Arc<Self>, step: &Arc<Step>, resting: &[Arc<Slot>]) {
        if resting.len() > TOLD_TOGETHER {
            for slots in resting.chunks(TOLD_TOGETHER) {
                let (step, slots) = (step.clone(), slots.to_vec());
                tokio::spawn(async move {
                    for slot in slots {
                        slot.tell(&step);
                    }
                });
            }
            return;
        }
        let told = resting.iter().filter(|slot| slot.tell(step)).count();
        // Whoever reads holds the channel too.
        if told + 1 >= Arc::strong_count(self) {
            // Nobody will ask for what all have.
            self.state.lock().steps.clear();
        }
    }
}

/// A reading for a channel, which ends, come what may.
pub(super) struct Reading {
    app: App,
    channel: Arc<Channel>,
    from: Cursor,
    ended: bool,
}

impl Reading {
    pub fn view(&self) -> &View {
        &self.channel.view
    }

    pub fn from(&self) -> &Cursor {
        &self.from
    }

    pub fn end(mut self, change: Result<Change>) {
        self.ended = true;
        self.channel.end_reading(&self.app, &self.from, change);
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if !self.ended {
            let broken = Err(Error::unavailable(1, "a feed was not read to the end"));
            self.channel.end_reading(&self.app, &self.from, broken);
        }
    }
}

/// What a reading found.
enum Found {
    Nothing,
    Step(Arc<Step>),
    /// Nothing leads from what was to what is: everybody looks for themselves.
    Break,
}

impl State {
    /// Keeps what a reading found.
    fn take(&mut self, from: &Cursor, change: Result<Change>) -> Found {
        match change {
            Ok(Change::Nothing { cursor, .. }) => {
                self.at = Some(cursor);
                return Found::Nothing;
            }
            Ok(Change::Patch(patch)) => {
                self.at = Some(patch.cursor.clone());
                let step = Arc::new(Step::new(from.clone(), patch));
                self.steps.push_back(step.clone());
                if self.steps.len() > RING {
                    self.steps.pop_front();
                }
                return Found::Step(step);
            }
            Ok(Change::Resync(_)) => {}
            Err(error) => self.refusal = Some(error),
        }
        // Nothing is kept that could be wrong.
        self.at = None;
        self.steps.clear();
        Found::Break
    }

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
