//! Delivery: an order for a card becomes a card, its event and a change of the feed (specification 6.1).
//!
//! A card is drawn in memory, so that whoever ordered it can go on; all cards of a [`Delivery`] are placed together,
//! with a fixed number of statements and the locks of their feeds taken once. A card that cannot be drawn is a
//! `card-error` and nothing else.

mod insert;

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::cards::feed_change::{self, FeedChange, Op};
use crate::cards::instance::CardInstance;
use crate::cards::lifecycle::Status;
use crate::cards::options::Options;
use crate::cards::placement;
use crate::cards::render::Rendered;
use crate::cards::version::Pinned;
use crate::cards::{render, variable};
use crate::clock::Time;
use crate::customers::Customer;
use crate::customers::activity::{self, CardActivity};
use crate::db::Tx;
use crate::error::{Error, Result};
use crate::events::{CardContext, NewEvent, PlatformContext, TriggerSource};
use crate::ids::{CardId, CustomerId, EnvId, EventId, FlowId, LifecycleId, RunId, StreamId};

/// A card that shall be made.
pub struct Order<'a> {
    pub customer: &'a Customer,
    pub pinned: &'a Pinned,
    /// What the step gives for the template's variables; defaults and types are seen to here.
    pub variables: Map<String, Value>,
    pub context: render::Context,
    /// The options that hold: see [`crate::cards::options::effective`].
    pub options: Options,
    /// Whether devices are told of the card, where the step decides and not the template.
    pub send_notifications: Option<bool>,
    pub origin: Origin,
    /// The step of the run: it has one card.
    pub step_key: String,
}

/// Where an order comes from.
#[derive(Clone, Debug)]
pub struct Origin {
    pub lifecycle: LifecycleId,
    pub flow: FlowId,
    pub flow_version: i32,
    pub run: RunId,
    pub invocation: String,
    pub source: TriggerSource,
    pub is_test: bool,
    /// The variables that the start request supplied.
    pub detail: Value,
    pub notification_detail: Value,
    pub metadata: Value,
    /// The `cardOptions` of the start request, as they were given.
    pub card_options: Value,
}

/// Cards that are made together.
#[derive(Default)]
pub(crate) struct Delivery {
    cards: Vec<Drawn>,
    /// What became of orders that no card could be drawn for.
    errors: Vec<NewEvent>,
}

/// A card that has no row yet.
struct Drawn {
    card: CardInstance,
    /// The event that will tell of it: it sorts by when the card was drawn.
    event: EventId,
}

impl Delivery {
    /// Draws the card of an order, and gives its id and status. The error is the message of its `card-error`.
    pub fn draw(&mut self, tx: &Tx, env: EnvId, order: Order<'_>) -> Result<(CardId, Status), String> {
        let event = tx.id();
        match assemble(tx, env, order) {
            Ok(card) => {
                let drawn = (card.id, card.status);
                self.cards.push(Drawn { card, event });
                Ok(drawn)
            }
            Err(refusal) => {
                self.errors.push(refusal.event(event));
                Err(refusal.message)
            }
        }
    }

    /// Writes the cards and the changes of the feeds they appear in, and gives the events that tell of them: the caller
    /// records them with its own.
    ///
    /// Takes the locks of those feeds and holds them to the commit, so it comes late in a transaction, and once.
    pub async fn place_in(self, tx: &mut Tx, env: EnvId) -> Result<Vec<NewEvent>> {
        let Delivery { mut cards, errors } = self;
        let drawn: Vec<&CardInstance> = cards.iter().map(|drawn| &drawn.card).collect();
        let mut streams = placement::streams_of(tx.conn(), env, &drawn).await?;
        let mut events = errors;
        events.extend(cards.iter().map(|drawn| drawn.created(streams.remove(&drawn.card.id).unwrap_or_default())));
        let active = || drawn.iter().filter(|card| card.status == Status::Active);
        let published: BTreeSet<CustomerId> = active().map(|card| card.customer_id).collect();
        let changes =
            active().map(|card| FeedChange { customer: card.customer_id, card: card.id, op: Op::Publish }).collect();
        activity::note_cards_in(tx, env, published.into_iter().collect(), CardActivity::Published).await?;
        let versions = feed_change::advance_in(tx, env, changes).await?;
        for Drawn { card, .. } in cards.iter_mut().filter(|drawn| drawn.card.status == Status::Active) {
            card.feed_version = versions.get(&card.customer_id).copied().unwrap_or_default();
        }
        insert::cards_in(tx, env, &cards).await?;
        Ok(events)
    }
}

