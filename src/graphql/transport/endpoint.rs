//! What every transport does with an operation before the engine sees it.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Weak};

use async_graphql::Variables;
use async_graphql::parser::parse_query;
use async_graphql::parser::types::{
    DocumentOperations, ExecutableDocument, OperationDefinition, OperationType, Selection,
};
use parking_lot::Mutex;
use serde_json::{Map, Value};

use super::handover::{Answers, Handover};
use super::selection::Root;

use crate::access::authenticate::Principal;
use crate::access::document::{self, Asked};
use crate::access::sdk_failure::{self, Refusal};
use crate::access::{AppAccess, Proof, RequestInfo, SdkAccess};
use crate::app::App;
use crate::error::{Code, Error, Result};
use crate::graphql::limits;
use crate::graphql::schema::Schema;
use crate::text;

/// The largest body or message of a customer's app.
pub const SDK_BODY: usize = 256 * 1024;

/// The schema, and what guards it.
pub struct Endpoint {
    pub app: App,
    pub schema: Schema,
    roots: Roots,
}

/// An operation as a caller sends it.
#[derive(Debug, PartialEq)]
pub struct Operation {
    pub asked: Asked,
    pub name: Option<String>,
    pub variables: Map<String, Value>,
}

/// An operation that may run.
pub struct Ready {
    pub request: async_graphql::Request,
    /// Where a subscription may leave its messages, if it can write them by itself.
    pub handover: Option<Handover>,
    pub kind: OperationType,
    /// What the operation is called in logs.
    pub label: Option<String>,
}

/// One live subscription in the operator's figures.
pub struct Live(());

impl Live {
    pub fn of(kind: OperationType) -> Option<Live> {
        (kind == OperationType::Subscription).then(|| {
            metrics::gauge!("cardwire_subscriptions_open").increment(1.0);
            Live(())
        })
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        metrics::gauge!("cardwire_subscriptions_open").decrement(1.0);
    }
}

/// What operations ask for, laid out once for all who ask the same.
#[derive(Default)]
struct Roots(Mutex<HashMap<u64, Weak<Root>>>);

impl Roots {
    fn get(&self, form: u64, lay_out: impl FnOnce() -> Option<Root>) -> Option<Arc<Root>> {
        if let Some(root) = self.0.lock().get(&form).and_then(Weak::upgrade) {
            return Some(root);
        }
        let root = Arc::new(lay_out()?);
        let mut roots = self.0.lock();
        if roots.len() == roots.capacity() {
            roots.retain(|_, root| root.strong_count() > 0);
        }
        roots.insert(form, Arc::downgrade(&root));
        Some(root)
    }
}

/// What an operation asks for, as a number: operations with the same number select the same fields. Of its variables
/// only switches can choose fields.
fn form(query: &str, operation: &Operation) -> u64 {
    let mut hasher = DefaultHasher::new();
    (query, &operation.name).hash(&mut hasher);
    let switches = operation.variables.iter().filter_map(|(name, value)| Some((name, value.as_bool()?)));
    switches.for_each(|switch| switch.hash(&mut hasher));
    hasher.finish()
}

impl Operation {
    /// Reads the members of a request or of a `subscribe` payload. The types must be those of the protocol.
    pub fn read(body: Value) -> Result<Operation> {
        let mut body = match body {
            Value::Object(body) => body,
            Value::Array(_) => return Err(refused("", "send one operation at a time; batches are not supported")),
            _ => return Err(refused("", "the body must be a JSON object")),
        };
        let hash = body.get("extensions").and_then(|extensions| extensions.pointer("/persistedQuery/sha256Hash"));
        let asked = match (body.get("query"), hash) {
            (Some(Value::String(query)), _) => Asked::Text(query.clone()),
            (None | Some(Value::Null), Some(Value::String(hash))) => Asked::Hash(hash.clone()),
            (None | Some(Value::Null), _) => return Err(refused("/query", "query is required")),
            (Some(_), _) => return Err(refused("/query", "query must be a string")),
        };
        let name = match body.remove("operationName") {
            Some(Value::String(name)) => Some(name).filter(|name| !name.is_empty()),
            None | Some(Value::Null) => None,
            Some(_) => return Err(refused("/operationName", "operationName must be a string")),
        };
        let variables = match body.remove("variables") {
            Some(Value::Object(variables)) => variables,
            None | Some(Value::Null) => Map::new(),
            Some(_) => return Err(refused("/variables", "variables must be an object")),
        };
        if !matches!(body.get("extensions"), None | Some(Value::Null | Value::Object(_))) {
            return Err(refused("/extensions", "extensions must be an object"));
        }
        for (name, value) in &variables {
            text::shallow(value, &format!("/variables/{name}"))?;
        }
        Ok(Operation { asked, name, variables })
    }
}

