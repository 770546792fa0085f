//! Card filters: which cards of a stream a feed request wants (specification 5.3).
//!
//! A filter is read once, with every operand checked, and then asked for each card without failing.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use serde_json::Value;

use crate::clock::Time;
use crate::error::{Code, Error, Result, Violation};
use crate::ids::{CardId, Id, TemplateId};

/// A request with more conditions is refused.
const MOST_CONDITIONS: usize = 20;
/// An `in` with more operands is refused.
const MOST_OPERANDS: usize = 200;

/// One condition as it stands on the wire.
#[derive(Clone, Debug, PartialEq)]
pub struct CardFilter {
    pub field: String,
    pub op: String,
    pub value: Value,
}

/// Conditions that must all hold. The default holds for every card.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    conditions: Vec<Condition>,
    /// The request in a fixed form, to recognise the same filter again.
    canonical: String,
}

/// Filters with the same canonical form let the same cards through.
impl PartialEq for Filter {
    fn eq(&self, other: &Filter) -> bool {
        self.canonical == other.canonical
    }
}

impl Eq for Filter {}

impl Hash for Filter {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.canonical.hash(state);
    }
}

/// What a filter looks at.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub id: CardId,
    pub template: TemplateId,
    pub template_name: &'a str,
    pub priority: i16,
    pub created: Time,
    pub variables: &'a Value,
    pub payload: &'a Value,
    pub metadata: &'a Value,
}

#[derive(Clone, Debug)]
struct Condition {
    field: Field,
    test: Test,
}

#[derive(Clone, Debug, PartialEq)]
enum Field {
    Priority,
    TemplateId,
    TemplateName,
    CardId,
    Created,
    Variable(String),
    Payload(String),
    Metadata(String),
}

#[derive(Clone, Debug)]
enum Test {
    Equal(Operand),
    NotEqual(Operand),
    Missing,
    Present,
    Ordered(Bound, Operand),
    OneOf(Vec<Operand>),
    NoneOf(Vec<Operand>),
    Between(Operand, Operand),
}

#[derive(Clone, Copy, Debug)]
enum Bound {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

/// A value of one kind. Values of different kinds are neither equal nor ordered.
#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Number(f64),
    Date(Time),
    Text(String),
    Flag(bool),
}

