//! Delivery options: how important a card is, when it comes and goes, and where it shows (specification 6.2).
//!
//! The same options can be given by the start request, by the step that sends the card and by the template.
//! [`effective`] decides, field by field: request before step before template. `expires` and `expiresInterval`
//! count as one field there.

use std::fmt;
use std::str::FromStr;

use jiff::civil;
use jiff::tz::TimeZone;
use serde_json::{Map, Value};

use crate::clock::{Period, Time, zone};
use crate::error::{Error, Result, Violations};
use crate::ids::{Id, StreamId};

/// The priority of a card for which nobody gave one.
pub const DEFAULT_PRIORITY: i16 = 5;

/// Where an app runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Platform {
    Web,
    Ios,
    Android,
}

impl Platform {
    pub const ALL: [Platform; 3] = [Platform::Web, Platform::Ios, Platform::Android];

    /// The word that stands on the wire and in the database.
    pub fn word(self) -> &'static str {
        match self {
            Platform::Web => "Web",
            Platform::Ios => "iOS",
            Platform::Android => "Android",
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(word: &str) -> Result<Platform> {
        Platform::ALL
            .into_iter()
            .find(|platform| platform.word() == word)
            .ok_or_else(|| Error::invalid("", "is not a platform: Web, iOS or Android"))
    }
}

/// When an embargo ends: an instant, or a clock on the wall of some place.
#[derive(Clone, Debug, PartialEq)]
pub enum Embargo {
    At(Time),
    /// Without a zone the customer's is meant.
    Local(civil::DateTime, Option<TimeZone>),
}

impl Embargo {
    fn resolve(&self, local: &TimeZone) -> Time {
        match self {
            Embargo::At(time) => *time,
            Embargo::Local(at, place) => {
                let zoned = at.to_zoned(place.clone().unwrap_or_else(|| local.clone()));
                zoned.map_or(Time::from_millisecond(0), |zoned| {
                    Time::from_millisecond(zoned.timestamp().as_millisecond())
                })
            }
        }
    }
}

/// Options as one level gives them. An absent field leaves the decision to the next level.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CardOptions {
    pub priority: Option<i16>,
    pub expires: Option<Time>,
    pub expires_interval: Option<Period>,
    pub embargo: Option<Embargo>,
    pub stream_ids: Option<Vec<StreamId>>,
    pub platforms: Option<Vec<Platform>>,
}

impl CardOptions {
    /// Reads the `cardOptions` of a start request. Reports every violation with its pointer; absent and null are
    /// the same, and an unknown property is ignored.
    pub fn parse(value: &Value, pointer: &str) -> Result<CardOptions> {
        CardOptions::read(value, pointer, "targetStreamIds")
    }

    /// Reads the options in the configuration of a *send card* step, where the streams are `streamIds`.
    pub fn parse_step(config: &Value, pointer: &str) -> Result<CardOptions> {
        CardOptions::read(config, pointer, "streamIds")
    }

    fn read(value: &Value, pointer: &str, streams: &str) -> Result<CardOptions> {
        let object = match value {
            Value::Null => return Ok(CardOptions::default()),
            Value::Object(object) => object,
            _ => return Err(Error::invalid(pointer, "must be an object")),
        };
        let mut violations = Violations::new();
        let options = CardOptions {
            priority: field(&mut violations, object, pointer, "priority", read_priority),
            expires: field(&mut violations, object, pointer, "expires", read_time),
            expires_interval: field(&mut violations, object, pointer, "expiresInterval", read_period),
            embargo: field(&mut violations, object, pointer, "embargo", read_embargo),
            stream_ids: field(&mut violations, object, pointer, streams, read_streams).filter(|ids| !ids.is_empty()),
            platforms: field(&mut violations, object, pointer, "targetPlatforms", read_platforms),
        };
        violations.finish()?;
        Ok(options)
    }

    /// Refuses options that say when the card expires and mean a time that has passed.
    pub fn refuse_past(&self, now: Time, pointer: &str) -> Result<()> {
        match self.expires {
            Some(expires) if expires <= now => {
                Err(Error::invalid(format!("{pointer}/expires"), "lies in the past, so the card is not sent"))
            }
            _ => Ok(()),
        }
    }

