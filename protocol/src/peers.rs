//! Who is there: connected peers with what they said, addresses to dial, and those that lied.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    Hash, NodeId, RepositoryId, Shared, Time,
    admission::Origin,
    catalog::Newest,
    config::{Config, MAX_ADDRESSES, MAX_PEERS},
    receipt::{Numbers, Sent},
    table::Table,
    wire::{Digest, Mark},
};

/// Blobs that one peer may look for here at a time.
const MAX_INTERESTS: usize = 256;
/// Liars remembered; the oldest is forgotten first.
const MAX_REFUSED: usize = 1024;
/// Nodes remembered that were heard of on this node's own network.
const MAX_NEAR: usize = 1024;
/// Receipt marks remembered of one peer.
pub(crate) const MAX_MARKS_HELD: usize = 4096;
/// Announcements of one peer that are looked at in such a time: it passes on only what is news.
const MAX_ANNOUNCED: u32 = 64;
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(4);
/// A connection that ended before was none: who is turned away, as a liar or for want of room, is so as soon as it connects.
const LASTS: Duration = Duration::from_secs(10);
/// After so many failures in a row the wait before the next dial grows no more.
const MANY_FAILURES: u32 = 16;

/// An address in the driver's own notation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Address(pub String);

/// A lie that was proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lie {
    /// It sent bytes that are not those of the blob that it was asked for.
    AlteredBytes,
    /// It sent or announced metadata that the publisher's keys did not sign, or that goes back.
    ForgedMetadata,
    /// It sent a receipt that its device did not sign.
    ForgedReceipt,
    /// It does not speak the protocol.
    Garbage,
}

/// A connected peer.
#[derive(Debug, Default, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each holds or not, whatever the others do")]
pub struct Peer {
    /// Whether it said anything of itself yet: until its first digest, it is not known what it follows.
    pub introduced: bool,
    /// Newest metadata it claims to hold.
    pub newest: Newest,
    /// The name of its site, if it has one.
    pub site: Option<String>,
    /// Whether it collects receipts.
    pub collects: bool,
    /// Receipts that it holds, as far as is known.
    pub marks: Numbers,
    /// What it was sent of them and did not acknowledge yet.
    pub sent: Sent,
    /// Whether it tells of its receipts only once it heard of ours, and is sent none until then.
    pub withholds: bool,
    /// What the marks hashed to that it was not told yet.
    pub untold: Option<Hash>,
    /// Repositories it follows: the only ones whose news and receipts it is sent.
    pub repositories: BTreeSet<RepositoryId>,
    /// Blobs that it looks for.
    pub interests: BTreeSet<Hash>,
    /// Whether it may bring them to its site: it is connected to nodes of others.
    pub outward: bool,
    /// Repositories of which it did not bring what it claimed to hold: others are asked before it.
    pub doubted: BTreeSet<RepositoryId>,
    /// When it was last given each repository's pack, and which.
    pub given: BTreeMap<RepositoryId, (Hash, Time)>,
    /// Whether it is on this node's own network.
    near: bool,
    /// When it connected.
    since: Time,
    /// Since when, and how often, it announced something.
    announced: (Time, u32),
    /// Whether this node chose it: configured, dialled, or a member that serves others.
    chosen: bool,
    origin: Option<Origin>,
}

/// What a node is to this one, when it connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Dialled, or a member that serves others.
    Chosen,
    /// A member of this closed mesh, for itself alone.
    Member,
    /// Anybody.
    Stranger,
}

/// Whether a node that connected is dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It has a place.
    Taken,
    /// It lied before.
    Liar,
    /// There is none for it.
    Full,
}

#[derive(Debug, Serialize, Deserialize)]
struct Dialled {
    node: Option<NodeId>,
    failures: u32,
    /// When to dial next; `None` while connected or while a dial is under way.
    next: Option<Time>,
    /// Given by configuration: never forgotten.
    fixed: bool,
    /// It was found, and is not heard of any more.
    lost: bool,
}

