//! A token bucket in whole numbers: exact over any time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Rate;
use crate::Time;

/// What may gather while nothing is asked for: enough that a busy machine, late by this much, loses nothing of its rate.
const GATHERS: u64 = 50;
/// A request under a rate takes about this long at it: long enough to save on proofs, short enough to be even.
const REQUEST: u64 = 250;

/// Bytes that may go at a rate, if there is one: most nodes have none. A request may begin while anything is there, and
/// then the rest is owed.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Bucket(Option<Box<Limited>>);

#[derive(Debug, Serialize, Deserialize)]
struct Limited {
    /// Bytes a second.
    rate: u64,
    /// In thousandths of bytes: what a byte a second brings in a millisecond.
    level: i128,
    at: Time,
}

impl Limited {
    fn fill(&mut self, now: Time) {
        self.level = self.level_at(now);
        self.at = now;
    }

    fn level_at(&self, now: Time) -> i128 {
        let passed = now.0.saturating_sub(self.at.0);
        self.gathered(i128::from(self.rate) * i128::from(passed))
    }

    fn gathered(&self, more: i128) -> i128 {
        (self.level + more).min(i128::from(self.rate) * i128::from(GATHERS))
    }

    fn longest(&self) -> u64 {
        (self.rate * REQUEST / 1000).max(1)
    }
}

impl Bucket {
    pub(super) fn rate(&self) -> Rate {
        Rate(self.0.as_ref().map(|limited| limited.rate))
    }

    /// From now on this is the rate; what is owed stays owed, and what no rate held back is not owed.
    pub(super) fn set(&mut self, rate: Rate, now: Time) {
        match (&mut self.0, rate.0) {
            (Some(limited), Some(rate)) => {
                limited.fill(now);
                limited.rate = rate;
            }
            (limited, rate) => *limited = rate.map(|rate| Box::new(Limited { rate, level: 0, at: now })),
        }
    }

    /// Bytes that one request may have, or when one may begin; never, at a rate of nothing.
    pub(super) fn open(&mut self, now: Time) -> Result<u64, Option<Time>> {
        let Some(limited) = &mut self.0 else { return Ok(u64::MAX) };
        let rate = limited.rate;
        if rate == 0 {
            return Err(None);
        }
        limited.fill(now);
        if limited.level >= 0 {
            return Ok(limited.longest());
        }
        let wait = limited.level.unsigned_abs().div_ceil(u128::from(rate));
        Err(Some(now + Duration::from_millis(u64::try_from(wait).unwrap_or(u64::MAX))))
    }

    /// What gathered until now is there.
    pub(super) fn fill(&mut self, now: Time) {
        if let Some(limited) = &mut self.0 {
            limited.fill(now);
        }
    }

    /// Bytes that one request may have, if one may begin now.
    pub(super) fn longest(&self, now: Time) -> Option<u64> {
        let Some(limited) = &self.0 else { return Some(u64::MAX) };
        (limited.rate > 0 && limited.level_at(now) >= 0).then(|| limited.longest())
    }

    pub(super) fn take(&mut self, bytes: u64) {
        if let Some(limited) = &mut self.0 {
            limited.level -= i128::from(bytes) * 1000;
        }
    }

    pub(super) fn put(&mut self, bytes: u64) {
        if let Some(limited) = &mut self.0 {
            limited.level = limited.gathered(i128::from(bytes) * 1000);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_time_exactly_the_rate_goes() {
        for (rate, request) in [(100_000, 65_536), (1 << 20, 262_144), (3, 65_536)] {
            let mut bucket = Bucket::default();
            bucket.set(Rate(Some(rate)), Time(0));
            let (mut now, mut sent) = (Time(0), 0);
            for _ in 0..100 {
                match bucket.open(now) {
                    Ok(_) => {
                        bucket.take(request);
                        sent += request;
                    }
                    Err(at) => now = at.expect("it has a rate"),
                }
            }
            // One request ahead at most.
            let due = u128::from(rate) * u128::from(now.0) / 1000;
            assert!((due..=due + u128::from(request) + u128::from(rate) * 50 / 1000).contains(&u128::from(sent)));
        }
    }

    #[test]
    fn what_is_owed_stays_owed_at_another_rate_and_a_pause_is_no_credit() {
        let mut bucket = Bucket::default();
        bucket.set(Rate(Some(1000)), Time(0));
        bucket.take(2000);
        bucket.set(Rate(Some(500)), Time(1000));
        assert_eq!(bucket.open(Time(1000)), Err(Some(Time(3000))));
        // A long pause leaves what gathers in a moment.
        assert!(bucket.open(Time(1_000_000)).is_ok());
        bucket.take(1000);
        assert_eq!(bucket.open(Time(1_000_000)), Err(Some(Time(1_001_950))));
        bucket.set(Rate(Some(0)), Time(1_000_000));
        assert_eq!(bucket.open(Time(9_000_000)), Err(None));
        bucket.set(Rate(None), Time(9_000_000));
        assert_eq!(bucket.open(Time(9_000_000)), Ok(u64::MAX));
    }
}
