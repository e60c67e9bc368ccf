//! What peers are sent of the receipts that are kept here: each what it lacks, as far as it said what it has.

use std::{
    collections::BTreeSet,
    ops::Bound::{Excluded, Included},
};

use serde::{Deserialize, Serialize};

use super::{Numbers, Receipt, Receipts, SignedReceipt};
use crate::{
    NodeId, RepositoryId,
    peers::MAX_MARKS_HELD,
    wire::{Digest, MAX_RECEIPTS, Mark, Room},
};

/// What a peer was sent, and is to be sent still.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Sent {
    /// Of which devices it keeps receipts, once it said that.
    room: Option<Room>,
    /// The highest number of each device that was sent and not acknowledged.
    numbers: Numbers,
    /// Devices of which there may be more to send.
    due: BTreeSet<(RepositoryId, NodeId)>,
    /// Whether those were looked for among all that are held. Until then they are those that the peer's marks don't tell
    /// of: what came since it connected, of which it may hold some without having said so.
    is_complete: bool,
    /// Whether the peer holds what is held here of all devices but the due ones, whatever its marks tell.
    is_same: bool,
}

impl Sent {
    /// What is due is to be looked for among all receipts.
    pub fn look_again(&mut self) {
        self.is_complete = false;
    }

    /// The peer holds all that was held here when it connected.
    pub fn is_the_same(&mut self) {
        (self.is_complete, self.is_same) = (true, true);
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.is_complete && self.due.is_empty()
    }

    /// Whether the peer holds what is held here of a device, though its marks don't tell.
    #[must_use]
    pub fn has(&self, mark: &Mark) -> bool {
        self.is_same && !self.due.contains(&(mark.repository, mark.device))
    }

    /// Whether a peer, which holds those that `held` names, keeps receipts of a device.
    fn keeps(&self, peer: NodeId, device: &(RepositoryId, NodeId), is_member: bool, held: &Numbers) -> bool {
        let new = match self.room {
            None | Some(Room::All) => true,
            Some(Room::Members) => is_member,
            Some(Room::None) => false,
        };
        // Of very many not all that it named was remembered.
        new || device.1 == peer || held.contains_key(device) || held.len() >= MAX_MARKS_HELD
    }

    /// The peer has these on disk.
    pub fn acknowledged(&mut self, marks: &[Mark]) {
        for mark in marks {
            let key = (mark.repository, mark.device);
            if self.numbers.get(&key).is_some_and(|sent| *sent <= mark.counter) {
                self.numbers.remove(&key);
            }
        }
    }

    /// The peer said what it holds, which with all that it said before is what `held` names: what was sent and is not among
    /// that is sent again.
    pub fn said(&mut self, peer: NodeId, digest: &Digest, receipts: &Receipts, held: &Numbers) {
        if self.room.replace(digest.room) != Some(digest.room) {
            self.look_again();
        }
        if !self.is_complete {
            self.numbers = Numbers::default();
            return;
        }
        let named = digest.marks.iter().map(|mark| (mark.repository, mark.device));
        let again: BTreeSet<_> = std::mem::take(&mut self.numbers).keys().copied().chain(named).collect();
        for key in again {
            let lacks = receipts.highest(key.0, key.1) > held.get(&key).copied().unwrap_or(0);
            if lacks && self.keeps(peer, &key, receipts.members.contains_key(&key), held) {
                self.due.insert(key);
            } else {
                self.due.remove(&key);
            }
        }
    }

    /// There is a new receipt of this device.
    pub fn is_due(&mut self, receipt: &Receipt) {
        // What a peer with room for all lacks, its marks tell.
        if self.is_complete || self.room != Some(Room::All) {
            self.due.insert((receipt.repository, receipt.device));
        }
    }
}

impl Receipts {
    /// Adds to what a peer named what it holds because it is the same as here.
    pub(crate) fn name_the_same(&self, held: &mut Numbers, sent: &mut Sent) {
        if !std::mem::take(&mut sent.is_same) {
            return;
        }
        for Mark { repository, device, counter } in self.all_marks() {
            let key = (repository, device);
            if held.len() < MAX_MARKS_HELD && !sent.due.contains(&key) {
                held.get_or_insert_with(key, || counter);
            }
        }
    }

    /// Up to [`MAX_RECEIPTS`] receipts of the repositories in `wanted` that a peer lacks which holds those that `held`
    /// names, oldest first; of those that others collect, up to the number that `collected` tells of a device, none. They count
    /// as sent.
    pub fn pass(
        &self,
        peer: NodeId,
        held: &mut Numbers,
        sent: &mut Sent,
        wanted: &[RepositoryId],
        collected: impl Fn(&(RepositoryId, NodeId)) -> u64,
    ) -> Vec<SignedReceipt> {
        self.name_the_same(held, sent);
        if !sent.is_complete {
            self.look_for_due(peer, held, sent);
        }
        let mut missing = Vec::new();
        for repository in wanted {
            let mut rest = Included((*repository, NodeId([0; 32])));
            let end = Included((*repository, NodeId([u8::MAX; 32])));
            while let Some(key) = sent.due.range((rest, end)).next().copied() {
                rest = Excluded(key);
                let number = held.get(&key).max(sent.numbers.get(&key)).copied().unwrap_or(0).max(collected(&key));
                let room = MAX_RECEIPTS - missing.len();
                if room == 0 {
                    return missing;
                }
                let mut newer = self.kept.get(&key).into_iter().flat_map(|kept| kept.from(&number.saturating_add(1)));
                for (number, signed) in newer.by_ref().take(room) {
                    sent.numbers.insert(key, *number);
                    missing.push(signed.clone());
                }
                if newer.next().is_none() {
                    sent.due.remove(&key);
                }
            }
        }
        missing
    }

    /// Looks for what there is to send to a peer which holds those that `held` names.
    fn look_for_due(&self, peer: NodeId, held: &Numbers, sent: &mut Sent) {
        let mut rest = held.iter().peekable();
        // Both are in one order: one walk.
        for (key, kept) in self.kept.iter() {
            while rest.next_if(|(other, _)| *other < key).is_some() {}
            let number = rest.peek().filter(|(other, _)| *other == key).map_or(0, |(_, number)| **number);
            let lacks = kept.last().is_some_and(|(newest, _)| *newest > number);
            if lacks && sent.keeps(peer, key, self.members.contains_key(key), held) {
                sent.due.insert(*key);
            }
        }
        sent.is_complete = true;
    }
}