impl Dialled {
    /// It came to nothing: it is tried again, later each time.
    fn fail(&mut self, now: Time, config: &Config) {
        let (shortest, longest) = config.dial_backoff;
        self.next = Some(now + longest.min(shortest * 2u32.pow(self.failures.min(MANY_FAILURES))));
        self.failures = self.failures.saturating_add(1);
    }
}

/// All that is known of other nodes.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Peers {
    connected: Table<NodeId, Peer>,
    /// Where nodes that are about to connect come from.
    arriving: Table<NodeId, Origin>,
    addresses: Table<Shared<Address>, Dialled>,
    /// Those that lied, and which lie of all it was.
    refused: Table<NodeId, (u64, Lie)>,
    /// Nodes that were heard of on this node's own network.
    near: Table<NodeId, ()>,
    /// The name of this node's site.
    site: Option<Box<str>>,
    /// This node has no network.
    is_away: bool,
}

impl Peers {
    /// Nobody, seen from a node of this site.
    #[must_use]
    pub fn of_site(site: Option<String>) -> Self {
        Self { site: site.map(String::into_boxed_str), ..Self::default() }
    }

    /// A node is about to connect from an address.
    pub fn came_from(&mut self, node: NodeId, from: Option<IpAddr>) {
        let Some(from) = from else { return };
        if self.arriving.len() >= MAX_PEERS {
            self.arriving.pop_first();
        }
        self.arriving.insert(node, Origin::of(from));
    }

    /// A node connected. Of `places`, a quarter is kept for those that this node chose, as it did those behind
    /// configured addresses, and strangers of one origin get half of the rest: who makes up many nodes finds no more
    /// room than that.
    pub fn connected(&mut self, node: NodeId, standing: Standing, near: bool, places: usize, now: Time) -> Place {
        let origin = self.arriving.remove(&node);
        if self.refused.contains_key(&node) {
            return Place::Liar;
        }
        let chosen = self.is_configured(node) || standing == Standing::Chosen;
        if let Some(peer) = self.connected.get_mut(&node) {
            peer.chosen |= chosen;
            peer.near |= near;
        } else {
            let for_others = (places - places / 4).max(1);
            let others = || self.connected.values().filter(|peer| !peer.chosen);
            let crowd = others().filter(|peer| origin.is_some() && peer.origin == origin).count();
            // A fleet does not make up members, and a whole hall of them may be behind one address.
            let too_many_of_one = standing == Standing::Stranger && crowd >= for_others.div_ceil(2);
            let crowded = others().count() >= for_others || too_many_of_one;
            if self.connected.len() >= places || (!chosen && crowded) {
                return Place::Full;
            }
            let near = near || self.near.contains_key(&node);
            self.connected.insert(node, Peer { chosen, origin, near, since: now, ..Peer::default() });
        }
        for address in self.addresses.values_mut().filter(|address| address.node == Some(node)) {
            address.next = None;
        }
        Place::Taken
    }

    /// A node that was reached at this address connected.
    pub fn reached(&mut self, address: &Address, node: NodeId) {
        if let Some(dialled) = self.addresses.get_mut(address) {
            (dialled.node, dialled.next) = (Some(node), None);
        }
    }

    /// A node went away; its addresses are dialled again: soon, if the connection was one, or else later each time.
    pub fn disconnected(&mut self, node: NodeId, now: Time, config: &Config) -> Option<Peer> {
        let gone = self.connected.remove(&node);
        let lasted = gone.as_ref().is_some_and(|peer| now.since(peer.since) >= LASTS);
        for address in self.addresses.values_mut().filter(|address| address.node == Some(node)) {
            if lasted {
                // Whatever multicast says.
                (address.failures, address.lost) = (0, false);
            }
            address.fail(now, config);
        }
        gone
    }

