//! The first ten minutes, step by step, over the public protocols.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cardwire::secret::hmac_sha256;
use serde_json::{Value, json};

use crate::support::receiver::{Received, Receiver};
use crate::support::socket::Socket;
use crate::support::world::{CUSTOMER, World, text};

const FEED: &str = "subscription($c: ID!){ feed(containerId:$c){ __typename
    ... on FeedSnapshot { resumeToken totalCount cards { id } }
    ... on FeedPatch { resumeToken from to totalCount upserts { reason card { id topCard } } removals { reason cardId } }
    ... on FeedResync { reason } } }";

const COMPLETE: &str = "mutation($c: ID!, $card: ID!, $values: JSONObject) {
    completeCard(input: { containerId: $c, cardId: $card, buttonName: \"accept\", values: $values, source: CARD_BUTTON }) {
        ok event { id name timestamp } } }";

#[tokio::test(flavor = "multi_thread")]
async fn the_first_ten_minutes() {
    // 1 to 4: set-up, keys, content, container and flow are made by the world's start, by the calls of the walk.
    let world = World::start().await;
    let receiver = Receiver::start().await;

    // 5: webhook.
    let body = json!({ "types": ["card-published", "card-completed"], "url": receiver.url() });
    let hook = world.test.client.call(&world.workbench, "POST", &world.path("webhook"), body).await.data();
    let secret = text(&hook["secret"]);
    assert!(secret.starts_with("whsec_"));

    // 6: the app.
    let mut socket = Socket::open(&world.test.origin, world.init(CUSTOMER)).await;
    socket.subscribe("1", FEED, json!({ "c": world.container })).await;
    let snapshot = socket.next("1").await["feed"].clone();
    assert_eq!(snapshot["__typename"], "FeedSnapshot");
    assert_eq!((&snapshot["totalCount"], &snapshot["cards"]), (&json!(0), &json!([])));

    // 7: start; a repeat is a duplicate.
    let answer = world.start_flow("order-17", &json!(CUSTOMER)).await.data();
    assert!(text(&answer["batchId"]).starts_with("batch_"));
    let expected = json!({ "flowInvocationId": "order-17", "status": "accepted", "accepted": 1, "duplicate": 0,
        "ignored": 0, "rejected": 0, "errors": [] });
    assert_eq!(answer["flows"][0], expected);
    let again = world.start_flow("order-17", &json!(CUSTOMER)).await.data();
    assert_eq!((&again["flows"][0]["status"], &again["flows"][0]["duplicate"]), (&json!("duplicate"), &json!(1)));

    // 8: the card arrives.
    world.test.settle().await;
    let patch = socket.next("1").await["feed"].clone();
    assert_eq!(patch["__typename"], "FeedPatch");
    assert_eq!((&patch["from"], &patch["to"], &patch["totalCount"]), (&json!(0), &json!(1), &json!(1)));
    assert_eq!(patch["removals"], json!([]));
    assert_eq!(patch["upserts"][0]["reason"], "PUBLISH");
    let card = &patch["upserts"][0]["card"];
    let elements = &card["topCard"]["elements"];
    assert_eq!(elements[0], json!({ "id": "h", "type": "headline", "attributes": { "text": "Hello there" } }));
    assert_eq!(elements[1]["attributes"]["text"], "You have 12.00 to spend.");
    assert_eq!(patch["upserts"].as_array().unwrap().len(), 1, "a duplicate start makes no second card");
    let card = text(&card["id"]);

    // 9: a bad answer, the answer, and a second one.
    let variables = |values: Value| json!({ "c": world.container, "card": card, "values": values });
    assert_eq!(
        world.sdk(CUSTOMER, COMPLETE, variables(json!({}))).await.errors(),
        ["validation_failed /values/choice"]
    );
    let done = world.sdk(CUSTOMER, COMPLETE, variables(json!({ "choice": "yes" }))).await.data();
    assert_eq!(
        (&done["completeCard"]["ok"], &done["completeCard"]["event"]["name"]),
        (&json!(true), &json!("card-completed"))
    );
    let patch = socket.next("1").await["feed"].clone();
    assert_eq!(patch["removals"], json!([{ "reason": "COMPLETE", "cardId": card }]));
    assert_eq!((&patch["from"], &patch["totalCount"], &patch["upserts"]), (&json!(1), &json!(0), &json!([])));
    assert_eq!(world.sdk(CUSTOMER, COMPLETE, variables(json!({ "choice": "yes" }))).await.errors(), ["card_closed"]);

    // 10: the signed webhooks; the app hears nothing twice.
    world.test.settle().await;
    assert!(socket.silent_for(Duration::from_millis(200)).await);
    let received = receiver.received();
    assert_eq!(received.iter().map(Received::event).collect::<Vec<_>>(), ["card-published", "card-completed"]);
    for request in &received {
        verify(request, &secret);
    }
    let done = text(&done["completeCard"]["event"]["id"]);
    check_completed(&world, &received[1].json(), &hook, &card, &done);
    assert_eq!(
        world.test.events().await,
        [
            "action-flow-started",
            "card-published",
            "action-flow-step-completed",
            "action-flow-completed",
            "card-completed"
        ]
    );
}

