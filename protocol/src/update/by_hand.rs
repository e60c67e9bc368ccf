//! What someone at the device may do to an update: put it off, go back to the version before, and let it try again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Phase, Report, Step, Then, Update};
use crate::{
    Shared, Time, Wall,
    fact::UpdateStep,
    receipt::Outcome,
    record::{Deferred, Installed},
    release::Release,
    rules::Urgency,
    time::in_words,
};

/// Why something is not done as someone at the device wants it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refused {
    /// The app is not installed here.
    #[error("this device does not install the app")]
    NotInstalled,
    /// Something else is under way.
    #[error("an update is under way ({0}); try again when it is over")]
    Busy(String),
    /// There is no version to go back to.
    #[error("there is no version before it to go back to")]
    NothingBefore,
    /// No release is under way.
    #[error("there is no release to put off")]
    NothingToDefer,
    /// The release does not wait for anybody.
    #[error("{0} is critical: it can't be put off")]
    Critical(String),
    /// It would be put off for longer than is allowed.
    #[error("{version} may be put off for {} in all, and for {} from now on", in_words(*.limit), in_words(*.left))]
    TooLong {
        /// Which version.
        version: String,
        /// For how long in all.
        limit: Duration,
        /// What is left of that.
        left: Duration,
    },
    /// There is no clock to wait by.
    #[error("this device has no clock to put it off by")]
    NoClock,
    /// It could not be written down.
    #[error("it could not be written down: {0}")]
    Storage(String),
}

impl Update {
    /// Puts the release that is under way off, for so long from `now`.
    pub(crate) fn defer(&mut self, time: Duration, now: Option<Wall>) -> Result<Vec<Step>, Refused> {
        let release = self.needs().ok_or(Refused::NothingToDefer)?;
        let (id, release) = (release.id(), release.release());
        let version = release.version.clone();
        if release.rules.urgency == Urgency::Critical {
            return Err(Refused::Critical(version));
        }
        let limit = self.install.defer.min(release.rules.defer.map_or(Duration::MAX, Duration::from_secs));
        let now = now.ok_or(Refused::NoClock)?;
        let before = self.record.deferred.as_ref().filter(|deferred| deferred.id == id);
        // A clock that was set back does not make it longer.
        let since = before.map_or(now, |deferred| deferred.since.min(now));
        let used = Duration::from_secs(u64::try_from(now.0.saturating_sub(since.0)).unwrap_or_default());
        let left = limit.saturating_sub(used);
        if time > left {
            return Err(Refused::TooLong { version, limit, left });
        }
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        self.record.deferred = Some(Box::new(Deferred { id, since, until: Wall(now.0.saturating_add(seconds)) }));
        Ok(vec![Step::Over])
    }

    /// Until when a release is put off. A clock that was set back does not make it longer than the limit.
    pub(crate) fn deferred(&self, release: &Release, now: Wall) -> Option<Wall> {
        let of = |deferred: &&Deferred| deferred.id.channel == release.channel && deferred.id.seq == release.seq;
        let deferred = self.record.deferred.as_deref().filter(of)?;
        let left = u64::try_from(deferred.until.0.saturating_sub(now.0)).ok().map(Duration::from_secs)?;
        (!left.is_zero() && left <= self.install.defer).then_some(deferred.until)
    }

    /// Goes back to the last good version, and takes nothing else until it is told to try again.
    pub(crate) fn roll_back(&mut self, issued: Wall) -> Result<Vec<Step>, Refused> {
        if matches!(self.phase, Phase::Finishing { .. } | Phase::OnTrial { .. }) {
            self.record.held = true;
            return Ok(self.back("taken back by hand".to_owned()));
        }
        if !self.is_open() {
            return Err(Refused::Busy(self.phase().to_owned()));
        }
        let active = self.record.active.clone().ok_or(Refused::NothingBefore)?;
        let target = self.before(&active).ok_or(Refused::NothingBefore)?;
        self.record.previous.retain(|previous| previous.bundle != target.bundle);
        self.record.active = Some(target.clone());
        self.record.held = true;
        self.remember_bad(active.id.clone());
        self.record.counter = self.record.counter.saturating_add(1);
        let reason = "taken back by hand".to_owned();
        let step = UpdateStep::RolledBack { to: Some(target.version.clone()), why: reason.clone() };
        let report = Box::new(Report {
            release: active.id.clone(),
            version: active.version.clone(),
            bundle: active.bundle,
            issued,
            outcome: Outcome::RolledBack { reason },
            sources: Vec::new(),
            took_ms: 0,
            said: String::new(),
        });
        let then = Then::Resume(Some(Box::new((step, active.version.clone()))));
        self.phase = Phase::Saving { then, report: Some(report.clone()), again: None };
        Ok(vec![Step::SaveOutcome(report)])
    }

    /// What failed here may be tried again, and nothing is held by hand any more.
    pub(crate) fn retry(&mut self, now: Time) -> Result<Vec<Step>, Refused> {
        if !self.is_open() {
            return Err(Refused::Busy(self.phase().to_owned()));
        }
        self.record.held = false;
        self.record.bad.clear();
        self.record.deferred = None;
        if let Phase::Resting { failures, until, .. } = &mut self.phase {
            (*failures, *until) = (0, now);
        }
        Ok(vec![Step::Over])
    }

    /// The version that stands in for one that is no good: the one before it, or the first of all.
    pub(super) fn before(&self, lost: &Installed) -> Option<Shared<Installed>> {
        let mut all = self.record.previous.iter().chain(&self.record.factory);
        all.find(|installed| installed.bundle != lost.bundle).cloned()
    }
}
