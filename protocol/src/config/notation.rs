//! The agent's settings as text, as a node's `burr.toml` has them and a simulated fleet's scenario: one notation.

use std::{str::FromStr, time::Duration};

use super::{Config, Tell};
use crate::budget::Schedule;

/// A setting that there is not, or a text that it can't be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSetting {
    /// The agent has no setting of this name.
    #[error("the agent has no setting {0}")]
    Unknown(String),
    /// The text is not what the setting needs.
    #[error("{name} is {text:?}; it must be {expected}")]
    Value {
        /// The setting's name.
        name: String,
        /// What it was to be.
        text: String,
        /// What it may be.
        expected: &'static str,
    },
}

impl Config {
    /// Sets what `burr.toml` calls `name`. Bounds are checked by [`Config::check`], once all is set.
    ///
    /// # Errors
    /// [`BadSetting`] if there is no such setting, or it can't be that.
    pub fn set(&mut self, name: &str, text: &str) -> Result<(), BadSetting> {
        let of = Text { name, text: text.trim() };
        match name {
            "collect" => self.collect = of.flag()?,
            "serve" => self.serve = of.flag()?,
            "site" => self.site = Some(of.text.to_owned()).filter(|site| !site.is_empty()),
            "budget.lan_down" => self.budgets.lan.down = of.schedule()?,
            "budget.lan_up" => self.budgets.lan.up = of.schedule()?,
            "budget.wan_down" => self.budgets.wan.down = of.schedule()?,
            "budget.wan_up" => self.budgets.wan.up = of.schedule()?,
            "budget.metered_down" => self.budgets.metered.down = of.schedule()?,
            "budget.metered_up" => self.budgets.metered.up = of.schedule()?,
            "budget.metered" => self.budgets.is_metered = of.flag()?,
            "budget.month" => self.budgets.month = if of.text == "unlimited" { None } else { Some(of.size()?) },
            "quota" => self.quota = of.size()?,
            "max_receipts" => self.max_receipts = of.number()?,
            "tell_attributes" => {
                self.tell_attributes = match of.text {
                    "closed" => Tell::Closed,
                    "always" => Tell::Always,
                    "never" => Tell::Never,
                    _ => return Err(of.bad("closed, always or never")),
                }
            }
            "tuning.provider_bytes" => self.provider_bytes = of.size()?,
            "tuning.requests_per_job" => self.requests_per_job = of.number()?,
            "tuning.request_bytes" => self.request_bytes = of.size()?,
            "tuning.patience" => self.patience = of.duration()?,
            "tuning.dial_backoff" => self.dial_backoff.0 = of.duration()?,
            "tuning.dial_backoff_max" => self.dial_backoff.1 = of.duration()?,
            "tuning.metadata_patience" => self.metadata_patience = of.duration()?,
            "tuning.search_interval" => self.search_interval = of.duration()?,
            "tuning.map_interval" => self.map_interval = of.duration()?,
            "tuning.sync_interval" => self.sync_interval = of.duration()?,
            "tuning.retry_backoff" => self.retry_backoff.0 = of.duration()?,
            "tuning.retry_backoff_max" => self.retry_backoff.1 = of.duration()?,
            "tuning.max_trial_starts" => self.max_trial_starts = of.number()?,
            _ => return Err(BadSetting::Unknown(name.to_owned())),
        }
        Ok(())
    }
}

struct Text<'a> {
    name: &'a str,
    text: &'a str,
}

impl Text<'_> {
    fn bad(&self, expected: &'static str) -> BadSetting {
        BadSetting::Value { name: self.name.to_owned(), text: self.text.to_owned(), expected }
    }

    fn number<T: FromStr>(&self) -> Result<T, BadSetting> {
        self.text.parse().map_err(|_| self.bad("a whole number in its range"))
    }

    fn flag(&self) -> Result<bool, BadSetting> {
        self.text.parse().map_err(|_| self.bad("true or false"))
    }

    fn duration(&self) -> Result<Duration, BadSetting> {
        humantime::parse_duration(self.text).map_err(|_| self.bad("a time with a unit, such as 30s or 5m"))
    }

    fn schedule(&self) -> Result<Schedule, BadSetting> {
        let expected = "a rate such as 500 kB/s, unlimited or none, and others for hours of local time behind semicolons: unlimited; mon-fri 08:00-18:00 500 kB/s";
        self.text.parse().map_err(|_| self.bad(expected))
    }

    fn size(&self) -> Result<u64, BadSetting> {
        let size = self.text.parse::<bytesize::ByteSize>();
        size.map(|size| size.as_u64()).map_err(|_| self.bad("a size with a unit, such as 500 MB or 10 GiB"))
    }
}
