//! Themes, streams and containers: defaults, references, and what cannot go.

use serde_json::{Value, json};

use crate::support::world::{World, text};

const CREATE_THEME: &str = "mutation($input: CreateThemeInput!) { createTheme(input: $input) { theme { id name document builtIn revision } } }";
const CREATE_STREAM: &str =
    "mutation($input: CreateStreamInput!) { createStream(input: $input) { stream { id templateIds builtIn } } }";
const UPDATE_STREAM: &str =
    "mutation($input: UpdateStreamInput!) { updateStream(input: $input) { stream { name templateIds revision } } }";
const CREATE_CONTAINER: &str = "mutation($input: CreateStreamContainerInput!) { createStreamContainer(input: $input) {
    streamContainer { id cardLimit streamId themeId darkThemeId apiKeyIds revision } } }";
const UPDATE_CONTAINER: &str = "mutation($input: UpdateStreamContainerInput!) { updateStreamContainer(input: $input) {
    streamContainer { name cardLimit darkThemeId revision } } }";
const SET_KEYS: &str = "mutation($input: SetContainerKeysInput!) { setContainerKeys(input: $input) {
    streamContainer { apiKeyIds revision } } }";
const DELETE_STREAM: &str = "mutation($id: ID!) { deleteStream(id: $id) { id } }";
const DELETE_THEME: &str = "mutation($id: ID!) { deleteTheme(id: $id) { id } }";
const UNKNOWN_THEME: &str = "thm_00000000000000000000000000";
const UNKNOWN_STREAM: &str = "strm_00000000000000000000000000";

/// The id of the built-in object of a list.
async fn built_in(world: &World, list: &str) -> String {
    let query = format!("query($env: ID!) {{ {list}(environmentId: $env) {{ nodes {{ id name builtIn }} }} }}");
    let nodes = world.ask(&query, json!({ "env": world.env })).await[list]["nodes"].clone();
    let built_in = nodes.as_array().unwrap().iter().find(|node| node["builtIn"] == true).expect("a built-in one");
    text(&built_in["id"])
}

