//! Webhook triggers through their URLs: who is let in, what is started, and what members see of it.

mod event;
mod follow;
mod receive;
mod replay;
mod setup;
mod signatures;

use serde_json::{Value, json};

use crate::support::client::Answer;
use crate::support::world::{World, text};

/// A flow with a webhook trigger in test mode.
pub struct Stage {
    pub world: World,
    pub trigger: String,
    /// Path of the trigger's URL.
    pub path: String,
}

impl Stage {
    /// `settings` are further fields of the input.
    pub async fn set(settings: Value) -> Stage {
        let world = World::start().await;
        let mut input = json!({ "flowId": world.flow });
        for (name, value) in settings.as_object().unwrap() {
            input[name] = value.clone();
        }
        let query =
            "mutation($input: CreateTriggerInput!) { createTrigger(input: $input) { trigger { id url mode kind } } }";
        let made = world.ask(query, json!({ "input": input })).await["createTrigger"]["trigger"].clone();
        assert_eq!((made["mode"].as_str(), made["kind"].as_str()), (Some("test"), Some("webhook")));
        let path = text(&made["url"]).strip_prefix(&world.test.origin).unwrap().to_owned();
        assert_eq!(path, format!("/hooks/{}", text(&made["id"])));
        Stage { world, trigger: text(&made["id"]), path }
    }

    pub async fn post(&self, body: &Value) -> Answer {
        self.send("POST", &[("content-type", "application/json")], &body.to_string()).await
    }

    pub async fn send(&self, method: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.world.test.client.send(method, &self.path, headers, body).await
    }

    pub async fn update(&self, settings: Value) -> Value {
        let mut input = json!({ "id": self.trigger });
        for (name, value) in settings.as_object().unwrap() {
            input[name] = value.clone();
        }
        let query = "mutation($input: UpdateTriggerInput!) { updateTrigger(input: $input) {
            trigger { id mapping verification allowedAddresses } warnings { path message line column } } }";
        self.world.ask(query, json!({ "input": input })).await["updateTrigger"].clone()
    }

    /// The codes of the refusal, or the mode that is now.
    pub async fn mode(&self, mode: &str) -> Result<String, Vec<String>> {
        let query = "mutation($id: ID!, $mode: TriggerMode!) {
            setTriggerMode(input: { id: $id, mode: $mode }) { trigger { mode } } }";
        self.outcome(query, json!({ "id": self.trigger, "mode": mode }), "setTriggerMode").await
    }

    pub async fn reactivate(&self) -> Result<String, Vec<String>> {
        let query = "mutation($id: ID!) { reactivateTrigger(id: $id) { trigger { mode } } }";
        self.outcome(query, json!({ "id": self.trigger }), "reactivateTrigger").await
    }

    async fn outcome(&self, query: &str, variables: Value, field: &str) -> Result<String, Vec<String>> {
        let answer = self.world.test.client.graphql(&self.world.session, query, variables).await;
        if answer.json()["errors"].is_array() {
            Err(answer.errors())
        } else {
            Ok(text(&answer.json()["data"][field]["trigger"]["mode"]))
        }
    }

    pub async fn sample(&self, sample: Value) {
        let query = "mutation($id: ID!, $sample: JSON!) { setTriggerSample(input: { id: $id, sample: $sample }) { trigger { id } } }";
        self.world.ask(query, json!({ "id": self.trigger, "sample": sample })).await;
    }

    /// Fields of the trigger.
    pub async fn look(&self, fields: &str) -> Value {
        let query = format!("query($id: ID!) {{ trigger(id: $id) {{ {fields} }} }}");
        self.world.ask(&query, json!({ "id": self.trigger })).await["trigger"].clone()
    }

    /// Status and code of the last requests, newest first.
    pub async fn log(&self) -> Vec<String> {
        let seen = self.look("recentRequests { status code }").await;
        let line = |one: &Value| format!("{} {}", one["status"], one["code"].as_str().unwrap_or("-"));
        seen["recentRequests"].as_array().unwrap().iter().map(line).collect()
    }

    /// User, test mark and variable of each run, oldest first.
    pub async fn runs(&self) -> Vec<String> {
        self.world.test.settle().await;
        let query =
            "SELECT user_id || ' ' || is_test || ' ' || coalesce(runs.variables, starts.variables)::jsonb::text AS value
            FROM runs JOIN starts USING (environment_id, lifecycle_id) ORDER BY runs.id";
        self.world.test.column(query).await
    }
}
