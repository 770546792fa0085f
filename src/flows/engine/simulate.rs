//! Simulation: what the draft of a flow would do for a customer, and when, without doing any of it.
//!
//! The steps are decided by the same [`plan`] as in earnest, on a world that exists in memory only; time is that of
//! the simulation, which goes from one thing that is due to the next. What the outside would answer is assumed:
//! requests are answered with 200 and customers do nothing, unless the caller says otherwise for a step. Nothing is
//! written: not a row, not an event, not a request.

use std::collections::HashMap;
use std::sync::Arc;

use diesel_async::AsyncPgConnection;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::assume::{Assumed, Assumptions, Happening};
use super::claim::{READY, Token, WAITING};
use super::load::{Batch, Requests, Start, World};
use super::plan::{Plan, Work, plan};
use super::settle::Outcome;
use crate::access::{Access, Level, Resource, environment};
use crate::app::App;
use crate::cards::deliver::{self, Order};
use crate::cards::variable;
use crate::cards::version as templates;
use crate::clock::Time;
use crate::customers::profile::{self, Customer};
use crate::error::{Error, Result};
use crate::events::TriggerSource;
use crate::flows::effect::{Effect, FAILED, Intent, SUCCEEDED};
use crate::flows::graph::Graph;
use crate::flows::reactions::Reaction;
use crate::flows::request::{Entry, StartRequest};
use crate::flows::run::{Run, RunStatus};
use crate::flows::{context, flow, version};
use crate::ids::{BatchId, CardId, EnvId, FlowId, LifecycleId, RunId, TemplateId};

/// What is asked of a simulation.
#[derive(Debug)]
pub struct Scenario {
    pub flow: FlowId,
    pub user_id: String,
    /// As in a start request.
    pub payload: Option<Value>,
    /// What happens later is not looked at.
    pub until: Time,
    /// What the outside is assumed to do, by the key of the step that learns of it.
    pub assume: Option<Value>,
}

/// What would happen.
#[derive(Debug)]
pub struct Simulation {
    /// `running` where something is still waited for at the end.
    pub status: RunStatus,
    /// In the order in which they end; those that wait come last.
    pub steps: Vec<SimulatedStep>,
}

/// A step that would be reached.
#[derive(Clone, Debug)]
pub struct SimulatedStep {
    pub key: String,
    pub kind: &'static str,
    /// `completed`, `failed` or `waiting`.
    pub status: &'static str,
    pub started_at: Time,
    /// Absent while it waits; then this is when it would go on by itself.
    pub finished_at: Option<Time>,
    pub wakes_at: Option<Time>,
    pub path: Option<String>,
    pub input: Option<Value>,
    pub output: Value,
    pub message: Option<String>,
    /// The card as the customer would see it.
    pub card: Option<Value>,
}

/// Plays the draft of a flow for a customer. Whoever may edit flows and see the customer may ask.
pub async fn simulate(app: &App, access: &Access, scenario: Scenario) -> Result<Simulation> {
    access.require(Resource::ActionFlow, Level::Edit)?;
    access.require(Resource::Customer, Level::View)?;
    let now = app.clock().now();
    if scenario.until < now {
        return Err(Error::invalid("/until", "lies in the past"));
    }
    let request = StartRequest::for_customer(&scenario.user_id, scenario.payload.as_ref());
    let entry = request.entries.into_iter().next().ok_or_else(|| Error::internal("a request lost its entry"))?;
    let faults: Vec<_> = entry.faults.iter().chain(&entry.refused_ids).cloned().collect();
    if !faults.is_empty() {
        return Err(Error::from_violations(faults));
    }
    let ids = Ids { run: app.ids().make(now), batch: app.ids().make(now), lifecycle: app.ids().make(now) };
    let conn = app.read().await?;
    let stage = Stage::load(&conn, access.env(), &scenario).await?;
    drop(conn);
    let assumptions = Assumptions::parse(scenario.assume.as_ref(), &stage.graph)?;
    let mut play = Play::begin(stage, &entry, ids, now)?;
    play.assumptions = assumptions;
    play.play_out(scenario.until, || app.ids().make(now))
}

/// What a simulation needs of the database.
struct Stage {
    flow: flow::Flow,
    graph: Graph,
    customer: Customer,
    zone: TimeZone,
    templates: Vec<templates::Pinned>,
}

