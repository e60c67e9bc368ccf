//! Whether a fleet with nothing left to do is quiet, looked at from outside: no payload moves, and no node says more than
//! what it holds, to each peer once a sync interval, and on contact.

use std::time::Duration;

use burr_protocol::wire::{Digest, Message};

use super::{NodeIndex, Rule, World};

/// It is listened to for so long at least, and for a sync interval: all that comes round comes in it.
const SHORTEST: Duration = Duration::from_secs(60);
/// Messages to whoever connects: what it holds, and of which receipts it has those that the other named.
const ON_CONTACT: u64 = 2;

/// What one node said since it is listened to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Said {
    messages: u64,
    bytes: u64,
    /// Connections that were made.
    meetings: u64,
}

impl World {
    /// Lets a world in which nothing is left to do go on for a sync interval, and notes what moves all the same.
    pub fn must_be_quiet(&mut self) {
        let nodes = 0..self.machines.len();
        let intervals = self.machines.iter().map(|machine| machine.config.sync_interval);
        let span = intervals.max().unwrap_or_default().max(SHORTEST);
        let payload = |world: &Self| world.ledger.near + world.ledger.far;
        let before = payload(self);
        let peers: Vec<usize> = self.machines.iter().map(|machine| machine.connected.len()).collect();
        let Some(checks) = &mut self.checks else { return };
        checks.said = vec![Said::default(); peers.len()];
        self.run(span);
        let moved = payload(self) - before;
        if moved > 0 {
            self.broke(0, Rule::NotQuiet, format!("{moved} bytes of payloads moved with nothing left to do"));
        }
        let said = self.checks.as_mut().map(|checks| std::mem::take(&mut checks.said)).unwrap_or_default();
        for ((node, said), peers) in nodes.zip(said).zip(peers) {
            self.judge_said(node, said, peers as u64, span);
        }
    }

    fn judge_said(&mut self, node: NodeIndex, said: Said, peers: u64, span: Duration) {
        let Some(digest) = self.digest_size(node, false) else { return };
        // Those that are connected know of its receipts; who comes is told which.
        let greeting = if said.meetings > 0 { self.digest_size(node, true).unwrap_or(digest) } else { 0 };
        let interval = self.machines[node].config.sync_interval.as_millis().max(1);
        let rounds = u64::try_from(span.as_millis().div_ceil(interval)).unwrap_or(u64::MAX);
        let (regular, greetings) = ((peers + said.meetings) * rounds, said.meetings * ON_CONTACT);
        let messages = regular + greetings;
        let bytes = regular * digest + greetings * greeting;
        if said.messages > messages || said.bytes > bytes {
            let words = format!(
                "{} messages of {} bytes in {} s with nothing left to do; {messages} of {bytes} tell its peers what it holds",
                said.messages,
                said.bytes,
                span.as_secs()
            );
            self.broke(node, Rule::NotQuiet, words);
        }
    }

    /// Bytes of what a node that is on says of what it holds, with its receipts or without.
    fn digest_size(&self, node: NodeIndex, with_receipts: bool) -> Option<u64> {
        let (agent, config) = (self.agent(node)?, &self.machines[node].config);
        let digest = Digest {
            collects: config.collect,
            site: config.site.clone(),
            follows: agent.catalog().repositories().collect(),
            holdings: agent.catalog().holdings(),
            marks: if with_receipts { agent.receipts().marks() } else { Vec::new() },
            ..Digest::default()
        };
        Some(Message::Digest(digest).encode().len() as u64)
    }

    /// A node says something.
    pub(in crate::world) fn hear_said(&mut self, node: NodeIndex, bytes: usize) {
        if let Some(said) = self.checks.as_mut().and_then(|checks| checks.said.get_mut(node)) {
            said.messages += 1;
            said.bytes += bytes as u64;
        }
    }

    /// A node met another.
    pub(in crate::world) fn hear_meeting(&mut self, node: NodeIndex) {
        if let Some(said) = self.checks.as_mut().and_then(|checks| checks.said.get_mut(node)) {
            said.meetings += 1;
        }
    }
}
