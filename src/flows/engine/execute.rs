//! Executes steps: what a token's step does, for many runs at once.

use serde_json::{Map, Value, json};

use super::claim::Token;
use super::load::World;
use super::settle::Outcome;
use crate::cards::deliver::{self, Delivered, Order, Origin};
use crate::cards::options::{self, CardOptions, Moment};
use crate::cards::render;
use crate::clock::Time;
use crate::customers::profile::Customer;
use crate::db::Tx;
use crate::error::{Error, Result};
use crate::flows::context::{Scope, zone_of};
use crate::flows::run::{Run, RunStatus};
use crate::flows::step::{Action, SendCard, Wait};
use crate::ids::EnvId;

/// What a step comes to before the cards of the round are delivered.
enum Plan<'w> {
    Settled(Outcome),
    Card(Box<Order<'w>>),
}

/// Executes the steps of tokens. Cards of all runs are delivered together.
pub(super) async fn all_in(tx: &mut Tx, env: EnvId, world: &World, tokens: &[Token]) -> Result<Vec<(Token, Outcome)>> {
    let mut outcomes: Vec<Option<Outcome>> = Vec::with_capacity(tokens.len());
    let mut orders = Vec::new();
    for token in tokens {
        outcomes.push(match plan(world, token, tx.now())? {
            Plan::Settled(outcome) => Some(outcome),
            Plan::Card(order) => {
                orders.push(*order);
                None
            }
        });
    }
    let delivered = if orders.is_empty() { Vec::new() } else { deliver::deliver_in(tx, env, orders).await? };
    let mut delivered = delivered.into_iter().map(|delivered| match delivered {
        Delivered::Card(card) => Outcome::Done(json!({ "cardInstanceId": card.id, "status": card.status.word() })),
        Delivered::Failed(message) => Outcome::Failed(message),
    });
    let mut settled = Vec::with_capacity(tokens.len());
    for (token, outcome) in tokens.iter().zip(outcomes) {
        let outcome = outcome.or_else(|| delivered.next());
        let outcome = outcome.ok_or_else(|| Error::internal("an order for a card was not answered"))?;
        settled.push((token.clone(), outcome));
    }
    Ok(settled)
}

/// Decides what a token's step does. An error is a defect; what a step may get wrong is an [`Outcome::Failed`].
fn plan<'w>(world: &'w World, token: &Token, now: Time) -> Result<Plan<'w>> {
    let run = world.runs.get(&token.run_id).ok_or_else(|| Error::internal("a token lost its run"))?;
    if run.status != RunStatus::Running {
        return Ok(Plan::Settled(Outcome::Dropped));
    }
    if token.waited() {
        return Ok(Plan::Settled(Outcome::Done(Value::Object(Map::new()))));
    }
    let step = world.graphs.get(&run.batch_id).and_then(|graph| graph.step(&token.step_key));
    let step = step.ok_or_else(|| Error::internal("a token names a step that its flow does not have"))?;
    if step.action == Action::End {
        return Ok(Plan::Settled(Outcome::Ended));
    }
    let Some(customer) = world.customers.get(&run.customer_id) else {
        return Ok(Plan::Settled(Outcome::Failed("the customer does not exist any more".to_owned())));
    };
    let planned = match &step.action {
        Action::SendCard(card) => order(world, run, customer, card, (&step.key, now))?,
        Action::Wait(wait) => Plan::Settled(asleep(world, run, customer, wait, now)?),
        Action::End => Plan::Settled(Outcome::Ended),
    };
    Ok(planned)
}

/// The variables of a run: its own, or those of its start.
pub(in crate::flows) fn variables<'w>(world: &'w World, run: &'w Run) -> Result<&'w Map<String, Value>> {
    let variables = match &run.variables {
        Some(own) => own,
        None => &world.requests.start(run)?.variables,
    };
    variables.as_object().ok_or_else(|| Error::internal("the variables of a run are not an object"))
}

fn scope<'w>(world: &'w World, run: &'w Run, customer: &'w Customer) -> Result<Scope<'w>> {
    Ok(Scope {
        payload: &world.requests.start(run)?.payload,
        variables: variables(world, run)?,
        customer,
        steps: world.outputs(run),
        run,
        zone: &world.zone,
    })
}

