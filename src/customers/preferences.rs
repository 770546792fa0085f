//! When a customer may be disturbed: preferences as they stand on the wire (specification 7.4).

use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

use crate::clock::{Time, zone};
use crate::error::{Error, Result, Violations};
use crate::text::pointer_token;

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const DEFAULT_DAY: &str = "default";
const MINUTES_OF_A_DAY: u16 = 24 * 60;
/// More windows than anybody needs in one day.
const MOST_WINDOWS: usize = 48;

/// Lays the fields of `change` over stored preferences: an absent field stays, null clears.
///
/// What comes back is what will be stored: known fields only, each valid.
pub fn merge(stored: &Map<String, Value>, change: &Value, pointer: &str) -> Result<Map<String, Value>> {
    let change = change.as_object().ok_or_else(|| Error::invalid(pointer, "must be an object"))?;
    let mut merged = stored.clone();
    let mut violations = Violations::new();
    for (name, value) in change {
        let place = format!("{pointer}/{}", pointer_token(name));
        if value.is_null() {
            merged.remove(name);
            continue;
        }
        let checked = match name.as_str() {
            "timezone" => check_timezone(value),
            "notificationsEnabled" if value.is_boolean() => Ok(()),
            "notificationsEnabled" => Err(Error::invalid("", "must be true or false")),
            "notifications" => check_notifications(value),
            _ => Err(Error::invalid("", "is not a preference: timezone, notificationsEnabled or notifications")),
        };
        if violations.check(checked.map_err(|error| error.at(place))).is_some() {
            merged.insert(name.clone(), value.clone());
        }
    }
    violations.finish()?;
    Ok(merged)
}

/// Preferences as the API shows them, with what holds where nothing was set.
pub fn shown(stored: &Value) -> Value {
    json!({
        "timezone": stored.get("timezone").cloned().unwrap_or(Value::Null),
        "notificationsEnabled": stored.get("notificationsEnabled").and_then(Value::as_bool).unwrap_or(true),
        "notifications": stored.get("notifications").cloned().unwrap_or_else(|| json!({})),
    })
}

/// Tells whether the customer forbids notifications at `now`.
///
/// `fallback` is the zone of the profile, else of the environment; the preference's own zone comes first.
pub fn forbid(stored: &Value, fallback: &TimeZone, now: Time) -> bool {
    if stored.get("notificationsEnabled") == Some(&Value::Bool(false)) {
        return true;
    }
    let Some(days) = stored.get("notifications").and_then(Value::as_object) else { return false };
    let own = stored.get("timezone").and_then(Value::as_str).and_then(|name| zone(name).ok());
    let local = now.in_zone(own.as_ref().unwrap_or(fallback));
    let Some(windows) = days.get(day_name(local.weekday())).or_else(|| days.get(DEFAULT_DAY)) else { return false };
    let minute = u16::try_from(local.hour()).unwrap_or(0) * 60 + u16::try_from(local.minute()).unwrap_or(0);
    let allowed = windows
        .as_array()
        .is_some_and(|windows| windows.iter().filter_map(window).any(|(from, to)| (from..to).contains(&minute)));
    !allowed
}

fn day_name(day: Weekday) -> &'static str {
    DAYS[usize::try_from(day.to_monday_zero_offset()).unwrap_or(0) % DAYS.len()]
}

fn check_timezone(value: &Value) -> Result<()> {
    let name = value.as_str().ok_or_else(|| Error::invalid("", "must be a string"))?;
    zone(name).map(drop)
}

fn check_notifications(value: &Value) -> Result<()> {
    let days = value.as_object().ok_or_else(|| Error::invalid("", "must be an object of days"))?;
    let mut violations = Violations::new();
    for (day, windows) in days {
        let pointer = format!("/{}", pointer_token(day));
        if !DAYS.contains(&day.as_str()) && day != DEFAULT_DAY {
            violations.add(pointer, "is not a day: mon, tue, wed, thu, fri, sat, sun or default");
            continue;
        }
        match windows.as_array() {
            Some(windows) if windows.len() <= MOST_WINDOWS => {
                for (index, entry) in windows.iter().enumerate() {
                    if window(entry).is_none() {
                        violations.add(
                            format!("{pointer}/{index}"),
                            "must be {\"from\": \"HH:MM\", \"to\": \"HH:MM\"} with to after from",
                        );
                    }
                }
            }
            Some(_) => violations.add(pointer, format!("has at most {MOST_WINDOWS} windows")),
            None => violations.add(pointer, "must be a list of windows"),
        }
    }
    violations.finish()
}

