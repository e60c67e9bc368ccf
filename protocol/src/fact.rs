//! What people are told. The only output that carries no duty: drivers turn facts into logs, metrics, progress and
//! curves, and nothing hangs on them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Hash, NodeId, RepositoryId, Wall, peers::Lie, receipt::Outcome, rules::Tally};

/// Something that happened and that someone may want to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub enum Fact {
    /// A node is connected.
    PeerConnected {
        /// Who.
        node: NodeId,
    },
    /// A node is gone.
    PeerDisconnected {
        /// Who.
        node: NodeId,
    },
    /// A node lied; it is not dealt with again.
    PeerRefused {
        /// Who.
        node: NodeId,
        /// In which way.
        lie: Lie,
        /// The proof, in words.
        why: String,
    },
    /// A node was not admitted to this closed mesh.
    PeerDismissed {
        /// Who.
        node: NodeId,
        /// Why.
        why: String,
    },
    /// Another node did not admit this one to its closed mesh.
    TurnedAway {
        /// Who said so.
        node: NodeId,
        /// Its words.
        why: String,
    },
    /// A connected member is none any more.
    MemberExpelled {
        /// Who.
        node: NodeId,
        /// Why.
        why: String,
    },
    /// A node that nobody here chose found no place: what is left is kept for those that this node chose.
    NoPlace {
        /// Who.
        node: NodeId,
    },
    /// Newer metadata was verified.
    MetadataVerified {
        /// Of which repository.
        repository: RepositoryId,
        /// Its timestamp version.
        version: u64,
        /// When it was signed.
        issued: Wall,
        /// Who brought it; nobody, if it was imported here.
        from: Option<NodeId>,
    },
    /// The publisher's keys signed two histories: a key is stolen, or the publisher shows different things to different
    /// devices. What was believed first stays believed.
    HistoryForked {
        /// Of which repository.
        repository: RepositoryId,
        /// Who brought the other one, in good faith perhaps; nobody, if it was imported here.
        from: Option<NodeId>,
        /// Where they part.
        why: String,
    },
    /// An import was refused.
    ImportRefused {
        /// Of which repository.
        repository: RepositoryId,
        /// Why.
        why: String,
    },
    /// Nothing is installed for now.
    Waiting {
        /// Which app.
        app: String,
        /// Why.
        why: String,
    },
    /// A fetch began.
    FetchStarted {
        /// Which blob.
        blob: Hash,
        /// Its size in bytes.
        size: u64,
        /// Bytes that were here already.
        held: u64,
    },
    /// A fetch moved on: one fact a request.
    FetchProgress {
        /// Which blob.
        blob: Hash,
        /// Bytes here now.
        held: u64,
        /// Its size in bytes.
        size: u64,
    },
    /// A blob is whole and verified.
    FetchCompleted {
        /// Which blob.
        blob: Hash,
        /// Its size in bytes.
        size: u64,
        /// Bytes by provider.
        sources: Vec<(NodeId, u64)>,
        /// Milliseconds it took.
        took_ms: u64,
    },
    /// A fetch was left before its end: the blob is not wanted here any more, or is not to be fetched now.
    FetchLeft {
        /// Which blob.
        blob: Hash,
    },
    /// A provider of a blob failed in a way that is its own; others are asked before it.
    ProviderFailed {
        /// Who.
        node: NodeId,
        /// Which blob.
        blob: Hash,
        /// How.
        why: String,
    },
    /// A blob came whole from a web server, since no peer had it.
    UpstreamTook {
        /// Which server.
        url: String,
        /// Which blob.
        blob: Hash,
        /// Its size in bytes.
        size: u64,
    },
    /// A web server could not be reached, broke off, or gave what it should not; the next is asked, and this one later.
    UpstreamFailed {
        /// Which server.
        url: String,
        /// How.
        why: String,
    },
    /// What measures the device's condition failed: nothing that it said before counts, until it says something again.
    ConditionsUnknown {
        /// How.
        why: String,
    },
    /// A blob does not fit under the quota.
    NoRoom {
        /// Which blob.
        blob: Hash,
        /// Its size in bytes.
        size: u64,
        /// The quota in bytes.
        quota: u64,
    },
    /// The bytes that this node may use in a month are used: nothing more crosses its uplink until the next.
    BudgetUsedUp {
        /// Which month, as in 2026-11.
        month: String,
        /// The bytes.
        cap: u64,
    },
    /// A version is staged, or goes on trial, or an update ended.
    Update {
        /// Which app.
        app: String,
        /// Which version.
        version: String,
        /// How far.
        step: UpdateStep,
    },
    /// A release failed on more devices than its publisher permits: nobody here begins to take it any more.
    Halted {
        /// Whose.
        repository: RepositoryId,
        /// Of which app.
        app: String,
        /// On which channel.
        channel: String,
        /// Which version.
        version: String,
        /// How it fared, by what is known here.
        tally: Tally,
    },
    /// A receipt is kept here.
    ReceiptKept {
        /// Of which device.
        device: NodeId,
        /// Which app.
        app: String,
        /// Which version.
        version: String,
        /// What it says.
        outcome: Outcome,
    },
    /// The store failed; what depends on it waits, and it is tried again.
    StorageFailed {
        /// Why.
        why: String,
    },
    /// A damaged part of the store was set aside and made anew.
    StoreRebuilt {
        /// Which, why, and where it is now.
        why: String,
    },
    /// A record from before the restart was of no use and was left out.
    RecordDropped {
        /// Which, and why.
        why: String,
    },
}

