//! When a release halts by itself: after so many failures among the devices that tried it. Told in text as
//! `FAILURES/SHARE/OUTCOMES`, such as `3/20%/10`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{EVERYONE, RulesError, bound, percent};

/// Failures, and outcomes, that a threshold may ask for at most.
const MOST: u32 = 1_000_000;

/// How many failures are too many. All three must be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Halt {
    /// Devices on which it failed or was rolled back, at least 1.
    pub failures: u32,
    /// Their share of the devices that tried it, in hundredths of a percent, up to [`EVERYONE`].
    pub share: u16,
    /// Devices that tried it, before anything is concluded.
    pub outcomes: u32,
}

/// How a release fared on the devices that count, as far as is known here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Devices on which it failed or was rolled back.
    pub failed: u32,
    /// Devices that tried it.
    pub outcomes: u32,
}

impl Halt {
    pub(super) fn check(&self) -> Result<(), RulesError> {
        bound("the number of failures that halts it", self.failures.into(), 1, MOST.into())?;
        bound("the share of failures that halts it", self.share.into(), 0, EVERYONE.into())?;
        bound("the number of outcomes before it halts", self.outcomes.into(), 0, MOST.into())
    }

    /// Whether these are too many failures.
    #[must_use]
    pub fn is_passed(&self, tally: Tally) -> bool {
        tally.failed >= self.failures
            && tally.outcomes >= self.outcomes
            && u64::from(tally.failed) * u64::from(EVERYONE) >= u64::from(self.share) * u64::from(tally.outcomes)
    }
}

/// As it is written.
impl fmt::Display for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = percent(self.share).replace(' ', "");
        write!(f, "{}/{share}/{}", self.failures, self.outcomes)
    }
}

/// A text that is no threshold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no threshold; write FAILURES/SHARE/OUTCOMES, such as 3/20%/10: three failures, if they are a fifth of at least ten outcomes"
)]
pub struct HaltError(String);

impl FromStr for Halt {
    type Err = HaltError;

    fn from_str(text: &str) -> Result<Self, HaltError> {
        let read = || {
            let mut parts = text.split('/').map(str::trim);
            let (failures, share, outcomes) = (parts.next()?, parts.next()?, parts.next()?);
            let halt = Self {
                failures: failures.parse().ok()?,
                share: super::share(share)?,
                outcomes: outcomes.parse().ok()?,
            };
            (parts.next().is_none() && halt.check().is_ok()).then_some(halt)
        };
        read().ok_or_else(|| HaltError(text.chars().take(80).collect()))
    }
}

/// In words, of failures that were too many.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of the {} devices that tried it failed", self.failed, self.outcomes)
    }
}