/// Renders the card of an order.
fn assemble<'a>(tx: &Tx, env: EnvId, order: Order<'a>) -> Result<CardInstance, Box<Refusal<'a>>> {
    let Order { customer, pinned, variables, context, options, send_notifications, origin, step_key } = order;
    let now = tx.now();
    let content = &pinned.content;
    let send_notifications = send_notifications.unwrap_or(content.notification().send);
    let drawn = refuse_expired(&options, now).and_then(|()| draw(customer, pinned, &variables, context));
    let (variables, rendered) = match drawn {
        Ok(drawn) => drawn,
        Err(message) => {
            return Err(Box::new(Refusal { customer, pinned, options, send_notifications, origin, message }));
        }
    };
    let (definition, runtime_variables) = rendered.into_parts();
    let status = if options.embargo.is_some() { Status::Embargoed } else { Status::Active };
    let active = (status == Status::Active).then_some(now);
    Ok(CardInstance {
        environment_id: env,
        id: tx.id(),
        customer_id: customer.id,
        user_id: customer.user_id.clone(),
        template_id: pinned.template,
        template_name: pinned.name.clone(),
        template_version: pinned.version,
        send_notifications,
        lifecycle_id: origin.lifecycle,
        flow_id: origin.flow,
        flow_version: origin.flow_version,
        run_id: origin.run,
        step_key,
        invocation: origin.invocation,
        trigger_source: word(origin.source),
        is_test: origin.is_test,
        status,
        priority: options.priority,
        stream_ids: options.stream_ids,
        target_platforms: options.platforms.iter().map(ToString::to_string).collect(),
        embargo_at: options.embargo,
        expires_at: options.expires,
        unsnooze_at: None,
        due_at: None,
        published_at: active,
        active_since: active,
        closed_at: None,
        snooze_interval: content.delivery().snooze_interval.clone(),
        definition,
        runtime_variables,
        variables: Value::Object(variables),
        detail: origin.detail,
        metadata: origin.metadata,
        notification_detail: origin.notification_detail,
        card_options: origin.card_options,
        response: None,
        button_name: None,
        unseen: true,
        feed_version: 0,
        created_at: now,
        updated_at: now,
    })
}

/// Refuses a card that would never be seen. The error is the message of its `card-error`.
pub(crate) fn refuse_expired(options: &Options, now: Time) -> Result<(), String> {
    match options.expires {
        Some(expires) if expires <= now => Err("the card would have expired before it was made".to_owned()),
        _ => Ok(()),
    }
}

/// The values of a card's variables, and the card as the customer sees it. The error is the message of its
/// `card-error`.
pub(crate) fn draw(
    customer: &Customer,
    pinned: &Pinned,
    variables: &Map<String, Value>,
    context: render::Context,
) -> Result<(Map<String, Value>, Rendered), String> {
    let content = &pinned.content;
    let personal = content.variables().iter().any(|variable| variable.profile_field.is_some());
    let profile = if personal { customer.profile() } else { Map::new() };
    let variables = variable::resolve(content.variables(), variables, &profile).map_err(|error| message(&error))?;
    let context = context.with_variables(&variables);
    let rendered = render::card(content, &context).map_err(|error| message(&error))?;
    Ok((variables, rendered))
}

/// What is wrong, in one line; several faults are joined.
pub(super) fn message(error: &Error) -> String {
    let line = |violation: &crate::error::Violation| match &violation.pointer {
        Some(pointer) if !pointer.is_empty() => format!("{} at {pointer}", violation.detail),
        _ => violation.detail.clone(),
    };
    error.violations().iter().map(line).collect::<Vec<_>>().join("; ")
}

fn word(source: TriggerSource) -> String {
    serde_json::to_value(source).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Why there is no card, and for what order.
struct Refusal<'a> {
    customer: &'a Customer,
    pinned: &'a Pinned,
    options: Options,
    send_notifications: bool,
    origin: Origin,
    message: String,
}

impl Refusal<'_> {
    /// The `card-error`.
    fn event(&self, id: EventId) -> NewEvent {
        let Refusal { customer, pinned, options, send_notifications, origin, message } = self;
        let mut event = NewEvent::new("card-error", customer.id, customer.user_id.clone());
        event.id = Some(id);
        event.properties = Some(json!({ "message": message }));
        event.card = Some(CardContext {
            card_instance_id: None,
            card_instance_status: None,
            previous_status: None,
            card_template_id: pinned.template,
            card_template_name: pinned.name.clone(),
            card_template_version: pinned.version,
            card_template_settings: json!({"sendNotifications": send_notifications}),
            published_at: None,
        });
        event.platform = Some(PlatformContext {
            lifecycle_id: Some(origin.lifecycle),
            target_stream_ids: options.stream_ids.clone(),
            target_platforms: Some(options.platforms.iter().map(ToString::to_string).collect()),
            flow_instance_id: Some(origin.run),
            flow_invocation_id: Some(origin.invocation.clone()),
            flow_config_id: Some(origin.flow),
            flow_version: Some(origin.flow_version),
            trigger_event_source: Some(origin.source),
            is_test: origin.is_test,
            event_detail: Some(origin.detail.clone()),
            event_notification_detail: Some(origin.notification_detail.clone()),
            payload_metadata: Some(origin.metadata.clone()),
        });
        event
    }
}

impl Drawn {
    /// The event of the card that is made.
    fn created(&self, streams: Vec<StreamId>) -> NewEvent {
        let card = &self.card;
        let mut event = match card.status {
            Status::Embargoed => {
                let mut event = card.event("card-embargoed", card.status, streams);
                event.properties = Some(json!({ "embargo": card.embargo_at }));
                event
            }
            _ => card.event("card-published", card.status, streams),
        };
        event.id = Some(self.event);
        event
    }
}