async fn create_theme(world: &World, name: &str) -> String {
    let input = json!({ "environmentId": world.env, "name": name, "document": { "card": { "radius": 4 } } });
    text(&world.ask(CREATE_THEME, json!({ "input": input })).await["createTheme"]["theme"]["id"])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_takes_its_defaults_and_keeps_what_it_wears() {
    let world = World::start().await;
    let theme = built_in(&world, "themes").await;
    let input = json!({ "environmentId": world.env, "name": "Side", "streamId": world.stream });
    let made = world.ask(CREATE_CONTAINER, json!({ "input": input })).await["createStreamContainer"]["streamContainer"]
        .clone();
    let id = text(&made["id"]);
    let expected = json!({ "id": id, "cardLimit": 50, "streamId": world.stream, "themeId": theme, "darkThemeId": null,
        "apiKeyIds": [], "revision": 1 });
    assert_eq!(made, expected);

    let dark = create_theme(&world, "Dark").await;
    let edit = json!({ "id": id, "cardLimit": 3, "darkThemeId": dark, "expectedRevision": 1 });
    let changed = world.ask(UPDATE_CONTAINER, json!({ "input": edit })).await;
    let expected = json!({ "name": "Side", "cardLimit": 3, "darkThemeId": dark, "revision": 2 });
    assert_eq!(changed["updateStreamContainer"]["streamContainer"], expected);
    assert_eq!(world.refused(UPDATE_CONTAINER, json!({ "input": edit })).await, ["conflict /expectedRevision"]);

    assert_eq!(world.refused(DELETE_THEME, json!({ "id": dark })).await, ["in_use"]);
    assert_eq!(world.refused(DELETE_THEME, json!({ "id": theme })).await, ["in_use"]);
    assert_eq!(world.refused(DELETE_STREAM, json!({ "id": world.stream })).await, ["in_use"]);
    let bare = json!({ "id": id, "darkThemeId": null });
    let changed = world.ask(UPDATE_CONTAINER, json!({ "input": bare })).await;
    assert_eq!(changed["updateStreamContainer"]["streamContainer"]["darkThemeId"], Value::Null);
    world.ask(DELETE_THEME, json!({ "id": dark })).await;
    world.ask("mutation($id: ID!) { deleteStreamContainer(id: $id) { id } }", json!({ "id": id })).await;
    let query = "query($id: ID!) { streamContainer(id: $id) { id } }";
    assert_eq!(world.refused(query, json!({ "id": id })).await, ["not_found"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn references_to_nothing_are_named() {
    let world = World::start().await;
    let container = |change: Value| {
        let mut input = json!({ "environmentId": world.env, "name": "New", "streamId": world.stream });
        input.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        json!({ "input": input })
    };
    for (change, fault) in [
        (json!({ "streamId": UNKNOWN_STREAM }), "not_found /streamId"),
        (json!({ "themeId": UNKNOWN_THEME }), "not_found /themeId"),
        (json!({ "darkThemeId": UNKNOWN_THEME }), "not_found /darkThemeId"),
        (json!({ "apiKeyIds": [world.key_id, "key_00000000000000000000000000"] }), "not_found /apiKeyIds/1"),
        (json!({ "cardLimit": 0 }), "validation_failed /cardLimit"),
        (json!({ "cardLimit": 501 }), "validation_failed /cardLimit"),
        (json!({ "name": "" }), "validation_failed /name"),
        (json!({ "name": "Homepage" }), "already_exists /name"),
    ] {
        assert_eq!(world.refused(CREATE_CONTAINER, container(change.clone())).await, [fault], "{change}");
    }
    assert_eq!(world.test.column("SELECT name AS value FROM containers").await, ["Homepage"]);

    let input = json!({ "environmentId": world.env, "name": "New",
        "templateIds": [world.template, "tmpl_00000000000000000000000000"] });
    assert_eq!(world.refused(CREATE_STREAM, json!({ "input": input })).await, ["not_found /templateIds/1"]);
    assert_eq!(world.test.column("SELECT name AS value FROM streams ORDER BY name").await, ["All cards", "Home"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_cards_and_the_default_theme_are_there_to_stay() {
    let world = World::start().await;
    let all = built_in(&world, "streams").await;
    assert_eq!(world.refused(UPDATE_STREAM, json!({ "input": { "id": all, "name": "Mine" } })).await, ["conflict"]);
    assert_eq!(world.refused(DELETE_STREAM, json!({ "id": all })).await, ["conflict"]);
    // The default theme can be edited; without a container that wears it, it still cannot be deleted.
    let theme = built_in(&world, "themes").await;
    world.ask("mutation($id: ID!) { deleteStreamContainer(id: $id) { id } }", json!({ "id": world.container })).await;
    assert_eq!(world.refused(DELETE_THEME, json!({ "id": theme })).await, ["conflict"]);
    assert_eq!(world.test.column("SELECT name AS value FROM themes").await, ["Default"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_curated_and_named() {
    let world = World::start().await;
    let edit = json!({ "id": world.stream, "name": "House", "templateIds": [], "expectedRevision": 1 });
    let changed = world.ask(UPDATE_STREAM, json!({ "input": edit })).await["updateStream"]["stream"].clone();
    assert_eq!(changed, json!({ "name": "House", "templateIds": [], "revision": 2 }));
    let edit = json!({ "id": world.stream, "templateIds": [world.template, world.template] });
    let changed = world.ask(UPDATE_STREAM, json!({ "input": edit })).await["updateStream"]["stream"].clone();
    assert_eq!(changed["templateIds"], json!([world.template]));
    assert_eq!(
        world.refused(UPDATE_STREAM, json!({ "input": { "id": world.stream, "name": "All cards" } })).await,
        ["already_exists /name"]
    );
    let query = "SELECT action || ' ' || array_to_string(fields, ',') AS value FROM audit_entries
        WHERE object_type = 'stream' ORDER BY id";
    let expected = ["stream.create name,templateIds", "stream.update name,templateIds", "stream.update templateIds"];
    assert_eq!(world.test.column(query).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_granted_and_taken() {
    let world = World::start().await;
    let query = "query($id: ID!) { streamContainer(id: $id) { apiKeyIds } }";
    let granted = world.ask(query, json!({ "id": world.container })).await;
    assert_eq!(granted["streamContainer"]["apiKeyIds"], json!([world.key_id]));
    let none = json!({ "input": { "containerId": world.container, "apiKeyIds": [] } });
    let changed = world.ask(SET_KEYS, none).await["setContainerKeys"]["streamContainer"].clone();
    assert_eq!(changed, json!({ "apiKeyIds": [], "revision": 2 }));
    // What a key is not granted, its customers cannot read.
    let feed = "query($c: ID!) { cardCount(containerId: $c) { totalCount } }";
    let answer = world.sdk("user-123", feed, json!({ "c": world.container })).await;
    assert_eq!(answer.errors(), ["key_not_granted"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn themes_have_known_parts() {
    let world = World::start().await;
    let input = json!({ "environmentId": world.env, "name": "Night", "document": { "card": 1, "footer": {} } });
    let faults = ["validation_failed /document/card", "validation_failed /document/footer"];
    assert_eq!(world.refused(CREATE_THEME, json!({ "input": input })).await, faults);
    let theme = create_theme(&world, "Night").await;
    let update = "mutation($input: UpdateThemeInput!) { updateTheme(input: $input) { theme { document revision } } }";
    let edit = json!({ "input": { "id": theme, "document": { "system": {} } } });
    let changed = world.ask(update, edit).await["updateTheme"]["theme"].clone();
    assert_eq!(changed, json!({ "document": { "system": {} }, "revision": 2 }));
    assert_eq!(
        world.refused(update, json!({ "input": { "id": theme, "name": "Default" } })).await,
        ["already_exists /name"]
    );
    let of_events = world.test.client.graphql(&world.events, DELETE_THEME, json!({ "id": theme })).await;
    assert_eq!(of_events.errors(), ["forbidden"]);
}