impl Endpoint {
    pub fn new(app: App, schema: Schema) -> Endpoint {
        Endpoint { app, schema, roots: Roots::default() }
    }

    /// The largest body that a caller may send.
    pub fn body_limit(&self, principal: &Principal) -> usize {
        match principal {
            Principal::Sdk(_) | Principal::SdkAnonymous(_) => SDK_BODY.min(self.app.config().body_limit),
            _ => self.app.config().body_limit,
        }
    }

    /// Parses and measures an operation, counts it for its caller, and gives it the caller's rights.
    pub async fn prepare(&self, operation: Operation, principal: &Principal, info: &RequestInfo) -> Result<Ready> {
        if let Principal::Sdk(SdkAccess { customer, .. }) = principal {
            self.app.limits().sdk.take(*customer, self.app.clock().now())?;
        }
        let query = self.admit(&operation.asked, principal).await?;
        limits::check_text(&query)?;
        let form = form(&query, &operation);
        let document = parse_query(&query)
            .map_err(|error| Error::new(Code::BadRequest, format!("the document does not parse: {error}")))?;
        let chosen = chosen(&document, operation.name.as_deref())?;
        let variables = given(chosen, operation.variables);
        limits::check(&document, chosen, &variables)?;
        let kind = chosen.ty;
        let root = match kind {
            OperationType::Subscription => self.roots.get(form, || Root::of(&document, chosen, &variables)),
            OperationType::Query | OperationType::Mutation => None,
        };
        let handover = root.map(|root| Handover::new(root, form));
        let label = label(&document, operation.name.as_deref());
        // The parsed document is what is executed; a subscription need not keep its text too.
        let mut request = async_graphql::Request::new("").variables(variables);
        request.operation_name = operation.name;
        request.set_parsed_query(document);
        let request = request.data(info.clone()).data(principal.clone());
        let request = match &handover {
            Some(handover) => request.data(handover.clone()),
            None => request,
        };
        let request = match principal {
            Principal::Member(viewer) | Principal::Credential(viewer) => request.data(viewer.clone()),
            Principal::Sdk(access) => request.data(access.clone()),
            Principal::Anonymous | Principal::SdkAnonymous(_) => request,
        };
        Ok(Ready { request, handover, kind, label })
    }

    /// Runs an operation.
    pub fn answers(&self, request: async_graphql::Request, handover: Option<Handover>) -> Answers {
        Answers::Engine(self.schema.execute_stream(request), handover)
    }

    /// The text of an operation. Apps may be restricted to those that were registered; others have no hashes.
    async fn admit(&self, asked: &Asked, principal: &Principal) -> Result<String> {
        match (principal, asked) {
            (Principal::Sdk(SdkAccess { env, .. }) | Principal::SdkAnonymous(AppAccess { env, .. }), asked) => {
                document::admit(&self.app, *env, asked.clone()).await
            }
            (_, Asked::Text(text)) => Ok(text.clone()),
            (_, Asked::Hash(_)) => Err(refused("/query", "query is required")),
        }
    }

    /// Notes that an operation of an app was refused, for the members who look after the app (specification 3.5).
    pub async fn note_refusal(&self, principal: &Principal, operation: Option<&str>, code: Option<Code>) {
        if let (Principal::Sdk(access), Some(code)) = (principal, code) {
            let Proof { key_name, claims } = &*access.proof;
            sdk_failure::note(&self.app, access.env, Refusal { code, operation, key_name, claims }).await;
        }
    }
}

