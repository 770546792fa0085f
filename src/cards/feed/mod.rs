//! The feed: the ordered cards that one customer sees in one container now (specification 5.1, 5.4–5.6).
//!
//! Cast: a [`View`] says whose feed, in which container, on which platform, through which filter. [`page`] reads it
//! whole. A [`Cursor`] remembers what a client holds, and [`follow`] gives what changed since, as a [`Patch`]; the
//! cursor travels to the client and back as a sealed [`token`]. Those who follow the same view share a [`Channel`],
//! which reads once for all, and one statement reads for many channels. [`Sweeper`] finds the hints that were lost.
//!
//! How nothing is lost or told twice: a change raises the customer's feed version in its own transaction, and each
//! card remembers the version of its last change. One statement reads head, container and cards, so they agree.
//! What a client holds is the list of card ids in the cursor and the version at which it was read. A card that is not
//! in the list, or is newer than the version, is an upsert; an id in the list that is not in the feed is a removal.
//! That holds however the change came about (publish, action, timer, curation, limit, filter), after any number of
//! lost hints, and on any node.
//!
//! Why not replay the log of changes: a stream that is curated anew or a limit that is lowered changes feeds of
//! customers whose log says nothing. The log only tells the reasons.

mod batch;
mod card;
mod channel;
mod metrics;
mod patch;
mod read;
mod rest;
mod sweep;
mod token;

pub use card::Card;
pub use channel::{Channel, Channels, Step, Told};
pub use metrics::{Metrics, UserMetrics, user_metrics};
pub use patch::{Change, Patch, Removal, RemovalReason, ResyncReason, Upsert, UpsertReason};
pub use rest::{Rest, Tell};
pub use sweep::Sweeper;
pub use token::Cursor;

use std::sync::Arc;

use self::read::{Reading, Wanted};
use crate::access::SdkAccess;
use crate::app::App;
use crate::cards::filter::Filter;
use crate::error::Result;
use crate::ids::{CardId, ContainerId, CustomerId, EnvId, SdkKeyId};

/// Whose feed, where, and through which filter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct View {
    pub env: EnvId,
    pub customer: CustomerId,
    pub key: SdkKeyId,
    pub container: ContainerId,
    /// Cards that target other platforms are not in the feed. An app that does not say where it runs sees all.
    pub platform: Option<String>,
    pub filter: Filter,
}

impl View {
    pub fn new(access: &SdkAccess, container: ContainerId, filter: Filter) -> View {
        View {
            env: access.env,
            customer: access.customer,
            key: access.key,
            container,
            platform: access.sdk.platform.clone(),
            filter,
        }
    }
}

/// How many cards there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Cards after filter and limit.
    pub visible: i64,
    /// All active cards of the stream, whatever filter and limit.
    pub total: i64,
}

/// A feed, whole.
#[derive(Debug)]
pub struct Page {
    pub cards: Vec<Card>,
    pub counts: Counts,
    /// Those of the visible cards that were never displayed.
    pub unseen: Vec<CardId>,
    pub cursor: Cursor,
}

/// A page, or the news that there is none.
#[derive(Debug)]
pub enum Polled {
    Page(Page),
    Unchanged { counts: Counts, unseen: Vec<CardId>, cursor: Cursor },
}

/// Reads a feed. The key must be granted to the container.
pub async fn page(app: &App, view: &View) -> Result<Page> {
    let reading = read(app, view, Wanted::Everything).await?;
    reading.into_page()
}

/// Reads a feed unless it is still as the token says.
pub async fn poll(app: &App, view: &View, token: Option<&str>) -> Result<Polled> {
    let Some(cursor) = token.and_then(|token| Cursor::open(app, view, token)) else {
        return page(app, view).await.map(Polled::Page);
    };
    let reading = read(app, view, Wanted::Since(&cursor)).await?;
    if reading.differs(&cursor) {
        return page(app, view).await.map(Polled::Page);
    }
    Ok(Polled::Unchanged { counts: reading.counts(), unseen: reading.unseen(), cursor: reading.advanced(&cursor) })
}

/// Counts the cards of a feed.
pub async fn counts(app: &App, view: &View) -> Result<Counts> {
    Ok(read(app, view, Wanted::Nothing).await?.counts())
}

async fn read(app: &App, view: &View, wanted: Wanted<'_>) -> Result<Reading> {
    read::read(&*app.read_feeds().await?, view, wanted, app.clock().now()).await
}

/// What changed since the cursor. The cursor of the answer is the one to follow next.
pub async fn follow(app: &App, view: &Arc<View>, cursor: &Cursor) -> Result<Change> {
    app.channels().batches().follow(app, view, cursor).await
}
