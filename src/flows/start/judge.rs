//! Judges the entries of start requests before anything is written: for whom a run shall begin, and who is refused.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::launch::Launch;
use super::{Item, Mode, insert};
use crate::cards::variable;
use crate::customers::profile::Customer;
use crate::db::Tx;
use crate::error::{Error, Result};
use crate::flows::outcome::{EntryError, EntryOutcome};
use crate::flows::request::Entry;
use crate::ids::{EnvId, InvocationId, StreamId};
use crate::streams;

/// A customer for whom a run shall begin.
pub(super) struct Wanted<'a> {
    /// The place of the entry.
    pub entry: usize,
    pub user_id: &'a str,
    /// Where they differ from those of the other customers of the entry.
    pub variables: Option<Map<String, Value>>,
    pub hops: i16,
}

/// A customer for whom no run can begin.
pub(super) struct Refused<'a> {
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

/// What the entries come to.
pub(super) struct Judged<'a> {
    /// One for each entry; whoever is wanted is not counted yet.
    pub outcomes: Vec<EntryOutcome>,
    pub wanted: Vec<Wanted<'a>>,
    pub refused: Vec<Refused<'a>>,
    /// The variables of each entry that all of its customers share.
    pub shared: Vec<Map<String, Value>>,
}

/// Sorts the customers of all entries.
pub(super) fn judge<'a>(
    tx: &Tx,
    launch: &Launch,
    items: &[Item<'a>],
    faults: &HashMap<usize, Error>,
    customers: &HashMap<String, Customer>,
) -> Judged<'a> {
    let mut judged = Judged {
        outcomes: Vec::new(),
        wanted: Vec::new(),
        refused: Vec::new(),
        shared: Vec::with_capacity(items.len()),
    };
    for (place, Item { entry, .. }) in items.iter().enumerate() {
        let invocation = entry.invocation.clone().unwrap_or_else(|| tx.id::<InvocationId>().to_string());
        let mut outcome = EntryOutcome::new(invocation);
        outcome.rejected = entry.refused_ids.len();
        let told = entry.refused_ids.iter().cloned();
        outcome.errors.extend(told.map(|violation| EntryError { violation, user_id: None }));
        let resolved = resolve(launch, entry);
        for user_id in &entry.user_ids {
            let user_id = user_id.as_str();
            if faults.contains_key(&place) {
                judged.refused.push(Refused { entry: place, user_id, reason: None });
            } else if launch.caller.mode == Mode::Test && !customers.contains_key(user_id) {
                outcome.ignored += 1;
            } else {
                match own_variables(launch, entry, &resolved, customers.get(user_id)) {
                    Ok(variables) => {
                        let hops = entry.cause.as_ref().map_or(0, |cause| cause.hops);
                        judged.wanted.push(Wanted { entry: place, user_id, variables, hops });
                    }
                    Err(reason) => judged.refused.push(Refused { entry: place, user_id, reason: Some(reason) }),
                }
            }
        }
        judged.shared.push(if let Resolved::Shared(variables) = resolved { variables } else { Map::new() });
        judged.outcomes.push(outcome);
    }
    judged
}

/// What is wrong with entries as a whole, by place.
pub(super) async fn faults(tx: &Tx, env: EnvId, items: &[Item<'_>]) -> Result<HashMap<usize, Error>> {
    let mut faults = HashMap::new();
    let named: HashSet<StreamId> =
        items.iter().flat_map(|item| item.entry.payload.card_options.stream_ids.iter().flatten().copied()).collect();
    let named: Vec<StreamId> = named.into_iter().collect();
    let missing = if named.is_empty() { Vec::new() } else { streams::stream::missing(tx.conn(), env, &named).await? };
    for (place, Item { entry, .. }) in items.iter().enumerate() {
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
pub(super) struct Refusals<'a> {
    pub items: &'a [Item<'a>],
    pub refused: Vec<Refused<'a>>,
    pub faults: HashMap<usize, Error>,
    pub customers: &'a HashMap<String, Customer>,
}

/// Counts refusals, except where the same invocation has started a run before: a repeat of a request that was
/// accepted is a duplicate, even when its card options have expired meanwhile.
pub(super) async fn refuse(
    tx: &Tx,
    env: EnvId,
    launch: &Launch,
    mut refusals: Refusals<'_>,
    outcomes: &mut [EntryOutcome],
) -> Result<()> {
    let customer = |refused: &Refused<'_>| Some(refusals.customers.get(refused.user_id)?.id);
    let asked = refusals.refused.iter().filter(|refused| refusals.items[refused.entry].entry.invocation.is_some());
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
