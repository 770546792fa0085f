//! Starting a flow: a request becomes runs that have taken their first steps, in one transaction.
//!
//! The number of statements does not depend on the number of entries or customers, nor on that of the requests that
//! are started together ([`gather`]). Two requests with the same invocation meet at the primary key of `invocations`:
//! the later waits for the earlier and finds a duplicate.

pub(crate) mod gather;
mod insert;
mod judge;
pub(super) mod launch;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use serde_json::Value;

use self::judge::{Judged, Refusals, Wanted, faults, judge, refuse};
use self::launch::Launch;
use super::engine::enter::{Entering, Reach, enter_in};
use super::outcome::{EntryOutcome, Started};
use super::request::{Entry, StartRequest};
use super::run::Run;
use crate::access::{Access, Level, Resource};
use crate::app::App;
use crate::customers::profile::{self, Customer};
use crate::db::Tx;
use crate::error::{Code, Error, Result, surviving_panics};
use crate::events::TriggerSource;
use crate::ids::{BatchId, EnvId, FlowId, InvocationId, TriggerId};

/// Whether a start is for customers or for those who try a flow out (specification 8.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The published flow and templates, for any customer.
    Live,
    /// The current drafts, for test users only.
    Test,
}

/// Requests for more customers than this wait behind the others, and so do all that come from a file.
const BULK: usize = 100;
/// The lane of tokens that timers and customers have not made.
const SINGLE_LANE: i16 = 2;
const BULK_LANE: i16 = 3;

/// Who or what starts a flow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub mode: Mode,
    pub source: TriggerSource,
    pub address: Option<IpAddr>,
    /// The trigger that starts the flow; its `api` trigger where none is named.
    pub trigger: Option<TriggerId>,
}

/// Starts the published flow. Entries that cannot be started are told of in the answer.
pub async fn start(
    app: &App,
    access: &Access,
    flow: FlowId,
    mut request: StartRequest,
    source: TriggerSource,
) -> Result<Started> {
    access.require(Resource::SendToCustomers, Level::Edit)?;
    // A request that is tried again on its own is the same request.
    for entry in &mut request.entries {
        let fresh = || app.ids().make::<InvocationId>(app.clock().now()).to_string();
        entry.invocation.get_or_insert_with(fresh);
    }
    let caller = Caller { mode: Mode::Live, source, address: access.info().address, trigger: None };
    if request.customers() <= gather::MOST_CUSTOMERS {
        return gather::start(app, access.env(), flow, request, caller).await;
    }
    let mut started =
        begin(app, access.env(), flow, &[Asked { request: &request, address: caller.address }], caller).await?;
    started.pop().ok_or_else(|| Error::internal("a start has no answer"))
}

/// Starts the drafts for test users. Everybody else is left out and counted.
pub async fn test(
    app: &App,
    access: &Access,
    flow: FlowId,
    request: &StartRequest,
    source: TriggerSource,
) -> Result<Started> {
    super::run::require_operation(access)?;
    let caller = Caller { mode: Mode::Test, source, address: access.info().address, trigger: None };
    app.transact(async |tx| start_in(tx, access.env(), flow, request, caller).await).await
}

/// A request among those that are started together.
struct Asked<'a> {
    request: &'a StartRequest,
    address: Option<IpAddr>,
}

/// What the runs of one request share.
struct Part {
    batch: BatchId,
    address: Option<IpAddr>,
    lane: i16,
}

impl Asked<'_> {
    /// Tells whether the request waits behind those for single customers.
    fn is_crowd(&self, caller: Caller) -> bool {
        self.request.customers() > BULK || caller.source == TriggerSource::Csv
    }

    fn part(&self, tx: &Tx, caller: Caller) -> Part {
        let lane = if self.is_crowd(caller) { BULK_LANE } else { SINGLE_LANE };
        Part { batch: tx.id(), address: self.address, lane }
    }
}

/// Starts a flow for several requests, with its first cards unless there is a crowd.
///
/// A step that breaks does not break the start: runs are begun without their cards then, and the engine sees to those.
async fn begin(app: &App, env: EnvId, flow: FlowId, asked: &[Asked<'_>], caller: Caller) -> Result<Vec<Started>> {
    let attempt = async |reach| app.transact(async |tx| together_in(tx, env, flow, asked, caller, reach).await).await;
    if asked.iter().any(|asked| asked.is_crowd(caller)) {
        return attempt(Reach::Decisions).await;
    }
    match surviving_panics(attempt(Reach::Cards)).await {
        Err(error) if error.code() == Code::Internal => {
            tracing::warn!(%error, "runs could not begin with their cards and begin without");
            attempt(Reach::Decisions).await
        }
        begun => begun,
    }
}

/// An entry in the line of all entries, with the place of its request.
struct Item<'a> {
    entry: &'a Entry,
    part: usize,
}

/// Starts a flow in a transaction. Whoever calls has asked for the permission.
pub(crate) async fn start_in(
    tx: &mut Tx,
    env: EnvId,
    flow: FlowId,
    request: &StartRequest,
    caller: Caller,
) -> Result<Started> {
    let asked = Asked { request, address: caller.address };
    let mut started = together_in(tx, env, flow, &[asked], caller, Reach::Decisions).await?;
    started.pop().ok_or_else(|| Error::internal("a start has no answer"))
}

