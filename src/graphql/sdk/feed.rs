//! The feed as GraphQL: the page, and the subscription that keeps it current.

use async_graphql::{Context, Enum, InputObject, Object, SimpleObject, Subscription, Union};
use futures_util::stream::{Stream, unfold};

use crate::app::App;
use crate::cards::feed::{self, Change, Cursor, Page, Patch, Polled, View};
use crate::cards::filter::{self, Filter};
use crate::clock::Time;
use crate::db::StoredJson;
use crate::error::Result;
use crate::graphql::context::{app, sdk};
use crate::graphql::scalars::Json;
use crate::ids::{CardId, ContainerId, LifecycleId};
use crate::realtime::Listener;

#[derive(Default)]
pub struct FeedQuery;

#[derive(Default)]
pub struct FeedSubscription;

/// A condition that cards must meet to be in the feed.
#[derive(InputObject)]
#[graphql(name = "CardFilter")]
pub struct CardFilterInput {
    /// `priority`, `templateId`, `templateName`, `cardId`, `created`, `variable.<name>`, `payload.<name>` or
    /// `metadata.<name>`.
    field: String,
    /// `eq`, `ne`, `gt`, `gte`, `lt`, `lte`, `in`, `nin` or `between`.
    op: String,
    value: Option<Json>,
}

/// Reads the filters of an operation.
pub fn read_filters(filters: Option<Vec<CardFilterInput>>) -> Result<Filter> {
    let filters: Vec<filter::CardFilter> = filters
        .unwrap_or_default()
        .into_iter()
        .map(|input| filter::CardFilter {
            field: input.field,
            op: input.op,
            value: input.value.map_or(serde_json::Value::Null, |value| value.0),
        })
        .collect();
    Filter::parse(&filters)
}

/// A card as an app shows it.
pub struct FeedCard(feed::Card);

/// A card as an app shows it.
#[Object]
impl FeedCard {
    async fn id(&self) -> CardId {
        self.0.id
    }

    /// Always `active`: other cards are in no feed.
    async fn status(&self) -> &'static str {
        "active"
    }

    async fn created(&self) -> Time {
        self.0.created
    }

    async fn lifecycle_id(&self) -> LifecycleId {
        self.0.lifecycle
    }

    async fn top_card(&self) -> &StoredJson {
        &self.0.top_card
    }

    async fn subviews(&self) -> &StoredJson {
        &self.0.subviews
    }

    async fn actions(&self) -> &StoredJson {
        &self.0.actions
    }

    async fn metadata(&self) -> FeedCardMetadata<'_> {
        FeedCardMetadata(&self.0)
    }

    /// Variables that the app fills in.
    async fn runtime_variables(&self) -> &StoredJson {
        &self.0.runtime_variables
    }

    async fn is_test(&self) -> bool {
        self.0.is_test
    }

    async fn unseen(&self) -> bool {
        self.0.unseen
    }
}

struct FeedCardMetadata<'a>(&'a feed::Card);

/// What is known about a card beside its content.
#[Object]
impl FeedCardMetadata<'_> {
    async fn priority(&self) -> i16 {
        self.0.priority
    }

    async fn active_since(&self) -> Time {
        self.0.active_since
    }

    async fn updated(&self) -> Time {
        self.0.updated
    }

    async fn expires(&self) -> Option<Time> {
        self.0.expires
    }

    /// The metadata of the start request, where the environment shows it to apps.
    async fn payload(&self) -> Option<&StoredJson> {
        self.0.payload.as_ref()
    }
}

/// The cards of a container, or the news that they are as the token says.
#[derive(SimpleObject)]
pub struct Feed {
    /// The feed is as `ifToken` says; `cards` is empty.
    unchanged: bool,
    cards: Vec<FeedCard>,
    visible_count: i64,
    total_count: i64,
    unseen_card_ids: Vec<CardId>,
    resume_token: String,
}

/// A message of the feed subscription.
#[derive(Union)]
pub enum FeedUpdate {
    Snapshot(FeedSnapshot),
    Patch(FeedPatch),
    Resync(FeedResync),
}

