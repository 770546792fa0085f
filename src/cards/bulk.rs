//! The Cards API: lists by selector, and closing many cards at once (specification 6.4).

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::{Map, Value, json};

use crate::access::{Access, Level, Resource, audit};
use crate::app::App;
use crate::cards::action::ActionSource;
use crate::cards::instance::{self, CardInstance};
use crate::cards::lifecycle::Status;
use crate::cards::select::{MAXIMUM, Reach, Selector};
use crate::cards::transition::{self, Circumstances, Transition};
use crate::db::Tx;
use crate::db::page::{Page, PageRequest};
use crate::db::schema::cards;
use crate::error::{Code, Error, Result};
use crate::events::EventContext;
use crate::ids::CardId;

/// Cards per transaction: each may lock a feed.
const BATCH: i64 = 200;
/// The most bytes of response values.
const MOST_VALUES: usize = 64 * 1024;

/// How many cards are closed by one call, and which.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    /// Open cards that fitted the selector.
    pub matched: i64,
    pub cards: Vec<CardId>,
}

impl Closed {
    pub fn changed(&self) -> i64 {
        i64::try_from(self.cards.len()).unwrap_or(i64::MAX)
    }

    /// Cards that fitted and are still open.
    pub fn remaining(&self) -> i64 {
        (self.matched - self.changed()).max(0)
    }
}

/// The way in which cards are closed.
#[derive(Clone, Debug)]
pub enum Closing {
    /// The template's validations are not applied to the values.
    Complete {
        values: Map<String, Value>,
    },
    Dismiss,
    Cancel,
}

impl Closing {
    fn to(&self) -> Status {
        match self {
            Closing::Complete { .. } => Status::Completed,
            Closing::Dismiss => Status::Dismissed,
            Closing::Cancel => Status::Cancelled,
        }
    }

    fn action(&self) -> &'static str {
        match self {
            Closing::Complete { .. } => "card.complete",
            Closing::Dismiss => "card.dismiss",
            Closing::Cancel => "card.cancel",
        }
    }

    fn transition(&self, card: CardInstance) -> Transition {
        let mut transition = Transition::new(card, self.to());
        if let Closing::Complete { values } = self {
            transition.properties = Some(json!({ "values": values }));
            transition.response = Some(Value::Object(values.clone()));
        }
        transition
    }
}

/// The cards that fit, newest first.
pub async fn list(
    app: &App,
    access: &Access,
    selector: &Selector,
    limit: i64,
    offset: i64,
) -> Result<Vec<CardInstance>> {
    access.require(Resource::CardInstance, Level::View)?;
    if !(1..=MAXIMUM).contains(&limit) {
        return Err(Error::invalid("/limit", format!("limit must be between 1 and {MAXIMUM}")).parameter("limit"));
    }
    if offset < 0 {
        return Err(Error::invalid("/offset", "offset must not be negative").parameter("offset"));
    }
    let conn = app.read().await?;
    let found = instance::selected(access.env(), selector)
        .order(cards::id.desc())
        .limit(limit)
        .offset(offset)
        .select(CardInstance::as_select());
    Ok(found.load(&mut &*conn).await?)
}

/// A page of the cards that fit, newest first.
pub async fn page(
    app: &App,
    access: &Access,
    selector: &Selector,
    page: PageRequest<CardId>,
) -> Result<Page<CardInstance>> {
    access.require(Resource::CardInstance, Level::View)?;
    let conn = app.read().await?;
    let mut found = instance::selected(access.env(), selector).order(cards::id.desc()).limit(page.limit());
    if let Some(after) = page.after {
        found = found.filter(cards::id.lt(after));
    }
    Ok(page.page(found.select(CardInstance::as_select()).load(&mut &*conn).await?))
}

/// One card.
pub async fn find(app: &App, access: &Access, id: CardId) -> Result<CardInstance> {
    access.require(Resource::CardInstance, Level::View)?;
    let conn = app.read().await?;
    instance::find(&conn, access.env(), id).await?.ok_or_else(|| Error::not_found("card"))
}

