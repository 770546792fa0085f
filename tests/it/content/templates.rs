//! Card templates: drafts, versions, states, and what is refused.

use serde_json::{Value, json};

use crate::support::world::{World, offer, text};

const CREATE: &str = "mutation($input: CreateCardTemplateInput!) {
    createCardTemplate(input: $input) { cardTemplate { id name state publishedVersion draftVersion revision } } }";
const UPDATE: &str = "mutation($input: UpdateCardTemplateInput!) {
    updateCardTemplate(input: $input) { cardTemplate { name state publishedVersion draftVersion revision } } }";
const PUBLISH: &str = "mutation($input: PublishCardTemplateInput!) {
    publishCardTemplate(input: $input) { cardTemplate { state publishedVersion draftVersion } } }";
const ARCHIVE: &str = "mutation($input: ArchiveCardTemplateInput!) {
    archiveCardTemplate(input: $input) { cardTemplate { state publishedVersion } } }";
const DELETE: &str = "mutation($id: ID!) { deleteCardTemplate(id: $id) { id } }";

/// A template with the content of the walk.
async fn create(world: &World, name: &str) -> String {
    let input = json!({ "environmentId": world.env, "name": name, "content": offer() });
    text(&world.ask(CREATE, json!({ "input": input })).await["createCardTemplate"]["cardTemplate"]["id"])
}

