//! The filters of templates.

use std::borrow::Cow;

use jiff::civil::Date;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::clock::{Time, zone};

/// Everything but the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The most decimals `number` writes.
const MOST_DECIMALS: u64 = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    Default,
    Upper,
    Lower,
    Capitalize,
    Trim,
    Truncate,
    Number,
    Date,
    Join,
    Length,
    UrlEncode,
}

pub(crate) const ALL: [Filter; 11] = [
    Filter::Default,
    Filter::Upper,
    Filter::Lower,
    Filter::Capitalize,
    Filter::Trim,
    Filter::Truncate,
    Filter::Number,
    Filter::Date,
    Filter::Join,
    Filter::Length,
    Filter::UrlEncode,
];

impl Filter {
    pub fn name(self) -> &'static str {
        match self {
            Filter::Default => "default",
            Filter::Upper => "upper",
            Filter::Lower => "lower",
            Filter::Capitalize => "capitalize",
            Filter::Trim => "trim",
            Filter::Truncate => "truncate",
            Filter::Number => "number",
            Filter::Date => "date",
            Filter::Join => "join",
            Filter::Length => "length",
            Filter::UrlEncode => "urlencode",
        }
    }

    pub fn named(name: &str) -> Option<Filter> {
        ALL.into_iter().find(|filter| filter.name() == name)
    }

    /// The names of the parameters, in order.
    pub fn parameters(self) -> &'static [&'static str] {
        match self {
            Filter::Default => &["text"],
            Filter::Truncate => &["n"],
            Filter::Number => &["decimals"],
            Filter::Date => &["format", "tz"],
            Filter::Join => &["separator"],
            _ => &[],
        }
    }

    /// Checks the literal arguments when a template is saved; gives what is wrong.
    pub fn check(self, arguments: &[Value]) -> Result<(), String> {
        let first = arguments.first().unwrap_or(&Value::Null);
        match self {
            Filter::Default if first.is_null() => Err("`default` needs a text".to_owned()),
            Filter::Truncate if first.as_u64().is_none() => Err("`truncate` needs a whole number".to_owned()),
            Filter::Number if !first.is_null() && first.as_u64().is_none_or(|n| n > MOST_DECIMALS) => {
                Err(format!("`number` takes a whole number of decimals up to {MOST_DECIMALS}"))
            }
            Filter::Join if !(first.is_null() || first.is_string()) => Err("`join` takes a string".to_owned()),
            Filter::Date => check_date(arguments),
            _ => Ok(()),
        }
    }

    /// Applies the filter. `here` is the zone of dates that name none.
    pub fn apply<'v>(self, value: Cow<'v, Value>, arguments: &[Value], here: &TimeZone) -> Cow<'v, Value> {
        let first = arguments.first().unwrap_or(&Value::Null);
        let text = |convert: &dyn Fn(&str) -> String| Value::String(convert(&display(&value)));
        let result = match self {
            Filter::Default if empty(&value) => first.clone(),
            Filter::Default => return value,
            Filter::Upper => text(&str::to_uppercase),
            Filter::Lower => text(&str::to_lowercase),
            Filter::Capitalize => text(&capitalize),
            Filter::Trim => text(&|text| text.trim().to_owned()),
            Filter::Truncate => text(&|text| truncate(text, first.as_u64().unwrap_or(0))),
            Filter::Number => match &*value {
                Value::Number(_) | Value::String(_) => text(&|text| grouped(text, first.as_u64())),
                _ => return value,
            },
            Filter::Date => match &*value {
                Value::String(_) => text(&|text| date(text, arguments, here)),
                _ => return value,
            },
            Filter::Join => match &*value {
                Value::Array(items) => Value::String(join(items, first.as_str().unwrap_or(", "))),
                _ => return value,
            },
            Filter::Length => match &*value {
                Value::Array(items) => items.len().into(),
                Value::Object(fields) => fields.len().into(),
                other => display(other).chars().count().into(),
            },
            Filter::UrlEncode => text(&|text| url_encode(text)),
        };
        Cow::Owned(result)
    }
}