/// The whole feed.
#[derive(SimpleObject)]
pub struct FeedSnapshot {
    /// The version from which the next patch starts.
    version: i64,
    cards: Vec<FeedCard>,
    visible_count: i64,
    total_count: i64,
    unseen_card_ids: Vec<CardId>,
    resume_token: String,
}

/// What makes the feed of version `from` that of version `to`: first the removals, then the upserts in order.
#[derive(SimpleObject)]
pub struct FeedPatch {
    from: i64,
    to: i64,
    upserts: Vec<FeedUpsert>,
    removals: Vec<FeedRemoval>,
    visible_count: i64,
    total_count: i64,
    unseen_card_ids: Vec<CardId>,
    resume_token: String,
}

/// A card that comes or is changed.
#[derive(SimpleObject)]
pub struct FeedUpsert {
    card: FeedCard,
    /// The place in the feed after the patch, from 0.
    position: usize,
    reason: FeedUpsertReason,
}

/// A card that goes.
#[derive(SimpleObject)]
pub struct FeedRemoval {
    card_id: CardId,
    reason: FeedRemovalReason,
}

/// Drop what you hold: a snapshot is the next message.
#[derive(SimpleObject)]
pub struct FeedResync {
    reason: FeedResyncReason,
    resume_token: Option<String>,
}

/// Why a card comes or is changed.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "feed::UpsertReason")]
enum FeedUpsertReason {
    Publish,
    Unsnooze,
    Update,
    Limit,
    Filter,
    Stream,
}

/// Why a card goes.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "feed::RemovalReason")]
enum FeedRemovalReason {
    Complete,
    Dismiss,
    Snooze,
    Cancel,
    Expire,
    Limit,
    Filter,
    Stream,
    Delete,
}

/// Why a client must begin anew.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "feed::ResyncReason")]
enum FeedResyncReason {
    TokenUnusable,
    TooOld,
    TooSlow,
    Configuration,
}

#[Object]
impl FeedQuery {
    /// The cards of a container in their order. With `ifToken` only if they are not as the token says.
    async fn feed(
        &self,
        ctx: &Context<'_>,
        container_id: ContainerId,
        filters: Option<Vec<CardFilterInput>>,
        if_token: Option<String>,
    ) -> Result<Feed> {
        let app = app(ctx)?;
        let view = View::new(sdk(ctx)?, container_id, read_filters(filters)?);
        Ok(match feed::poll(app, &view, if_token.as_deref()).await? {
            Polled::Page(page) => Feed {
                unchanged: false,
                visible_count: page.counts.visible,
                total_count: page.counts.total,
                resume_token: page.cursor.seal(app, &view),
                unseen_card_ids: page.unseen,
                cards: page.cards.into_iter().map(FeedCard).collect(),
            },
            Polled::Unchanged { counts, unseen, cursor } => Feed {
                unchanged: true,
                cards: Vec::new(),
                visible_count: counts.visible,
                total_count: counts.total,
                unseen_card_ids: unseen,
                resume_token: cursor.seal(app, &view),
            },
        })
    }
}

#[Subscription]
impl FeedSubscription {
    /// The cards of a container, kept current: a snapshot, then patches. With `resumeToken` what was missed.
    async fn feed(
        &self,
        ctx: &Context<'_>,
        container_id: ContainerId,
        filters: Option<Vec<CardFilterInput>>,
        resume_token: Option<String>,
    ) -> Result<impl Stream<Item = async_graphql::Result<FeedUpdate>> + 'static> {
        let app = app(ctx)?.clone();
        let view = View::new(sdk(ctx)?, container_id, read_filters(filters)?);
        // Listening begins before the first look, so that nothing falls between them.
        let listener = app.hub().listen(view.env, view.customer, &[container_id]);
        let next = match resume_token {
            None => Next::Snapshot,
            Some(token) => match Cursor::open(&app, &view, &token) {
                Some(cursor) => Next::Resume(cursor),
                None => Next::Resync(feed::ResyncReason::TokenUnusable),
            },
        };
        Ok(unfold(Follower { app, view, listener, next }, |mut follower| async {
            let update = follower.update().await?;
            Some((update.map_err(Into::into), follower))
        }))
    }
}

