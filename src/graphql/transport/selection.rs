//! What a document selects, laid out once so that many messages can be written by it.
//!
//! Fragments are spread and switches (`@skip`, `@include`) are decided. The message itself may be of several types;
//! the objects in it are each of one, so fragments further down always hold. What this layout cannot hold, because it
//! is rare, is left to the engine: [`Root::of`] then gives `None`.

use std::collections::HashMap;

use async_graphql::parser::types::{
    self, Directive, ExecutableDocument, FragmentDefinition, OperationDefinition, SelectionSet,
};
use async_graphql::{Name, Pos, Positioned, Value, Variables};

/// Fields that are laid out, all levels together.
const MOST: usize = 200;

/// The one field that an operation asks for.
#[derive(Debug)]
pub struct Root {
    /// Its name in the answer.
    pub key: Box<str>,
    pub position: Pos,
    pub selection: Selection,
}

/// The fields that are asked of an object, in their order.
#[derive(Debug, Default)]
pub struct Selection(Vec<Field>);

#[derive(Debug)]
pub struct Field {
    /// The name in the answer.
    pub key: Box<str>,
    pub name: Box<str>,
    /// Empty for values.
    pub selection: Selection,
    /// The types that an object must all be of.
    on: Box<[Box<str>]>,
    /// Whether an earlier field has the same key.
    repeats: bool,
}

impl Root {
    /// Lays the operation out with all its variables given. `None`: it is not one plain field, or cannot be laid out.
    pub fn of(document: &ExecutableDocument, operation: &OperationDefinition, variables: &Variables) -> Option<Root> {
        let [only] = operation.selection_set.node.items.as_slice() else { return None };
        let types::Selection::Field(field) = &only.node else { return None };
        if !field.node.directives.is_empty() {
            return None;
        }
        let mut layout = Layout { fragments: &document.fragments, variables, left: MOST };
        let mut selection = Selection::default();
        layout.spread(&field.node.selection_set.node, Some(&[]), &mut selection)?;
        Some(Root { key: field.node.response_key().node.as_str().into(), position: field.pos, selection })
    }
}

impl Selection {
    /// The fields that an object gives which goes by these names.
    pub fn of<'a>(&'a self, names: &'a [&'a str]) -> impl Iterator<Item = &'a Field> {
        let said = |before: &[Field], key: &str| before.iter().any(|field| field.is_on(names) && *field.key == *key);
        let fields = self.0.iter().enumerate();
        fields
            .filter(move |(place, field)| {
                field.is_on(names) && !(field.repeats && said(self.0.get(..*place).unwrap_or_default(), &field.key))
            })
            .map(|(_, field)| field)
    }
}

impl Field {
    fn is_on(&self, names: &[&str]) -> bool {
        self.on.iter().all(|on| names.contains(&&**on))
    }
}

struct Layout<'a> {
    fragments: &'a HashMap<Name, Positioned<FragmentDefinition>>,
    variables: &'a Variables,
    left: usize,
}

