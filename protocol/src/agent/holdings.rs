//! What of a blob is where: what peers say that they have, and what they are told.
//!
//! A peer that fetches a blob is given a map when it says so, and from then on hears of each piece that comes. Those of
//! this node's site hear of it at once, since they wait for it; those of other sites now and then, and only of what this
//! node brought to its site: the rest they hear from whoever brought that.

use serde::{Deserialize, Serialize};

use super::Agent;
use crate::{
    Hash, NodeId, Time,
    action::Action,
    config::{FAR_LATEST, FAR_SELDOM},
    fetch::{Fresh, PieceMap},
    table::Table,
    wire::{MAX_ALSO, Message},
};

/// This part of a blob's pieces is much to tell: one in so many.
const MUCH: usize = 64;

/// Pieces that came and were not told of yet, by blob; each list with the time from which on it may be told.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Untold {
    near: Table<Hash, Vec<u16>>,
    far: Table<Hash, Vec<u16>>,
    near_from: Time,
    /// When far ones may be told if there is much to tell, and when in any case.
    far_from: [Time; 2],
    much: bool,
}

impl Untold {
    /// When there is something to tell.
    fn wake_at(&self) -> Option<Time> {
        let near = (!self.near.is_empty()).then_some(self.near_from);
        let far = (!self.far.is_empty()).then_some(self.far_at());
        near.into_iter().chain(far).min()
    }

    fn far_at(&self) -> Time {
        self.far_from[usize::from(!self.much)]
    }

    fn forget(&mut self, blob: &Hash) {
        self.near.remove(blob);
        self.far.remove(blob);
    }
}

impl Agent {
    /// When there is something to tell of what came.
    pub(super) fn untold_at(&self) -> Option<Time> {
        self.untold.as_ref()?.wake_at()
    }

    /// A peer looks for blobs.
    pub(super) fn wanted(&mut self, node: NodeId, blobs: &[Hash], outward: bool, actions: &mut Vec<Action>) {
        if !self.config.serve {
            return;
        }
        if let Some(peer) = self.peers.get_mut(node) {
            peer.outward = outward;
        }
        for blob in blobs {
            // Also of what is not here yet: nodes that start together hear of each other's pieces.
            if let Some(peer) = self.peers.get_mut(node) {
                peer.wants(*blob);
            }
            if let Some(job) = self.jobs.get_mut(blob) {
                job.fetches(node, true, self.now.time);
                job.is_near(node, self.peers.is_near(node));
                job.is_outward(node, outward);
            }
            if let Some(answer) = self.holds(*blob) {
                Self::send(node, &answer, actions);
            }
        }
    }

    /// A peer provides these pieces of a blob, and no others.
    pub(super) fn provided(
        &mut self,
        node: NodeId,
        blob: Hash,
        size: u64,
        pieces: &PieceMap,
        actions: &mut Vec<Action>,
    ) {
        if let Some(job) = self.jobs.get_mut(&blob) {
            job.provides(node, size, pieces, self.now.time);
            job.is_near(node, self.peers.is_near(node));
            self.step_jobs(actions);
        }
    }

    /// A peer provides these pieces of a blob besides.
    pub(super) fn provided_also(&mut self, node: NodeId, blob: Hash, pieces: &[u16], actions: &mut Vec<Action>) {
        if let Some(job) = self.jobs.get_mut(&blob) {
            job.provides_also(node, pieces, self.now.time);
            job.is_near(node, self.peers.is_near(node));
            self.step_jobs(actions);
        }
    }

    /// A node is on this node's own network.
    pub(super) fn near(&mut self, node: NodeId, actions: &mut Vec<Action>) {
        self.peers.near(node);
        self.placed(node, actions);
    }

    /// It may be known better now whether a node shares this one's site.
    pub(super) fn placed(&mut self, node: NodeId, actions: &mut Vec<Action>) {
        let near = self.peers.is_near(node);
        self.jobs.values_mut().for_each(|job| job.is_near(node, near));
        self.look_outward(actions);
    }

