//! §3.1: an instance is set up once, by whoever has the token.

use serde_json::json;

use super::{EMAIL, Office, PASSWORD, SETUP_TOKEN, empty, ok, set_up, text};

#[tokio::test(flavor = "multi_thread")]
async fn set_up_creates_an_organisation_its_sandbox_and_its_owner() {
    let test = empty().await;
    let made = ok(&set_up(&test).await)["setUpInstance"].clone();
    assert_eq!(made["organisation"]["name"], "Acme");
    assert_eq!(made["environment"]["name"], "Sandbox");
    assert_eq!(made["member"]["email"], EMAIL);
    assert_eq!(made["member"]["groupIds"].as_array().unwrap().len(), 1);
    let owner = text(&made["sessionToken"]);

    let query = "{ viewer { member { name userId } environments { name } levels { resource level } }
        roles { nodes { title builtIn } } groups { nodes { title roles { environmentIds } } } }";
    let seen = ok(&test.client.graphql(&owner, query, json!({})).await);
    assert_eq!(seen["viewer"]["member"]["name"], "Ana Lovelace");
    assert_eq!(seen["viewer"]["member"]["userId"], made["member"]["id"]);
    assert_eq!(seen["viewer"]["environments"], json!([{ "name": "Sandbox" }]));
    assert_eq!(seen["viewer"]["levels"].as_array().unwrap().len(), 31);
    let titles: Vec<_> = seen["roles"]["nodes"].as_array().unwrap().iter().map(|role| role["title"].clone()).collect();
    assert_eq!(titles.len(), 3);
    assert!(["Owner", "Admin", "Editor"].iter().all(|title| titles.contains(&json!(title))));
    assert_eq!(seen["groups"]["nodes"], json!([{ "title": "Owners", "roles": [{ "environmentIds": null }] }]));

    assert_eq!(
        test.column("SELECT action || ' ' || object_type AS value FROM audit_entries").await,
        ["instance.set-up organisation"]
    );
    assert_eq!(test.events().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn set_up_works_once_even_for_many_at_once() {
    let test = empty().await;
    let answers = futures_util::future::join_all((0..6).map(|_| set_up(&test))).await;
    let won = answers.iter().filter(|answer| answer.json()["errors"].is_null()).count();
    assert_eq!(won, 1);
    for lost in answers.iter().filter(|answer| !answer.json()["errors"].is_null()) {
        assert_eq!(lost.errors(), ["conflict"]);
    }
    assert_eq!(test.column("SELECT name AS value FROM organisations").await, ["Acme"]);
    assert_eq!(test.column("SELECT email AS value FROM members").await, [EMAIL]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_set_up_leaves_nothing_and_may_be_tried_again() {
    let test = empty().await;
    let query = "mutation($input: SetUpInstanceInput!) { setUpInstance(input: $input) { sessionToken } }";
    let good = json!({ "setupToken": SETUP_TOKEN, "organisationName": "Acme", "ownerName": "Ana",
        "ownerEmail": EMAIL, "password": PASSWORD });
    for (change, refusal) in [
        (json!({ "setupToken": "another token" }), "unauthenticated /setupToken"),
        (json!({ "organisationName": " " }), "validation_failed /organisationName"),
        (json!({ "ownerName": "" }), "validation_failed /ownerName"),
        (json!({ "ownerEmail": "ana" }), "validation_failed /ownerEmail"),
        (json!({ "password": "too short" }), "validation_failed /password"),
    ] {
        let mut input = good.clone();
        input.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let answer = test.client.graphql_with(&[], query, json!({ "input": input })).await;
        assert_eq!(answer.errors(), [refusal]);
    }
    assert_eq!(test.column("SELECT name AS value FROM organisations").await, Vec::<String>::new());
    ok(&set_up(&test).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_stored_as_hashes_only() {
    let office = Office::open().await;
    let (_, secret) = office.credential("EVENTS").await;
    for (table, column) in [
        ("members", "password_hash"),
        ("member_sessions", "token_hash::text"),
        ("api_credentials", "secret_hash::text"),
        ("instance_setup", "token_hash::text"),
    ] {
        for stored in office.test.column(&format!("SELECT {column} AS value FROM {table}")).await {
            for plain in [PASSWORD, &office.owner, &secret, SETUP_TOKEN] {
                assert!(!stored.contains(plain), "{table} holds a secret");
                assert!(!stored.contains(&hex(plain)), "{table} holds a secret");
            }
        }
    }
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}
