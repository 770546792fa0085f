//! A start request: which customers a flow is started for, and with what (specification 8.7).
//!
//! What is wrong with the request as a whole is an error. What is wrong with one entry stays with that entry, and
//! what is wrong with one customer's id stays with that customer, so that the rest of a batch is not held up.

use serde_json::{Map, Value};

use super::fields::{Fields, join};
use crate::cards::options::CardOptions;
use crate::error::{Error, Result, Violation, Violations};
use crate::text::{LONGEST_USER_ID, check_user_id, object_without_nul};

/// The most entries of one request.
pub const ENTRIES: usize = 1_000;
/// The most customers of one entry.
pub const USER_IDS: usize = 10_000;

const VARIABLES_BYTES: usize = 64 * 1024;
const METADATA_BYTES: usize = 16 * 1024;
const NOTIFICATION_DETAIL_BYTES: usize = 2 * 1024;

/// The targets of the specification that this server cannot reach yet.
const LATER: &[&str] = &["segment", "tag", "filter", "all"];

/// What a caller asked for.
#[derive(Debug)]
pub struct StartRequest {
    pub entries: Vec<Entry>,
}

/// One element of `flows`.
#[derive(Debug, Default)]
pub struct Entry {
    /// Where the entry stands in what the caller sent.
    pub pointer: String,
    /// The caller's idempotency key.
    pub invocation: Option<String>,
    /// The target, valid ids only, in the order given. An id given twice stands here twice.
    pub user_ids: Vec<String>,
    /// One violation for each id that cannot be a customer's.
    pub refused_ids: Vec<Violation>,
    pub payload: Payload,
    /// The event that starts the flow, where one does.
    pub cause: Option<Cause>,
    /// Why the whole entry is refused.
    pub faults: Vec<Violation>,
}

/// An event that starts a flow.
#[derive(Debug)]
pub struct Cause {
    /// The hop count of the run that begins (specification 8.6).
    pub hops: i16,
    /// Its envelope, which the run sees as `payload.trigger.event`.
    pub event: Value,
}

/// What the flow is given.
#[derive(Debug, Default)]
pub struct Payload {
    pub card_options: CardOptions,
    /// The options as the caller wrote them, for the record.
    pub written_options: Map<String, Value>,
    pub variables: Map<String, Value>,
    pub metadata: Map<String, Value>,
    pub notification_detail: Map<String, Value>,
}

impl StartRequest {
    /// Reads a request body. Pointers begin at the body: `/flows/0/target`.
    pub fn parse(body: &Value) -> Result<StartRequest> {
        let mut violations = Violations::new();
        let listed = Fields::open(body, "", &mut violations).and_then(|fields| {
            fields.required("flows", &mut violations)?;
            fields.list("flows", &mut violations)
        });
        violations.finish()?;
        let listed = listed.map_or(&[][..], Vec::as_slice);
        if listed.is_empty() || listed.len() > ENTRIES {
            return Err(Error::invalid("/flows", format!("flows must have 1 to {ENTRIES} entries")));
        }
        let entries = listed.iter().enumerate().map(|(place, value)| Entry::parse(value, &join("/flows", place)));
        Ok(StartRequest { entries: entries.collect() })
    }

    /// How many customers it names.
    pub(super) fn customers(&self) -> usize {
        self.entries.iter().map(|entry| entry.user_ids.len()).sum()
    }

    /// A request of one entry. Pointers begin at the entry: `/target/type`.
    pub fn of_entry(entry: &Value) -> StartRequest {
        StartRequest { entries: vec![Entry::parse(entry, "")] }
    }

    /// A request for one customer.
    pub fn for_customer(user_id: &str, payload: Option<&Value>) -> StartRequest {
        let target = serde_json::json!({ "type": "user", "targetUserIds": user_id });
        let entry = serde_json::json!({ "target": target, "payload": payload });
        StartRequest::of_entry(&entry)
    }
}

impl Entry {
    /// Reads one entry; what is wrong with it stays with it.
    pub(super) fn parse(value: &Value, pointer: &str) -> Entry {
        let mut entry = Entry { pointer: pointer.to_owned(), ..Entry::default() };
        let mut violations = Violations::new();
        if let Some(fields) = Fields::open(value, pointer, &mut violations) {
            entry.read(&fields, &mut violations);
        }
        entry.faults = violations.finish().err().map_or_else(Vec::new, Error::into_violations);
        entry
    }

