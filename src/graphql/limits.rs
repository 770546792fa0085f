//! How much one document may ask for, decided before any of it runs (specification 2.4).
//!
//! Fragments are measured once and remembered, so a document whose fragments multiply is measured in the time it
//! takes to read it. The engine's own checks walk every spread; they see only documents that passed here.

use std::collections::{HashMap, HashSet};

use async_graphql::Name;
use async_graphql::parser::types::{
    ExecutableDocument, Field, FragmentDefinition, OperationDefinition, Selection, SelectionSet,
};
use async_graphql::{Positioned, Value, Variables};

use crate::error::{Code, Error, Result};

/// Levels of fields below each other.
const DEPTH: usize = 15;
/// Fields, each counted as often as the list around it may be long.
const COMPLEXITY: u64 = 5_000;
/// Times that one field may be asked for side by side.
const ALIASES: usize = 30;
/// Brackets inside each other in the text of a document: more would cost the parser its stack.
const NESTING: usize = 100;
/// What a page counts for when it does not say how long it is.
const DEFAULT_PAGE: u64 = 50;

/// Refuses text whose brackets are nested too deeply to be parsed safely.
pub fn check_text(query: &str) -> Result<()> {
    let mut depth = 0_usize;
    let mut bytes = query.bytes().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'(' | b'[' => {
                depth += 1;
                if depth > NESTING {
                    return Err(too_complex("the document is nested too deeply"));
                }
            }
            b'}' | b')' | b']' => depth = depth.saturating_sub(1),
            b'#' => while bytes.next_if(|byte| *byte != b'\n').is_some() {},
            b'"' => {
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'\\' => {
                            bytes.next();
                        }
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Measures the operation that will run.
pub fn check(document: &ExecutableDocument, operation: &OperationDefinition, variables: &Variables) -> Result<()> {
    let mut measure =
        Measure { fragments: &document.fragments, variables, known: HashMap::new(), open: HashSet::new() };
    let size = measure.selection(&operation.selection_set.node)?;
    if size.depth > DEPTH {
        return Err(too_complex(format!("the operation is {} levels deep, {DEPTH} are allowed", size.depth)));
    }
    if size.fields > COMPLEXITY {
        return Err(too_complex(format!("the operation has complexity {}, {COMPLEXITY} is allowed", size.fields)));
    }
    Ok(())
}

#[derive(Clone, Copy, Default)]
struct Size {
    depth: usize,
    fields: u64,
}

struct Measure<'a> {
    fragments: &'a HashMap<Name, Positioned<FragmentDefinition>>,
    variables: &'a Variables,
    known: HashMap<&'a Name, Size>,
    open: HashSet<&'a Name>,
}

impl<'a> Measure<'a> {
    fn selection(&mut self, set: &'a SelectionSet) -> Result<Size> {
        let mut size = Size::default();
        for item in &set.items {
            let part = match &item.node {
                Selection::Field(field) => self.field(&field.node)?,
                Selection::InlineFragment(inline) => self.selection(&inline.node.selection_set.node)?,
                Selection::FragmentSpread(spread) => self.fragment(&spread.node.fragment_name.node)?,
            };
            size.depth = size.depth.max(part.depth);
            size.fields = size.fields.saturating_add(part.fields);
        }
        self.check_aliases(set)?;
        Ok(size)
    }

    fn field(&mut self, field: &'a Field) -> Result<Size> {
        // Introspection describes the schema, which is as deep as it is; its recursion is bounded by the engine.
        let described = field.name.node.starts_with("__");
        let below = self.selection(&field.selection_set.node)?;
        Ok(Size {
            depth: if described { 1 } else { below.depth + 1 },
            fields: below.fields.saturating_mul(self.length(field)).saturating_add(1),
        })
    }

    fn fragment(&mut self, name: &'a Name) -> Result<Size> {
        if let Some(size) = self.known.get(name) {
            return Ok(*size);
        }
        // An unknown fragment is the engine's to report.
        let Some(fragment) = self.fragments.get(name) else { return Ok(Size::default()) };
        if !self.open.insert(name) {
            return Err(Error::new(Code::BadRequest, format!("fragment {name} contains itself")));
        }
        let size = self.selection(&fragment.node.selection_set.node)?;
        self.open.remove(name);
        self.known.insert(name, size);
        Ok(size)
    }

    /// How many times the fields below a field may be answered.
    fn length(&self, field: &Field) -> u64 {
        let given = field.get_argument("first").and_then(|value| {
            let resolve = |name: Name| self.variables.get(&name).cloned().ok_or(());
            match value.node.clone().into_const_with(resolve) {
                Ok(Value::Number(number)) => number.as_u64(),
                _ => None,
            }
        });
        given.unwrap_or_else(|| {
            let page = field.selection_set.node.items.iter().any(|item| match &item.node {
                Selection::Field(field) => matches!(field.node.name.node.as_str(), "nodes" | "edges"),
                _ => false,
            });
            if page { DEFAULT_PAGE } else { 1 }
        })
    }

    fn check_aliases(&self, set: &'a SelectionSet) -> Result<()> {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        let mut seen = HashSet::new();
        let mut rest = vec![set];
        while let Some(set) = rest.pop() {
            for item in &set.items {
                match &item.node {
                    Selection::Field(field) => {
                        let count = counts.entry(field.node.name.node.as_str()).or_default();
                        *count += 1;
                        if *count > ALIASES {
                            let name = &field.node.name.node;
                            return Err(too_complex(format!("{name} is asked for more than {ALIASES} times")));
                        }
                    }
                    Selection::InlineFragment(inline) => rest.push(&inline.node.selection_set.node),
                    Selection::FragmentSpread(spread) => {
                        let name = &spread.node.fragment_name.node;
                        if let (true, Some(fragment)) = (seen.insert(name), self.fragments.get(name)) {
                            rest.push(&fragment.node.selection_set.node);
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

fn too_complex(detail: impl Into<String>) -> Error {
    Error::new(Code::QueryTooComplex, detail)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use async_graphql::parser::parse_query;

    use super::*;

    fn measure(query: &str) -> Result<()> {
        check_text(query)?;
        let document = parse_query(query).unwrap();
        let (_, operation) = document.operations.iter().next().unwrap();
        check(&document, &operation.node, &Variables::default())
    }

    fn refused(query: &str) -> bool {
        measure(query).is_err_and(|error| error.code() == Code::QueryTooComplex)
    }

    fn nested(levels: usize) -> String {
        format!("{}a{}", "{ a ".repeat(levels - 1) + "{ ", " }".repeat(levels))
    }

    #[test]
    fn depth() {
        measure(&nested(15)).unwrap();
        assert!(refused(&nested(16)));
        assert!(refused(&"{a".repeat(50_000)));
        measure("{ __schema { types { a { b { c { d { e { f { g { h { i { j { k { l } } } } } } } } } } } } } }")
            .unwrap();
    }

    #[test]
    fn lists_multiply() {
        measure("{ cards(first: 100) { nodes { id name state created } } }").unwrap();
        assert!(refused("{ a(first: 200) { nodes { b(first: 200) { nodes { id } } } } }"));
        assert!(refused("{ a { nodes { b { nodes { id c d } } } } }"));
    }

    #[test]
    fn aliases() {
        let aliases = |count: usize| {
            let mut query = "{ ".to_owned();
            for index in 0..count {
                write!(query, "a{index}: me ").unwrap();
            }
            query + "}"
        };
        measure(&aliases(30)).unwrap();
        assert!(refused(&aliases(31)));
    }

    #[test]
    fn fragments_that_multiply_are_measured_quickly() {
        let mut query = "{ ...f0 }".to_owned();
        for index in 0..40 {
            write!(query, " fragment f{index} on A {{ a {{ ...f{} }} b {{ ...f{} }} }}", index + 1, index + 1).unwrap();
        }
        query += " fragment f40 on A { id }";
        assert!(refused(&query));
        let cycle = "{ ...a } fragment a on A { b { ...a } }";
        assert_eq!(measure(cycle).unwrap_err().code(), Code::BadRequest);
    }

    #[test]
    fn brackets_in_strings_and_comments_are_text() {
        let text = "{".repeat(200);
        check_text(&format!("{{ a(b: \"{text}\") }} # {text}")).unwrap();
        check_text(&format!("{{ a(b: \"\\\"{text}\") }}")).unwrap();
    }
}
