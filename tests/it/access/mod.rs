//! Access: set-up, sign-in, who may do what, credentials, SDK keys, environments, and the audit log.

mod authentication;
mod credentials;
mod environments;
mod members;
mod roles;
mod sdk_keys;
mod sessions;
mod setup;

use cardwire::config::Config;
use cardwire::secret::Secret;
use serde_json::{Value, json};

use crate::support::TestApp;
use crate::support::client::Answer;

const SETUP_TOKEN: &str = "a-token-for-setting-up";
const EMAIL: &str = "ana@example.com";
const PASSWORD: &str = "correct horse battery";

/// An instance that has been set up and nothing else.
struct Office {
    test: TestApp,
    /// The owner's session.
    owner: String,
    env: String,
    member: String,
}

/// A server that waits for being set up.
async fn empty() -> TestApp {
    empty_with(|_| {}).await
}

async fn empty_with(change: impl FnOnce(&mut Config)) -> TestApp {
    TestApp::with(|config| {
        config.setup_token = Some(Secret::new(SETUP_TOKEN));
        change(config);
    })
    .await
}

async fn set_up(test: &TestApp) -> Answer {
    let query = "mutation($input: SetUpInstanceInput!) { setUpInstance(input: $input) {
        sessionToken organisation { id name } environment { id name } member { id email groupIds } } }";
    let input = json!({ "setupToken": SETUP_TOKEN, "organisationName": "Acme", "ownerName": "Ana Lovelace",
        "ownerEmail": EMAIL, "password": PASSWORD });
    test.client.graphql_with(&[], query, json!({ "input": input })).await
}

impl Office {
    async fn open() -> Office {
        Office::open_with(|_| {}).await
    }

    async fn open_with(change: impl FnOnce(&mut Config)) -> Office {
        let test = empty_with(change).await;
        let made = ok(&set_up(&test).await)["setUpInstance"].clone();
        Office {
            test,
            owner: text(&made["sessionToken"]),
            env: text(&made["environment"]["id"]),
            member: text(&made["member"]["id"]),
        }
    }

    /// An operation of the owner, which must succeed.
    async fn ask(&self, query: &str, variables: Value) -> Value {
        self.ask_as(&self.owner, query, variables).await
    }

    async fn ask_as(&self, token: &str, query: &str, variables: Value) -> Value {
        ok(&self.test.client.graphql(token, query, variables).await)
    }

    /// How the owner's operation is refused.
    async fn refused(&self, query: &str, variables: Value) -> Vec<String> {
        self.refused_as(&self.owner, query, variables).await
    }

    async fn refused_as(&self, token: &str, query: &str, variables: Value) -> Vec<String> {
        self.test.client.graphql(token, query, variables).await.errors()
    }

    /// A new credential: client id and secret.
    async fn credential(&self, role: &str) -> (String, String) {
        let made = self
            .ask(
                "mutation($input: CreateApiCredentialInput!) {
                   createApiCredential(input: $input) { clientId clientSecret } }",
                json!({ "input": { "environmentId": self.env, "role": role, "name": "shop" } }),
            )
            .await;
        let made = &made["createApiCredential"];
        (text(&made["clientId"]), text(&made["clientSecret"]))
    }

    /// An access token of a new credential.
    async fn token(&self, role: &str) -> String {
        let (id, secret) = self.credential(role).await;
        text(&self.exchange(&id, &secret).await.json()["access_token"])
    }

    async fn exchange(&self, id: &str, secret: &str) -> Answer {
        let body = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
        self.test.client.send("POST", "/oauth2/token", &[FORM], body).await
    }

    /// Invites somebody and has them accept: their session.
    async fn join(&self, email: &str, groups: &[&str]) -> String {
        let invited = self
            .ask(
                "mutation($input: InviteMemberInput!) { inviteMember(input: $input) { link } }",
                json!({ "input": { "firstName": "Bo", "lastName": "Ek", "email": email, "groupIds": groups } }),
            )
            .await;
        let token = text(&invited["inviteMember"]["link"]).rsplit('/').next().unwrap().to_owned();
        let accept = "mutation($input: AcceptInvitationInput!) { acceptInvitation(input: $input) { sessionToken } }";
        let input = json!({ "input": { "token": token, "password": PASSWORD } });
        let accepted = self.test.client.graphql_with(&[], accept, input).await;
        text(&ok(&accepted)["acceptInvitation"]["sessionToken"])
    }

    /// The id of a default role.
    async fn role(&self, title: &str) -> String {
        let roles = self.ask("{ roles { nodes { id title } } }", json!({})).await;
        let roles = roles["roles"]["nodes"].as_array().unwrap().clone();
        text(&roles.iter().find(|role| role["title"] == title).unwrap()["id"])
    }

    /// A new group with one role, in all environments or in the listed ones.
    async fn group(&self, title: &str, role: &str, environments: Option<&[&str]>) -> String {
        let made = self
            .ask(
                "mutation($input: CreateGroupInput!) { createGroup(input: $input) { group { id } } }",
                json!({ "input": { "title": title, "roles": [{ "roleId": role, "environmentIds": environments }] } }),
            )
            .await;
        text(&made["createGroup"]["group"]["id"])
    }

    /// The actions in the audit log, oldest first.
    async fn audit(&self) -> Vec<String> {
        self.test
            .column("SELECT action || ' ' || object_type AS value FROM audit_entries ORDER BY xmin::text::bigint")
            .await
    }
}

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// The data of a GraphQL answer without errors.
fn ok(answer: &Answer) -> Value {
    let answer = answer.json();
    assert!(answer["errors"].is_null(), "{answer}");
    answer["data"].clone()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not text: {value}")).to_owned()
}