/// What a `sendCard` step gives for the template's variables, and what expressions see. A mapping that cannot be
/// evaluated is the message of the inner error.
#[expect(clippy::type_complexity, reason = "two kinds of failure, and one place that tells them apart")]
pub(in crate::flows) fn card_variables(
    world: &World,
    run: &Run,
    customer: &Customer,
    card: &SendCard,
) -> Result<Result<(Map<String, Value>, render::Context), String>> {
    let context = scope(world, run, customer)?.context();
    let mut variables = variables(world, run)?.clone();
    for (name, given) in &card.variables {
        let value = match given {
            Value::String(text) => match render::value(text, &context) {
                Ok(value) => value,
                Err(error) => return Ok(Err(format!("variable `{name}`: {}", reason(&error)))),
            },
            other => other.clone(),
        };
        // A mapping that comes to nothing leaves the run's variable of that name in force.
        if !value.is_null() {
            variables.insert(name.clone(), value);
        }
    }
    Ok(Ok((variables, context)))
}

fn order<'w>(
    world: &'w World,
    run: &'w Run,
    customer: &'w Customer,
    card: &SendCard,
    (key, now): (&str, Time),
) -> Result<Plan<'w>> {
    let Some(pinned) = world.template(run, card.template) else {
        return Ok(Plan::Settled(Outcome::Failed(format!("the card template {} cannot be used", card.template))));
    };
    let (variables, context) = match card_variables(world, run, customer, card)? {
        Ok(mapped) => mapped,
        Err(message) => return Ok(Plan::Settled(Outcome::Failed(message))),
    };
    let start = world.requests.start(run)?;
    let part = |name: &str| start.payload.get(name).cloned().unwrap_or_default();
    let requested = CardOptions::parse(&part("cardOptions"), "")?;
    let zone = zone_of(customer, &world.zone);
    let moment = Moment { accepted_at: world.requests.batch(run)?.accepted_at, now, zone: &zone };
    Ok(Plan::Card(Box::new(Order {
        customer,
        pinned,
        variables,
        context,
        options: options::effective(&requested, &card.options, &pinned.content.delivery().options, &moment),
        origin: Origin {
            lifecycle: run.lifecycle_id,
            flow: run.flow_id,
            flow_version: run.flow_version,
            run: run.id,
            invocation: run.invocation.clone(),
            source: world.requests.source(run),
            is_test: run.is_test,
            detail: part("variables"),
            notification_detail: part("notificationDetail"),
            metadata: part("metadata"),
            card_options: part("cardOptions"),
        },
        dedupe: (run.id, key.to_owned()),
    })))
}

/// A wait that has just been reached. A time in the past is no wait.
fn asleep(world: &World, run: &Run, customer: &Customer, wait: &Wait, now: Time) -> Result<Outcome> {
    let zone = zone_of(customer, &world.zone);
    let until = match wait {
        Wait::Duration(period) => period.after(now, &zone),
        Wait::Until(template) => {
            let text = match render::text(template, &scope(world, run, customer)?.context()) {
                Ok(text) => text,
                Err(error) => return Ok(Outcome::Failed(format!("until: {}", reason(&error)))),
            };
            match instant(text.trim(), &zone) {
                Some(until) => until,
                None => return Ok(Outcome::Failed("until: is not a date or date-time".to_owned())),
            }
        }
    };
    Ok(if until <= now { Outcome::Done(Value::Object(Map::new())) } else { Outcome::Asleep(until) })
}

/// Reads a date-time, or a date, which begins at midnight where the customer is.
fn instant(text: &str, zone: &jiff::tz::TimeZone) -> Option<Time> {
    if let Ok(date) = text.parse::<jiff::civil::Date>()
        && text.len() <= "2026-01-01".len()
    {
        let midnight = date.to_zoned(zone.clone()).ok()?;
        return Some(Time::from_millisecond(midnight.timestamp().as_millisecond()));
    }
    Time::parse(text).ok()
}

fn reason(error: &Error) -> String {
    error.violations().iter().map(|violation| violation.detail.as_str()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_begins_at_midnight_where_the_customer_is() {
        let zone = jiff::tz::TimeZone::get("Pacific/Auckland").unwrap();
        let at = |text: &str| instant(text, &zone).map(|time| time.to_string());
        assert_eq!(at("2026-01-02").as_deref(), Some("2026-01-01T11:00:00.000Z"));
        assert_eq!(at("2026-01-02T00:00:00").as_deref(), Some("2026-01-02T00:00:00.000Z"));
        assert_eq!(at("2026-01-02T00:00:00+13:00").as_deref(), Some("2026-01-01T11:00:00.000Z"));
        assert_eq!(at("tomorrow"), None);
        assert_eq!(at(""), None);
    }
}
