//! A flow's definition: variables and a graph of steps, read from JSON and checked as a whole.
//!
//! Every step names exactly one parent, so a sound graph is a tree that grows from `start`, and a run meets each
//! step at most once. That is why a step's key is enough to make its effects idempotent within a run.

mod relation;

use std::collections::HashMap;

use serde_json::Value;

use super::fields::{Fields, join};
use super::step::Action;
use crate::cards::variable::Variable;
use crate::error::{Result, Violations};
use crate::ids::{ContainerId, StreamId, TemplateId};

/// The most steps a flow may have.
pub const STEPS: usize = 200;
/// The most variables a flow may have.
pub const VARIABLES: usize = 100;

/// The parent of the first steps. No step may have this key.
pub(super) const START: &str = "start";

/// A definition that satisfies every rule.
#[derive(Debug)]
pub struct Graph {
    pub variables: Vec<Variable>,
    /// Some expression asks for the output of an earlier step.
    pub looks_back: bool,
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
        let (graph, _) = read(definition, &mut violations);
        violations.finish()?;
        graph.ok_or_else(|| crate::error::Error::invalid("", "is not a flow definition"))
    }

    /// Reads as much of a definition as can be read, and what it refers to, for savers who report all faults at once.
    pub(super) fn inspect(definition: &Value, violations: &mut Violations) -> (Option<Graph>, References) {
        read(definition, violations)
    }

    fn of(variables: Vec<Variable>, steps: Vec<Step>) -> Graph {
        let places = steps.iter().enumerate().map(|(place, step)| (step.key.clone(), place)).collect();
        let mut children: HashMap<String, Vec<usize>> = HashMap::new();
        for (place, step) in steps.iter().enumerate() {
            children.entry(step.parent.clone()).or_default().push(place);
        }
        Graph { variables, looks_back: false, steps, places, children }
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

    /// What steps refer to outside the flow.
    pub(super) fn references(&self) -> References {
        References::of(self.steps.iter().enumerate().map(|(place, step)| (place, &step.action)))
    }

    /// The card templates that steps send, each once, with the pointer of its first use.
    pub fn templates(&self) -> Vec<(TemplateId, String)> {
        self.references().templates
    }

    /// The keys of the steps that send cards.
    pub fn card_steps(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().filter(|step| matches!(step.action, Action::SendCard(_))).map(|step| step.key.as_str())
    }
}

/// What steps refer to outside the flow, with pointers. A template stands here once, with its first use.
#[derive(Debug, Default)]
pub(super) struct References {
    pub templates: Vec<(TemplateId, String)>,
    pub streams: Vec<(StreamId, String)>,
    pub containers: Vec<(ContainerId, String)>,
}

impl References {
    fn of<'a>(actions: impl Iterator<Item = (usize, &'a Action)>) -> References {
        let mut references = References::default();
        for (place, action) in actions {
            match action {
                Action::SendCard(card) => {
                    if !references.templates.iter().any(|(template, _)| *template == card.template) {
                        references.templates.push((card.template, format!("/steps/{place}/config/templateId")));
                    }
                    for (index, stream) in card.options.stream_ids.iter().flatten().enumerate() {
                        references.streams.push((*stream, format!("/steps/{place}/config/streamIds/{index}")));
                    }
                }
                Action::SendNotification(notification) => {
                    for (index, container) in notification.containers.iter().enumerate() {
                        let pointer = format!("/steps/{place}/config/containerIds/{index}");
                        references.containers.push((*container, pointer));
                    }
                }
                _ => {}
            }
        }
        references
    }
}

fn read(definition: &Value, violations: &mut Violations) -> (Option<Graph>, References) {
    let nothing = (None, References::default());
    let Some(fields) = Fields::open(definition, "", violations) else { return nothing };
    fields.only(&["variables", "steps"], violations);
    let variables = read_variables(&fields, violations);
    let listed = fields.list("steps", violations).map_or(&[][..], Vec::as_slice);
    if listed.len() > STEPS {
        violations.add("/steps", format!("a flow has at most {STEPS} steps"));
        return nothing;
    }
    let sketches: Vec<Sketch> =
        listed.iter().enumerate().filter_map(|(place, value)| read_step(value, place, violations)).collect();
    relation::check(&sketches, sketches.len() == listed.len(), violations);
    let references = References::of(sketches.iter().filter_map(|sketch| Some((sketch.place, sketch.action.as_ref()?))));
    let whole = sketches.len() == listed.len();
    let steps: Option<Vec<Step>> = sketches.into_iter().map(Sketch::finish).collect();
    let graph = steps.filter(|_| whole).map(|steps| {
        let looks_back = listed.iter().any(mentions_steps);
        Graph { looks_back, ..Graph::of(variables, steps) }
    });
    (graph, references)
}

/// Tells whether an expression in a value may begin with `steps`.
fn mentions_steps(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains("steps"),
        Value::Array(items) => items.iter().any(mentions_steps),
        Value::Object(fields) => fields.values().any(mentions_steps),
        _ => false,
    }
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

/// A step as far as it could be read: its place among the others can be judged even where its configuration is bad.
pub(super) struct Sketch<'a> {
    pub place: usize,
    pub key: &'a str,
    pub parent: Option<&'a str>,
    pub path: Option<&'a str>,
    pub action: Option<Action>,
    pub config: Option<&'a Value>,
}

impl Sketch<'_> {
    fn finish(self) -> Option<Step> {
        let (parent, path) = (self.parent?.to_owned(), self.path.map(str::to_owned));
        Some(Step { key: self.key.to_owned(), parent, path, action: self.action? })
    }
}

fn read_step<'a>(value: &'a Value, place: usize, violations: &mut Violations) -> Option<Sketch<'a>> {
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
    let config = fields.value("config");
    let kind = fields.required_text("type", violations);
    let action = kind.and_then(|kind| Action::parse(kind, config, &pointer, violations));
    Some(Sketch { place, key: key?, parent, path, action, config })
}

/// Tells whether a key has the form of domain §1.2.
fn well_formed(key: &str) -> bool {
    let rest = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    key.len() <= 64 && key.starts_with(|c: char| c.is_ascii_lowercase()) && key.chars().all(rest)
}

#[cfg(test)]
mod tests;