/// The body of the last webhook, field by field.
fn check_completed(world: &World, body: &Value, hook: &Value, card: &str, event_id: &str) {
    assert_eq!(body["environmentId"], world.env);
    assert_eq!(body["webhookId"], hook["id"]);
    assert_eq!(body["isBatched"], false);
    assert!(text(&body["requestId"]).starts_with("req_"));
    let event = &body["data"];
    assert_eq!(event["id"], event_id);
    assert_eq!(event["endUserId"], CUSTOMER);
    assert_eq!(event["properties"], json!({ "values": { "choice": "yes", "accept": null }, "buttonName": "accept" }));
    let card_context = &event["cardContext"];
    assert_eq!(card_context["cardInstanceId"], card);
    assert_eq!(card_context["cardInstanceStatus"], "completed");
    assert_eq!(card_context["previousStatus"], "active");
    assert_eq!(card_context["cardTemplateId"], world.template);
    assert_eq!(card_context["cardTemplateName"], "Offer");
    assert_eq!(card_context["cardTemplateVersion"], 1);
    assert_eq!(card_context["cardTemplateSettings"], json!({ "sendNotifications": false }));
    assert_eq!(card_context["publishedAt"], "2026-01-01T00:00:00.000Z");
    assert_eq!(event["eventContext"]["ip"], "127.0.0.1");
    assert_eq!(event["eventContext"]["actionSource"], "card-button");
    assert_eq!(event["sdkContext"]["platform"], "Web");
    assert_eq!(event["sdkContext"]["sdkTimezone"], "Pacific/Auckland");
    assert_eq!(event["sdkContext"]["isDNDActive"], false);
    assert_eq!(event["sdkContext"]["containerId"], world.container);
    assert_eq!(event["streamContext"]["streamId"], world.stream);
    assert_eq!(event["streamContext"]["streamName"], "Home");
    let platform = &event["platformContext"];
    assert_eq!(platform["targetStreamIds"], json!([world.stream]));
    assert_eq!(platform["targetPlatforms"], json!(["Web", "iOS", "Android"]));
    assert_eq!(platform["flowInvocationId"], "order-17");
    assert_eq!(platform["flowConfigId"], world.flow);
    assert_eq!(platform["flowVersion"], 1);
    assert_eq!(platform["triggerEventSource"], "api");
    assert_eq!(platform["isTest"], false);
    assert_eq!(platform["eventDetail"], json!({ "amount": "12" }));
    assert_eq!(platform["eventNotificationDetail"], json!({}));
    assert!(text(&platform["lifecycleId"]).starts_with("life_"));
    assert!(text(&platform["flowInstanceId"]).starts_with("run_"));
}

/// Recreates both signatures as a receiver would.
fn verify(request: &Received, secret: &str) {
    assert_eq!(request.header("content-type"), "application/json; charset=utf-8");
    assert!(request.header("user-agent").starts_with("Cardwire/"));
    assert_eq!(request.header("webhook-id"), request.json()["data"]["id"]);
    let key = STANDARD.decode(secret.trim_start_matches("whsec_")).unwrap();
    let (id, timestamp) = (request.header("webhook-id"), request.header("webhook-timestamp"));
    let signature = hmac_sha256(&key, &[id.as_bytes(), b".", timestamp.as_bytes(), b".", &request.body]);
    assert_eq!(request.header("webhook-signature"), format!("v1,{}", STANDARD.encode(signature)));
    let plain = hmac_sha256(secret.as_bytes(), &[&request.body]);
    assert_eq!(request.header("x-cardwire-signature"), hex::encode(plain));
}
