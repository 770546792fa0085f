//! §3.5: SDK API keys as members manage them.

use serde_json::{Value, json};

use super::{Office, text};

pub(super) const PUBLIC: &str = include_str!("../../../src/access/jwt/fixtures/p256.pub.pem");
const RSA_PUBLIC: &str = include_str!("../../../src/access/jwt/fixtures/rsa.pub.pem");
const RSA_PRIVATE: &str = include_str!("../../../src/access/jwt/fixtures/rsa.pem");

const CREATE: &str = "mutation($input: CreateSdkApiKeyInput!) { createSdkApiKey(input: $input) {
    apiKey { id name type maxTokenDays allowedIssuers allowedAudiences userIdClaim } } }";
const UPDATE: &str = "mutation($input: UpdateSdkApiKeyInput!) { updateSdkApiKey(input: $input) {
    apiKey { name type userIdClaim revision } } }";

pub(super) async fn create(office: &Office, changes: &Value) -> String {
    let made = office.ask(CREATE, json!({ "input": input(office, changes) })).await;
    text(&made["createSdkApiKey"]["apiKey"]["id"])
}

fn input(office: &Office, changes: &Value) -> Value {
    let mut input = json!({ "environmentId": office.env, "name": "web", "type": "PUBLIC_KEY", "publicKey": PUBLIC });
    for (name, value) in changes.as_object().unwrap() {
        input[name] = value.clone();
    }
    input
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_has_defaults_and_a_name_of_its_own() {
    let office = Office::open().await;
    let made = office.ask(CREATE, json!({ "input": input(&office, &json!({})) })).await;
    let mut key = made["createSdkApiKey"]["apiKey"].clone();
    key.as_object_mut().unwrap().remove("id");
    assert_eq!(
        key,
        json!({ "name": "web", "type": "PUBLIC_KEY", "maxTokenDays": 7, "allowedIssuers": [], "allowedAudiences": [],
            "userIdClaim": null })
    );
    assert_eq!(office.refused(CREATE, json!({ "input": input(&office, &json!({})) })).await, ["already_exists /name"]);
    assert_eq!(office.audit().await, ["instance.set-up organisation", "sdk-api-key.create SDK API key"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_cannot_verify_are_refused_with_a_pointer() {
    let office = Office::open().await;
    let none = Value::Null;
    for (changes, refusal) in [
        (json!({ "name": "" }), "validation_failed /name"),
        (json!({ "publicKey": "nonsense" }), "validation_failed /publicKey"),
        (json!({ "publicKey": RSA_PRIVATE }), "validation_failed /publicKey"),
        (json!({ "publicKey": none }), "validation_failed /publicKey"),
        (json!({ "maxTokenDays": 31 }), "validation_failed /maxTokenDays"),
        (json!({ "maxTokenDays": 0 }), "validation_failed /maxTokenDays"),
        (json!({ "allowedIssuers": [""] }), "validation_failed /allowedIssuers"),
        (json!({ "userIdClaim": "" }), "validation_failed /userIdClaim"),
        (
            json!({ "claimMappings": [{ "claim": "$.a", "field": "user_type" }] }),
            "validation_failed /claimMappings/0/field",
        ),
        (json!({ "claimMappings": [{ "claim": "a b", "field": "city" }] }), "validation_failed /claimMappings/0/claim"),
        (json!({ "jwks": { "keys": [] } }), "validation_failed /jwks"),
        (json!({ "type": "JWKS", "publicKey": none, "jwks": {} }), "validation_failed /jwks"),
        (json!({ "type": "JWKS", "publicKey": none, "jwks": { "keys": [] } }), "validation_failed /jwks/keys"),
        (
            json!({ "type": "JWKS", "publicKey": none, "jwks": { "keys": [{ "kty": "oct", "k": "c2VjcmV0" }] } }),
            "validation_failed /jwks/keys/0",
        ),
        (
            json!({ "type": "JWKS", "publicKey": none, "jwks": { "url": "http://169.254.169.254/keys" } }),
            "validation_failed /jwks/url",
        ),
    ] {
        let refused = office.refused(CREATE, json!({ "input": input(&office, &changes) })).await;
        assert_eq!(refused, [refusal], "{changes}");
    }
    assert_eq!(office.test.column("SELECT name AS value FROM sdk_keys").await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_edited_listed_and_deleted() {
    let office = Office::open().await;
    let id = create(&office, &json!({ "userIdClaim": "customer" })).await;
    let edit = json!({ "input": { "id": id, "name": "app", "publicKey": RSA_PUBLIC, "userIdClaim": null } });
    let edited = office.ask(UPDATE, edit).await["updateSdkApiKey"]["apiKey"].clone();
    assert_eq!(edited, json!({ "name": "app", "type": "PUBLIC_KEY", "userIdClaim": null, "revision": 2 }));
    let set =
        json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" }] });
    let edited = office.ask(UPDATE, json!({ "input": { "id": id, "jwks": set } })).await;
    assert_eq!(edited["updateSdkApiKey"]["apiKey"]["type"], "JWKS");

    let list = "query($env: ID!) { sdkApiKeys(environmentId: $env) { nodes { name publicKey jwks } } }";
    let listed = office.ask(list, json!({ "env": office.env })).await;
    assert_eq!(listed["sdkApiKeys"]["nodes"], json!([{ "name": "app", "publicKey": null, "jwks": set }]));
    let delete = "mutation($id: ID!) { deleteSdkApiKey(id: $id) { id } }";
    office.ask(delete, json!({ "id": id })).await;
    assert_eq!(office.refused(delete, json!({ "id": id })).await, ["not_found"]);
}