    fn read(&mut self, fields: &Fields<'_>, violations: &mut Violations) {
        if let Some(target) = fields.required("target", violations) {
            self.read_target(target, fields.pointer("target"), violations);
        }
        let inner = fields.value("payload").and_then(|payload| {
            let payload = Fields::open(payload, fields.pointer("payload"), violations)?;
            self.payload = Payload::read(&payload, violations);
            read_invocation(&payload, violations)
        });
        self.invocation = read_invocation(fields, violations).or(inner);
    }

    fn read_target(&mut self, target: &Value, pointer: String, violations: &mut Violations) {
        let Some(fields) = Fields::open(target, pointer, violations) else { return };
        match fields.required_text("type", violations) {
            Some("user") => {}
            Some(later) if LATER.contains(&later) => {
                violations.add(fields.pointer("type"), format!("the target type `{later}` is not available yet"));
                return;
            }
            Some(other) => {
                violations.add(fields.pointer("type"), format!("`{other}` is not a target type"));
                return;
            }
            None => return,
        }
        let pointer = fields.pointer("targetUserIds");
        match fields.required("targetUserIds", violations) {
            Some(one @ Value::String(_)) => self.read_ids(std::slice::from_ref(one), |_| pointer.clone()),
            Some(Value::Array(many)) if many.is_empty() || many.len() > USER_IDS => {
                violations.add(pointer, format!("targetUserIds must have 1 to {USER_IDS} ids"));
            }
            Some(Value::Array(many)) => self.read_ids(many, |index| join(&pointer, index)),
            Some(_) => violations.add(pointer, "targetUserIds must be a string or an array of strings"),
            None => {}
        }
    }

    fn read_ids(&mut self, ids: &[Value], pointer: impl Fn(usize) -> String) {
        for (index, id) in ids.iter().enumerate() {
            let read = id.as_str().ok_or_else(|| Error::invalid("", "a user id is a string"));
            match read.and_then(|id| check_user_id(id).map(|()| id)) {
                Ok(id) => self.user_ids.push(id.to_owned()),
                Err(error) => self.refused_ids.extend(error.at(pointer(index)).into_violations()),
            }
        }
    }
}

impl Payload {
    fn read(fields: &Fields<'_>, violations: &mut Violations) -> Payload {
        let options = fields.value("cardOptions").unwrap_or(&Value::Null);
        let written_options = options.as_object().cloned().unwrap_or_default();
        violations.check(object_without_nul(&written_options, &fields.pointer("cardOptions")));
        Payload {
            card_options: violations
                .check(CardOptions::parse(options, &fields.pointer("cardOptions")))
                .unwrap_or_default(),
            written_options,
            variables: read_object(fields, "variables", VARIABLES_BYTES, violations),
            metadata: read_object(fields, "metadata", METADATA_BYTES, violations),
            notification_detail: read_object(fields, "notificationDetail", NOTIFICATION_DETAIL_BYTES, violations),
        }
    }
}

fn read_object(fields: &Fields<'_>, name: &str, bytes: usize, violations: &mut Violations) -> Map<String, Value> {
    let Some(object) = fields.object(name, violations) else { return Map::new() };
    if serde_json::to_string(object).map_or(usize::MAX, |text| text.len()) > bytes {
        violations.add(fields.pointer(name), format!("{name} may take at most {} KiB", bytes / 1024));
    }
    violations.check(object_without_nul(object, &fields.pointer(name)));
    object.clone()
}

