//! §3.4 and §3.7: API credentials, access tokens, and their REST.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::{FORM, Office, text};

fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_given_for_every_documented_way_to_ask() {
    let office = Office::open().await;
    let (id, secret) = office.credential("EVENTS").await;
    let basic = basic(&id, &secret);
    let in_body = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
    let in_query = format!("/oauth2/token?{in_body}");
    for (path, headers, body) in [
        ("/oauth2/token", vec![FORM, ("authorization", basic.as_str())], "grant_type=client_credentials"),
        ("/oauth2/token?grant_type=client_credentials", vec![("authorization", basic.as_str())], ""),
        ("/oauth2/token", vec![FORM], in_body.as_str()),
        (in_query.as_str(), vec![], ""),
    ] {
        let answer = office.test.client.send("POST", path, &headers, body).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        assert_eq!(answer.json()["token_type"], "Bearer");
        assert_eq!(answer.json()["expires_in"], 3600);
        assert_eq!(answer.headers["cache-control"], "no-store");
        let token = text(&answer.json()["access_token"]);
        let environments = office.test.client.get(&token, "/v1/environments").await.data();
        assert_eq!(environments, json!([{ "id": office.env, "name": "Sandbox" }]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_the_token_endpoint_follow_the_rfc() {
    let office = Office::open().await;
    let (id, secret) = office.credential("EVENTS").await;
    let (right, wrong) = (basic(&id, &secret), basic(&id, "wrong"));
    let grant = "grant_type=client_credentials";
    let twice = format!("{grant}&client_id={id}&client_secret={secret}");
    let unknown = format!("{grant}&client_id=cred_00000000000000000000000000&client_secret=x");
    for (headers, body, status, error) in [
        (vec![FORM, ("authorization", wrong.as_str())], grant, 401, "invalid_client"),
        (vec![FORM, ("authorization", "Bearer x")], grant, 401, "invalid_client"),
        (vec![FORM], grant, 401, "invalid_client"),
        (vec![FORM], unknown.as_str(), 401, "invalid_client"),
        (vec![FORM, ("authorization", right.as_str())], "grant_type=password", 400, "unsupported_grant_type"),
        (vec![FORM, ("authorization", right.as_str())], "", 400, "invalid_request"),
        (vec![FORM, ("authorization", right.as_str())], twice.as_str(), 400, "invalid_request"),
        (vec![FORM], "grant_type=a&grant_type=b", 400, "invalid_request"),
        (vec![("content-type", "application/json")], "{}", 400, "invalid_request"),
    ] {
        let answer = office.test.client.send("POST", "/oauth2/token", &headers, body).await;
        assert_eq!((answer.status, answer.json()["error"].as_str()), (status, Some(error)), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_gets_five_tokens_a_second() {
    let office = Office::open().await;
    let (id, secret) = office.credential("EVENTS").await;
    for _ in 0..5 {
        assert_eq!(office.exchange(&id, &secret).await.status, 200);
    }
    let refused = office.exchange(&id, &secret).await;
    assert_eq!((refused.status, refused.headers["retry-after"].to_str().unwrap()), (429, "1"));
    office.test.app.clock().advance(Duration::from_secs(1));
    assert_eq!(office.exchange(&id, &secret).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lasts_an_hour() {
    let office = Office::open().await;
    let token = office.token("EVENTS").await;
    office.test.app.clock().advance(Duration::from_secs(3599));
    assert_eq!(office.test.client.get(&token, "/v1/environments").await.status, 200);
    office.test.app.clock().advance(Duration::from_secs(1));
    let expired = office.test.client.get(&token, "/v1/environments").await;
    assert_eq!((expired.status, expired.errors()), (401, vec!["token_expired".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_credential_ends_its_tokens_at_once() {
    let office = Office::open().await;
    let (id, secret) = office.credential("WORKBENCH").await;
    let token = text(&office.exchange(&id, &secret).await.json()["access_token"]);
    assert_eq!(office.test.client.get(&token, "/v1/environments").await.status, 200);
    office.ask("mutation($id: ID!) { deleteApiCredential(id: $id) { id } }", json!({ "id": id })).await;
    let refused = office.test.client.get(&token, "/v1/environments").await;
    assert_eq!((refused.status, refused.errors()), (401, vec!["unauthenticated".to_owned()]));
    assert_eq!(office.exchange(&id, &secret).await.status, 401);
    assert_eq!(
        office.audit().await,
        ["instance.set-up organisation", "api-credential.create API credential", "api-credential.delete API credential"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn members_list_and_rename_credentials_and_see_no_secret() {
    let office = Office::open().await;
    let (id, secret) = office.credential("AUTH").await;
    office.exchange(&id, &secret).await;
    let listed = office
        .ask(
            "query($env: ID!) { apiCredentials(environmentId: $env) { nodes { clientId name role lastUsedAt } } }",
            json!({ "env": office.env }),
        )
        .await;
    assert_eq!(
        listed["apiCredentials"]["nodes"],
        json!([{ "clientId": id, "name": "shop", "role": "AUTH", "lastUsedAt": null }])
    );
    let rename = "mutation($input: UpdateApiCredentialInput!) {
        updateApiCredential(input: $input) { apiCredential { name revision } } }";
    let renamed = office.ask(rename, json!({ "input": { "id": id, "name": "🛍 any text", "expectedRevision": 1 } })).await;
    assert_eq!(renamed["updateApiCredential"]["apiCredential"], json!({ "name": "🛍 any text", "revision": 2 }));
    let stale = json!({ "input": { "id": id, "name": "x", "expectedRevision": 1 } });
    assert_eq!(office.refused(rename, stale).await, ["conflict /expectedRevision"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn auth_credentials_make_list_and_delete_the_other_roles_over_rest() {
    let office = Office::open().await;
    let auth = office.token("AUTH").await;
    let client = &office.test.client;
    let path = format!("/v1/{}/credentials", office.env);

    let made = client.call(&auth, "POST", &path, json!({ "role": "events", "name": "QA" })).await;
    assert_eq!(made.status, 201);
    let (id, secret) = (text(&made.data()["clientId"]), text(&made.data()["clientSecret"]));
    assert_eq!(office.exchange(&id, &secret).await.status, 200);

    let listed = client.get(&auth, &path).await.data();
    let row = listed.as_array().unwrap().iter().find(|row| row["clientId"] == json!(id)).unwrap().clone();
    assert_eq!(row, json!({ "clientId": id, "name": "QA", "role": "events", "created": "2026-01-01T00:00:00.000Z" }));

    for (body, refusal) in [
        (json!({ "role": "auth" }), "validation_failed /role"),
        (json!({ "name": "QA" }), "validation_failed /role"),
        (json!({ "role": "events", "name": 5 }), "validation_failed /name"),
    ] {
        assert_eq!(client.call(&auth, "POST", &path, body).await.errors(), [refusal]);
    }

    let gone = client.call(&auth, "DELETE", &format!("{path}/{id}"), json!({})).await;
    assert_eq!((gone.status, gone.data()), (200, json!({ "clientId": id })));
    assert_eq!(client.call(&auth, "DELETE", &format!("{path}/{id}"), json!({})).await.errors(), ["not_found"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_keep_to_their_role_and_environment() {
    let office = Office::open().await;
    let (auth_id, _) = office.credential("AUTH").await;
    let auth = office.token("AUTH").await;
    let client = &office.test.client;
    let path = format!("/v1/{}/credentials", office.env);
    for role in ["WORKBENCH", "EVENTS"] {
        let token = office.token(role).await;
        let refused = client.get(&token, &path).await;
        assert_eq!((refused.status, refused.errors()), (403, vec!["forbidden".to_owned()]), "{role}");
    }
    let protected = client.call(&auth, "DELETE", &format!("{path}/{auth_id}"), json!({})).await;
    assert_eq!(protected.errors(), ["forbidden"]);
    let create = "mutation($input: CreateApiCredentialInput!) { createApiCredential(input: $input) { clientId } }";
    let input = json!({ "input": { "environmentId": office.env, "role": "AUTH" } });
    assert_eq!(office.refused_as(&auth, create, input).await, ["forbidden"]);

    let other = office
        .ask("mutation { createEnvironment(input: { name: \"Production\" }) { environment { id } } }", json!({}))
        .await;
    let other = text(&other["createEnvironment"]["environment"]["id"]);
    for elsewhere in [other.as_str(), "env_00000000000000000000000000", "nonsense"] {
        let answer = client.get(&auth, &format!("/v1/{elsewhere}/credentials")).await;
        assert_eq!((answer.status, answer.errors()), (404, vec!["not_found".to_owned()]), "{elsewhere}");
    }
    assert_eq!(client.send("GET", &path, &[], "").await.errors(), ["unauthenticated"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_gets_two_hundred_requests_at_once() {
    let office = Office::open().await;
    let token = office.token("EVENTS").await;
    for _ in 0..200 {
        assert_eq!(office.test.client.get(&token, "/v1/environments").await.status, 200);
    }
    let refused = office.test.client.get(&token, "/v1/environments").await;
    assert_eq!((refused.status, refused.errors()), (429, vec!["rate_limited".to_owned()]));
    assert_eq!(refused.headers["retry-after"], "1");
}
