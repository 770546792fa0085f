//! Executes steps for many runs at once: all changes of one kind together.
//!
//! Cards, customers and feeds are locked in one order everywhere (see `cards`). A round that delivered cards and then
//! changed customers would lock against that order, so a round does one kind of such work: that of its first step
//! with any. The other steps stay as they are, and the next round finds them.

use serde_json::json;

use super::claim::Token;
use super::load::World;
use super::plan::{Plan, Work, plan};
use super::settle::{Outcome, Settled};
use crate::cards::deliver::{self, Delivered};
use crate::cards::withdraw;
use crate::customers::change;
use crate::db::Tx;
use crate::error::{Error, Result};
use crate::events;
use crate::flows::{effect, notification};
use crate::ids::EnvId;

/// The locks that a round takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Deliver,
    Withdraw,
    Update,
}

impl Work<'_> {
    fn kind(&self) -> Option<Kind> {
        match self {
            Work::Card(_) => Some(Kind::Deliver),
            Work::Withdraw(_) => Some(Kind::Withdraw),
            Work::Update(..) => Some(Kind::Update),
            Work::Settled(_) | Work::Event(_) | Work::Request(_) | Work::Notify(_) => None,
        }
    }
}

/// The work of a round by kind, each with the place of its token.
#[derive(Default)]
struct Sorted<'w> {
    orders: (Vec<usize>, Vec<deliver::Order<'w>>),
    withdrawals: Vec<(usize, Vec<(crate::ids::RunId, String)>)>,
    updates: (Vec<usize>, Vec<(String, change::Change)>),
    events: (Vec<usize>, Vec<events::NewEvent>),
    requests: (Vec<usize>, Vec<effect::Intent>),
    notifications: (Vec<usize>, Vec<notification::Draft>),
}

/// Executes the steps of tokens, as far as `kind`, which the first step with any decides, lets them.
pub(super) async fn all_in(
    tx: &mut Tx,
    env: EnvId,
    world: &World,
    tokens: &[Token],
    kind: &mut Option<Kind>,
) -> Result<Vec<Settled>> {
    let mut settled: Vec<Option<Outcome>> = Vec::with_capacity(tokens.len());
    let mut inputs = Vec::with_capacity(tokens.len());
    let mut sorted = Sorted::default();
    for (place, token) in tokens.iter().enumerate() {
        let Plan { work, input } = plan(world, token, tx.now())?;
        let fits = match work.kind() {
            None => true,
            wanted => *kind.get_or_insert_with(|| wanted.unwrap_or(Kind::Deliver)) == wanted.unwrap_or(Kind::Deliver),
        };
        settled.push(if fits { sorted.take(place, work) } else { Some(Outcome::Deferred) });
        inputs.push(input);
    }
    sorted.carry_out_in(tx, env, &mut settled).await?;
    let settled = tokens.iter().zip(settled).zip(inputs).map(|((token, outcome), input)| {
        let outcome = outcome.ok_or_else(|| Error::internal("a step has no outcome"))?;
        Ok(Settled { token: token.clone(), outcome, input })
    });
    settled.collect()
}

impl<'w> Sorted<'w> {
    fn take(&mut self, place: usize, work: Work<'w>) -> Option<Outcome> {
        match work {
            Work::Settled(outcome) => return Some(outcome),
            Work::Card(order) => {
                self.orders.0.push(place);
                self.orders.1.push(*order);
            }
            Work::Withdraw(steps) => self.withdrawals.push((place, steps)),
            Work::Update(user_id, change) => {
                self.updates.0.push(place);
                self.updates.1.push((user_id, change));
            }
            Work::Event(event) => {
                self.events.0.push(place);
                self.events.1.push(*event);
            }
            Work::Request(intent) => {
                self.requests.0.push(place);
                self.requests.1.push(*intent);
            }
            Work::Notify(draft) => {
                self.notifications.0.push(place);
                self.notifications.1.push(*draft);
            }
        }
        None
    }

    async fn carry_out_in(self, tx: &mut Tx, env: EnvId, settled: &mut [Option<Outcome>]) -> Result<()> {
        let done = |output| Some(Outcome::Done { output, path: None });
        if !self.withdrawals.is_empty() {
            let wanted: Vec<_> = self.withdrawals.iter().flat_map(|(_, steps)| steps.clone()).collect();
            let withdrawn = withdraw::withdraw_in(tx, env, &wanted).await?;
            for (place, steps) in self.withdrawals {
                let cancelled = withdrawn.iter().filter(|step| steps.contains(step)).count();
                settled[place] = done(json!({ "cancelled": cancelled }));
            }
        }
        if !self.updates.1.is_empty() {
            change::update_in(tx, env, &self.updates.1).await?;
            self.updates.0.into_iter().for_each(|place| settled[place] = done(json!({})));
        }
        let recorded = events::record_in(tx, env, &self.events.1).await?;
        for (place, event) in self.events.0.into_iter().zip(recorded) {
            settled[place] = done(json!({ "eventId": event.id }));
        }
        effect::intend_in(tx, env, &self.requests.1).await?;
        self.requests.0.into_iter().for_each(|place| settled[place] = Some(Outcome::Acting));
        let ids = notification::record_in(tx, env, &self.notifications.1).await?;
        for (place, id) in self.notifications.0.into_iter().zip(ids) {
            settled[place] = done(json!({ "notificationId": id, "status": notification::PENDING }));
        }
        if !self.orders.1.is_empty() {
            let delivered = deliver::deliver_in(tx, env, self.orders.1).await?;
            for (place, delivered) in self.orders.0.into_iter().zip(delivered) {
                settled[place] = match delivered {
                    Delivered::Card(card) => done(json!({ "cardInstanceId": card.id, "status": card.status.word() })),
                    Delivered::Failed(message) => Some(Outcome::Failed(message)),
                };
            }
        }
        Ok(())
    }
}