const ALL: &[&str] = &["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "between"];
const NAMES: &[&str] = &["eq", "ne", "in", "nin"];
const CARD_IDS: &[&str] = &["eq", "in"];
const TIMES: &[&str] = &["eq", "ne", "gt", "gte", "lt", "lte", "between"];

impl Filter {
    /// Reads the conditions of a request. Everything wrong with them is `invalid_filter` at `/filters/<n>/…`.
    pub fn parse(filters: &[CardFilter]) -> Result<Filter> {
        if filters.is_empty() {
            return Ok(Filter::default());
        }
        if filters.len() > MOST_CONDITIONS {
            return Err(invalid("/filters", format!("there may be at most {MOST_CONDITIONS} filters")));
        }
        let mut violations: Vec<Violation> = Vec::new();
        let mut conditions = Vec::with_capacity(filters.len());
        for (index, filter) in filters.iter().enumerate() {
            match Condition::parse(filter) {
                Ok(condition) => conditions.push(condition),
                Err(error) => violations.extend(error.at(format!("/filters/{index}")).into_violations()),
            }
        }
        if !violations.is_empty() {
            return Err(Error::from_violations(violations));
        }
        let words: Vec<_> = filters.iter().map(|filter| (&filter.field, &filter.op, &filter.value)).collect();
        Ok(Filter { conditions, canonical: serde_json::to_string(&words)? })
    }

    /// Tells whether every condition holds for the card.
    pub fn matches(&self, subject: &Subject<'_>) -> bool {
        self.conditions.iter().all(|condition| condition.holds(subject))
    }

    pub fn is_empty(&self) -> bool {
        self.conditions.is_empty()
    }

    /// Whether a card's variables, payload or metadata are needed to decide.
    pub fn reads_values(&self) -> bool {
        self.conditions
            .iter()
            .any(|condition| matches!(condition.field, Field::Variable(_) | Field::Payload(_) | Field::Metadata(_)))
    }

    /// Text that is equal for equal requests.
    pub fn canonical(&self) -> &str {
        &self.canonical
    }
}

impl Condition {
    fn parse(filter: &CardFilter) -> Result<Condition> {
        let field = Field::parse(&filter.field)?;
        if !ALL.contains(&filter.op.as_str()) {
            return Err(invalid("/op", format!("{} is not an operator: {}", filter.op, ALL.join(", "))));
        }
        if !field.operators().contains(&filter.op.as_str()) {
            let allowed = field.operators().join(", ");
            return Err(invalid(
                "/op",
                format!("{} cannot be compared with {}: use {allowed}", filter.field, filter.op),
            ));
        }
        let test = Test::parse(&field, &filter.op, &filter.value).map_err(|error| error.at("/value"))?;
        Ok(Condition { field, test })
    }

    fn holds(&self, subject: &Subject<'_>) -> bool {
        let held = self.field.of(subject);
        let value = held.as_ref();
        match &self.test {
            Test::Missing => value.is_none(),
            Test::Present => value.is_some(),
            Test::Equal(operand) => value == Some(operand),
            Test::NotEqual(operand) => value != Some(operand),
            Test::OneOf(operands) => value.is_some_and(|value| operands.contains(value)),
            Test::NoneOf(operands) => !value.is_some_and(|value| operands.contains(value)),
            Test::Ordered(bound, operand) => value.is_some_and(|value| bound.holds(value.compare(operand))),
            Test::Between(low, high) => value.is_some_and(|value| {
                Bound::GreaterOrEqual.holds(value.compare(low)) && Bound::LessOrEqual.holds(value.compare(high))
            }),
        }
    }
}

impl Field {
    fn parse(name: &str) -> Result<Field> {
        Ok(match name {
            "priority" => Field::Priority,
            "templateId" => Field::TemplateId,
            "templateName" => Field::TemplateName,
            "cardId" => Field::CardId,
            "created" => Field::Created,
            _ => match name.split_once('.') {
                Some(("variable", rest)) if !rest.is_empty() => Field::Variable(rest.to_owned()),
                Some(("payload", rest)) if !rest.is_empty() => Field::Payload(rest.to_owned()),
                Some(("metadata", rest)) if !rest.is_empty() => Field::Metadata(rest.to_owned()),
                _ => return Err(invalid("/field", "is not a field that cards can be filtered by")),
            },
        })
    }

    fn operators(&self) -> &'static [&'static str] {
        match self {
            Field::TemplateId | Field::TemplateName => NAMES,
            Field::CardId => CARD_IDS,
            Field::Created => TIMES,
            _ => ALL,
        }
    }

    fn of(&self, subject: &Subject<'_>) -> Option<Operand> {
        match self {
            Field::Priority => Some(Operand::Number(f64::from(subject.priority))),
            Field::TemplateId => Some(Operand::Text(subject.template.to_string())),
            Field::TemplateName => Some(Operand::Text(subject.template_name.to_owned())),
            Field::CardId => Some(Operand::Text(subject.id.to_string())),
            Field::Created => Some(Operand::Date(subject.created)),
            Field::Variable(name) => Operand::held(subject.variables.get(name)?),
            Field::Payload(name) => Operand::held(subject.payload.get(name)?),
            Field::Metadata(name) => Operand::held(subject.metadata.get(name)?),
        }
    }

    /// Reads an operand of the kind that this field has.
    fn operand(&self, value: &Value) -> Result<Operand> {
        let read = match self {
            Field::Priority => value.as_f64().map(Operand::Number),
            Field::TemplateId => text_of_id::<TemplateId>(value),
            Field::CardId => text_of_id::<CardId>(value),
            Field::TemplateName => value.as_str().map(|text| Operand::Text(text.to_owned())),
            Field::Created => value.as_str().and_then(|text| Time::parse(text).ok()).map(Operand::Date),
            Field::Variable(_) | Field::Payload(_) | Field::Metadata(_) => Operand::held(value),
        };
        let expected = match self {
            Field::Priority => "a number",
            Field::TemplateId | Field::CardId => "an id",
            Field::TemplateName => "a string",
            Field::Created => "an RFC 3339 date-time",
            _ => "a number, a string, a date or a boolean",
        };
        read.ok_or_else(|| invalid("", format!("must be {expected}")))
    }
}

