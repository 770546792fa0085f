//! When a failed request is tried again: exponential with jitter, and what the receiver asks for, within bounds.

use std::time::Duration;

use crate::clock::Time;

const FIRST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(4 * 3600);
/// How far a delay may lie from the formula, as a fraction of it.
const JITTER: f64 = 0.1;

/// The delay before retry `n`, counted from 0. `fraction` in `0.0..1.0` chooses within the jitter.
pub fn delay(n: u32, fraction: f64) -> Duration {
    let doubled = 2_u32.checked_pow(n).and_then(|factor| FIRST.checked_mul(factor)).unwrap_or(LONGEST);
    doubled.min(LONGEST).mul_f64(1.0 - JITTER + 2.0 * JITTER * fraction.clamp(0.0, 1.0))
}

/// The delay before retry `n` when the receiver may have asked for a longer one.
pub fn delay_with(n: u32, fraction: f64, asked: Option<Duration>) -> Duration {
    delay(n, fraction).max(asked.unwrap_or_default())
}

/// Reads `Retry-After`: seconds or an HTTP date, at most four hours. Nonsense asks for nothing.
pub fn retry_after(value: &str, now: Time) -> Option<Duration> {
    let value = value.trim();
    if value.is_empty() {
        return None;
    }
    if value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number holds is a very long time, and so the longest.
        return Some(value.parse().map_or(LONGEST, Duration::from_secs).min(LONGEST));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?;
    Some(Time::from_millisecond(date.timestamp().as_millisecond()).since(now).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_schedule() {
        for (n, seconds) in [(0, 5), (1, 10), (2, 20), (10, 5120), (11, 10240), (12, 14400), (22, 14400), (200, 14400)]
        {
            assert_eq!(delay(n, 0.5), Duration::from_secs(seconds), "{n}");
        }
        assert_eq!(delay(0, 0.0), Duration::from_millis(4500));
        assert_eq!(delay(0, 1.0), Duration::from_millis(5500));
    }

    #[test]
    fn twenty_three_attempts_span_about_two_days() {
        let total: Duration = (0..22).map(|n| delay(n, 0.5)).sum();
        assert!((Duration::from_secs(40 * 3600)..Duration::from_secs(56 * 3600)).contains(&total), "{total:?}");
    }

    #[test]
    fn what_receivers_ask_for() {
        let now = Time::parse("2026-03-26T00:00:00Z").unwrap();
        for (value, seconds) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("99999999999999999999999999", Some(14400)),
            ("86400", Some(14400)),
            ("Thu, 26 Mar 2026 00:01:00 GMT", Some(60)),
            ("Wed, 25 Mar 2026 00:01:00 GMT", Some(0)),
            ("Fri, 26 Mar 2100 00:01:00 GMT", Some(14400)),
            ("", None),
            ("-5", None),
            ("1.5", None),
            ("soon", None),
        ] {
            assert_eq!(retry_after(value, now), seconds.map(Duration::from_secs), "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn delays_stay_within_a_tenth_of_the_formula(n in 0_u32..300, fraction in 0.0_f64..1.0) {
            let exact = delay(n, 0.5).as_secs_f64();
            let actual = delay(n, fraction).as_secs_f64();
            prop_assert!((actual - exact).abs() <= exact * JITTER + 1e-6);
            prop_assert!(actual <= LONGEST.as_secs_f64() * 1.1 + 1e-6);
        }

        #[test]
        fn delays_do_not_shrink(n in 0_u32..300, fraction in 0.0_f64..1.0, asked in 0_u64..20_000) {
            prop_assert!(delay(n + 1, fraction) >= delay(n, fraction));
            let with = delay_with(n, fraction, Some(Duration::from_secs(asked)));
            prop_assert!(with >= delay(n, fraction) && with >= Duration::from_secs(asked));
        }

        #[test]
        fn no_header_value_breaks_the_reader_or_its_bound(value in "\\PC*") {
            let now = Time::from_millisecond(1_767_225_600_000);
            prop_assert!(retry_after(&value, now).unwrap_or_default() <= LONGEST);
        }
    }
}
