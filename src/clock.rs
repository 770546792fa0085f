//! Time: one door to the clock, instants with the precision of the wire, ISO 8601 durations.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::data_types::PgTimestamp;
use diesel::pg::{Pg, PgValue};
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types::Timestamptz;
use jiff::{Timestamp, ToSpan, Unit, Zoned, tz::TimeZone};

use crate::error::{Error, Result};

/// An instant in whole milliseconds: what is stored is what is shown.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = Timestamptz)]
pub struct Time(Timestamp);

impl Time {
    /// Microseconds between the Unix epoch and Postgres's.
    const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

    pub fn from_millisecond(millis: i64) -> Time {
        // The ends of what a timestamp can hold lie between two milliseconds, so the whole seconds within are the ends here.
        let (first, last) = (Timestamp::MIN.as_second() * 1000, Timestamp::MAX.as_second() * 1000);
        Time(Timestamp::from_millisecond(millis.clamp(first, last)).unwrap_or(Timestamp::UNIX_EPOCH))
    }

    pub fn as_millisecond(self) -> i64 {
        self.0.as_millisecond()
    }

    /// Whole Unix seconds.
    pub fn as_second(self) -> i64 {
        self.0.as_millisecond().div_euclid(1000)
    }

    pub fn timestamp(self) -> Timestamp {
        self.0
    }

    /// Reads RFC 3339. Without an offset the text is UTC.
    pub fn parse(text: &str) -> Result<Time> {
        let instant = text.parse::<Timestamp>().or_else(|_| {
            text.parse::<jiff::civil::DateTime>().and_then(|at| Ok(at.to_zoned(TimeZone::UTC)?.timestamp()))
        });
        instant
            .map(|instant| Time::from_millisecond(instant.as_millisecond()))
            .map_err(|_| Error::invalid("", "is not an RFC 3339 date-time"))
    }

    pub fn plus(self, duration: std::time::Duration) -> Time {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Time::from_millisecond(self.as_millisecond().saturating_add(millis))
    }

    pub fn minus(self, duration: std::time::Duration) -> Time {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Time::from_millisecond(self.as_millisecond().saturating_sub(millis))
    }

    /// The time from `earlier` to here; zero when it lies ahead.
    pub fn since(self, earlier: Time) -> std::time::Duration {
        let millis = self.as_millisecond().saturating_sub(earlier.as_millisecond());
        std::time::Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }

    pub fn in_zone(self, zone: &TimeZone) -> Zoned {
        self.0.to_zoned(zone.clone())
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.0)
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Time {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Time {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Time::parse(&text).map_err(|_| serde::de::Error::custom("not an RFC 3339 date-time"))
    }
}

impl ToSql<Timestamptz, Pg> for Time {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        let stamp = PgTimestamp(self.0.as_microsecond() - Time::POSTGRES_EPOCH);
        ToSql::<Timestamptz, Pg>::to_sql(&stamp, &mut out.reborrow())
    }
}

impl FromSql<Timestamptz, Pg> for Time {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        let PgTimestamp(micros) = FromSql::<Timestamptz, Pg>::from_sql(value)?;
        Ok(Time::from_millisecond((micros + Time::POSTGRES_EPOCH).div_euclid(1000)))
    }
}

/// The one door to the current time.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System,
    Manual(Arc<AtomicI64>),
}

impl Clock {
    pub fn system() -> Clock {
        Clock(Source::System)
    }

    /// A clock that stands still until it is moved.
    pub fn manual(start: Time) -> Clock {
        Clock(Source::Manual(Arc::new(AtomicI64::new(start.as_millisecond()))))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    pub fn now(&self) -> Time {
        match &self.0 {
            Source::System => Time::from_millisecond(Timestamp::now().as_millisecond()),
            Source::Manual(millis) => Time::from_millisecond(millis.load(Ordering::SeqCst)),
        }
    }

    /// Moves a manual clock; the system's clock cannot be moved.
    pub fn advance(&self, by: std::time::Duration) {
        if let Source::Manual(millis) = &self.0 {
            millis.fetch_add(i64::try_from(by.as_millis()).unwrap_or(0), Ordering::SeqCst);
        }
    }

    /// Sets a manual clock back, as an operator or NTP may do with the system's.
    pub fn set_back(&self, by: std::time::Duration) {
        if let Source::Manual(millis) = &self.0 {
            millis.fetch_sub(i64::try_from(by.as_millis()).unwrap_or(0), Ordering::SeqCst);
        }
    }
}

/// An ISO 8601 duration: whole years and months are calendar steps, fractions and the rest are exact time.
///
/// Why not jiff's parser: it refuses fractions of anything but the smallest unit, and the wire allows them in any.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Period {
    months: i32,
    millis: i64,
}

impl Period {
    const YEAR_DAYS: f64 = 365.25;
    const MONTH_DAYS: f64 = 30.4375;
    const DAY_MILLIS: f64 = 86_400_000.0;
    /// A thousand years; longer is a slip of the keyboard.
    const LONGEST_MONTHS: f64 = 12_000.0;

    /// Reads `P[n]Y[n]M[n]W[n]DT[n]H[n]M[n]S`. Negative, empty and zero durations are refused.
    pub fn parse(text: &str) -> Result<Period> {
        Period::read(text).ok_or_else(|| Error::invalid("", "is not a positive ISO 8601 duration such as PT30M"))
    }

