//! Starting a flow: a request becomes runs, each with its first tokens, in one transaction.
//!
//! The number of statements does not depend on the number of entries or customers. Two requests with the same
//! invocation meet at the primary key of `invocations`: the later waits for the earlier and finds a duplicate.

mod insert;
pub(super) mod launch;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Map, Value};

use self::launch::Launch;
use super::outcome::{EntryError, EntryOutcome, Started};
use super::request::{Entry, StartRequest};
use super::run::Run;
use crate::access::{Access, Level, Resource};
use crate::app::App;
use crate::cards::variable;
use crate::customers::profile::{self, Customer};
use crate::db::Tx;
use crate::error::{Error, Result};
use crate::events::TriggerSource;
use crate::ids::{EnvId, FlowId, InvocationId, StreamId, TriggerId};
use crate::streams;

/// Whether a start is for customers or for those who try a flow out (specification 8.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The published flow and templates, for any customer.
    Live,
    /// The current drafts, for test users only.
    Test,
}

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
    request: &StartRequest,
    source: TriggerSource,
) -> Result<Started> {
    access.require(Resource::SendToCustomers, Level::Edit)?;
    let caller = Caller { mode: Mode::Live, source, address: access.info().address, trigger: None };
    app.transact(async |tx| start_in(tx, access.env(), flow, request, caller).await).await
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

/// A customer for whom a run shall begin.
struct Wanted<'a> {
    /// The place of the entry in the request.
    entry: usize,
    user_id: &'a str,
    /// Where they differ from those of the other customers of the entry.
    variables: Option<Map<String, Value>>,
    hops: i16,
}

/// A customer for whom no run can begin.
struct Refused<'a> {
    entry: usize,
    user_id: &'a str,
    /// Absent where the entry as a whole is at fault.
    reason: Option<Arc<Error>>,
}

/// The variables of an entry.
enum Resolved {
    Shared(Map<String, Value>),
    /// They depend on each customer's profile.
    PerCustomer,
    Failed(Arc<Error>),
}

/// Starts a flow in a transaction. Whoever calls has asked for the permission.
pub(crate) async fn start_in(
    tx: &mut Tx,
    env: EnvId,
    flow: FlowId,
    request: &StartRequest,
    caller: Caller,
) -> Result<Started> {
    let launch = Launch::load(tx, env, flow, caller).await?;
    let faults = faults(tx, env, request).await?;
    let mut customers = targets(tx, env, request, caller.mode).await?;
    let mut outcomes: Vec<EntryOutcome> = Vec::with_capacity(request.entries.len());
    let (mut wanted, mut refused) = (Vec::new(), Vec::new());
    let mut shared = Vec::with_capacity(request.entries.len());
    for (place, entry) in request.entries.iter().enumerate() {
        let invocation = entry.invocation.clone().unwrap_or_else(|| tx.id::<InvocationId>().to_string());
        let mut outcome = EntryOutcome::new(invocation);
        outcome.rejected = entry.refused_ids.len();
        let told = entry.refused_ids.iter().cloned();
        outcome.errors.extend(told.map(|violation| EntryError { violation, user_id: None }));
        let resolved = resolve(&launch, entry);
        for user_id in &entry.user_ids {
            let user_id = user_id.as_str();
            if faults.contains_key(&place) {
                refused.push(Refused { entry: place, user_id, reason: None });
            } else if caller.mode == Mode::Test && !customers.contains_key(user_id) {
                outcome.ignored += 1;
            } else {
                match own_variables(&launch, entry, &resolved, customers.get(user_id)) {
                    Ok(variables) => {
                        let hops = entry.cause.as_ref().map_or(0, |cause| cause.hops);
                        wanted.push(Wanted { entry: place, user_id, variables, hops });
                    }
                    Err(reason) => refused.push(Refused { entry: place, user_id, reason: Some(reason) }),
                }
            }
        }
        shared.push(if let Resolved::Shared(variables) = resolved { variables } else { Map::new() });
        outcomes.push(outcome);
    }
    refuse(tx, env, &launch, Refusals { request, refused, faults, customers: &customers }, &mut outcomes).await?;
    create_missing(tx, env, &wanted, &mut customers).await?;
    let runs = runs(tx, env, &launch, &wanted, &customers, &outcomes);
    let begun = insert::runs_in(tx, env, &launch, &runs).await?;
    for (run, entry) in &runs {
        let outcome = &mut outcomes[*entry];
        if begun.contains(&run.id) {
            outcome.accepted += 1;
        } else {
            outcome.duplicate += 1;
        }
    }
    let begun: Vec<(Run, usize)> = runs.into_iter().filter(|(run, _)| begun.contains(&run.id)).collect();
    insert::request_in(tx, env, &launch, insert::Given { request, shared: &shared, begun: &begun }).await?;
    Ok(Started { batch: launch.batch, entries: outcomes })
}

