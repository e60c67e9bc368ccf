//! Facts, counted and timed.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use burr_protocol::{
    Wall,
    fact::{Fact, UpdateStep},
    peers::Lie,
    receipt::Outcome,
};

/// Apps whose steps are counted at most; a device installs fewer.
const MAX_APPS: usize = burr_protocol::config::MAX_FOLLOWS;

/// Files that take disk beside the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    /// What the gateway made of payloads for apps.
    Gateway,
    /// Parts of payloads from web servers.
    Upstreams,
}

/// How often each thing happened since the node's start.
#[derive(Debug, Default)]
pub struct Tally {
    /// Announcements that gossip brought: all, and those that were not here.
    pub(crate) announcements: (u64, u64),
    apps: BTreeMap<String, OfApp>,
    /// See `METRICS`.
    pub(super) metadata_delay: Duration,
    pub(super) verifying: Duration,
    pub(super) fetching: Duration,
    receipts: [u64; OUTCOMES.len()],
    lies: [u64; LIES.len()],
    pub(super) gateway_held: u64,
    pub(super) upstream_held: u64,
    pub(super) fetches_started: u64,
    pub(super) fetches_completed: u64,
    pub(super) fetches_left: u64,
    pub(super) provider_failures: u64,
    pub(super) upstreams_took: u64,
    pub(super) upstream_failures: u64,
    pub(super) conditions_unknown: u64,
    pub(super) no_room: u64,
    pub(super) budgets_used_up: u64,
    pub(super) waits: u64,
    pub(super) metadata_verified: u64,
    pub(super) imports_refused: u64,
    pub(super) histories_forked: u64,
    pub(super) halts: u64,
    pub(super) connections: u64,
    pub(super) disconnections: u64,
    pub(super) no_place: u64,
    pub(super) dismissed: u64,
    pub(super) turned_away: u64,
    pub(super) expelled: u64,
    pub(super) storage_failures: u64,
    pub(super) store_rebuilt: u64,
    pub(super) records_dropped: u64,
}

/// How often an app's update came to each step, and what that took.
#[derive(Debug, Default)]
struct OfApp {
    steps: [u64; STEPS.len()],
    times: Times,
    chosen: Option<Instant>,
    staging: Option<Instant>,
    on_trial: Option<Instant>,
}

/// What an app's updates took, over all.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Times {
    pub(super) staging: Duration,
    pub(super) trials: Duration,
    pub(super) updates: Duration,
}

const STEPS: [&str; 7] = ["chosen", "withdrawn", "staged", "on_trial", "active", "rolled_back", "failed"];
const OUTCOMES: [&str; 3] = ["active", "rolled_back", "failed"];
const LIES: [&str; 4] = ["altered_bytes", "forged_metadata", "forged_receipt", "garbage"];

impl Tally {
    /// Counts a fact that is told now.
    pub fn add(&mut self, fact: &Fact, now: Instant, wall: Option<Wall>) {
        match fact {
            Fact::FetchCompleted { took_ms, .. } => self.fetching += Duration::from_millis(*took_ms),
            Fact::MetadataVerified { issued, .. } => {
                // A clock that is behind says nothing.
                let delay = wall.and_then(|wall| u64::try_from(wall.0.saturating_sub(issued.0)).ok());
                self.metadata_delay += Duration::from_secs(delay.unwrap_or_default());
            }
            _ => {}
        }
        let count = match fact {
            // The state that a gauge shows.
            Fact::FetchProgress { .. } => return,
            Fact::Update { app, step, .. } => return self.step(app, step, now),
            Fact::ReceiptKept { outcome, .. } => &mut self.receipts[outcome_at(outcome)],
            Fact::PeerRefused { lie, .. } => &mut self.lies[lie_at(*lie)],
            Fact::PeerConnected { .. } => &mut self.connections,
            Fact::PeerDisconnected { .. } => &mut self.disconnections,
            Fact::PeerDismissed { .. } => &mut self.dismissed,
            Fact::TurnedAway { .. } => &mut self.turned_away,
            Fact::MemberExpelled { .. } => &mut self.expelled,
            Fact::NoPlace { .. } => &mut self.no_place,
            Fact::MetadataVerified { .. } => &mut self.metadata_verified,
            Fact::HistoryForked { .. } => &mut self.histories_forked,
            Fact::Halted { .. } => &mut self.halts,
            Fact::ImportRefused { .. } => &mut self.imports_refused,
            Fact::Waiting { .. } => &mut self.waits,
            Fact::FetchStarted { .. } => &mut self.fetches_started,
            Fact::FetchCompleted { .. } => &mut self.fetches_completed,
            Fact::FetchLeft { .. } => &mut self.fetches_left,
            Fact::ProviderFailed { .. } => &mut self.provider_failures,
            Fact::UpstreamTook { .. } => &mut self.upstreams_took,
            Fact::UpstreamFailed { .. } => &mut self.upstream_failures,
            Fact::ConditionsUnknown { .. } => &mut self.conditions_unknown,
            Fact::NoRoom { .. } => &mut self.no_room,
            Fact::BudgetUsedUp { .. } => &mut self.budgets_used_up,
            Fact::StorageFailed { .. } => &mut self.storage_failures,
            Fact::StoreRebuilt { .. } => &mut self.store_rebuilt,
            Fact::RecordDropped { .. } => &mut self.records_dropped,
        };
        *count += 1;
    }

