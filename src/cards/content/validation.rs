//! The validations of inputs: which kinds an input may have, and what a value must satisfy.

use jiff::civil::Date;
use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};

use super::element::Input;

/// A compiled pattern may take this many bytes; a larger one is refused on save.
const LARGEST_PATTERN: usize = 256 * 1024;

/// The kinds of validation, in the order in which they are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    Required,
    MinLength,
    MaxLength,
    Min,
    Max,
    MinDate,
    MaxDate,
    MinChecked,
    MaxChecked,
    Pattern,
}

impl Rule {
    pub const ORDER: [Rule; 10] = [
        Rule::Required,
        Rule::MinLength,
        Rule::MaxLength,
        Rule::Min,
        Rule::Max,
        Rule::MinDate,
        Rule::MaxDate,
        Rule::MinChecked,
        Rule::MaxChecked,
        Rule::Pattern,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Rule::Required => "required",
            Rule::MinLength => "minLength",
            Rule::MaxLength => "maxLength",
            Rule::Min => "min",
            Rule::Max => "max",
            Rule::MinDate => "minDate",
            Rule::MaxDate => "maxDate",
            Rule::MinChecked => "minChecked",
            Rule::MaxChecked => "maxChecked",
            Rule::Pattern => "pattern",
        }
    }

    pub fn named(name: &str) -> Option<Rule> {
        Rule::ORDER.into_iter().find(|rule| rule.name() == name)
    }

    pub fn suits(self, input: Input) -> bool {
        match self {
            Rule::Required => true,
            Rule::MinLength | Rule::MaxLength | Rule::Pattern => input == Input::Text,
            Rule::Min | Rule::Max => matches!(input, Input::Number | Input::Stepper),
            Rule::MinDate | Rule::MaxDate => input == Input::Date,
            Rule::MinChecked | Rule::MaxChecked => input == Input::Checks,
        }
    }

    /// What is wrong with the `value` of this validation in a template, if anything.
    pub fn fault(self, value: &Value) -> Option<String> {
        let (fits, detail) = match self {
            Rule::Required => (value.is_boolean(), "must be true or false"),
            Rule::MinLength | Rule::MaxLength | Rule::MinChecked | Rule::MaxChecked => {
                (value.is_u64(), "must be a whole number")
            }
            Rule::Min | Rule::Max => (value.is_number(), "must be a number"),
            Rule::MinDate | Rule::MaxDate => (date(value).is_some(), "must be a date such as 2026-03-26"),
            Rule::Pattern => match value.as_str().map(pattern) {
                Some(Ok(_)) => (true, ""),
                Some(Err(_)) => (false, "must be a regular expression in RE2 syntax, not too large"),
                None => (false, "must be a string"),
            },
        };
        (!fits).then(|| detail.to_owned())
    }

    /// What is wrong with an answer of the right type, if anything. An absent one is `None`.
    fn violation(self, bound: &Value, answer: Option<&Value>) -> Option<String> {
        if self == Rule::Required {
            let blank = answer.is_none_or(|answer| answer.as_str().is_some_and(str::is_empty));
            return (bound.as_bool() == Some(true) && blank).then(|| "is required".to_owned());
        }
        if self == Rule::MinChecked {
            return (bound.as_u64() > Some(checked(answer))).then(|| format!("needs at least {bound} checked"));
        }
        let answer = answer?;
        let length = || answer.as_str().map(|text| text.chars().count() as u64);
        match self {
            Rule::MinLength => (length() < bound.as_u64()).then(|| format!("needs at least {bound} characters")),
            Rule::MaxLength => (length() > bound.as_u64()).then(|| format!("takes at most {bound} characters")),
            Rule::Min => (answer.as_f64() < bound.as_f64()).then(|| format!("must be at least {bound}")),
            Rule::Max => (answer.as_f64() > bound.as_f64()).then(|| format!("must be at most {bound}")),
            Rule::MinDate => (date(answer) < date(bound)).then(|| "is too early a date".to_owned()),
            Rule::MaxDate => (date(answer) > date(bound)).then(|| "is too late a date".to_owned()),
            Rule::MaxChecked => {
                (Some(checked(Some(answer))) > bound.as_u64()).then(|| format!("takes at most {bound} checked"))
            }
            Rule::Pattern => {
                let regex = bound.as_str().and_then(|source| pattern(source).ok())?;
                (!regex.is_match(answer.as_str()?)).then(|| "does not have the expected form".to_owned())
            }
            Rule::Required | Rule::MinChecked => None,
        }
    }
}

/// The first violation of an answer, in the stated order. The template's message goes before ours.
pub(crate) fn first_violation(validations: &Map<String, Value>, name: &str, answer: Option<&Value>) -> Option<String> {
    let answer = answer.filter(|answer| !answer.is_null());
    Rule::ORDER.into_iter().find_map(|rule| {
        let validation = validations.get(rule.name())?;
        let fault = rule.violation(validation.get("value")?, answer)?;
        let message = validation.get("message").and_then(Value::as_str).filter(|message| !message.is_empty());
        Some(message.map_or_else(|| format!("{name} {fault}"), str::to_owned))
    })
}

/// Why an answer is not of the input's type, if it is not.
pub(crate) fn mistyped(input: Input, answer: &Value) -> Option<&'static str> {
    let (fits, detail) = match input {
        Input::Text => (answer.is_string(), "must be a string"),
        Input::Number | Input::Stepper => (answer.is_number(), "must be a number"),
        Input::Date => (date(answer).is_some(), "must be a date such as 2026-03-26"),
        Input::Choice => (!answer.is_array() && !answer.is_object(), "must be the value of an option"),
        Input::Switch => (answer.is_boolean(), "must be true or false"),
        Input::Checks => {
            let flags = answer.as_object().is_some_and(|checks| checks.values().all(Value::is_boolean));
            (flags, "must be an object of true and false")
        }
    };
    (!fits && !answer.is_null()).then_some(detail)
}

fn checked(answer: Option<&Value>) -> u64 {
    let checks = answer.and_then(Value::as_object);
    checks.map_or(0, |checks| checks.values().filter(|check| **check == Value::Bool(true)).count() as u64)
}

/// A day as `YYYY-MM-DD`.
pub(crate) fn date(value: &Value) -> Option<Date> {
    let text = value.as_str()?;
    (text.len() == "2026-03-26".len()).then(|| text.parse().ok()).flatten()
}

fn pattern(source: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(source).size_limit(LARGEST_PATTERN).dfa_size_limit(LARGEST_PATTERN).build()
}
