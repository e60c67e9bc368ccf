//! Where a node takes the time of day from: the machine's clock, or one that an embedding app knows better.

use std::{
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use burr_protocol::Wall;

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

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.wall()).finish()
    }
}
