//! Every mutation of the schema either leaves feeds as they are, or is followed: what the patches made of the cards,
//! to the last field, is what a query returns.

use std::collections::BTreeSet;
use std::time::Duration;

use async_graphql::parser::parse_schema;
use async_graphql::parser::types::TypeKind;
use serde_json::{Value, json};

use crate::laws::schema::kind;
use crate::support::socket::{Heard, Socket};
use crate::support::world::{CUSTOMER, World, text};

const CARD: &str = "{ id unseen isTest created lifecycleId topCard subviews actions runtimeVariables
    metadata { priority activeSince updated expires payload } }";

/// Mutations that change no card, stream or container, and nothing that decides who sees one.
const ELSEWHERE: &[&str] = &[
    "acceptInvitation",
    "armTriggerCapture",
    "cancelTriggerCapture",
    "cancelWebhookReplay",
    "cloneFlow",
    "createApiCredential",
    "createCardTemplate",
    "createEnvironment",
    "createFlow",
    "createGroup",
    "createOutgoingCredential",
    "createRole",
    "createSdkApiKey",
    "createStream",
    "createStreamContainer",
    "createTheme",
    "createTrigger",
    "createWebhookSubscription",
    "deleteApiCredential",
    "deleteFlow",
    "deleteGroup",
    "deleteOutgoingCredential",
    "deleteRole",
    "deleteSdkDocument",
    "deleteTheme",
    "deleteTrigger",
    "deleteWebhook",
    "disableWebhook",
    "enableWebhook",
    "finishWebhookSecretRotation",
    "inviteMember",
    "previewCard",
    "publishFlow",
    "reactivateTrigger",
    "registerSdkDocuments",
    "removeMember",
    "renewConnection",
    "resolveRequest",
    "restrictSdkDocuments",
    "revokeInvitation",
    "replayWebhookEvents",
    "rotateWebhookSecret",
    "sendTestWebhook",
    "setMemberGroups",
    "setTriggerMode",
    "setTriggerSample",
    "setUpInstance",
    "signIn",
    "signOut",
    "testTrigger",
    "trackAnonymousEvents",
    "updateAnalyticsExportSettings",
    "updateApiCredential",
    "updateFlow",
    "updateGroup",
    "updateMember",
    "updateOrganisation",
    "updateOutgoingCredential",
    "updateRole",
    "updateTestAccount",
    "updateTheme",
    "updateTrigger",
    "updateWebhookSubscription",
];

/// Mutations that end the subscriptions which they concern, or take away what shows the feed: others look at those.
const ENDING: &[&str] = &[
    "archiveEnvironment",
    "deleteEnvironment",
    "deleteSdkApiKey",
    "deleteStream",
    "deleteStreamContainer",
    "updateSdkApiKey",
];

/// Mutations that start runs in the background, or stop doing so: their cards come as those of `startFlow` do.
const IN_BACKGROUND: &[&str] =
    &["bulkStartFlow", "cancelFlowTask", "replayTriggerRequest", "sendTestBatch", "startFlowForCustomers"];

/// A client that keeps whole cards.
struct Copy {
    customer: String,
    socket: Socket,
    cards: Vec<Value>,
}

impl Copy {
    async fn new(world: &World, customer: &str) -> Copy {
        let mut socket = Socket::open(&world.test.origin, world.init(customer)).await;
        let feed = format!(
            "subscription($c: ID!){{ feed(containerId: $c) {{ __typename ... on FeedSnapshot {{ cards {CARD} }}
             ... on FeedPatch {{ upserts {{ position card {CARD} }} removals {{ cardId }} }} }} }}"
        );
        socket.subscribe("1", &feed, json!({ "c": world.container })).await;
        let mut copy = Copy { customer: customer.to_owned(), socket, cards: Vec::new() };
        copy.hear().await;
        copy
    }

    async fn hear(&mut self) {
        let message = self.socket.next("1").await["feed"].clone();
        match text(&message["__typename"]).as_str() {
            "FeedSnapshot" => self.cards.clone_from(message["cards"].as_array().unwrap()),
            "FeedPatch" => {
                for removal in message["removals"].as_array().unwrap() {
                    self.cards.retain(|card| card["id"] != removal["cardId"]);
                }
                for upsert in message["upserts"].as_array().unwrap() {
                    self.cards.retain(|card| card["id"] != upsert["card"]["id"]);
                    let position = usize::try_from(upsert["position"].as_u64().unwrap()).unwrap();
                    self.cards.insert(position, upsert["card"].clone());
                }
            }
            _ => self.cards.clear(),
        }
    }

    /// Waits until the copy is what a query returns.
    async fn agree(&mut self, world: &World) {
        let query = format!("query($c: ID!){{ feed(containerId: $c) {{ cards {CARD} }} }}");
        let page = world.sdk(&self.customer, &query, json!({ "c": world.container })).await.data();
        while page["feed"]["cards"] != json!(self.cards) {
            self.hear().await;
        }
    }
}

