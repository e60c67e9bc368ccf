//! Facts, counted.

use std::collections::BTreeMap;

use burr_protocol::{
    fact::{Fact, UpdateStep},
    peers::Lie,
    receipt::Outcome,
};

/// Apps whose steps are counted at most; a device installs fewer.
const MAX_APPS: usize = burr_protocol::config::MAX_FOLLOWS;

/// How often each thing happened since the node's start.
#[derive(Debug, Default)]
pub struct Tally {
    steps: BTreeMap<String, [u64; STEPS.len()]>,
    receipts: [u64; OUTCOMES.len()],
    lies: [u64; LIES.len()],
    pub(super) fetches_started: u64,
    pub(super) fetches_completed: u64,
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

const STEPS: [&str; 7] = ["chosen", "withdrawn", "staged", "on_trial", "active", "rolled_back", "failed"];
const OUTCOMES: [&str; 3] = ["active", "rolled_back", "failed"];
const LIES: [&str; 4] = ["altered_bytes", "forged_metadata", "forged_receipt", "garbage"];

impl Tally {
    /// Counts a fact.
    pub fn add(&mut self, fact: &Fact) {
        let count = match fact {
            // The state that a gauge shows.
            Fact::FetchProgress { .. } => return,
            Fact::Update { app, step, .. } => return self.step(app, step),
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

    fn step(&mut self, app: &str, step: &UpdateStep) {
        let at = match step {
            UpdateStep::Chosen => 0,
            UpdateStep::Withdrawn => 1,
            UpdateStep::Staged => 2,
            UpdateStep::OnTrial => 3,
            UpdateStep::Active => 4,
            UpdateStep::RolledBack { .. } => 5,
            UpdateStep::Failed { .. } => 6,
        };
        if self.steps.len() < MAX_APPS || self.steps.contains_key(app) {
            self.steps.entry(app.to_owned()).or_default()[at] += 1;
        }
    }

    /// How often an app's update came to each step.
    pub(super) fn steps(&self, app: &str) -> impl Iterator<Item = (&'static str, u64)> {
        STEPS.into_iter().zip(self.steps.get(app).copied().unwrap_or_default())
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
