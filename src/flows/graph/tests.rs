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
fn unknown_step_types_say_so() {
    let definition = json!({ "steps": [{ "key": "b", "parent": "start", "type": "dance" }] });
    let error = Graph::parse(&definition).unwrap_err();
    let details: Vec<_> = error.violations().iter().map(|violation| violation.detail.as_str()).collect();
    assert_eq!(details, ["`dance` is not a step type"]);
}

fn step(key: &str, parent: &str, kind: &str, config: &Value) -> Value {
    json!({ "key": key, "parent": parent, "type": kind, "config": config })
}

fn on(mut step: Value, path: &str) -> Value {
    step["path"] = path.into();
    step
}

fn listen(key: &str, parent: &str, step_key: &str) -> Value {
    let config = json!({ "for": "cardAction", "step": step_key, "events": ["card-completed"], "timeout": "P1D" });
    step(key, parent, "wait", &config)
}

fn branch(key: &str, parent: &str) -> Value {
    let condition = json!({ "value": "variables.amount", "op": "gt", "to": 1 });
    step(key, parent, "branch", &json!({ "conditions": [{ "path": "rich", "if": condition }] }))
}

#[test]
fn paths_lead_from_steps_that_take_them() {
    let sound = [
        send("a", "start"),
        listen("w", "a", "a"),
        on(branch("b", "w"), "matched"),
        on(end("x", "b"), "rich"),
        on(end("y", "b"), "default"),
        on(end("z", "w"), "timeout"),
    ];
    assert_eq!(step_faults(&sound), [""; 0]);
    for (steps, pointers) in [
        (vec![branch("b", "start"), end("x", "b")], &["/steps/1/path"][..]),
        (vec![branch("b", "start"), on(end("x", "b"), "poor")], &["/steps/1/path"]),
        (vec![send("a", "start"), listen("w", "a", "a"), on(end("x", "w"), "default")], &["/steps/2/path"]),
        (vec![on(end("x", "start"), "rich")], &["/steps/0/path"]),
        (vec![listen("w", "start", "a"), on(send("a", "w"), "matched")], &["/steps/0/config/step"]),
        (vec![end("a", "start"), listen("w", "start", "a")], &["/steps/1/config/step"]),
        (vec![listen("w", "start", "nobody")], &["/steps/0/config/step"]),
        (vec![step("c", "start", "cancelCards", &json!({ "steps": ["x"] }))], &["/steps/0/config/steps/0"]),
        (
            vec![step(
                "e",
                "start",
                "sendEvent",
                &json!({ "eventName": "x", "properties": { "a": "{{ steps.x.y }}" } }),
            )],
            &["/steps/0/config/properties/a"],
        ),
    ] {
        assert_eq!(step_faults(&steps), pointers, "{steps:?}");
    }
}

#[test]
fn all_faults_are_told_at_once() {
    let steps = [
        step("a", "b", "sendCard", &json!({ "templateId": "x" })),
        on(
            step("b", "a", "branch", &json!({ "conditions": [{ "path": "p", "if": { "value": "1 +", "op": "is" } }] })),
            "p",
        ),
        end("c", "nowhere"),
        step(
            "d",
            "start",
            "sendEvent",
            &json!({ "eventName": "card-published", "properties": { "x": "{{ amount }}" } }),
        ),
        end("c", "start"),
    ];
    let mut found = step_faults(&steps);
    found.sort();
    assert_eq!(
        found,
        [
            "/steps/0/config/templateId",
            "/steps/0/parent",
            "/steps/1/config/conditions/0/if/to",
            "/steps/1/config/conditions/0/if/value",
            "/steps/1/parent",
            "/steps/2/parent",
            "/steps/3/config/eventName",
            "/steps/3/config/properties/x",
            "/steps/4/key",
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
        (step("wait", json!({ "for": "cardAction" })), &["step", "events", "timeout"]),
        (step("branch", json!({})), &["conditions"]),
        (step("branch", json!({ "conditions": [] })), &["conditions"]),
        (step("branch", json!({ "conditions": [{ "path": "default" }] })), &["conditions/0/path", "conditions/0/if"]),
        (step("updateCustomer", json!({ "profile": { "plan": "x", "city": 7 } })), &["profile/city", "profile/plan"]),
        (step("updateCustomer", json!({ "profile": { "city": "x" }, "addTags": ["vip"] })), &["addTags"]),
        (step("sendRequest", json!({})), &["url"]),
        (
            step(
                "sendRequest",
                json!({ "url": "ftp://x", "method": "LOOK", "headers": { "Host": "x", "x-a": 1 }, "timeoutSeconds": 31,
                    "response": { "id": "$.a[", "status": "$.b" }, "credentialId": "x" }),
            ),
            &[
                "credentialId",
                "method",
                "url",
                "headers/Host",
                "headers/x-a",
                "response/id",
                "response/status",
                "timeoutSeconds",
            ],
        ),
        (step("sendEvent", json!({})), &["eventName"]),
        (step("cancelCards", json!({ "steps": "some" })), &["steps"]),
        (step("sendNotification", json!({})), &["title", "body", "containerIds"]),
        (step("end", json!({ "reason": "done" })), &["reason"]),
    ] {
        let expected: Vec<_> = pointers.iter().map(|name| format!("/steps/0/config/{name}")).collect();
        assert_eq!(step_faults(std::slice::from_ref(&step)), expected, "{step}");
    }
    for until in ["2030-01-01T00:00:00Z", "{{ variables.due }}"] {
        assert_eq!(step_faults(&[step("wait", json!({ "for": "until", "until": until }))]), [""; 0]);
    }
}