/// Closes the open cards that fit, oldest first, up to the limit of the call. Closed cards are skipped.
///
/// Works in batches: a failure leaves earlier batches closed, and the same call again goes on from there.
pub async fn close(app: &App, access: &Access, selector: &Selector, reach: Reach, closing: &Closing) -> Result<Closed> {
    access.require(Resource::CardInstance, Level::Edit)?;
    reach.check(selector)?;
    if let Closing::Complete { values } = closing
        && serde_json::to_string(values)?.len() > MOST_VALUES
    {
        return Err(Error::invalid("/values", format!("values take more than {} KiB", MOST_VALUES / 1024)));
    }
    let matched = count_open(app, access, selector).await?;
    if matched > 1 && !reach.multiple {
        let detail = format!("{matched} cards match; give multiple=1 to change them all");
        return Err(Error::new(Code::MultipleRequired, detail));
    }
    // Without `multiple` a card that came meanwhile must not be closed along with the one that was counted.
    let limit = if reach.multiple { reach.limit } else { 1 };
    let mut closed = Closed { matched, cards: Vec::new() };
    while matched > 0 && closed.changed() < limit {
        let batch = BATCH.min(limit - closed.changed());
        let (found, changed) = app.transact(async |tx| close_in(tx, access, selector, batch, closing).await).await?;
        closed.cards.extend(changed);
        if i64::try_from(found).unwrap_or(i64::MAX) < batch {
            break;
        }
    }
    closed.matched = closed.matched.max(closed.changed());
    Ok(closed)
}

async fn count_open(app: &App, access: &Access, selector: &Selector) -> Result<i64> {
    let conn = app.read().await?;
    let open = instance::selected(access.env(), selector).filter(cards::status.eq_any(Status::OPEN));
    Ok(open.count().get_result(&mut &*conn).await?)
}

/// Closes one batch. Gives how many open cards were found, and those that were still open under the lock.
async fn close_in(
    tx: &mut Tx,
    access: &Access,
    selector: &Selector,
    batch: i64,
    closing: &Closing,
) -> Result<(usize, Vec<CardId>)> {
    let env = access.env();
    // No FOR UPDATE on a boxed query: first the ids, then the locks in their order, looking at the state again.
    let ids: Vec<CardId> = instance::selected(env, selector)
        .filter(cards::status.eq_any(Status::OPEN))
        .order(cards::id)
        .limit(batch)
        .select(cards::id)
        .load(&mut tx.conn())
        .await?;
    let open = lock_open(tx, access, &ids).await?;
    let changed: Vec<CardId> = open.iter().map(|card| card.id).collect();
    let transitions: Vec<Transition> = open.into_iter().map(|card| closing.transition(card)).collect();
    transition::apply_in(tx, env, &transitions, &circumstances(access)).await?;
    for card in &changed {
        audit::record_in(tx, access, closing.action(), card, &["status"]).await?;
    }
    Ok((ids.len(), changed))
}

async fn lock_open(tx: &Tx, access: &Access, ids: &[CardId]) -> Result<Vec<CardInstance>> {
    let open = cards::table
        .filter(cards::environment_id.eq(access.env()).and(cards::id.eq_any(ids)))
        .filter(cards::status.eq_any(Status::OPEN))
        .order(cards::id)
        .select(CardInstance::as_select())
        .for_no_key_update();
    Ok(open.load(&mut tx.conn()).await?)
}

/// How events say that a caller of the API did it.
fn circumstances(access: &Access) -> Circumstances {
    let context = EventContext {
        ip: access.info().address.map(|address| address.to_string()),
        action_source: Some(ActionSource::Api.word().to_owned()),
        user_local_timestamp: None,
    };
    Circumstances { context: Some(context), ..Circumstances::default() }
}
