//! How the steps of a definition fit each other: parents, paths, and the steps that configurations name.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::{START, Sketch};
use crate::cards::render;
use crate::error::Violations;
use crate::flows::fields::join;
use crate::flows::step::Action;

type Places<'a> = HashMap<&'a str, &'a Sketch<'a>>;

/// Reports every step that does not fit the others. `whole` says that all steps have a key: otherwise one that seems
/// to be missing may be one that could not be read, and is not blamed on those that name it.
pub(super) fn check(sketches: &[Sketch<'_>], whole: bool, violations: &mut Violations) {
    let places = index(sketches, violations);
    for sketch in sketches {
        check_parent(sketch, &places, whole, violations);
        check_mentions(sketch, &places, whole, violations);
    }
    for place in cyclic(sketches, &places) {
        violations.add(format!("/steps/{place}/parent"), "the step follows itself");
    }
}

fn index<'a>(sketches: &'a [Sketch<'a>], violations: &mut Violations) -> Places<'a> {
    let mut places: Places<'a> = HashMap::with_capacity(sketches.len());
    // `start` has been refused, and would only be blamed on its children.
    for sketch in sketches.iter().filter(|sketch| sketch.key != START) {
        if places.contains_key(sketch.key) {
            violations
                .add(format!("/steps/{}/key", sketch.place), format!("another step has the key `{}`", sketch.key));
        } else {
            places.insert(sketch.key, sketch);
        }
    }
    places
}

fn check_parent(sketch: &Sketch<'_>, places: &Places<'_>, whole: bool, violations: &mut Violations) {
    let Some(name) = sketch.parent else { return };
    let at = |field: &str| format!("/steps/{}/{field}", sketch.place);
    if name == START {
        if sketch.path.is_some() {
            violations.add(at("path"), "`start` has no named paths");
        }
        return;
    }
    let Some(parent) = places.get(name) else {
        if whole {
            violations.add(at("parent"), format!("there is no step `{name}`"));
        }
        return;
    };
    let Some(action) = &parent.action else { return };
    if *action == Action::End {
        violations.add(at("parent"), "nothing follows an end step");
    }
    let paths = action.paths();
    match sketch.path {
        Some(_) if paths.is_empty() => violations.add(at("path"), format!("`{name}` has no named paths")),
        Some(path) if !paths.contains(&path) => {
            violations.add(at("path"), format!("`{name}` never takes this path, but: {}", paths.join(", ")));
        }
        None if !paths.is_empty() => {
            violations.add(at("path"), format!("`{name}` goes on along named paths: {}", paths.join(", ")));
        }
        _ => {}
    }
}

fn check_mentions(sketch: &Sketch<'_>, places: &Places<'_>, whole: bool, violations: &mut Violations) {
    let at = |rest: &str| format!("/steps/{}{rest}", sketch.place);
    for (key, pointer) in sketch.action.iter().flat_map(Action::mentioned_steps) {
        match places.get(key) {
            None if whole => violations.add(at(&pointer), format!("there is no step `{key}`")),
            Some(named) if named.action.as_ref().is_some_and(|action| !matches!(action, Action::SendCard(_))) => {
                violations.add(at(&pointer), format!("the step `{key}` sends no card"));
            }
            Some(_) if !matches!(sketch.action, Some(Action::CancelCards(_))) && !follows(sketch, key, places) => {
                violations.add(at(&pointer), format!("the step `{key}` does not come before this one"));
            }
            _ => {}
        }
    }
    let Some(config) = sketch.config.filter(|_| whole) else { return };
    let mut found = Vec::new();
    expressions(config, "/config", &mut found);
    for (text, pointer) in found {
        let names = render::mentions(&text).unwrap_or_default().into_iter().filter_map(|mention| mention.name);
        for name in names {
            let Some(rest) = name.strip_prefix("steps.") else { continue };
            let key = rest.split('.').next().unwrap_or_default();
            if !places.contains_key(key) {
                violations.add(at(&pointer), format!("there is no step `{key}`"));
            }
        }
    }
}

/// The texts with expressions in a configuration: templates, and what conditions compare.
fn expressions(value: &Value, pointer: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::String(text) if text.contains("{{") => found.push((text.clone(), pointer.to_owned())),
        Value::Array(items) => {
            for (place, item) in items.iter().enumerate() {
                expressions(item, &join(pointer, place), found);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(path) if name == "value" && fields.contains_key("op") => {
                        found.push((format!("{{{{ {path} }}}}"), join(pointer, name)));
                    }
                    _ => expressions(field, &join(pointer, name), found),
                }
            }
        }
        _ => {}
    }
}

/// Tells whether the chain of parents leads from a step to the one with this key.
fn follows(sketch: &Sketch<'_>, key: &str, places: &Places<'_>) -> bool {
    let mut seen = HashSet::new();
    let mut at = sketch.parent;
    while let Some(name) = at.filter(|name| seen.insert(*name)) {
        if name == key {
            return true;
        }
        at = places.get(name).and_then(|parent| parent.parent);
    }
    false
}

/// The places of steps whose chain of parents leads back to themselves.
fn cyclic(sketches: &[Sketch<'_>], places: &Places<'_>) -> Vec<usize> {
    let known =
        sketches.iter().filter(|sketch| places.get(sketch.key).is_some_and(|first| first.place == sketch.place));
    known.filter(|sketch| follows(sketch, sketch.key, places)).map(|sketch| sketch.place).collect()
}
