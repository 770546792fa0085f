//! Rate limits: a token bucket for each caller, in memory of one process.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Time;
use crate::config::Rates;
use crate::error::{Error, Result};
use crate::ids::{CredentialId, CustomerId, EnvId, TriggerId};

/// Failed SDK requests that an environment writes down in a second.
const SDK_FAILURES: u32 = 20;
/// Events in a minute that apps may report from one address before anybody has signed in (§10.2).
pub const ANONYMOUS_EVENTS: u32 = 10;
/// Fractions of a token that are lost in adding: who waits as long as it was told is let through.
const ROUNDING: f64 = 1e-6;

/// The limits of a process, by whom they hold (§2.4).
pub struct Limits {
    /// REST requests of an API credential.
    pub rest: Limiter<CredentialId>,
    /// Access tokens for a client id.
    pub token: Limiter<CredentialId>,
    /// Operations of a customer's SDK.
    pub sdk: Limiter<CustomerId>,
    /// Requests to the URL of a trigger.
    pub trigger: Limiter<TriggerId>,
    /// Failed SDK requests that an environment writes down.
    pub sdk_failures: Limiter<EnvId>,
    /// Events that apps report before anybody has signed in.
    pub anonymous_events: Limiter<Option<IpAddr>>,
}

impl Limits {
    pub fn new(rates: Rates) -> Limits {
        Limits {
            rest: Limiter::new(rates.rest, rates.rest.saturating_mul(2)),
            token: Limiter::new(rates.token, rates.token),
            sdk: Limiter::new(rates.sdk, rates.sdk.saturating_mul(3)),
            trigger: Limiter::new(rates.trigger, rates.trigger.saturating_mul(4)),
            sdk_failures: Limiter::new(SDK_FAILURES, SDK_FAILURES * 5),
            anonymous_events: Limiter::every(Duration::from_secs(60), ANONYMOUS_EVENTS),
        }
    }
}

/// Lets each key through `per_second` times a second, with bursts of up to `burst`.
///
/// Why in memory: a limit protects a process; a shared count would cost a write for each request.
pub struct Limiter<K> {
    per_second: f64,
    burst: f64,
    buckets: Mutex<Buckets<K>>,
}

struct Buckets<K> {
    by_key: HashMap<K, Bucket>,
    /// The number of buckets at which the full ones are dropped.
    sweep_at: usize,
}

#[derive(Clone, Copy)]
struct Bucket {
    tokens: f64,
    filled_at: Time,
}

impl<K: Eq + Hash> Limiter<K> {
    const SWEEP_AT_LEAST: usize = 1024;

    pub fn new(per_second: u32, burst: u32) -> Limiter<K> {
        Limiter::with(f64::from(per_second.max(1)), burst)
    }

    /// Lets each key through `count` times in a period, all at once or spread.
    pub fn every(period: Duration, count: u32) -> Limiter<K> {
        Limiter::with(f64::from(count.max(1)) / period.as_secs_f64(), count)
    }

    fn with(per_second: f64, burst: u32) -> Limiter<K> {
        Limiter {
            per_second,
            burst: f64::from(burst.max(1)),
            buckets: Mutex::new(Buckets { by_key: HashMap::new(), sweep_at: Self::SWEEP_AT_LEAST }),
        }
    }

    /// Takes one token, or answers `rate_limited` with the seconds until there is one.
    pub fn take(&self, key: K, now: Time) -> Result<()> {
        self.take_many(key, 1, now)
    }

    /// Takes all of `count` tokens or none, and then answers `rate_limited` with the seconds until there are so many.
    pub fn take_many(&self, key: K, count: u32, now: Time) -> Result<()> {
        let wanted = f64::from(count);
        let mut buckets = self.buckets.lock();
        if buckets.by_key.len() >= buckets.sweep_at {
            buckets.by_key.retain(|_, bucket| self.refilled(*bucket, now) < self.burst);
            buckets.sweep_at = (buckets.by_key.len() * 2).max(Self::SWEEP_AT_LEAST);
        }
        let bucket = buckets.by_key.entry(key).or_insert(Bucket { tokens: self.burst, filled_at: now });
        bucket.tokens = self.refilled(*bucket, now);
        bucket.filled_at = bucket.filled_at.max(now);
        if bucket.tokens + ROUNDING < wanted {
            return Err(Error::rate_limited(self.seconds_until(wanted - bucket.tokens)));
        }
        bucket.tokens = (bucket.tokens - wanted).max(0.0);
        Ok(())
    }

    fn refilled(&self, bucket: Bucket, now: Time) -> f64 {
        (bucket.tokens + now.since(bucket.filled_at).as_secs_f64() * self.per_second).min(self.burst)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and the seconds of a period"
    )]
    fn seconds_until(&self, missing: f64) -> u64 {
        (missing / self.per_second).ceil().max(1.0) as u64
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn many_at_once_are_taken_whole_or_not_at_all() {
        let limiter = Limiter::every(Duration::from_secs(60), 10);
        let start = Time::from_millisecond(0);
        limiter.take_many("a", 7, start).unwrap();
        assert_eq!(limiter.take_many("a", 4, start).unwrap_err().retry_after_seconds(), Some(6));
        limiter.take_many("a", 3, start).unwrap();
        assert!(limiter.take("a", start.plus(Duration::from_secs(5))).is_err());
        limiter.take("a", start.plus(Duration::from_secs(6))).unwrap();
    }

    #[test]
    fn a_burst_then_the_rate() {
        let limiter = Limiter::new(5, 10);
        let start = Time::from_millisecond(0);
        for _ in 0..10 {
            limiter.take("a", start).unwrap();
        }
        assert_eq!(limiter.take("a", start).unwrap_err().retry_after_seconds(), Some(1));
        limiter.take("b", start).unwrap();
        let later = start.plus(Duration::from_millis(400));
        limiter.take("a", later).unwrap();
        limiter.take("a", later).unwrap();
        assert!(limiter.take("a", later).is_err());
    }

    #[test]
    fn idle_callers_are_forgotten() {
        let limiter = Limiter::new(1, 1);
        for caller in 0..2000 {
            limiter.take(caller, Time::from_millisecond(i64::from(caller) * 2000)).unwrap();
        }
        assert!(limiter.buckets.lock().by_key.len() <= 1024);
    }
}
