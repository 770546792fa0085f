//! What a token's step is about to do, decided from what was loaded and without touching the database.

use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

use super::claim::Token;
use super::load::World;
use super::settle::Outcome;
use crate::cards::deliver::{Order, Origin};
use crate::cards::options::{self, CardOptions, Moment};
use crate::cards::render;
use crate::clock::Time;
use crate::customers::change::Change;
use crate::customers::profile::Customer;
use crate::error::{Error, Result};
use crate::events::NewEvent;
use crate::flows::condition::instant;
use crate::flows::context::{Scope, zone_of};
use crate::flows::effect::{Effect, Intent, SUCCEEDED};
use crate::flows::notification::Draft;
use crate::flows::run::{Run, RunStatus};
use crate::flows::step::{
    Action, Body, CancelCards, CardAction, FAILURE_PATH, MATCHED_PATH, SUCCESS_PATH, SendCard, SendEvent,
    SendNotification, SendRequest, TIMEOUT_PATH, UpdateCustomer, Wait,
};
use crate::ids::{CardId, Id, RunId};

/// The most bytes of the properties of a custom event.
const MOST_PROPERTIES: usize = 32 * 1024;

/// What a step comes to before the round has carried it out.
pub(super) struct Plan<'w> {
    pub work: Work<'w>,
    /// What the step was given, for the history of the run.
    pub input: Option<Value>,
}

/// What is left to do for a step.
pub(super) enum Work<'w> {
    Settled(Outcome),
    Card(Box<Order<'w>>),
    /// The steps whose cards are to be cancelled.
    Withdraw(Vec<(RunId, String)>),
    Update(String, Change),
    Event(Box<NewEvent>),
    Request(Box<Intent>),
    Notify(Box<Draft>),
}

impl<'w> From<Outcome> for Plan<'w> {
    fn from(outcome: Outcome) -> Plan<'w> {
        Plan { work: Work::Settled(outcome), input: None }
    }
}

/// A step that fails because of what it says or was given; an error proper is a defect of ours.
fn failed<'w>(message: impl Into<String>) -> Plan<'w> {
    Outcome::Failed(message.into()).into()
}

/// Decides what a token's step does. An error is a defect; what a step may get wrong is an [`Outcome::Failed`].
pub(super) fn plan<'w>(world: &'w World, token: &Token, now: Time) -> Result<Plan<'w>> {
    let run = world.runs.get(&token.run_id).ok_or_else(|| Error::internal("a token lost its run"))?;
    if run.status != RunStatus::Running {
        return Ok(Outcome::Dropped.into());
    }
    let graph = world.graphs.get(&run.batch_id);
    let step = graph.and_then(|graph| graph.step(&token.step_key));
    let step = step.ok_or_else(|| Error::internal("a token names a step that its flow does not have"))?;
    match &step.action {
        Action::End => return Ok(Outcome::Ended.into()),
        Action::SendRequest(request) => {
            if let Some(effect) = world.effect(run, &step.key) {
                let handled = graph.is_some_and(|graph| graph.after(&step.key, Some(FAILURE_PATH)).next().is_some());
                return Ok(answered(request, effect, handled).into());
            }
        }
        Action::Wait(Wait::Duration(_) | Wait::Until(_)) if token.waited() => {
            return Ok(Outcome::Done { output: json!({}), path: None }.into());
        }
        _ => {}
    }
    let Some(customer) = world.customers.get(&run.customer_id) else {
        return Ok(failed("the customer does not exist any more"));
    };
    let seen = Seen { world, run, customer, now };
    match &step.action {
        Action::SendCard(card) => seen.order(card, &step.key),
        Action::SendNotification(notification) => seen.notify(notification, &step.key),
        Action::Wait(Wait::CardAction(wait)) => seen.listen(wait, token),
        Action::Wait(wait) => seen.asleep(wait).map(Plan::from),
        Action::Branch(branch) => Ok(match branch.decide(&seen.context()?, now) {
            Ok(path) => Outcome::Done { output: json!({ "path": path }), path: Some(path.to_owned()) }.into(),
            Err(error) => failed(reason(&error)),
        }),
        Action::SendRequest(request) => seen.request(request, &step.key),
        Action::UpdateCustomer(update) => seen.update(update),
        Action::SendEvent(event) => seen.event(event),
        Action::CancelCards(cancel) => {
            let keys: Vec<&str> = match cancel {
                CancelCards::All => graph.into_iter().flat_map(|graph| graph.card_steps()).collect(),
                CancelCards::Steps(keys) => keys.iter().map(String::as_str).collect(),
            };
            let steps = keys.into_iter().map(|key| (run.id, key.to_owned())).collect();
            Ok(Plan { work: Work::Withdraw(steps), input: None })
        }
        Action::End => Ok(Outcome::Ended.into()),
    }
}

