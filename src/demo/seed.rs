//! Makes the demo's environment through the public API, step by step, so that an interrupted start goes on where it
//! ended and a later start finds everything ready.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use super::keys;
use crate::app::App;
use crate::command::write_ready_file;
use crate::error::{Error, Result};
use crate::ids::Ids;
use crate::net::Outbound;
use crate::secret::random_token;

const DEADLINE: Duration = Duration::from_secs(15);
const HOOK_TYPES: &[&str] =
    &["card-published", "card-completed", "card-dismissed", "card-snoozed", "card-unsnoozed", "card-expired"];

/// Id and secret of an API credential.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Credential {
    pub client_id: String,
    pub client_secret: String,
}

/// What the demo remembers between starts, in `demo.json` of the data directory. Empty text: not made yet.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    #[serde(skip)]
    path: PathBuf,
    pub setup_token: Option<String>,
    pub password: String,
    pub environment_id: String,
    pub workbench: Credential,
    pub events: Credential,
    pub auth: Credential,
    pub key_name: String,
    pub private_key: String,
    pub public_key: String,
    pub key_id: String,
    pub template_id: String,
    pub stream_id: String,
    pub container_id: String,
    pub flow_id: String,
    pub customer_id: String,
    pub test_account: String,
    pub webhook_id: String,
    pub webhook_secret: String,
}

impl State {
    pub fn load(data_dir: &Path) -> Result<State> {
        let path = data_dir.join("demo.json");
        let mut state = match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text)
                .map_err(|error| Error::internal(format!("{} cannot be read: {error}", path.display())))?,
            Err(_) => State::default(),
        };
        state.path = path;
        Ok(state)
    }

    pub fn save(&self) -> Result<()> {
        if let Some(dir) = self.path.parent() {
            fs::create_dir_all(dir).map_err(Error::internal)?;
        }
        write_ready_file(&self.path, &serde_json::to_value(self)?)
    }
}

/// A caller of the public API.
pub struct Api {
    outbound: Outbound,
    here: String,
}

impl Api {
    pub fn new(outbound: Outbound, here: String) -> Api {
        Api { outbound, here }
    }

    /// Calls REST and gives the answer's JSON.
    pub async fn call(&self, token: &str, method: Method, path: &str, body: Option<Value>) -> Result<Value> {
        let url = Url::parse(&format!("{}{path}", self.here)).map_err(Error::internal)?;
        let mut request = self.outbound.request(method, &url).map_err(Error::internal)?.timeout(DEADLINE);
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer: Value = request.send().await.map_err(Error::internal)?.json().await.map_err(Error::internal)?;
        match answer.get("errors") {
            Some(errors) => Err(Error::internal(format!("{path} answered {errors}"))),
            None => Ok(answer),
        }
    }

    /// Runs a GraphQL operation and gives the value at a pointer into its data.
    pub async fn graphql(&self, token: &str, query: &str, variables: Value, pointer: &str) -> Result<Value> {
        let body = json!({ "query": query, "variables": variables });
        let answer = self.call(token, Method::POST, "/graphql", Some(body)).await?;
        let found = answer["data"].pointer(pointer).cloned();
        found.ok_or_else(|| Error::internal(format!("no {pointer} in the answer to {query}")))
    }

    /// An access token for a credential.
    pub async fn token(&self, credential: &Credential) -> Result<String> {
        let url = Url::parse(&format!("{}/oauth2/token", self.here)).map_err(Error::internal)?;
        let request = self.outbound.request(Method::POST, &url).map_err(Error::internal)?;
        let answer = request
            .basic_auth(&credential.client_id, Some(&credential.client_secret))
            .form(&[("grant_type", "client_credentials")])
            .timeout(DEADLINE)
            .send()
            .await
            .map_err(Error::internal)?;
        let answer: Value = answer.json().await.map_err(Error::internal)?;
        Ok(text(&answer["access_token"]))
    }
}

