//! A flow's definition: variables and a graph of steps, read from JSON and checked as a whole.
//!
//! Every step names exactly one parent, so a sound graph is a tree that grows from `start`, and a run meets each
//! step at most once. That is why a step's key is enough to make its effects idempotent within a run.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::fields::{Fields, join};
use super::step::Action;
use crate::cards::variable::Variable;
use crate::error::{Result, Violations};
use crate::ids::{StreamId, TemplateId};

/// The most steps a flow may have.
pub const STEPS: usize = 200;
/// The most variables a flow may have.
pub const VARIABLES: usize = 100;

/// The parent of the first steps. No step may have this key.
const START: &str = "start";

/// A definition that satisfies every rule.
#[derive(Debug)]
pub struct Graph {
    pub variables: Vec<Variable>,
    steps: Vec<Step>,
    places: HashMap<String, usize>,
    children: HashMap<String, Vec<usize>>,
}

/// One node of the graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub key: String,
    /// The key of the step before, `start` for the first ones.
    pub parent: String,
    /// Which of the parent's named paths leads here.
    pub path: Option<String>,
    pub action: Action,
}

impl Graph {
    /// Reads a definition and reports everything that is wrong with it, with pointers relative to the definition.
    pub fn parse(definition: &Value) -> Result<Graph> {
        let mut violations = Violations::new();
        let graph = read(definition, &mut violations);
        violations.finish()?;
        graph.ok_or_else(|| crate::error::Error::invalid("", "is not a flow definition"))
    }

    /// The definition of a flow that nobody has edited yet.
    pub fn empty_definition() -> Value {
        serde_json::json!({ "variables": [], "steps": [] })
    }

    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    pub fn step(&self, key: &str) -> Option<&Step> {
        self.places.get(key).map(|place| &self.steps[*place])
    }

    /// The steps with which a run begins.
    pub fn roots(&self) -> impl Iterator<Item = &Step> {
        self.after(START, None)
    }

    /// The children of a step on the path it took, in the order of the definition. All of them run.
    pub fn after<'a>(&'a self, key: &str, path: Option<&'a str>) -> impl Iterator<Item = &'a Step> {
        let places = self.children.get(key).map_or(&[][..], Vec::as_slice);
        places.iter().map(|place| &self.steps[*place]).filter(move |step| step.path.as_deref() == path)
    }

    /// The card templates that steps send, each once, with the pointer of its first use.
    pub fn templates(&self) -> Vec<(TemplateId, String)> {
        let mut seen = HashSet::new();
        let used = self.steps.iter().enumerate().filter_map(|(place, step)| match &step.action {
            Action::SendCard(card) => Some((card.template, format!("/steps/{place}/config/templateId"))),
            _ => None,
        });
        used.filter(|(template, _)| seen.insert(*template)).collect()
    }

    /// The streams that steps target, with pointers.
    pub fn streams(&self) -> Vec<(StreamId, String)> {
        let mut used = Vec::new();
        for (place, step) in self.steps.iter().enumerate() {
            if let Action::SendCard(card) = &step.action {
                for (index, stream) in card.options.stream_ids.iter().flatten().enumerate() {
                    used.push((*stream, format!("/steps/{place}/config/streamIds/{index}")));
                }
            }
        }
        used
    }
}

fn read(definition: &Value, violations: &mut Violations) -> Option<Graph> {
    let fields = Fields::open(definition, "", violations)?;
    fields.only(&["variables", "steps"], violations);
    let variables = read_variables(&fields, violations);
    let listed = fields.list("steps", violations).map_or(&[][..], Vec::as_slice);
    if listed.len() > STEPS {
        violations.add("/steps", format!("a flow has at most {STEPS} steps"));
        return None;
    }
    let mut steps = Vec::with_capacity(listed.len());
    let mut whole = true;
    for (place, value) in listed.iter().enumerate() {
        match read_step(value, place, violations) {
            Some(step) => steps.push(step),
            None => whole = false,
        }
    }
    // Relations are judged only when every step could be read: a missing step would be blamed on its children.
    if !whole {
        return None;
    }
    let places = index(&steps, violations);
    check_relations(&steps, &places, violations);
    let mut children: HashMap<String, Vec<usize>> = HashMap::new();
    for (place, step) in steps.iter().enumerate() {
        children.entry(step.parent.clone()).or_default().push(place);
    }
    Some(Graph { variables, steps, places, children })
}

