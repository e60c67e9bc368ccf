//! Who among those that fetch the same blob gets a piece from afar: a claim that all work out alike, with no word said.
//!
//! A piece that only its sources have is taken from them by one node, and by the others from that one; a piece that
//! nobody at a site has crosses the site's uplink once. Pieces are claimed in runs, each by the node whose weight for
//! it is the highest (rendezvous hashing) among those whose share is not full: the shares are equal, and when a claimant
//! goes, it is mostly its runs that move, to many.

use serde::{Deserialize, Serialize};

use super::pieces::Pieces;
use crate::{Hash, NodeId};

/// Pieces that are claimed together: they are asked for in one request where that may be long.
pub(super) const RUN: usize = 4;

/// Who claims what.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Claims {
    me: NodeId,
    seed: u64,
    /// The nodes besides this one that the claims are worked out for: those of this site, those of them that know nodes of
    /// others, and those of others.
    near: Vec<NodeId>,
    outward: Vec<NodeId>,
    far: Vec<NodeId>,
    /// The pieces that this node is to take from a source of this site, among all that fetch.
    mine: Pieces,
    /// Those that it is to take from a source elsewhere, among all that may know that.
    mine_afar: Pieces,
    /// Those that it is to bring to its site, among those here that may.
    pub(super) mine_here: Pieces,
}

impl Claims {
    pub(super) fn new(me: NodeId, blob: Hash, size: u64) -> Self {
        let mine = Pieces::all(size);
        let (near, outward, far) = (Vec::new(), Vec::new(), Vec::new());
        Self { me, seed: seed(me, blob), near, outward, far, mine_here: mine.clone(), mine_afar: mine.clone(), mine }
    }

    /// Works the claims out for these nodes besides this one, if they are others than before.
    pub(super) fn among<'a>(
        &mut self,
        near: impl Iterator<Item = &'a NodeId> + Clone,
        outward: impl Iterator<Item = &'a NodeId> + Clone,
        far: impl Iterator<Item = &'a NodeId> + Clone,
        blob: Hash,
    ) {
        let outward_changed = !outward.clone().eq(&self.outward);
        if !outward_changed && near.clone().eq(&self.near) && far.clone().eq(&self.far) {
            return;
        }
        self.near = near.copied().collect();
        self.far = far.copied().collect();
        if outward_changed {
            self.outward = outward.copied().collect();
            self.mine_here = self.share(&self.outward, blob);
        }
        self.mine = self.share(&[self.near.as_slice(), &self.far].concat(), blob);
        self.mine_afar = if self.near == self.outward {
            self.mine.clone()
        } else {
            self.share(&[self.outward.as_slice(), &self.far].concat(), blob)
        };
    }

    /// The pieces that this node is to take from a source of this site, or elsewhere.
    pub(super) fn of(&self, near: bool) -> &Pieces {
        if near { &self.mine } else { &self.mine_afar }
    }

    /// The pieces that this node claims among these others.
    fn share(&self, others: &[NodeId], blob: Hash) -> Pieces {
        struct Claimant {
            node: NodeId,
            seed: u64,
            runs: usize,
        }
        let claimant = |node| Claimant { node, seed: seed(node, blob), runs: 0 };
        let mut claimants: Vec<Claimant> = others.iter().copied().chain([self.me]).map(claimant).collect();
        // All work it out in the same order.
        claimants.sort_unstable_by_key(|claimant| claimant.node);
        let pieces = self.mine.count();
        let share = pieces.div_ceil(RUN).div_ceil(claimants.len());
        let mut mine = self.mine.clone();
        for run in 0..pieces.div_ceil(RUN) {
            let open = claimants.iter_mut().filter(|claimant| claimant.runs < share);
            let taker = open.max_by_key(|claimant| weight(claimant.seed, run)).expect("the shares hold all runs");
            taker.runs += 1;
            let change = if taker.node == self.me { Pieces::insert } else { Pieces::remove };
            (run * RUN..(run + 1) * RUN).for_each(|piece| change(&mut mine, piece));
        }
        mine
    }

    /// This node's own order of runs: nodes that start together begin with different ones.
    pub(super) fn order(&self, piece: usize) -> u64 {
        weight(self.seed, piece / RUN)
    }

    /// The piece that this node begins with when it fetches alone.
    pub(super) fn place(&self) -> usize {
        let pieces = self.mine.count() as u64;
        usize::try_from(self.seed % pieces.max(1)).expect("fewer pieces than fit")
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