    fn step(&mut self, app: &str, step: &UpdateStep, now: Instant) {
        let Some(of) = self.of(app) else { return };
        let since = |begun: &mut Option<Instant>| begun.take().map_or(Duration::ZERO, |begun| now - begun);
        let at = match step {
            UpdateStep::Chosen => {
                of.chosen = Some(now);
                0
            }
            UpdateStep::Withdrawn => 1,
            UpdateStep::Staged => {
                of.times.staging += since(&mut of.staging);
                2
            }
            UpdateStep::OnTrial => {
                of.on_trial = Some(now);
                3
            }
            UpdateStep::Active => {
                of.times.trials += since(&mut of.on_trial);
                of.times.updates += since(&mut of.chosen);
                4
            }
            UpdateStep::RolledBack { .. } => 5,
            UpdateStep::Failed { .. } => 6,
        };
        of.steps[at] += 1;
    }

    /// Newer metadata was verified, which took so long.
    pub fn verified(&mut self, took: Duration) {
        self.verifying += took;
    }

    /// Files beside the store take so many bytes of disk now.
    pub fn holds(&mut self, which: Beside, bytes: u64) {
        match which {
            Beside::Gateway => self.gateway_held = bytes,
            Beside::Upstreams => self.upstream_held = bytes,
        }
    }

    /// Something of an app begins to be staged.
    pub fn stages(&mut self, app: &str, now: Instant) {
        if let Some(of) = self.of(app) {
            of.staging = Some(now);
        }
    }

    fn of(&mut self, app: &str) -> Option<&mut OfApp> {
        let has_room = self.apps.len() < MAX_APPS || self.apps.contains_key(app);
        has_room.then(|| self.apps.entry(app.to_owned()).or_default())
    }

    /// How often an app's update came to each step.
    pub(super) fn steps(&self, app: &str) -> impl Iterator<Item = (&'static str, u64)> {
        STEPS.into_iter().zip(self.apps.get(app).map(|of| of.steps).unwrap_or_default())
    }

    /// What an app's updates took.
    pub(super) fn times(&self, app: &str) -> Times {
        self.apps.get(app).map(|of| of.times).unwrap_or_default()
    }

    /// How many receipts of each outcome were kept.
    pub(super) fn receipts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        OUTCOMES.into_iter().zip(self.receipts)
    }

    /// How many nodes were refused for each lie.
    pub(super) fn lies(&self) -> impl Iterator<Item = (&'static str, u64)> {
        LIES.into_iter().zip(self.lies)
    }
}

fn outcome_at(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Active => 0,
        Outcome::RolledBack { .. } => 1,
        Outcome::Failed { .. } => 2,
    }
}

fn lie_at(lie: Lie) -> usize {
    match lie {
        Lie::AlteredBytes => 0,
        Lie::ForgedMetadata => 1,
        Lie::ForgedReceipt => 2,
        Lie::Garbage => 3,
    }
}
