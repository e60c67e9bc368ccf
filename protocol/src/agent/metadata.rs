//! Metadata on its way: heard of, asked for, verified, written down, believed, and only then told.

use super::{After, Agent, MAX_PENDING};
use crate::{
    NodeId, RepositoryId,
    action::{Action, GossipId, Verdict},
    catalog,
    fact::Fact,
    peers::Lie,
    record::Record,
    trust::{self, Announced, Verified},
    wire::{Announcement, Digest, Holding, Message, MetadataVersion},
};

impl Agent {
    /// Gossip says that there is news: checked against the held root before it is passed on.
    pub(super) fn announced(&mut self, node: NodeId, id: GossipId, bytes: &[u8], actions: &mut Vec<Action>) {
        let verdict = self.judge(node, bytes, actions);
        actions.push(Action::Verdict { id, verdict });
    }

    fn judge(&mut self, node: NodeId, bytes: &[u8], actions: &mut Vec<Action>) -> Verdict {
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
            self.ask(node, claim(0), actions);
            return Verdict::Ignore;
        };
        match trust::check_announcement(held, announcement.root, &announcement.timestamp) {
            Ok(Announced::Newer { version }) => {
                self.ask(node, claim(version), actions);
                Verdict::Accept
            }
            Ok(Announced::NotNewer) => Verdict::Ignore,
            Ok(Announced::OtherRoot) => {
                self.ask(node, claim(0), actions);
                Verdict::Ignore
            }
            Err(why) => {
                self.refuse(node, Lie::ForgedMetadata, why.to_string(), actions);
                Verdict::Reject
            }
        }
    }

    /// Asks a peer for a pack that it claims to hold, if that is news and nobody else is being asked.
    pub(super) fn ask(&mut self, node: NodeId, claimed: Holding, actions: &mut Vec<Action>) {
        let arriving = self.arriving.get(&claimed.repository).map(|verified| catalog::holding(verified).version);
        if arriving.is_some_and(|version| version >= claimed.version) {
            return;
        }
        let until = self.now.time + self.config.metadata_patience;
        if self.catalog.should_ask(node, claimed, until) {
            let question = Message::AskPack { repository: claimed.repository, pack: claimed.pack };
            self.send(node, &question, actions);
        }
    }

    /// Asks whoever else claims to hold something newer.
    pub(super) fn ask_around(&mut self, repository: RepositoryId, actions: &mut Vec<Action>) {
        let claims: Vec<_> =
            self.peers.iter().filter_map(|(node, peer)| Some((node, peer.newest.of(repository)?))).collect();
        for (node, claimed) in claims {
            self.ask(node, claimed, actions);
        }
    }

    /// A trust pack came, from a peer or from an import (`None`).
    pub(super) fn pack(
        &mut self,
        from: Option<NodeId>,
        repository: RepositoryId,
        bytes: &[u8],
        actions: &mut Vec<Action>,
    ) {
        if !self.catalog.follows(repository) || self.pending.len() >= MAX_PENDING {
            if from.is_none() {
                let why = "it is not followed here, or the store is behind".to_owned();
                actions.push(Action::Tell(Fact::ImportRefused { repository, why }));
            }
            return;
        }
        let held = self.arriving.get(&repository).or_else(|| self.catalog.verified(repository));
        match (trust::verify(repository, held, bytes), from) {
            (Ok(verified), _) => {
                let floor = self.floor.max(verified.issued());
                let records =
                    vec![Record::Metadata { repository, pack: verified.pack().to_vec() }, Record::Floor(floor)];
                self.arriving.insert(repository, verified.clone());
                self.persist(records, After::Metadata { verified: Box::new(verified), from }, actions);
            }
            (Err(why), Some(node)) if why.is_lie() => {
                self.refuse(node, Lie::ForgedMetadata, why.to_string(), actions);
                self.ask_around(repository, actions);
            }
            (Err(_), Some(_)) => self.ask_around(repository, actions),
            // The same again is what a restart brings.
            (Err(_), None) if held.is_some_and(|held| **held.pack() == *bytes) => {}
            (Err(why), None) => {
                actions.push(Action::Tell(Fact::ImportRefused { repository, why: why.to_string() }));
            }
        }
    }

    /// Verified metadata is on disk: it is told and acted on.
    pub(super) fn believe(&mut self, verified: Verified, from: Option<NodeId>, actions: &mut Vec<Action>) {
        let repository = verified.repository();
        self.floor = self.floor.max(verified.issued());
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
        self.catalog.keep(verified);
        if self.config.serve {
            actions.push(Action::Announce { repository, bytes: announcement.encode() });
            // Peers may not be in the gossip yet: those that follow the repository and don't claim this are told, and
            // those whose first digest is on its way, as the one that they were sent is of before.
            let news = Message::Digest(Digest { holdings: vec![holding], marks: Vec::new(), ..self.digest() });
            let peers: Vec<NodeId> = self
                .peers
                .iter()
                .filter(|(_, peer)| !peer.introduced || peer.repositories.contains(&repository))
                .filter(|(_, peer)| peer.newest.of(repository).is_none_or(|known| known.version < holding.version))
                .map(|(node, _)| node)
                .collect();
            peers.into_iter().for_each(|node| self.send(node, &news, actions));
        }
        // Someone may have claimed something newer still while this was under way.
        self.ask_around(repository, actions);
        self.plan(actions);
        self.decide_all(actions);
    }
}