    /// An address was found (`fixed` when it was configured).
    pub fn found(&mut self, address: impl Into<Shared<Address>>, node: Option<NodeId>, fixed: bool, now: Time) {
        let address = address.into();
        let known = node.is_some_and(|node| self.connected.contains_key(&node));
        if let Some(dialled) = self.addresses.get_mut(&address) {
            // Heard of again: worth a try now, unless it is connected or being dialled.
            (dialled.node, dialled.lost) = (node.or(dialled.node), false);
            if !known && dialled.next.is_some() {
                (dialled.next, dialled.failures) = (Some(now), 0);
            }
            return;
        }
        if self.addresses.len() >= MAX_ADDRESSES {
            let worst = self.addresses.iter().filter(|(_, dialled)| !dialled.fixed).max_by_key(|(_, d)| d.failures);
            let Some(worst) = worst.map(|(address, _)| address.clone()) else { return };
            self.addresses.remove(&worst);
        }
        let next = (!known).then_some(now);
        self.addresses.insert(address, Dialled { node, failures: 0, next, fixed, lost: false });
    }

    /// An address that was found is not heard of any more.
    pub fn lost(&mut self, address: &Address) {
        if let Some(dialled) = self.addresses.get_mut(address) {
            dialled.lost = !dialled.fixed;
        }
    }

    /// A dial came to nothing: wait longer each time, or until it is found again.
    pub fn dial_failed(&mut self, address: &Address, now: Time, config: &Config) {
        match self.addresses.get_mut(address) {
            Some(dialled) if !dialled.lost => dialled.fail(now, config),
            _ => drop(self.addresses.remove(address)),
        }
    }

    /// Dials that wait for a better moment wait no more.
    pub fn dial_now(&mut self, now: Time) {
        for dialled in self.addresses.values_mut().filter(|dialled| dialled.next.is_some()) {
            (dialled.next, dialled.failures) = (Some(now), 0);
        }
    }

    /// The network is gone, and nobody is dialled until there is one again; then all are at once. Who was found may have
    /// been so on another network: after a dial in vain it waits as long as can be, as it is found again if it is here.
    pub fn network(&mut self, up: bool, now: Time) {
        if up && self.is_away {
            for dialled in self.addresses.values_mut().filter(|dialled| dialled.next.is_some()) {
                (dialled.next, dialled.failures) = (Some(now), if dialled.fixed { 0 } else { MANY_FAILURES });
            }
        }
        self.is_away = !up;
    }

    /// Whether an address of a node was configured.
    #[must_use]
    pub fn is_configured(&self, node: NodeId) -> bool {
        self.addresses.values().any(|address| address.fixed && address.node == Some(node))
    }

    /// The addresses to dial now; each is then under way until it connects or fails.
    pub fn due(&mut self, now: Time) -> Vec<Address> {
        if self.is_away {
            return Vec::new();
        }
        let connected = &self.connected;
        let refused = &self.refused;
        self.addresses
            .iter_mut()
            .filter(|(_, dialled)| dialled.next.is_some_and(|next| next <= now))
            .filter_map(|(address, dialled)| {
                dialled.next = None;
                let skip =
                    dialled.node.is_some_and(|node| connected.contains_key(&node) || refused.contains_key(&node));
                (!skip).then(|| Address::clone(address))
            })
            .collect()
    }

    /// When [`Peers::due`] has something to say next.
    #[must_use]
    pub fn wake_at(&self) -> Option<Time> {
        let waiting = self.addresses.values().filter(|_| !self.is_away);
        waiting.filter_map(|dialled| dialled.next).min()
    }

    /// A connected peer.
    pub fn get_mut(&mut self, node: NodeId) -> Option<&mut Peer> {
        self.connected.get_mut(&node)
    }

    /// A connected peer.
    #[must_use]
    pub fn get(&self, node: NodeId) -> Option<&Peer> {
        self.connected.get(&node)
    }