/// Starts a flow for several requests in one transaction, and answers each.
async fn together_in(
    tx: &mut Tx,
    env: EnvId,
    flow: FlowId,
    asked: &[Asked<'_>],
    caller: Caller,
    reach: Reach,
) -> Result<Vec<Started>> {
    let launch = Launch::load(tx, env, flow, caller).await?;
    let parts: Vec<Part> = asked.iter().map(|asked| asked.part(tx, caller)).collect();
    let items = asked
        .iter()
        .enumerate()
        .flat_map(|(part, asked)| asked.request.entries.iter().map(move |entry| Item { entry, part }));
    let items: Vec<Item<'_>> = items.collect();
    let faults = faults(tx, env, &items).await?;
    let mut customers = targets(tx, env, &items, caller.mode).await?;
    let Judged { mut outcomes, wanted, refused, shared } = judge(tx, &launch, &items, &faults, &customers);
    refuse(tx, env, &launch, Refusals { items: &items, refused, faults, customers: &customers }, &mut outcomes).await?;
    create_missing(tx, env, &wanted, &mut customers).await?;
    let runs = Runs { launch: &launch, parts: &parts, items: &items, customers: &customers, outcomes: &outcomes };
    let runs = runs.of(tx, env, &wanted);
    let begun = insert::invocations_in(tx, env, &launch, &runs).await?;
    for (run, entry) in &runs {
        let outcome = &mut outcomes[*entry];
        if begun.contains(&run.id) {
            outcome.accepted += 1;
        } else {
            outcome.duplicate += 1;
        }
    }
    let begun: Vec<(Run, usize)> = runs.into_iter().filter(|(run, _)| begun.contains(&run.id)).collect();
    let given = insert::Given { parts: &parts, items: &items, shared, begun: &begun };
    let requests = insert::requests_in(tx, env, &launch, &given).await?;
    let events = given.events(tx, &requests);
    let entering = Entering {
        runs: begun.into_iter().map(|(run, _)| (run.id, run)).collect(),
        customers: customers.into_values().map(|customer| (customer.id, customer)).collect(),
        requests,
        templates: launch.pinned.clone(),
        zone: launch.zone.clone(),
        events,
        lanes: parts.iter().map(|part| (part.batch, part.lane)).collect(),
        reach,
    };
    // Whatever breaks in a step is a defect, and no fault of the request.
    let runs = enter_in(tx, env, &launch.graph, entering).await.map_err(|error| match error.code() {
        Code::Unavailable => error,
        _ => Error::internal(error),
    })?;
    insert::runs_in(tx, env, &launch, &runs).await?;
    let mut outcomes = outcomes.into_iter();
    let answers = asked.iter().zip(parts).map(|(asked, part)| {
        let entries = outcomes.by_ref().take(asked.request.entries.len()).collect();
        Started { batch: part.batch, entries }
    });
    Ok(answers.collect())
}

/// The customers that exist among the targets; for tests only those who may get them.
async fn targets(tx: &mut Tx, env: EnvId, items: &[Item<'_>], mode: Mode) -> Result<HashMap<String, Customer>> {
    let ids: HashSet<&String> = items.iter().flat_map(|item| &item.entry.user_ids).collect();
    let ids: Vec<String> = ids.into_iter().cloned().collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let found = match mode {
        Mode::Live => profile::find_by_user_ids(tx.conn(), env, &ids).await?,
        Mode::Test => profile::test_users_in(tx, env, &ids).await?,
    };
    Ok(found.into_iter().map(|customer| (customer.user_id.clone(), customer)).collect())
}

/// Brings customers into being whom a live start reaches for the first time.
async fn create_missing(
    tx: &mut Tx,
    env: EnvId,
    wanted: &[Wanted<'_>],
    customers: &mut HashMap<String, Customer>,
) -> Result<()> {
    let missing = wanted.iter().map(|wish| wish.user_id).filter(|user_id| !customers.contains_key(*user_id));
    let missing: HashSet<&str> = missing.collect();
    if missing.is_empty() {
        return Ok(());
    }
    let missing: Vec<String> = missing.into_iter().map(str::to_owned).collect();
    let made = profile::make_in(tx, env, missing).await?;
    customers.extend(made.into_iter().map(|customer| (customer.user_id.clone(), customer)));
    Ok(())
}

/// What decides how a run begins.
struct Runs<'a> {
    launch: &'a Launch,
    parts: &'a [Part],
    items: &'a [Item<'a>],
    customers: &'a HashMap<String, Customer>,
    outcomes: &'a [EntryOutcome],
}

impl Runs<'_> {
    /// The runs that will begin unless their invocation has started one before, each with the place of its entry.
    fn of(&self, tx: &Tx, env: EnvId, wanted: &[Wanted<'_>]) -> Vec<(Run, usize)> {
        let lifecycles: Vec<_> = self.outcomes.iter().map(|_| tx.id()).collect();
        let run = |wish: &Wanted<'_>| {
            let customer = self.customers.get(wish.user_id)?;
            let run = Run {
                environment_id: env,
                id: tx.id(),
                flow_id: self.launch.flow.id,
                flow_version: self.launch.version,
                lifecycle_id: lifecycles[wish.entry],
                batch_id: self.parts[self.items[wish.entry].part].batch,
                customer_id: customer.id,
                user_id: customer.user_id.clone(),
                invocation: self.outcomes[wish.entry].invocation.clone(),
                is_test: self.launch.caller.mode == Mode::Test,
                hops: wish.hops,
                status: super::run::RunStatus::Running,
                open_steps: self.launch.open_steps(),
                failed_steps: 0,
                variables: wish.variables.clone().map(Value::Object),
                started_at: tx.now(),
                finished_at: None,
            };
            Some((run, wish.entry))
        };
        wanted.iter().filter_map(run).collect()
    }
}