/// An id of another kind is a valid operand that no card has.
fn text_of_id<T: Id + ToString>(value: &Value) -> Option<Operand> {
    let text = value.as_str()?;
    Some(Operand::Text(T::parse(text).map_or_else(|_| text.to_owned(), |id| id.to_string())))
}

impl Test {
    fn parse(field: &Field, op: &str, value: &Value) -> Result<Test> {
        match (op, value) {
            ("eq", Value::Null) => Ok(Test::Missing),
            ("ne", Value::Null) => Ok(Test::Present),
            ("eq", _) => field.operand(value).map(Test::Equal),
            ("ne", _) => field.operand(value).map(Test::NotEqual),
            ("in" | "nin", Value::Array(items)) => {
                if items.len() > MOST_OPERANDS {
                    return Err(invalid("", format!("must be a list of at most {MOST_OPERANDS}")));
                }
                let operands: Vec<Operand> = items
                    .iter()
                    .enumerate()
                    .map(|(index, item)| field.operand(item).map_err(|error| error.at(format!("/{index}"))))
                    .collect::<Result<_>>()?;
                Ok(if op == "in" { Test::OneOf(operands) } else { Test::NoneOf(operands) })
            }
            ("in" | "nin", _) => Err(invalid("", "must be a list")),
            ("between", Value::Array(items)) => match items.as_slice() {
                [low, high] => {
                    let (low, high) = (field.operand(low)?.ordered()?, field.operand(high)?.ordered()?);
                    if low.compare(&high).is_none() {
                        return Err(invalid("", "must be two values of one kind"));
                    }
                    Ok(Test::Between(low, high))
                }
                _ => Err(invalid("", "must be a list of two values")),
            },
            ("between", _) => Err(invalid("", "must be a list of two values")),
            _ => {
                let bound = match op {
                    "gt" => Bound::Greater,
                    "gte" => Bound::GreaterOrEqual,
                    "lt" => Bound::Less,
                    _ => Bound::LessOrEqual,
                };
                Ok(Test::Ordered(bound, field.operand(value)?.ordered()?))
            }
        }
    }
}

impl Bound {
    fn holds(self, ordering: Option<Ordering>) -> bool {
        match self {
            Bound::Greater => ordering == Some(Ordering::Greater),
            Bound::GreaterOrEqual => matches!(ordering, Some(Ordering::Greater | Ordering::Equal)),
            Bound::Less => ordering == Some(Ordering::Less),
            Bound::LessOrEqual => matches!(ordering, Some(Ordering::Less | Ordering::Equal)),
        }
    }
}

