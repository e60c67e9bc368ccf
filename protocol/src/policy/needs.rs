//! What an install asks of the device's condition, as words: `mains battery>=30 unmetered idle`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::Conditions;

/// Where a device has its power from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Power {
    /// The mains, or whatever does not run out.
    Mains,
    /// A battery.
    Battery,
}

/// What is asked. The default asks nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// That it is on the mains.
    pub mains: bool,
    /// The least charge of its battery in percent, or that it is on the mains; 0 asks nothing.
    pub battery: u8,
    /// That its link is not paid by the byte.
    pub unmetered: bool,
    /// That nobody uses it.
    pub idle: bool,
}

/// One thing that is asked and not so, or not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unmet {
    /// Mains power.
    Mains,
    /// So much charge; with what it is.
    Battery {
        /// The least that is asked.
        least: u8,
        /// What it is, if that is known.
        is: Option<u8>,
    },
    /// A link that is not paid by the byte.
    Unmetered,
    /// That nobody uses it.
    Idle,
}

impl Needs {
    /// Everything that is asked and is not so. What the device did not say is not so.
    #[must_use]
    pub fn unmet(&self, conditions: &Conditions) -> Vec<Unmet> {
        let on_mains = conditions.power == Some(Power::Mains);
        let charged = on_mains || conditions.battery.is_some_and(|is| is >= self.battery);
        let unmet = [
            (self.mains && !on_mains, Unmet::Mains),
            (self.battery > 0 && !charged, Unmet::Battery { least: self.battery, is: conditions.battery }),
            (self.unmetered && conditions.metered != Some(false), Unmet::Unmetered),
            (self.idle && !conditions.idle, Unmet::Idle),
        ];
        unmet.into_iter().filter_map(|(is, what)| is.then_some(what)).collect()
    }
}

/// A word that asks nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no condition; there are mains, battery>=PERCENT, unmetered and idle")]
pub struct BadNeed(String);

impl FromStr for Needs {
    type Err = BadNeed;

    fn from_str(text: &str) -> Result<Self, BadNeed> {
        let mut needs = Self::default();
        for word in text.split_whitespace() {
            match word {
                "mains" => needs.mains = true,
                "unmetered" => needs.unmetered = true,
                "idle" => needs.idle = true,
                _ => {
                    let percent = word.strip_prefix("battery>=").map(|rest| rest.trim_end_matches('%'));
                    let percent = percent.and_then(|percent| percent.parse().ok()).filter(|percent| *percent <= 100);
                    needs.battery = percent.ok_or_else(|| BadNeed(word.chars().take(40).collect()))?;
                }
            }
        }
        Ok(needs)
    }
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mains => f.write_str("mains power"),
            Self::Battery { least, is: Some(is) } => write!(f, "a battery at {least} % (it is at {is} %)"),
            Self::Battery { least, is: None } => write!(f, "a battery at {least} % (nobody said how it is)"),
            Self::Unmetered => f.write_str("a link that is not metered"),
            Self::Idle => f.write_str("a moment when this device is idle"),
        }
    }
}

/// Several, as one says them.
pub(super) fn listed(unmet: &[Unmet]) -> String {
    let words: Vec<String> = unmet.iter().map(Unmet::to_string).collect();
    words.join(" and ")
}
