//! Bad bodies get the documented code, change nothing, and tell nothing of the inside.

use serde_json::{Value, json};

use crate::support::client::Answer;
use crate::support::world::World;

/// What a body may be instead of what is asked for, and the codes that may answer it.
fn bad_bodies() -> Vec<(&'static str, Vec<u8>, &'static [&'static str])> {
    let refused = &["validation_failed", "bad_request", "unscoped_request", "invalid_json"][..];
    vec![
        ("not UTF-8", vec![b'{', b'"', 0xff, 0xfe, b'"', b':', b'1', b'}'], &["invalid_json"]),
        ("cut short", b"{\"flows\": [".to_vec(), &["invalid_json"]),
        ("not JSON", b"<xml/>".to_vec(), &["invalid_json"]),
        ("an array of numbers", b"[1, 2, 3]".to_vec(), refused),
        ("a number", b"42".to_vec(), refused),
        ("text", b"\"hello\"".to_vec(), refused),
        ("nested 100 deep", nested(100), &["validation_failed", "invalid_json"]),
        ("nested 100,000 deep", nested(100_000), &["validation_failed", "invalid_json"]),
        ("larger than the limit", vec![b' '; (5 << 20) + 1], &["payload_too_large"]),
    ]
}

fn nested(depth: usize) -> Vec<u8> {
    [vec![b'['; depth], vec![b']'; depth]].concat()
}

fn check(what: &str, path: &str, answer: &Answer, codes: &[&str], wrong: &mut Vec<String>) {
    let found = serde_json::from_str::<Value>(&answer.text).ok().and_then(|json| {
        let error = json["errors"][0].clone();
        let code = error["code"].as_str().or_else(|| error["extensions"]["code"].as_str())?;
        Some(code.to_owned())
    });
    if !found.as_deref().is_some_and(|code| codes.contains(&code)) {
        wrong.push(format!("{path}, {what}: {} {}", answer.status, answer.text.chars().take(200).collect::<String>()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_bodies_are_refused_everywhere() {
    let world = World::start().await;
    let events = format!("Bearer {}", world.events);
    let workbench = format!("Bearer {}", world.workbench);
    let start = world.path(&format!("action-flow/{}/start", world.flow));
    let routes = [
        ("POST", start, &events),
        ("POST", world.path(&format!("action-flow/{}/test", world.flow)), &events),
        ("POST", world.path("users"), &events),
        ("PUT", world.path("userPreferences"), &events),
        ("POST", world.path("webhook"), &workbench),
    ];
    let before = world.test.events().await;
    let mut wrong = Vec::new();
    for (method, path, authorization) in &routes {
        for (what, body, codes) in bad_bodies() {
            // An upsert of customers answers for each item of a list.
            if what == "an array of numbers" && path.ends_with("/users") {
                continue;
            }
            let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
            let answer = world.test.client.send(method, path, &headers, body).await;
            check(what, path, &answer, codes, &mut wrong);
        }
        let headers = [("authorization", authorization.as_str()), ("content-type", "text/plain")];
        let answer = world.test.client.send(method, path, &headers, "{}").await;
        check("plain text", path, &answer, &["unsupported_media_type"], &mut wrong);
    }
    assert_eq!(wrong, Vec::<String>::new());
    world.test.settle().await;
    assert_eq!(world.test.events().await, before, "nothing happened");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_graphql_bodies_are_refused() {
    let world = World::start().await;
    let authorization = format!("Bearer {}", world.session);
    let mut wrong = Vec::new();
    for (what, body, codes) in bad_bodies() {
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
        let answer = world.test.client.send("POST", "/graphql", &headers, body).await;
        // A list is a batch, whatever is in it.
        check(what, "/graphql", &answer, &[codes, &["bad_request"]].concat(), &mut wrong);
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// Wrong types inside a start request point to the field.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_types_have_pointers() {
    let world = World::start().await;
    let path = world.path(&format!("action-flow/{}/start", world.flow));
    let target = json!({ "type": "user", "targetUserIds": "user-123" });
    for (body, error) in [
        (json!({}), "validation_failed /flows"),
        (json!({ "flows": {} }), "validation_failed /flows"),
        (json!({ "flows": [] }), "validation_failed /flows"),
        (json!({ "flows": [1] }), "validation_failed /flows/0"),
        (json!({ "flows": [{}] }), "validation_failed /flows/0/target"),
        (
            json!({ "flows": [{ "target": { "type": "user", "targetUserIds": 5 } }] }),
            "validation_failed /flows/0/target/targetUserIds",
        ),
        (
            json!({ "flows": [{ "target": target, "flowInvocationId": 5 }] }),
            "validation_failed /flows/0/flowInvocationId",
        ),
        (
            json!({ "flows": [{ "target": target, "payload": { "variables": [] } }] }),
            "validation_failed /flows/0/payload/variables",
        ),
    ] {
        let answer = world.test.client.call(&world.events, "POST", &path, body.clone()).await;
        assert_eq!((answer.status, answer.errors()), (400, vec![error.to_owned()]), "{body}");
    }
    assert_eq!(world.test.column("SELECT count(*)::text AS value FROM customers").await, ["0"]);
}
