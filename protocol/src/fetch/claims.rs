//! Who among those that fetch the same blob gets a piece from afar: a claim that all work out alike, with no word said.
//!
//! A piece that only its sources have is taken from them by one node, and by the others from that one; a piece that
//! nobody at a site has crosses the site's uplink once. Pieces are claimed in runs, each by the node whose weight for
//! it is the highest (rendezvous hashing) among those whose share is not full: the shares are equal, and when a claimant
//! goes, it is mostly its runs that move, to many.

use std::collections::BTreeMap;

use crate::{Hash, NodeId};

/// Pieces that are claimed together: they are asked for in one request where that may be long.
pub(super) const RUN: usize = 4;

/// Who claims what.
#[derive(Debug)]
pub(super) struct Claims {
    me: NodeId,
    seed: u64,
    /// The nodes besides this one that the claims are worked out for: those of this site, then the others.
    near: Vec<NodeId>,
    far: Vec<NodeId>,
    /// Whether this node claims a run, among all nodes, and among those of this site.
    mine: Vec<bool>,
    mine_here: Vec<bool>,
}

impl Claims {
    pub(super) fn new(me: NodeId, blob: Hash, pieces: usize) -> Self {
        let mine = vec![true; pieces.div_ceil(RUN)];
        Self { me, seed: seed(me, blob), near: Vec::new(), far: Vec::new(), mine_here: mine.clone(), mine }
    }

    /// Works the claims out for these nodes besides this one, if they are others than before.
    pub(super) fn among(&mut self, near: Vec<NodeId>, far: Vec<NodeId>, blob: Hash) {
        if self.near != near {
            self.mine_here = self.shares(near.iter(), blob);
        }
        if self.near != near || self.far != far {
            self.mine = self.shares(near.iter().chain(&far), blob);
        }
        (self.near, self.far) = (near, far);
    }

    /// Which runs this node claims among these.
    fn shares<'a>(&self, others: impl Iterator<Item = &'a NodeId>, blob: Hash) -> Vec<bool> {
        let nodes: BTreeMap<NodeId, u64> =
            others.copied().chain([self.me]).map(|node| (node, seed(node, blob))).collect();
        let runs = self.mine.len();
        let share = runs.div_ceil(nodes.len());
        let mut loads: BTreeMap<NodeId, usize> = BTreeMap::new();
        let claimant = |run: usize| {
            let open = nodes.iter().filter(|(node, _)| loads.get(node).is_none_or(|load| *load < share));
            let (node, _) = open.max_by_key(|(_, seed)| weight(**seed, run)).expect("the shares hold all runs");
            *loads.entry(*node).or_default() += 1;
            *node
        };
        (0..runs).map(claimant).map(|claimant| claimant == self.me).collect()
    }

    /// Whether this node is to take a piece from a source, among all that fetch.
    pub(super) fn is_mine(&self, piece: usize) -> bool {
        self.mine[piece / RUN]
    }

    /// Whether this node is to take a piece from afar, among those of its site.
    pub(super) fn is_mine_here(&self, piece: usize) -> bool {
        self.mine_here[piece / RUN]
    }

    /// This node's own order of runs: nodes that start together begin with different ones.
    pub(super) fn order(&self, piece: usize) -> u64 {
        weight(self.seed, piece / RUN)
    }

    /// This node's own order of pieces.
    pub(super) fn taste(&self, piece: usize) -> u64 {
        weight(!self.seed, piece)
    }
}

fn seed(node: NodeId, blob: Hash) -> u64 {
    u64::from_le_bytes(Hash::of(&[node.0, blob.0].concat()).0[..8].try_into().expect("8 bytes"))
}

fn weight(seed: u64, run: usize) -> u64 {
    mix(seed.wrapping_add((run as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

/// The finalizer of `SplitMix64` (Steele, Lea, Flood 2014): every bit of the input moves half of the output's.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
