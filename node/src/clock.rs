//! Where a node takes the time of day from: the machine's clock, or one that an embedding app knows better.

use std::{
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use burr_protocol::Wall;
use jiff::{Timestamp, tz::TimeZone};

/// A clock that shows less than this (2026-01-01) was never set.
const CLOCK_IS_SET: i64 = 1_767_225_600;

/// A source of the time of day. It may be wrong and may step: nothing that is believed goes back with it
/// (`protocol/README.md` §8.2).
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    /// The machine's own.
    #[must_use]
    pub fn system() -> Self {
        Self::new(SystemTime::now)
    }

    /// One that the embedding app has, from a radio, a gateway or a server.
    pub fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time of day in whole seconds, if the clock was ever set.
    pub(crate) fn wall(&self) -> Option<Wall> {
        let since = (self.0)().duration_since(UNIX_EPOCH).ok()?;
        i64::try_from(since.as_secs()).ok().filter(|seconds| *seconds >= CLOCK_IS_SET).map(Wall)
    }
}

/// Seconds that the machine's local time is ahead of UTC at a time; 0 if its time zone is not known.
pub(crate) fn utc_offset(wall: Option<Wall>) -> i32 {
    offset_in(&TimeZone::system(), wall)
}

fn offset_in(zone: &TimeZone, wall: Option<Wall>) -> i32 {
    let time = wall.and_then(|wall| Timestamp::from_second(wall.0).ok()).unwrap_or_default();
    zone.to_offset(time).seconds()
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.wall()).finish()
    }
}

#[cfg(test)]
mod tests {
    use burr_protocol::rules::Window;

    use super::*;

    #[test]
    fn a_window_is_one_of_local_time_in_summer_and_in_winter() {
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let at = |text: &str| Wall(text.parse::<Timestamp>().unwrap().as_second());
        let hours = |text: &str| offset_in(&berlin, Some(at(text))) / 3600;
        // The last Sundays of March and October, both at 01:00 UTC.
        assert_eq!([hours("2026-03-29T00:59:59Z"), hours("2026-03-29T01:00:00Z")], [1, 2]);
        assert_eq!([hours("2026-10-25T00:59:59Z"), hours("2026-10-25T01:00:00Z")], [2, 1]);
        assert_eq!(offset_in(&TimeZone::UTC, None), 0);

        let window: Window = "02:00-04:00".parse().unwrap();
        let is_open =
            |text: &str| window.opens_in(at(text).0 + i64::from(offset_in(&berlin, Some(at(text))))).is_zero();
        assert!(
            is_open("2026-01-15T01:00:00Z") && !is_open("2026-01-15T00:59:00Z") && !is_open("2026-01-15T03:00:00Z")
        );
        assert!(is_open("2026-07-15T00:00:00Z") && !is_open("2026-07-15T02:00:00Z"));
    }
}
