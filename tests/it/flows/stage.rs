//! An environment with an owner, credentials and a published card template.

use std::collections::BTreeMap;

use axum::http::HeaderMap;
use cardwire::access::authenticate;
use cardwire::access::credential;
use cardwire::access::setup::{self, Beginning};
use cardwire::access::{CredentialRole, RequestInfo};
use cardwire::secret::Secret;
use serde_json::{Value, json};

use crate::support::TestApp;
use crate::support::client::Answer;

pub struct Stage {
    pub test: TestApp,
    pub env: String,
    /// The owner's session.
    pub owner: String,
    /// The user id of the owner, who may get tests.
    pub owner_id: String,
    /// A token of a credential of role `events`.
    pub events: String,
    pub workbench: String,
    /// Published: a headline with the required number `amount`.
    pub template: String,
}

impl Stage {
    pub async fn set() -> Stage {
        let test = TestApp::start().await;
        let beginning = Beginning {
            setup_token: setup::prepare(&test.app).await.unwrap().unwrap(),
            organisation_name: "Acme".into(),
            owner_name: "Ana".into(),
            owner_email: "ana@example.com".into(),
            password: Secret::new("correct horse battery"),
        };
        let begun = setup::set_up_instance(&test.app, &RequestInfo::default(), beginning).await.unwrap();
        let owner = begun.session_token.expose().to_owned();
        let env = begun.environment.id;
        let mut headers = HeaderMap::new();
        headers.insert("authorization", format!("Bearer {owner}").parse().unwrap());
        let principal = authenticate::from_headers(&test.app, &headers, [127, 0, 0, 1].into()).await.unwrap();
        let access = principal.viewer().unwrap().access(env).unwrap();
        let mut tokens = Vec::new();
        for role in [CredentialRole::Events, CredentialRole::Workbench] {
            let made = credential::create(&test.app, &access, role, "test").await.unwrap();
            let token =
                credential::access_token(&test.app, &made.credential.id.to_string(), made.secret.expose()).await;
            tokens.push(token.unwrap().expose().to_owned());
        }
        let workbench = tokens.pop().unwrap();
        let events = tokens.pop().unwrap();
        let owner_id = begun.member.user_id;
        let mut stage =
            Stage { test, env: env.to_string(), owner, owner_id, events, workbench, template: String::new() };
        stage.template = stage.template("Offer", "Hello {{ profile.name | default('there') }}: {{ amount }}").await;
        stage
    }

    /// Runs a GraphQL operation as the owner and gives its data.
    pub async fn graphql(&self, query: &str, variables: Value) -> Value {
        let answer = self.test.client.graphql(&self.owner, query, variables).await.json();
        assert_eq!(answer["errors"], Value::Null, "{answer}");
        answer["data"].clone()
    }

    /// Runs a GraphQL operation that is refused, and gives the errors.
    pub async fn refused(&self, query: &str, variables: Value) -> Vec<String> {
        self.test.client.graphql(&self.owner, query, variables).await.errors()
    }

    /// Makes and publishes a card template with a headline and the required variable `amount`.
    pub async fn template(&self, name: &str, headline: &str) -> String {
        let query = "mutation($env: ID!, $name: String!, $content: JSONObject!) {
            createCardTemplate(input: { environmentId: $env, name: $name, content: $content }) { cardTemplate { id } } }";
        let made = self.graphql(query, json!({ "env": self.env, "name": name, "content": content(headline) })).await;
        let id = made["createCardTemplate"]["cardTemplate"]["id"].as_str().unwrap().to_owned();
        self.graphql(
            "mutation($id: ID!) { publishCardTemplate(input: { templateId: $id }) { cardTemplate { id } } }",
            json!({ "id": id }),
        )
        .await;
        id
    }

    /// Makes a flow and leaves it a draft.
    pub async fn draft(&self, definition: Value) -> String {
        let query = "mutation($env: ID!, $definition: JSONObject!) {
            createFlow(input: { environmentId: $env, name: \"Flow\", definition: $definition }) { flow { id } } }";
        let made = self.graphql(query, json!({ "env": self.env, "definition": definition })).await;
        made["createFlow"]["flow"]["id"].as_str().unwrap().to_owned()
    }

    /// Makes and publishes a flow.
    pub async fn flow(&self, definition: Value) -> String {
        let flow = self.draft(definition).await;
        self.publish(&flow).await;
        flow
    }

    pub async fn publish(&self, flow: &str) -> i64 {
        let query = "mutation($id: ID!) { publishFlow(input: { flowId: $id }) { version } }";
        self.graphql(query, json!({ "id": flow })).await["publishFlow"]["version"].as_i64().unwrap()
    }

    /// The path of one of a flow's calls.
    pub fn path(&self, flow: &str, call: &str) -> String {
        format!("/v1/{}/action-flow/{flow}/{call}", self.env)
    }

    /// Sends a start request as `events`.
    pub async fn send(&self, flow: &str, call: &str, entries: Value) -> Answer {
        self.test.client.call(&self.events, "POST", &self.path(flow, call), json!({ "flows": entries })).await
    }

    /// Starts a flow and gives `status accepted duplicate ignored rejected` for each entry.
    pub async fn start(&self, flow: &str, entries: Value) -> Vec<String> {
        brief(&self.send(flow, "start", entries).await)
    }

    /// How often each event was recorded.
    pub async fn events(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for name in self.test.events().await {
            *counts.entry(name).or_default() += 1;
        }
        counts
    }

    pub async fn column(&self, query: &str) -> Vec<String> {
        self.test.column(query).await
    }
}

/// `status accepted duplicate ignored rejected` for each entry of an answer.
pub fn brief(answer: &Answer) -> Vec<String> {
    let data = answer.data();
    let entries = data["flows"].as_array().unwrap().iter();
    let entry = |entry: &Value| {
        let count = |name: &str| entry[name].as_u64().unwrap();
        let status = entry["status"].as_str().unwrap();
        format!("{status} {} {} {} {}", count("accepted"), count("duplicate"), count("ignored"), count("rejected"))
    };
    entries.map(entry).collect()
}

/// The events expected, as [`Stage::events`] gives them.
pub fn counts(expected: &[(&str, usize)]) -> BTreeMap<String, usize> {
    expected.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

pub fn content(headline: &str) -> Value {
    json!({
        "variables": [{ "name": "amount", "type": "number", "required": true }],
        "topCard": { "elements": [{ "id": "h", "type": "headline", "attributes": { "text": headline } }] }
    })
}

/// A flow that sends the stage's card.
pub fn offer(template: &str) -> Value {
    json!({ "variables": [{ "name": "amount", "type": "number", "required": true }],
        "steps": [send("offer", "start", template)] })
}

pub fn send(key: &str, parent: &str, template: &str) -> Value {
    json!({ "key": key, "parent": parent, "type": "sendCard", "config": { "templateId": template } })
}

pub fn wait(key: &str, parent: &str, duration: &str) -> Value {
    json!({ "key": key, "parent": parent, "type": "wait", "config": { "for": "duration", "duration": duration } })
}

/// An entry for one customer with the variable `amount`.
pub fn entry(invocation: &str, user_ids: &Value) -> Value {
    json!({ "flowInvocationId": invocation, "target": { "type": "user", "targetUserIds": user_ids },
        "payload": { "variables": { "amount": "12" } } })
}
