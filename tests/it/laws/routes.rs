//! Every REST route of an environment refuses who has no token, the wrong role, or another environment's token.

use serde_json::json;

use crate::support::world::{World, access_token, text};

/// Method, path below the environment, and the roles that may call.
const ROUTES: &[(&str, &str, &[&str])] = &[
    ("POST", "action-flow/{flow}/start", &["events"]),
    ("POST", "action-flow/{flow}/test", &["events"]),
    ("GET", "action-flow", &["events", "workbench"]),
    ("GET", "action-flow/{flow}", &["events", "workbench"]),
    ("PUT", "action-flow/{flow}", &["workbench"]),
    ("POST", "action-flow/{flow}/publish", &["workbench"]),
    ("POST", "action-flow/{flow}/cancel", &["events"]),
    ("PUT", "action-flow/{flow}/variables", &["events"]),
    ("POST", "action-flow/{flow}/csv-task", &["events"]),
    ("POST", "action-flow/{flow}/csv-task/test", &["events"]),
    ("GET", "action-flow/{flow}/csv-task/task_01h455vb4pex5vsknk084sn02q", &["events"]),
    ("GET", "cards", &["events"]),
    ("PUT", "cards/complete", &["events"]),
    ("PUT", "cards/dismiss", &["events"]),
    ("PUT", "cards/cancel", &["events"]),
    ("GET", "users", &["events"]),
    ("GET", "user?id=nobody", &["events"]),
    ("POST", "users", &["events"]),
    ("PUT", "userPreferences", &["events"]),
    ("GET", "webhook", &["workbench"]),
    ("POST", "webhook", &["workbench"]),
    ("PUT", "webhook/{webhook}", &["workbench"]),
    ("POST", "webhook/{webhook}/test", &["workbench"]),
    ("DELETE", "webhook/{webhook}", &["workbench"]),
    ("GET", "credentials", &["auth"]),
    ("POST", "credentials", &["auth"]),
    ("DELETE", "credentials/{credential}", &["auth"]),
    ("GET", "analytics", &["events", "workbench"]),
    ("GET", "analytics/batched?from=2026-01-01T00:00:00Z&to=2026-01-01T01:00:00Z", &["events", "workbench"]),
];

#[tokio::test(flavor = "multi_thread")]
async fn routes_ask_for_token_role_and_environment() {
    let world = World::start().await;
    let auth = world.credential(&world.env, "AUTH").await;
    let auth_token = access_token(&world.test, &auth).await;
    let other = world.another_environment("Production").await;
    let foreign = access_token(&world.test, &world.credential(&other, "WORKBENCH").await).await;
    let webhook = json!({ "types": ["card-published"], "url": "http://127.0.0.1:9/" });
    let webhook = world.test.client.call(&world.workbench, "POST", &world.path("webhook"), webhook).await.data();
    let tokens = [("events", &world.events), ("workbench", &world.workbench), ("auth", &auth_token)];
    let mut wrong = Vec::new();
    for (method, path, roles) in ROUTES {
        let path = world.path(path);
        let path = path
            .replace("{flow}", &world.flow)
            .replace("{webhook}", &text(&webhook["id"]))
            .replace("{credential}", &text(&auth["clientId"]));
        let bare = world.test.client.send(method, &path, &[("content-type", "application/json")], "{}").await;
        if bare.status != 401 {
            wrong.push(format!("{method} {path} without a token: {} {}", bare.status, bare.text));
        }
        for (role, token) in &tokens {
            if roles.contains(role) {
                continue;
            }
            let answer = world.test.client.call(token, method, &path, json!({})).await;
            if answer.status != 403 {
                wrong.push(format!("{method} {path} as {role}: {} {}", answer.status, answer.text));
            }
        }
        let answer = world.test.client.call(&foreign, method, &path, json!({})).await;
        if answer.status != 404 {
            wrong.push(format!("{method} {path} of another environment: {} {}", answer.status, answer.text));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}