    /// A node was heard of on this node's own network.
    pub fn near(&mut self, node: NodeId) {
        if self.near.len() < MAX_NEAR {
            self.near.insert(node, ());
            if let Some(peer) = self.connected.get_mut(&node) {
                peer.near = true;
            }
        }
    }

    /// Whether a node shares this node's site: both name the same one, or, where not both name one, they are on one
    /// network.
    #[must_use]
    pub fn is_near(&self, node: NodeId) -> bool {
        let Some(peer) = self.connected.get(&node) else { return self.near.contains_key(&node) };
        match (&self.site, &peer.site) {
            (Some(here), Some(there)) => **here == **there,
            _ => peer.near,
        }
    }

    /// Whether a node of another site is connected.
    #[must_use]
    pub fn outward(&self) -> bool {
        self.iter().any(|(node, peer)| peer.introduced && !self.is_near(node))
    }

    /// All connected peers.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &Peer)> {
        self.connected.iter().map(|(node, peer)| (*node, peer))
    }

    /// All connected peers.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (NodeId, &mut Peer)> {
        self.connected.iter_mut().map(|(node, peer)| (*node, peer))
    }

    /// Never deal with this node again in this process's life; returns false if that was so before.
    pub fn refuse(&mut self, node: NodeId, lie: Lie) -> bool {
        if self.refused.contains_key(&node) {
            return false;
        }
        let last = self.refused.values().map(|(number, _)| *number).max().unwrap_or_default();
        self.refused.insert(node, (last + 1, lie));
        if self.refused.len() > MAX_REFUSED {
            let oldest = self.refused.iter().min_by_key(|(_, (number, _))| *number).map(|(node, _)| *node);
            oldest.map(|oldest| self.refused.remove(&oldest));
        }
        self.connected.remove(&node);
        true
    }

    /// Those that lied, and how.
    pub fn refused(&self) -> impl Iterator<Item = (NodeId, Lie)> {
        self.refused.iter().map(|(node, (_, lie))| (*node, *lie))
    }
}

impl Peer {
    /// When it connected.
    #[must_use]
    pub fn since(&self) -> Time {
        self.since
    }

    /// Takes in what the peer says that it holds.
    pub fn take(&mut self, digest: &Digest) {
        // It is told of nothing anew when it greets again.
        self.withholds = !self.introduced && digest.more.is_some();
        self.introduced = true;
        self.collects = digest.collects;
        self.site.clone_from(&digest.site);
        self.repositories = digest.follows.iter().copied().collect();
        for holding in &digest.holdings {
            // One entry a repository that it follows: the digest's bound is the table's.
            if self.repositories.contains(&holding.repository) {
                self.newest.take(*holding);
            }
        }
        self.newest.retain(&self.repositories);
        for mark in &digest.marks {
            // It may be lower than before: a receipt below an acknowledged one could not be kept.
            if let Some(counter) = self.marks.get_mut(&(mark.repository, mark.device)) {
                *counter = mark.counter;
            } else {
                self.mark(mark);
            }
        }
    }

    /// The peer holds this device's receipts up to the mark.
    pub fn mark(&mut self, mark: &Mark) {
        let key = (mark.repository, mark.device);
        if self.marks.len() < MAX_MARKS_HELD || self.marks.contains_key(&key) {
            let counter = self.marks.get_or_insert_with(key, || 0);
            *counter = (*counter).max(mark.counter);
        }
    }

    /// Whether an announcement of the peer is worth a look: a flood of them costs a signature each.
    pub fn may_announce(&mut self, now: Time) -> bool {
        if now.since(self.announced.0) >= ANNOUNCE_INTERVAL {
            self.announced = (now, 0);
        }
        self.announced.1 = self.announced.1.saturating_add(1);
        self.announced.1 <= MAX_ANNOUNCED
    }

    /// The peer looks for a blob.
    pub fn wants(&mut self, blob: Hash) {
        if self.interests.len() < MAX_INTERESTS {
            self.interests.insert(blob);
        }
    }
}
