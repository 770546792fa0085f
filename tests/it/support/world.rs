//! The environment of the first ten minutes, made through the public API as its reader would.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use cardwire::config::Config;
use cardwire::secret::Secret;
use serde_json::{Value, json};

use super::TestApp;
use super::client::Client;

pub const SETUP_TOKEN: &str = "a-setup-token-for-tests";
pub const OWNER_EMAIL: &str = "ana@example.com";
pub const OWNER_PASSWORD: &str = "correct horse battery";
pub const CUSTOMER: &str = "user-123";

/// A set-up instance with keys, content, a published flow, and who may call what.
pub struct World {
    pub test: TestApp,
    /// The owner's session.
    pub session: String,
    pub env: String,
    /// Access tokens by credential role.
    pub events: String,
    pub workbench: String,
    pub key: SigningKey,
    pub key_id: String,
    pub template: String,
    pub stream: String,
    pub container: String,
    pub flow: String,
}

/// The private half of an SDK key.
pub struct SigningKey {
    private: String,
    pub public: String,
}

impl SigningKey {
    pub fn generate() -> SigningKey {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let private = pem::encode(&pem::Pem::new("PRIVATE KEY", pair.to_pkcs8v1().unwrap().as_ref()));
        let public = pem::encode(&pem::Pem::new("PUBLIC KEY", pair.public_key().as_der().unwrap().as_ref()));
        SigningKey { private, public }
    }

    /// Signs claims with ES256.
    pub fn sign(&self, claims: &Value) -> String {
        let key = jsonwebtoken::EncodingKey::from_ec_pem(self.private.as_bytes()).unwrap();
        jsonwebtoken::encode(&jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256), claims, &key).unwrap()
    }
}

/// What tests of deliveries need: loopback receivers may be called.
pub fn with_loopback(config: &mut Config) {
    config.allow_destinations = vec!["127.0.0.0/8".parse().unwrap()];
    config.allow_http_destinations = true;
}

impl World {
    pub async fn start() -> World {
        World::with(with_loopback).await
    }

    pub async fn with(change: impl FnOnce(&mut Config)) -> World {
        let test = TestApp::with(|config| {
            config.setup_token = Some(Secret::new(SETUP_TOKEN));
            change(config);
        })
        .await;
        let (session, env) = set_up(&test).await;
        let key = SigningKey::generate();
        let mut world = World {
            test,
            session,
            env,
            key,
            events: String::new(),
            workbench: String::new(),
            key_id: String::new(),
            template: String::new(),
            stream: String::new(),
            container: String::new(),
            flow: String::new(),
        };
        world.make_keys().await;
        world.make_content().await;
        world.make_flow().await;
        world
    }

    /// A GraphQL operation of the owner, which must succeed; its data.
    pub async fn ask(&self, query: &str, variables: Value) -> Value {
        let answer = self.test.client.graphql(&self.session, query, variables).await.json();
        assert!(answer["errors"].is_null(), "{query}: {answer}");
        answer["data"].clone()
    }

    /// The codes and pointers with which the owner's operation is refused.
    pub async fn refused(&self, query: &str, variables: Value) -> Vec<String> {
        self.test.client.graphql(&self.session, query, variables).await.errors()
    }

    /// A path below the environment.
    pub fn path(&self, rest: &str) -> String {
        format!("/v1/{}/{rest}", self.env)
    }

    /// A token for a customer, good for an hour of the test's clock.
    pub fn token_for(&self, customer: &str) -> String {
        let now = self.test.app.clock().now().as_second();
        self.key.sign(&json!({ "sub": customer, "iat": now, "exp": now + 3600 }))
    }

    /// The payload of `connection_init` for a customer.
    pub fn init(&self, customer: &str) -> Value {
        json!({ "apiKey": "web", "authToken": self.token_for(customer), "platform": "Web", "timezone": "Pacific/Auckland" })
    }

    /// A GraphQL operation of a customer over HTTP.
    pub async fn sdk(&self, customer: &str, query: &str, variables: Value) -> super::client::Answer {
        let authorization = format!("Bearer {}", self.token_for(customer));
        let headers = [
            ("authorization", authorization.as_str()),
            ("x-cardwire-api-key", "web"),
            ("x-cardwire-platform", "Web"),
            ("x-cardwire-timezone", "Pacific/Auckland"),
        ];
        self.test.client.graphql_with(&headers, query, variables).await
    }

