//! Definitions that are accepted and refused, as tables.

use serde_json::{Value, json};

use super::*;

const TEMPLATE: &str = "tmpl_01h455vb4pex5vsknk084sn02q";

fn send(key: &str, parent: &str) -> Value {
    json!({ "key": key, "parent": parent, "type": "sendCard", "config": { "templateId": TEMPLATE } })
}

fn wait(key: &str, parent: &str) -> Value {
    json!({ "key": key, "parent": parent, "type": "wait", "config": { "for": "duration", "duration": "P1D" } })
}

fn end(key: &str, parent: &str) -> Value {
    json!({ "key": key, "parent": parent, "type": "end" })
}

/// The pointers of what is wrong with a definition.
fn faults(definition: &Value) -> Vec<String> {
    let violations = Graph::parse(definition).err().map_or_else(Vec::new, crate::error::Error::into_violations);
    violations.into_iter().filter_map(|violation| violation.pointer).collect()
}

fn step_faults(steps: &[Value]) -> Vec<String> {
    faults(&json!({ "steps": steps }))
}

#[test]
fn children_run_in_the_order_of_the_definition() {
    let graph = Graph::parse(&json!({ "variables": [{ "name": "amount", "type": "number", "required": true }],
        "steps": [end("stop", "rest"), send("a", "start"), wait("rest", "a"), send("b", "a"), send("c", "start")] }))
    .unwrap();
    let keys = |steps: Vec<&Step>| steps.into_iter().map(|step| step.key.clone()).collect::<Vec<_>>();
    assert_eq!(keys(graph.roots().collect()), ["a", "c"]);
    assert_eq!(keys(graph.after("a", None).collect()), ["rest", "b"]);
    assert_eq!(keys(graph.after("rest", None).collect()), ["stop"]);
    assert_eq!(keys(graph.after("rest", Some("timeout")).collect()), [""; 0]);
    assert_eq!(graph.templates().len(), 1, "one template, however often it is used");
    assert_eq!(graph.templates()[0].1, "/steps/1/config/templateId");
    assert_eq!(graph.variables[0].name, "amount");
}

#[test]
fn an_empty_definition_is_sound() {
    assert_eq!(faults(&Graph::empty_definition()), [""; 0]);
    assert_eq!(faults(&json!({})), [""; 0]);
}

#[test]
fn the_shape_is_checked() {
    for (definition, pointers) in [
        (json!([]), &[""][..]),
        (json!({ "steps": {} }), &["/steps"]),
        (json!({ "stepz": [] }), &["/stepz"]),
        (json!({ "variables": [{ "name": "1", "type": "number" }] }), &["/variables/0/name"]),
        (json!({ "variables": [{ "name": "a", "type": "date", "runtime": true }] }), &["/variables/0/runtime"]),
        (json!({ "steps": (0..201).map(|n| end(&format!("s{n}"), "start")).collect::<Vec<_>>() }), &["/steps"]),
    ] {
        assert_eq!(faults(&definition), pointers, "{definition}");
    }
}

#[test]
fn keys_parents_and_paths_are_checked() {
    for (steps, pointers) in [
        (vec![json!(1)], &["/steps/0"][..]),
        (vec![json!({})], &["/steps/0/key", "/steps/0/parent", "/steps/0/type"]),
        (vec![end("Big", "start")], &["/steps/0/key"]),
        (vec![end(&"x".repeat(65), "start")], &["/steps/0/key"]),
        (vec![end("start", "start")], &["/steps/0/key"]),
        (vec![end("a", "start"), end("a", "start")], &["/steps/1/key"]),
        (vec![send("a", "nowhere")], &["/steps/0/parent"]),
        (vec![end("a", "start"), send("b", "a")], &["/steps/1/parent"]),
        (vec![send("a", "a")], &["/steps/0/parent"]),
        (vec![send("a", "b"), send("b", "a"), send("c", "a")], &["/steps/0/parent", "/steps/1/parent"]),
        (
            vec![send("a", "start"), json!({ "key": "b", "parent": "a", "path": "matched", "type": "end" })],
            &["/steps/1/path"],
        ),
        (vec![json!({ "key": "a", "parent": "start", "type": "end", "note": "" })], &["/steps/0/note"]),
    ] {
        assert_eq!(step_faults(&steps), pointers, "{steps:?}");
    }
}

#[test]
fn step_types_that_do_not_run_yet_say_so() {
    let error = Graph::parse(&json!({ "steps": [
        { "key": "a", "parent": "start", "type": "branch", "config": {} },
        { "key": "b", "parent": "start", "type": "dance" },
        { "key": "c", "parent": "start", "type": "wait", "config": { "for": "cardAction" } },
    ] }))
    .unwrap_err();
    let details: Vec<_> = error.violations().iter().map(|violation| violation.detail.as_str()).collect();
    assert_eq!(
        details,
        [
            "the step type `branch` is not available yet",
            "`dance` is not a step type",
            "waiting for a card action is not available yet"
        ]
    );
}

#[test]
fn configurations_are_checked() {
    let step = |kind: &str, config: Value| json!({ "key": "a", "parent": "start", "type": kind, "config": config });
    let card = |more: Value| {
        let mut config = json!({ "templateId": TEMPLATE });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        step("sendCard", config)
    };
    for (step, pointers) in [
        (step("sendCard", json!({})), &["templateId"][..]),
        (step("sendCard", json!({ "templateId": "strm_01h455vb4pex5vsknk084sn02q" })), &["templateId"]),
        (card(json!({ "colour": 1, "sendNotifications": "yes" })), &["colour", "sendNotifications"]),
        (card(json!({ "variables": { "a": "{{ profile.name }}", "b": "{% if %}" } })), &["variables/b"]),
        (card(json!({ "variables": { "a/b": "{{ 1 + }}" } })), &["variables/a~1b"]),
        (card(json!({ "priority": 0, "expires": "soon" })), &["priority", "expires"]),
        (card(json!({ "streamIds": ["strm_x"] })), &["streamIds/0"]),
        (step("wait", json!({})), &["for"]),
        (step("wait", json!({ "for": "duration" })), &["duration"]),
        (step("wait", json!({ "for": "duration", "duration": "P0D" })), &["duration"]),
        (step("wait", json!({ "for": "duration", "duration": "P1D", "until": "x" })), &["until"]),
        (step("wait", json!({ "for": "until", "until": "tomorrow" })), &["until"]),
        (step("wait", json!({ "for": "until", "until": "{{ variables.due" })), &["until"]),
        (step("wait", json!({ "for": "godot" })), &["for"]),
        (step("end", json!({ "reason": "done" })), &["reason"]),
    ] {
        let expected: Vec<_> = pointers.iter().map(|name| format!("/steps/0/config/{name}")).collect();
        assert_eq!(step_faults(std::slice::from_ref(&step)), expected, "{step}");
    }
    for until in ["2030-01-01T00:00:00Z", "{{ variables.due }}"] {
        assert_eq!(step_faults(&[step("wait", json!({ "for": "until", "until": until }))]), [""; 0]);
    }
}
