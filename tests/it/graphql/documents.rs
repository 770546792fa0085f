//! Registered documents: sent by their hash, and the only ones where the environment says so.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::Answer;
use crate::support::events::EventStream;
use crate::support::socket::Socket;
use crate::support::world::{CUSTOMER, World};

const ME: &str = "{ me { userId } }";
const COUNT: &str = "subscription($c: ID!){ cardCount(containerId: $c) { totalCount } }";

fn hash(document: &str) -> String {
    use sha2::Digest;
    hex::encode(sha2::Sha256::digest(document))
}

fn by_hash(document: &str) -> Value {
    json!({ "extensions": { "persistedQuery": { "version": 1, "sha256Hash": hash(document) } } })
}

async fn post(world: &World, body: Value) -> Answer {
    let authorization = format!("Bearer {}", world.token_for(CUSTOMER));
    let headers = [
        ("authorization", authorization.as_str()),
        ("x-cardwire-api-key", "web"),
        ("content-type", "application/json"),
        ("accept", "application/graphql-response+json"),
    ];
    world.test.client.send("POST", "/graphql", &headers, body.to_string()).await
}

async fn register(world: &World, documents: &[&str]) -> Vec<String> {
    let register = "mutation($i: RegisterSdkDocumentsInput!){ registerSdkDocuments(input: $i) { documents { hash } } }";
    let made = world.ask(register, json!({ "i": { "environmentId": world.env, "documents": documents } })).await;
    let documents = made["registerSdkDocuments"]["documents"].as_array().unwrap().clone();
    documents.iter().map(|document| document["hash"].as_str().unwrap().to_owned()).collect()
}

async fn restrict(world: &World, registered_only: bool) {
    let restrict = "mutation($i: RestrictSdkDocumentsInput!){ restrictSdkDocuments(input: $i) { registeredOnly } }";
    world.ask(restrict, json!({ "i": { "environmentId": world.env, "registeredOnly": registered_only } })).await;
    world.test.app.clock().advance(Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hash_stands_for_its_text() {
    let world = World::start().await;
    let unknown = post(&world, by_hash(ME)).await;
    assert_eq!((unknown.status, unknown.errors()), (404, vec!["not_found".to_owned()]));
    assert_eq!(unknown.json()["errors"][0]["message"], "PersistedQueryNotFound");
    assert_eq!(register(&world, &[ME]).await, [hash(ME)]);
    assert_eq!(register(&world, &[ME]).await, [hash(ME)], "a second time changes nothing");
    assert_eq!(post(&world, by_hash(ME)).await.data()["me"]["userId"], CUSTOMER);
    let list = "query($e: ID!){ sdkDocuments(environmentId: $e) { nodes { hash document } } }";
    let listed = world.ask(list, json!({ "e": world.env })).await;
    assert_eq!(listed["sdkDocuments"]["nodes"], json!([{ "hash": hash(ME), "document": ME }]));
    let refused = "mutation($i: RegisterSdkDocumentsInput!){ registerSdkDocuments(input: $i) { documents { hash } } }";
    let input = json!({ "i": { "environmentId": world.env, "documents": [ME, "{"] } });
    assert_eq!(world.refused(refused, input).await, ["validation_failed /documents/1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restricted_environment_runs_what_is_registered() {
    let world = World::start().await;
    register(&world, &[ME, COUNT]).await;
    assert_eq!(post(&world, json!({ "query": "{ me { name } }" })).await.status, 200);
    restrict(&world, true).await;
    assert_eq!(post(&world, json!({ "query": "{ me { name } }" })).await.errors(), ["forbidden"]);
    assert_eq!(post(&world, json!({ "query": ME })).await.data()["me"]["userId"], CUSTOMER);
    assert_eq!(post(&world, by_hash(ME)).await.data()["me"]["userId"], CUSTOMER);

    // Subscriptions too, over both ways; members are not restricted.
    let mut socket = Socket::open(&world.test.origin, world.init(CUSTOMER)).await;
    let variables = json!({ "c": world.container });
    let mut payload = by_hash(COUNT);
    payload["variables"] = variables.clone();
    socket.say(json!({ "id": "1", "type": "subscribe", "payload": payload })).await;
    assert_eq!(socket.next("1").await["cardCount"]["totalCount"], 0);
    socket.subscribe("2", &COUNT.replace("totalCount", "visibleCount"), variables).await;
    let refused = socket.hear().await;
    assert_eq!(
        (&refused["type"], &refused["payload"][0]["extensions"]["code"]),
        (&json!("error"), &json!("forbidden"))
    );
    let mut events = EventStream::open(&world, CUSTOMER, &payload).await;
    assert_eq!(events.next().await["data"]["cardCount"]["totalCount"], 0);
    world.ask("{ viewer { __typename } }", Value::Null).await;

    let delete = "mutation($i: DeleteSdkDocumentInput!){ deleteSdkDocument(input: $i) { hash } }";
    world.ask(delete, json!({ "i": { "environmentId": world.env, "hash": hash(ME) } })).await;
    assert_eq!(post(&world, json!({ "query": ME })).await.errors(), ["forbidden"]);
    restrict(&world, false).await;
    assert_eq!(post(&world, json!({ "query": ME })).await.data()["me"]["userId"], CUSTOMER);
}
