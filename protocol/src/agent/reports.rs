//! Receipts on their way: checked, written down, acknowledged, carried on.

use serde::{Deserialize, Serialize};

use super::{After, Agent, MAX_PENDING};
use crate::{
    NodeId, RepositoryId, Time,
    action::Action,
    fact::Fact,
    member::Capability,
    peers::{Lie, Peer},
    receipt::{Numbers, Receipt, SignedReceipt},
    record::Record,
    wire::{Mark, Message},
};

/// Connected nodes that are told what may halt a release, by each node that has somebody else to collect it.
const TOLD: usize = 8;

/// A peer that collects receipts, and left.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Collector {
    left: Time,
    /// What it had of them then.
    held: Numbers,
}

impl Agent {
    /// A peer left that collected receipts: what it had need not be carried to it.
    pub(super) fn collector_left(&mut self, mut peer: Peer) {
        self.receipts.name_the_same(&mut peer.marks, &mut peer.sent);
        self.collector = Some(Box::new(Collector { left: self.now.time, held: peer.marks }));
    }

    /// Receipts came from a peer. They are acknowledged once they are on disk. What is not kept is not verified: that costs
    /// more than all else, and who sends it again and again would have this node do nothing but that.
    pub(super) fn receive(&mut self, node: NodeId, receipts: Vec<SignedReceipt>, actions: &mut Vec<Action>) {
        let mut known = Vec::new();
        let mut kept = Vec::new();
        for signed in receipts {
            let receipt = match signed.read() {
                Ok(receipt) if !self.catalog.follows(receipt.repository) => continue,
                // Who is no gateway speaks for no devices; those that carry a gateway's words are not asked.
                Ok(receipt)
                    if receipt.via.is_some()
                        && receipt.signer() == node
                        && !self.may(node, Capability::speaks_for_others) =>
                {
                    continue;
                }
                Ok(receipt) => receipt,
                Err(why) => return self.refuse(node, Lie::ForgedReceipt, why.to_string(), actions),
            };
            // It need not be sent back.
            if let Some(peer) = self.peers.get_mut(node) {
                peer.mark(&mark(&receipt));
            }
            if self.receipts.knows(receipt.repository, receipt.device, receipt.counter) {
                known.push(mark(&receipt));
            } else if self.receipts.has_room_for(
                self.me(),
                &receipt,
                self.has_a_say(&receipt),
                self.config.max_receipts,
            ) {
                if let Err(why) = self.memory.check_receipt(&signed, &receipt) {
                    return self.refuse(node, Lie::ForgedReceipt, why.to_string(), actions);
                }
                kept.push((receipt, signed));
            }
        }
        if !known.is_empty() {
            Self::send(node, &Message::Stored(known), actions);
        }
        if self.pending.len() >= MAX_PENDING {
            self.missed(&kept);
        } else if !kept.is_empty() {
            let record = |(receipt, signed): &(Receipt, SignedReceipt)| Record::Receipt {
                mark: mark(receipt),
                receipt: Some(signed.clone()),
            };
            self.persist(kept.iter().map(record).collect(), After::Receipts { from: node, kept }, actions);
        }
    }

    /// Receipts of others are not on disk, nor acknowledged: whoever sent them has them still, and sends them after the
    /// next digest.
    pub(super) fn missed(&mut self, receipts: &[(Receipt, SignedReceipt)]) {
        for (receipt, _) in receipts {
            self.receipts.missed(&mark(receipt));
        }
    }

    /// A peer has receipts on disk that it was sent, and is sent the next.
    pub(super) fn acknowledged(&mut self, node: NodeId, marks: &[Mark], actions: &mut Vec<Action>) {
        let Some(peer) = self.peers.get_mut(node) else { return };
        for mark in marks {
            peer.mark(mark);
        }
        peer.sent.acknowledged(marks);
        self.pass_receipts(node, actions);
    }

