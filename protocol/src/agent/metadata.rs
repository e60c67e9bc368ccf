//! Metadata on its way: heard of, asked for, verified, written down, believed, and only then told.

use std::cmp::Reverse;

use super::{After, Agent};
use crate::{
    NodeId, RepositoryId,
    action::{Action, GossipId, Verdict},
    catalog,
    fact::Fact,
    peers::{Lie, Peer},
    record::Record,
    trust::{Announced, TrustError, Verified},
    wire::{Announcement, Digest, Holding, MAX_ANNOUNCEMENT, Message, MetadataVersion},
};

impl Agent {
    /// Gossip says that there is news: checked against the held root before it is passed on.
    pub(super) fn announced(&mut self, node: NodeId, id: GossipId, bytes: &[u8], actions: &mut Vec<Action>) {
        let verdict = self.judge(node, bytes, actions);
        actions.push(Action::Verdict { id, verdict });
    }

    fn judge(&mut self, node: NodeId, bytes: &[u8], actions: &mut Vec<Action>) -> Verdict {
        let now = self.now.time;
        if !self.peers.get_mut(node).is_some_and(|peer| peer.may_announce(now)) {
            return Verdict::Ignore;
        }
        let announcement = match Announcement::decode(bytes) {
            Ok(announcement) => announcement,
            Err(why) => {
                self.refuse(node, Lie::Garbage, why.to_string(), actions);
                return Verdict::Reject;
            }
        };
        let repository = announcement.repository;
        if !self.catalog.follows(repository) {
            return Verdict::Ignore;
        }
        let claim = |timestamp| Holding {
            repository,
            version: MetadataVersion { root: announcement.root, timestamp },
            pack: announcement.pack,
        };
        let Some(held) = self.catalog.verified(repository) else {
            // Nothing to check it with yet: not passed on, but worth a question.
            self.ask_on_hearsay(node, claim(0), actions);
            return Verdict::Ignore;
        };
        match self.memory.check_announcement(held, announcement.root, &announcement.timestamp) {
            Ok(Announced::Newer { version }) => {
                self.ask_on_hearsay(node, claim(version), actions);
                Verdict::Accept
            }
            Ok(Announced::NotNewer) => Verdict::Ignore,
            Ok(Announced::OtherRoot) => {
                self.ask_on_hearsay(node, claim(0), actions);
                Verdict::Ignore
            }
            Err(why) if why.is_lie() => {
                self.refuse(node, Lie::ForgedMetadata, why.to_string(), actions);
                Verdict::Reject
            }
            Err(why) => {
                self.note_fork(repository, Some(node), &why, actions);
                Verdict::Ignore
            }
        }
    }

    /// Asks a peer for a pack that it passed the announcement of on.
    fn ask_on_hearsay(&mut self, node: NodeId, claimed: Holding, actions: &mut Vec<Action>) {
        if self.ask(node, claimed, actions) {
            self.catalog.on_hearsay(node, claimed.repository);
        }
    }

    /// Asks a peer for a pack that it claims to hold, if that is news and nobody else is being asked; returns whether it
    /// did.
    pub(super) fn ask(&mut self, node: NodeId, claimed: Holding, actions: &mut Vec<Action>) -> bool {
        let arriving = self.arriving.get(&claimed.repository).map(|verified| catalog::holding(verified).version);
        if arriving.is_some_and(|version| version >= claimed.version) {
            return false;
        }
        let until = self.now.time + self.config.metadata_patience;
        let doubted = self.peers.get(node).is_some_and(|peer| peer.doubted.contains(&claimed.repository));
        let asks = self.catalog.should_ask(node, claimed, until, doubted);
        if asks {
            let question = Message::AskPack { repository: claimed.repository, pack: claimed.pack };
            Self::send(node, &question, actions);
        }
        asks
    }

    /// A peer claims older metadata than is held here: it is told, as it may not have heard of it. One of two nodes that met
    /// may have missed that the other one was gone in between.
    pub(super) fn correct(&self, node: NodeId, digest: &Digest, actions: &mut Vec<Action>) {
        if !self.config.serve {
            return;
        }
        let newer = |claimed: &Holding| {
            let held = catalog::holding(self.catalog.verified(claimed.repository)?);
            (held.version > claimed.version).then_some(held)
        };
        let holdings: Vec<Holding> = digest.holdings.iter().filter_map(newer).collect();
        if !holdings.is_empty() {
            let news = Message::Digest(self.news(holdings));
            Self::send(node, &news, actions);
        }
    }

    /// Asks whoever else claims to hold something newer.
    pub(super) fn ask_around(&mut self, repository: RepositoryId, actions: &mut Vec<Action>) {
        let claim = |(node, peer): (NodeId, &Peer)| {
            let claimed = peer.newest.of(repository)?;
            Some((peer.doubted.contains(&repository), Reverse(claimed.version), node, claimed))
        };
        let mut claims: Vec<_> = self.peers.iter().filter_map(claim).collect();
        claims.sort_unstable();
        for (_, _, node, claimed) in claims {
            self.ask(node, claimed, actions);
        }
    }

    /// A peer did not bring what it claimed to hold: others are asked before it.
    pub(super) fn doubt(&mut self, node: NodeId, repository: RepositoryId) {
        if let Some(peer) = self.peers.get_mut(node) {
            peer.doubted.insert(repository);
        }
    }