/// One subscription: a cursor, and no queue.
struct Follower {
    app: App,
    view: View,
    listener: Listener,
    next: Next,
}

enum Next {
    Snapshot,
    Resync(feed::ResyncReason),
    Resume(Cursor),
    Follow(Cursor),
    End,
}

impl Follower {
    /// The next message; waits for it. An error is the last one.
    async fn update(&mut self) -> Option<Result<FeedUpdate>> {
        let update = match std::mem::replace(&mut self.next, Next::End) {
            Next::End => return None,
            Next::Resync(reason) => {
                self.next = Next::Snapshot;
                Ok(FeedUpdate::Resync(FeedResync { reason: reason.into(), resume_token: None }))
            }
            Next::Snapshot => self.snapshot().await,
            Next::Resume(cursor) => self.resume(cursor).await,
            Next::Follow(cursor) => self.follow(cursor).await,
        };
        Some(update)
    }

    async fn snapshot(&mut self) -> Result<FeedUpdate> {
        let Page { cards, counts, unseen, cursor } = feed::page(&self.app, &self.view).await?;
        let snapshot = FeedSnapshot {
            version: cursor.number(),
            cards: cards.into_iter().map(FeedCard).collect(),
            visible_count: counts.visible,
            total_count: counts.total,
            unseen_card_ids: unseen,
            resume_token: cursor.seal(&self.app, &self.view),
        };
        metrics::counter!("cardwire_feed_snapshots").increment(1);
        self.stand_at(cursor);
        Ok(FeedUpdate::Snapshot(snapshot))
    }

    /// Says what was missed, also when that is nothing.
    async fn resume(&mut self, cursor: Cursor) -> Result<FeedUpdate> {
        metrics::counter!("cardwire_feed_resumes").increment(1);
        Ok(match feed::follow(&self.app, &self.view, &cursor).await? {
            Change::Patch(patch) => self.patch(patch),
            Change::Resync(reason) => self.resync(reason),
            Change::Nothing { counts, unseen, cursor } => {
                let number = cursor.number();
                let (upserts, removals) = (Vec::new(), Vec::new());
                self.patch(Patch { from: number, to: number, upserts, removals, counts, unseen, cursor })
            }
        })
    }

    /// Waits until something changes that shows here.
    async fn follow(&mut self, mut cursor: Cursor) -> Result<FeedUpdate> {
        loop {
            self.listener.changed().await;
            match feed::follow(&self.app, &self.view, &cursor).await? {
                Change::Patch(patch) => return Ok(self.patch(patch)),
                Change::Resync(reason) => return Ok(self.resync(reason)),
                Change::Nothing { cursor: moved, .. } => {
                    self.listener.has_read(moved.version());
                    cursor = moved;
                }
            }
        }
    }

    fn patch(&mut self, patch: Patch) -> FeedUpdate {
        let update = FeedPatch {
            from: patch.from,
            to: patch.to,
            upserts: patch
                .upserts
                .into_iter()
                .map(|upsert| FeedUpsert {
                    card: FeedCard(upsert.card),
                    position: upsert.position,
                    reason: upsert.reason.into(),
                })
                .collect(),
            removals: patch
                .removals
                .into_iter()
                .map(|removal| FeedRemoval { card_id: removal.card, reason: removal.reason.into() })
                .collect(),
            visible_count: patch.counts.visible,
            total_count: patch.counts.total,
            unseen_card_ids: patch.unseen,
            resume_token: patch.cursor.seal(&self.app, &self.view),
        };
        self.stand_at(patch.cursor);
        FeedUpdate::Patch(update)
    }

    fn resync(&mut self, reason: feed::ResyncReason) -> FeedUpdate {
        metrics::counter!("cardwire_feed_resyncs").increment(1);
        self.next = Next::Snapshot;
        FeedUpdate::Resync(FeedResync { reason: reason.into(), resume_token: None })
    }

    fn stand_at(&mut self, cursor: Cursor) {
        self.listener.has_read(cursor.version());
        self.next = Next::Follow(cursor);
    }
}
