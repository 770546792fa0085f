//! What a transaction of the engine has come to so far: steps that are settled, and cards that are drawn.

use std::collections::HashSet;

use serde_json::json;

use super::execute::Kind;
use super::settle::{Outcome, Settled};
use crate::cards::deliver::{Delivery, Order};
use crate::db::Tx;
use crate::ids::{EnvId, RunId};

/// The most cards that one transaction makes, but for those that were due: each locks a feed until the commit.
const MOST_CARDS: usize = 400;

/// What else a transaction may do, over all of its environments.
#[derive(Clone, Copy)]
pub(super) struct Room {
    /// The kind of its work, once a step has decided it.
    kind: Option<Kind>,
    /// Further cards that steps may send which go along.
    cards: usize,
}

impl Default for Room {
    fn default() -> Room {
        Room { kind: None, cards: MOST_CARDS }
    }
}

impl Room {
    /// Room for no card but those of steps that are due: the others are left to later rounds.
    pub fn for_due_steps() -> Room {
        Room { cards: 0, ..Room::default() }
    }
}

/// What a transaction has come to in one environment.
pub(super) struct Advance {
    pub settled: Vec<Settled>,
    pub delivery: Delivery,
    pub room: Room,
}

impl Advance {
    pub fn new(room: Room) -> Advance {
        Advance { settled: Vec::new(), delivery: Delivery::default(), room }
    }

    /// Tells whether the transaction does work of this kind. The first that is asked for decides.
    pub fn is_of(&mut self, kind: Kind) -> bool {
        *self.room.kind.get_or_insert(kind) == kind
    }

    /// Tells whether a step that goes along may send a card.
    pub fn has_room(&mut self) -> bool {
        self.room.cards > 0 && self.is_of(Kind::Deliver)
    }

    /// The runs that end in this round.
    pub fn ended(&self) -> HashSet<RunId> {
        let ended = self.settled.iter().filter(|settled| matches!(settled.outcome, Outcome::Ended));
        ended.map(|settled| settled.token.run_id).collect()
    }

    /// Draws a card.
    pub fn draw(&mut self, tx: &Tx, env: EnvId, order: Order<'_>) -> Outcome {
        self.room.cards = self.room.cards.saturating_sub(1);
        match self.delivery.draw(tx, env, order) {
            Ok((card, status)) => {
                let output = json!({ "cardInstanceId": card, "status": status.word() });
                Outcome::Done { output, path: None }
            }
            Err(message) => Outcome::Failed(message),
        }
    }
}
