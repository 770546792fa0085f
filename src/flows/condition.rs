//! Conditions: questions about what a run or an event can see, answered without looking anything up.
//!
//! A condition is `{"value": path, "op": word, "to": operand}`, or a group `{"all": […]}`, `{"any": […]}`,
//! `{"not": …}` of conditions (specification 8.3; the operators are those of 7.6). Text comparison ignores case. A
//! value that is not there fits only `is-not`, `not-contains`, `ne`, `has-none` and `is-not-set`.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::fields::{Fields, join};
use crate::cards::render;
use crate::clock::Time;
use crate::error::{Result, Violations};

/// How deep groups may be nested.
const DEEPEST: usize = 5;
/// The most single questions of one condition.
const LEAVES: usize = 50;
const DAY_MILLIS: f64 = 86_400_000.0;

/// A question that has an answer for everything that can be seen.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
    Holds(Question),
}

/// One comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// What is compared, as an expression without braces.
    path: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    Is(Value),
    IsNot(Value),
    Contains(String),
    NotContains(String),
    StartsWith(String),
    EndsWith(String),
    In(Vec<Value>),
    IsSet,
    IsNotSet,
    Number(Comparison, f64),
    NumberBetween(f64, f64),
    Before(Moment),
    After(Moment),
    DateBetween(Moment, Moment),
    On(Date),
    InLastDays(f64),
    MoreThanDaysAgo(f64),
    InNextDays(f64),
    HasAny(Vec<Value>),
    HasAll(Vec<Value>),
    HasNone(Vec<Value>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Eq,
    Ne,
    Gt,
    Gte,
    Lt,
    Lte,
}

/// An instant, or a day that begins where the customer is.
#[derive(Clone, Debug, PartialEq)]
struct Moment(String);

impl Condition {
    /// Reads a condition and reports everything that is wrong with it.
    pub fn parse(value: &Value, pointer: &str, violations: &mut Violations) -> Option<Condition> {
        let mut leaves = 0;
        let condition = read(value, pointer, 1, &mut leaves, violations);
        if leaves > LEAVES {
            violations.add(pointer, format!("a condition compares at most {LEAVES} values"));
            return None;
        }
        condition
    }

    /// Answers the question for what `context` holds.
    pub fn holds(&self, context: &render::Context, now: Time) -> Result<bool> {
        Ok(match self {
            Condition::All(parts) => {
                for part in parts {
                    if !part.holds(context, now)? {
                        return Ok(false);
                    }
                }
                true
            }
            Condition::Any(parts) => {
                for part in parts {
                    if part.holds(context, now)? {
                        return Ok(true);
                    }
                }
                false
            }
            Condition::Not(part) => !part.holds(context, now)?,
            Condition::Holds(question) => {
                let value = render::value(&expression(&question.path), context)?;
                question.test.fits(&value, &context.zone, now)
            }
        })
    }
}

impl Condition {
    /// Answers the question for an event, whose parts are named as in its envelope.
    pub fn holds_of(&self, envelope: &Value, zone: &TimeZone, now: Time) -> Result<bool> {
        self.holds(&render::Context { root: envelope.clone(), zone: zone.clone() }, now)
    }
}

fn expression(path: &str) -> String {
    format!("{{{{ {path} }}}}")
}

