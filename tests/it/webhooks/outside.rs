//! Requests as packages of others see them: signatures, and access tokens of an authorization server.

use std::time::Duration;

use cardwire::ids::Id;
use cardwire::webhooks::credential::create;
use cardwire::webhooks::credential::kind::{Given, Kind, Scheme};
use cardwire::webhooks::{rotation, status, subscription};
use serde_json::{Value, json};

use super::{Scene, draft_of};
use crate::support::node;

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