impl Stage {
    async fn load(conn: &AsyncPgConnection, env: EnvId, scenario: &Scenario) -> Result<Stage> {
        let flow = flow::find(conn, env, scenario.flow).await?.ok_or_else(|| Error::not_found("action flow"))?;
        let (row, customer, zone) = tokio::try_join!(
            version::find(conn, env, flow.id, flow.current_version()),
            profile::find_by_user_id(conn, env, &scenario.user_id),
            environment::zone(conn, env),
        )?;
        let graph = Graph::parse(&row.ok_or_else(|| Error::internal("a flow lost a version"))?.definition)?;
        let named: Vec<TemplateId> = graph.templates().into_iter().map(|(template, _)| template).collect();
        let templates = if named.is_empty() { Vec::new() } else { templates::drafts(conn, env, &named).await? };
        let customer = customer.ok_or_else(|| Error::not_found("customer").at("/userId"))?;
        Ok(Stage { flow, graph, customer, zone, templates })
    }
}

/// The ids of what exists in memory only.
#[derive(Clone, Copy)]
struct Ids {
    run: RunId,
    batch: BatchId,
    lifecycle: LifecycleId,
}

/// A card that was sent in the simulation.
struct Sent {
    id: CardId,
    open: bool,
}

/// A simulation on its way.
struct Play {
    world: World,
    graph: Arc<Graph>,
    run: RunId,
    /// Where the run is.
    tokens: Vec<Token>,
    /// What will happen from outside.
    happenings: Vec<Happening>,
    assumptions: Assumptions,
    cards: HashMap<String, Sent>,
    steps: Vec<SimulatedStep>,
    failed: bool,
}

/// What a step came to, without what it borrowed from the world.
enum Act {
    Settled(Outcome),
    Card { output: Value, card: Value, id: CardId, expires: Option<Time> },
    Withdraw(Vec<String>),
    Update(Box<crate::customers::change::Change>),
    Request(Box<Intent>),
    Done(Value),
}

impl Play {
    fn begin(stage: Stage, entry: &Entry, ids: Ids, now: Time) -> Result<Play> {
        let Stage { flow, graph, customer, zone, templates } = stage;
        let env = flow.environment_id;
        let variables = variable::resolve(&graph.variables, &entry.payload.variables, &customer.profile())?;
        let source = TriggerSource::Manual;
        let run = Run {
            environment_id: env,
            id: ids.run,
            flow_id: flow.id,
            flow_version: flow.current_version(),
            lifecycle_id: ids.lifecycle,
            batch_id: ids.batch,
            customer_id: customer.id,
            user_id: customer.user_id.clone(),
            invocation: entry.invocation.clone().unwrap_or_else(|| "simulation".to_owned()),
            is_test: true,
            hops: 0,
            status: RunStatus::Running,
            open_steps: 0,
            failed_steps: 0,
            variables: None,
            started_at: now,
            finished_at: None,
        };
        let start = Start {
            lifecycle_id: ids.lifecycle,
            payload: context::payload(&entry.payload, &entry.user_ids, source, None),
            variables: Value::Object(variables),
        };
        let batch = Batch {
            id: ids.batch,
            flow_id: flow.id,
            flow_version: flow.current_version(),
            source: context::word(source).to_owned(),
            templates: json!([]),
            definition: None,
            accepted_at: now,
        };
        let graph = Arc::new(graph);
        let world = World {
            requests: Requests {
                starts: HashMap::from([(ids.lifecycle, start)]),
                batches: HashMap::from([(ids.batch, batch)]),
            },
            graphs: HashMap::from([(ids.batch, graph.clone())]),
            customers: HashMap::from([(customer.id, customer)]),
            zone,
            templates: templates.into_iter().map(|it| ((ids.batch, it.template), Arc::new(it))).collect(),
            outputs: HashMap::new(),
            reactions: HashMap::new(),
            effects: HashMap::new(),
            runs: HashMap::from([(ids.run, run)]),
        };
        let mut play = Play {
            world,
            graph,
            run: ids.run,
            tokens: Vec::new(),
            happenings: Vec::new(),
            assumptions: Assumptions::default(),
            cards: HashMap::new(),
            steps: Vec::new(),
            failed: false,
        };
        let roots: Vec<String> = play.graph.roots().map(|step| step.key.clone()).collect();
        roots.into_iter().for_each(|key| play.reach(env, key, now));
        Ok(play)
    }

    fn reach(&mut self, env: EnvId, step_key: String, at: Time) {
        self.tokens.push(Token {
            environment_id: env,
            run_id: self.run,
            step_key,
            status: READY.to_owned(),
            lane: 0,
            wake_at: at,
            attempts: 0,
            wait_card: None,
            wait_until: None,
            reached_at: None,
        });
    }

    /// Goes from one thing that is due to the next.
    fn play_out(mut self, until: Time, mut card_id: impl FnMut() -> CardId) -> Result<Simulation> {
        while self.running() {
            let step = earliest(&self.tokens, |token| token.wake_at);
            let happening = earliest(&self.happenings, |happening| happening.at);
            let due = |place: Option<(usize, Time)>| place.filter(|(_, at)| *at <= until);
            match (due(step), due(happening)) {
                // What happens at the moment at which a wait ends still counts.
                (Some((_, at)), Some((place, earlier))) if earlier <= at => self.happen(place),
                (None, Some((place, _))) => self.happen(place),
                (Some((place, now)), _) => {
                    let token = self.tokens.remove(place);
                    self.execute(token, now, &mut card_id)?;
                }
                (None, None) => break,
            }
        }
        Ok(self.told())
    }

