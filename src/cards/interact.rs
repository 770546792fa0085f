//! What customers do with their cards: complete, dismiss, snooze, vote (specification 6.3).
//!
//! Each action locks the card, looks at its state and changes it: of two racing actions exactly one succeeds, the
//! other is told `card_closed`. A card that the customer cannot see in the container is `not_found`.

use serde_json::{Map, Value};

use crate::access::SdkAccess;
use crate::app::App;
use crate::cards::action::{
    ActionSource, CompleteCard, DismissCard, SnoozeCard, Target, Vote, VoteCard, check_local_timestamp, check_vote,
    invites_feedback,
};
use crate::cards::content;
use crate::cards::instance::{self, CardInstance};
use crate::cards::lifecycle::Status;
use crate::cards::placement;
use crate::cards::scene::Scene;
use crate::cards::transition::{self, Circumstances, Transition};
use crate::clock::{Period, Time};
use crate::db::Tx;
use crate::error::{Code, Error, Result};
use crate::events::{self, EventContext, Recorded};

/// The event that an action made.
pub type Acted = Recorded;

/// Answers a card with its form's values. Values are checked against the card as the customer sees it; faults
/// point to `/values/<name>`.
pub async fn complete(app: &App, access: &SdkAccess, input: CompleteCard) -> Result<Acted> {
    act(app, access, &input.target, |card, _| {
        let (top_card, subviews) = (&card.definition["topCard"], &card.definition["subviews"]);
        let completion = content::complete(top_card, subviews, &input.button_name, &input.values)?;
        let values = Value::Object(completion.values);
        let mut properties = Map::new();
        properties.insert("values".into(), values.clone());
        properties.insert("buttonName".into(), Value::from(input.button_name.as_str()));
        let mut transition = Transition::new(card, Status::Completed);
        transition.properties = Some(Value::Object(properties));
        transition.response = Some(values);
        transition.button_name = Some(input.button_name.clone());
        Ok(transition)
    })
    .await
}

pub async fn dismiss(app: &App, access: &SdkAccess, input: DismissCard) -> Result<Acted> {
    act(app, access, &input.target, |card, _| Ok(Transition::new(card, Status::Dismissed))).await
}

/// Puts a card away until later. The end lies in the future and before the card's expiry.
pub async fn snooze(app: &App, access: &SdkAccess, input: SnoozeCard) -> Result<Acted> {
    let act = act(app, access, &input.target, |card, moment| {
        let (until, interval) = snooze_end(&card, &input, moment)?;
        let mut properties = Map::new();
        properties.insert("unsnoozeAt".into(), Value::from(until.to_string()));
        if let Some(interval) = interval {
            properties.insert("interval".into(), Value::from(interval));
        }
        let mut transition = Transition::new(card, Status::Snoozed);
        transition.properties = Some(Value::Object(properties));
        transition.unsnooze_at = Some(until);
        Ok(transition)
    });
    act.await
}

/// Says what the customer thinks of a card. The card stays as it is.
pub async fn vote(app: &App, access: &SdkAccess, input: VoteCard) -> Result<Acted> {
    check_local_timestamp(input.target.local_timestamp.as_deref())?;
    app.transact(async |tx| {
        let (scene, card) = enter_in(tx, access, &input.target).await?;
        check_vote(&input, invites_feedback(&card.definition))?;
        let name = match input.direction {
            Vote::Up => "card-voted-up",
            Vote::Down => "card-voted-down",
        };
        let streams =
            placement::streams_of(tx.conn(), access.env, &[&card]).await?.remove(&card.id).unwrap_or_default();
        let mut event = card.event(name, card.status, streams);
        let mut properties = Map::new();
        let source = input.target.source.unwrap_or(ActionSource::CardButton);
        properties.insert("source".into(), Value::from(source.word()));
        for (key, text) in [("reason", &input.reason), ("message", &input.message)] {
            if let Some(text) = text {
                properties.insert(key.into(), Value::from(text.as_str()));
            }
        }
        event.properties = Some(Value::Object(properties));
        let event = circumstances(access, &scene, &input.target).around(event);
        only(events::record_in(tx, access.env, &[event]).await?)
    })
    .await
}

