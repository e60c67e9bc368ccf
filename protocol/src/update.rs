//! One app's update on this device: fetch, stage, switch, confirm or go back, and say how it ended.
//!
//! A switch is written down before it happens ([`Trial`]) and its outcome before it is told, so whatever moment a
//! crash picks, the restart knows where it stands: a trial goes on or goes back, and `current` is never in doubt.
//!
//! Commands around a switch are in `update/hooks.rs`, what people at the device may do in `update/by_hand.rs`, and what is
//! asked of the agent in `update/step.rs`.

mod by_hand;
mod hooks;
mod step;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    Hash, NodeId, Shared, Time,
    action::StageFailure,
    config::{Config, Confirm, Install, MAX_BAD},
    fact::UpdateStep,
    fetch::Complete,
    policy::{Offer, Skip},
    receipt::{Outcome, last_words},
    record::{AppRecord, Installed, ReleaseId, Trial},
    release::Release,
    trust::Memory,
};
pub use by_hand::Refused;
pub use hooks::Hook;
pub use step::{Report, Step};

/// A command that the driver does not report on is taken for failed this long after its own limit.
const HEALTH_GRACE: Duration = Duration::from_secs(5);

/// A bundle that is unpacked and verified on this device. Made from a whole payload alone.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Staged {
    offer: Offer,
    sources: Vec<(NodeId, u64)>,
    took: Duration,
}

