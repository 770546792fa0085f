//! §11.8: the request log as it grows.

use std::collections::HashSet;
use std::time::Duration;

use cardwire::ids::{EnvId, Id, WebhookId};
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use serde_json::{Value, json};

use crate::support::receiver::{Receiver, Reply};
use crate::support::socket::Socket;
use crate::support::world::{World, text};

const FOLLOW: &str = "subscription($id: ID!, $after: String) { webhookRequests(webhookId: $id, after: $after) { cursor
    webhookRequest { requestId attempt status error isTest requestHeaders requestBody responseBody } } }";

async fn subscription(world: &World, receiver: &Receiver) -> String {
    let body = json!({ "types": ["action-flow-started"], "url": receiver.url() });
    let made = world.test.client.call(&world.workbench, "POST", &world.path("webhook"), body).await;
    text(&made.data()["id"])
}

async fn test_send(world: &World, webhook: &str) -> String {
    let path = world.path(&format!("webhook/{webhook}/test"));
    text(&world.test.client.call(&world.workbench, "POST", &path, json!({})).await.data()["requestId"])
}

async fn deliver(world: &World, invocation: &str) {
    assert_eq!(world.start_flow(invocation, &json!(invocation)).await.status, 200);
    world.test.settle().await;
}

async fn follow(world: &World, webhook: &str, after: Option<&str>) -> Socket {
    let mut socket = Socket::open(&world.test.origin, json!({ "authToken": world.session })).await;
    socket.subscribe("1", FOLLOW, json!({ "id": webhook, "after": after })).await;
    socket
}

/// The next attempt, and the cursor behind it.
async fn next(socket: &mut Socket) -> (Value, String) {
    let next = socket.next("1").await["webhookRequests"].clone();
    (next["webhookRequest"].clone(), text(&next["cursor"]))
}

/// A follower that stands: it has heard of the last of some tests.
async fn standing(world: &World, webhook: &str) -> (Socket, Value, String) {
    let mut socket = follow(world, webhook, None).await;
    let mut sent = HashSet::new();
    loop {
        let request = test_send(world, webhook).await;
        sent.insert(request.clone());
        while let Ok((heard, cursor)) = tokio::time::timeout(Duration::from_millis(200), next(&mut socket)).await {
            assert!(sent.contains(heard["requestId"].as_str().unwrap()), "what was before is not told: {heard}");
            if heard["requestId"] == request.as_str() {
                return (socket, heard, cursor);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_hears_each_attempt_once_and_goes_on_where_it_stopped() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    let webhook = subscription(&world, &receiver).await;
    let other = subscription(&world, &Receiver::start().await).await;
    deliver(&world, "before").await;
    let (mut socket, test, _) = standing(&world, &webhook).await;
    assert_eq!((&test["isTest"], &test["status"]), (&json!(true), &json!(200)));
    assert!(test["requestBody"].as_str().unwrap().contains("isTest"), "the log keeps all of a test: {test}");

    receiver.reply_next([Reply::Body(503, "not now".to_owned())]);
    deliver(&world, "retried").await;
    let (failed, _) = next(&mut socket).await;
    world.test.advance(Duration::from_secs(6)).await;
    let (taken, cursor) = next(&mut socket).await;
    assert_eq!((&failed["attempt"], &failed["status"]), (&json!(1), &json!(503)));
    assert_eq!((&taken["attempt"], &taken["status"]), (&json!(2), &json!(200)));
    assert_eq!(failed["requestId"], taken["requestId"]);
    assert_eq!((&failed["requestBody"], &failed["responseBody"]), (&Value::Null, &Value::Null));
    let headers = failed["requestHeaders"].as_object().unwrap();
    assert!(headers.contains_key("webhook-signature") && headers.values().all(Value::is_null), "{headers:?}");

    drop(socket);
    for missed in 0..5 {
        deliver(&world, &format!("missed-{missed}")).await;
    }
    let mut again = follow(&world, &webhook, Some(&cursor)).await;
    let mut heard = Vec::new();
    for _ in 0..5 {
        heard.push(text(&next(&mut again).await.0["requestId"]));
    }
    deliver(&world, "live").await;
    heard.push(text(&next(&mut again).await.0["requestId"]));
    let received = receiver.received();
    let sent: Vec<_> = received[received.len() - 6..].iter().map(|sent| text(&sent.json()["requestId"])).collect();
    assert_eq!(heard, sent, "each once, in the order in which they were made");
    test_send(&world, &other).await;
    assert!(again.silent_for(Duration::from_millis(100)).await, "of other subscriptions nothing is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_whose_transaction_commits_late_is_heard_too() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    let webhook = subscription(&world, &receiver).await;
    let (mut socket, _, _) = standing(&world, &webhook).await;
    let url = world.test.app.config().database_url.clone().unwrap();
    let mut late = AsyncPgConnection::establish(url.expose()).await.unwrap();
    let env = world.env.parse::<EnvId>().unwrap().uuid();
    late.batch_execute(&format!(
        "BEGIN; INSERT INTO webhook_requests (environment_id, webhook_id, id, at, request_id, events, attempt, duration_ms,
             url, method, error, is_test, request_headers, request_bytes, response_headers, response_bytes)
         VALUES ('{env}', '{}', gen_random_uuid(), '2026-01-01Z', gen_random_uuid(), 1, 1, 15000, 'http://slow/', 'POST',
             'timeout', false, '{{}}', 0, '{{}}', 0)",
        webhook.parse::<WebhookId>().unwrap().uuid()
    ))
    .await
    .unwrap();
    test_send(&world, &webhook).await;
    assert!(
        socket.silent_for(Duration::from_millis(100)).await,
        "nothing is passed while an older transaction is open"
    );
    late.batch_execute("COMMIT").await.unwrap();
    assert_eq!(next(&mut socket).await.0["error"], "timeout");
    assert_eq!(next(&mut socket).await.0["status"], 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_read_the_log_does_not_follow_it() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    let webhook = subscription(&world, &receiver).await;
    let powerless = world.powerless_member().await;
    for (token, id, after, expected) in [
        (&powerless, webhook.as_str(), None, "not_found"),
        (&world.session, "whk_00000000000000000000000000", None, "not_found"),
        (&world.session, webhook.as_str(), Some("nonsense"), "validation_failed"),
    ] {
        let mut socket = Socket::open(&world.test.origin, json!({ "authToken": token })).await;
        socket.subscribe("1", FOLLOW, json!({ "id": id, "after": after })).await;
        let refused = socket.hear().await.to_string();
        assert!(refused.contains(expected), "{refused}");
    }
}