/// The variables of a run: its own, or those of its start.
pub(in crate::flows) fn variables<'w>(world: &'w World, run: &'w Run) -> Result<&'w Map<String, Value>> {
    let variables = match &run.variables {
        Some(own) => own,
        None => &world.requests.start(run)?.variables,
    };
    variables.as_object().ok_or_else(|| Error::internal("the variables of a run are not an object"))
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
        let value = match fill(given, &context) {
            Ok(value) => value,
            Err(error) => return Ok(Err(format!("variable `{name}`: {}", reason(&error)))),
        };
        // A mapping that comes to nothing leaves the run's variable of that name in force.
        if !value.is_null() {
            variables.insert(name.clone(), value);
        }
    }
    Ok(Ok((variables, context)))
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

/// A value with the expressions in its texts evaluated.
pub(super) fn fill(given: &Value, context: &render::Context) -> Result<Value> {
    Ok(match given {
        Value::String(text) => render::value(text, context)?,
        Value::Array(items) => Value::Array(items.iter().map(|item| fill(item, context)).collect::<Result<_>>()?),
        Value::Object(fields) => Value::Object(
            fields.iter().map(|(name, field)| Ok((name.clone(), fill(field, context)?))).collect::<Result<_>>()?,
        ),
        plain => plain.clone(),
    })
}

/// What is wrong, in one line.
pub(in crate::flows) fn reason(error: &Error) -> String {
    error.violations().iter().map(|violation| violation.detail.as_str()).collect::<Vec<_>>().join("; ")
}

/// What a request that was committed to has come to. A failure that no step handles is the step's own.
fn answered(request: &SendRequest, effect: &Effect, handled: bool) -> Outcome {
    let Some(outcome) = effect.outcome.as_ref().filter(|_| effect.over()) else { return Outcome::Acting };
    let mut output = outcome.as_object().cloned().unwrap_or_default();
    let body = output.get("body").cloned().unwrap_or_default();
    for (name, path) in &request.response {
        let found = path.query(&body).all();
        let value = match found.as_slice() {
            [] => Value::Null,
            [one] => (*one).clone(),
            many => Value::Array(many.iter().map(|value| (*value).clone()).collect()),
        };
        output.insert(name.clone(), value);
    }
    let told = match (output.get("status").and_then(Value::as_u64), output.get("error").and_then(Value::as_str)) {
        (_, Some(error)) => format!("the request failed: {error}"),
        (Some(status), None) => format!("the request was answered with {status}"),
        (None, None) => "the request failed".to_owned(),
    };
    let output = Value::Object(output);
    match (&*effect.status, handled) {
        (SUCCEEDED, _) => Outcome::Done { output, path: Some(SUCCESS_PATH.to_owned()) },
        (_, true) => Outcome::Done { output, path: Some(FAILURE_PATH.to_owned()) },
        (_, false) => Outcome::Failed(told),
    }
}

/// What a step can see.
struct Seen<'w> {
    world: &'w World,
    run: &'w Run,
    customer: &'w Customer,
    now: Time,
}

impl<'w> Seen<'w> {
    fn context(&self) -> Result<render::Context> {
        Ok(scope(self.world, self.run, self.customer)?.context())
    }

    fn zone(&self) -> TimeZone {
        zone_of(self.customer, &self.world.zone)
    }

    /// The card that another step of the run has sent.
    fn card(&self, step: &str) -> Option<CardId> {
        let output = self.world.output(self.run, step)?;
        CardId::parse(output.get("cardInstanceId")?.as_str()?).ok()
    }