impl Operand {
    /// A JSON scalar as a value; text that is a date-time is a date. Null, lists and objects are no values.
    fn held(value: &Value) -> Option<Operand> {
        match value {
            Value::Number(number) => number.as_f64().map(Operand::Number),
            Value::Bool(flag) => Some(Operand::Flag(*flag)),
            Value::String(text) => Some(match date(text) {
                Some(at) => Operand::Date(at),
                None => Operand::Text(text.clone()),
            }),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }

    fn compare(&self, other: &Operand) -> Option<Ordering> {
        match (self, other) {
            (Operand::Number(a), Operand::Number(b)) => a.partial_cmp(b),
            (Operand::Date(a), Operand::Date(b)) => Some(a.cmp(b)),
            (Operand::Text(a), Operand::Text(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }

    fn ordered(self) -> Result<Operand> {
        match self {
            Operand::Flag(_) => Err(invalid("", "true and false have no order")),
            operand => Ok(operand),
        }
    }
}

/// Reads text that begins like `2026-01-31`. Cheap for all other text.
fn date(text: &str) -> Option<Time> {
    let bytes = text.as_bytes();
    let shaped = bytes.len() >= 10 && bytes[..4].iter().all(u8::is_ascii_digit) && bytes[4] == b'-' && bytes[7] == b'-';
    shaped.then(|| Time::parse(text).ok()).flatten()
}

fn invalid(pointer: &str, detail: impl Into<String>) -> Error {
    let error = Error::new(Code::InvalidFilter, detail);
    if pointer.is_empty() { error } else { error.at(pointer) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ids::Ids;

    fn filter(field: &str, op: &str, value: Value) -> Result<Filter> {
        Filter::parse(&[CardFilter { field: field.into(), op: op.into(), value }])
    }

    fn check(field: &str, op: &str, value: Value) -> bool {
        let ids = Ids::seeded(1);
        let at = Time::parse("2026-03-01T12:00:00Z").unwrap();
        let variables =
            json!({"amount": 12, "name": "Ana", "due": "2026-05-01", "vip": true, "tags": ["a"], "none": null});
        filter(field, op, value).unwrap().matches(&Subject {
            id: ids.make(at),
            template: ids.make(at),
            template_name: "Offer",
            priority: 5,
            created: at,
            variables: &variables,
            payload: &json!({"amount": "12"}),
            metadata: &json!({"a.b": "x"}),
        })
    }

    #[test]
    fn comparisons_within_a_kind() {
        for (field, op, value, expected) in [
            ("priority", "eq", json!(5), true),
            ("priority", "eq", json!(5.0), true),
            ("priority", "between", json!([5, 10]), true),
            ("priority", "lt", json!(5), false),
            ("priority", "nin", json!([1, 2]), true),
            ("templateName", "in", json!(["Offer", "News"]), true),
            ("templateName", "ne", json!("Offer"), false),
            ("created", "gte", json!("2026-03-01T13:00:00+01:00"), true),
            ("created", "between", json!(["2026-01-01", "2026-02-01"]), false),
            ("variable.amount", "gt", json!(11.5), true),
            ("variable.amount", "eq", json!("12"), false),
            ("payload.amount", "eq", json!("12"), true),
            ("variable.name", "gte", json!("An"), true),
            ("variable.due", "lt", json!("2026-06-01T00:00:00Z"), true),
            ("variable.vip", "eq", json!(true), true),
            ("metadata.a.b", "in", json!(["x"]), true),
        ] {
            assert_eq!(check(field, op, value.clone()), expected, "{field} {op} {value}");
        }
    }

    #[test]
    fn a_missing_value_matches_only_ne_nin_and_eq_null() {
        for name in ["variable.absent", "variable.none", "variable.tags"] {
            for (op, value, expected) in [
                ("eq", json!(null), true),
                ("ne", json!(null), false),
                ("ne", json!(1), true),
                ("nin", json!([1]), true),
                ("eq", json!(1), false),
                ("in", json!([1]), false),
                ("lt", json!(1), false),
                ("between", json!([0, 9]), false),
            ] {
                assert_eq!(check(name, op, value.clone()), expected, "{name} {op} {value}");
            }
        }
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        for (field, op, value, pointer) in [
            ("colour", "eq", json!(1), "/filters/0/field"),
            ("variable.", "eq", json!(1), "/filters/0/field"),
            ("priority", "like", json!(1), "/filters/0/op"),
            ("templateId", "gt", json!("x"), "/filters/0/op"),
            ("cardId", "ne", json!("x"), "/filters/0/op"),
            ("created", "in", json!(["2026-01-01"]), "/filters/0/op"),
            ("priority", "eq", json!("5"), "/filters/0/value"),
            ("created", "gt", json!("yesterday"), "/filters/0/value"),
            ("variable.x", "gt", json!(true), "/filters/0/value"),
            ("variable.x", "gt", json!(null), "/filters/0/value"),
            ("variable.x", "eq", json!([1]), "/filters/0/value"),
            ("variable.x", "in", json!(1), "/filters/0/value"),
            ("variable.x", "in", json!([1, {}]), "/filters/0/value/1"),
            ("variable.x", "between", json!([1]), "/filters/0/value"),
            ("variable.x", "between", json!([1, "a"]), "/filters/0/value"),
        ] {
            let error = filter(field, op, value.clone()).unwrap_err();
            assert_eq!(error.code(), Code::InvalidFilter, "{field} {op} {value}");
            assert_eq!(error.violations()[0].pointer.as_deref(), Some(pointer), "{field} {op} {value}");
        }
    }
}