    fn read(text: &str) -> Option<Period> {
        let rest = text.strip_prefix('P')?;
        let (date, time) = match rest.split_once('T') {
            Some((_, "")) => return None,
            Some((date, time)) => (date, time),
            None => (rest, ""),
        };
        let mut months = 0.0_f64;
        let mut millis = 0.0_f64;
        for (amount, unit) in Period::fields(date, "YMWD")? {
            match unit {
                'Y' => {
                    months += amount.trunc() * 12.0;
                    millis += amount.fract() * Period::YEAR_DAYS * Period::DAY_MILLIS;
                }
                'M' => {
                    months += amount.trunc();
                    millis += amount.fract() * Period::MONTH_DAYS * Period::DAY_MILLIS;
                }
                'W' => millis += amount * 7.0 * Period::DAY_MILLIS,
                _ => millis += amount * Period::DAY_MILLIS,
            }
        }
        for (amount, unit) in Period::fields(time, "HMS")? {
            millis += amount
                * match unit {
                    'H' => 3_600_000.0,
                    'M' => 60_000.0,
                    _ => 1_000.0,
                };
        }
        let too_long = months > Period::LONGEST_MONTHS
            || millis > Period::LONGEST_MONTHS * Period::MONTH_DAYS * Period::DAY_MILLIS;
        if too_long {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "bounded just above")]
        let period = Period { months: months as i32, millis: millis.round() as i64 };
        (period.months > 0 || period.millis > 0).then_some(period)
    }

    /// Splits `1Y2M` into amounts and units, which must come in the order of `units`.
    fn fields(text: &str, units: &str) -> Option<Vec<(f64, char)>> {
        let mut fields = Vec::new();
        let mut rest = text;
        let mut units = units;
        while !rest.is_empty() {
            let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ','))?;
            let number = rest[..end].replace(',', ".");
            if !number.starts_with(|c: char| c.is_ascii_digit()) || number.ends_with('.') {
                return None;
            }
            let unit = rest[end..].chars().next()?;
            let position = units.find(unit)?;
            units = &units[position + 1..];
            fields.push((number.parse().ok()?, unit));
            rest = &rest[end + unit.len_utf8()..];
        }
        Some(fields)
    }

    /// The instant this long after `start`, on the calendar of `zone`.
    pub fn after(self, start: Time, zone: &TimeZone) -> Time {
        let stepped = start
            .in_zone(zone)
            .checked_add(i64::from(self.months).months())
            .map_or(Time::from_millisecond(i64::MAX), |zoned| {
                Time::from_millisecond(zoned.timestamp().as_millisecond())
            });
        Time::from_millisecond(stepped.as_millisecond().saturating_add(self.millis))
    }
}

/// Reads an IANA zone name.
pub fn zone(name: &str) -> Result<TimeZone> {
    TimeZone::get(name).map_err(|_| Error::invalid("", "is not an IANA time zone name"))
}

/// Midnight UTC of the day of `time`, for partitions.
pub fn day_of(time: Time) -> Time {
    let day =
        time.in_zone(&TimeZone::UTC).round(jiff::ZonedRound::new().smallest(Unit::Day).mode(jiff::RoundMode::Trunc));
    day.map_or(time, |day| Time::from_millisecond(day.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Time {
        Time::parse(text).unwrap()
    }

    #[test]
    fn times_are_written_in_utc_with_milliseconds() {
        assert_eq!(time("2026-03-26T13:46:50.7114+13:00").to_string(), "2026-03-26T00:46:50.711Z");
        assert_eq!(time("2026-03-26T00:46:50").to_string(), "2026-03-26T00:46:50.000Z");
        assert!(Time::parse("yesterday").is_err());
    }

    #[test]
    fn times_beyond_the_ends_are_the_ends() {
        assert!(Time::from_millisecond(i64::MAX) > time("9999-12-30T00:00:00Z"));
        assert!(Time::from_millisecond(i64::MIN) < time("-009999-01-03T00:00:00Z"));
        assert_eq!(time("2026-01-01T00:00:00Z").plus(std::time::Duration::MAX), Time::from_millisecond(i64::MAX));
    }

    #[test]
    fn periods() {
        let start = "2026-01-31T00:00:00Z";
        for (text, end) in [
            ("PT30M", "2026-01-31T00:30:00.000Z"),
            ("P1M", "2026-02-28T00:00:00.000Z"),
            ("P7MT9M", "2026-08-31T00:09:00.000Z"),
            ("P0.5Y", "2026-08-01T15:00:00.000Z"),
            ("P1W", "2026-02-07T00:00:00.000Z"),
            ("PT1.5S", "2026-01-31T00:00:01.500Z"),
            ("P0.5D", "2026-01-31T12:00:00.000Z"),
        ] {
            assert_eq!(Period::parse(text).unwrap().after(time(start), &TimeZone::UTC).to_string(), end, "{text}");
        }
    }

    #[test]
    fn bad_periods_are_refused() {
        for text in [
            "", "P", "PT", "PT0S", "-PT1S", "P-1D", "1D", "P1H", "PT1D", "P1", "P.D", "P1DT", "P1D1Y", "P99999Y",
            "PT1e3S", "P1.D",
        ] {
            assert!(Period::parse(text).is_err(), "{text}");
        }
    }
}
