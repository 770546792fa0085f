//! What may be said about subscriptions.

use cardwire::error::{Code, Error};
use cardwire::webhooks::subscription;
use serde_json::{Value, json};

use super::{Scene, draft_of};
use crate::support::receiver::Receiver;

fn pointers(error: &Error) -> Vec<&str> {
    error.violations().iter().filter_map(|violation| violation.pointer.as_deref()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_must_exist_and_does_not_change() {
    let scene = Scene::start().await;
    let receiver = Receiver::start().await;
    let (app, access) = (&scene.test.app, &scene.access);
    let template: cardwire::ids::TemplateId = app.ids().make(app.clock().now());
    let body = json!({ "types": ["card-published"], "url": receiver.url(), "cardTemplateId": template });
    let Err(unknown) = subscription::create(app, access, draft_of(&body)).await else { panic!("accepted") };
    assert_eq!(pointers(&unknown), ["/cardTemplateId"]);
    let plain = scene.subscribe(&receiver).await;
    let scoped = draft_of(&json!({ "cardTemplateId": template }));
    let Err(fixed) = subscription::update(app, access, plain.id, scoped).await else { panic!("accepted") };
    assert_eq!(pointers(&fixed), ["/cardTemplateId"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_change_what_they_mention() {
    let scene = Scene::start().await;
    let receiver = Receiver::start().await;
    let (app, access) = (&scene.test.app, &scene.access);
    let created = scene.subscribe_with(&receiver, json!({ "name": "one", "headers": { "a": "b" } })).await;
    let update = |body: Value| subscription::update(app, access, created.id, draft_of(&body));
    let same = update(json!({ "name": "one" })).await.unwrap();
    assert_eq!(same.revision, 1, "what is said already changes nothing");
    let changed = update(json!({ "name": null, "maxRetries": 3, "headers": {}, "expectedRevision": 1 })).await.unwrap();
    assert_eq!((changed.name, changed.max_retries, changed.revision), (None, 3, 2));
    assert_eq!(changed.headers, json!({}));
    assert_eq!(changed.types, created.types);
    let Err(stale) = update(json!({ "name": "two", "expectedRevision": 1 })).await else { panic!("accepted") };
    assert_eq!(stale.code(), Code::Conflict);
    let own = "a secret of our own making";
    app.clock().advance(std::time::Duration::from_secs(1));
    let with_own = update(json!({ "secret": own })).await.unwrap();
    assert_eq!(with_own.reveal(app.vault()).unwrap().expose(), own);
    let fields = scene
        .test
        .column("SELECT array_to_string(fields, ' ') AS value FROM audit_entries WHERE action = 'webhook-subscription.update' ORDER BY id")
        .await;
    assert_eq!(fields, ["name headers maxRetries", "secret"], "names, never values");
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_lie_sealed() {
    let scene = Scene::start().await;
    let receiver = Receiver::start().await;
    let own = "a secret of our own making";
    scene.subscribe_with(&receiver, json!({ "secret": own })).await;
    let row = scene.test.column("SELECT encode(secret, 'escape') AS value FROM webhook_subscriptions").await;
    assert!(!row[0].contains("secret of our own"), "{row:?}");
}