fn read_variables(fields: &Fields<'_>, violations: &mut Violations) -> Vec<Variable> {
    let Some(value) = fields.value("variables") else { return Vec::new() };
    let pointer = fields.pointer("variables");
    if value.as_array().is_some_and(|list| list.len() > VARIABLES) {
        violations.add(pointer, format!("a flow has at most {VARIABLES} variables"));
        return Vec::new();
    }
    let variables = violations.check(Variable::parse_list(value, &pointer)).unwrap_or_default();
    for (place, variable) in variables.iter().enumerate() {
        if variable.runtime {
            violations.add(
                format!("{pointer}/{place}/runtime"),
                "only a card template has variables that are resolved in the app",
            );
        }
    }
    variables
}

fn read_step(value: &Value, place: usize, violations: &mut Violations) -> Option<Step> {
    let pointer = join("/steps", place);
    let fields = Fields::open(value, &pointer, violations)?;
    fields.only(&["key", "parent", "path", "type", "config"], violations);
    let key = fields.required_text("key", violations);
    if let Some(key) = key
        && !well_formed(key)
    {
        violations.add(
            fields.pointer("key"),
            "a key begins with a lower-case letter and has at most 64 lower-case letters, digits, `_` and `-`",
        );
    }
    if key == Some(START) {
        violations.add(fields.pointer("key"), "the key `start` is reserved");
    }
    let parent = fields.required_text("parent", violations);
    let path = fields.text("path", violations);
    let kind = fields.required_text("type", violations)?;
    let action = Action::parse(kind, fields.value("config"), &pointer, violations);
    Some(Step { key: key?.to_owned(), parent: parent?.to_owned(), path: path.map(str::to_owned), action: action? })
}

/// Tells whether a key has the form of domain §1.2.
fn well_formed(key: &str) -> bool {
    let rest = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    key.len() <= 64 && key.starts_with(|c: char| c.is_ascii_lowercase()) && key.chars().all(rest)
}

fn index(steps: &[Step], violations: &mut Violations) -> HashMap<String, usize> {
    let mut places = HashMap::with_capacity(steps.len());
    for (place, step) in steps.iter().enumerate() {
        // That one has been refused, and would only be blamed on its children.
        if step.key == START {
            continue;
        }
        if places.contains_key(&step.key) {
            violations.add(format!("/steps/{place}/key"), format!("another step has the key `{}`", step.key));
        } else {
            places.insert(step.key.clone(), place);
        }
    }
    places
}

fn check_relations(steps: &[Step], places: &HashMap<String, usize>, violations: &mut Violations) {
    for (place, step) in steps.iter().enumerate() {
        let parent = places.get(&step.parent).map(|parent| &steps[*parent]);
        if parent.is_none() && step.parent != START {
            violations.add(format!("/steps/{place}/parent"), format!("there is no step `{}`", step.parent));
            continue;
        }
        if parent.is_some_and(|parent| parent.action == Action::End) {
            violations.add(format!("/steps/{place}/parent"), "nothing follows an end step");
        }
        if step.path.is_some() {
            violations.add(format!("/steps/{place}/path"), format!("`{}` has no named paths", step.parent));
        }
    }
    for place in cyclic(steps, places) {
        violations.add(format!("/steps/{place}/parent"), "the step follows itself");
    }
}

/// The places of steps whose chain of parents leads back to themselves.
fn cyclic(steps: &[Step], places: &HashMap<String, usize>) -> Vec<usize> {
    let returns = |first: usize| {
        let mut seen = HashSet::from([first]);
        let mut at = first;
        loop {
            match places.get(&steps[at].parent) {
                Some(parent) if *parent == first => return true,
                Some(parent) if seen.insert(*parent) => at = *parent,
                _ => return false,
            }
        }
    };
    (0..steps.len()).filter(|place| returns(*place)).collect()
}

#[cfg(test)]
mod tests;
