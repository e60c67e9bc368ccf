//! A model of gossipsub: pushed to a few at once, offered to the others at the next heartbeat, seen once.

use std::{sync::Arc, time::Duration};

use burr_protocol::{
    Hash, RepositoryId,
    action::{GossipId, Input, Verdict},
};

use super::{Event, NodeIndex, World};

/// Peers that a message is pushed to at once: gossipsub's mesh degree.
const DEGREE: usize = 6;
/// The others are told of it within this time: gossipsub's heartbeat.
const HEARTBEAT: Duration = Duration::from_millis(1000);
/// Messages that a node remembers to have seen. Gossipsub's memory is one of time; newer metadata makes the older
/// worthless here, so a few suffice.
const MEMORY: usize = 32;

impl World {
    /// Listens to the gossip about a repository.
    pub(super) fn subscribe(&mut self, node: NodeIndex, repository: RepositoryId) {
        let subscribed = &mut self.machines[node].heard.subscribed;
        if !subscribed.contains(&repository) {
            subscribed.push(repository);
        }
    }

    /// A node has something to say.
    pub(super) fn announce(&mut self, node: NodeIndex, repository: RepositoryId, bytes: &[u8]) {
        if self.is_new(node, bytes) {
            self.push(node, repository, &Arc::from(bytes));
        }
    }

    /// A message of gossip arrives.
    pub(super) fn hear(&mut self, node: NodeIndex, from: u32, repository: RepositoryId, bytes: &Arc<[u8]>) {
        let subscribed = self.machines[node].heard.subscribed.contains(&repository);
        if subscribed && self.is_connected(node, from as usize) && self.is_new(node, bytes) {
            let heard = &mut self.machines[node].heard;
            let id = GossipId(heard.next);
            heard.next += 1;
            heard.judged.insert(id, (repository, bytes.clone()));
            let from = self.id(from as usize);
            self.give(node, Input::Announcement { node: from, id, bytes: bytes.to_vec() });
        }
    }

    /// What the agent makes of a message.
    pub(super) fn judge(&mut self, node: NodeIndex, id: GossipId, verdict: Verdict) {
        let judged = self.machines[node].heard.judged.remove(&id);
        if let (Some((repository, bytes)), Verdict::Accept) = (judged, verdict) {
            self.push(node, repository, &bytes);
        }
    }

    fn is_new(&mut self, node: NodeIndex, bytes: &[u8]) -> bool {
        let hash = Hash::of(bytes);
        let seen = &mut self.machines[node].heard.seen;
        if seen.contains(&hash) {
            return false;
        }
        if seen.len() == MEMORY {
            seen.pop_front();
        }
        seen.push_back(hash);
        true
    }

    fn push(&mut self, node: NodeIndex, repository: RepositoryId, bytes: &Arc<[u8]>) {
        if self.machines[node].mute {
            return;
        }
        let peers: Vec<u32> = self.machines[node].connected.keys().copied().collect();
        let mut luck = self.luck(node, "gossip");
        for (turn, place) in luck.sample(peers.len(), peers.len()).into_iter().enumerate() {
            let peer = peers[place];
            let Some(path) = self.path(node, peer as usize) else { continue };
            // Offered, asked for, and sent.
            let wait = if turn < DEGREE { path.delay } else { path.delay * 3 + HEARTBEAT.mul_f64(luck.unit()) };
            self.count(node, peer as usize, &path, bytes.len());
            let from = u32::try_from(node).expect("fewer nodes than 2^32");
            let event = Event::Gossip { from, repository: Box::new(repository), bytes: bytes.clone() };
            self.later(wait, peer as usize, event);
        }
    }
}
