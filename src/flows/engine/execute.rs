//! Executes steps for many runs at once: all changes of one kind together.
//!
//! Cards, customers and feeds are locked in one order everywhere (see `cards`). A round that delivered cards and then
//! changed customers would lock against that order, so a round does one kind of such work: that of its first step
//! with any. The other steps stay as they are, and the next round finds them.

use serde_json::json;

use super::advance::Advance;
use super::claim::Token;
use super::load::World;
use super::plan::{Plan, Work, plan};
use super::settle::{Outcome, Settled};
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
struct Sorted {
    withdrawals: Vec<(usize, Vec<(crate::ids::RunId, String)>)>,
    updates: (Vec<usize>, Vec<(String, change::Change)>),
    events: (Vec<usize>, Vec<events::NewEvent>),
    requests: (Vec<usize>, Vec<effect::Intent>),
    notifications: (Vec<usize>, Vec<notification::Draft>),
}

/// Executes the steps of tokens, as far as the kind of the round, which the first step with any decides, lets them.
/// Cards are drawn, and not placed yet.
pub(super) async fn all_in(
    tx: &mut Tx,
    env: EnvId,
    world: &World,
    tokens: Vec<Token>,
    advance: &mut Advance,
) -> Result<()> {
    let mut settled: Vec<Option<Outcome>> = Vec::with_capacity(tokens.len());
    let mut inputs = Vec::with_capacity(tokens.len());
    let mut sorted = Sorted::default();
    for (place, token) in tokens.iter().enumerate() {
        let Plan { work, input } = plan(world, token, tx.now())?;
        let fits = work.kind().is_none_or(|kind| advance.is_of(kind));
        settled.push(match work {
            _ if !fits => Some(Outcome::Deferred),
            Work::Settled(outcome) => Some(outcome),
            Work::Card(order) => Some(advance.draw(tx, env, *order)),
            work => {
                sorted.take(place, work);
                None
            }
        });
        inputs.push(input);
    }
    sorted.carry_out_in(tx, env, &mut settled).await?;
    for ((token, outcome), input) in tokens.into_iter().zip(settled).zip(inputs) {
        let outcome = outcome.ok_or_else(|| Error::internal("a step has no outcome"))?;
        advance.settled.push(Settled::new(tx, token, outcome, input));
    }
    Ok(())
}

impl Sorted {
    fn take(&mut self, place: usize, work: Work<'_>) {
        match work {
            Work::Settled(_) | Work::Card(_) => {}
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
        Ok(())
    }
}
