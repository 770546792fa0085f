//! The feed as GraphQL: the page, and the subscription that keeps it current.

use std::sync::Arc;

use async_graphql::{Context, Enum, InputObject, Object, SimpleObject, Subscription, Union};
use futures_util::future::Either;
use futures_util::stream::{self, Stream};

use super::follow::{Follower, Next};
use crate::cards::feed::{self, Counts, Cursor, Patch, Polled, View};
use crate::cards::filter::{self, Filter};
use crate::clock::Time;
use crate::db::StoredJson;
use crate::error::Result;
use crate::graphql::context::{app, sdk};
use crate::graphql::scalars::Json;
use crate::graphql::transport::Handover;
use crate::ids::{CardId, ContainerId, LifecycleId};

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
pub struct FeedCard(pub(super) Arc<feed::Card>);

impl FeedCard {
    fn all(cards: Vec<feed::Card>) -> Vec<FeedCard> {
        cards.into_iter().map(|card| FeedCard(Arc::new(card))).collect()
    }
}

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

pub(super) struct FeedCardMetadata<'a>(pub(super) &'a feed::Card);

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
    pub(super) version: i64,
    pub(super) cards: Vec<FeedCard>,
    pub(super) visible_count: i64,
    pub(super) total_count: i64,
    pub(super) unseen_card_ids: Vec<CardId>,
    pub(super) resume_token: String,
}

/// What makes the feed of version `from` that of version `to`: first the removals, then the upserts in order.
#[derive(SimpleObject)]
pub struct FeedPatch {
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) upserts: Vec<FeedUpsert>,
    pub(super) removals: Vec<FeedRemoval>,
    pub(super) visible_count: i64,
    pub(super) total_count: i64,
    pub(super) unseen_card_ids: Vec<CardId>,
    pub(super) resume_token: String,
}

/// A card that comes or is changed.
#[derive(SimpleObject)]
pub struct FeedUpsert {
    pub(super) card: FeedCard,
    /// The place in the feed after the patch, from 0.
    pub(super) position: usize,
    pub(super) reason: FeedUpsertReason,
}

/// A card that goes.
#[derive(SimpleObject)]
pub struct FeedRemoval {
    pub(super) card_id: CardId,
    pub(super) reason: FeedRemovalReason,
}

/// Drop what you hold: a snapshot is the next message.
#[derive(SimpleObject)]
pub struct FeedResync {
    pub(super) reason: FeedResyncReason,
    pub(super) resume_token: Option<String>,
}

/// Why a card comes or is changed.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "feed::UpsertReason")]
pub(super) enum FeedUpsertReason {
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
pub(super) enum FeedRemovalReason {
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
pub(super) enum FeedResyncReason {
    TokenUnusable,
    TooOld,
    TooSlow,
    Configuration,
}

impl FeedSnapshot {
    pub(super) fn new(
        version: i64,
        cards: Vec<feed::Card>,
        counts: Counts,
        unseen_card_ids: Vec<CardId>,
        resume_token: String,
    ) -> FeedSnapshot {
        FeedSnapshot {
            version,
            cards: FeedCard::all(cards),
            visible_count: counts.visible,
            total_count: counts.total,
            unseen_card_ids,
            resume_token,
        }
    }
}

impl FeedPatch {
    pub(super) fn new(patch: &Patch, resume_token: String) -> FeedPatch {
        let upserts = patch.upserts.iter().map(|upsert| FeedUpsert {
            card: FeedCard(upsert.card.clone()),
            position: upsert.position,
            reason: upsert.reason.into(),
        });
        let removals = patch.removals.iter();
        FeedPatch {
            from: patch.from,
            to: patch.to,
            upserts: upserts.collect(),
            removals: removals.map(|gone| FeedRemoval { card_id: gone.card, reason: gone.reason.into() }).collect(),
            visible_count: patch.counts.visible,
            total_count: patch.counts.total,
            unseen_card_ids: patch.unseen.clone(),
            resume_token,
        }
    }
}

impl FeedResync {
    pub(super) fn new(reason: feed::ResyncReason) -> FeedResync {
        FeedResync { reason: reason.into(), resume_token: None }
    }
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
                cards: FeedCard::all(page.cards),
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
        let channel = app.channels().join(&app, &view);
        let next = match resume_token {
            None => Next::Snapshot,
            Some(token) => match Cursor::open(&app, &view, &token) {
                Some(cursor) => Next::Resume(cursor),
                None => Next::Resync(feed::ResyncReason::TokenUnusable),
            },
        };
        let follower = Follower::new(app, channel, next);
        Ok(match ctx.data_opt::<Handover>() {
            Some(handover) => {
                handover.give(follower.texts(handover));
                Either::Left(stream::empty())
            }
            None => Either::Right(follower.updates()),
        })
    }
}