    fn running(&self) -> bool {
        self.world.runs.get(&self.run).is_some_and(|run| run.status == RunStatus::Running)
    }

    /// Something is done to a card: whoever waits for it looks again.
    fn happen(&mut self, place: usize) {
        let Happening { at, step, name, properties } = self.happenings.remove(place);
        let Some(card) = self.cards.get_mut(&step).filter(|card| card.open) else { return };
        let envelope = json!({ "analyticsEvent": name, "timestamp": at, "properties": properties,
            "cardContext": { "cardInstanceId": card.id } });
        let Value::Object(envelope) = envelope else { return };
        let reaction = Reaction { name: name.clone(), envelope };
        card.open = !reaction.closes();
        let id = card.id;
        if let Some(Value::Object(output)) = self.world.outputs.entry(self.run).or_default().get_mut(&step)
            && reaction.closes()
        {
            let word = name.trim_start_matches("card-");
            output.insert("status".to_owned(), Value::from(word));
            output.insert(format!("{word}At"), Value::from(at.to_string()));
            output.extend(properties.get("values").cloned().map(|values| ("response".to_owned(), values)));
            output.extend(properties.get("buttonName").cloned().map(|name| ("buttonName".to_owned(), name)));
        }
        self.world.reactions.entry(id).or_default().push(reaction);
        for token in self.tokens.iter_mut().filter(|token| token.wait_card == Some(id)) {
            token.wake_at = at;
        }
    }

    fn execute(&mut self, mut token: Token, now: Time, card_id: &mut impl FnMut() -> CardId) -> Result<()> {
        let Plan { work, input } = plan(&self.world, &token, now)?;
        let act = Act::of(work, now, card_id);
        let reached = *token.reached_at.get_or_insert(now);
        let mut step = SimulatedStep {
            kind: self.graph.step(&token.step_key).map_or("unknown", |step| step.action.kind()),
            key: token.step_key.clone(),
            status: "completed",
            started_at: reached,
            finished_at: Some(now),
            wakes_at: None,
            path: None,
            input,
            output: json!({}),
            message: None,
            card: None,
        };
        match act {
            Act::Settled(Outcome::Asleep(until)) => self.park(token, until),
            Act::Settled(Outcome::Listening { card, until }) => self.listen(token, card, until, now),
            Act::Settled(Outcome::Done { output, path }) => {
                step.path.clone_from(&path);
                step.output = output;
                self.finish(&token, step, now);
            }
            Act::Settled(Outcome::Ended) => {
                self.steps.push(step);
                self.tokens.clear();
            }
            Act::Settled(Outcome::Failed(message)) => {
                self.failed = true;
                step.status = "failed";
                step.message = Some(message);
                self.steps.push(step);
            }
            Act::Settled(Outcome::Acting | Outcome::Deferred | Outcome::Dropped) => {
                return Err(Error::internal("a simulated step came to what only a real one comes to"));
            }
            Act::Card { output, card, id, expires } => {
                self.cards.insert(token.step_key.clone(), Sent { id, open: true });
                self.happenings.extend(expires.map(|at| Happening::expiry(at, &token.step_key)));
                step.output = output;
                step.card = Some(card);
                self.finish(&token, step, now);
            }
            Act::Withdraw(keys) => {
                let open = keys.into_iter().filter(|key| self.cards.get(key).is_some_and(|card| card.open));
                let open: Vec<String> = open.collect();
                step.output = json!({ "cancelled": open.len() });
                self.happenings.extend(open.iter().map(|key| Happening::cancellation(now, key)));
                self.finish(&token, step, now);
            }
            Act::Update(change) => {
                if let Some(customer) = self.world.customers.values_mut().next() {
                    change.apply(customer, now)?;
                }
                self.finish(&token, step, now);
            }
            Act::Request(intent) => {
                let answer = self.assumptions.answer(&token.step_key);
                let key = (self.run, token.step_key.clone());
                self.world.effects.insert(key, answered(token.environment_id, *intent, &answer, now));
                self.tokens.push(Token { wake_at: now, ..token });
            }
            Act::Done(output) => {
                step.output = output;
                self.finish(&token, step, now);
            }
        }
        Ok(())
    }

    /// Keeps a step where it is until then.
    fn park(&mut self, token: Token, until: Time) {
        self.tokens.push(Token { status: WAITING.to_owned(), wake_at: until, ..token });
    }