fn read(
    value: &Value,
    pointer: &str,
    depth: usize,
    leaves: &mut usize,
    violations: &mut Violations,
) -> Option<Condition> {
    if depth > DEEPEST {
        violations.add(pointer, format!("conditions are nested at most {DEEPEST} deep"));
        return None;
    }
    let fields = Fields::open(value, pointer, violations)?;
    for (name, group) in [("all", Condition::All as fn(Vec<Condition>) -> Condition), ("any", Condition::Any)] {
        if fields.value(name).is_none() {
            continue;
        }
        fields.only(&[name], violations);
        let listed = fields.list(name, violations)?;
        if listed.is_empty() {
            violations.add(fields.pointer(name), "a group needs a condition");
        }
        let below = fields.pointer(name);
        let parts: Vec<Option<Condition>> = listed
            .iter()
            .enumerate()
            .map(|(place, part)| read(part, &join(&below, place), depth + 1, leaves, violations))
            .collect();
        return parts.into_iter().collect::<Option<Vec<_>>>().map(group);
    }
    if let Some(part) = fields.value("not") {
        fields.only(&["not"], violations);
        let part = read(part, &fields.pointer("not"), depth + 1, leaves, violations)?;
        return Some(Condition::Not(Box::new(part)));
    }
    *leaves += 1;
    fields.only(&["value", "op", "to"], violations);
    let path = fields.required_text("value", violations);
    if let Some(path) = path {
        let single = render::mentions(&expression(path)).map(|found| found.len() == 1);
        if !matches!(single, Ok(true)) || path.contains("{{") || path.contains("}}") {
            violations.add(fields.pointer("value"), "is not a path such as variables.amount");
        }
    }
    let word = fields.required_text("op", violations)?;
    let to = fields.value("to");
    match Test::read(word, to) {
        Ok(test) => Some(Condition::Holds(Question { path: path?.to_owned(), test })),
        Err(Misfit::Operator) => {
            violations.add(fields.pointer("op"), format!("`{word}` is not an operator"));
            None
        }
        Err(Misfit::Operand(expected)) => {
            violations.add(fields.pointer("to"), format!("`{word}` needs {expected}"));
            None
        }
    }
}

/// Why a test cannot be read.
enum Misfit {
    Operator,
    Operand(&'static str),
}

impl Test {
    fn read(word: &str, to: Option<&Value>) -> Result<Test, Misfit> {
        Ok(match word {
            "is" => Test::Is(plain(to)?),
            "is-not" => Test::IsNot(plain(to)?),
            "contains" => Test::Contains(text(to)?),
            "not-contains" => Test::NotContains(text(to)?),
            "starts-with" => Test::StartsWith(text(to)?),
            "ends-with" => Test::EndsWith(text(to)?),
            "in" => Test::In(list(to)?),
            "is-set" | "is-not-set" if to.is_some() => return Err(Misfit::Operand("no operand")),
            "is-set" => Test::IsSet,
            "is-not-set" => Test::IsNotSet,
            "eq" => Test::Number(Comparison::Eq, number(to)?),
            "ne" => Test::Number(Comparison::Ne, number(to)?),
            "gt" => Test::Number(Comparison::Gt, number(to)?),
            "gte" => Test::Number(Comparison::Gte, number(to)?),
            "lt" => Test::Number(Comparison::Lt, number(to)?),
            "lte" => Test::Number(Comparison::Lte, number(to)?),
            "between" => between(to)?,
            "before" => Test::Before(moment(to)?),
            "after" => Test::After(moment(to)?),
            "on" => Test::On(day(to)?),
            "in-last-days" => Test::InLastDays(days(to)?),
            "more-than-days-ago" => Test::MoreThanDaysAgo(days(to)?),
            "in-next-days" => Test::InNextDays(days(to)?),
            "has-any" => Test::HasAny(list(to)?),
            "has-all" => Test::HasAll(list(to)?),
            "has-none" => Test::HasNone(list(to)?),
            _ => return Err(Misfit::Operator),
        })
    }

