//! What two nodes say of what they hold: digests on contact, now and then, and when there is news.

use super::Agent;
use crate::{
    NodeId, Time,
    action::Action,
    catalog,
    member::Capability,
    peers::Peer,
    wire::{Digest, FEW_MARKS, Holding, Mark, Message},
};

impl Agent {
    /// A digest of all metadata, with these marks.
    pub(super) fn digest(&self, marks: Vec<Mark>) -> Digest {
        // What is not given is not claimed.
        let holdings = if self.config.serve { self.catalog.holdings() } else { Vec::new() };
        Digest { marks, ..self.news(holdings) }
    }

    /// A digest of this metadata alone.
    pub(super) fn news(&self, holdings: Vec<Holding>) -> Digest {
        Digest {
            collects: self.config.collect,
            site: self.config.site.clone(),
            follows: self.catalog.repositories().collect(),
            holdings,
            marks: Vec::new(),
            more: None,
            room: self.receipts.room(self.me(), self.config.max_receipts),
        }
    }

    /// The first that is said to a peer. Where many receipts are here, it is most of all that two say who meet, and of no use
    /// to one that has few: that one comes first.
    pub(super) fn greet(&mut self, node: NodeId, actions: &mut Vec<Action>) {
        let more = (self.receipts.devices() > FEW_MARKS).then(|| self.receipts.hash());
        let marks = if more.is_some() { Vec::new() } else { self.receipts.marks() };
        if let Some(peer) = self.peers.get_mut(node) {
            peer.untold = more;
        }
        Self::send(node, &Message::Digest(Digest { more, ..self.digest(marks) }), actions);
    }

    /// When the next [`Agent::sync`] is. Where there is nobody to talk with, and time alone brings nothing, there is none
    /// before somebody comes.
    pub(super) fn sync_at(&self) -> Option<Time> {
        let is_to_be = self.peers.iter().next().is_some()
            || !self.unwritten.is_empty()
            || self.door.admitted().next().is_some()
            || self.misses_keys()
            || self.apps.iter().any(|(app, update)| self.may_decide_otherwise(app, update));
        is_to_be.then_some(self.next_sync)
    }

    /// What is done now and then: peers hear what is new, and what was judged by the time of the day is judged again.
    pub(super) fn sync(&mut self, actions: &mut Vec<Action>) {
        let now = self.now.time;
        self.next_sync = now + self.config.sync_interval;
        // Who is connected heard all marks on contact, and of what came since by what it sent or was sent.
        let marks = self.receipts.changed_marks();
        let is_to_hear = |(node, peer): (NodeId, &Peer)| (peer.since() < now).then_some(node);
        let peers: Vec<NodeId> = self.peers.iter().filter_map(is_to_hear).collect();
        if !peers.is_empty() {
            let digest = Message::Digest(self.digest(marks));
            for node in peers {
                Self::send(node, &digest, actions);
            }
        }
        self.judge_members_again(None, actions);
        self.look_for_keys_again(actions);
        let mut unwritten = std::mem::take(&mut self.unwritten);
        while let Some((repository, verified)) = unwritten.pop_first() {
            if self.catalog.is_newer(catalog::holding(&verified)) {
                self.pack(None, repository, verified.pack(), actions);
            }
        }
        // Freshness passes with time alone.
        self.decide_all(actions);
    }

    /// A peer said which receipts it has: it is told which of those are here, or all where it has many others as well.
    fn tell_marks(&mut self, node: NodeId, digest: &Digest, actions: &mut Vec<Action>) {
        let Some(peer) = self.peers.get_mut(node) else { return };
        let Some(told) = peer.untold.take() else { return };
        if digest.more == Some(told) {
            peer.withholds = false;
            peer.sent.is_the_same();
            return;
        }
        let marks =
            if digest.more.is_some() { self.receipts.marks() } else { self.receipts.marks_among(&digest.marks) };
        Self::send(node, &Message::Digest(Digest { marks, ..self.news(Vec::new()) }), actions);
    }

    /// A peer said what it holds: it gets what it lacks, and is asked for what this node lacks.
    pub(super) fn digested(&mut self, node: NodeId, digest: &Digest, actions: &mut Vec<Action>) {
        let may_collect = self.may(node, Capability::collects);
        let Some(peer) = self.peers.get_mut(node) else { return };
        let collected = peer.collects;
        peer.take(digest);
        peer.collects &= may_collect;
        let begins = peer.collects && !collected;
        peer.sent.said(node, digest, &self.receipts, &peer.marks);
        if begins {
            // Those as well that are carried no further.
            peer.sent.look_again();
        }
        self.placed(node, actions);
        self.tell_marks(node, digest, actions);
        for holding in &digest.holdings {
            self.catalog.has_it_now(node, *holding);
            self.ask(node, *holding, actions);
        }
        self.correct(node, digest, actions);
        self.want_from(node, actions);
        self.pass_receipts(node, actions);
        self.remind(node, actions);
    }
}