    fn gives_expiry(&self) -> bool {
        self.expires.is_some() || self.expires_interval.is_some()
    }

    /// The earlier of the two ways to say it, the interval counted from `start`.
    fn expiry(&self, start: Time, local: &TimeZone) -> Option<Time> {
        let interval_end = self.expires_interval.map(|interval| interval.after(start, local));
        [self.expires, interval_end].into_iter().flatten().min()
    }
}

/// Options that hold for one card.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    pub priority: i16,
    /// May lie in the past when a step or template says so; then the card is an error.
    pub expires: Option<Time>,
    /// Always in the future: a past embargo is none.
    pub embargo: Option<Time>,
    pub stream_ids: Option<Vec<StreamId>>,
    pub platforms: Vec<Platform>,
}

/// The instants and the place that options are counted from.
#[derive(Clone, Debug)]
pub struct Moment<'a> {
    /// When the start request was accepted.
    pub accepted_at: Time,
    /// When the card is made.
    pub now: Time,
    /// The customer's zone, else the environment's.
    pub zone: &'a TimeZone,
}

/// Decides which level's options hold. The request's interval counts from acceptance, the others' from creation.
pub fn effective(request: &CardOptions, step: &CardOptions, template: &CardOptions, moment: &Moment<'_>) -> Options {
    let levels = [request, step, template];
    let expires = match levels.iter().position(|level| level.gives_expiry()) {
        Some(0) => request.expiry(moment.accepted_at, moment.zone),
        Some(level) => levels[level].expiry(moment.now, moment.zone),
        None => None,
    };
    let embargo = levels.iter().find_map(|level| level.embargo.as_ref()).map(|embargo| embargo.resolve(moment.zone));
    Options {
        priority: levels.iter().find_map(|level| level.priority).unwrap_or(DEFAULT_PRIORITY),
        expires,
        embargo: embargo.filter(|embargo| *embargo > moment.now),
        stream_ids: levels.iter().find_map(|level| level.stream_ids.clone()),
        platforms: levels.iter().find_map(|level| level.platforms.clone()).unwrap_or_else(|| Platform::ALL.to_vec()),
    }
}

/// Reads one field with `read`, noting what is wrong with it.
fn field<T>(
    violations: &mut Violations,
    object: &Map<String, Value>,
    pointer: &str,
    name: &str,
    read: fn(&Value) -> Result<T>,
) -> Option<T> {
    match object.get(name) {
        None | Some(Value::Null) => None,
        Some(value) => violations.check(read(value).map_err(|error| error.at(format!("{pointer}/{name}")))),
    }
}

/// Reads a priority: whole numbers, also where they came as text from a CSV cell or a mapping.
pub fn read_priority(value: &Value) -> Result<i16> {
    let number = match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    match number.and_then(|number| i16::try_from(number).ok()) {
        Some(priority @ 1..=10) => Ok(priority),
        _ => Err(Error::invalid("", "priority must be a whole number from 1 to 10")),
    }
}

fn read_text(value: &Value) -> Result<&str> {
    value.as_str().ok_or_else(|| Error::invalid("", "must be a string"))
}

fn read_time(value: &Value) -> Result<Time> {
    Time::parse(read_text(value)?)
}

/// Reads an ISO 8601 duration that stands in JSON.
pub fn read_period(value: &Value) -> Result<Period> {
    Period::parse(read_text(value)?)
}

fn read_embargo(value: &Value) -> Result<Embargo> {
    let Value::Object(parts) = value else { return read_time(value).map(Embargo::At) };
    let part = |name: &str| parts.get(name).and_then(Value::as_str);
    let date = part("date").and_then(|date| date.parse::<civil::Date>().ok());
    let date = date.ok_or_else(|| Error::invalid("/date", "must be a date such as 2026-03-26"))?;
    let time = part("time").and_then(|time| time.parse::<civil::Time>().ok());
    let time = time.ok_or_else(|| Error::invalid("/time", "must be a time such as 09:00"))?;
    let place = match parts.get("timezone") {
        None | Some(Value::Null) => None,
        Some(name) => Some(read_text(name).and_then(zone).map_err(|error| error.at("/timezone"))?),
    };
    Ok(Embargo::Local(date.to_datetime(time), place))
}