    fn fits(&self, value: &Value, zone: &TimeZone, now: Time) -> bool {
        let folded = || shown(value).to_lowercase();
        let instant = || value.as_str().and_then(|text| instant(text, zone));
        let days_away = || instant().map(|at| (at.as_millisecond() - now.as_millisecond()) as f64 / DAY_MILLIS);
        match self {
            Test::IsSet => !value.is_null() && value.as_str() != Some(""),
            Test::IsNotSet => value.is_null() || value.as_str() == Some(""),
            Test::IsNot(other) => !same(value, other),
            Test::NotContains(_) | Test::HasNone(_) | Test::Number(Comparison::Ne, _) if value.is_null() => true,
            _ if value.is_null() => false,
            Test::Is(other) => same(value, other),
            Test::Contains(part) => match value {
                Value::Array(items) => items.iter().any(|item| shown(item).to_lowercase() == part.to_lowercase()),
                _ => folded().contains(&part.to_lowercase()),
            },
            Test::NotContains(part) => !Test::Contains(part.clone()).fits(value, zone, now),
            Test::StartsWith(part) => folded().starts_with(&part.to_lowercase()),
            Test::EndsWith(part) => folded().ends_with(&part.to_lowercase()),
            Test::In(others) => others.iter().any(|other| same(value, other)),
            Test::Number(comparison, other) => amount(value).is_some_and(|value| match comparison {
                Comparison::Eq => value == *other,
                Comparison::Ne => value != *other,
                Comparison::Gt => value > *other,
                Comparison::Gte => value >= *other,
                Comparison::Lt => value < *other,
                Comparison::Lte => value <= *other,
            }),
            Test::NumberBetween(low, high) => amount(value).is_some_and(|value| (*low..=*high).contains(&value)),
            Test::Before(other) => instant().zip(other.at(zone)).is_some_and(|(value, other)| value < other),
            Test::After(other) => instant().zip(other.at(zone)).is_some_and(|(value, other)| value > other),
            Test::DateBetween(low, high) => {
                let bounds = low.at(zone).zip(high.at(zone));
                instant().zip(bounds).is_some_and(|(value, (low, high))| value >= low && value <= high)
            }
            Test::On(day) => instant().is_some_and(|at| at.in_zone(zone).date() == *day),
            Test::InLastDays(days) => days_away().is_some_and(|away| away <= 0.0 && away >= -days),
            Test::MoreThanDaysAgo(days) => days_away().is_some_and(|away| away < -days),
            Test::InNextDays(days) => days_away().is_some_and(|away| away >= 0.0 && away <= *days),
            Test::HasAny(others) => others.iter().any(|other| has(value, other)),
            Test::HasAll(others) => others.iter().all(|other| has(value, other)),
            Test::HasNone(others) => !others.iter().any(|other| has(value, other)),
        }
    }
}

impl Moment {
    fn at(&self, zone: &TimeZone) -> Option<Time> {
        instant(&self.0, zone)
    }
}

/// An instant; a date without a time of day is its midnight in the zone.
pub(super) fn instant(text: &str, zone: &TimeZone) -> Option<Time> {
    let text = text.trim();
    if text.len() <= "2026-01-01".len()
        && let Ok(date) = text.parse::<Date>()
    {
        let midnight = date.to_zoned(zone.clone()).ok()?;
        return Some(Time::from_millisecond(midnight.timestamp().as_millisecond()));
    }
    Time::parse(text).ok()
}

fn same(value: &Value, other: &Value) -> bool {
    if let (Some(value), Some(other)) = (amount(value), other.as_f64()) {
        return value == other;
    }
    !value.is_null() && shown(value).to_lowercase() == shown(other).to_lowercase()
}

fn has(value: &Value, other: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(|item| same(item, other)),
        one => same(one, other),
    }
}