/// What is wrong with entries as a whole, by place.
async fn faults(tx: &Tx, env: EnvId, request: &StartRequest) -> Result<HashMap<usize, Error>> {
    let mut faults = HashMap::new();
    let named: HashSet<StreamId> = request
        .entries
        .iter()
        .flat_map(|entry| entry.payload.card_options.stream_ids.iter().flatten().copied())
        .collect();
    let named: Vec<StreamId> = named.into_iter().collect();
    let missing = if named.is_empty() { Vec::new() } else { streams::stream::missing(tx.conn(), env, &named).await? };
    for (place, entry) in request.entries.iter().enumerate() {
        let mut found = crate::error::Violations::new();
        for violation in &entry.faults {
            found.add(violation.pointer.clone().unwrap_or_default(), violation.detail.clone());
        }
        let options = &entry.payload.card_options;
        let pointer = format!("{}/payload/cardOptions", entry.pointer);
        found.check(options.refuse_past(tx.now(), &pointer));
        for (index, stream) in options.stream_ids.iter().flatten().enumerate() {
            if missing.contains(stream) {
                found.add(format!("{pointer}/targetStreamIds/{index}"), "there is no such stream");
            }
        }
        if let Err(error) = found.finish() {
            faults.insert(place, error);
        }
    }
    Ok(faults)
}

/// The customers that exist among the targets; for tests only those who may get them.
async fn targets(tx: &mut Tx, env: EnvId, request: &StartRequest, mode: Mode) -> Result<HashMap<String, Customer>> {
    let ids: HashSet<&String> = request.entries.iter().flat_map(|entry| &entry.user_ids).collect();
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

fn resolve(launch: &Launch, entry: &Entry) -> Resolved {
    let supplied = &entry.payload.variables;
    let given = |name: &str| supplied.get(name).is_some_and(|value| !value.is_null());
    let personal =
        launch.graph.variables.iter().any(|variable| variable.profile_field.is_some() && !given(&variable.name));
    if personal {
        return Resolved::PerCustomer;
    }
    match variable::resolve(&launch.graph.variables, supplied, &Map::new()) {
        Ok(variables) => Resolved::Shared(variables),
        Err(error) => Resolved::Failed(Arc::new(error.at(entry.pointer.as_str()))),
    }
}

/// The variables that only this customer has; a customer who does not exist yet has an empty profile.
fn own_variables(
    launch: &Launch,
    entry: &Entry,
    resolved: &Resolved,
    customer: Option<&Customer>,
) -> Result<Option<Map<String, Value>>, Arc<Error>> {
    match resolved {
        Resolved::Shared(_) => Ok(None),
        Resolved::Failed(error) => Err(error.clone()),
        Resolved::PerCustomer => {
            let profile = customer.map(Customer::profile).unwrap_or_default();
            variable::resolve(&launch.graph.variables, &entry.payload.variables, &profile)
                .map(Some)
                .map_err(|error| Arc::new(error.at(entry.pointer.as_str())))
        }
    }
}

/// What is needed to judge refusals.
struct Refusals<'a> {
    request: &'a StartRequest,
    refused: Vec<Refused<'a>>,
    faults: HashMap<usize, Error>,
    customers: &'a HashMap<String, Customer>,
}

/// Counts refusals, except where the same invocation has started a run before: a repeat of a request that was
/// accepted is a duplicate, even when its card options have expired meanwhile.
async fn refuse(
    tx: &Tx,
    env: EnvId,
    launch: &Launch,
    mut refusals: Refusals<'_>,
    outcomes: &mut [EntryOutcome],
) -> Result<()> {
    let customer = |refused: &Refused<'_>| Some(refusals.customers.get(refused.user_id)?.id);
    let asked = refusals.refused.iter().filter(|refused| refusals.request.entries[refused.entry].invocation.is_some());
    let asked: Vec<_> =
        asked.filter_map(|refused| Some((outcomes[refused.entry].invocation.clone(), customer(refused)?))).collect();
    let known = insert::known(tx.conn(), env, launch, asked).await?;
    for refused in &refusals.refused {
        let outcome = &mut outcomes[refused.entry];
        let before = customer(refused).is_some_and(|id| known.contains(&(outcome.invocation.clone(), id)));
        match &refused.reason {
            _ if before => outcome.duplicate += 1,
            Some(reason) => outcome.reject(refused.user_id, reason),
            None => outcome.rejected += 1,
        }
    }
    for (place, outcome) in outcomes.iter_mut().enumerate() {
        if let Some(fault) = refusals.faults.remove(&place)
            && (outcome.rejected > 0 || outcome.duplicate == 0)
        {
            outcome.refuse(fault);
        }
    }
    Ok(())
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

/// The runs that will begin unless their invocation has started one before, each with the place of its entry.
fn runs(
    tx: &Tx,
    env: EnvId,
    launch: &Launch,
    wanted: &[Wanted<'_>],
    customers: &HashMap<String, Customer>,
    outcomes: &[EntryOutcome],
) -> Vec<(Run, usize)> {
    let lifecycles: Vec<_> = outcomes.iter().map(|_| tx.id()).collect();
    let run = |wish: &Wanted<'_>| {
        let customer = customers.get(wish.user_id)?;
        let run = Run {
            environment_id: env,
            id: tx.id(),
            flow_id: launch.flow.id,
            flow_version: launch.version,
            lifecycle_id: lifecycles[wish.entry],
            batch_id: launch.batch,
            customer_id: customer.id,
            user_id: customer.user_id.clone(),
            invocation: outcomes[wish.entry].invocation.clone(),
            is_test: launch.caller.mode == Mode::Test,
            hops: wish.hops,
            status: super::run::RunStatus::Running,
            open_steps: launch.open_steps(),
            failed_steps: 0,
            variables: wish.variables.clone().map(Value::Object),
            started_at: tx.now(),
            finished_at: None,
        };
        Some((run, wish.entry))
    };
    wanted.iter().filter_map(run).collect()
}
