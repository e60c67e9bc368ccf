//! Crashes: processes are killed at drawn moments, and what they leave is the old or the new, never anything between.

mod device;
mod publisher;
mod resume;

use std::time::Duration;

/// Numbers that are the same in every run.
struct Draw(u64);

impl Draw {
    /// A number below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound.max(1)
    }

    /// A time up to `longest`, in steps of a tenth of a millisecond.
    fn time(&mut self, longest: Duration) -> Duration {
        let steps = u64::try_from(longest.as_micros() / 100).unwrap_or(u64::MAX);
        Duration::from_micros(self.below(steps + 1) * 100)
    }
}