struct Stage {
    world: World,
    copy: Copy,
    done: BTreeSet<&'static str>,
}

impl Stage {
    /// A mutation of the owner, `field(arguments) { selection }`, after which copy and query agree.
    async fn owner(&mut self, mutation: &'static str, variables: Value, declared: &str) {
        self.world.ask(&format!("mutation({declared}) {{ {mutation} }}"), variables).await;
        self.settle(mutation).await;
    }

    /// The same by the customer.
    async fn customer(&mut self, mutation: &'static str, variables: Value, declared: &str) {
        let mut variables = variables;
        if let Some(input) = variables.get_mut("i").filter(|input| input.is_object()) {
            input["containerId"] = json!(self.world.container);
            input["cardId"] = self.copy.cards.first().map_or(Value::Null, |card| card["id"].clone());
        }
        let query = format!("mutation({declared}) {{ {mutation} }}");
        self.world.sdk(CUSTOMER, &query, variables).await.data();
        self.settle(mutation).await;
    }

    async fn settle(&mut self, mutation: &'static str) {
        self.world.test.advance(Duration::from_secs(1)).await;
        self.copy.agree(&self.world).await;
        self.done.insert(mutation.split('(').next().unwrap());
    }

    /// Sends a card with metadata through the mutation for other systems.
    async fn send(&mut self, name: &str) {
        let entry = json!({ "flowInvocationId": name, "target": { "type": "user", "targetUserIds": CUSTOMER },
            "payload": { "variables": { "amount": "12" }, "metadata": { "order": name } } });
        let query = "mutation($i: StartFlowInput!) { startFlow(input: $i) { __typename } }";
        let input = json!({ "i": { "flowId": self.world.flow, "flows": [entry] } });
        self.world.test.client.graphql(&self.world.events, query, input).await.data();
        let before = self.copy.cards.len();
        self.settle("startFlow").await;
        assert_eq!(self.copy.cards.len(), before + 1);
    }

    async fn cards(&mut self) {
        let (env, flow) = (self.world.env.clone(), self.world.flow.clone());
        for name in ["y", "z", "a", "b", "c", "d", "e", "f", "g"] {
            self.send(name).await;
        }
        let seen = json!({ "e": [{ "id": "evt_00000000000000000000000001", "name": "card-displayed",
            "containerId": self.world.container, "cardId": self.copy.cards[0]["id"] }] });
        self.customer("trackEvents(events: $e) { ok }", seen, "$e: [TrackedEventInput!]!").await;
        let up = json!({ "i": { "direction": "UP" } });
        self.customer("voteCard(input: $i) { ok }", up, "$i: VoteCardInput!").await;
        let snooze = json!({ "i": { "interval": "PT30S" } });
        self.customer("snoozeCard(input: $i) { ok }", snooze, "$i: SnoozeCardInput!").await;
        let accept = json!({ "i": { "buttonName": "accept", "values": { "choice": "yes" } } });
        self.customer("completeCard(input: $i) { ok }", accept, "$i: CompleteCardInput!").await;
        self.customer("dismissCard(input: $i) { ok }", json!({ "i": {} }), "$i: DismissCardInput!").await;
        let me = json!({ "m": { "profile": { "name": "Bo", "timezone": "Asia/Tokyo" } } });
        self.customer("updateMe(input: $m) { userId }", me, "$m: UpdateMeInput!").await;

        let amount = json!({ "i": { "flowId": flow, "flowInvocationId": "a", "variables": { "amount": "99" } } });
        let before = self.copy.cards.clone();
        self.owner("updateRunVariables(input: $i) { __typename }", amount, "$i: UpdateRunVariablesInput!").await;
        assert_ne!(self.copy.cards, before, "a card is rendered anew");
        let of = |name: &str| json!({ "i": { "environmentId": env, "filter": { "flowInvocationId": name } } });
        self.owner("completeCards(input: $i) { changed }", of("b"), "$i: CompleteCardsInput!").await;
        self.owner("dismissCards(input: $i) { changed }", of("c"), "$i: CloseCardsInput!").await;
        self.owner("cancelCards(input: $i) { changed }", of("d"), "$i: CloseCardsInput!").await;
        let runs = json!({ "i": { "flowId": flow, "flowInvocationId": "a", "cancelCards": true } });
        self.owner("cancelRuns(input: $i) { runs }", runs, "$i: CancelRunsInput!").await;
        let known =
            json!({ "i": { "environmentId": env, "customers": [{ "id": CUSTOMER, "profile": { "name": "Al" } }] } });
        self.owner("upsertCustomers(input: $i) { __typename }", known, "$i: UpsertCustomersInput!").await;
        assert!(!self.copy.cards.is_empty());
    }

