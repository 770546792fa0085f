//! What a transaction of the engine has come to so far: steps that are settled, and cards that are drawn.

use serde_json::json;

use super::execute::Kind;
use super::settle::{Outcome, Settled};
use crate::cards::deliver::{Delivery, Order};
use crate::db::Tx;
use crate::ids::EnvId;

/// The most cards of an environment that one transaction makes: each locks a feed until the commit.
const MOST_CARDS: usize = 400;

/// What a transaction has come to in one environment.
pub(super) struct Advance {
    pub settled: Vec<Settled>,
    pub delivery: Delivery,
    /// The kind of its work, once a step has decided it.
    pub kind: Option<Kind>,
    /// Further cards that steps may send which go along.
    cards: usize,
}

impl Advance {
    pub fn new(kind: Option<Kind>) -> Advance {
        Advance { settled: Vec::new(), delivery: Delivery::default(), kind, cards: MOST_CARDS }
    }

    /// Sends no card: that is left to later rounds.
    pub fn without_cards() -> Advance {
        Advance { cards: 0, ..Advance::new(None) }
    }

    /// Tells whether the transaction does work of this kind. The first that is asked for decides.
    pub fn is_of(&mut self, kind: Kind) -> bool {
        *self.kind.get_or_insert(kind) == kind
    }

    /// Tells whether a step that goes along may send a card.
    pub fn has_room(&mut self) -> bool {
        self.cards > 0 && self.is_of(Kind::Deliver)
    }

    /// Draws a card.
    pub fn draw(&mut self, tx: &Tx, env: EnvId, order: Order<'_>) -> Outcome {
        self.cards = self.cards.saturating_sub(1);
        match self.delivery.draw(tx, env, order) {
            Ok(card) => {
                let output = json!({ "cardInstanceId": card.id, "status": card.status.word() });
                Outcome::Done { output, path: None }
            }
            Err(message) => Outcome::Failed(message),
        }
    }
}