/// The name of the operation, or of the field that one without a name asks first.
fn label(document: &ExecutableDocument, name: Option<&str>) -> Option<String> {
    match (&document.operations, name) {
        (_, Some(name)) => Some(name.to_owned()),
        (DocumentOperations::Multiple(operations), None) => operations.keys().next().map(ToString::to_string),
        (DocumentOperations::Single(operation), None) => {
            operation.node.selection_set.node.items.iter().find_map(|selection| match &selection.node {
                Selection::Field(field) => Some(field.node.name.node.to_string()),
                _ => None,
            })
        }
    }
}

fn chosen<'a>(document: &'a ExecutableDocument, name: Option<&str>) -> Result<&'a OperationDefinition> {
    match (&document.operations, name) {
        (DocumentOperations::Single(operation), None) => Ok(&operation.node),
        (DocumentOperations::Multiple(operations), None) => match operations.values().collect::<Vec<_>>().as_slice() {
            [only] => Ok(&only.node),
            _ => Err(refused("/operationName", "operationName must say which of the operations is meant")),
        },
        (DocumentOperations::Multiple(operations), Some(name)) => operations
            .get(name)
            .map(|operation| &operation.node)
            .ok_or_else(|| refused("/operationName", "the document has no operation of this name")),
        (DocumentOperations::Single(_), Some(_)) => {
            Err(refused("/operationName", "the document has no operation of this name"))
        }
    }
}

/// The variables with their defaults, which the engine forgets where it decides switches.
fn given(operation: &OperationDefinition, variables: Map<String, Value>) -> Variables {
    let mut given = Variables::from_json(Value::Object(variables));
    for definition in &operation.variable_definitions {
        if let Some(default) = &definition.node.default_value {
            given.entry(definition.node.name.node.clone()).or_insert_with(|| default.node.clone());
        }
    }
    given
}

fn refused(pointer: &str, detail: &str) -> Error {
    let error = Error::new(Code::BadRequest, detail);
    if pointer.is_empty() { error } else { error.at(pointer) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn operations_have_the_types_of_the_protocol() {
        let operation = Operation::read(json!({"query": "{ me }", "variables": null, "operationName": ""})).unwrap();
        assert_eq!(operation, Operation { asked: Asked::Text("{ me }".into()), name: None, variables: Map::new() });
        for (body, pointer) in [
            (json!([{"query": "{ me }"}]), None),
            (json!("{ me }"), None),
            (json!({}), Some("/query")),
            (json!({"query": 1}), Some("/query")),
            (json!({"query": "", "variables": []}), Some("/variables")),
            (json!({"query": "", "operationName": {}}), Some("/operationName")),
            (json!({"query": "", "extensions": "x"}), Some("/extensions")),
        ] {
            let error = Operation::read(body.clone()).unwrap_err();
            assert_eq!((error.code(), error.violations()[0].pointer.as_deref()), (Code::BadRequest, pointer), "{body}");
        }
    }

    #[test]
    fn what_selects_other_fields_has_another_form() {
        let form = |query: &str, variables: Value| {
            form(query, &Operation::read(json!({"query": query, "variables": variables})).unwrap())
        };
        let one = form("query($a: Boolean!) { me @skip(if: $a) { userId } }", json!({"a": true, "t": "x"}));
        assert_eq!(one, form("query($a: Boolean!) { me @skip(if: $a) { userId } }", json!({"a": true, "t": "y"})));
        assert_ne!(one, form("query($a: Boolean!) { me @skip(if: $a) { userId } }", json!({"a": false, "t": "x"})));
        assert_ne!(one, form("{ me { userId } }", json!({"a": true})));
    }

    #[test]
    fn defaults_count_unless_a_variable_is_given() {
        let document = parse_query("query($a: Boolean = true, $b: Int = 2, $c: Int = 3, $d: Int) { me }").unwrap();
        let Value::Object(variables) = json!({"b": 5, "c": null}) else { panic!("an object") };
        let given = given(chosen(&document, None).unwrap(), variables);
        assert_eq!(serde_json::to_value(&given).unwrap(), json!({"a": true, "b": 5, "c": null}));
    }

    #[test]
    fn variables_are_of_bounded_depth() {
        let mut deep = json!(1);
        for _ in 0..33 {
            deep = json!([deep]);
        }
        assert!(Operation::read(json!({"query": "", "variables": {"x": deep}})).is_err());
    }
}
