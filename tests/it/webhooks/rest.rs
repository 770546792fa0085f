//! The documented calls of subscriptions and events, over REST and GraphQL.

use cardwire::access::{CredentialRole, credential};
use serde_json::{Value, json};

use super::Scene;
use crate::support::receiver::Receiver;

impl Scene {
    /// An access token of a credential of this role.
    async fn token(&self, role: CredentialRole) -> String {
        let created = credential::create(&self.test.app, &self.access, role, "tests").await.unwrap();
        let form = format!(
            "grant_type=client_credentials&client_id={}&client_secret={}",
            created.credential.id,
            created.secret.expose()
        );
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let answer = self.test.client.send("POST", "/oauth2/token", &headers, form).await;
        answer.json()["access_token"].as_str().unwrap_or_else(|| panic!("{}", answer.text)).to_owned()
    }

    fn path(&self, rest: &str) -> String {
        format!("/v1/{}/{rest}", self.env)
    }
}

fn keys(object: &Value) -> Vec<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_calls_of_the_seed() {
    let scene = Scene::start().await;
    let receiver = Receiver::start().await;
    let (client, token) = (&scene.test.client, scene.token(CredentialRole::Workbench).await);
    let body = json!({
        "types": ["card-published", "card-completed"], "url": receiver.url(), "headers": { "My-Custom-Header": "123" },
    });
    let created = client.call(&token, "POST", &scene.path("webhook"), body).await;
    assert_eq!(created.status, 200, "{}", created.text);
    let created = created.data();
    assert_eq!(created["types"], json!(["card-published", "card-completed"]));
    assert_eq!(created["headers"], json!({ "My-Custom-Header": "123" }));
    assert!(created["secret"].as_str().unwrap().starts_with("whsec_"));
    assert_eq!((&created["created"], &created["updated"]), (&json!("2026-01-01T00:00:00.000Z"), &created["created"]));
    assert!(created.get("cardTemplateId").is_none() && created.get("actionFlowConfigId").is_none());

    scene.test.app.clock().advance(std::time::Duration::from_secs(1));
    let plain = json!({ "types": ["custom:order paid"], "url": receiver.url() });
    let plain = client.call(&token, "POST", &scene.path("webhook"), plain).await.data();
    assert!(!keys(&plain).contains(&"headers"));
    let listed = client.get(&token, &scene.path("webhook")).await.data();
    assert_eq!(listed, json!([created, plain]), "secrets included");

    let one = scene.path(&format!("webhook/{}", created["id"].as_str().unwrap()));
    let changed = client.call(&token, "PUT", &one, json!({ "maxRetries": 5 })).await.data();
    assert_eq!((&changed["maxRetries"], &changed["url"]), (&json!(5), &created["url"]));
    let tested = client.call(&token, "POST", &format!("{one}/test?type=card-completed"), json!({})).await.data();
    assert_eq!(keys(&tested), ["delivered", "durationMs", "requestId", "status"]);
    assert_eq!((&tested["delivered"], &tested["status"]), (&json!(true), &json!(200)));
    assert_eq!(receiver.received()[0].event(), "card-completed");
    for _ in 0..2 {
        let disabled = client.call(&token, "DELETE", &one, Value::Null).await;
        assert_eq!(disabled.status, 200);
        assert_eq!(
            (&disabled.data()["status"], &disabled.data()["disabledReason"]),
            (&json!("disabled"), &json!("api"))
        );
    }
    let listed = client.get(&token, &scene.path("webhook")).await.data();
    assert_eq!(listed.as_array().unwrap().len(), 2, "disabled ones are listed too");
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_have_codes_and_pointers() {
    let scene = Scene::start().await;
    let (client, token) = (&scene.test.client, scene.token(CredentialRole::Workbench).await);
    let path = scene.path("webhook");
    let answer =
        client.call(&token, "POST", &path, json!({ "types": ["nope"], "url": "x", "headers": { "Host": "a" } })).await;
    let pointed = ["validation_failed /types/0", "validation_failed /url", "validation_failed /headers/Host"];
    assert_eq!((answer.status, answer.errors()), (400, pointed.map(str::to_owned).to_vec()));
    assert_eq!(client.call(&token, "POST", &path, json!([1])).await.errors(), ["validation_failed "]);
    let unknown = "whk_00000000000000000000000000";
    for (method, rest, code) in [
        ("PUT", format!("webhook/{unknown}"), "not_found"),
        ("DELETE", format!("webhook/{unknown}"), "not_found"),
        ("DELETE", "webhook/evt_00000000000000000000000000".to_owned(), "not_found"),
        ("POST", format!("webhook/{unknown}/test"), "not_found"),
        ("PATCH", format!("webhook/{unknown}"), "method_not_allowed"),
    ] {
        let answer = client.call(&token, method, &scene.path(&rest), json!({})).await;
        assert_eq!(answer.errors(), [code], "{method} {rest}: {}", answer.text);
    }
    assert_eq!(client.call("nonsense", "GET", &path, json!({})).await.status, 401);
    for role in [CredentialRole::Events, CredentialRole::Auth] {
        let weak = scene.token(role).await;
        for (method, rest) in [("GET", "webhook"), ("POST", "webhook"), ("PUT", unknown), ("DELETE", unknown)] {
            let rest = if rest == "webhook" { rest.to_owned() } else { format!("webhook/{rest}") };
            let answer = client.call(&weak, method, &scene.path(&rest), json!({})).await;
            assert_eq!((answer.status, answer.errors()), (403, vec!["forbidden".to_owned()]), "{method} {rest}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_read_as_they_happen() {
    let scene = Scene::start().await;
    let (client, token) = (&scene.test.client, scene.token(CredentialRole::Events).await);
    let mut made = Vec::new();
    for name in ["card-published", "card-completed", "card-published"] {
        scene.test.app.clock().advance(std::time::Duration::from_secs(1));
        made.push(scene.record(name).await.to_string());
    }
    let ids = |data: &Value| -> Vec<String> {
        data["events"].as_array().unwrap().iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect()
    };
    let all = client.get(&token, &scene.path("analytics")).await.data();
    assert_eq!(ids(&all), made.iter().rev().cloned().collect::<Vec<_>>(), "newest first");
    assert_eq!(all["nextCursor"], Value::Null);
    let page = client.get(&token, &scene.path("analytics?limit=2")).await.data();
    assert_eq!(ids(&page), made[1..].iter().rev().cloned().collect::<Vec<_>>());
    let cursor = page["nextCursor"].as_str().unwrap();
    let rest = client.get(&token, &scene.path(&format!("analytics?limit=2&cursor={cursor}"))).await.data();
    assert_eq!(ids(&rest), made[..1]);
    for (query, count) in [
        ("types=card-completed", 1),
        ("types=card-completed,card-published&isTest=false", 3),
        ("isTest=true", 0),
        ("endUserId=user-123", 3),
        ("endUserId=nobody", 0),
        ("flowInvocationId=order-17", 3),
        ("flowInvocationId=order-18", 0),
        ("cardInstanceId=nonsense", 0),
        ("from=2026-01-01T00:00:02Z", 2),
        ("to=2026-01-01T00:00:02Z", 1),
    ] {
        let found = client.get(&token, &scene.path(&format!("analytics?{query}"))).await.data();
        assert_eq!(ids(&found).len(), count, "{query}");
    }
    let wrong = client.get(&token, &scene.path("analytics?types=nope")).await;
    assert_eq!(wrong.json()["errors"][0]["source"], json!({ "parameter": "types" }));
    let auth = scene.token(CredentialRole::Auth).await;
    assert_eq!(client.get(&auth, &scene.path("analytics")).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_events_go_on_into_days_long_past() {
    let scene = Scene::start().await;
    let mut made = Vec::new();
    for _ in 0..7 {
        scene.advance(std::time::Duration::from_secs(5 * 24 * 3600)).await;
        made.push(scene.record("card-published").await.to_string());
    }
    made.reverse();
    let (client, token) = (&scene.test.client, scene.token(CredentialRole::Events).await);
    let (mut read, mut query) = (Vec::new(), "analytics?from=2026-01-01T00:00:00Z&limit=2".to_owned());
    loop {
        let page = client.get(&token, &scene.path(&query)).await.data();
        read.extend(page["events"].as_array().unwrap().iter().map(|event| event["id"].as_str().unwrap().to_owned()));
        let Some(cursor) = page["nextCursor"].as_str() else { break };
        query = format!("analytics?from=2026-01-01T00:00:00Z&limit=2&cursor={cursor}");
    }
    assert_eq!(read, made);
    let early =
        client.get(&token, &scene.path("analytics?from=2026-01-01T00:00:00Z&to=2026-01-08T00:00:00Z")).await.data();
    assert_eq!(early["events"][0]["id"], *made.last().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_workbench_speaks_graphql() {
    let scene = Scene::start().await;
    let receiver = Receiver::start().await;
    let (client, token) = (&scene.test.client, scene.token(CredentialRole::Workbench).await);
    let run = async |query: &str, variables: Value| {
        let answer = client.graphql(&token, query, variables).await.json();
        assert!(answer["errors"].is_null(), "{query}: {answer}");
        answer["data"].clone()
    };
    let created = run(
        "mutation($input: CreateWebhookSubscriptionInput!) { createWebhookSubscription(input: $input) {
             webhookSubscription { id secret status types method maxRetries isBatched } } }",
        json!({ "input": { "environmentId": scene.env, "types": ["card-published"], "url": receiver.url(), "method": "PUT" } }),
    )
    .await["createWebhookSubscription"]["webhookSubscription"]
        .clone();
    let id = &created["id"];
    assert_eq!(
        (&created["status"], &created["method"], &created["maxRetries"]),
        (&json!("ACTIVE"), &json!("PUT"), &json!(22))
    );
    let event = scene.record("card-published").await;
    scene.settle().await;
    let tested = run(
        "mutation($id: ID!) { sendTestWebhook(id: $id, type: \"card-expired\") { delivered status } }",
        json!({ "id": id }),
    )
    .await;
    assert_eq!(tested["sendTestWebhook"], json!({ "delivered": true, "status": 200 }));
    let requests = run(
        "query($id: ID!) { webhookRequests(webhookId: $id) { nodes { isTest attempt status eventId requestBody } } }",
        json!({ "id": id }),
    )
    .await;
    let nodes = requests["webhookRequests"]["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 2);
    let real = nodes.iter().find(|node| node["isTest"] == false).unwrap();
    assert_eq!((&real["eventId"], &real["requestBody"]), (&json!(event), &Value::Null));
    let rotated = run(
        "mutation($id: ID!) { rotateWebhookSecret(id: $id, overlapHours: 2) { webhookSubscription { secret previousSecretUntil } } }",
        json!({ "id": id }),
    )
    .await;
    assert_ne!(rotated["rotateWebhookSecret"]["webhookSubscription"]["secret"], created["secret"]);
    for (operation, status) in
        [("disableWebhook", "DISABLED"), ("enableWebhook", "ACTIVE"), ("disableWebhook", "DISABLED")]
    {
        let query = format!("mutation($id: ID!) {{ {operation}(id: $id) {{ webhookSubscription {{ status }} }} }}");
        assert_eq!(run(&query, json!({ "id": id })).await[operation]["webhookSubscription"]["status"], status);
    }
    run("mutation($id: ID!) { deleteWebhook(id: $id) { id } }", json!({ "id": id })).await;
    let left = run(
        "query($env: ID!) { webhookSubscriptions(environmentId: $env) { nodes { id } } }",
        json!({ "env": scene.env }),
    )
    .await;
    assert_eq!(left["webhookSubscriptions"]["nodes"], json!([]));
    let events = run(
        "query($env: ID!) { analyticsEvents(environmentId: $env, filter: { types: [\"card-published\"] }) {
             nodes { id name event } pageInfo { hasNextPage endCursor } } }",
        json!({ "env": scene.env }),
    )
    .await;
    assert_eq!(events["analyticsEvents"]["nodes"][0]["event"]["id"], json!(event));
    let hidden =
        client.graphql(&token, "query($id: ID!) { webhookSubscription(id: $id) { id } }", json!({ "id": id })).await;
    assert_eq!(hidden.errors(), ["not_found"]);
}
