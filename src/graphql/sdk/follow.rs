//! One feed subscription: a cursor in a shared channel, and no queue.

use std::borrow::Cow;
use std::sync::Arc;

use async_graphql::parser::types::Field;
use async_graphql::registry::Registry;
use async_graphql::{ContextSelectionSet, OutputType, Positioned, ServerResult, Value};

use super::feed::{FeedPatch, FeedResync, FeedSnapshot, FeedUpdate};
use crate::app::App;
use crate::cards::feed::{self, Change, Channel, Cursor, Page, Patch, Step, Told};
use crate::error::Result;

/// What a subscription says next.
pub struct Follower {
    app: App,
    channel: Arc<Channel>,
    /// News of the channel that this follower knows.
    known: u64,
    next: Next,
    /// What is the same for everybody who asks for the same fields.
    form: u64,
}

pub enum Next {
    Snapshot,
    Resync(feed::ResyncReason),
    Resume(Cursor),
    Follow(Cursor),
    End,
}

impl Follower {
    pub fn new(app: App, channel: Arc<Channel>, next: Next, form: u64) -> Follower {
        Follower { app, channel, known: 0, next, form }
    }

    /// The next message; waits for it. An error is the last one.
    pub async fn update(&mut self) -> Option<Result<Update>> {
        let update = match std::mem::replace(&mut self.next, Next::End) {
            Next::End => return None,
            Next::Resync(reason) => {
                self.next = Next::Snapshot;
                Ok(Update::own(FeedUpdate::Resync(FeedResync::new(reason))))
            }
            // What happens once has its own memory, which a subscription that only waits does not keep.
            Next::Snapshot => Box::pin(self.snapshot()).await,
            Next::Resume(cursor) => Box::pin(self.resume(cursor)).await,
            Next::Follow(cursor) => self.follow(cursor).await,
        };
        Some(update)
    }

    async fn snapshot(&mut self) -> Result<Update> {
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
        Ok(Update::own(FeedUpdate::Snapshot(snapshot)))
    }

    /// Says what was missed, also when that is nothing.
    async fn resume(&mut self, cursor: Cursor) -> Result<Update> {
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
        let update = Update::own(FeedUpdate::Patch(FeedPatch::new(&patch, token)));
        self.begin_at(patch.cursor, rung);
        Ok(update)
    }

    /// Waits until something changes that shows here.
    async fn follow(&mut self, mut cursor: Cursor) -> Result<Update> {
        loop {
            match self.channel.next(&self.app, &cursor, &mut self.known).await? {
                Told::Nothing(moved) => cursor = moved,
                Told::Resync(reason) => return Ok(self.resync(reason)),
                Told::Step(step) => {
                    self.next = Next::Follow(step.patch.cursor.clone());
                    let token = || step.patch.cursor.seal(&self.app, self.channel.view());
                    return Ok(match step.form(self.form) {
                        Some(_) => Update::shared(step, None, self.form),
                        None => {
                            let patch = FeedPatch::new(&step.patch, token());
                            // What only one follower is told need not be kept.
                            if Arc::strong_count(&self.channel) == 1 {
                                Update::own(FeedUpdate::Patch(patch))
                            } else {
                                Update::shared(step, Some(patch), self.form)
                            }
                        }
                    });
                }
            }
        }
    }

    fn resync(&mut self, reason: feed::ResyncReason) -> Update {
        metrics::counter!("cardwire_feed_resyncs").increment(1);
        self.next = Next::Snapshot;
        Update::own(FeedUpdate::Resync(FeedResync::new(reason)))
    }

    fn begin_at(&mut self, cursor: Cursor, rung: u64) {
        self.known = self.channel.begin(&self.app, &cursor, rung);
        self.next = Next::Follow(cursor);
    }
}

/// A message of the feed subscription. A step that others are told in the same form is written once.
pub struct Update {
    own: Option<FeedUpdate>,
    shared: Option<(Arc<Step>, u64)>,
}

impl Update {
    fn own(update: FeedUpdate) -> Update {
        Update { own: Some(update), shared: None }
    }

    fn shared(step: Arc<Step>, patch: Option<FeedPatch>, form: u64) -> Update {
        Update { own: patch.map(FeedUpdate::Patch), shared: Some((step, form)) }
    }
}

impl OutputType for Update {
    fn type_name() -> Cow<'static, str> {
        FeedUpdate::type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        FeedUpdate::create_type_info(registry)
    }

    async fn resolve(&self, ctx: &ContextSelectionSet<'_>, field: &Positioned<Field>) -> ServerResult<Value> {
        let written = self.shared.as_ref().and_then(|(step, form)| step.form(*form));
        if let Some(written) = written {
            return Ok(async_graphql::to_value(&written).unwrap_or_default());
        }
        let Some(own) = &self.own else { return Ok(Value::Null) };
        let value = own.resolve(ctx, field).await?;
        let Some((step, form)) = &self.shared else { return Ok(value) };
        match serde_json::value::to_raw_value(&value) {
            Ok(text) => {
                let text = Arc::from(text);
                let value = async_graphql::to_value(&text).unwrap_or(value);
                step.keep_form(*form, text);
                Ok(value)
            }
            Err(_) => Ok(value),
        }
    }
}
