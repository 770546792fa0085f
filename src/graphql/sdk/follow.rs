//! One feed subscription: a cursor in a shared channel, and no queue.

use std::sync::Arc;

use futures_util::stream::{Stream, StreamExt, unfold};

use super::feed::{FeedPatch, FeedResync, FeedSnapshot, FeedUpdate};
use super::written;
use crate::app::App;
use crate::cards::feed::{self, Change, Channel, Cursor, Page, Patch, Rest, Step, Told, View};
use crate::error::{Error, Result};
use crate::graphql::transport::{Handover, Outlet, Root, Texts};
use crate::realtime::Pushed;

/// What a subscription says next.
pub struct Follower {
    app: App,
    channel: Arc<Channel>,
    /// News of the channel that this follower knows.
    known: Option<u64>,
    next: Next,
    /// How its messages are written, where the engine does not.
    form: Option<Arc<Form>>,
}

/// How the messages of a follower are written, and where they go out.
struct Form {
    app: App,
    view: Arc<View>,
    root: Arc<Root>,
    /// Operations with the same number ask for the same.
    number: u64,
    outlet: Option<Outlet>,
}

impl Form {
    /// A step as text, made once for all who are told the same.
    fn text(&self, step: &Step) -> Result<Arc<str>> {
        if let Some(text) = step.form(self.number) {
            return Ok(text);
        }
        let text: Arc<str> = written::data(&patch(&self.app, &self.view, step), &self.root)?.into();
        step.keep_form(self.number, text.clone());
        Ok(text)
    }

    fn push(&self, step: &Step) -> Pushed {
        match (&self.outlet, self.text(step)) {
            (Some(outlet), Ok(text)) => outlet.push(&text),
            // The follower meets the error where it can tell of it.
            (None, _) | (_, Err(_)) => Pushed::Refused,
        }
    }
}

fn patch(app: &App, view: &View, step: &Step) -> FeedUpdate {
    FeedUpdate::Patch(FeedPatch::new(&step.patch, step.patch.cursor.seal(app, view)))
}

pub enum Next {
    Snapshot,
    Resync(feed::ResyncReason),
    Resume(Cursor),
    Follow(Cursor),
    End,
}

/// A message of the subscription.
enum Message {
    /// For this follower alone.
    Own(FeedUpdate),
    /// Others may be told the same.
    Step(Arc<Step>),
}

impl Follower {
    pub fn new(app: App, channel: Arc<Channel>, next: Next) -> Follower {
        Follower { app, channel, known: None, next, form: None }
    }

    /// The messages as values, for the engine to write.
    pub fn updates(self) -> impl Stream<Item = async_graphql::Result<FeedUpdate>> + 'static {
        unfold(self, |mut follower| async {
            let update = match follower.message().await? {
                Ok(Message::Own(update)) => Ok(update),
                Ok(Message::Step(step)) => Ok(patch(&follower.app, follower.channel.view(), &step)),
                Err(error) => Err(error.into()),
            };
            Some((update, follower))
        })
    }

    /// The messages as the operation asks for them.
    pub fn texts(mut self, handover: &Handover) -> Texts {
        let form = Form {
            app: self.app.clone(),
            view: self.channel.view().clone(),
            root: handover.root.clone(),
            number: handover.form,
            outlet: handover.outlet(),
        };
        let form = Arc::new(form);
        self.form = Some(form.clone());
        let texts = unfold((self, form), |(mut follower, form)| async {
            let text = match follower.message().await? {
                Ok(Message::Own(update)) => written::data(&update, &form.root).map(Arc::from).map_err(Error::from),
                Ok(Message::Step(step)) => form.text(&step),
                Err(error) => Err(error),
            };
            if text.is_err() {
                follower.next = Next::End;
            }
            Some((text, (follower, form)))
        });
        texts.boxed()
    }

    /// The next message; waits for it. An error is the last one.
    async fn message(&mut self) -> Option<Result<Message>> {
        let message = match std::mem::replace(&mut self.next, Next::End) {
            Next::End => return None,
            Next::Resync(reason) => {
                self.next = Next::Snapshot;
                Ok(Message::Own(FeedUpdate::Resync(FeedResync::new(reason))))
            }
            // What happens once has its own memory, which a subscription that only waits does not keep.
            Next::Snapshot => Box::pin(self.snapshot()).await,
            Next::Resume(cursor) => Box::pin(self.resume(cursor)).await,
            Next::Follow(cursor) => self.follow(cursor).await,
        };
        Some(message)
    }

    async fn snapshot(&mut self) -> Result<Message> {
        let rung = self.channel.rung();
        let page = {
            let _turn = self.app.hub().sockets().admit().await;
            feed::page(&self.app, self.channel.view()).await?
        };
        let Page { cards, counts, unseen, cursor } = page;
        let token = cursor.seal(&self.app, self.channel.view());
        let snapshot = FeedSnapshot::new(cursor.number(), cards, counts, unseen, token);
        metrics::counter!("cardwire_feed_snapshots").increment(1);
        self.begin_at(cursor, rung);
        Ok(Message::Own(FeedUpdate::Snapshot(snapshot)))
    }

    /// Says what was missed, also when that is nothing.
    async fn resume(&mut self, cursor: Cursor) -> Result<Message> {
        metrics::counter!("cardwire_feed_resumes").increment(1);
        let rung = self.channel.rung();
        let patch = match feed::follow(&self.app, self.channel.view(), &cursor).await? {
            Change::Patch(patch) => patch,
            Change::Resync(reason) => return Ok(self.resync(reason)),
            Change::Nothing { counts, unseen, cursor } => {
                let number = cursor.number();
                let (upserts, removals) = (Vec::new(), Vec::new());
                Patch { from: number, to: number, upserts, removals, counts, unseen, cursor }
            }
        };
        let token = patch.cursor.seal(&self.app, self.channel.view());
        let update = FeedUpdate::Patch(FeedPatch::new(&patch, token));
        self.begin_at(patch.cursor, rung);
        Ok(Message::Own(update))
    }

    /// Waits until something changes that shows here.
    async fn follow(&mut self, mut cursor: Cursor) -> Result<Message> {
        loop {
            if let Some(rest) = self.rest(&cursor) {
                cursor = rest.left().await;
                self.known = None;
            }
            match self.channel.next(&self.app, &cursor, &mut self.known).await? {
                Told::Nothing(moved) => cursor = moved,
                Told::Resync(reason) => return Ok(self.resync(reason)),
                Told::Step(step) => {
                    self.next = Next::Follow(step.patch.cursor.clone());
                    return Ok(Message::Step(step));
                }
            }
        }
    }

    /// While this waits, steps go out without it.
    fn rest(&self, cursor: &Cursor) -> Option<Rest> {
        let form = self.form.as_ref().filter(|form| form.outlet.is_some())?.clone();
        self.channel.rest(cursor, self.known, Box::new(move |step| form.push(step)))
    }

    fn resync(&mut self, reason: feed::ResyncReason) -> Message {
        metrics::counter!("cardwire_feed_resyncs").increment(1);
        self.next = Next::Snapshot;
        Message::Own(FeedUpdate::Resync(FeedResync::new(reason)))
    }

    fn begin_at(&mut self, cursor: Cursor, rung: u64) {
        self.known = self.channel.begin(&self.app, &cursor, rung);
        self.next = Next::Follow(cursor);
    }
}
