//! The public contract in the repository is the one the code serves, and nobody gets in without permission.

use std::collections::BTreeSet;
use std::fs;

use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{BaseType, ServiceDocument, Type, TypeKind, TypeSystemDefinition};
use serde_json::{Value, json};

use crate::support::world::World;

#[test]
fn schema_graphql_is_what_the_code_serves() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schema.graphql");
    let written = fs::read_to_string(path).unwrap_or_default();
    assert!(
        written.trim_end() == cardwire::graphql::sdl().trim_end(),
        "schema.graphql differs from the code: write it with `cargo run -- schema > schema.graphql`"
    );
}

/// Operations that need no authentication at all, or bring it in their input.
const OPEN: &[&str] = &["setUpInstance", "signIn", "acceptInvitation"];
/// What a member without any permission may still do: it concerns only themselves.
const OWN: &[&str] = &["viewer", "signOut", "environments"];

/// Fields that need one of several optional arguments.
const EITHER: &[(&str, &str)] = &[("theme", "(id: \"x\")")];

/// A root field with an argument list that type-checks.
struct Operation {
    name: String,
    document: String,
}

/// Root fields of the schema, each called with made-up arguments.
fn operations(sdl: &str) -> Vec<Operation> {
    let schema = parse_schema(sdl).unwrap();
    let mut found = Vec::new();
    for (root, keyword) in [("Query", "query"), ("Mutation", "mutation")] {
        let TypeKind::Object(object) = kind(&schema, root).unwrap() else { panic!("{root} is no object") };
        for field in &object.fields {
            let name = field.node.name.node.to_string();
            let arguments: Vec<String> = field
                .node
                .arguments
                .iter()
                .filter(|argument| !argument.node.ty.node.nullable && argument.node.default_value.is_none())
                .map(|argument| format!("{}: {}", argument.node.name.node, made_up(&schema, &argument.node.ty.node)))
                .collect();
            let arguments = if arguments.is_empty() { String::new() } else { format!("({})", arguments.join(", ")) };
            let either = EITHER.iter().find(|(field, _)| *field == name).map(|(_, arguments)| (*arguments).to_owned());
            let arguments = either.unwrap_or(arguments);
            let selection = if composite(&schema, &field.node.ty.node) { " { __typename }" } else { "" };
            found.push(Operation { document: format!("{keyword} {{ {name}{arguments}{selection} }}"), name });
        }
    }
    found
}

pub fn kind<'a>(schema: &'a ServiceDocument, name: &str) -> Option<&'a TypeKind> {
    schema.definitions.iter().find_map(|definition| match definition {
        TypeSystemDefinition::Type(of) if of.node.name.node == name => Some(&of.node.kind),
        _ => None,
    })
}

pub(super) fn named(of: &Type) -> &str {
    match &of.base {
        BaseType::Named(name) => name,
        BaseType::List(inner) => named(inner),
    }
}

fn composite(schema: &ServiceDocument, of: &Type) -> bool {
    matches!(kind(schema, named(of)), Some(TypeKind::Object(_) | TypeKind::Interface(_) | TypeKind::Union(_)))
}

/// A value of a type, as GraphQL text.
fn made_up(schema: &ServiceDocument, of: &Type) -> String {
    let name = match &of.base {
        BaseType::List(inner) => return format!("[{}]", made_up(schema, inner)),
        BaseType::Named(name) => name.as_str(),
    };
    match (name, kind(schema, name)) {
        (_, Some(TypeKind::Enum(options))) => options.values[0].node.value.node.to_string(),
        (_, Some(TypeKind::InputObject(input))) => {
            let fields: Vec<String> = input
                .fields
                .iter()
                .filter(|field| !field.node.ty.node.nullable && field.node.default_value.is_none())
                .map(|field| format!("{}: {}", field.node.name.node, made_up(schema, &field.node.ty.node)))
                .collect();
            format!("{{ {} }}", fields.join(", "))
        }
        ("Int" | "Float", _) => "1".to_owned(),
        ("Boolean", _) => "true".to_owned(),
        ("JSONObject" | "JSON", _) => "{}".to_owned(),
        ("DateTime", _) => "\"2026-01-01T00:00:00Z\"".to_owned(),
        ("Duration", _) => "\"PT1H\"".to_owned(),
        ("URL", _) => "\"https://example.com/\"".to_owned(),
        ("TimeZone", _) => "\"UTC\"".to_owned(),
        _ => "\"x\"".to_owned(),
    }
}

pub(super) fn codes(answer: &Value) -> BTreeSet<String> {
    let errors = answer["errors"].as_array().cloned().unwrap_or_default();
    errors.iter().map(|error| error["extensions"]["code"].as_str().unwrap_or("none").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_root_field_asks_who_calls() {
    let world = World::start().await;
    let operations = operations(&cardwire::graphql::sdl());
    assert!(operations.len() > 60, "only {} root fields were found", operations.len());
    let mut open = Vec::new();
    for operation in operations.iter().filter(|operation| !OPEN.contains(&operation.name.as_str())) {
        let answer = world.test.client.graphql_with(&[], &operation.document, json!({})).await.json();
        // An id that cannot be read is refused before anybody is asked, and tells nothing.
        let refused = codes(&answer).iter().all(|code| ["unauthenticated", "not_found"].contains(&code.as_str()));
        if codes(&answer).is_empty() || !refused {
            open.push(format!("{}: {answer}", operation.name));
        }
    }
    assert_eq!(open, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_without_permissions_sees_and_does_nothing() {
    let world = World::start().await;
    let session = world.powerless_member().await;
    let mut open = Vec::new();
    for operation in operations(&cardwire::graphql::sdl()) {
        if OPEN.contains(&operation.name.as_str()) || OWN.contains(&operation.name.as_str()) {
            continue;
        }
        let answer = world.test.client.graphql(&session, &operation.document, json!({})).await.json();
        let refusals = ["not_found", "forbidden", "unauthenticated"];
        let refused = codes(&answer).iter().all(|code| refusals.contains(&code.as_str()));
        if codes(&answer).is_empty() || !refused {
            open.push(format!("{}: {answer}", operation.name));
        }
    }
    assert_eq!(open, Vec::<String>::new());
}