impl Layout<'_> {
    /// Lays out a selection under these conditions. `None`: conditions always hold here.
    fn spread(&mut self, set: &SelectionSet, on: Option<&[&str]>, into: &mut Selection) -> Option<()> {
        for item in &set.items {
            match &item.node {
                types::Selection::Field(field) if self.wanted(&field.node.directives)? => {
                    self.field(&field.node, on.unwrap_or_default(), into)?;
                }
                types::Selection::InlineFragment(inline) if self.wanted(&inline.node.directives)? => {
                    let condition =
                        inline.node.type_condition.as_ref().map(|condition| condition.node.on.node.as_str());
                    self.spread(&inline.node.selection_set.node, narrowed(on, condition).as_deref(), into)?;
                }
                types::Selection::FragmentSpread(spread) if self.wanted(&spread.node.directives)? => {
                    let fragment = &self.fragments.get(&spread.node.fragment_name.node)?.node;
                    let condition = fragment.type_condition.node.on.node.as_str();
                    self.spread(&fragment.selection_set.node, narrowed(on, Some(condition)).as_deref(), into)?;
                }
                _ => {}
            }
        }
        Some(())
    }

    fn field(&mut self, field: &types::Field, on: &[&str], into: &mut Selection) -> Option<()> {
        self.left = self.left.checked_sub(1)?;
        let key = field.response_key().node.as_str();
        let set = &field.selection_set.node;
        let same = |known: &&mut Field| *known.key == *key && known.on.iter().map(|on| &**on).eq(on.iter().copied());
        if let Some(known) = into.0.iter_mut().find(same) {
            return self.spread(set, None, &mut known.selection);
        }
        let repeats = into.0.iter().any(|known| *known.key == *key);
        if repeats && !set.items.is_empty() {
            return None;
        }
        let mut selection = Selection::default();
        self.spread(set, None, &mut selection)?;
        let on = on.iter().map(|on| Box::from(*on)).collect();
        into.0.push(Field { key: key.into(), name: field.name.node.as_str().into(), selection, on, repeats });
        Some(())
    }

    /// Decides switches. `None`: another directive.
    fn wanted(&self, directives: &[Positioned<Directive>]) -> Option<bool> {
        let mut wanted = true;
        for directive in directives {
            let given = directive.node.get_argument("if")?.node.clone();
            let resolve = |name| self.variables.get(&name).cloned().ok_or(());
            let Ok(Value::Boolean(condition)) = given.into_const_with(resolve) else { return None };
            wanted &= match directive.node.name.node.as_str() {
                "skip" => !condition,
                "include" => condition,
                _ => return None,
            };
        }
        Some(wanted)
    }
}

/// The conditions inside a fragment.
fn narrowed<'a>(on: Option<&[&'a str]>, condition: Option<&'a str>) -> Option<Vec<&'a str>> {
    let mut narrowed = on?.to_vec();
    let news = condition.filter(|condition| !narrowed.contains(condition));
    narrowed.extend(news);
    Some(narrowed)
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_query;
    use async_graphql::parser::types::DocumentOperations;
    use serde_json::json;

    use super::*;

    fn root(query: &str, variables: serde_json::Value) -> Option<Root> {
        let document = parse_query(query).unwrap();
        let DocumentOperations::Single(operation) = &document.operations else { panic!("one operation") };
        Root::of(&document, &operation.node, &Variables::from_json(variables))
    }

    fn keys(selection: &Selection, names: &[&str]) -> Vec<String> {
        selection.of(names).map(|field| format!("{}:{}", field.key, field.name)).collect()
    }

    #[test]
    fn fields_are_collected_for_the_type_that_comes() {
        let root = root(
            "subscription { all: feed { __typename ... on A { x y: z } ...F ... on B { __typename w } } }
             fragment F on A { x list { id ... on L { name } } ... on A { list { name size } } }",
            json!({}),
        )
        .unwrap();
        assert_eq!(&*root.key, "all");
        assert_eq!(keys(&root.selection, &["A", "U"]), ["__typename:__typename", "x:x", "y:z", "list:list"]);
        assert_eq!(keys(&root.selection, &["B", "U"]), ["__typename:__typename", "w:w"]);
        let list = root.selection.of(&["A"]).find(|field| &*field.key == "list").unwrap();
        assert_eq!(keys(&list.selection, &["L"]), ["id:id", "name:name", "size:size"]);
    }

    #[test]
    fn switches_are_decided() {
        let query = "subscription($a: Boolean!, $b: Boolean!) {
            feed { x @skip(if: $a) y @include(if: $b) z @include(if: false) ... @skip(if: $b) { w } } }";
        let fields = |variables| keys(&root(query, variables).unwrap().selection, &["A"]);
        assert_eq!(fields(json!({"a": true, "b": true})), ["y:y"]);
        assert_eq!(fields(json!({"a": false, "b": false})), ["x:x", "w:w"]);
    }

    #[test]
    fn what_cannot_be_laid_out_is_left_to_the_engine() {
        for query in [
            "subscription { a: feed { x } b: feed { x } }",
            "subscription { ...F } fragment F on S { feed { x } }",
            "subscription { feed @include(if: true) { x } }",
            "subscription { feed { x @other } }",
            "subscription { feed { ... on A { l { x } } ... on U { l { y } } } }",
        ] {
            assert!(root(query, json!({})).is_none(), "{query}");
        }
    }
}