    /// Receipts of others are on disk.
    pub(super) fn acknowledge(&mut self, from: NodeId, kept: Vec<(Receipt, SignedReceipt)>, actions: &mut Vec<Action>) {
        let mut marks: Vec<Mark> = kept.iter().map(|(receipt, _)| mark(receipt)).collect();
        for (receipt, signed) in kept {
            self.keep_receipt(&receipt, signed, actions);
        }
        // What found no room stays the sender's.
        marks.retain(|mark| self.receipts.knows(mark.repository, mark.device, mark.counter));
        if !marks.is_empty() && self.peers.get(from).is_some() {
            Self::send(from, &Message::Stored(marks), actions);
        }
        self.pass_on(actions);
    }

    /// A receipt, own or carried, is on disk: it may be told, and then passed on.
    pub(super) fn keep_receipt(&mut self, receipt: &Receipt, signed: SignedReceipt, actions: &mut Vec<Action>) {
        // Two peers may have brought it at once.
        if self.receipts.knows(receipt.repository, receipt.device, receipt.counter) {
            return;
        }
        if receipt.device == self.signer.node() {
            let follows = self.config.follows.iter().filter(|follow| follow.repository == receipt.repository);
            for follow in follows {
                if let Some(update) = self.apps.get_mut(&follow.app) {
                    update.counted(receipt.counter);
                }
            }
        }
        actions.push(Action::Tell(Fact::ReceiptKept {
            device: receipt.device,
            app: receipt.app.clone(),
            version: receipt.version.clone(),
            outcome: receipt.outcome.clone(),
        }));
        self.peers.iter_mut().for_each(|(_, peer)| peer.sent.is_due(receipt));
        let has_a_say = self.has_a_say(receipt);
        let gone = self.receipts.insert(self.me(), receipt, signed, has_a_say, self.config.max_receipts);
        if has_a_say && !gone.contains(&mark(receipt)) {
            self.count(receipt, actions);
        }
        if !gone.is_empty() {
            for mark in &gone {
                self.halting.forget(mark);
            }
            let records = gone.into_iter().map(|mark| Record::Receipt { mark, receipt: None }).collect();
            self.persist(records, After::Nothing, actions);
        }
    }

    /// Sends every peer the receipts that it lacks.
    pub(super) fn pass_on(&mut self, actions: &mut Vec<Action>) {
        let collected = self.collected();
        // While all is collected, and none of it may halt a release, nobody but those that collect is sent anything: of a
        // thousand peers most are passed over at a glance.
        let ends = |repository| collected.contains(&repository) && !self.halting.concerns(repository);
        let all_end = self.catalog.repositories().all(ends);
        let lacking = self.peers.iter().filter(|(_, peer)| (peer.collects || !all_end) && self.may_lack(peer));
        let peers: Vec<NodeId> = lacking.map(|(node, _)| node).collect();
        for node in peers {
            self.pass(node, &collected, actions);
        }
    }

    /// Sends a peer the receipts that it lacks.
    pub(super) fn pass_receipts(&mut self, node: NodeId, actions: &mut Vec<Action>) {
        if self.peers.get(node).is_some_and(|peer| self.may_lack(peer)) {
            let collected = self.collected();
            self.pass(node, &collected, actions);
        }
    }

    /// Whether there may be receipts here that a peer lacks, as far as it said what it has.
    fn may_lack(&self, peer: &Peer) -> bool {
        !self.receipts.is_empty() && !peer.withholds && !peer.sent.is_done()
    }

    /// Repositories whose receipts a connected peer collects: others need not carry them. Without this, each receipt of
    /// a LAN goes over each of its connections.
    fn collected(&self) -> Vec<RepositoryId> {
        let collectors = self.peers.iter().filter(|(_, peer)| peer.collects);
        collectors.flat_map(|(_, peer)| peer.repositories.iter().copied()).collect()
    }