    /// Starts the flow with the body of the walk.
    pub async fn start_flow(&self, invocation: &str, customers: &Value) -> super::client::Answer {
        let body = json!({ "flows": [{ "flowInvocationId": invocation,
            "target": { "type": "user", "targetUserIds": customers }, "payload": { "variables": { "amount": "12" } } }] });
        let path = self.path(&format!("action-flow/{}/start", self.flow));
        self.test.client.call(&self.events, "POST", &path, body).await
    }

    /// Sends a card and gives its id.
    pub async fn send_card(&self, invocation: &str, customer: &str) -> String {
        assert_eq!(self.start_flow(invocation, &json!(customer)).await.status, 200);
        self.test.settle().await;
        let path = self.path(&format!("cards?flowInvocationId={invocation}&userId={customer}"));
        let cards = self.test.client.get(&self.events, &path).await.data();
        cards[0]["cardInstanceId"].as_str().expect("a card").to_owned()
    }

    /// A credential of a role in an environment: id and secret.
    pub async fn credential(&self, env: &str, role: &str) -> Value {
        let query = "mutation($env: ID!, $role: ApiCredentialRole!) {
            createApiCredential(input: { environmentId: $env, role: $role, name: \"test\" }) { clientId clientSecret } }";
        self.ask(query, json!({ "env": env, "role": role })).await["createApiCredential"].clone()
    }

    /// A second environment of the organisation.
    pub async fn another_environment(&self, name: &str) -> String {
        let query = "mutation($name: String!) { createEnvironment(input: { name: $name }) { environment { id } } }";
        text(&self.ask(query, json!({ "name": name })).await["createEnvironment"]["environment"]["id"])
    }

    /// A member who is in no group; their session.
    pub async fn powerless_member(&self) -> String {
        let query = "mutation { inviteMember(input: { firstName: \"Bo\", lastName: \"Bare\", email: \"bo@example.com\", groupIds: [] }) { link } }";
        let link = text(&self.ask(query, json!({})).await["inviteMember"]["link"]);
        let token = link.rsplit('/').next().unwrap().to_owned();
        let query = "mutation($token: String!) {
            acceptInvitation(input: { token: $token, password: \"another long password\" }) { sessionToken } }";
        let answer = self.test.client.graphql_with(&[], query, json!({ "token": token })).await.json();
        text(&answer["data"]["acceptInvitation"]["sessionToken"])
    }

    async fn make_keys(&mut self) {
        let made = self
            .ask(
                "mutation($env: ID!, $pem: String!) {
                   ev: createApiCredential(input: { environmentId: $env, role: EVENTS, name: \"shop\" }) { clientId clientSecret }
                   wb: createApiCredential(input: { environmentId: $env, role: WORKBENCH, name: \"ops\" }) { clientId clientSecret }
                   key: createSdkApiKey(input: { environmentId: $env, name: \"web\", type: PUBLIC_KEY, publicKey: $pem }) { apiKey { id name } } }",
                json!({ "env": self.env, "pem": self.key.public }),
            )
            .await;
        self.key_id = text(&made["key"]["apiKey"]["id"]);
        self.events = access_token(&self.test, &made["ev"]).await;
        self.workbench = access_token(&self.test, &made["wb"]).await;
    }

    async fn make_content(&mut self) {
        let made = self
            .ask(
                "mutation($env: ID!, $content: JSONObject!) {
                   createCardTemplate(input: { environmentId: $env, name: \"Offer\", content: $content }) { cardTemplate { id state } } }",
                json!({ "env": self.env, "content": offer() }),
            )
            .await;
        self.template = text(&made["createCardTemplate"]["cardTemplate"]["id"]);
        self.ask(
            "mutation($id: ID!) { publishCardTemplate(input: { templateId: $id }) { cardTemplate { publishedVersion } } }",
            json!({ "id": self.template }),
        )
        .await;
        let made = self
            .ask(
                "mutation($env: ID!, $ids: [ID!]!) {
                   createStream(input: { environmentId: $env, name: \"Home\", templateIds: $ids }) { stream { id } } }",
                json!({ "env": self.env, "ids": [self.template] }),
            )
            .await;
        self.stream = text(&made["createStream"]["stream"]["id"]);
        let made = self
            .ask(
                "mutation($env: ID!, $stream: ID!, $keys: [ID!]!) {
                   createStreamContainer(input: { environmentId: $env, name: \"Homepage\", streamId: $stream, apiKeyIds: $keys }) {
                     streamContainer { id cardLimit } } }",
                json!({ "env": self.env, "stream": self.stream, "keys": [self.key_id] }),
            )
            .await;
        assert_eq!(made["createStreamContainer"]["streamContainer"]["cardLimit"], 50);
        self.container = text(&made["createStreamContainer"]["streamContainer"]["id"]);
    }

    async fn make_flow(&mut self) {
        let definition = json!({
            "variables": [{ "name": "amount", "type": "number", "required": true }],
            "steps": [{ "key": "offer", "parent": "start", "type": "sendCard", "config": { "templateId": self.template } }],
        });
        self.flow = self.create_flow("Offer", definition).await;
    }

    /// Creates and publishes a flow.
    pub async fn create_flow(&self, name: &str, definition: Value) -> String {
        let made = self
            .ask(
                "mutation($env: ID!, $name: String!, $definition: JSONObject!) {
                   createFlow(input: { environmentId: $env, name: $name, definition: $definition }) { flow { id } } }",
                json!({ "env": self.env, "name": name, "definition": definition }),
            )
            .await;
        let flow = text(&made["createFlow"]["flow"]["id"]);
        let made = self
            .ask("mutation($id: ID!) { publishFlow(input: { flowId: $id }) { version } }", json!({ "id": flow }))
            .await;
        assert_eq!(made["publishFlow"]["version"], 1);
        flow
    }
}

/// Sets the instance up; the session and the environment.
async fn set_up(test: &TestApp) -> (String, String) {
    let query = "mutation($input: SetUpInstanceInput!) {
        setUpInstance(input: $input) { sessionToken environment { id apiHost baseUrl } } }";
    let input = json!({ "setupToken": SETUP_TOKEN, "organisationName": "Acme", "ownerName": "Ana",
        "ownerEmail": OWNER_EMAIL, "password": OWNER_PASSWORD });
    let answer = test.client.graphql_with(&[], query, json!({ "input": input })).await.json();
    assert!(answer["errors"].is_null(), "{answer}");
    let made = &answer["data"]["setUpInstance"];
    let env = text(&made["environment"]["id"]);
    assert_eq!(text(&made["environment"]["apiHost"]), test.origin);
    assert_eq!(text(&made["environment"]["baseUrl"]), format!("{}/v1/{env}", test.origin));
    (text(&made["sessionToken"]), env)
}

/// Exchanges a credential for an access token.
pub async fn access_token(test: &TestApp, credential: &Value) -> String {
    bearer(&test.client, credential).await
}

/// Exchanges a credential for an access token at the server of a client.
pub async fn bearer(client: &Client, credential: &Value) -> String {
    use base64::Engine;
    let pair = format!("{}:{}", text(&credential["clientId"]), text(&credential["clientSecret"]));
    let basic = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
    let headers = [("authorization", basic.as_str()), ("content-type", "application/x-www-form-urlencoded")];
    let answer = client.send("POST", "/oauth2/token", &headers, "grant_type=client_credentials").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.json()["token_type"], "Bearer");
    text(&answer.json()["access_token"])
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not text: {value}")).to_owned()
}

/// The card of the first ten minutes.
pub fn offer() -> Value {
    json!({
        "variables": [{ "name": "amount", "type": "number", "required": true }],
        "topCard": { "elements": [
            { "id": "h", "type": "headline", "attributes": { "text": "Hello {{ profile.name | default('there') }}" } },
            { "id": "t", "type": "text", "attributes": { "text": "You have {{ amount | number(2) }} to spend." } },
            { "id": "f", "type": "form", "children": [
                { "id": "c", "type": "dropdown", "attributes": { "name": "choice", "label": "Accept?",
                    "options": [ { "title": "Yes", "value": "yes" }, { "title": "No", "value": "no" } ] },
                  "validations": { "required": { "value": true, "message": "Please choose" } } },
                { "id": "b", "type": "submitButton", "attributes": { "name": "accept", "text": "Send" } } ] } ] },
    })
}