/// What a value looks like in text. Missing values are empty, whole numbers have no decimal point.
pub(crate) fn display(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Null => Cow::Borrowed(""),
        Value::String(text) => Cow::Borrowed(text),
        Value::Number(number) => {
            let text = number.to_string();
            Cow::Owned(text.strip_suffix(".0").map(str::to_owned).unwrap_or(text))
        }
        Value::Array(items) => Cow::Owned(join(items, ", ")),
        other => Cow::Owned(other.to_string()),
    }
}

pub(crate) fn url_encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

fn empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn join(items: &[Value], separator: &str) -> String {
    items.iter().map(display).collect::<Vec<_>>().join(separator)
}

fn capitalize(text: &str) -> String {
    let mut characters = text.chars();
    characters
        .next()
        .map_or(String::new(), |first| first.to_uppercase().chain(characters.flat_map(char::to_lowercase)).collect())
}

/// At most `most` characters; what is cut ends in an ellipsis, which counts.
fn truncate(text: &str, most: u64) -> String {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) if most == 0 => String::new(),
        Some(_) => text.chars().take(most - 1).chain(['…']).collect(),
    }
}

/// Groups the digits of a number by thousands. Works on the decimal digits, so that 0.125 becomes 0.13 and no
/// digit of a large number is lost. What is not a number stays as it is.
fn grouped(text: &str, decimals: Option<u64>) -> String {
    let Some(number) = crate::cards::variable::number(text) else { return text.to_owned() };
    let given = text.trim().trim_start_matches('+');
    let plain = match number.to_string() {
        exponent if exponent.contains(['e', 'E']) => number.as_f64().unwrap_or(0.0).to_string(),
        // As given: 12.50 keeps its zero.
        _ if decimals.is_none() && given.contains('.') && !given.contains(['e', 'E']) => given.to_owned(),
        plain => plain.strip_suffix(".0").map(str::to_owned).unwrap_or(plain),
    };
    let (sign, digits) = plain.strip_prefix('-').map_or(("", plain.as_str()), |digits| ("-", digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let (whole, fraction) = match decimals {
        None => (whole.to_owned(), fraction.to_owned()),
        Some(decimals) => rounded(whole, fraction, usize::try_from(decimals).unwrap_or(0)),
    };
    let zero = whole.bytes().chain(fraction.bytes()).all(|digit| digit == b'0');
    let mut result = String::from(if zero { "" } else { sign });
    let whole = if whole.is_empty() { "0" } else { &whole };
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            result.push(',');
        }
        result.push(digit);
    }
    if !fraction.is_empty() {
        result.push('.');
        result.push_str(&fraction);
    }
    result
}

/// Rounds decimal digits half away from zero.
fn rounded(whole: &str, fraction: &str, decimals: usize) -> (String, String) {
    let round_up = fraction.as_bytes().get(decimals).is_some_and(|digit| *digit >= b'5');
    let mut digits: Vec<u8> =
        whole.bytes().chain(fraction.bytes().chain(std::iter::repeat(b'0')).take(decimals)).collect();
    if round_up {
        let carried = digits.iter_mut().rev().all(|digit| {
            let nine = *digit == b'9';
            *digit = if nine { b'0' } else { *digit + 1 };
            nine
        });
        if carried {
            digits.insert(0, b'1');
        }
    }
    let point = digits.len() - decimals;
    let text: String = digits.into_iter().map(char::from).collect();
    (text[..point].to_owned(), text[point..].to_owned())
}

fn check_date(arguments: &[Value]) -> Result<(), String> {
    let [format, tz] = arguments else { return Ok(()) };
    if let Some(name) = tz.as_str() {
        zone(name).map_err(|_| format!("`{name}` is not an IANA time zone name"))?;
    } else if !tz.is_null() {
        return Err("`date` takes the name of a time zone".to_owned());
    }
    if let Some(pattern) = format.as_str() {
        let sample = Time::from_millisecond(0).in_zone(&TimeZone::UTC);
        strtime::format(style(pattern, false), &sample).map_err(|_| format!("`{pattern}` is not a date pattern"))?;
    } else if !format.is_null() {
        return Err("`date` takes a pattern in a string".to_owned());
    }
    Ok(())
}

