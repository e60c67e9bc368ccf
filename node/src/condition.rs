//! The device's condition: what it says of itself (`burr device`), and what a command of its owner's measures now and then.
//!
//! What was said goes before what was measured. Each run of the command tells all that it knows, so what it does not name
//! is not known; one that fails, takes too long or writes something else knows nothing.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use burr_protocol::policy::{Conditions, Power};
use serde::{Deserialize, Serialize};

use crate::{
    error::Error,
    health,
    node::{Node, WeakNode},
};

/// What the device says of its own condition; what it does not say stays as it was, unless that is to be forgotten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Said {
    /// Whether somebody uses it.
    pub busy: Option<bool>,
    /// Where its power comes from.
    pub power: Option<Power>,
    /// The charge of its battery in percent.
    pub battery: Option<u8>,
    /// Whether its link is paid by the byte.
    pub metered: Option<bool>,
    /// Whether all that was said before is taken back: what is measured counts again, and of the rest nothing is known.
    pub forget: bool,
}

impl Said {
    /// This, and of what it does not say, the other.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            busy: self.busy.or(other.busy),
            power: self.power.or(other.power),
            battery: self.battery.or(other.battery),
            metered: self.metered.or(other.metered),
            forget: self.forget || other.forget,
        }
    }

    /// What holds when this is said after all that was said before.
    pub(crate) fn after(self, before: Self) -> Self {
        let before = if self.forget { Self::default() } else { before };
        Self { forget: false, ..self.or(before) }
    }

    /// The conditions that the agent knows. A device that says nothing is idle.
    pub(crate) fn conditions(self, utc_offset: i32) -> Conditions {
        let Self { busy, power, battery, metered, forget: _ } = self;
        Conditions { idle: busy != Some(true), utc_offset, power, battery, metered }
    }
}

/// One thing that is said: `power=mains`, `power=battery`, `battery=80`, `metered=yes`, `metered=no`, `busy` or `idle`.
impl FromStr for Said {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let said = Self::default();
        Ok(match text {
            "busy" => Self { busy: Some(true), ..said },
            "idle" => Self { busy: Some(false), ..said },
            "power=mains" => Self { power: Some(Power::Mains), ..said },
            "power=battery" => Self { power: Some(Power::Battery), ..said },
            "metered=yes" => Self { metered: Some(true), ..said },
            "metered=no" => Self { metered: Some(false), ..said },
            _ => {
                let percent = text.strip_prefix("battery=").map(|rest| rest.trim_end_matches('%'));
                let battery: Option<u8> = percent.and_then(|percent| percent.parse().ok());
                let battery = battery.filter(|battery| *battery <= 100);
                let words =
                    "say power=mains, power=battery, battery=0 to battery=100, metered=yes, metered=no, busy or idle";
                Self { battery: Some(battery.ok_or(words)?), ..said }
            }
        })
    }
}

/// A command that measures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// A text for `sh -c`, run in the data directory.
    pub command: String,
    /// How long after a run's end the next begins.
    pub interval: Duration,
    /// How long a run may take.
    pub timeout: Duration,
}

/// Begins to measure, until the node ends. Needs a tokio runtime.
pub(crate) fn begin(node: &Node, data: &Path, settings: Settings) {
    // It ends when there is no node to tell any more.
    tokio::spawn(run(node.downgrade(), data.to_owned(), settings));
}

async fn run(node: WeakNode, data: PathBuf, settings: Settings) -> Result<(), Error> {
    loop {
        let written = health::output(&settings.command, &data, settings.timeout).await;
        let measured = written.and_then(|written| {
            let all =
                written.split_whitespace().try_fold(Said::default(), |all, word| Ok(word.parse::<Said>()?.or(all)));
            all.map_err(|why: String| format!("it wrote something else; {why}: {written}"))
        });
        node.upgrade()?.measured(measured).await?;
        tokio::time::sleep(settings.interval).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_goes_before_what_was_measured() {
        let said = Said { battery: Some(80), ..Said::default() };
        let measured = Said { battery: Some(20), metered: Some(true), ..Said::default() };
        let conditions = said.or(measured).conditions(3600);
        assert_eq!((conditions.battery, conditions.metered, conditions.power), (Some(80), Some(true), None));
        assert!(conditions.idle && !Said { busy: Some(true), ..said }.conditions(0).idle);
    }

    #[test]
    fn what_was_said_can_be_taken_back_and_what_is_measured_counts_again() {
        let before = Said { busy: Some(true), battery: Some(80), ..Said::default() };
        let measured = Said { battery: Some(20), ..Said::default() };
        let now = Said { metered: Some(true), forget: true, ..Said::default() }.after(before);
        assert_eq!(now, Said { metered: Some(true), ..Said::default() });
        let conditions = now.or(measured).conditions(0);
        assert!(conditions.idle && conditions.battery == Some(20));
        assert_eq!(Said { power: Some(Power::Mains), ..Said::default() }.after(before).battery, Some(80));
    }

    #[test]
    fn words_are_read_and_others_are_named() {
        assert_eq!("battery=80%".parse(), Ok(Said { battery: Some(80), ..Said::default() }));
        for bad in ["battery=101", "battery=-1", "power=sun", "metered", ""] {
            assert!(bad.parse::<Said>().is_err(), "{bad}");
        }
    }
}