    /// A node of another site may have come, or the last one gone: those of this site share out anew what is fetched.
    pub(super) fn look_outward(&mut self, actions: &mut Vec<Action>) {
        let outward = self.peers.outward();
        if std::mem::replace(&mut self.outward, outward) != outward {
            let near: Vec<NodeId> =
                self.peers.iter().map(|(node, _)| node).filter(|node| self.peers.is_near(*node)).collect();
            for node in near {
                self.want_from(node, actions);
            }
        }
    }

    /// A peer looks for blobs no longer.
    pub(super) fn unwanted(&mut self, node: NodeId, blobs: &[Hash]) {
        let Some(peer) = self.peers.get_mut(node) else { return };
        for blob in blobs {
            peer.interests.remove(blob);
            if let Some(job) = self.jobs.get_mut(blob) {
                job.fetches(node, false, self.now.time);
            }
        }
    }

    fn holds(&self, blob: Hash) -> Option<Message> {
        let stored = self.store.get(&blob)?;
        let pieces = match self.jobs.get(&blob) {
            Some(job) if job.have().is_empty() => return None,
            Some(job) => job.have().map(),
            None if stored.whole => PieceMap::All,
            None => return None,
        };
        Some(Message::Holds { blob, size: stored.size, pieces })
    }

    /// Tells those that look for a blob that all of it is here.
    pub(super) fn tell_whole(&mut self, blob: Hash, actions: &mut Vec<Action>) {
        if let Some(untold) = &mut self.untold {
            untold.forget(&blob);
        }
        let Some(message) = self.holds(blob) else { return };
        for (node, _) in self.peers.iter().filter(|(_, peer)| peer.interests.contains(&blob)) {
            Self::send(node, &message, actions);
        }
    }

    /// Pieces of a blob came; they are told of as soon as may be.
    pub(super) fn has_new(&mut self, blob: Hash, fresh: &[Fresh], actions: &mut Vec<Action>) {
        // Who looks for it later is told of all at once.
        if !self.peers.iter().any(|(_, peer)| peer.interests.contains(&blob)) {
            return;
        }
        let all = self.jobs.get(&blob).map_or(0, |job| job.have().count());
        let untold = self.untold.get_or_insert_default();
        for Fresh { piece, from_afar } in fresh {
            let Ok(piece) = u16::try_from(*piece) else { continue };
            untold.near.get_or_insert_with(blob, Vec::new).push(piece);
            if *from_afar {
                let far = untold.far.get_or_insert_with(blob, Vec::new);
                far.push(piece);
                untold.much |= far.len() * MUCH >= all;
            }
        }
        self.tell_pieces(actions);
    }

    /// Tells what came, to those whose turn it is.
    pub(super) fn tell_pieces(&mut self, actions: &mut Vec<Action>) {
        let now = self.now.time;
        let interval = self.config.map_interval;
        for near in [true, false] {
            let Some(untold) = &mut self.untold else { return };
            if now < if near { untold.near_from } else { untold.far_at() } {
                continue;
            }
            let mut untold = if near {
                untold.near_from = now + interval;
                std::mem::take(&mut untold.near)
            } else {
                untold.far_from = [FAR_SELDOM, FAR_LATEST].map(|times| now + interval * times);
                untold.much = false;
                std::mem::take(&mut untold.far)
            };
            while let Some((blob, pieces)) = untold.pop_first() {
                self.tell_some(blob, &pieces, near, actions);
            }
        }
    }

    fn tell_some(&self, blob: Hash, pieces: &[u16], near: bool, actions: &mut Vec<Action>) {
        let Some(job) = self.jobs.get(&blob) else { return };
        for (node, _) in self.peers.iter().filter(|(_, peer)| peer.interests.contains(&blob)) {
            if self.peers.is_near(node) != near {
                continue;
            }
            let news = job.lacked_by(node, pieces);
            if news.len() > MAX_ALSO {
                actions.extend(self.holds(blob).map(|map| Action::Send { node, bytes: map.encode() }));
            } else if !news.is_empty() {
                Self::send(node, &Message::Also { blob, pieces: news }, actions);
            }
        }
    }
}