/// The instant of an action and the zone in which calendar steps are made.
struct Moment {
    now: Time,
    zone: jiff::tz::TimeZone,
}

/// Does what changes the state of an active card: `plan` says what becomes of it, or refuses.
async fn act(
    app: &App,
    access: &SdkAccess,
    target: &Target,
    plan: impl FnOnce(CardInstance, &Moment) -> Result<Transition>,
) -> Result<Acted> {
    check_local_timestamp(target.local_timestamp.as_deref())?;
    app.transact(async |tx| {
        let (scene, card) = enter_in(tx, access, target).await?;
        let zone = crate::cards::scene::zone_of(tx.conn(), access.env, &scene.customer).await?;
        let transition = plan(card, &Moment { now: tx.now(), zone })?;
        let around = circumstances(access, &scene, target);
        only(transition::apply_in(tx, access.env, &[transition], &around).await?)
    })
    .await
}

/// Finds the card in the container and locks it. It must be active, and its expiry must not be due.
async fn enter_in(tx: &mut Tx, access: &SdkAccess, target: &Target) -> Result<(Scene, CardInstance)> {
    let scene = Scene::enter(tx.conn(), access, target.container, tx.now()).await?;
    let card = instance::find_locked(tx.conn(), access.env, target.card).await?;
    let card = card.ok_or_else(|| Error::not_found("card"))?;
    if !scene.shows(tx.conn(), &card).await? {
        return Err(Error::not_found("card"));
    }
    let expired = card.expires_at.is_some_and(|expires| expires <= tx.now());
    if card.status != Status::Active || expired {
        let state = if card.status == Status::Active { Status::Expired } else { card.status };
        return Err(Error::new(Code::CardClosed, format!("the card is {state}")));
    }
    Ok((scene, card))
}

/// When a snooze ends, and the interval in the words in which it was given.
fn snooze_end<'a>(card: &'a CardInstance, input: &'a SnoozeCard, moment: &Moment) -> Result<(Time, Option<&'a str>)> {
    let (pointer, until, interval) = match (&input.interval, input.until) {
        (Some(_), Some(_)) => {
            return Err(Error::new(Code::BadRequest, "give interval or until, not both").at("/until"));
        }
        (Some(interval), None) => ("/interval", ends(interval, moment)?, Some(interval.as_str())),
        (None, Some(until)) => ("/until", until, None),
        (None, None) => match &card.snooze_interval {
            Some(interval) => ("/interval", ends(interval, moment)?, Some(interval.as_str())),
            None => return Err(Error::invalid("/interval", "give interval or until")),
        },
    };
    if until <= moment.now {
        return Err(Error::invalid(pointer, "a snooze must end in the future"));
    }
    if card.expires_at.is_some_and(|expires| until >= expires) {
        return Err(Error::invalid(pointer, "a snooze must end before the card expires"));
    }
    Ok((until, interval))
}

fn ends(interval: &str, moment: &Moment) -> Result<Time> {
    let period = Period::parse(interval).map_err(|error| error.at("/interval"))?;
    Ok(period.after(moment.now, &moment.zone))
}

fn circumstances(access: &SdkAccess, scene: &Scene, target: &Target) -> Circumstances {
    let context = EventContext {
        ip: access.info.address.map(|address| address.to_string()),
        action_source: target.source.map(|source| source.word().to_owned()),
        user_local_timestamp: target.local_timestamp.clone(),
    };
    Circumstances { context: Some(context), sdk: Some(scene.sdk_context(access)), stream: Some(scene.stream_context()) }
}

fn only(recorded: Vec<Recorded>) -> Result<Acted> {
    recorded.into_iter().next().ok_or_else(|| Error::internal("an action made no event"))
}