    /// A wait for a card: at first it only learns its card, and then what the customer is assumed to do is planned.
    fn listen(&mut self, token: Token, card: CardId, until: Time, now: Time) {
        if token.wait_card.is_some() {
            return self.park(token, until);
        }
        let sent = self.cards.iter().find(|(_, sent)| sent.id == card).map(|(key, _)| key.clone());
        if let (Some(Assumed::Reaction { name, after, properties }), Some(step)) =
            (self.assumptions.of(&token.step_key), sent)
        {
            let at = after.map_or(now, |after| after.after(now, &self.world.zone));
            self.happenings.push(Happening { at, step, name: name.clone(), properties: properties.clone() });
        }
        self.tokens.push(Token { wake_at: now, wait_card: Some(card), wait_until: Some(until), ..token });
    }

    fn finish(&mut self, token: &Token, step: SimulatedStep, now: Time) {
        let next: Vec<String> =
            self.graph.after(&token.step_key, step.path.as_deref()).map(|child| child.key.clone()).collect();
        self.world.outputs.entry(self.run).or_default().insert(step.key.clone(), step.output.clone());
        self.steps.push(step);
        next.into_iter().for_each(|key| self.reach(token.environment_id, key, now));
    }

    /// The steps that ended, and those that wait.
    fn told(mut self) -> Simulation {
        let status = match (self.tokens.is_empty(), self.failed) {
            (false, _) => RunStatus::Running,
            (true, true) => RunStatus::Failed,
            (true, false) => RunStatus::Completed,
        };
        self.tokens.sort_by(|one, other| (one.wake_at, &one.step_key).cmp(&(other.wake_at, &other.step_key)));
        for token in self.tokens {
            self.steps.push(SimulatedStep {
                kind: self.graph.step(&token.step_key).map_or("unknown", |step| step.action.kind()),
                started_at: token.reached_at.unwrap_or(token.wake_at),
                key: token.step_key,
                status: "waiting",
                finished_at: None,
                wakes_at: Some(token.wake_at),
                path: None,
                input: None,
                output: json!({}),
                message: None,
                card: None,
            });
        }
        Simulation { status, steps: self.steps }
    }
}

impl Act {
    fn of(work: Work<'_>, now: Time, card_id: &mut impl FnMut() -> CardId) -> Act {
        match work {
            Work::Settled(outcome) => Act::Settled(outcome),
            Work::Card(order) => Act::card(*order, now, card_id()),
            Work::Withdraw(steps) => Act::Withdraw(steps.into_iter().map(|(_, key)| key).collect()),
            Work::Update(_, change) => Act::Update(Box::new(change)),
            Work::Event(_) => Act::Done(json!({ "eventId": null })),
            Work::Request(intent) => Act::Request(intent),
            Work::Notify(_) => Act::Done(json!({ "notificationId": null, "status": "simulated" })),
        }
    }

    fn card(order: Order<'_>, now: Time, id: CardId) -> Act {
        let Order { customer, pinned, variables, context, options, .. } = order;
        let drawn =
            deliver::refuse_expired(&options, now).and_then(|()| deliver::draw(customer, pinned, &variables, context));
        match drawn {
            Ok((_, rendered)) => {
                let status = if options.embargo.is_some() { "embargoed" } else { "active" };
                let platforms: Vec<String> = options.platforms.iter().map(ToString::to_string).collect();
                let (mut card, _) = rendered.into_parts();
                card["priority"] = Value::from(options.priority);
                card["streamIds"] = json!(options.stream_ids);
                card["targetPlatforms"] = json!(platforms);
                card["embargo"] = json!(options.embargo);
                card["expires"] = json!(options.expires);
                let output = json!({ "cardInstanceId": id, "status": status });
                Act::Card { output, card, id, expires: options.expires }
            }
            Err(message) => Act::Settled(Outcome::Failed(message)),
        }
    }
}

/// A request that is taken to be answered.
fn answered(env: EnvId, intent: Intent, answer: &(i64, Value), now: Time) -> Effect {
    let (status, body) = answer;
    Effect {
        environment_id: env,
        run_id: intent.run,
        step_key: intent.step_key,
        status: if (200..300).contains(status) { SUCCEEDED } else { FAILED }.to_owned(),
        method: intent.method,
        url: intent.url,
        headers: intent.headers,
        body: intent.body,
        timeout_seconds: intent.timeout_seconds,
        credential_id: intent.credential,
        attempts: 1,
        failures: 0,
        interruptions: 0,
        due_at: now,
        outcome: Some(json!({ "status": status, "body": body })),
        created_at: now,
        finished_at: Some(now),
    }
}

/// The place and time of what is due first; of equals the one that came first.
fn earliest<T>(items: &[T], at: impl Fn(&T) -> Time) -> Option<(usize, Time)> {
    items.iter().enumerate().map(|(place, item)| (place, at(item))).min_by_key(|(place, at)| (*at, *place))
}