/// The pattern behind a word; any other text is a pattern itself.
fn style(format: &str, day_only: bool) -> &str {
    match format {
        "short" => "%d/%m/%Y",
        "medium" => "%-d %b %Y",
        "long" => "%-d %B %Y",
        "iso" if day_only => "%Y-%m-%d",
        "iso" => "%Y-%m-%dT%H:%M:%S%:z",
        "time" => "%H:%M",
        pattern => pattern,
    }
}

/// Formats a date, which has no zone, or an instant in the zone asked for. Other text stays as it is.
fn date(text: &str, arguments: &[Value], here: &TimeZone) -> String {
    let (format, tz) = match arguments {
        [format, tz] => (format.as_str().unwrap_or("medium"), tz.as_str()),
        _ => ("medium", None),
    };
    let named = tz.and_then(|name| zone(name).ok());
    let there = named.as_ref().unwrap_or(here);
    let text = text.trim();
    let day_only = text.len() == "2026-03-26".len();
    let at = if day_only {
        text.parse::<Date>().ok().and_then(|day| day.to_zoned(there.clone()).ok())
    } else {
        Time::parse(text).ok().map(|time| time.in_zone(there))
    };
    at.and_then(|at| strtime::format(style(format, day_only), &at).ok()).unwrap_or_else(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_grouped_and_rounded_in_decimal() {
        for (text, decimals, expected) in [
            ("12", Some(2), "12.00"),
            ("1234567.891", None, "1,234,567.891"),
            ("12.50", None, "12.50"),
            ("0.125", Some(2), "0.13"),
            ("999.995", Some(2), "1,000.00"),
            ("-1234", Some(0), "-1,234"),
            ("-0.004", Some(2), "0.00"),
            ("9007199254740993", None, "9,007,199,254,740,993"),
            ("1e21", None, "1,000,000,000,000,000,000,000"),
            ("many", Some(2), "many"),
        ] {
            assert_eq!(grouped(text, decimals), expected, "{text}");
        }
    }

    #[test]
    fn dates_are_shown_in_their_zone() {
        let auckland = zone("Pacific/Auckland").unwrap();
        let at = "2026-03-25T23:46:50.711Z";
        for (text, format, tz, expected) in [
            (at, Value::Null, Value::Null, "26 Mar 2026"),
            (at, json!("short"), Value::Null, "26/03/2026"),
            (at, json!("long"), json!("UTC"), "25 March 2026"),
            (at, json!("iso"), Value::Null, "2026-03-26T12:46:50+13:00"),
            (at, json!("time"), json!("America/New_York"), "19:46"),
            (at, json!("%A, %H:%M"), Value::Null, "Thursday, 12:46"),
            ("2026-03-26", json!("iso"), json!("America/New_York"), "2026-03-26"),
            ("2026-03-26", json!("medium"), Value::Null, "26 Mar 2026"),
            ("whenever", Value::Null, Value::Null, "whenever"),
        ] {
            assert_eq!(date(text, &[format, tz], &auckland), expected, "{text}");
        }
    }

    #[test]
    fn truncation_counts_the_ellipsis() {
        assert_eq!(truncate("héllo", 5), "héllo");
        assert_eq!(truncate("héllo", 4), "hél…");
        assert_eq!(truncate("héllo", 0), "");
    }

    proptest! {
        #[test]
        fn truncation_keeps_its_promise(text in "\\PC{0,30}", most in 0_u64..40) {
            prop_assert!(truncate(&text, most).chars().count() as u64 <= most);
        }

        #[test]
        fn rounding_agrees_with_arithmetic(cents in -10_000_000_i64..10_000_000) {
            let text = format!("{}{}.{:02}", if cents < 0 { "-" } else { "" }, cents.abs() / 100, cents.abs() % 100);
            prop_assert_eq!(grouped(&text, Some(2)).replace(',', ""), if cents == 0 { "0.00".to_owned() } else { text });
        }
    }
}