fn headline(words: &str) -> Value {
    json!({ "topCard": { "elements": [{ "id": "h", "type": "headline", "attributes": { "text": words } }] } })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_goes_from_draft_to_published_to_changed() {
    let world = World::start().await;
    let input = json!({ "environmentId": world.env, "name": "News", "content": headline("one") });
    let made = world.ask(CREATE, json!({ "input": input })).await["createCardTemplate"]["cardTemplate"].clone();
    let id = text(&made["id"]);
    let created = json!({ "id": id, "name": "News", "state": "DRAFT", "publishedVersion": null, "draftVersion": 1,
        "revision": 1 });
    assert_eq!(made, created);

    let published = world.ask(PUBLISH, json!({ "input": { "templateId": id } })).await;
    let expected = json!({ "state": "PUBLISHED", "publishedVersion": 1, "draftVersion": null });
    assert_eq!(published["publishCardTemplate"]["cardTemplate"], expected);
    assert_eq!(world.refused(PUBLISH, json!({ "input": { "templateId": id } })).await, ["conflict"]);

    let edit = json!({ "id": id, "name": "Fresh news", "content": headline("two"), "expectedRevision": 2 });
    let changed = world.ask(UPDATE, json!({ "input": edit })).await;
    let expected =
        json!({ "name": "Fresh news", "state": "CHANGED", "publishedVersion": 1, "draftVersion": 2, "revision": 3 });
    assert_eq!(changed["updateCardTemplate"]["cardTemplate"], expected);
    assert_eq!(world.refused(UPDATE, json!({ "input": edit })).await, ["conflict /expectedRevision"]);

    world.ask(PUBLISH, json!({ "input": { "templateId": id } })).await;
    let query =
        "query($id: ID!) { cardTemplate(id: $id) { content versions { version state name content published } } }";
    let template = world.ask(query, json!({ "id": id })).await["cardTemplate"].clone();
    assert_eq!(template["content"], headline("two"));
    let at = "2026-01-01T00:00:00.000Z";
    let versions = json!([
        { "version": 2, "state": "PUBLISHED", "name": "Fresh news", "content": headline("two"), "published": at },
        { "version": 1, "state": "SUPERSEDED", "name": "News", "content": headline("one"), "published": at },
    ]);
    assert_eq!(template["versions"], versions);

    let archived = world.ask(ARCHIVE, json!({ "input": { "templateId": id } })).await;
    assert_eq!(archived["archiveCardTemplate"]["cardTemplate"], json!({ "state": "ARCHIVED", "publishedVersion": 2 }));
    for (query, input) in
        [(PUBLISH, json!({ "templateId": id })), (ARCHIVE, json!({ "templateId": id })), (UPDATE, json!({ "id": id }))]
    {
        assert_eq!(world.refused(query, json!({ "input": input })).await, ["conflict"]);
    }
    let query = "SELECT action AS value FROM audit_entries WHERE object_id LIKE 'tmpl\\_%' ORDER BY id";
    let actions = world.test.column(query).await;
    let of_this = ["create", "publish", "update", "publish", "archive"].map(|verb| format!("card-template.{verb}"));
    assert_eq!(actions[actions.len() - 5..], of_this);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_content_is_refused_with_every_fault_and_nothing_is_saved() {
    let world = World::start().await;
    let content = json!({ "topCard": { "elements": [
        { "id": "a", "type": "marquee" },
        { "id": "b", "type": "headline", "attributes": { "text": "{% if x %}", "size": 3 } },
        { "id": "c", "type": "image", "attributes": { "src": "javascript:alert(1)" } },
    ] } });
    let input = json!({ "environmentId": world.env, "name": " ", "content": content });
    let faults = [
        "validation_failed /name",
        "validation_failed /content/topCard/elements/0/type",
        "validation_failed /content/topCard/elements/1/attributes/size",
        "validation_failed /content/topCard/elements/1/attributes/text",
        "validation_failed /content/topCard/elements/2/attributes/src",
    ];
    assert_eq!(world.refused(CREATE, json!({ "input": input })).await, faults);
    let edit = json!({ "id": world.template, "content": { "topCard": 1 } });
    assert_eq!(world.refused(UPDATE, json!({ "input": edit })).await, ["validation_failed /content/topCard"]);
    assert_eq!(world.test.column("SELECT name AS value FROM card_templates").await, ["Offer"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_in_a_flow_stays_and_one_in_a_stream_leaves_it() {
    let world = World::start().await;
    assert_eq!(world.refused(DELETE, json!({ "id": world.template })).await, ["in_use"]);

    let spare = create(&world, "Spare").await;
    let curate = "mutation($input: UpdateStreamInput!) { updateStream(input: $input) { stream { templateIds } } }";
    let input = json!({ "id": world.stream, "templateIds": [world.template, spare] });
    world.ask(curate, json!({ "input": input })).await;
    assert_eq!(world.ask(DELETE, json!({ "id": spare })).await["deleteCardTemplate"]["id"], spare.as_str());
    let query = "query($id: ID!) { stream(id: $id) { templateIds } }";
    assert_eq!(world.ask(query, json!({ "id": world.stream })).await["stream"]["templateIds"], json!([world.template]));
    assert_eq!(world.refused(DELETE, json!({ "id": spare })).await, ["not_found"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_are_listed_by_name_state_and_stream() {
    let world = World::start().await;
    for name in ["100% off", "1000 off", "Other"] {
        create(&world, name).await;
    }
    let query = "query($env: ID!, $name: String, $states: [CardTemplateState!], $stream: ID, $first: Int, $after: String) {
        cardTemplates(environmentId: $env, name: $name, states: $states, streamId: $stream, first: $first, after: $after) {
            nodes { name } pageInfo { hasNextPage endCursor } } }";
    let names = async |arguments: Value| -> (Vec<String>, Value) {
        let mut variables = json!({ "env": world.env });
        variables.as_object_mut().unwrap().extend(arguments.as_object().unwrap().clone());
        let list = world.ask(query, variables).await["cardTemplates"].clone();
        (list["nodes"].as_array().unwrap().iter().map(|node| text(&node["name"])).collect(), list["pageInfo"].clone())
    };
    assert_eq!(names(json!({})).await.0, ["Offer", "100% off", "1000 off", "Other"]);
    assert_eq!(names(json!({ "name": "0% O" })).await.0, ["100% off"]);
    assert_eq!(names(json!({ "states": ["PUBLISHED"] })).await.0, ["Offer"]);
    assert_eq!(names(json!({ "stream": world.stream })).await.0, ["Offer"]);
    let (page, info) = names(json!({ "first": 3 })).await;
    assert_eq!((page.len(), &info["hasNextPage"]), (3, &json!(true)));
    let (rest, info) = names(json!({ "first": 3, "after": info["endCursor"] })).await;
    assert_eq!((rest, &info["hasNextPage"]), (vec!["Other".to_owned()], &json!(false)));
    let too_many = json!({ "env": world.env, "first": 201 });
    assert_eq!(world.refused(query, too_many).await, ["validation_failed /first"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_editor_tries_a_draft_out() {
    let world = World::start().await;
    let query = "mutation($input: PreviewCardInput!) { previewCard(input: $input) { preview { topCard actions } } }";
    let input =
        json!({ "templateId": world.template, "variables": { "amount": "1234.5" }, "profile": { "name": "Ana" } });
    let preview = world.ask(query, json!({ "input": input })).await["previewCard"]["preview"].clone();
    assert_eq!(preview["topCard"]["elements"][0]["attributes"]["text"], "Hello Ana");
    assert_eq!(preview["topCard"]["elements"][1]["attributes"]["text"], "You have 1,234.50 to spend.");
    assert_eq!(preview["actions"]["dismiss"]["overflow"], true);
    let input = json!({ "templateId": world.template, "variables": { "amount": "much" } });
    assert_eq!(world.refused(query, json!({ "input": input })).await, ["validation_failed /variables/amount"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_of_others_and_other_ids_do_not_exist() {
    let world = World::start().await;
    let query = "query($id: ID!) { cardTemplate(id: $id) { id } }";
    for id in ["tmpl_00000000000000000000000000", world.stream.as_str(), "x"] {
        assert_eq!(world.refused(query, json!({ "id": id })).await, ["not_found"]);
    }
    let of_events = world.test.client.graphql(&world.events, query, json!({ "id": world.template })).await;
    assert_eq!(of_events.errors(), ["not_found"]);
    let delete = world.test.client.graphql(&world.events, DELETE, json!({ "id": world.template })).await;
    assert_eq!(delete.errors(), ["forbidden"]);
}
