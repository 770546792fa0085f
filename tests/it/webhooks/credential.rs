//! §11.7: requests carry the credential of their subscription, or do not leave at all.

use cardwire::error::Code;
use cardwire::ids::OutgoingCredentialId;
use cardwire::webhooks::credential::kind::{Given, Kind, Scheme};
use cardwire::webhooks::credential::{Credential, create, delete, update};
use serde_json::json;

use super::Scene;
use crate::support::receiver::{Receiver, Reply};

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

async fn made(scene: &Scene, given: Given) -> OutgoingCredentialId {
    create(&scene.test.app, &scene.access, "theirs", given).await.unwrap().id
}

fn oauth(identity: &Receiver, scheme: Scheme) -> Given {
    Given {
        kind: Some(Kind::OauthClientCredentials),
        identity_url: Some(format!("{}?tenant=acme", identity.url())),
        client_id: some("our id"),
        client_secret: some("our&secret"),
        scope: some("cards:write"),
        scheme: Some(scheme),
        ..Given::default()
    }
}

fn aws() -> Given {
    Given {
        kind: Some(Kind::AwsSigned),
        access_key_id: some("AKIDEXAMPLE"),
        secret_access_key: some("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
        region: some("eu-west-1"),
        service: some("execute-api"),
        ..Given::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_and_a_password() {
    let (scene, receiver) = (Scene::start().await, Receiver::start().await);
    let given = Given { kind: Some(Kind::Basic), username: some("ana"), password: some("pass"), ..Given::default() };
    let id = made(&scene, given).await;
    scene.subscribe_with(&receiver, json!({ "credentialId": id })).await;
    scene.record("card-published").await;
    scene.settle().await;
    assert_eq!(receiver.received()[0].header("authorization"), "Basic YW5hOnBhc3M=");
    let kept =
        "SELECT (position('pass' in encode(secrets, 'escape')) > 0)::text || (settings ? 'password')::text AS value
                FROM outgoing_credentials";
    assert_eq!(scene.test.column(kept).await, ["falsefalse"], "the password is sealed");
    let logged = "SELECT request_headers::text AS value FROM webhook_requests";
    assert!(!scene.test.column(logged).await[0].contains("YW5h"), "the log does not tell the credential");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_fetched_once_in_each_scheme_and_again_after_a_refusal() {
    for (scheme, method, in_query) in
        [(Scheme::Body, "POST", false), (Scheme::QueryGet, "GET", true), (Scheme::QueryPost, "POST", true)]
    {
        let (scene, receiver, identity) = (Scene::start().await, Receiver::start().await, Receiver::start().await);
        let token =
            |text: &str| Reply::Json(json!({ "access_token": text, "token_type": "Bearer", "expires_in": 3600 }));
        identity.reply_next([token("first"), token("second")]);
        let id = made(&scene, oauth(&identity, scheme)).await;
        scene.subscribe_with(&receiver, json!({ "credentialId": id })).await;
        scene.record_many(5).await;
        scene.settle().await;
        let carried: Vec<_> = receiver.received().iter().map(|sent| sent.header("authorization").to_owned()).collect();
        assert_eq!(carried, ["Bearer first"; 5]);
        let asked = identity.received();
        assert_eq!(asked.len(), 1, "one token serves all");
        assert_eq!(asked[0].method.as_str(), method);
        let query = asked[0].uri.query().unwrap();
        assert!(query.starts_with("tenant=acme"), "{query}");
        let sent = if in_query { query.to_owned() } else { String::from_utf8(asked[0].body.to_vec()).unwrap() };
        for pair in
            ["grant_type=client_credentials", "client_id=our+id", "client_secret=our%26secret", "scope=cards%3Awrite"]
        {
            assert!(sent.contains(pair), "{pair} is not in {sent}");
        }
        assert_eq!(asked[0].body.is_empty(), in_query);

        receiver.reply_next([Reply::Status(401)]);
        scene.record("card-published").await;
        scene.settle().await;
        scene.advance(std::time::Duration::from_secs(60)).await;
        let last = receiver.received().last().unwrap().header("authorization").to_owned();
        assert_eq!(last, "Bearer second", "a refused token is not used again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_leaves_without_the_token_it_should_carry() {
    let (scene, receiver, identity) = (Scene::start().await, Receiver::start().await, Receiver::start().await);
    let replies =
        [Reply::Status(500), Reply::Json(json!({ "no": "token" })), Reply::Json(json!({ "access_token": "x" }))];
    identity.reply_next(replies);
    let id = made(&scene, oauth(&identity, Scheme::Body)).await;
    scene.subscribe_with(&receiver, json!({ "credentialId": id })).await;
    scene.record("card-published").await;
    scene.settle().await;
    assert!(receiver.received().is_empty());
    scene.advance(std::time::Duration::from_secs(60)).await;
    assert!(receiver.received().is_empty());
    scene.advance(std::time::Duration::from_secs(600)).await;
    assert_eq!(receiver.received().len(), 1, "it is delivered once there is a token");
    let errors = "SELECT error AS value FROM webhook_requests WHERE error IS NOT NULL ORDER BY at";
    assert_eq!(scene.test.column(errors).await, ["token_refused", "token_malformed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_signatures_stand_in_the_header_or_in_the_query() {
    let (scene, receiver) = (Scene::start().await, Receiver::start().await);
    let temporary = Given { session_token: some("session"), ..aws() };
    let in_header = made(&scene, temporary).await;
    let in_query = create(&scene.test.app, &scene.access, "query", Given { sign_query: Some(true), ..aws() }).await;
    scene.subscribe_with(&receiver, json!({ "credentialId": in_header })).await;
    scene.subscribe_with(&receiver, json!({ "credentialId": in_query.unwrap().id })).await;
    scene.record("card-published").await;
    scene.settle().await;
    let received = receiver.received();
    let (plain, queried) = match received.as_slice() {
        [one, other] if one.uri.query().is_none() => (one, other),
        [one, other] => (other, one),
        other => panic!("not two requests: {other:?}"),
    };
    let authorization = plain.header("authorization");
    assert!(
        authorization
            .starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260101/eu-west-1/execute-api/aws4_request")
    );
    assert_eq!(plain.header("x-amz-security-token"), "session");
    assert_eq!(plain.header("x-amz-date"), "20260101T000000Z");
    let query = queried.uri.query().unwrap();
    for part in ["X-Amz-Algorithm=AWS4-HMAC-SHA256", "X-Amz-Expires=300", "X-Amz-Signature="] {
        assert!(query.contains(part), "{part} is not in {query}");
    }
    assert!(!queried.headers.contains_key("authorization"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_counts_for_the_next_request_and_what_is_used_stays() {
    let (scene, receiver) = (Scene::start().await, Receiver::start().await);
    let (app, access) = (&scene.test.app, &scene.access);
    let given = Given { kind: Some(Kind::Basic), username: some("ana"), password: some("old"), ..Given::default() };
    let id = made(&scene, given.clone()).await;
    scene.subscribe_with(&receiver, json!({ "credentialId": id })).await;
    scene.record("card-published").await;
    scene.settle().await;
    let new = Given { password: some("new"), ..Given::default() };
    let changed: Credential = update(app, access, id, None, new, Some(1)).await.unwrap();
    assert_eq!(changed.revision, 2);
    scene.record("card-published").await;
    scene.settle().await;
    let carried: Vec<_> = receiver.received().iter().map(|sent| sent.header("authorization").to_owned()).collect();
    assert_eq!(carried, ["Basic YW5hOm9sZA==", "Basic YW5hOm5ldw=="]);
    let stale = update(app, access, id, Some("x"), Given::default(), Some(1)).await;
    assert_eq!(stale.err().map(|error| error.code()), Some(Code::Conflict));
    assert_eq!(delete(app, access, id).await.unwrap_err().code(), Code::InUse);
    let taken = create(app, access, "theirs", given).await;
    assert_eq!(taken.err().map(|error| error.code()), Some(Code::AlreadyExists));
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_name_credentials_that_fit() {
    let (scene, receiver) = (Scene::start().await, Receiver::start().await);
    let bare = Given { region: None, service: None, ..aws() };
    let unscoped = made(&scene, bare).await;
    let unknown = "ocred_00000000000000000000000000";
    for (more, pointer) in [
        (json!({ "credentialId": unknown }), "/credentialId"),
        (json!({ "credentialId": "key" }), "/credentialId"),
        (json!({ "credentialId": unscoped }), "/credentialId"),
    ] {
        let mut body = json!({ "types": ["card-published"], "url": receiver.url() });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let refused = match cardwire::webhooks::draft::read(&body) {
            Ok(draft) => cardwire::webhooks::subscription::create(&scene.test.app, &scene.access, draft).await.err(),
            Err(error) => Some(error),
        };
        assert_eq!(refused.unwrap().violations()[0].pointer.as_deref(), Some(pointer), "{more}");
    }
}
