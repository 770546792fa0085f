//! §3.3: own roles, groups in single environments, and the levels that come of them.

use serde_json::{Value, json};

use super::{Office, text};

const CREATE: &str = "mutation($input: CreateRoleInput!) { createRole(input: $input) { role { id levels { resource level } } } }";
const UPDATE: &str = "mutation($input: UpdateRoleInput!) { updateRole(input: $input) { role { title revision } } }";
const DELETE: &str = "mutation($id: ID!) { deleteRole(id: $id) { id } }";
const KEYS: &str = "query($env: ID!) { sdkApiKeys(environmentId: $env) { nodes { id } } }";

fn levels(pairs: &[(&str, &str)]) -> Value {
    pairs.iter().map(|(resource, level)| json!({ "resource": resource, "level": level })).collect()
}

async fn role(office: &Office, title: &str, pairs: &[(&str, &str)]) -> String {
    let made = office.ask(CREATE, json!({ "input": { "title": title, "levels": levels(pairs) } })).await;
    text(&made["createRole"]["role"]["id"])
}

#[tokio::test(flavor = "multi_thread")]
async fn an_own_role_gives_exactly_its_levels() {
    let office = Office::open().await;
    let reader = role(&office, "Key reader", &[("SDK_API_KEY", "VIEW"), ("ENVIRONMENT", "EDIT")]).await;
    let group = office.group("Readers", &reader, None).await;
    let session = office.join("bo@example.com", &[&group]).await;
    office.ask_as(&session, KEYS, json!({ "env": office.env })).await;
    let create = "mutation($env: ID!) { createApiCredential(input: { environmentId: $env, role: EVENTS }) { clientId } }";
    assert_eq!(office.refused_as(&session, create, json!({ "env": office.env })).await, ["forbidden"]);
    let credentials = "query($env: ID!) { apiCredentials(environmentId: $env) { nodes { id } } }";
    assert_eq!(office.refused_as(&session, credentials, json!({ "env": office.env })).await, ["not_found"]);
    let levels = office
        .ask_as(&session, "query($env: ID!) { viewer { levels(environmentId: $env) { resource level } } }", json!({ "env": office.env }))
        .await;
    let expected = json!([{ "resource": "SDK_API_KEY", "level": "VIEW" }, { "resource": "ENVIRONMENT", "level": "EDIT" }]);
    assert_eq!(levels["viewer"]["levels"], expected);
    assert_eq!(
        office.audit().await[1..3],
        ["role.create role", "group.create group"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_in_listed_environments_is_blind_elsewhere() {
    let office = Office::open().await;
    let made =
        office.ask("mutation { createEnvironment(input: { name: \"Production\" }) { environment { id } } }", json!({})).await;
    let production = text(&made["createEnvironment"]["environment"]["id"]);
    let group = office.group("Producers", &office.role("Owner").await, Some(&[&production])).await;
    let session = office.join("bo@example.com", &[&group]).await;

    office.ask_as(&session, KEYS, json!({ "env": production })).await;
    assert_eq!(office.refused_as(&session, KEYS, json!({ "env": office.env })).await, ["not_found"]);
    let seen = office.ask_as(&session, "{ environments { nodes { id } } }", json!({})).await;
    assert_eq!(seen["environments"]["nodes"], json!([{ "id": production }]));
    // The organisation is reached only through roles that are valid in all environments.
    for query in ["{ members { nodes { id } } }", "{ auditLog { nodes { id } } }", "{ organisation { id } }"] {
        assert_eq!(office.refused_as(&session, query, json!({})).await, ["not_found"], "{query}");
    }
    let create = "mutation { createEnvironment(input: { name: \"Third\" }) { environment { id } } }";
    assert_eq!(office.refused_as(&session, create, json!({})).await, ["forbidden"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn default_roles_stay_as_they_are() {
    let office = Office::open().await;
    for title in ["Owner", "Admin", "Editor"] {
        let id = office.role(title).await;
        let update = json!({ "input": { "id": id, "title": "Mine" } });
        assert_eq!(office.refused(UPDATE, update).await, ["forbidden"], "{title}");
        assert_eq!(office.refused(DELETE, json!({ "id": id })).await, ["forbidden"], "{title}");
    }
    let taken = json!({ "input": { "title": "Owner", "levels": [] } });
    assert_eq!(office.refused(CREATE, taken).await, ["already_exists /title"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_level_rises_above_that_of_the_one_who_gives_it() {
    let office = Office::open().await;
    let manager = role(
        &office,
        "Role manager",
        &[("ROLE", "ADMIN"), ("GROUP", "ADMIN"), ("THEME", "EDIT"), ("MEMBER_GROUP_ASSIGNMENT", "EDIT")],
    )
    .await;
    let strong = role(&office, "Strong", &[("THEME", "ADMIN")]).await;
    let group = office.group("Role managers", &manager, None).await;
    let session = office.join("bo@example.com", &[&group]).await;

    let above = json!({ "input": { "title": "A", "levels": levels(&[("THEME", "ADMIN")]) } });
    assert_eq!(office.refused_as(&session, CREATE, above).await, ["forbidden /levels"]);
    let within = json!({ "input": { "title": "B", "levels": levels(&[("THEME", "EDIT"), ("ROLE", "VIEW")]) } });
    let made = office.ask_as(&session, CREATE, within).await;
    let weak = text(&made["createRole"]["role"]["id"]);

    let raise = json!({ "input": { "id": weak, "levels": levels(&[("STREAM", "VIEW")]) } });
    assert_eq!(office.refused_as(&session, UPDATE, raise).await, ["forbidden /levels"]);
    let lower = json!({ "input": { "id": strong, "levels": levels(&[("THEME", "VIEW")]) } });
    office.ask_as(&session, UPDATE, lower).await;

    let owner = office.role("Owner").await;
    let create_group = "mutation($input: CreateGroupInput!) { createGroup(input: $input) { group { id } } }";
    for (role, environments, refusals) in [
        (&owner, json!(null), vec!["forbidden /roles/0"]),
        (&owner, json!([office.env]), vec!["forbidden /roles/0"]),
        (&weak, json!(["env_00000000000000000000000000"]), vec!["not_found /roles/0/environmentIds/0"]),
    ] {
        let roles = json!([{ "roleId": role, "environmentIds": environments }]);
        let input = json!({ "input": { "title": "G", "roles": roles } });
        assert_eq!(office.refused_as(&session, create_group, input).await, refusals);
    }
    let roles = json!([{ "roleId": weak }]);
    office.ask_as(&session, create_group, json!({ "input": { "title": "G", "roles": roles } })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_and_groups_in_use_are_not_deleted() {
    let office = Office::open().await;
    let own = role(&office, "Own", &[("THEME", "VIEW")]).await;
    let group = office.group("Group", &own, None).await;
    assert_eq!(office.refused(DELETE, json!({ "id": own })).await, ["in_use"]);
    office.ask("mutation($id: ID!) { deleteGroup(id: $id) { id } }", json!({ "id": group })).await;
    office.ask(DELETE, json!({ "id": own })).await;
    assert_eq!(office.refused(DELETE, json!({ "id": own })).await, ["not_found"]);
    let senseless = json!({ "input": { "title": "S", "levels": levels(&[("ANALYTICS", "ADMIN")]) } });
    assert_eq!(office.refused(CREATE, senseless).await, ["validation_failed /levels/analytics"]);
}