    /// Whether receipts end here for a node: who collects gives them to those of its own site, one of which may carry them
    /// on, and to those that it is configured to know, but not to whoever comes to it from afar and collects nothing. Nor
    /// does one whose collector was here a moment ago, and may be again in another.
    fn ends_with_me(&self, node: NodeId) -> bool {
        let collected = |left: Time| self.now.time.since(left) < self.config.sync_interval;
        let ends = self.config.collect || self.collector.as_ref().is_some_and(|gone| collected(gone.left));
        ends && !self.peers.is_near(node) && !self.peers.is_configured(node)
    }

    /// Sends a node those of its own receipts that it has no more, whoever collects: its numbers go on from there.
    pub(super) fn remind(&self, node: NodeId, actions: &mut Vec<Action>) {
        if self.receipts.is_empty() {
            return;
        }
        let Some(peer) = self.peers.get(node).filter(|peer| !peer.withholds) else { return };
        let lost = peer.repositories.iter().map(|repository| {
            let counter = peer.marks.get(&(*repository, node)).copied().unwrap_or(0);
            let mark = Mark { repository: *repository, device: node, counter };
            let lost = if peer.sent.has(&mark) { Vec::new() } else { self.receipts.newer_than(&mark) };
            (repository, lost)
        });
        let mut lost = lost.filter(|(_, lost)| !lost.is_empty()).peekable();
        if lost.peek().is_some() {
            let passed = self.passed_to(node, peer, &self.collected());
            for (_, lost) in lost.filter(|(repository, _)| !passed.contains(repository)) {
                Self::send(node, &Message::Receipts(lost), actions);
            }
        }
    }

    /// Whether a node is told of receipts that others collect: by a collector, if it is of the same site, and else by the
    /// few before it in the ring of all names, which reaches everybody without going over every connection.
    fn tells_all(&self, node: NodeId) -> bool {
        let place = |other: NodeId| (other < self.signer.node(), other);
        let before = self.peers.iter().filter(|(other, _)| place(*other) < place(node));
        (self.config.collect && self.peers.is_near(node)) || before.take(TOLD).count() < TOLD
    }

    /// Repositories of which a peer is sent the receipts of all devices.
    fn passed_to(&self, node: NodeId, peer: &Peer, collected: &[RepositoryId]) -> Vec<RepositoryId> {
        let ends_here = self.ends_with_me(node);
        let passes = |repository: &RepositoryId| !ends_here && !collected.contains(repository);
        // What may halt a release has to reach whoever may take it, and who collects may tell nobody.
        let concerns = |repository: &RepositoryId| self.halting.concerns(*repository) && self.tells_all(node);
        let all = peer.repositories.iter();
        all.filter(|repository| peer.collects || passes(repository) || concerns(repository)).copied().collect()
    }

    fn pass(&mut self, node: NodeId, collected: &[RepositoryId], actions: &mut Vec<Action>) {
        let Some(peer) = self.peers.get(node) else { return };
        let wanted = self.passed_to(node, peer, collected);
        if wanted.is_empty() {
            return;
        }
        let Some(peer) = self.peers.get_mut(node) else { return };
        let carries = !peer.collects;
        let (collector, halting) = (&self.collector, &self.halting);
        // What is where it was to go is carried no further, unless others than those that collect have use for it.
        let collected = |device: &(RepositoryId, NodeId)| {
            let concerns_all = halting.concerns(device.0) || device.1 == node;
            let gone = collector.as_ref().filter(|_| carries && !concerns_all);
            gone.and_then(|gone| gone.held.get(device)).copied().unwrap_or(0)
        };
        let missing = self.receipts.pass(node, &mut peer.marks, &mut peer.sent, &wanted, collected);
        if !missing.is_empty() {
            Self::send(node, &Message::Receipts(missing), actions);
        }
    }
}

pub(super) fn mark(receipt: &Receipt) -> Mark {
    Mark { repository: receipt.repository, device: receipt.device, counter: receipt.counter }
}
