//! Nothing crosses the border of an environment: every list is of one environment, every thing is found only there.

use std::collections::{BTreeMap, BTreeSet};

use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{FieldDefinition, ObjectType, ServiceDocument, TypeKind};
use serde_json::{Value, json};

use super::schema::{codes, kind, named};
use crate::support::world::{CUSTOMER, World, access_token};

/// A list of one environment, and the type of what is in it.
struct List {
    field: String,
    node: String,
}

fn object<'a>(schema: &'a ServiceDocument, name: &str) -> &'a ObjectType {
    match kind(schema, name) {
        Some(TypeKind::Object(object)) => object,
        _ => panic!("{name} is no object"),
    }
}

fn fields<'a>(schema: &'a ServiceDocument, name: &str) -> impl Iterator<Item = &'a FieldDefinition> {
    object(schema, name).fields.iter().map(|field| &field.node)
}

fn lists(schema: &ServiceDocument) -> Vec<List> {
    let of_environment = |field: &&FieldDefinition| {
        let mandatory = field.arguments.iter().filter(|argument| !argument.node.ty.node.nullable);
        let names: Vec<_> = mandatory.map(|argument| argument.node.name.node.as_str()).collect();
        names == ["environmentId"] && named(&field.ty.node).ends_with("Connection")
    };
    let list = |field: &FieldDefinition| {
        let nodes = fields(schema, named(&field.ty.node)).find(|field| field.name.node == "nodes").unwrap();
        let node = named(&nodes.ty.node).to_owned();
        let addressed = fields(schema, &node).any(|field| field.name.node == "id");
        addressed.then(|| List { field: field.name.node.to_string(), node: node.clone() })
    };
    fields(schema, "Query").filter(of_environment).filter_map(list).collect()
}

/// The fields that find one thing by its id, by the type of the thing.
fn finds(schema: &ServiceDocument) -> BTreeMap<String, String> {
    let by_id = |field: &&FieldDefinition| {
        let names: Vec<_> = field.arguments.iter().map(|argument| argument.node.name.node.as_str()).collect();
        names == ["id"]
    };
    let find = |field: &FieldDefinition| (named(&field.ty.node).to_owned(), field.name.node.to_string());
    fields(schema, "Query").filter(by_id).map(find).collect()
}

async fn ids(world: &World, token: &str, list: &List, env: &str) -> Result<BTreeSet<String>, BTreeSet<String>> {
    let query = format!("query($env: ID!) {{ {}(environmentId: $env, first: 200) {{ nodes {{ id }} }} }}", list.field);
    let answer = world.test.client.graphql(token, &query, json!({ "env": env })).await.json();
    let Value::Array(nodes) = &answer["data"][&list.field]["nodes"] else { return Err(codes(&answer)) };
    Ok(nodes.iter().filter_map(|node| node["id"].as_str().map(str::to_owned)).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_list_and_no_id_reaches_into_another_environment() {
    let world = World::start().await;
    world.send_card("order-17", CUSTOMER).await;
    let hook = json!({ "types": ["card-published"], "url": "http://127.0.0.1:9/" });
    world.test.client.call(&world.workbench, "POST", &world.path("webhook"), hook).await;
    let elsewhere = world.another_environment("Production").await;
    let mut foreign = Vec::new();
    for role in ["EVENTS", "WORKBENCH", "AUTH"] {
        foreign.push(access_token(&world.test, &world.credential(&elsewhere, role).await).await);
    }
    let schema = parse_schema(cardwire::graphql::sdl()).unwrap();
    let finds = finds(&schema);
    let mut filled = BTreeSet::new();
    let mut wrong = Vec::new();
    for list in lists(&schema) {
        let here = ids(&world, &world.session, &list, &world.env).await.unwrap();
        let there = ids(&world, &world.session, &list, &elsewhere).await.unwrap();
        if !here.is_disjoint(&there) {
            wrong.push(format!("{} shows the same in two environments", list.field));
        }
        for token in &foreign {
            match ids(&world, token, &list, &world.env).await {
                Ok(seen) => wrong.push(format!("{} shows another environment's {seen:?}", list.field)),
                Err(codes) if codes.iter().all(|code| code == "not_found" || code == "forbidden") => {}
                Err(codes) => wrong.push(format!("{}: {codes:?}", list.field)),
            }
            for (id, find) in here.iter().zip(finds.get(&list.node).into_iter().cycle()) {
                let query = format!("query($id: ID!) {{ {find}(id: $id) {{ id }} }}");
                let answer = world.test.client.graphql(token, &query, json!({ "id": id })).await.json();
                if !codes(&answer).iter().all(|code| code == "not_found") || codes(&answer).is_empty() {
                    wrong.push(format!("{find}({id}): {answer}"));
                }
            }
        }
        if !here.is_empty() {
            filled.insert(list.field);
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    for field in ["cards", "flows", "streams", "streamContainers", "cardTemplates", "sdkApiKeys", "apiCredentials"] {
        assert!(filled.contains(field), "{field} was empty, so nothing was shown of it: {filled:?}");
    }
}
