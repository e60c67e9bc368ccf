//! How a node stands, for people and programs: a picture of the agent's state, taken by [`Agent::status`](crate::Agent::status).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Hash, NodeId, RepositoryId, Wall,
    budget::{Direction, Link, Traffic},
    cache::Stored,
    fetch::Job,
    member::{Capability, Certificate, MemberError},
    peers::Lie,
    policy::{Conditions, Skip},
    record::{Installed, ReleaseId},
    release::Release,
    rules::Tally,
    trust::Verified,
    update::Update,
};

/// A node's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Whose.
    pub node: NodeId,
    /// Its memberships of fleets: one a certificate.
    pub memberships: Vec<Membership>,
    /// Connected peers.
    pub peers: Vec<Peer>,
    /// Nodes that lied, and how.
    pub refused: Vec<(NodeId, Lie)>,
    /// Followed repositories.
    pub repositories: Vec<Repository>,
    /// Installed apps.
    pub apps: Vec<App>,
    /// Blobs in the store.
    pub blobs: Vec<Blob>,
    /// What the device is, for the rules of releases.
    pub attributes: std::collections::BTreeMap<String, String>,
    /// Releases that halt by their own rules, by what is known here.
    pub halted: Vec<Halted>,
    /// Bytes that blobs may take at most.
    pub quota: u64,
    /// What may be sent and taken.
    pub budget: Budget,
    /// What the device says of its own condition.
    pub conditions: Conditions,
}

/// What may be sent and taken now, and what was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Each link that there is now, in each direction.
    pub limits: Vec<Limit>,
    /// The month, as in 2026-11.
    pub month: String,
    /// Bytes that were exchanged with other sites in it, as far as is known: they are counted while there is a cap.
    pub used: u64,
    /// The cap in bytes, if there is one.
    pub cap: Option<u64>,
    /// Bytes that went since the node's start, as they are on the wire.
    pub traffic: Traffic,
    /// Nodes that wait here for what they asked for.
    pub waiting: u64,
}

/// A link in one direction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Which link.
    pub link: Link,
    /// Which direction.
    pub direction: Direction,
    /// The rate that holds now.
    pub rate: String,
    /// What is held up by what, in words.
    pub waits: Option<String>,
}

/// This node's membership of a fleet, by its certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The repository whose fleet it is.
    pub repository: RepositoryId,
    /// The fleet.
    pub fleet: String,
    /// Groups that it is in.
    pub groups: Vec<String>,
    /// What it is there for.
    pub capabilities: Vec<Capability>,
    /// Up to when the certificate counts.
    pub not_after: Wall,
    /// Why it does not count, in words; nothing while it does.
    pub why_not: Option<String>,
}

/// A connected peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Who.
    pub node: NodeId,
    /// Whether it collects receipts.
    pub collects: bool,
    /// Groups that it is in; none in an open mesh, where nobody shows a certificate.
    pub groups: Vec<String>,
    /// What it is there for; nothing in an open mesh.
    pub capabilities: Vec<Capability>,
}

/// A followed repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repository {
    /// Which.
    pub repository: RepositoryId,
    /// The newest verified timestamp version; none if nothing came yet.
    pub version: Option<u64>,
    /// Seconds since the newest verified metadata was signed.
    pub age_s: Option<i64>,
    /// Seconds until the first of its documents expires; negative if one has.
    pub expires_in_s: Option<i64>,
    /// How many acts its publisher's log has, and the name of the last, by the signed snapshot; none if it keeps none.
    pub log: Option<(u64, Hash)>,
    /// Where a second history that the publisher's keys signed parts from this one, if one was met.
    pub forked: Option<String>,
    /// Its newest release on each channel, as `channel version`.
    pub newest: Vec<(String, String)>,
}

/// An app on this device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    /// Which.
    pub app: String,
    /// The channel that is installed from.
    pub channel: String,
    /// The only version that is taken; any if there is none.
    pub pin: Option<String>,
    /// What is active and confirmed.
    pub active: Option<Installed>,
    /// What is tried or fetched now, by version.
    pub next: Option<String>,
    /// What is under way.
    pub phase: String,
    /// Why nothing is, in words.
    pub why: Option<String>,
}