    /// A peer asks for a pack. The same one soon again is not sent: a short question has a long answer.
    pub(super) fn give(&mut self, node: NodeId, repository: RepositoryId, actions: &mut Vec<Action>) {
        let (now, soon) = (self.now.time, self.config.metadata_patience / 2);
        let Some(verified) = self.catalog.verified(repository).filter(|_| self.config.serve) else { return };
        let Some(peer) = self.peers.get_mut(node) else { return };
        let pack = verified.pack_hash();
        if peer.given.get(&repository).is_some_and(|(given, at)| *given == pack && now.since(*at) < soon) {
            return;
        }
        peer.given.insert(repository, (pack, now));
        let answer = Message::Pack { repository, bytes: verified.pack().to_vec() };
        Self::send(node, &answer, actions);
    }

    /// A trust pack came, from a peer or from an import (`None`).
    pub(super) fn pack(
        &mut self,
        from: Option<NodeId>,
        repository: RepositoryId,
        bytes: &[u8],
        actions: &mut Vec<Action>,
    ) {
        if !self.catalog.follows(repository) {
            if from.is_none() {
                let why = "it is not followed here".to_owned();
                actions.push(Action::Tell(Fact::ImportRefused { repository, why }));
            }
            return;
        }
        let held = self.arriving.get(&repository).or_else(|| self.catalog.verified(repository));
        let judged = self.memory.verify(repository, held, bytes).and_then(|verified| self.not_before(verified));
        match (judged, from) {
            (Ok(verified), _) => {
                if let Some(peer) = from.and_then(|node| self.peers.get_mut(node)) {
                    peer.doubted.remove(&repository);
                }
                let records = vec![Record::Metadata { repository, pack: verified.pack().to_vec() }];
                self.arriving.insert(repository, verified.clone());
                self.persist(records, After::Metadata { verified: Box::new(verified), from }, actions);
            }
            (Err(why), Some(node)) if why.is_lie() => {
                self.refuse(node, Lie::ForgedMetadata, why.to_string(), actions);
                self.ask_around(repository, actions);
            }
            (Err(why), Some(node)) => {
                self.note_fork(repository, from, &why, actions);
                self.doubt(node, repository);
                if let Some(peer) = self.peers.get_mut(node) {
                    peer.newest.forget(repository);
                }
                self.ask_around(repository, actions);
            }
            // The same again is what a restart brings.
            (Err(_), None) if held.is_some_and(|held| **held.pack() == *bytes) => {}
            (Err(why), None) => {
                self.note_fork(repository, None, &why, actions);
                actions.push(Action::Tell(Fact::ImportRefused { repository, why: why.to_string() }));
            }
        }
    }

    /// Tells of a second history, once for each place where one parts.
    fn note_fork(
        &mut self,
        repository: RepositoryId,
        from: Option<NodeId>,
        why: &TrustError,
        actions: &mut Vec<Action>,
    ) {
        let words = why.to_string();
        if why.is_fork() && self.forks.get(&repository) != Some(&words) {
            self.forks.insert(repository, words.clone());
            actions.push(Action::Tell(Fact::HistoryForked { repository, from, why: words }));
        }
    }

    /// Refuses what was signed before the earliest that this device was told to believe.
    fn not_before(&self, verified: Verified) -> Result<Verified, TrustError> {
        match self.config.since.get(&verified.repository()) {
            Some(since) if verified.issued() < *since => {
                Err(TrustError::Earlier { held: *since, offered: verified.issued() })
            }
            _ => Ok(verified),
        }
    }

    /// Verified metadata is on disk: it is told and acted on.
    pub(super) fn believe(&mut self, verified: Verified, from: Option<NodeId>, actions: &mut Vec<Action>) {
        let repository = verified.repository();
        if self.arriving.get(&repository) == Some(&verified) {
            self.arriving.remove(&repository);
        }
        actions.push(Action::Tell(Fact::MetadataVerified {
            repository,
            version: verified.timestamp_version(),
            issued: verified.issued(),
            from,
        }));
        let holding = catalog::holding(&verified);
        let announcement = Announcement {
            repository,
            timestamp: verified.timestamp().to_vec(),
            pack: verified.pack_hash(),
            root: verified.root_version(),
        };
        let before = self.catalog.verified(repository).cloned();
        self.catalog.keep(verified);
        self.count_listed(repository, before.as_ref(), actions);
        // Whoever was revoked hears of it no more.
        self.judge_members_again(Some(repository), actions);
        if self.config.serve {
            let bytes = announcement.encode();
            // A timestamp with very many signatures is too long for gossip: sync brings it.
            if bytes.len() <= MAX_ANNOUNCEMENT {
                actions.push(Action::Announce { repository, bytes });
            }
            // Peers may not be in the gossip yet: those that follow the repository and don't claim this are told, and
            // those whose first digest is on its way, as the one that they were sent is of before.
            let news = Message::Digest(self.news(vec![holding]));
            let peers: Vec<NodeId> = self
                .peers
                .iter()
                .filter(|(_, peer)| !peer.introduced || peer.repositories.contains(&repository))
                .filter(|(_, peer)| peer.newest.of(repository).is_none_or(|known| known.version < holding.version))
                .map(|(node, _)| node)
                .collect();
            for node in peers {
                Self::send(node, &news, actions);
            }
        }
        self.forget_keys();
        // Someone may have claimed something newer still while this was under way.
        self.ask_around(repository, actions);
        self.plan(actions);
        self.decide_all(actions);
    }
}