fn read_streams(value: &Value) -> Result<Vec<StreamId>> {
    let list = value.as_array().ok_or_else(|| Error::invalid("", "must be a list of stream ids"))?;
    let mut violations = Violations::new();
    let mut ids: Vec<StreamId> = Vec::with_capacity(list.len());
    for (index, entry) in list.iter().enumerate() {
        match entry.as_str().map(StreamId::parse) {
            Some(Ok(id)) if ids.contains(&id) => {}
            Some(Ok(id)) => ids.push(id),
            _ => violations.add(format!("/{index}"), "is not the id of a stream"),
        }
    }
    violations.finish()?;
    Ok(ids)
}

/// Reads `{"Web": true, "iOS": false}` or `["Web"]`. At least one platform must be left.
pub fn read_platforms(value: &Value) -> Result<Vec<Platform>> {
    let mut violations = Violations::new();
    let mut platforms = Vec::new();
    match value {
        Value::Array(list) => {
            for (index, entry) in list.iter().enumerate() {
                let platform =
                    read_text(entry).and_then(str::parse::<Platform>).map_err(|error| error.at(format!("/{index}")));
                platforms.extend(violations.check(platform));
            }
        }
        Value::Object(switches) => {
            for (name, switch) in switches {
                let pointer = format!("/{}", crate::text::pointer_token(name));
                let platform: Option<Platform> =
                    violations.check(name.parse().map_err(|error: Error| error.at(pointer.as_str())));
                match switch {
                    Value::Bool(true) => platforms.extend(platform),
                    Value::Bool(false) | Value::Null => {}
                    _ => violations.add(pointer, "must be true or false"),
                }
            }
        }
        _ => return Err(Error::invalid("", "must be a list of platforms or an object of switches")),
    }
    violations.finish()?;
    platforms.sort_unstable();
    platforms.dedup();
    if platforms.is_empty() {
        return Err(Error::invalid("", "must leave at least one platform"));
    }
    Ok(platforms)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn time(text: &str) -> Time {
        Time::parse(text).unwrap()
    }

    #[expect(clippy::needless_pass_by_value, reason = "callers write literals")]
    fn options(value: Value) -> CardOptions {
        CardOptions::parse(&value, "/cardOptions").unwrap()
    }

    #[expect(clippy::needless_pass_by_value, reason = "callers write literals")]
    fn decide(request: Value, step: Value, template: Value) -> Options {
        let step = CardOptions::parse_step(&step, "/config").unwrap();
        let moment = Moment {
            accepted_at: time("2026-01-01T00:00:00Z"),
            now: time("2026-01-01T01:00:00Z"),
            zone: &zone("Pacific/Auckland").unwrap(),
        };
        effective(&options(request), &step, &options(template), &moment)
    }

    #[test]
    fn nothing_given_gives_the_defaults() {
        let options = decide(Value::Null, json!({}), json!({"priority": null}));
        assert_eq!(
            options,
            Options { priority: 5, expires: None, embargo: None, stream_ids: None, platforms: Platform::ALL.to_vec() }
        );
    }

    #[test]
    fn each_field_is_decided_by_the_first_level_that_gives_it() {
        let options = decide(
            json!({"priority": 2}),
            json!({"priority": 3, "targetPlatforms": ["iOS"]}),
            json!({"priority": 4, "targetPlatforms": {"Web": true}, "expires": "2030-01-01T00:00:00Z"}),
        );
        assert_eq!(options.priority, 2);
        assert_eq!(options.platforms, [Platform::Ios]);
        assert_eq!(options.expires, Some(time("2030-01-01T00:00:00Z")));
    }

    #[test]
    fn expiry_is_one_field_and_the_earlier_wins() {
        for (request, step, expires) in [
            (json!({"expiresInterval": "PT30M"}), json!({"expires": "2026-01-01T00:10:00Z"}), "2026-01-01T00:30:00Z"),
            (json!({}), json!({"expiresInterval": "PT30M"}), "2026-01-01T01:30:00Z"),
            (json!({"expires": "2026-01-01T05:00:00Z", "expiresInterval": "PT2H"}), json!({}), "2026-01-01T02:00:00Z"),
            (json!({"expires": "2026-01-01T01:30:00Z", "expiresInterval": "PT2H"}), json!({}), "2026-01-01T01:30:00Z"),
        ] {
            let options = decide(request.clone(), step, json!({"expiresInterval": "PT1M"}));
            assert_eq!(options.expires, Some(time(expires)), "{request}");
        }
    }

    #[test]
    fn a_past_embargo_is_none_and_a_local_one_has_a_place() {
        assert_eq!(decide(json!({"embargo": "2026-01-01T00:59:00Z"}), json!({}), json!({})).embargo, None);
        let local = json!({"embargo": {"date": "2026-01-02", "time": "09:00"}});
        assert_eq!(decide(json!({}), local, json!({})).embargo, Some(time("2026-01-01T20:00:00Z")));
        let named = json!({"embargo": {"date": "2026-01-02", "time": "09:00", "timezone": "Europe/Berlin"}});
        assert_eq!(decide(json!({}), named, json!({})).embargo, Some(time("2026-01-02T08:00:00Z")));
    }

    #[test]
    fn streams_are_named_differently_by_request_and_step() {
        let id: StreamId = crate::ids::Ids::seeded(1).make(time("2026-01-01T00:00:00Z"));
        let list = json!([id.to_string(), id.to_string()]);
        assert_eq!(decide(json!({"targetStreamIds": list}), json!({}), json!({})).stream_ids, Some(vec![id]));
        assert_eq!(decide(json!({}), json!({"streamIds": list}), json!({})).stream_ids, Some(vec![id]));
        assert_eq!(
            decide(json!({"targetStreamIds": []}), json!({"streamIds": list}), json!({})).stream_ids,
            Some(vec![id])
        );
    }

    #[test]
    fn every_violation_is_reported_where_it_is() {
        let error = CardOptions::parse(
            &json!({"priority": 11, "expires": "soon", "expiresInterval": "P-1D", "embargo": 7,
                "targetStreamIds": ["tmpl_x"], "targetPlatforms": {"Fridge": true}}),
            "/flows/0/payload/cardOptions",
        )
        .unwrap_err();
        let pointers: Vec<_> = error.violations().iter().map(|violation| violation.pointer.clone().unwrap()).collect();
        assert_eq!(
            pointers,
            ["priority", "expires", "expiresInterval", "embargo", "targetStreamIds/0", "targetPlatforms/Fridge"]
                .map(|field| format!("/flows/0/payload/cardOptions/{field}"))
        );
    }

    #[test]
    fn bad_shapes() {
        for value in [
            json!([]),
            json!("x"),
            json!({"priority": 0}),
            json!({"priority": 1.5}),
            json!({"priority": "high"}),
            json!({"targetPlatforms": {"Web": false}}),
            json!({"targetPlatforms": []}),
            json!({"targetPlatforms": {"Web": 1}}),
            json!({"targetStreamIds": "strm_1"}),
            json!({"embargo": {"date": "2026-01-01"}}),
        ] {
            assert!(CardOptions::parse(&value, "").is_err(), "{value}");
        }
    }

    #[test]
    fn a_passed_expiry_is_refused() {
        let options = options(json!({"expires": "2026-01-01T00:00:00Z"}));
        let error = options.refuse_past(time("2026-01-01T00:00:00Z"), "/cardOptions").unwrap_err();
        assert_eq!(error.violations()[0].pointer.as_deref(), Some("/cardOptions/expires"));
        options.refuse_past(time("2025-12-31T00:00:00Z"), "/cardOptions").unwrap();
    }
}
