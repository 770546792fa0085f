//! §2.2 and §3.5: customers in apps, from their token to the customer it makes.

use cardwire::access::authenticate::{from_connection_init, from_headers};
use cardwire::access::{Principal, SdkAccess, authenticate};
use cardwire::error::Code;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::sdk_keys::create;
use super::{Office, text};

const PRIVATE: &[u8] = include_bytes!("../../../src/access/jwt/fixtures/p256.pem");

fn sign(office: &Office, changes: &Value) -> String {
    let now = office.test.app.clock().now().as_second();
    let mut claims = json!({ "sub": "user-123", "iat": now, "exp": now + 3600 });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    let key = EncodingKey::from_ec_pem(PRIVATE).unwrap();
    jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &key).unwrap()
}

async fn connect(office: &Office, payload: &Value) -> Result<Principal, Code> {
    let peer = "203.0.113.9".parse().unwrap();
    from_connection_init(&office.test.app, payload, peer).await.map_err(|error| error.code())
}

async fn customer(office: &Office, payload: &Value) -> SdkAccess {
    match connect(office, payload).await {
        Ok(Principal::Sdk(access)) => access,
        other => panic!("not a customer: {other:?}"),
    }
}

async fn customers(office: &Office) -> Vec<String> {
    office.test.column("SELECT user_id || ' ' || user_type AS value FROM customers ORDER BY user_id").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verified_token_makes_its_customer_once() {
    let office = Office::open().await;
    let key = create(&office, &json!({})).await;
    let payload = json!({ "apiKey": "web", "authToken": sign(&office, &json!({})), "platform": "Web",
        "timezone": "Pacific/Auckland", "sdkVersion": "0.15.0" });
    let access = customer(&office, &payload).await;
    assert_eq!((access.env.to_string(), access.key.to_string()), (office.env.clone(), key));
    assert_eq!(access.user_id, "user-123");
    assert_eq!(access.sdk.platform.as_deref(), Some("Web"));
    assert_eq!(access.sdk.app_version.as_deref(), Some("unknown"));
    assert_eq!(access.info.address, Some("203.0.113.9".parse().unwrap()));
    assert_eq!(access.expires_at.as_second() - office.test.app.clock().now().as_second(), 3600);
    assert_eq!(customer(&office, &payload).await.customer, access.customer);
    assert_eq!(customers(&office).await, ["user-123 live"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_members_user_id_is_a_test_customer() {
    let office = Office::open().await;
    create(&office, &json!({})).await;
    let token = sign(&office, &json!({ "sub": office.member }));
    customer(&office, &json!({ "apiKey": "web", "authToken": token })).await;
    assert_eq!(customers(&office).await, [format!("{} test", office.member)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_tokens_make_nobody() {
    let office = Office::open().await;
    create(&office, &json!({ "allowedIssuers": ["https://id.example"] })).await;
    let now = office.test.app.clock().now().as_second();
    for (changes, code) in [
        (json!({}), Code::Unauthenticated),
        (json!({ "iss": "https://id.example", "exp": now - 61 }), Code::TokenExpired),
        (json!({ "iss": "https://id.example", "exp": now + 8 * 86_400 }), Code::Unauthenticated),
        (json!({ "iss": "https://id.example", "apiKey": "other" }), Code::Unauthenticated),
    ] {
        let payload = json!({ "apiKey": "web", "authToken": sign(&office, &changes) });
        assert_eq!(connect(&office, &payload).await.unwrap_err(), code, "{changes}");
    }
    let good = sign(&office, &json!({ "iss": "https://id.example" }));
    for (payload, code) in [
        (json!({ "apiKey": "unknown", "authToken": good }), Code::Unauthenticated),
        (json!({ "authToken": good }), Code::Unauthenticated),
        (json!({ "apiKey": "web", "authToken": office.owner }), Code::BadRequest),
        (json!({ "apiKey": 5, "authToken": good }), Code::BadRequest),
        (json!({ "apiKey": "web", "authToken": good, "platform": "Fridge" }), Code::BadRequest),
        (json!({ "apiKey": "web", "authToken": good, "timezone": "Mars/Olympus" }), Code::BadRequest),
        (json!({ "apiKey": "web", "authToken": good, "appVersion": "x".repeat(129) }), Code::BadRequest),
    ] {
        assert_eq!(connect(&office, &payload).await.unwrap_err(), code, "{payload}");
    }
    assert_eq!(customers(&office).await, Vec::<String>::new());
    customer(&office, &json!({ "apiKey": "web", "authToken": good })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_without_a_token_is_an_anonymous_app() {
    let office = Office::open().await;
    create(&office, &json!({})).await;
    assert!(matches!(connect(&office, &json!({ "apiKey": "web" })).await, Ok(Principal::SdkAnonymous(_))));
    assert!(matches!(connect(&office, &json!({})).await, Ok(Principal::Anonymous)));
    assert!(matches!(connect(&office, &json!({ "authToken": office.owner })).await, Ok(Principal::Member(_))));
    let token = office.token("EVENTS").await;
    assert!(matches!(connect(&office, &json!({ "authToken": token })).await, Ok(Principal::Credential(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_name_in_two_environments_is_told_apart_by_the_signature() {
    let office = Office::open().await;
    create(&office, &json!({})).await;
    let made = office
        .ask("mutation { createEnvironment(input: { name: \"Production\" }) { environment { id } } }", json!({}))
        .await;
    let production = text(&made["createEnvironment"]["environment"]["id"]);
    let rsa = include_str!("../../../src/access/jwt/fixtures/rsa.pub.pem");
    let other = create(&office, &json!({ "environmentId": production, "publicKey": rsa })).await;
    let payload = json!({ "apiKey": "web", "authToken": sign(&office, &json!({})) });
    assert_eq!(customer(&office, &payload).await.env.to_string(), office.env);

    let update = "mutation($input: UpdateSdkApiKeyInput!) { updateSdkApiKey(input: $input) { apiKey { id } } }";
    let same = json!({ "input": { "id": other, "publicKey": super::sdk_keys::PUBLIC } });
    office.ask(update, same).await;
    assert_eq!(connect(&office, &payload).await.unwrap_err(), Code::Unauthenticated);
    assert_eq!(connect(&office, &json!({ "apiKey": "web" })).await.unwrap_err(), Code::Unauthenticated);
    office
        .ask("mutation($id: ID!) { archiveEnvironment(id: $id) { environment { id } } }", json!({ "id": production }))
        .await;
    assert_eq!(customer(&office, &payload).await.env.to_string(), office.env);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_renewed_for_the_same_customer_only() {
    let office = Office::open().await;
    let key = create(&office, &json!({})).await;
    let app = &office.test.app;
    let access = customer(&office, &json!({ "apiKey": "web", "authToken": sign(&office, &json!({})) })).await;
    app.clock().advance(std::time::Duration::from_secs(1200));
    let renewed = authenticate::renew(app, &access, &sign(&office, &json!({}))).await.unwrap();
    assert_eq!(renewed.expires_at.as_second() - access.expires_at.as_second(), 1200);
    let stranger = sign(&office, &json!({ "sub": "user-456" }));
    assert_eq!(authenticate::renew(app, &access, &stranger).await.unwrap_err().code(), Code::Unauthenticated);
    office.ask("mutation($id: ID!) { deleteSdkApiKey(id: $id) { id } }", json!({ "id": key })).await;
    let token = sign(&office, &json!({}));
    assert_eq!(authenticate::renew(app, &access, &token).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "the handle is aborted in the test")]
async fn a_published_key_set_is_fetched_and_remembered() {
    let office = Office::open_with(|config| {
        config.allow_destinations = vec!["127.0.0.0/8".parse().unwrap()];
        config.allow_http_destinations = true;
    })
    .await;
    let mut jwk = serde_json::to_value(
        jsonwebtoken::jwk::Jwk::from_encoding_key(&EncodingKey::from_ec_pem(PRIVATE).unwrap(), Algorithm::ES256)
            .unwrap(),
    )
    .unwrap();
    jwk.as_object_mut().unwrap().remove("kid");
    let body = json!({ "keys": [jwk, { "kty": "oct", "k": "c2VjcmV0" }] }).to_string();
    let app = axum::Router::new().route("/keys", axum::routing::get(move || async move { body }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let serving = tokio::task::spawn(async move { axum::serve(listener, app).await });

    create(&office, &json!({ "type": "JWKS", "publicKey": null, "jwks": { "url": url } })).await;
    let payload = json!({ "apiKey": "web", "authToken": sign(&office, &json!({})) });
    customer(&office, &payload).await;
    serving.abort();
    office.test.app.clock().advance(std::time::Duration::from_secs(3000));
    customer(&office, &payload).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_is_the_peers_unless_a_trusted_proxy_says_otherwise() {
    let office = Office::open_with(|config| config.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()]).await;
    let mut headers = http::HeaderMap::new();
    headers.insert("x-forwarded-for", "198.51.100.7, 203.0.113.9, 10.0.0.2".parse().unwrap());
    for (peer, address) in [("10.0.0.1", "203.0.113.9"), ("192.0.2.1", "192.0.2.1")] {
        let found = authenticate::client_address(&office.test.app, &headers, peer.parse().unwrap());
        assert_eq!(found.to_string(), address);
    }
    headers.insert("x-cardwire-device", "x".repeat(257).parse().unwrap());
    let refused = from_headers(&office.test.app, &headers, "10.0.0.1".parse().unwrap()).await.unwrap_err();
    assert_eq!(refused.code(), Code::BadRequest);
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_fill_the_profile_and_write_only_what_is_new() {
    let office = Office::open().await;
    let mappings = json!([{ "claim": "$.email", "field": "email" }, { "claim": "$.home.city", "field": "city" },
        { "claim": "$.zone", "field": "timezone" }, { "claim": "$.roles[*]", "field": "region" }]);
    create(&office, &json!({ "claimMappings": mappings })).await;
    let enter = async |claims: &Value| {
        customer(&office, &json!({ "apiKey": "web", "authToken": sign(&office, claims) })).await;
        let row = "SELECT concat_ws(' ', email, city, timezone, region, updated_at::text) AS value FROM customers";
        office.test.column(row).await.remove(0)
    };
    let ana = json!({ "email": "ana@example.org", "home": { "city": "Porto" }, "zone": "Mars", "roles": ["a", "b"] });
    let first = enter(&ana).await;
    assert!(first.starts_with("ana@example.org Porto 2026"), "{first}");
    office.test.advance(std::time::Duration::from_secs(60)).await;
    assert_eq!(enter(&ana).await, first, "nothing new was said, so nothing is written");
    let moved = enter(&json!({ "home": { "city": "Faro" }, "zone": "Europe/Lisbon" })).await;
    assert!(moved.starts_with("ana@example.org Faro Europe/Lisbon 2026"), "{moved}");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_see_why_apps_are_refused() {
    const LIST: &str = "query($env: ID!, $first: Int, $after: String) {
        failedSdkRequests(environmentId: $env, first: $first, after: $after) {
            nodes { status code operation keyName claims } pageInfo { hasNextPage endCursor } } }";
    let office = Office::open().await;
    create(&office, &json!({ "maxTokenDays": 1 })).await;
    let week = office.test.app.clock().now().as_second() + 7 * 86_400;
    let refused = sign(&office, &json!({ "exp": week, "secret": "never shown" }));
    assert!(connect(&office, &json!({ "apiKey": "web", "authToken": refused })).await.is_err());
    let token = format!("Bearer {}", sign(&office, &json!({})));
    let headers = [("authorization", token.as_str()), ("x-cardwire-api-key", "web")];
    let missing = "mutation Finish { dismissCard(input: { containerId: \"ctnr_x\", cardId: \"card_x\" }) { ok } }";
    office.test.client.graphql_with(&headers, missing, json!({})).await;
    let unread = "query Wrong { nothing";
    office.test.client.graphql_with(&headers, unread, json!({})).await;
    let seen = office.ask(LIST, json!({ "env": office.env })).await["failedSdkRequests"]["nodes"].clone();
    assert_eq!(
        seen,
        json!([
            { "status": 400, "code": "bad_request", "operation": null, "keyName": "web", "claims": ["exp", "iat", "sub"] },
            { "status": 404, "code": "not_found", "operation": "Finish", "keyName": "web", "claims": ["exp", "iat", "sub"] },
            { "status": 401, "code": "unauthenticated", "operation": null, "keyName": "web",
              "claims": ["exp", "iat", "secret", "sub"] },
        ])
    );
    for _ in 0..12 {
        office.test.advance(std::time::Duration::from_secs(5)).await;
        for _ in 0..10 {
            assert!(connect(&office, &json!({ "apiKey": "web", "authToken": "x.y.z" })).await.is_err());
        }
    }
    let kept = office.test.column("SELECT count(*)::text AS value FROM sdk_failures").await;
    assert_eq!(kept, ["100"], "the oldest are forgotten");
    let page =
        office.ask(LIST, json!({ "env": office.env, "first": 2 })).await["failedSdkRequests"]["pageInfo"].clone();
    assert_eq!(page["hasNextPage"], true);
}