/// What follows once the record is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Then {
    Switch,
    Return,
    End(#[serde(with = "crate::flight::json")] Told),
    /// Make the active version current, which is another one than before; then tell.
    Resume(#[serde(with = "crate::flight::json")] Option<Told>),
}

/// What is told in the end, and of which version.
type Told = Box<(UpdateStep, String)>;

#[derive(Debug, Serialize, Deserialize)]
enum Phase {
    Idle,
    /// `current` is made to name the active bundle, after a start, or when that is another one; then it is told.
    Resuming {
        #[serde(with = "crate::flight::json")]
        told: Option<Told>,
    },
    Fetching {
        offer: Offer,
        failures: u8,
    },
    Staging {
        staged: Box<Staged>,
        failures: u8,
    },
    /// It is in its slot, and waits for its moment.
    Ready {
        staged: Box<Staged>,
        failures: u8,
        /// When time alone may bring the moment.
        again: Option<Time>,
    },
    /// A try failed for a reason of this machine: the offer waits.
    Resting {
        offer: Offer,
        failures: u8,
        until: Time,
    },
    Saving {
        then: Then,
        report: Option<Box<Report>>,
        /// When to try again, after the store failed.
        again: Option<Time>,
    },
    /// The hook before the switch runs; nothing is changed yet.
    Preparing {
        staged: Box<Staged>,
        failures: u8,
        until: Time,
    },
    Switching,
    /// On trial, while the hook after the switch runs.
    Finishing {
        until: Time,
        /// Whether the app said already that it works.
        confirmed: bool,
    },
    OnTrial {
        until: Time,
    },
    Returning {
        /// How often the switch failed.
        failures: u8,
        /// When to try again.
        again: Option<Time>,
    },
}

/// Why it takes nothing, if it was decided so: most of the time, as it has the newest.
#[derive(Debug, Serialize, Deserialize)]
enum Why {
    Undecided,
    UpToDate,
    Else(Box<Skip>),
}

/// The update of one app.
#[derive(Debug, Serialize, Deserialize)]
pub struct Update {
    install: Shared<Install>,
    record: AppRecord,
    phase: Phase,
    why: Why,
    /// Whether all since the start was here already, so that a switch still belongs to the start.
    starting: bool,
}

impl Update {
    /// Takes up where the record says, after a start. Call [`Update::resume`] next.
    #[must_use]
    pub fn new(install: Shared<Install>, record: AppRecord) -> Self {
        let mut update = Self { install, record, phase: Phase::Idle, why: Why::Undecided, starting: true };
        // Fewer may be kept since.
        update.keep_few();
        update
    }

    /// The lasting part.
    #[must_use]
    pub fn record(&self) -> &AppRecord {
        &self.record
    }

    /// What is installed is described in the memory's words, if it has the same: a fleet has few.
    pub(crate) fn share(&mut self, memory: &mut Memory) {
        let AppRecord { active, previous, factory, .. } = &mut self.record;
        active.iter_mut().chain(previous).chain(factory).for_each(|installed| memory.share(installed));
    }

    /// How it is installed.
    #[must_use]
    pub fn install(&self) -> &Install {
        &self.install
    }

    /// It is installed otherwise from now on; what is under way goes on until the next decision.
    pub fn install_as(&mut self, install: Shared<Install>) {
        self.install = install;
    }

    /// Why it takes nothing, if it was decided so.
    #[must_use]
    pub fn skip(&self) -> Option<&Skip> {
        match &self.why {
            Why::Undecided => None,
            Why::UpToDate => Some(&Skip::UpToDate),
            Why::Else(skip) => Some(skip),
        }
    }

    /// It takes nothing for this reason, or takes something; returns whether that is news.
    pub fn skips(&mut self, skip: Option<Skip>) -> bool {
        let news = self.skip() != skip.as_ref();
        if news {
            self.why = match skip {
                None => Why::Undecided,
                Some(Skip::UpToDate) => Why::UpToDate,
                Some(skip) => Why::Else(Box::new(skip)),
            };
        }
        news
    }

    /// What is under way, in a word for people.
    #[must_use]
    pub fn phase(&self) -> &'static str {
        match &self.phase {
            Phase::Idle | Phase::Resuming { .. } => "idle",
            Phase::Fetching { .. } => "fetching",
            Phase::Staging { .. } => "staging",
            Phase::Ready { .. } => "staged, waiting",
            Phase::Resting { .. } => "waiting to try again",
            Phase::Saving { .. } => "saving",
            Phase::Preparing { .. } => "preparing",
            Phase::Switching => "switching",
            Phase::Finishing { .. } | Phase::OnTrial { .. } => "on trial",
            Phase::Returning { .. } => "rolling back",
        }
    }

    /// The offer whose payload is needed now.
    #[must_use]
    pub fn needs(&self) -> Option<&Offer> {
        match &self.phase {
            Phase::Fetching { offer, .. } | Phase::Resting { offer, .. } => Some(offer),
            Phase::Staging { staged, .. } | Phase::Ready { staged, .. } | Phase::Preparing { staged, .. } => {
                Some(&staged.offer)
            }
            _ => None,
        }
    }

    /// Whether a newer offer would be taken now.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Idle | Phase::Fetching { .. } | Phase::Resting { .. } | Phase::Ready { .. })
    }

    /// After a start: goes on with a trial, goes back from one, or makes sure of the active bundle.
    pub fn resume(&mut self, config: &Config) -> Vec<Step> {
        if let Some(trial) = &mut self.record.trial {
            trial.starts = trial.starts.saturating_add(1);
            let then = if trial.back.is_some() {
                Then::Return
            } else if trial.starts > config.max_trial_starts {
                trial.back = Some(format!("interrupted {} times before it was confirmed", trial.starts - 1));
                Then::Return
            } else {
                Then::Switch
            };
            return self.save(then);
        }
        let Some(active) = &self.record.active else { return Vec::new() };
        let step = Step::Switch(Some(active.bundle));
        self.phase = Phase::Resuming { told: None };
        vec![step]
    }

    /// A release was decided for. Taking the one that is under way already changes nothing but its rules.
    pub fn take(&mut self, new: Offer) -> Vec<Step> {
        let under_way = match &mut self.phase {
            Phase::Fetching { offer, .. } | Phase::Resting { offer, .. } => Some(offer),
            Phase::Ready { staged, .. } => Some(&mut staged.offer),
            _ => None,
        };
        if let Some(offer) = under_way.filter(|offer| offer.id() == new.id()) {
            *offer = new;
            return Vec::new();
        }
        if !self.is_open() {
            return Vec::new();
        }
        let offer = new;
        let version = offer.release().version.clone();
        self.phase = Phase::Fetching { offer, failures: 0 };
        vec![Step::Tell { version, step: UpdateStep::Chosen }, Step::Fetch]
    }

    /// Nothing is decided for any more: what was fetched or staged is let go.
    pub fn withdrawn(&mut self) -> Vec<Step> {
        self.starting = false;
        let Some(offer) = self.needs().filter(|_| self.is_open()) else { return Vec::new() };
        let version = offer.release().version.clone();
        let staged = matches!(self.phase, Phase::Ready { .. });
        self.phase = Phase::Idle;
        let mut steps = vec![Step::Tell { version, step: UpdateStep::Withdrawn }];
        steps.extend(staged.then(|| Step::Clean(self.slots())));
        steps.push(Step::Over);
        steps
    }

    /// A payload is whole here.
    pub fn complete(&mut self, payload: Complete, sources: Vec<(NodeId, u64)>, took: Duration) -> Vec<Step> {
        let Phase::Fetching { offer, failures } = &self.phase else { return Vec::new() };
        if offer.release().payload.blob != payload.blob {
            return Vec::new();
        }
        self.starting &= sources.is_empty();
        let offer = offer.clone();
        let staged = Box::new(Staged { offer: offer.clone(), sources, took });
        self.phase = Phase::Staging { staged, failures: *failures };
        vec![Step::Stage(offer)]
    }

    /// A staging ended.
    pub fn staged(&mut self, bundle: Hash, result: Result<(), StageFailure>, now: Time, config: &Config) -> Vec<Step> {
        let Phase::Staging { staged, failures } = &self.phase else { return Vec::new() };
        if staged.offer.release().bundle != bundle {
            return Vec::new();
        }
        let (why, final_failure) = match result {
            Ok(()) => return self.ready(),
            Err(StageFailure::Bad(why)) => (why, true),
            // Space comes back: the release is not to blame, however long that takes.
            Err(StageFailure::NoSpace(why)) => (why, false),
            Err(StageFailure::Other(why)) => (why, failures.saturating_add(1) >= self.install.attempts),
        };
        let (staged, failures) = (staged.clone(), failures.saturating_add(1));
        self.failed(&staged, failures, why, final_failure, now, config)
    }

    /// A release could not be installed: once and for all, or it is tried again after a while.
    fn failed(
        &mut self,
        staged: &Staged,
        failures: u8,
        why: String,
        for_good: bool,
        now: Time,
        config: &Config,
    ) -> Vec<Step> {
        let offer = staged.offer.clone();
        if for_good {
            return self.settle(Report {
                release: offer.id(),
                version: offer.release().version.clone(),
                bundle: offer.release().bundle,
                issued: offer.issued(),
                outcome: Outcome::Failed { reason: last_words(&why) },
                sources: staged.sources.clone(),
                took_ms: millis(staged.took),
                said: String::new(),
            });
        }
        let version = offer.release().version.clone();
        self.phase = Phase::Resting { offer, failures, until: now + backoff(config, failures) };
        vec![Step::Tell { version, step: UpdateStep::Failed { why, again: true } }]
    }

    fn ready(&mut self) -> Vec<Step> {
        let Phase::Staging { staged, failures } = std::mem::replace(&mut self.phase, Phase::Idle) else {
            return Vec::new();
        };
        let version = staged.offer.release().version.clone();
        self.phase = Phase::Ready { staged, failures, again: None };
        vec![Step::Tell { version, step: UpdateStep::Staged }, Step::Over]
    }

    /// The release that is being fetched.
    #[must_use]
    pub fn fetching(&self) -> Option<&Release> {
        if let Phase::Fetching { offer, .. } = &self.phase { Some(offer.release()) } else { None }
    }

    /// The release that is staged and may be switched to.
    #[must_use]
    pub fn staged_release(&self) -> Option<&Release> {
        if let Phase::Ready { staged, .. } = &self.phase { Some(staged.offer.release()) } else { None }
    }

    /// Whether the device has just started: all that is needed was here already.
    #[must_use]
    pub fn is_starting(&self) -> bool {
        self.starting
    }

    /// The staged release waits; it is decided on again at this time, if time changes anything.
    pub fn wait(&mut self, until: Option<Time>) {
        if let Phase::Ready { again, .. } = &mut self.phase {
            *again = until;
        }
    }

    /// A staged release goes on trial; `said` is what its hook wrote.
    fn begin(&mut self, staged: Staged, said: String) -> Vec<Step> {
        self.record.trial = Some(Box::new(Trial {
            repository: staged.offer.repository(),
            release: staged.offer.release().clone(),
            starts: 1,
            back: None,
            issued: staged.offer.issued(),
            sources: staged.sources,
            took_ms: millis(staged.took),
            said,
        }));
        self.save(Then::Switch)
    }

    /// The record that was to be saved is on disk.
    pub fn stored(&mut self) -> Vec<Step> {
        let Phase::Saving { then, .. } = &self.phase else { return Vec::new() };
        match then.clone() {
            Then::Switch => {
                self.phase = Phase::Switching;
                vec![Step::Switch(self.record.trial.as_ref().map(|trial| trial.release.bundle))]
            }
            Then::Return => self.go_back(),
            Then::End(told) => {
                self.phase = Phase::Idle;
                vec![tell(*told), Step::Clean(self.slots()), Step::Over]
            }
            Then::Resume(told) if self.record.active.is_some() => {
                self.phase = Phase::Resuming { told };
                vec![self.switch_back()]
            }
            Then::Resume(_) => {
                self.phase = Phase::Idle;
                vec![Step::Over]
            }
        }
    }

    /// The record could not be saved: nothing that rests on it happens until it is.
    pub fn store_failed(&mut self, now: Time, config: &Config) {
        if let Phase::Saving { again, .. } = &mut self.phase {
            *again = Some(now + config.retry_backoff.0);
        }
    }

    /// A receipt of this device came back from others: its numbers go on from there, whatever the record lost.
    pub fn counted(&mut self, counter: u64) {
        self.record.counter = self.record.counter.max(counter);
    }

    /// A switch ended.
    pub fn switched(
        &mut self,
        bundle: Option<Hash>,
        result: Result<(), String>,
        now: Time,
        config: &Config,
    ) -> Vec<Step> {
        let on_trial = bundle == self.record.trial_bundle();
        match (&mut self.phase, result) {
            (Phase::Resuming { told }, Ok(())) => {
                let told = told.take().map(|told| tell(*told));
                self.phase = Phase::Idle;
                told.into_iter().chain([Step::Clean(self.slots()), Step::Over]).collect()
            }
            (Phase::Resuming { .. }, Err(why)) => {
                // The slot is gone or was altered: the version before it stands in until the newest is installed anew.
                let lost = self.lose_active();
                let mut steps = vec![Step::Tell { version: lost, step: UpdateStep::Failed { why, again: true } }];
                steps.extend(self.save(Then::Resume(None)));
                steps
            }
            (Phase::Switching, Ok(())) if on_trial => self.begin_trial(now),
            (Phase::Switching, Err(why)) => self.back(format!("could not switch: {why}")),
            (Phase::Returning { .. }, Ok(())) => {
                let Some(trial) = self.record.trial.clone() else { return Vec::new() };
                let reason = last_words(&trial.back.clone().unwrap_or_default());
                self.settle(Report::of(*trial, Outcome::RolledBack { reason }))
            }
            (Phase::Returning { failures, again }, Err(why)) => {
                *failures = failures.saturating_add(1);
                *again = Some(now + config.retry_backoff.0);
                let is_lost = *failures >= self.install.attempts;
                let version =
                    self.record.trial.as_ref().map_or_else(String::new, |trial| trial.release.version.clone());
                let why = format!("could not switch back: {why}");
                let mut steps = vec![Step::Tell { version, step: UpdateStep::Failed { why, again: true } }];
                if is_lost {
                    // To the one before it, or to none: the way back must not end at a damaged slot.
                    self.lose_active();
                    steps.extend(self.save(Then::Return));
                }
                steps
            }
            _ => Vec::new(),
        }
    }

    fn begin_trial(&mut self, now: Time) -> Vec<Step> {
        let Some(trial) = &self.record.trial else { return Vec::new() };
        let (bundle, version) = (trial.release.bundle, trial.release.version.clone());
        let mut steps = vec![Step::Tell { version: version.clone(), step: UpdateStep::OnTrial }];
        if let Some(limit) = self.install.after {
            self.phase = Phase::Finishing { until: now + limit + HEALTH_GRACE, confirmed: false };
            steps.push(Step::RunHook { bundle, version, hook: Hook::After, limit });
        } else {
            steps.extend(self.ask_for_confirmation(now));
        }
        steps
    }

    fn ask_for_confirmation(&mut self, now: Time) -> Vec<Step> {
        let Some(trial) = &self.record.trial else { return Vec::new() };
        let (bundle, version) = (trial.release.bundle, trial.release.version.clone());
        match self.install.confirm {
            Confirm::Immediately => self.confirmed(),
            Confirm::Command(limit) => {
                self.phase = Phase::OnTrial { until: now + limit + HEALTH_GRACE };
                vec![Step::CheckHealth { bundle, version, limit }]
            }
            Confirm::Call(limit) => {
                self.phase = Phase::OnTrial { until: now + limit };
                Vec::new()
            }
        }
    }

    /// A health command ended.
    pub fn health(&mut self, bundle: Hash, healthy: bool, words: String) -> Vec<Step> {
        if !matches!(self.phase, Phase::OnTrial { .. }) || self.record.trial_bundle() != Some(bundle) {
            return Vec::new();
        }
        if healthy { self.confirmed() } else { self.back(words) }
    }

    /// The app says that it works; that counts while it is on trial and waits for a call.
    pub fn confirm(&mut self) -> Vec<Step> {
        if !matches!(self.install.confirm, Confirm::Call(_)) {
            return Vec::new();
        }
        match &mut self.phase {
            Phase::OnTrial { .. } => self.confirmed(),
            Phase::Finishing { confirmed, .. } => {
                *confirmed = true;
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// Time passed.
    pub fn wake(&mut self, now: Time, config: &Config) -> Vec<Step> {
        match &mut self.phase {
            Phase::Preparing { until, .. } if *until <= now => {
                self.not_prepared("the hook `before` was lost".to_owned(), now, config)
            }
            Phase::Finishing { until, .. } if *until <= now => self.back("the hook `after` was lost".to_owned()),
            Phase::OnTrial { until } if *until <= now => self.back("not confirmed in time".to_owned()),
            Phase::Resting { offer, failures, until } if *until <= now => {
                self.phase = Phase::Fetching { offer: offer.clone(), failures: *failures };
                vec![Step::Fetch]
            }
            Phase::Saving { again, report, .. } if again.is_some_and(|again| again <= now) => {
                *again = None;
                vec![report.clone().map_or(Step::Save, Step::SaveOutcome)]
            }
            Phase::Returning { again, .. } if again.is_some_and(|again| again <= now) => {
                *again = None;
                vec![self.switch_back()]
            }
            Phase::Ready { again, .. } if again.is_some_and(|again| again <= now) => {
                *again = None;
                vec![Step::Over]
            }
            _ => Vec::new(),
        }
    }

    /// When [`Update::wake`] has something to do.
    #[must_use]
    pub fn wake_at(&self) -> Option<Time> {
        match &self.phase {
            Phase::OnTrial { until }
            | Phase::Preparing { until, .. }
            | Phase::Finishing { until, .. }
            | Phase::Resting { until, .. } => Some(*until),
            Phase::Saving { again, .. } | Phase::Returning { again, .. } | Phase::Ready { again, .. } => *again,
            _ => None,
        }
    }

    fn confirmed(&mut self) -> Vec<Step> {
        let Some(trial) = self.record.trial.clone() else { return Vec::new() };
        self.settle(Report::of(*trial, Outcome::Active))
    }

    fn back(&mut self, why: String) -> Vec<Step> {
        if let Some(trial) = &mut self.record.trial {
            trial.back = Some(why);
        }
        self.save(Then::Return)
    }

    fn go_back(&mut self) -> Vec<Step> {
        self.phase = Phase::Returning { failures: 0, again: None };
        vec![self.switch_back()]
    }

    fn switch_back(&self) -> Step {
        Step::Switch(self.record.active.as_ref().map(|active| active.bundle))
    }

    /// The active version's slot is of no use: the one before it is active then, or none. Returns which it was.
    fn lose_active(&mut self) -> String {
        let before = self.record.active.as_ref().and_then(|active| self.before(active));
        if let Some(before) = &before {
            self.record.previous.retain(|previous| previous.bundle != before.bundle);
        }
        let lost = std::mem::replace(&mut self.record.active, before);
        lost.map_or_else(String::new, |lost| lost.version.clone())
    }

    /// Forgets earlier versions beyond what may be kept of them; their slots go with the next cleaning.
    fn keep_few(&mut self) {
        let mut bytes = 0_u64;
        let fits = |version: &&Shared<Installed>| {
            bytes = bytes.saturating_add(version.bytes);
            self.install.keep_bytes.is_none_or(|most| bytes <= most)
        };
        let kept = self.record.previous.iter().take(self.install.keep.into()).take_while(fits).count();
        self.record.previous.truncate(kept);
    }

    fn save(&mut self, then: Then) -> Vec<Step> {
        self.phase = Phase::Saving { then, report: None, again: None };
        vec![Step::Save]
    }

    /// Writes the outcome into the record; it is told once that is on disk.
    fn settle(&mut self, report: Report) -> Vec<Step> {
        let report = Box::new(report);
        let (id, version) = (report.release.clone(), report.version.clone());
        let step = match &report.outcome {
            Outcome::Active => {
                let bytes = self.record.trial.as_ref().map_or(0, |trial| trial.release.unpacked);
                let new = Shared::from(Installed { id, version: version.clone(), bundle: report.bundle, bytes });
                self.record.factory.get_or_insert_with(|| new.clone());
                if let Some(old) = self.record.active.replace(new) {
                    self.record.previous.retain(|previous| previous.bundle != old.bundle);
                    self.record.previous.insert(0, old);
                }
                self.keep_few();
                UpdateStep::Active
            }
            Outcome::RolledBack { reason } => {
                self.remember_bad(id);
                let to = self.record.active.as_ref().map(|active| active.version.clone());
                UpdateStep::RolledBack { to, why: reason.clone() }
            }
            Outcome::Failed { reason } => {
                self.remember_bad(id);
                UpdateStep::Failed { why: reason.clone(), again: false }
            }
        };
        self.record.trial = None;
        self.record.deferred = None;
        self.starting = false;
        // A damaged record is the only way to the last number.
        self.record.counter = self.record.counter.saturating_add(1);
        self.phase =
            Phase::Saving { then: Then::End(Box::new((step, version))), report: Some(report.clone()), again: None };
        vec![Step::SaveOutcome(report)]
    }

    fn remember_bad(&mut self, id: ReleaseId) {
        self.record.bad.push(id);
        if self.record.bad.len() > MAX_BAD {
            self.record.bad.remove(0);
        }
    }

    /// The slots that stay: the active one and those to go back to, the first of all among them.
    fn slots(&self) -> Vec<Hash> {
        let AppRecord { active, previous, factory, .. } = &self.record;
        active.iter().chain(previous).chain(factory).map(|installed| installed.bundle).collect()
    }
}

fn tell((step, version): (UpdateStep, String)) -> Step {
    Step::Tell { version, step }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn backoff(config: &Config, failures: u8) -> Duration {
    let (shortest, longest) = config.retry_backoff;
    longest.min(shortest * 2u32.pow(u32::from(failures.saturating_sub(1)).min(16)))
}