    fn order(&self, card: &SendCard, key: &str) -> Result<Plan<'w>> {
        // A run that was moved to another version may come by here again. It keeps the card it has.
        if self.card(key).is_some() {
            let output = self.world.output(self.run, key).cloned().unwrap_or_default();
            return Ok(Outcome::Done { output, path: None }.into());
        }
        let Some(pinned) = self.world.template(self.run, card.template) else {
            return Ok(failed(format!("the card template {} cannot be used", card.template)));
        };
        let (variables, context) = match card_variables(self.world, self.run, self.customer, card)? {
            Ok(mapped) => mapped,
            Err(message) => return Ok(failed(message)),
        };
        let mapped = card.variables.keys().filter_map(|name| Some((name.clone(), variables.get(name)?.clone())));
        let input = (!card.variables.is_empty()).then(|| json!({ "variables": mapped.collect::<Map<_, _>>() }));
        let run = self.run;
        let start = self.world.requests.start(run)?;
        let part = |name: &str| start.payload.get(name).cloned().unwrap_or_default();
        let requested = CardOptions::parse(&part("cardOptions"), "")?;
        let zone = self.zone();
        let accepted_at = self.world.requests.batch(run)?.accepted_at;
        let moment = Moment { accepted_at, now: self.now, zone: &zone };
        let order = Order {
            customer: self.customer,
            pinned,
            variables,
            context,
            options: options::effective(&requested, &card.options, &pinned.content.delivery().options, &moment),
            send_notifications: card.send_notifications,
            origin: Origin {
                lifecycle: run.lifecycle_id,
                flow: run.flow_id,
                flow_version: run.flow_version,
                run: run.id,
                invocation: run.invocation.clone(),
                source: self.world.requests.source(run),
                is_test: run.is_test,
                detail: part("variables"),
                notification_detail: part("notificationDetail"),
                metadata: part("metadata"),
                card_options: part("cardOptions"),
            },
            step_key: key.to_owned(),
        };
        Ok(Plan { work: Work::Card(Box::new(order)), input })
    }

    fn notify(&self, notification: &SendNotification, key: &str) -> Result<Plan<'w>> {
        let context = self.context()?;
        let texts = render::text(&notification.title, &context)
            .and_then(|title| Ok((title, render::text(&notification.body, &context)?)))
            .and_then(|(title, body)| Ok((title, body, fill(&Value::Object(notification.detail.clone()), &context)?)));
        let (title, body, detail) = match texts {
            Ok(texts) => texts,
            Err(error) => return Ok(failed(reason(&error))),
        };
        let card = notification.card_step.as_deref().and_then(|step| self.card(step));
        let draft = Draft {
            run: self.run.id,
            step_key: key.to_owned(),
            customer: self.customer.id,
            title,
            body,
            detail,
            containers: notification.containers.clone(),
            card,
            is_test: self.run.is_test,
        };
        let input = json!({ "title": draft.title, "body": draft.body, "detail": draft.detail });
        Ok(Plan { work: Work::Notify(Box::new(draft)), input: Some(input) })
    }

    /// Renders a request. It is made after the commit.
    fn request(&self, request: &SendRequest, key: &str) -> Result<Plan<'w>> {
        let context = self.context()?;
        let rendered = || -> Result<Intent> {
            let mut headers = Vec::with_capacity(request.headers.len() + 1);
            for (name, template) in &request.headers {
                headers.push((name.clone(), render::text(template, &context)?));
            }
            let body = match &request.body {
                None => None,
                Some(Body::Text(template)) => Some(("text/plain; charset=utf-8", render::text(template, &context)?)),
                Some(Body::Json(json)) => Some(("application/json", fill(json, &context)?.to_string())),
            };
            if let Some((kind, _)) = &body
                && !headers.iter().any(|(name, _)| name == "content-type")
            {
                headers.push(("content-type".to_owned(), (*kind).to_owned()));
            }
            Ok(Intent {
                run: self.run.id,
                step_key: key.to_owned(),
                method: request.method.to_string(),
                url: render::url(&request.url, &context)?,
                headers: json!(headers),
                body: body.map(|(_, body)| body),
                timeout_seconds: request.timeout_seconds,
                credential: request.credential,
            })
        };
        match rendered() {
            Ok(intent) => Ok(Plan { work: Work::Request(Box::new(intent)), input: None }),
            Err(error) => Ok(failed(reason(&error))),
        }
    }

    fn update(&self, update: &UpdateCustomer) -> Result<Plan<'w>> {
        let context = self.context()?;
        let mut profile = Map::new();
        for (name, given) in &update.profile {
            let text = match given {
                Value::String(template) => render::text(template, &context).map(Value::String),
                _ => Ok(Value::Null),
            };
            match text {
                Ok(text) => profile.insert(name.clone(), text),
                Err(error) => return Ok(failed(format!("{name}: {}", reason(&error)))),
            };
        }
        let input = Some(json!({ "profile": profile }));
        match Change::of_profile(profile) {
            Ok(change) => Ok(Plan { work: Work::Update(self.customer.user_id.clone(), change), input }),
            Err(error) => {
                let told = error.violations().iter().map(|fault| {
                    let field = fault.pointer.as_deref().unwrap_or_default().trim_start_matches('/');
                    format!("{field}: {}", fault.detail)
                });
                Ok(failed(told.collect::<Vec<_>>().join("; ")))
            }
        }
    }

    fn event(&self, event: &SendEvent) -> Result<Plan<'w>> {
        let properties = match fill(&Value::Object(event.properties.clone()), &self.context()?) {
            Ok(properties) => properties,
            Err(error) => return Ok(failed(reason(&error))),
        };
        if properties.to_string().len() > MOST_PROPERTIES {
            return Ok(failed(format!("the properties take more than {} KiB", MOST_PROPERTIES / 1024)));
        }
        let input = json!({ "eventName": event.name, "properties": properties });
        let mut new = NewEvent::custom(event.name.clone(), self.customer.id, &self.customer.user_id);
        new.properties = Some(properties);
        new.platform = self.world.requests.platform(self.run);
        Ok(Plan { work: Work::Event(Box::new(new)), input: Some(input) })
    }

    /// A wait that has just been reached. A time in the past is no wait.
    fn asleep(&self, wait: &Wait) -> Result<Outcome> {
        let zone = self.zone();
        let until = match wait {
            Wait::Duration(period) => period.after(self.now, &zone),
            Wait::Until(template) => {
                let text = match render::text(template, &self.context()?) {
                    Ok(text) => text,
                    Err(error) => return Ok(Outcome::Failed(format!("until: {}", reason(&error)))),
                };
                match instant(&text, &zone) {
                    Some(until) => until,
                    None => return Ok(Outcome::Failed("until: is not a date or date-time".to_owned())),
                }
            }
            Wait::CardAction(_) => return Err(Error::internal("a wait for a card is no timer")),
        };
        let over = Outcome::Done { output: json!({}), path: None };
        Ok(if until <= self.now { over } else { Outcome::Asleep(until) })
    }

    /// A wait for what the customer does with a card.
    ///
    /// The first time the token only says for which card it waits. Once that is committed, whoever reads events
    /// finds it, and what happened before is looked up here: so nothing falls between.
    fn listen(&self, wait: &CardAction, token: &Token) -> Result<Plan<'w>> {
        let Some(card) = token.wait_card else {
            let Some(card) = self.card(&wait.step) else {
                return Ok(failed(format!("the step `{}` has sent no card", wait.step)));
            };
            return Ok(Outcome::Listening { card, until: wait.timeout.after(self.now, &self.zone()) }.into());
        };
        let mut closed = false;
        for past in self.world.actions(card) {
            closed |= past.closes();
            if wait.events.contains(&past.name) && self.fits(wait, &past.envelope)? {
                let output = json!({ "event": past.name, "eventId": past.envelope.get("id"), "reason": "matched" });
                return Ok(Outcome::Done { output, path: Some(MATCHED_PATH.to_owned()) }.into());
            }
        }
        let until = token.wait_until.unwrap_or(self.now);
        let reason = match closed {
            true => "closed",
            false if until <= self.now => "timeout",
            false => return Ok(Outcome::Listening { card, until }.into()),
        };
        let output = json!({ "event": null, "reason": reason });
        Ok(Outcome::Done { output, path: Some(TIMEOUT_PATH.to_owned()) }.into())
    }

    fn fits(&self, wait: &CardAction, envelope: &Map<String, Value>) -> Result<bool> {
        let button = envelope.get("properties").and_then(|properties| properties.get("buttonName"));
        if wait.button.as_deref().is_some_and(|wanted| button.and_then(Value::as_str) != Some(wanted)) {
            return Ok(false);
        }
        let Some(filter) = &wait.filter else { return Ok(true) };
        let context = self.context()?.with_variables(envelope);
        // A condition that cannot be evaluated for an event is not met by it.
        Ok(filter.holds(&context, self.now).unwrap_or(false))
    }
}