    async fn surroundings(&mut self) {
        let world = &self.world;
        let (env, flow, container) = (world.env.clone(), world.flow.clone(), world.container.clone());
        let (stream, template) = (world.stream.clone(), world.template.clone());
        let expose = json!({ "i": { "id": env, "exposeMetadataToSdk": true } });
        self.owner("updateEnvironment(input: $i) { __typename }", expose, "$i: UpdateEnvironmentInput!").await;
        assert!(self.copy.cards[0]["metadata"]["payload"].is_object(), "{}", self.copy.cards[0]);
        for limit in [1, 10] {
            let limit = json!({ "i": { "id": container, "cardLimit": limit } });
            self.owner("updateStreamContainer(input: $i) { __typename }", limit, "$i: UpdateStreamContainerInput!")
                .await;
        }
        for templates in [json!([]), json!([template])] {
            let curated = json!({ "i": { "id": stream, "templateIds": templates } });
            self.owner("updateStream(input: $i) { __typename }", curated, "$i: UpdateStreamInput!").await;
        }
        let renamed = json!({ "i": { "id": template, "name": "Another offer" } });
        self.owner("updateCardTemplate(input: $i) { __typename }", renamed, "$i: UpdateCardTemplateInput!").await;
        let id = json!({ "i": { "templateId": template } });
        self.owner("publishCardTemplate(input: $i) { __typename }", id, "$i: PublishCardTemplateInput!").await;
        let flow = json!({ "i": { "flowId": flow, "cancelRuns": true } });
        self.owner("archiveFlow(input: $i) { __typename }", flow, "$i: ArchiveFlowInput!").await;
        let id = json!({ "i": { "templateId": template } });
        self.owner("archiveCardTemplate(input: $i) { __typename }", id, "$i: ArchiveCardTemplateInput!").await;
        assert!(!self.copy.cards.is_empty(), "open cards stay");
        let id = json!({ "id": template });
        self.owner("deleteCardTemplate(id: $id) { __typename }", id, "$id: ID!").await;
        let none = json!({ "i": { "containerId": container, "apiKeyIds": [] } });
        let query = "mutation($i: SetContainerKeysInput!) { setContainerKeys(input: $i) { __typename } }";
        self.world.ask(query, none).await;
        let Heard::Json(end) = self.copy.socket.hear_any().await else { panic!("the socket is closed") };
        assert_eq!(end["payload"][0]["extensions"]["code"], "key_not_granted", "{end}");
        self.done.insert("setContainerKeys");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_every_mutation_patches_make_what_a_query_returns() {
    let world = World::start().await;
    let copy = Copy::new(&world, CUSTOMER).await;
    let mut stage = Stage { world, copy, done: BTreeSet::new() };
    stage.cards().await;
    test_account(&mut stage).await;
    stage.surroundings().await;

    let sdl = cardwire::graphql::sdl();
    let schema = parse_schema(sdl).unwrap();
    let TypeKind::Object(mutation) = kind(&schema, "Mutation").unwrap() else { panic!("no mutations") };
    for field in &mutation.fields {
        let name = field.node.name.node.as_str();
        let lists = [ELSEWHERE, ENDING, IN_BACKGROUND].map(|list| list.contains(&name));
        let sorted = [stage.done.contains(name)].into_iter().chain(lists);
        assert_eq!(sorted.filter(|sorted| *sorted).count(), 1, "{name}: does it change a feed?");
    }
}

/// Cards of a test account come by a test and go with the account.
async fn test_account(stage: &mut Stage) {
    let (env, flow) = (stage.world.env.clone(), stage.world.flow.clone());
    let made = json!({ "i": { "environmentId": env, "id": "tester", "name": "Tester" } });
    stage.owner("createTestAccount(input: $i) { __typename }", made, "$i: CreateTestAccountInput!").await;
    let mut copy = Copy::new(&stage.world, "tester").await;
    let of = json!({ "f": flow, "p": { "variables": { "amount": "1" } } });
    let test = "testFlow(flowId: $f, userId: \"tester\", payload: $p) { __typename }";
    stage.owner(test, of.clone(), "$f: ID!, $p: JSONObject").await;
    copy.agree(&stage.world).await;
    assert_eq!(copy.cards.len(), 1);
    stage.world.test.advance(Duration::from_secs(1)).await;
    let old = json!({ "i": { "environmentId": env, "before": stage.world.test.app.clock().now().to_string() } });
    stage.owner("deleteTestData(input: $i) { __typename }", old, "$i: DeleteTestDataInput!").await;
    copy.agree(&stage.world).await;
    assert!(copy.cards.is_empty());
    stage.owner(test, of, "$f: ID!, $p: JSONObject").await;
    copy.agree(&stage.world).await;
    let gone = "deleteTestAccount(environmentId: $e, id: \"tester\") { __typename }";
    stage.owner(gone, json!({ "e": env }), "$e: ID!").await;
    while !copy.cards.is_empty() {
        copy.hear().await;
    }
}