const OWNER_EMAIL: &str = "owner@example.com";

/// Makes what is missing and gives the content of the ready file.
pub async fn run(app: &App, here: &str, state: &mut State) -> Result<Value> {
    let api = Api::new(app.outbound().clone(), here.to_owned());
    let session = owner(&api, state).await?;
    let seeding = Seeding { api: &api, session: &session };
    seeding.credentials(state).await?;
    seeding.sdk_key(state).await?;
    seeding.content(state).await?;
    seeding.flow(state).await?;
    seeding.customers(state).await?;
    seeding.webhook(state, here).await?;
    let token = keys::token(&state.private_key, &state.customer_id, app.clock().now())?;
    Ok(json!({
        "origin": app.origin().as_str().trim_end_matches('/'),
        "environmentId": state.environment_id,
        "owner": { "email": OWNER_EMAIL, "password": state.password },
        "credentials": { "workbench": state.workbench, "events": state.events, "auth": state.auth },
        "sdkKey": { "name": state.key_name, "privateKeyPem": state.private_key },
        "streamId": state.stream_id,
        "containerId": state.container_id,
        "cardTemplateId": state.template_id,
        "flowConfigId": state.flow_id,
        "customerId": state.customer_id,
        "customerToken": token,
    }))
}

/// Sets the instance up, or signs in, and gives a session.
async fn owner(api: &Api, state: &mut State) -> Result<String> {
    if state.password.is_empty() {
        // Saved before it is used: an instance can be set up only once.
        random_token(&Ids::random()).expose().clone_into(&mut state.password);
        state.save()?;
    }
    if state.environment_id.is_empty() {
        let query = "mutation($input: SetUpInstanceInput!) {
            setUpInstance(input: $input) { sessionToken environment { id } } }";
        let input = json!({ "setupToken": state.setup_token, "organisationName": "Acme", "ownerName": "Ana",
            "ownerEmail": OWNER_EMAIL, "password": state.password });
        if let Ok(made) = api.graphql("", query, json!({ "input": input }), "/setUpInstance").await {
            state.environment_id = text(&made["environment"]["id"]);
            state.save()?;
            return Ok(text(&made["sessionToken"]));
        }
    }
    let query = "mutation($input: SignInInput!) { signIn(input: $input) { sessionToken } }";
    let input = json!({ "email": OWNER_EMAIL, "password": state.password });
    let session = text(&api.graphql("", query, json!({ "input": input }), "/signIn/sessionToken").await?);
    if state.environment_id.is_empty() {
        let query = "{ environments(first: 1) { nodes { id } } }";
        state.environment_id = text(&api.graphql(&session, query, json!({}), "/environments/nodes/0/id").await?);
        state.save()?;
    }
    Ok(session)
}

/// The steps that the owner takes.
struct Seeding<'a> {
    api: &'a Api,
    session: &'a str,
}

