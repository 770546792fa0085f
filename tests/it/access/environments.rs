//! §3.1: environments, the organisation's settings, and the audit log.

use serde_json::json;

use super::{Office, text};

const CREATE: &str = "mutation($input: CreateEnvironmentInput!) { createEnvironment(input: $input) {
    environment { id name timeZone apiHost baseUrl exposeMetadataToSdk webhookSignatureHeader webhookSignatureEncoding } } }";
const UPDATE: &str = "mutation($input: UpdateEnvironmentInput!) { updateEnvironment(input: $input) {
    environment { name timeZone exposeMetadataToSdk webhookSignatureHeader webhookSignatureEncoding revision } } }";
const ONE: &str = "query($id: ID!) { environment(id: $id) { name } }";
const ARCHIVE: &str = "mutation($id: ID!) { archiveEnvironment(id: $id) { environment { id } } }";
const DELETE: &str = "mutation($id: ID!) { deleteEnvironment(id: $id) { id } }";

#[tokio::test(flavor = "multi_thread")]
async fn an_environment_has_defaults_and_tells_where_it_is() {
    let office = Office::open().await;
    let made = office.ask(CREATE, json!({ "input": { "name": "Production" } })).await;
    let made = &made["createEnvironment"]["environment"];
    assert_eq!(made["timeZone"], "UTC");
    assert_eq!(made["exposeMetadataToSdk"], false);
    assert_eq!(made["webhookSignatureHeader"], "x-cardwire-signature");
    assert_eq!(made["webhookSignatureEncoding"], "HEX");
    assert_eq!(text(&made["apiHost"]), office.test.origin);
    assert_eq!(text(&made["baseUrl"]), format!("{}/v1/{}", office.test.origin, text(&made["id"])));
    assert_eq!(office.refused(CREATE, json!({ "input": { "name": "Production" } })).await, ["already_exists /name"]);
    assert_eq!(office.audit().await, ["instance.set-up organisation", "environment.create environment"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_change_by_revision() {
    let office = Office::open().await;
    let input = json!({ "id": office.env, "name": "Sand", "timeZone": "Pacific/Auckland", "exposeMetadataToSdk": true,
        "webhookSignatureHeader": "X-Acme-Signature", "webhookSignatureEncoding": "BASE64", "expectedRevision": 1 });
    let changed = office.ask(UPDATE, json!({ "input": input })).await;
    assert_eq!(
        changed["updateEnvironment"]["environment"],
        json!({ "name": "Sand", "timeZone": "Pacific/Auckland", "exposeMetadataToSdk": true,
            "webhookSignatureHeader": "X-Acme-Signature", "webhookSignatureEncoding": "BASE64", "revision": 2 })
    );
    assert_eq!(office.refused(UPDATE, json!({ "input": input })).await, ["conflict /expectedRevision"]);
    let bad = json!({ "input": { "id": office.env, "name": " ", "webhookSignatureHeader": "webhook-id" } });
    assert_eq!(
        office.refused(UPDATE, bad).await,
        ["validation_failed /name", "validation_failed /webhookSignatureHeader"]
    );
    assert_eq!(office.ask(ONE, json!({ "id": office.env })).await["environment"]["name"], "Sand");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archived_environment_is_unknown_to_everybody_and_can_be_deleted() {
    let office = Office::open().await;
    let token = office.token("EVENTS").await;
    assert_eq!(office.refused(DELETE, json!({ "id": office.env })).await, ["conflict"]);
    office.ask(ARCHIVE, json!({ "id": office.env })).await;
    for (query, variables) in [(ONE, json!({ "id": office.env })), (ARCHIVE, json!({ "id": office.env }))] {
        assert_eq!(office.refused(query, variables).await, ["not_found"]);
    }
    assert_eq!(office.test.client.get(&token, "/v1/environments").await.status, 401);
    let listed = office.ask("{ environments { nodes { id } } }", json!({})).await;
    assert_eq!(listed["environments"]["nodes"], json!([]));

    office.ask(DELETE, json!({ "id": office.env })).await;
    assert_eq!(office.refused(DELETE, json!({ "id": office.env })).await, ["not_found"]);
    assert_eq!(office.test.column("SELECT name AS value FROM environments").await, Vec::<String>::new());
    assert_eq!(office.test.column("SELECT name AS value FROM api_credentials").await, Vec::<String>::new());
    assert!(office.audit().await.contains(&"environment.delete environment".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_organisation_has_settings() {
    let office = Office::open().await;
    let update = "mutation($input: UpdateOrganisationInput!) {
        updateOrganisation(input: $input) { organisation { name inactivityMinutes } } }";
    let changed = office.ask(update, json!({ "input": { "name": "Acme Ltd", "inactivityMinutes": 5 } })).await;
    assert_eq!(changed["updateOrganisation"]["organisation"], json!({ "name": "Acme Ltd", "inactivityMinutes": 5 }));
    for (input, refusal) in [
        (json!({ "inactivityMinutes": 0 }), "validation_failed /inactivityMinutes"),
        (json!({ "name": "" }), "validation_failed /name"),
    ] {
        assert_eq!(office.refused(update, json!({ "input": input })).await, [refusal]);
    }
    office.test.app.clock().advance(std::time::Duration::from_secs(300));
    assert_eq!(office.refused("{ organisation { name } }", json!({})).await, ["token_expired"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_says_who_did_what_from_where_and_no_values() {
    let office = Office::open().await;
    let (id, _) = office.credential("EVENTS").await;
    let query = "query($filter: AuditLogFilter, $first: Int, $after: String) {
        auditLog(filter: $filter, first: $first, after: $after) {
            nodes { time actor environmentId action objectType objectId fields address } pageInfo { hasNextPage endCursor } } }";
    let log = office.ask(query, json!({ "filter": { "objectId": id } })).await;
    assert_eq!(
        log["auditLog"]["nodes"],
        json!([{ "time": "2026-01-01T00:00:00.000Z", "actor": office.member, "environmentId": office.env,
            "action": "api-credential.create", "objectType": "API credential", "objectId": id,
            "fields": ["role", "name"], "address": "127.0.0.1" }])
    );
    let first = office.ask(query, json!({ "first": 1 })).await["auditLog"].clone();
    assert_eq!(first["nodes"][0]["action"], "api-credential.create");
    assert_eq!(first["pageInfo"]["hasNextPage"], true);
    let second = office.ask(query, json!({ "first": 1, "after": first["pageInfo"]["endCursor"] })).await;
    assert_eq!(second["auditLog"]["nodes"][0]["action"], "instance.set-up");
    assert_eq!(second["auditLog"]["pageInfo"]["hasNextPage"], false);
}