/// How far an update is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum UpdateStep {
    /// The release was chosen.
    Chosen,
    /// It is not to be taken any more, by its publisher's rules.
    Withdrawn,
    /// Its bundle is unpacked and verified.
    Staged,
    /// It is the current one, on trial.
    OnTrial,
    /// It is confirmed.
    Active,
    /// It was bad; the device returned.
    RolledBack {
        /// To which version; none if there was none.
        to: Option<String>,
        /// Why.
        why: String,
    },
    /// It could not be installed.
    Failed {
        /// Why.
        why: String,
        /// Whether it is tried again.
        again: bool,
    },
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PeerConnected { node } => write!(f, "connected to {}", node.short()),
            Self::PeerDisconnected { node } => write!(f, "lost {}", node.short()),
            Self::PeerRefused { node, lie, why } => write!(f, "refused {} for {lie}: {why}", node.short()),
            Self::PeerDismissed { node, why } => write!(f, "did not admit {}: {why}", node.short()),
            Self::TurnedAway { node, why } => write!(f, "not admitted by {}: {why}", node.short()),
            Self::MemberExpelled { node, why } => write!(f, "cut off {}: {why}", node.short()),
            Self::NoPlace { node } => {
                write!(f, "no place for {}: what is left is kept for peers that this node chose", node.short())
            }
            Self::MetadataVerified { repository, version, from, .. } => {
                write!(f, "verified metadata {version} of {}", repository.short())?;
                from.map_or(Ok(()), |from| write!(f, " from {}", from.short()))
            }
            Self::HistoryForked { repository, from, why } => {
                write!(f, "two histories of {}: {why}", repository.short())?;
                from.map_or(Ok(()), |from| write!(f, " (brought by {})", from.short()))
            }
            Self::ImportRefused { repository, why } => write!(f, "import of {} refused: {why}", repository.short()),
            Self::Waiting { app, why } => write!(f, "{app}: {why}"),
            Self::FetchStarted { blob, size, held } => {
                write!(f, "fetching {} ({size} bytes, {held} of them here)", blob.short())
            }
            Self::FetchProgress { blob, held, size } => write!(f, "fetching {}: {held} of {size} bytes", blob.short()),
            Self::FetchCompleted { blob, size, sources, took_ms } => {
                write!(f, "fetched {} ({size} bytes) in {took_ms} ms from", blob.short())?;
                sources.iter().try_for_each(|(node, bytes)| write!(f, " {} ({bytes})", node.short()))
            }
            Self::FetchLeft { blob } => write!(f, "fetches {} no longer", blob.short()),
            Self::ProviderFailed { node, blob, why } => {
                write!(f, "{} is no good provider of {}: {why}", node.short(), blob.short())
            }
            Self::UpstreamTook { url, blob, size } => write!(f, "took {} ({size} bytes) from {url}", blob.short()),
            Self::UpstreamFailed { url, why } => write!(f, "the upstream {url} failed: {why}"),
            Self::ConditionsUnknown { why } => {
                write!(f, "conditions.command failed, so the device's condition is not known: {why}")
            }
            Self::NoRoom { blob, size, quota } => {
                write!(
                    f,
                    "{} ({size} bytes) does not fit under the quota of {quota} bytes; raise `quota`",
                    blob.short()
                )
            }
            Self::BudgetUsedUp { month, cap } => {
                write!(f, "the {cap} bytes of {month} are used up: other sites wait until the next month")
            }
            Self::Update { app, version, step } => write!(f, "{app} {version}: {step}"),
            Self::Halted { app, channel, version, tally, .. } => {
                write!(f, "{app} {version} on {channel} halts by its own rules: {tally}")
            }
            Self::ReceiptKept { device, app, version, outcome } => {
                write!(f, "receipt of {}: {app} {version} {outcome}", device.short())
            }
            Self::StorageFailed { why } => write!(f, "the store failed, trying again: {why}"),
            Self::StoreRebuilt { why } => f.write_str(why),
            Self::RecordDropped { why } => write!(f, "{why}; it is left out"),
        }
    }
}

impl fmt::Display for UpdateStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chosen => write!(f, "chosen"),
            Self::Withdrawn => write!(f, "let go, as it is not to be taken any more"),
            Self::Staged => write!(f, "staged"),
            Self::OnTrial => write!(f, "on trial"),
            Self::Active => write!(f, "active"),
            Self::RolledBack { to: Some(to), why } => write!(f, "rolled back to {to}: {why}"),
            Self::RolledBack { to: None, why } => write!(f, "taken back: {why}"),
            Self::Failed { why, again } => {
                write!(f, "failed{}: {why}", if *again { ", trying again later" } else { "" })
            }
        }
    }
}

impl fmt::Display for Lie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AlteredBytes => "altered bytes",
            Self::ForgedMetadata => "forged metadata",
            Self::ForgedReceipt => "a forged receipt",
            Self::Garbage => "garbage",
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Active => write!(f, "active"),
            Self::RolledBack { reason } => write!(f, "rolled back: {reason}"),
            Self::Failed { reason } => write!(f, "failed: {reason}"),
        }
    }
}
