//! What a customer does with a card.

use async_graphql::{Context, Enum, InputObject, Object, SimpleObject};

use crate::cards::action::{self, CompleteCard, DismissCard, SnoozeCard, Target, VoteCard};
use crate::cards::interact::{self, Acted};
use crate::clock::Time;
use crate::error::Result;
use crate::graphql::context::{app, sdk};
use crate::graphql::scalars::{Duration, JsonObject};
use crate::ids::{CardId, ContainerId, EventId};

#[derive(Default)]
pub struct ActionMutation;

/// The part of an app that the customer used.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "action::ActionSource")]
pub enum ActionSource {
    OverflowMenu,
    CardButton,
    Swipe,
    Api,
}

/// What a customer thinks of a card.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "action::Vote")]
pub enum VoteDirection {
    Up,
    Down,
}

/// Why a customer thinks ill of a card.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
pub enum VoteReason {
    NotRelevant,
    TooOften,
    Other,
}

impl VoteReason {
    fn word(self) -> &'static str {
        match self {
            VoteReason::NotRelevant => "not-relevant",
            VoteReason::TooOften => "too-often",
            VoteReason::Other => "other",
        }
    }
}

#[derive(InputObject)]
pub struct CompleteCardInput {
    container_id: ContainerId,
    card_id: CardId,
    /// The `name` of the submit button.
    button_name: String,
    /// The values of the form by the names of its inputs.
    values: Option<JsonObject>,
    /// The customer's own clock, with its offset.
    user_local_timestamp: Option<String>,
    source: Option<ActionSource>,
}

#[derive(InputObject)]
pub struct DismissCardInput {
    container_id: ContainerId,
    card_id: CardId,
    /// The customer's own clock, with its offset.
    user_local_timestamp: Option<String>,
    source: Option<ActionSource>,
}

#[derive(InputObject)]
pub struct SnoozeCardInput {
    container_id: ContainerId,
    card_id: CardId,
    /// How long; the template's own interval when neither this nor `until` is given.
    interval: Option<Duration>,
    until: Option<Time>,
    /// The customer's own clock, with its offset.
    user_local_timestamp: Option<String>,
    source: Option<ActionSource>,
}

#[derive(InputObject)]
pub struct VoteCardInput {
    container_id: ContainerId,
    card_id: CardId,
    direction: VoteDirection,
    /// Only with `DOWN`.
    reason: Option<VoteReason>,
    message: Option<String>,
    /// The customer's own clock, with its offset.
    user_local_timestamp: Option<String>,
    source: Option<ActionSource>,
}

/// An action that was done.
#[derive(SimpleObject)]
pub struct ActionPayload {
    ok: bool,
    event: ActionEvent,
}

/// The event that an action made.
#[derive(SimpleObject)]
pub struct ActionEvent {
    id: EventId,
    name: String,
    timestamp: Time,
}

impl From<Acted> for ActionPayload {
    fn from(event: Acted) -> ActionPayload {
        ActionPayload {
            ok: true,
            event: ActionEvent { id: event.id, name: event.name.into_owned(), timestamp: event.timestamp },
        }
    }
}

fn target(
    container: ContainerId,
    card: CardId,
    local_timestamp: Option<String>,
    source: Option<ActionSource>,
) -> Target {
    Target { container, card, local_timestamp, source: source.map(Into::into) }
}

#[Object]
impl ActionMutation {
    /// Answers a card with a submit button and the values of its form.
    async fn complete_card(&self, ctx: &Context<'_>, input: CompleteCardInput) -> Result<ActionPayload> {
        let complete = CompleteCard {
            target: target(input.container_id, input.card_id, input.user_local_timestamp, input.source),
            button_name: input.button_name,
            values: input.values.unwrap_or_default().0,
        };
        Ok(interact::complete(app(ctx)?, sdk(ctx)?, complete).await?.into())
    }

    /// Puts a card away for good.
    async fn dismiss_card(&self, ctx: &Context<'_>, input: DismissCardInput) -> Result<ActionPayload> {
        let target = target(input.container_id, input.card_id, input.user_local_timestamp, input.source);
        Ok(interact::dismiss(app(ctx)?, sdk(ctx)?, DismissCard { target }).await?.into())
    }

    /// Puts a card away until later.
    async fn snooze_card(&self, ctx: &Context<'_>, input: SnoozeCardInput) -> Result<ActionPayload> {
        let snooze = SnoozeCard {
            target: target(input.container_id, input.card_id, input.user_local_timestamp, input.source),
            interval: input.interval.map(Duration::into_text),
            until: input.until,
        };
        Ok(interact::snooze(app(ctx)?, sdk(ctx)?, snooze).await?.into())
    }

    /// Says what the customer thinks of a card. The card stays as it is.
    async fn vote_card(&self, ctx: &Context<'_>, input: VoteCardInput) -> Result<ActionPayload> {
        let vote = VoteCard {
            target: target(input.container_id, input.card_id, input.user_local_timestamp, input.source),
            direction: input.direction.into(),
            reason: input.reason.map(|reason| reason.word().to_owned()),
            message: input.message,
        };
        Ok(interact::vote(app(ctx)?, sdk(ctx)?, vote).await?.into())
    }
}