fn read_invocation(fields: &Fields<'_>, violations: &mut Violations) -> Option<String> {
    let id = fields.text("flowInvocationId", violations)?;
    // An invocation id obeys the rule of a user id, which is the caller's own too.
    if check_user_id(id).is_err() {
        let rule = format!("flowInvocationId has 1 to {LONGEST_USER_ID} characters and no control characters");
        violations.add(fields.pointer("flowInvocationId"), rule);
    }
    Some(id.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The pointers of what is wrong with the only entry.
    fn faults(entry: &Value) -> Vec<String> {
        let request = StartRequest::parse(&json!({ "flows": [entry] })).unwrap();
        let faults = request.entries.into_iter().next().unwrap().faults;
        faults.into_iter().filter_map(|violation| violation.pointer).collect()
    }

    fn user(payload: &Value) -> Value {
        json!({ "target": { "type": "user", "targetUserIds": "a" }, "payload": payload })
    }

    #[test]
    fn only_the_target_is_required() {
        let body = json!({ "flows": [
            { "target": { "type": "user", "targetUserIds": "user-1" } },
            { "flowInvocationId": "x", "target": { "type": "user", "targetUserIds": ["a", "b"] }, "surprise": 1 },
            { "target": { "type": "user", "targetUserIds": "c" }, "payload": { "flowInvocationId": "inside" } },
        ] });
        let entries = StartRequest::parse(&body).unwrap().entries;
        assert!(entries.iter().all(|entry| entry.faults.is_empty()));
        assert_eq!(entries[0].user_ids, ["user-1"]);
        assert_eq!(entries[0].invocation, None);
        assert_eq!(entries[1].user_ids, ["a", "b"]);
        assert_eq!(entries[1].invocation.as_deref(), Some("x"));
        assert_eq!(entries[2].invocation.as_deref(), Some("inside"));
    }

    #[test]
    fn a_request_without_entries_is_refused_as_a_whole() {
        let many: Vec<Value> = (0..=ENTRIES).map(|_| user(&json!({}))).collect();
        for (body, pointer) in [
            (json!([]), ""),
            (json!({}), "/flows"),
            (json!({ "flows": {} }), "/flows"),
            (json!({ "flows": [] }), "/flows"),
            (json!({ "flows": many }), "/flows"),
        ] {
            let error = StartRequest::parse(&body).unwrap_err();
            assert_eq!(error.violations()[0].pointer.as_deref(), Some(pointer), "{error}");
        }
    }

    #[test]
    fn faults_stay_with_their_entry() {
        let ids: Vec<String> = (0..=USER_IDS).map(|n| n.to_string()).collect();
        let target = |target: Value| json!({ "target": target });
        for (entry, pointers) in [
            (json!(7), &["/flows/0"][..]),
            (json!({}), &["/flows/0/target"]),
            (target(json!("user-1")), &["/flows/0/target"]),
            (target(json!({})), &["/flows/0/target/type"]),
            (target(json!({ "type": "segment", "segmentId": "seg_x" })), &["/flows/0/target/type"]),
            (target(json!({ "type": "planet" })), &["/flows/0/target/type"]),
            (target(json!({ "type": "user" })), &["/flows/0/target/targetUserIds"]),
            (target(json!({ "type": "user", "targetUserIds": 5 })), &["/flows/0/target/targetUserIds"]),
            (target(json!({ "type": "user", "targetUserIds": [] })), &["/flows/0/target/targetUserIds"]),
            (target(json!({ "type": "user", "targetUserIds": ids })), &["/flows/0/target/targetUserIds"]),
            (user(&json!([])), &["/flows/0/payload"]),
            (user(&json!({ "variables": [] })), &["/flows/0/payload/variables"]),
            (user(&json!({ "variables": { "a": ["\u{0}"] } })), &["/flows/0/payload/variables"]),
            (user(&json!({ "metadata": { "\u{0}": 1 } })), &["/flows/0/payload/metadata"]),
            (user(&json!({ "variables": { "a": "x".repeat(VARIABLES_BYTES) } })), &["/flows/0/payload/variables"]),
            (user(&json!({ "metadata": { "a": "x".repeat(METADATA_BYTES) } })), &["/flows/0/payload/metadata"]),
            (
                user(&json!({ "notificationDetail": { "a": "x".repeat(2048) }, "flowInvocationId": "" })),
                &["/flows/0/payload/notificationDetail", "/flows/0/payload/flowInvocationId"],
            ),
            (user(&json!({ "cardOptions": { "priority": 11 } })), &["/flows/0/payload/cardOptions/priority"]),
        ] {
            assert_eq!(faults(&entry), pointers, "{entry}");
        }
    }

    #[test]
    fn an_impossible_id_is_refused_alone() {
        let target = json!({ "type": "user", "targetUserIds": ["a", "", 3, "x".repeat(257), "line\nbreak", "ü"] });
        let request = StartRequest::parse(&json!({ "flows": [{ "target": target }] })).unwrap();
        let entry = &request.entries[0];
        assert!(entry.faults.is_empty());
        assert_eq!(entry.user_ids, ["a", "ü"]);
        let refused: Vec<_> = entry.refused_ids.iter().filter_map(|violation| violation.pointer.as_deref()).collect();
        let at = |index| format!("/flows/0/target/targetUserIds/{index}");
        assert_eq!(refused, [at(1), at(2), at(3), at(4)]);
    }
}
