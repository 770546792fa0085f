//! Customers: writing and reading them, preferences, test accounts.

use serde_json::{Value, json};

use crate::support::world::World;

const CREATE: &str = "mutation($input: CreateTestAccountInput!) {
    createTestAccount(input: $input) { testAccount { id userType name profile } } }";

async fn put(world: &World, method: &str, path: &str, body: Value) -> crate::support::client::Answer {
    world.test.client.call(&world.events, method, &world.path(path), body).await
}

async fn user(world: &World, id: &str) -> Value {
    world.test.client.get(&world.events, &world.path(&format!("user?id={id}"))).await.data()
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_made_and_merged_and_faults_are_told_by_entry() {
    let world = World::start().await;
    let body = json!([
        { "id": "ana", "profile": { "name": "Ana", "city": "Auckland" } },
        { "id": "ben", "profile": { "colour": "red" } },
        { "profile": {} },
    ]);
    let answer = put(&world, "POST", "users", body).await.data();
    assert_eq!((&answer["created"], &answer["updated"]), (&json!(1), &json!(0)));
    let errors: Vec<_> =
        answer["errors"].as_array().unwrap().iter().map(|error| (&error["index"], &error["pointer"])).collect();
    assert_eq!(errors, [(&json!(1), &json!("/profile/colour")), (&json!(2), &json!("/id"))]);
    let body = json!({ "data": [{ "id": "ana", "profile": { "city": null, "timezone": "Pacific/Auckland" } }] });
    let answer = put(&world, "POST", "users", body).await.data();
    assert_eq!((&answer["created"], &answer["updated"]), (&json!(0), &json!(1)));
    let ana = user(&world, "ana").await;
    assert_eq!((&ana["profile"]["name"], &ana["profile"]["city"]), (&json!("Ana"), &Value::Null));
    assert_eq!(ana["profile"]["timezone"], "Pacific/Auckland");
    assert_eq!(ana["profile"]["user_type"], "live");
    assert_eq!(ana["preferences"], json!({ "timezone": null, "notificationsEnabled": true, "notifications": {} }));
    let unknown = world.test.client.get(&world.events, &world.path("user?id=ben")).await;
    assert_eq!((unknown.status, unknown.errors()), (404, vec!["not_found".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_listed_page_by_page() {
    let world = World::start().await;
    let entries: Vec<Value> = ["ana", "ben", "cleo"].iter().map(|id| json!({ "id": id })).collect();
    put(&world, "POST", "users", json!(entries)).await.data();
    let first = world.test.client.get(&world.events, &world.path("users?limit=2")).await.data();
    assert_eq!(first["users"].as_array().unwrap().len(), 2);
    let cursor = first["nextCursor"].as_str().unwrap();
    let second =
        world.test.client.get(&world.events, &world.path(&format!("users?limit=2&cursor={cursor}"))).await.data();
    assert_eq!((second["users"].as_array().unwrap().len(), &second["nextCursor"]), (1, &Value::Null));
    let found = world.test.client.get(&world.events, &world.path("users?q=LE")).await.data();
    assert_eq!(found["users"][0]["id"], "cleo");
}

#[tokio::test(flavor = "multi_thread")]
async fn preferences_are_all_or_nothing() {
    let world = World::start().await;
    let body = json!({ "data": { "ana": { "timezone": "Europe/Berlin" }, "b/n": { "notifications": { "mon": [{ "from": "9", "to": "10:00" }] } } } });
    let refused = put(&world, "PUT", "userPreferences", body).await;
    assert_eq!(refused.errors(), ["validation_failed /data/b~1n/notifications/mon/0"]);
    let body = json!({ "data": { "ana": { "timezone": "Europe/Berlin", "notificationsEnabled": false } } });
    put(&world, "PUT", "userPreferences", body).await.data();
    let body = json!({ "data": { "ana": { "notificationsEnabled": true } } });
    put(&world, "PUT", "userPreferences", body).await.data();
    let ana = user(&world, "ana").await;
    assert_eq!(
        ana["preferences"],
        json!({ "timezone": "Europe/Berlin", "notificationsEnabled": true, "notifications": {} })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn test_accounts_are_made_renamed_and_deleted_with_their_cards() {
    let world = World::start().await;
    let input = json!({ "environmentId": world.env, "id": "tess", "name": "Tess", "city": "Wellington" });
    let made = world.ask(CREATE, json!({ "input": input })).await;
    let account = &made["createTestAccount"]["testAccount"];
    assert_eq!(
        (&account["id"], &account["userType"], &account["name"]),
        (&json!("tess"), &json!("TEST"), &json!("Tess"))
    );
    assert_eq!(account["profile"]["city"], "Wellington");
    assert_eq!(world.refused(CREATE, json!({ "input": input })).await, ["already_exists /id"]);
    let renamed = world
        .ask(
            "mutation($env: ID!) { updateTestAccount(input: { environmentId: $env, id: \"tess\", name: \"Theresa\" }) { testAccount { name } } }",
            json!({ "env": world.env }),
        )
        .await;
    assert_eq!(renamed["updateTestAccount"]["testAccount"]["name"], "Theresa");
    let card = world.send_card("a", "tess").await;
    let delete = "mutation($env: ID!) { deleteTestAccount(environmentId: $env, id: \"tess\") { id } }";
    world.ask(delete, json!({ "env": world.env })).await;
    assert_eq!(world.refused("query($id: ID!) { card(id: $id) { id } }", json!({ "id": card })).await, ["not_found"]);
    assert_eq!(world.refused(delete, json!({ "env": world.env })).await, ["not_found"]);
    let events = world.test.events().await;
    assert_eq!(events.iter().filter(|name| name.starts_with("card-")).collect::<Vec<_>>(), ["card-published"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_customer_with_open_live_cards_stays_live() {
    let world = World::start().await;
    let card = world.send_card("a", "lea").await;
    let input = json!({ "environmentId": world.env, "id": "lea", "name": "Lea" });
    assert_eq!(world.refused(CREATE, json!({ "input": input })).await, ["conflict /id"]);
    let close = json!({ "input": { "environmentId": world.env, "filter": { "userId": "lea" } } });
    world.ask("mutation($input: CloseCardsInput!) { dismissCards(input: $input) { changed } }", close).await;
    let made = world.ask(CREATE, json!({ "input": input })).await;
    assert_eq!(made["createTestAccount"]["testAccount"]["userType"], "TEST", "{card} is closed");
}
