//! §3.2 and §3.3: invitations, groups, and who may put whom where.

use std::time::Duration;

use serde_json::json;

use super::{EMAIL, Office, PASSWORD, text};

const INVITE: &str = "mutation($input: InviteMemberInput!) { inviteMember(input: $input) { invitation { id email } link } }";
const ACCEPT: &str = "mutation($input: AcceptInvitationInput!) {
    acceptInvitation(input: $input) { sessionToken member { email userId groupIds } } }";
const SET_GROUPS: &str = "mutation($input: SetMemberGroupsInput!) { setMemberGroups(input: $input) { member { groupIds } } }";

async fn invited(office: &Office, email: &str) -> (String, String) {
    let input = json!({ "input": { "firstName": "Bo", "lastName": "Ek", "email": email } });
    let made = office.ask(INVITE, input).await["inviteMember"].clone();
    (text(&made["invitation"]["id"]), text(&made["link"]).rsplit('/').next().unwrap().to_owned())
}

async fn accept(office: &Office, token: &str, password: &str) -> Vec<String> {
    let input = json!({ "input": { "token": token, "password": password } });
    let answer = office.test.client.graphql_with(&[], ACCEPT, input).await;
    if answer.json()["errors"].is_null() { Vec::new() } else { answer.errors() }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invited_person_becomes_a_member_once() {
    let office = Office::open().await;
    let editors = office.group("Editors", &office.role("Editor").await, None).await;
    let session = office.join("bo@example.com", &[&editors]).await;
    let me = office
        .ask_as(&session, "{ viewer { member { id name email userId groupIds } environments { id } } }", json!({}))
        .await;
    assert_eq!(me["viewer"]["member"]["name"], "Bo Ek");
    assert_eq!(me["viewer"]["member"]["userId"], me["viewer"]["member"]["id"]);
    assert_eq!(me["viewer"]["member"]["groupIds"], json!([editors]));
    assert_eq!(me["viewer"]["environments"], json!([{ "id": office.env }]));
    assert_eq!(
        office.audit().await,
        [
            "instance.set-up organisation",
            "group.create group",
            "member.invite invitation",
            "member.accept-invitation invitation"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_ends_by_acceptance_revocation_and_time() {
    let office = Office::open().await;
    let (_, used) = invited(&office, "bo@example.com").await;
    assert_eq!(accept(&office, &used, "short").await, ["validation_failed /password"]);
    assert_eq!(accept(&office, &used, PASSWORD).await, Vec::<String>::new());
    assert_eq!(accept(&office, &used, PASSWORD).await, ["not_found"]);

    let (id, revoked) = invited(&office, "cy@example.com").await;
    office.ask("mutation($id: ID!) { revokeInvitation(id: $id) { invitation { id } } }", json!({ "id": id })).await;
    assert_eq!(accept(&office, &revoked, PASSWORD).await, ["not_found"]);

    let (_, late) = invited(&office, "di@example.com").await;
    office.test.app.clock().advance(Duration::from_secs(7 * 24 * 3600));
    assert_eq!(accept(&office, &late, PASSWORD).await, ["not_found"]);
    assert_eq!(accept(&office, "unknown", PASSWORD).await, ["not_found"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_belongs_to_one_member() {
    let office = Office::open().await;
    let input = json!({ "input": { "firstName": "A", "lastName": "L", "email": "ANA@example.com" } });
    assert_eq!(office.refused(INVITE, input).await, ["already_exists /email"]);
    let (_, first) = invited(&office, "bo@example.com").await;
    let (_, second) = invited(&office, "bo@example.com").await;
    assert_eq!(accept(&office, &first, PASSWORD).await, Vec::<String>::new());
    assert_eq!(accept(&office, &second, PASSWORD).await, ["already_exists"]);
    let bad = json!({ "input": { "firstName": "", "lastName": "L", "email": "nobody" } });
    assert_eq!(office.refused(INVITE, bad).await, ["validation_failed /firstName", "validation_failed /email"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_listed_renamed_and_removed() {
    let office = Office::open().await;
    let session = office.join("bo@example.com", &[]).await;
    let listed = office.ask("{ members { nodes { id email } } }", json!({})).await["members"]["nodes"].clone();
    let bo = text(&listed.as_array().unwrap().iter().find(|row| row["email"] == "bo@example.com").unwrap()["id"]);
    assert_eq!(listed.as_array().unwrap().len(), 2);

    let rename = "mutation($input: UpdateMemberInput!) { updateMember(input: $input) { member { name } } }";
    let renamed = office.ask(rename, json!({ "input": { "id": bo, "firstName": "Bobby" } })).await;
    assert_eq!(renamed["updateMember"]["member"]["name"], "Bobby Ek");
    let own = office.ask_as(&session, rename, json!({ "input": { "id": bo, "lastName": "Oak" } })).await;
    assert_eq!(own["updateMember"]["member"]["name"], "Bobby Oak");
    let others = json!({ "input": { "id": office.member, "lastName": "Oak" } });
    assert_eq!(office.refused_as(&session, rename, others).await, ["forbidden"]);
    assert_eq!(office.refused_as(&session, "{ members { nodes { id } } }", json!({})).await, ["not_found"]);

    office.ask("mutation($id: ID!) { removeMember(id: $id) { id } }", json!({ "id": bo })).await;
    assert_eq!(office.refused_as(&session, "{ viewer { member { id } } }", json!({})).await, ["unauthenticated"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_owner_cannot_go() {
    let office = Office::open().await;
    let leave = json!({ "input": { "memberId": office.member, "groupIds": [] } });
    assert_eq!(office.refused(SET_GROUPS, leave.clone()).await, ["conflict"]);
    let remove = "mutation($id: ID!) { removeMember(id: $id) { id } }";
    assert_eq!(office.refused(remove, json!({ "id": office.member })).await, ["conflict"]);
    let groups = office.ask("{ groups { nodes { id title } } }", json!({})).await;
    let owners = text(&groups["groups"]["nodes"][0]["id"]);
    let strip = "mutation($input: UpdateGroupInput!) { updateGroup(input: $input) { group { id } } }";
    assert_eq!(office.refused(strip, json!({ "input": { "id": owners, "roles": [] } })).await, ["conflict"]);
    let here_only = json!([{ "roleId": office.role("Owner").await, "environmentIds": [office.env] }]);
    assert_eq!(office.refused(strip, json!({ "input": { "id": owners, "roles": here_only } })).await, ["conflict"]);
    let delete = "mutation($id: ID!) { deleteGroup(id: $id) { id } }";
    assert_eq!(office.refused(delete, json!({ "id": owners })).await, ["in_use"]);
    assert_eq!(office.audit().await, ["instance.set-up organisation"]);

    office.join("bo@example.com", &[&owners]).await;
    office.ask(SET_GROUPS, leave).await;
    assert_eq!(office.refused("{ members { nodes { id } } }", json!({})).await, ["not_found"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_owners_cannot_remove_each_other_at_once() {
    let office = Office::open().await;
    let groups = office.ask("{ groups { nodes { id } } }", json!({})).await;
    let owners = text(&groups["groups"]["nodes"][0]["id"]);
    let second = office.join("bo@example.com", &[&owners]).await;
    let me = office.ask_as(&second, "{ viewer { member { id } } }", json!({})).await;
    let second_id = text(&me["viewer"]["member"]["id"]);
    let remove = "mutation($id: ID!) { removeMember(id: $id) { id } }";
    let client = &office.test.client;
    tokio::join!(
        client.graphql(&office.owner, remove, json!({ "id": second_id })),
        client.graphql(&second, remove, json!({ "id": office.member })),
    );
    assert_eq!(office.test.column("SELECT email AS value FROM members").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_put_above_the_one_who_puts_them() {
    let office = Office::open().await;
    let admins = office.group("Admins", &office.role("Admin").await, None).await;
    let owners = office.ask("{ groups { nodes { id title } } }", json!({})).await["groups"]["nodes"].clone();
    let owners = text(&owners.as_array().unwrap().iter().find(|group| group["title"] == "Owners").unwrap()["id"]);
    let admin = office.join("bo@example.com", &[&admins]).await;
    let me = office.ask_as(&admin, "{ viewer { member { id } } }", json!({})).await;
    let me = text(&me["viewer"]["member"]["id"]);

    let promote = json!({ "input": { "memberId": me, "groupIds": [admins, owners] } });
    assert_eq!(office.refused_as(&admin, SET_GROUPS, promote).await, ["forbidden"]);
    let accomplice =
        json!({ "input": { "firstName": "C", "lastName": "D", "email": "cy@example.com", "groupIds": [owners] } });
    assert_eq!(office.refused_as(&admin, INVITE, accomplice).await, ["forbidden"]);
    let peer = json!({ "input": { "firstName": "C", "lastName": "D", "email": "cy@example.com", "groupIds": [admins] } });
    office.ask_as(&admin, INVITE, peer).await;
    let unknown = json!({ "input": { "memberId": me, "groupIds": ["grp_00000000000000000000000000"] } });
    assert_eq!(office.refused(SET_GROUPS, unknown).await, ["not_found /groupIds/0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_have_no_business_with_members() {
    let office = Office::open().await;
    let workbench = office.token("WORKBENCH").await;
    for query in ["{ members { nodes { id } } }", "{ roles { nodes { id } } }", "{ auditLog { nodes { id } } }"] {
        assert_eq!(office.refused_as(&workbench, query, json!({})).await, ["not_found"], "{query}");
    }
    let input = json!({ "input": { "firstName": "C", "lastName": "D", "email": EMAIL } });
    assert_eq!(office.refused_as(&workbench, INVITE, input).await, ["forbidden"]);
    let create = "mutation { createEnvironment(input: { name: \"X\" }) { environment { id } } }";
    assert_eq!(office.refused_as(&workbench, create, json!({})).await, ["forbidden"]);
}
