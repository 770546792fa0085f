//! One feed subscription: a cursor in a shared channel, and no queue.

use std::sync::Arc;

use futures_util::stream::{Stream, StreamExt, unfold};

use super::feed::{FeedPatch, FeedResync, FeedSnapshot, FeedUpdate};
use super::written;
use crate::app::App;
use crate::cards::feed::{self, Change, Channel, Cursor, Page, Patch, Step, Told};
use crate::error::Result;
use crate::graphql::transport::{Handover, Texts};

/// What a subscription says next.
pub struct Follower {
    app: App,
    channel: Arc<Channel>,
    /// News of the channel that this follower knows.
    known: u64,
    next: Next,
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
        Follower { app, channel, known: 0, next }
    }

    /// The messages as values, for the engine to write.
    pub fn updates(self) -> impl Stream<Item = async_graphql::Result<FeedUpdate>> + 'static {
        unfold(self, |mut follower| async {
            let update = match follower.message().await? {
                Ok(Message::Own(update)) => Ok(update),
                Ok(Message::Step(step)) => Ok(follower.patch(&step)),
                Err(error) => Err(error.into()),
            };
            Some((update, follower))
        })
    }

    /// The messages as the operation asks for them.
    pub fn texts(self, handover: &Handover) -> Texts {
        let handover = handover.clone();
        let texts = unfold((self, handover), |(mut follower, handover)| async {
            let text = match follower.message().await? {
                Ok(message) => follower.text(message, &handover),
                Err(error) => Err(error),
            };
            Some((text, (follower, handover)))
        });
        texts.boxed()
    }

    /// A step that others are told in the same form is written once.
    fn text(&self, message: Message, Handover { root, form, .. }: &Handover) -> Result<Arc<str>> {
        let step = match message {
            Message::Own(update) => return Ok(written::data(&update, root)?.into()),
            Message::Step(step) => step,
        };
        if let Some(text) = step.form(*form) {
            return Ok(text);
        }
        let text: Arc<str> = written::data(&self.patch(&step), root)?.into();
        // What only one follower is told need not be kept.
        if Arc::strong_count(&self.channel) > 1 {
            step.keep_form(*form, text.clone());
        }
        Ok(text)
    }

    fn patch(&self, step: &Step) -> FeedUpdate {
        let token = step.patch.cursor.seal(&self.app, self.channel.view());
        FeedUpdate::Patch(FeedPatch::new(&step.patch, token))
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
