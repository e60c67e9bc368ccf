//! Commands of the device around a switch. One before it may say no, and then nothing was changed; one after it may say
//! no, and then the device goes back. Both are limited in time, and what they wrote goes into the receipt.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{HEALTH_GRACE, Phase, Step, Update};
use crate::{
    Hash, Time,
    config::Config,
    receipt::{MAX_SAID, last_bytes},
};

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hook {
    /// Before a staged version is switched to; again with each try.
    Before,
    /// After it was switched to, and before it is asked whether it works; again with each start of the trial.
    After,
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Before => "before",
            Self::After => "after",
        })
    }
}

impl Update {
    /// The staged release is tried now; its hook has the first word, if there is one.
    pub fn apply(&mut self, now: Time) -> Vec<Step> {
        let Phase::Ready { staged, failures, .. } = &self.phase else { return Vec::new() };
        let (staged, failures) = (staged.clone(), *failures);
        let Some(limit) = self.install.before else { return self.begin(*staged, String::new()) };
        let release = staged.offer.release();
        let (bundle, version) = (release.bundle, release.version.clone());
        self.phase = Phase::Preparing { staged, failures, until: now + limit + HEALTH_GRACE };
        vec![Step::RunHook { bundle, version, hook: Hook::Before, limit }]
    }

    /// A hook ended; `words` are why, or what it wrote.
    pub fn hooked(
        &mut self,
        bundle: Hash,
        hook: Hook,
        result: Result<String, String>,
        now: Time,
        config: &Config,
    ) -> Vec<Step> {
        match (&mut self.phase, hook, result) {
            (Phase::Preparing { staged, .. }, Hook::Before, result) if staged.offer.release().bundle == bundle => {
                let staged = staged.clone();
                match result {
                    Ok(said) => self.begin(*staged, last_bytes(&said, MAX_SAID)),
                    Err(why) => self.not_prepared(why, now, config),
                }
            }
            (Phase::Finishing { confirmed, .. }, Hook::After, result) if self.record.trial_bundle() == Some(bundle) => {
                let confirmed = *confirmed;
                match result {
                    Ok(said) => {
                        self.heard(&said);
                        if confirmed { self.confirmed() } else { self.ask_for_confirmation(now) }
                    }
                    Err(why) => self.back(why),
                }
            }
            _ => Vec::new(),
        }
    }

    /// The hook before the switch said no, or nothing: nothing was changed, and it is tried again later, a few times.
    pub(super) fn not_prepared(&mut self, why: String, now: Time, config: &Config) -> Vec<Step> {
        let Phase::Preparing { staged, failures, .. } = &self.phase else { return Vec::new() };
        let (staged, failures) = (staged.clone(), failures.saturating_add(1));
        self.failed(&staged, failures, why, failures >= self.install.attempts, now, config)
    }

    /// Adds what a hook wrote to what the receipt says.
    fn heard(&mut self, words: &str) {
        if let Some(trial) = &mut self.record.trial {
            let between = if trial.said.is_empty() || words.is_empty() { "" } else { "\n" };
            trial.said = last_bytes(&format!("{}{between}{words}", trial.said), MAX_SAID);
        }
    }
}
