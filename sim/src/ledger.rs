//! What came of a run: counted while it goes, from facts and from bytes, and read by the report.

use std::collections::BTreeMap;

use burr_protocol::{
    Hash, NodeId, Time,
    fact::{Fact, UpdateStep},
    release::Release,
};

/// A group of nodes of one kind, for the report.
pub type Group = u16;

/// A release and who has it.
#[derive(Debug, Clone)]
pub struct Rollout {
    /// What was released.
    pub release: Release,
    /// When.
    pub at: Time,
    /// When each device had it confirmed, in the order of time.
    pub adopted: Vec<(Time, u32)>,
    /// Devices that went back from it or could not install it.
    pub failed: u32,
    /// How many hands its payload went through to each node that fetched it, weighted by bytes; the source's is 0.
    pub hops: BTreeMap<u32, f32>,
}

/// All that is counted.
#[derive(Debug, Default)]
pub struct Ledger {
    /// The group of each node; 0 where nobody said.
    pub groups: Vec<Group>,
    /// Rollouts, in the order of time.
    pub rollouts: Vec<Rollout>,
    /// Payload bytes from one group to another.
    pub fed: BTreeMap<(Group, Group), u64>,
    /// Payload bytes from one node to another; none of large fleets.
    pub fed_by_node: Option<BTreeMap<(u32, u32), u64>>,
    /// Payload bytes between places.
    pub far: u64,
    /// Payload bytes within a place, or over a link of two nodes.
    pub near: u64,
    /// Bytes of messages and gossip between places.
    pub far_said: u64,
    /// Bytes of messages and gossip within a place, or over a link of two nodes.
    pub near_said: u64,
    /// Messages and announcements sent.
    pub messages: u64,
    /// Payload bytes by simulated hour: between places, and within.
    pub hours: Vec<(u64, u64)>,
    /// What liars altered, forged or replayed: messages, and answers to requests.
    pub lies: u64,
    /// Refusals, by the lie.
    pub refused: BTreeMap<String, u64>,
    /// Metadata verified, over all nodes.
    pub verified: u64,
    /// Receipts that were told to be kept, over all nodes.
    pub receipts: u64,
}

impl Ledger {
    /// A release begins.
    pub fn begin(&mut self, release: &Release, at: Time) {
        let hops = BTreeMap::new();
        self.rollouts.push(Rollout { release: release.clone(), at, adopted: Vec::new(), failed: 0, hops });
    }

    /// The group of a node.
    #[must_use]
    pub fn group(&self, node: usize) -> Group {
        self.groups.get(node).copied().unwrap_or_default()
    }

    /// A node told something.
    pub(crate) fn note(&mut self, time: Time, node: usize, fact: &Fact, find: impl Fn(NodeId) -> Option<u32>) {
        let number = u32::try_from(node).expect("fewer nodes than 2^32");
        match fact {
            Fact::Update { app, version, step } => {
                let of = |rollout: &&mut Rollout| rollout.release.version == *version && rollout.release.app == *app;
                let Some(rollout) = self.rollouts.iter_mut().rev().find(of) else { return };
                match step {
                    UpdateStep::Active => rollout.adopted.push((time, number)),
                    UpdateStep::RolledBack { .. } | UpdateStep::Failed { again: false, .. } => rollout.failed += 1,
                    _ => {}
                }
            }
            Fact::FetchCompleted { blob, sources, .. } => self.hop(number, *blob, sources, find),
            Fact::PeerRefused { lie, .. } => *self.refused.entry(lie.to_string()).or_default() += 1,
            Fact::MetadataVerified { .. } => self.verified += 1,
            Fact::ReceiptKept { .. } => self.receipts += 1,
            _ => {}
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "a share of bytes")]
    fn hop(&mut self, node: u32, blob: Hash, sources: &[(NodeId, u64)], find: impl Fn(NodeId) -> Option<u32>) {
        let Some(rollout) = self.rollouts.iter_mut().find(|rollout| rollout.release.payload.blob == blob) else {
            return;
        };
        let all: u64 = sources.iter().map(|(_, bytes)| bytes).sum();
        let far = |id: &NodeId| find(*id).and_then(|source| rollout.hops.get(&source)).copied().unwrap_or(0.0);
        let hops: f32 = sources.iter().map(|(id, bytes)| far(id) * (*bytes as f32 / all.max(1) as f32)).sum();
        rollout.hops.insert(node, hops + 1.0);
    }

    /// Payload bytes arrived.
    pub(crate) fn moved(&mut self, now: Time, to: usize, from: usize, bytes: u64, far: bool) {
        *self.fed.entry((self.group(from), self.group(to))).or_default() += bytes;
        if let Some(fed) = &mut self.fed_by_node {
            let number = |node| u32::try_from(node).expect("fewer nodes than 2^32");
            *fed.entry((number(from), number(to))).or_default() += bytes;
        }
        let hour = usize::try_from(now.0 / 3_600_000).expect("a run has few hours");
        if self.hours.len() <= hour {
            self.hours.resize(hour + 1, (0, 0));
        }
        if far {
            self.far += bytes;
            self.hours[hour].0 += bytes;
        } else {
            self.near += bytes;
            self.hours[hour].1 += bytes;
        }
    }

    /// A message or an announcement went out.
    pub(crate) fn said(&mut self, bytes: usize, far: bool) {
        self.messages += 1;
        *if far { &mut self.far_said } else { &mut self.near_said } += bytes as u64;
    }
}