/// A release that failed too often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halted {
    /// Which.
    pub release: ReleaseId,
    /// Of which app.
    pub app: String,
    /// Its version.
    pub version: String,
    /// How it fared.
    pub tally: Tally,
    /// Whether its publisher has paused it, or taken it back, since.
    pub held_back: bool,
}

/// A blob in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// Which.
    pub blob: Hash,
    /// Its whole size in bytes.
    pub size: u64,
    /// Bytes of it that are here, in whole pieces.
    pub held: u64,
    /// Whether the rest is being fetched.
    pub wanted: bool,
}

impl Membership {
    /// Of a certificate and what was judged of it; nothing of bytes that are none.
    pub(crate) fn of(certificate: &[u8], judged: Result<Certificate, MemberError>) -> Option<Self> {
        let why_not = judged.err().map(|why| why.to_string());
        let own = Certificate::read(certificate).ok()?;
        let Certificate { repository, fleet, groups, capabilities, not_after, .. } = own;
        let (groups, capabilities) = (groups.into_iter().collect(), capabilities.into_iter().collect());
        Some(Self { repository, fleet, groups, capabilities, not_after, why_not })
    }
}

impl Peer {
    pub(crate) fn of(node: NodeId, collects: bool, member: Option<&Certificate>) -> Self {
        let groups = member.iter().flat_map(|member| member.groups.iter().cloned()).collect();
        let capabilities = member.iter().flat_map(|member| member.capabilities.iter().copied()).collect();
        Self { node, collects, groups, capabilities }
    }
}

impl Repository {
    pub(crate) fn of(
        repository: RepositoryId,
        verified: Option<&Verified>,
        forked: Option<&String>,
        now: Wall,
    ) -> Self {
        let mut newest = BTreeMap::new();
        for release in verified.into_iter().flat_map(Verified::releases) {
            // In the order of channel and number: the last of a channel is its newest.
            newest.insert(release.channel.clone(), release.version.clone());
        }
        Self {
            repository,
            version: verified.map(Verified::timestamp_version),
            age_s: verified.map(|verified| now.0.saturating_sub(verified.issued().0)),
            expires_in_s: verified.map(|verified| verified.expires().0.saturating_sub(now.0)),
            log: verified.and_then(Verified::checkpoint).map(|log| (log.size(), log.head())),
            forked: forked.cloned(),
            newest: newest.into_iter().collect(),
        }
    }
}

impl Halted {
    pub(crate) fn of(verified: &Verified, halted: &BTreeMap<ReleaseId, Tally>) -> Vec<Self> {
        let of = |release: &Release| {
            let id = ReleaseId::of(verified.repository(), release);
            let (app, version) = (release.app.clone(), release.version.clone());
            let held_back = release.rules.paused || release.rules.yanked.is_some();
            halted.get(&id).map(|tally| Self { release: id, app, version, tally: *tally, held_back })
        };
        verified.releases().filter_map(of).collect()
    }
}

impl App {
    pub(crate) fn of(app: &str, update: &Update) -> Self {
        let record = update.record();
        let tried = record.trial.as_ref().map(|trial| trial.release.version.clone());
        Self {
            app: app.to_owned(),
            channel: update.install().channel.clone(),
            pin: update.install().pin.clone(),
            active: record.active.as_deref().cloned(),
            next: tried.or_else(|| update.needs().map(|offer| offer.release().version.clone())),
            phase: update.phase().to_owned(),
            why: update.skip().map(Skip::to_string),
        }
    }
}

impl Blob {
    pub(crate) fn of(blob: Hash, stored: Stored, job: Option<&Job>) -> Self {
        let held = job.map_or(if stored.whole { stored.size } else { 0 }, Job::held_bytes);
        Self { blob, size: stored.size, held, wanted: job.is_some() }
    }
}
