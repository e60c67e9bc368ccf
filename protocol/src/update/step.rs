//! What an update asks of the agent, and what it reports in the end.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Hook;
use crate::{
    Hash, NodeId, Wall,
    fact::UpdateStep,
    policy::Offer,
    receipt::Outcome,
    record::{ReleaseId, Trial},
};

/// What is asked of the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Get the payload of the current offer.
    Fetch,
    /// Unpack the payload.
    Stage(Offer),
    /// Write the record, then call [`Update::stored`](super::Update::stored).
    Save,
    /// Write the record together with a receipt of this, then call [`Update::stored`](super::Update::stored).
    SaveOutcome(Box<Report>),
    /// Make a bundle (or none) current.
    Switch(Option<Hash>),
    /// Run a hook.
    RunHook {
        /// On which bundle.
        bundle: Hash,
        /// Its version.
        version: String,
        /// Which.
        hook: Hook,
        /// Its time limit.
        limit: Duration,
    },
    /// Run the health command.
    CheckHealth {
        /// On which bundle.
        bundle: Hash,
        /// Its version.
        version: String,
        /// Its time limit.
        limit: Duration,
    },
    /// Remove all slots but these.
    Clean(Vec<Hash>),
    /// The update is over: its receipt may travel, and the next may be decided.
    Over,
    /// Tell people.
    Tell {
        /// About which version.
        version: String,
        /// What.
        step: UpdateStep,
    },
}

/// How an update ended: what its receipt says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Which release.
    pub release: ReleaseId,
    /// Its version.
    pub version: String,
    /// Its bundle.
    pub bundle: Hash,
    /// The issue time of the metadata that it was decided by.
    pub issued: Wall,
    /// How it ended.
    pub outcome: Outcome,
    /// Bytes by provider.
    pub sources: Vec<(NodeId, u64)>,
    /// Milliseconds from the decision to the switch.
    pub took_ms: u64,
    /// The end of what its hooks wrote.
    pub said: String,
}

impl Report {
    /// How a trial ended.
    pub(super) fn of(trial: Trial, outcome: Outcome) -> Self {
        Self {
            release: ReleaseId::of(trial.repository, &trial.release),
            version: trial.release.version,
            bundle: trial.release.bundle,
            issued: trial.issued,
            outcome,
            sources: trial.sources,
            took_ms: trial.took_ms,
            said: trial.said,
        }
    }
}