impl Seeding<'_> {
    async fn ask(&self, query: &str, variables: Value, pointer: &str) -> Result<Value> {
        self.api.graphql(self.session, query, variables, pointer).await
    }

    /// The id of the object of this name in a list, if it was made before.
    async fn named(&self, list: &str, env: &str, name: &str) -> Result<Option<String>> {
        let query = format!("query($env: ID!) {{ {list}(environmentId: $env, first: 200) {{ nodes {{ id name }} }} }}");
        let nodes = self.ask(&query, json!({ "env": env }), &format!("/{list}/nodes")).await?;
        let found = nodes.as_array().into_iter().flatten().find(|node| node["name"] == name);
        Ok(found.map(|node| text(&node["id"])))
    }

    async fn credentials(&self, state: &mut State) -> Result<()> {
        let query = "mutation($input: CreateApiCredentialInput!) {
            createApiCredential(input: $input) { clientId clientSecret } }";
        let env = state.environment_id.clone();
        for (role, credential) in
            [("WORKBENCH", &mut state.workbench), ("EVENTS", &mut state.events), ("AUTH", &mut state.auth)]
        {
            if credential.client_id.is_empty() {
                let input = json!({ "environmentId": env, "role": role, "name": "demo" });
                let made = self.ask(query, json!({ "input": input }), "/createApiCredential").await?;
                *credential = serde_json::from_value(made)?;
            }
        }
        state.save()
    }

    async fn sdk_key(&self, state: &mut State) -> Result<()> {
        if state.private_key.is_empty() {
            let pair = keys::generate()?;
            state.key_name = "web".to_owned();
            (state.private_key, state.public_key) = (pair.private, pair.public);
            state.save()?;
        }
        if state.key_id.is_empty() {
            state.key_id = match self.named("sdkApiKeys", &state.environment_id, &state.key_name).await? {
                Some(id) => id,
                None => {
                    let query = "mutation($input: CreateSdkApiKeyInput!) {
                        createSdkApiKey(input: $input) { apiKey { id } } }";
                    let input = json!({ "environmentId": state.environment_id, "name": state.key_name,
                        "type": "PUBLIC_KEY", "publicKey": state.public_key });
                    text(&self.ask(query, json!({ "input": input }), "/createSdkApiKey/apiKey/id").await?)
                }
            };
        }
        state.save()
    }

    async fn content(&self, state: &mut State) -> Result<()> {
        let env = state.environment_id.clone();
        if state.template_id.is_empty() {
            state.template_id = match self.named("cardTemplates", &env, "Offer").await? {
                Some(id) => id,
                None => {
                    let query = "mutation($input: CreateCardTemplateInput!) {
                        createCardTemplate(input: $input) { cardTemplate { id } } }";
                    let input = json!({ "environmentId": env, "name": "Offer", "content": content() });
                    text(&self.ask(query, json!({ "input": input }), "/createCardTemplate/cardTemplate/id").await?)
                }
            };
            state.save()?;
        }
        self.publish_template(state).await?;
        if state.stream_id.is_empty() {
            state.stream_id = match self.named("streams", &env, "Home").await? {
                Some(id) => id,
                None => {
                    let query =
                        "mutation($input: CreateStreamInput!) { createStream(input: $input) { stream { id } } }";
                    let input = json!({ "environmentId": env, "name": "Home", "templateIds": [state.template_id] });
                    text(&self.ask(query, json!({ "input": input }), "/createStream/stream/id").await?)
                }
            };
            state.save()?;
        }
        if state.container_id.is_empty() {
            state.container_id = match self.named("streamContainers", &env, "Homepage").await? {
                Some(id) => id,
                None => {
                    let query = "mutation($input: CreateStreamContainerInput!) {
                        createStreamContainer(input: $input) { streamContainer { id } } }";
                    let input = json!({ "environmentId": env, "name": "Homepage", "streamId": state.stream_id,
                        "apiKeyIds": [state.key_id] });
                    text(
                        &self
                            .ask(query, json!({ "input": input }), "/createStreamContainer/streamContainer/id")
                            .await?,
                    )
                }
            };
        }
        state.save()
    }

    async fn publish_template(&self, state: &State) -> Result<()> {
        let query = "query($id: ID!) { cardTemplate(id: $id) { publishedVersion } }";
        let version = self.ask(query, json!({ "id": state.template_id }), "/cardTemplate/publishedVersion").await?;
        if version.is_null() {
            let query = "mutation($input: PublishCardTemplateInput!) {
                publishCardTemplate(input: $input) { cardTemplate { id } } }";
            let input = json!({ "templateId": state.template_id });
            self.ask(query, json!({ "input": input }), "/publishCardTemplate/cardTemplate/id").await?;
        }
        Ok(())
    }

    async fn flow(&self, state: &mut State) -> Result<()> {
        if state.flow_id.is_empty() {
            state.flow_id = match self.named("flows", &state.environment_id, "Offer").await? {
                Some(id) => id,
                None => {
                    let query = "mutation($input: CreateFlowInput!) { createFlow(input: $input) { flow { id } } }";
                    let definition = json!({
                        "variables": [{ "name": "amount", "type": "number", "required": true }],
                        "steps": [{ "key": "offer", "parent": "start", "type": "sendCard",
                            "config": { "templateId": state.template_id } }],
                    });
                    let input =
                        json!({ "environmentId": state.environment_id, "name": "Offer", "definition": definition });
                    text(&self.ask(query, json!({ "input": input }), "/createFlow/flow/id").await?)
                }
            };
            state.save()?;
        }
        let query = "query($id: ID!) { flow(id: $id) { publishedVersion } }";
        let version = self.ask(query, json!({ "id": state.flow_id }), "/flow/publishedVersion").await?;
        if version.is_null() {
            let query = "mutation($input: PublishFlowInput!) { publishFlow(input: $input) { version } }";
            let input = json!({ "flowId": state.flow_id });
            self.ask(query, json!({ "input": input }), "/publishFlow/version").await?;
        }
        Ok(())
    }

    async fn customers(&self, state: &mut State) -> Result<()> {
        if state.customer_id.is_empty() {
            let token = self.api.token(&state.events).await?;
            let path = format!("/v1/{}/users", state.environment_id);
            self.api.call(&token, Method::POST, &path, Some(json!([{ "id": "user-123" }]))).await?;
            state.customer_id = "user-123".to_owned();
            state.save()?;
        }
        if state.test_account.is_empty() {
            let query = "mutation($input: CreateTestAccountInput!) {
                createTestAccount(input: $input) { testAccount { id } } }";
            let input = json!({ "environmentId": state.environment_id, "id": "test-ana", "name": "Ana" });
            // The error says that an interrupted start made it already; any other shows when it is used.
            if let Err(error) = self.ask(query, json!({ "input": input }), "/createTestAccount").await {
                tracing::debug!(%error, "the test account was not made");
            }
            state.test_account = "test-ana".to_owned();
        }
        state.save()
    }

    /// The subscription points to the receiver of this very process, whose port may differ at each start.
    async fn webhook(&self, state: &mut State, here: &str) -> Result<()> {
        let token = self.api.token(&state.workbench).await?;
        let url = format!("{here}/demo/hook");
        let path = format!("/v1/{}/webhook", state.environment_id);
        if state.webhook_id.is_empty() {
            let body = json!({ "types": HOOK_TYPES, "url": url, "name": "Demo page" });
            let made = self.api.call(&token, Method::POST, &path, Some(body)).await?;
            state.webhook_id = text(&made["data"]["id"]);
            state.webhook_secret = text(&made["data"]["secret"]);
            return state.save();
        }
        let path = format!("{path}/{}", state.webhook_id);
        self.api.call(&token, Method::PUT, &path, Some(json!({ "url": url }))).await.map(drop)
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The card of the first ten minutes.
fn content() -> Value {
    json!({
        "variables": [{ "name": "amount", "type": "number", "required": true }],
        "topCard": { "elements": [
            { "id": "h", "type": "headline", "attributes": { "text": "Hello {{ profile.name | default('there') }}" } },
            { "id": "t", "type": "text", "attributes": { "text": "You have {{ amount | number(2) }} to spend." } },
            { "id": "f", "type": "form", "children": [
                { "id": "c", "type": "dropdown",
                  "attributes": { "name": "choice", "label": "Accept?", "options": [
                      { "title": "Yes", "value": "yes" }, { "title": "No", "value": "no" } ] },
                  "validations": { "required": { "value": true, "message": "Please choose" } } },
                { "id": "b", "type": "submitButton", "attributes": { "name": "accept", "text": "Send" } } ] } ] },
    })
}
