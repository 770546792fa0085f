//! Requests as packages of others see them: signatures, and access tokens of an authorization server.

use std::time::Duration;

use cardwire::ids::Id;
use cardwire::webhooks::credential::create;
use cardwire::webhooks::credential::kind::{Given, Kind, Scheme};
use cardwire::webhooks::{rotation, status, subscription};
use serde_json::{Value, json};

use super::{Scene, draft_of};
use crate::support::node;
use crate::support::receiver::{Received, Receiver};

async fn perform(scene: &Scene, ask: &Value) -> Value {
    let (app, access) = (&scene.test.app, &scene.access);
    let shown = |subscription: &subscription::Subscription| json!({ "id": subscription.id, "secret": subscription.reveal(app.vault()).unwrap().expose() });
    let id = ask["id"].as_str().map(|id| Id::parse(id).unwrap());
    match ask["do"].as_str().unwrap() {
        "subscribe" => shown(&subscription::create(app, access, draft_of(&ask["more"])).await.unwrap()),
        "record" => {
            scene.record("card-published").await;
            scene.settle().await;
            // A batch waits for others.
            scene.advance(Duration::from_secs(5)).await;
            Value::Null
        }
        "rotate" => shown(&rotation::rotate(app, access, id.unwrap(), None).await.unwrap()),
        "finish" => shown(&rotation::finish(app, access, id.unwrap()).await.unwrap()),
        "disable" => shown(&status::disable(app, access, id.unwrap()).await.unwrap()),
        "credential" => {
            let scheme = match ask["scheme"].as_str().unwrap() {
                "body" => Scheme::Body,
                "query-get" => Scheme::QueryGet,
                _ => Scheme::QueryPost,
            };
            let some = |text: &str| Some(text.to_owned());
            let given = Given {
                kind: Some(Kind::OauthClientCredentials),
                identity_url: some(ask["identityUrl"].as_str().unwrap()),
                client_id: some("our id"),
                client_secret: some("our&secret"),
                scope: some("cards:write"),
                scheme: Some(scheme),
                ..Given::default()
            };
            json!(create(app, access, ask["scheme"].as_str().unwrap(), given).await.unwrap().id)
        }
        other => panic!("nobody can {other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_of_others_verify_what_is_sent() {
    let directory = node::packages("webhooks");
    let scene = Scene::start().await;
    let now = scene.test.app.clock().now().as_second();
    node::run(&directory.join("verify.mjs"), &json!({ "now": now }), async |ask| perform(&scene, ask).await).await;
}

/// What the package of others signs for a request with a secret.
fn signed(secret: &str, sent: &Received, body: &[u8]) -> String {
    let timestamp = sent.header("webhook-timestamp").parse().unwrap();
    standardwebhooks::Webhook::new(secret).unwrap().sign(sent.header("webhook-id"), timestamp, body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_of_others_signs_the_same_as_is_sent() {
    let (scene, receiver) = (Scene::start().await, Receiver::start().await);
    let (app, access) = (&scene.test.app, &scene.access);
    let reveal = |subscription: &subscription::Subscription| subscription.reveal(app.vault()).unwrap();
    let first = scene.subscribe_with(&receiver, json!({ "types": ["card-published"] })).await;
    scene.record("card-published").await;
    scene.settle().await;
    let rotated = rotation::rotate(app, access, first.id, None).await.unwrap();
    scene.record("card-published").await;
    scene.settle().await;
    let (old, new) = (reveal(&first), reveal(&rotated));
    let [before, during] = receiver.received().try_into().unwrap_or_else(|other| panic!("not two: {other:?}"));
    assert_eq!(before.header("webhook-signature"), signed(old.expose(), &before, &before.body));
    let both = [signed(new.expose(), &during, &during.body), signed(old.expose(), &during, &during.body)].join(" ");
    assert_eq!(during.header("webhook-signature"), both, "the new one first");
    let longer = [&before.body[..], b" "].concat();
    assert_ne!(before.header("webhook-signature"), signed(old.expose(), &before, &longer));
}