/// A number, or text that is one.
fn amount(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
        _ => None,
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn plain(to: Option<&Value>) -> Result<Value, Misfit> {
    let plain = to.filter(|to| to.is_string() || to.is_number() || to.is_boolean());
    plain.cloned().ok_or(Misfit::Operand("a text, a number, true or false"))
}

fn text(to: Option<&Value>) -> Result<String, Misfit> {
    to.and_then(Value::as_str).map(str::to_owned).ok_or(Misfit::Operand("a text"))
}

fn number(to: Option<&Value>) -> Result<f64, Misfit> {
    to.and_then(Value::as_f64).ok_or(Misfit::Operand("a number"))
}

fn days(to: Option<&Value>) -> Result<f64, Misfit> {
    number(to).ok().filter(|days| *days >= 0.0).ok_or(Misfit::Operand("a number of days"))
}

fn list(to: Option<&Value>) -> Result<Vec<Value>, Misfit> {
    let listed = to.and_then(Value::as_array).filter(|items| !items.is_empty());
    let listed = listed.filter(|items| items.iter().all(|item| plain(Some(item)).is_ok()));
    listed.cloned().ok_or(Misfit::Operand("a list of values"))
}

fn moment(to: Option<&Value>) -> Result<Moment, Misfit> {
    let text = to.and_then(Value::as_str).filter(|text| instant(text, &TimeZone::UTC).is_some());
    text.map(|text| Moment(text.to_owned())).ok_or(Misfit::Operand("a date or a date-time"))
}

fn day(to: Option<&Value>) -> Result<Date, Misfit> {
    to.and_then(Value::as_str).and_then(|text| text.parse().ok()).ok_or(Misfit::Operand("a date"))
}

fn between(to: Option<&Value>) -> Result<Test, Misfit> {
    match to.and_then(Value::as_array).map(Vec::as_slice) {
        Some([low, high]) => match (number(Some(low)), number(Some(high))) {
            (Ok(low), Ok(high)) => Ok(Test::NumberBetween(low, high)),
            _ => Ok(Test::DateBetween(moment(Some(low))?, moment(Some(high))?)),
        },
        _ => Err(Misfit::Operand("two numbers or two dates")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults(condition: &Value) -> Vec<String> {
        let mut violations = Violations::new();
        Condition::parse(condition, "", &mut violations);
        let found = violations.finish().err().map_or_else(Vec::new, crate::error::Error::into_violations);
        found.into_iter().filter_map(|violation| violation.pointer).collect()
    }

    fn holds(condition: &Value) -> bool {
        let root = json!({ "variables": { "amount": 12, "text": "Hello World", "flag": true, "digits": "7",
            "due": "2026-01-03T00:00:00Z", "day": "2025-12-25", "list": ["Red", "blue"], "empty": "", "none": null } });
        let context = render::Context { root, zone: TimeZone::UTC };
        let mut violations = Violations::new();
        let parsed = Condition::parse(condition, "", &mut violations);
        violations.finish().unwrap_or_else(|error| panic!("{condition}: {error}"));
        parsed.unwrap().holds(&context, Time::parse("2026-01-01T00:00:00Z").unwrap()).unwrap()
    }

    fn ask(name: &str, op: &str, to: &Value) -> bool {
        holds(&json!({ "value": format!("variables.{name}"), "op": op, "to": to }))
    }

    #[test]
    fn every_operator_answers_both_ways() {
        for (name, op, yes, no) in [
            ("text", "is", json!("hello world"), json!("hello")),
            ("flag", "is", json!(true), json!(false)),
            ("amount", "is", json!(12), json!("13")),
            ("text", "is-not", json!("x"), json!("HELLO WORLD")),
            ("text", "contains", json!("WORLD"), json!("moon")),
            ("list", "contains", json!("red"), json!("re")),
            ("text", "not-contains", json!("moon"), json!("lo w")),
            ("text", "starts-with", json!("hell"), json!("world")),
            ("text", "ends-with", json!("World"), json!("hello")),
            ("text", "in", json!(["x", "hello world"]), json!(["x"])),
            ("amount", "eq", json!(12.0), json!(13)),
            ("digits", "eq", json!(7), json!(8)),
            ("amount", "ne", json!(11), json!(12)),
            ("amount", "gt", json!(11), json!(12)),
            ("amount", "gte", json!(12), json!(13)),
            ("amount", "lt", json!(13), json!(12)),
            ("amount", "lte", json!(12), json!(11)),
            ("amount", "between", json!([12, 13]), json!([13, 14])),
            ("due", "between", json!(["2026-01-01", "2026-01-03"]), json!(["2026-01-04", "2026-01-05"])),
            ("due", "before", json!("2026-01-04"), json!("2026-01-03")),
            ("due", "after", json!("2026-01-02T23:59:59Z"), json!("2026-01-03")),
            ("due", "on", json!("2026-01-03"), json!("2026-01-02")),
            ("day", "in-last-days", json!(7), json!(6)),
            ("day", "more-than-days-ago", json!(6), json!(7)),
            ("due", "in-next-days", json!(2), json!(1)),
            ("list", "has-any", json!(["blue", "x"]), json!(["x"])),
            ("list", "has-all", json!(["blue", "red"]), json!(["blue", "x"])),
            ("list", "has-none", json!(["x"]), json!(["RED"])),
        ] {
            assert!(ask(name, op, &yes), "{name} {op} {yes}");
            assert!(!ask(name, op, &no), "{name} {op} {no}");
        }
    }

    #[test]
    fn what_is_not_there_fits_only_negations() {
        for (op, to, fits) in [
            ("is", json!("x"), false),
            ("is-not", json!("x"), true),
            ("not-contains", json!("x"), true),
            ("ne", json!(1), true),
            ("gt", json!(1), false),
            ("has-none", json!(["x"]), true),
            ("has-any", json!(["x"]), false),
        ] {
            assert_eq!(ask("gone", op, &to), fits, "{op}");
            assert_eq!(ask("none", op, &to), fits, "{op}");
        }
        for (name, set) in [("gone", false), ("none", false), ("empty", false), ("text", true), ("flag", true)] {
            assert_eq!(holds(&json!({ "value": format!("variables.{name}"), "op": "is-set" })), set, "{name}");
            assert_eq!(holds(&json!({ "value": format!("variables.{name}"), "op": "is-not-set" })), !set, "{name}");
        }
    }

    #[test]
    fn a_date_begins_at_midnight_where_the_customer_is() {
        let zone = jiff::tz::TimeZone::get("Pacific/Auckland").unwrap();
        let at = |text: &str| instant(text, &zone).map(|time| time.to_string());
        assert_eq!(at("2026-01-02").as_deref(), Some("2026-01-01T11:00:00.000Z"));
        assert_eq!(at("2026-01-02T00:00:00").as_deref(), Some("2026-01-02T00:00:00.000Z"));
        assert_eq!(at("2026-01-02T00:00:00+13:00").as_deref(), Some("2026-01-01T11:00:00.000Z"));
        assert_eq!(at("tomorrow"), None);
        assert_eq!(at(""), None);
    }

    #[test]
    fn groups() {
        let yes = json!({ "value": "variables.amount", "op": "gt", "to": 1 });
        let no = json!({ "value": "variables.amount", "op": "lt", "to": 1 });
        assert!(holds(&json!({ "all": [yes, { "not": no }] })));
        assert!(!holds(&json!({ "all": [yes, no] })));
        assert!(holds(&json!({ "any": [no, yes] })));
        assert!(!holds(&json!({ "any": [no, { "not": yes }] })));
    }

    #[test]
    fn every_fault_has_its_pointer() {
        let deep = (0..6).fold(json!({ "value": "a", "op": "is-set" }), |inner, _| json!({ "not": inner }));
        let wide: Vec<_> = (0..=LEAVES).map(|_| json!({ "value": "a", "op": "is-set" })).collect();
        for (condition, pointers) in [
            (json!(1), &[""][..]),
            (json!({}), &["/value", "/op"]),
            (json!({ "value": "a", "op": "resembles", "to": 1, "x": 1 }), &["/x", "/op"]),
            (json!({ "value": "1 +", "op": "eq", "to": "x" }), &["/value", "/to"]),
            (json!({ "value": "{{ a }}", "op": "is-set" }), &["/value"]),
            (json!({ "value": "a", "op": "is-set", "to": 1 }), &["/to"]),
            (json!({ "all": [] }), &["/all"]),
            (json!({ "any": [{ "not": { "value": "a", "op": "in", "to": [] } }, 2] }), &["/any/0/not/to", "/any/1"]),
            (json!({ "value": "a", "op": "between", "to": [1, "x"] }), &["/to"]),
            (deep, &["/not/not/not/not/not"]),
            (json!({ "any": wide }), &[""]),
        ] {
            assert_eq!(faults(&condition), pointers, "{condition}");
        }
    }
}