/// A window as minutes of the day, the end excluded.
fn window(entry: &Value) -> Option<(u16, u16)> {
    let from = minute(entry.get("from")?.as_str()?)?;
    let to = minute(entry.get("to")?.as_str()?)?;
    (from < to).then_some((from, to))
}

/// The minute of the day; `24:00` is the end of the day, so it can only close a window.
fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    if hour.len() != 2 || minute.len() != 2 || !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b':') {
        return None;
    }
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    let total = hour * 60 + minute;
    (minute < 60 && total <= MINUTES_OF_A_DAY).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Time {
        Time::parse(text).unwrap()
    }

    fn merged(change: &Value) -> Result<Map<String, Value>> {
        merge(&Map::new(), change, "/preferences")
    }

    #[test]
    fn nothing_set_allows_always() {
        assert!(!forbid(&json!({}), &TimeZone::UTC, at("2026-01-01T03:00:00Z")));
        assert_eq!(shown(&json!({})), json!({"timezone": null, "notificationsEnabled": true, "notifications": {}}));
    }

    #[test]
    fn windows_allow_and_an_empty_day_forbids() {
        let preferences = json!({"notifications": {
            "default": [{"from": "09:00", "to": "17:30"}], "sat": [], "sun": [{"from": "22:00", "to": "24:00"}]}});
        for (moment, forbidden) in [
            ("2026-01-01T08:59:59Z", true),
            ("2026-01-01T09:00:00Z", false),
            ("2026-01-01T17:29:00Z", false),
            ("2026-01-01T17:30:00Z", true),
            ("2026-01-03T10:00:00Z", true),
            ("2026-01-04T10:00:00Z", true),
            ("2026-01-04T23:59:59Z", false),
        ] {
            assert_eq!(forbid(&preferences, &TimeZone::UTC, at(moment)), forbidden, "{moment}");
        }
    }

    #[test]
    fn the_zone_is_the_preferences_own_before_the_fallback() {
        let mut preferences = json!({"notifications": {"default": [{"from": "09:00", "to": "10:00"}]}});
        let berlin = zone("Europe/Berlin").unwrap();
        assert!(!forbid(&preferences, &berlin, at("2026-01-01T08:30:00Z")));
        preferences["timezone"] = json!("Pacific/Auckland");
        assert!(forbid(&preferences, &berlin, at("2026-01-01T08:30:00Z")));
        assert!(!forbid(&preferences, &berlin, at("2026-01-01T20:30:00Z")));
    }

    #[test]
    fn a_missing_day_without_a_default_allows() {
        let preferences = json!({"notifications": {"sat": []}});
        assert!(!forbid(&preferences, &TimeZone::UTC, at("2026-01-01T03:00:00Z")));
    }

    #[test]
    fn switched_off_forbids_whatever_the_windows() {
        let preferences =
            json!({"notificationsEnabled": false, "notifications": {"default": [{"from": "00:00", "to": "24:00"}]}});
        assert!(forbid(&preferences, &TimeZone::UTC, at("2026-01-01T03:00:00Z")));
    }

    #[test]
    fn a_change_keeps_what_it_does_not_name() {
        let stored = merged(&json!({"timezone": "Europe/Berlin", "notificationsEnabled": false})).unwrap();
        let changed = merge(&stored, &json!({"notificationsEnabled": true}), "").unwrap();
        assert_eq!(Value::Object(changed), json!({"timezone": "Europe/Berlin", "notificationsEnabled": true}));
        let cleared = merge(&stored, &json!({"timezone": null}), "").unwrap();
        assert_eq!(Value::Object(cleared), json!({"notificationsEnabled": false}));
    }

    #[test]
    fn violations_point_to_the_window() {
        let error = merged(&json!({"timezone": "Mars/Base", "volume": 3, "notifications": {
            "mon": [{"from": "10:00", "to": "09:00"}], "fri": [{"from": "9:00", "to": "25:00"}], "holiday": []}}))
        .unwrap_err();
        let mut pointers: Vec<_> =
            error.violations().iter().map(|violation| violation.pointer.clone().unwrap()).collect();
        pointers.sort();
        assert_eq!(
            pointers,
            ["notifications/fri/0", "notifications/holiday", "notifications/mon/0", "timezone", "volume"]
                .map(|field| format!("/preferences/{field}"))
        );
    }
}
