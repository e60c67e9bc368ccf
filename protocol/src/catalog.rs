//! The catalog: the newest verified metadata of each repository, and what to ask a peer for on contact.
//!
//! Digests merge like a join: the order is that of [`MetadataVersion`], then of the pack's name, so nodes that met
//! in any order end up with the same entry (tests: commutative, associative, idempotent).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    Hash, NodeId, RepositoryId, Time,
    table::Table,
    trust::Verified,
    wire::{Holding, MetadataVersion},
};

/// The newest metadata that is known of, by repository.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Newest(BTreeMap<RepositoryId, (MetadataVersion, Hash)>);

impl Newest {
    /// Takes a holding in; returns whether it was newer than what was known.
    pub fn take(&mut self, holding: Holding) -> bool {
        let entry = (holding.version, holding.pack);
        match self.0.get_mut(&holding.repository) {
            Some(known) if *known >= entry => false,
            Some(known) => {
                *known = entry;
                true
            }
            None => {
                self.0.insert(holding.repository, entry);
                true
            }
        }
    }

    /// Takes in all that another knows of.
    pub fn merge(&mut self, other: &Self) {
        for holding in other.holdings() {
            self.take(holding);
        }
    }

    /// What is known of one repository.
    #[must_use]
    pub fn of(&self, repository: RepositoryId) -> Option<Holding> {
        self.0.get(&repository).map(|(version, pack)| Holding { repository, version: *version, pack: *pack })
    }

    /// Forgets one repository.
    pub fn forget(&mut self, repository: RepositoryId) {
        self.0.remove(&repository);
    }

    /// Forgets all repositories but these.
    pub fn retain(&mut self, repositories: &BTreeSet<RepositoryId>) {
        self.0.retain(|repository, _| repositories.contains(repository));
    }

    /// What is known, by repository.
    pub fn holdings(&self) -> impl Iterator<Item = Holding> {
        self.0.iter().map(|(repository, (version, pack))| Holding {
            repository: *repository,
            version: *version,
            pack: *pack,
        })
    }
}

/// A question for a pack that is under way.
#[derive(Debug, Serialize, Deserialize)]
struct Asked {
    node: NodeId,
    holding: Holding,
    until: Time,
    /// Whether the peer failed to bring what it claimed before.
    doubted: bool,
    /// Whether the peer was asked because it passed an announcement on, which it may do before it has what is announced.
    hearsay: bool,
}

/// Verified metadata of the repositories that this node follows.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Catalog {
    held: Table<RepositoryId, Option<Verified>>,
    asked: Table<RepositoryId, Asked>,
}

impl Catalog {
    /// Follows a repository.
    pub fn follow(&mut self, repository: RepositoryId) {
        self.held.get_or_insert_with(repository, || None);
    }

    /// Whether a repository is followed.
    #[must_use]
    pub fn follows(&self, repository: RepositoryId) -> bool {
        self.held.contains_key(&repository)
    }

    /// The followed repositories.
    pub fn repositories(&self) -> impl Iterator<Item = RepositoryId> {
        self.held.keys().copied()
    }

    /// What is held of a repository.
    #[must_use]
    pub fn verified(&self, repository: RepositoryId) -> Option<&Verified> {
        self.held.get(&repository)?.as_ref()
    }

    /// All that is held.
    pub fn all(&self) -> impl Iterator<Item = &Verified> {
        self.held.values().flatten()
    }

    /// Keeps newly verified metadata of a followed repository. It is newer: `trust::verify` compared it.
    pub fn keep(&mut self, verified: Verified) {
        let repository = verified.repository();
        if let Some(held) = self.held.get_mut(&repository) {
            *held = Some(verified);
        }
        if let Some(asked) = self.asked.get(&repository)
            && !self.is_newer(asked.holding)
        {
            self.asked.remove(&repository);
        }
    }

    /// What a digest says of the held metadata.
    #[must_use]
    pub fn holdings(&self) -> Vec<Holding> {
        self.all().map(holding).collect()
    }

    /// Whether a holding that a peer claims would be news here.
    #[must_use]
    pub fn is_newer(&self, claimed: Holding) -> bool {
        match self.held.get(&claimed.repository) {
            None => false,
            Some(None) => true,
            Some(Some(held)) => claimed.version > holding(held).version,
        }
    }

    /// Whether a claimed holding is as new as what is held, and another: then there are two histories, and one question
    /// brings the proof.
    fn is_other(&self, claimed: Holding) -> bool {
        let held = self.verified(claimed.repository).map(holding);
        held.is_some_and(|held| held.version == claimed.version && held.pack != claimed.pack)
    }

    /// Notes that a peer claims a holding; returns whether to ask that peer for it now. One question is under way for
    /// a repository at a time, unless the claim is newer than what was asked for. A doubted peer is asked when nobody
    /// else is, and gives way to any other: who claims much and brings nothing can't hide what others hold.
    pub fn should_ask(&mut self, node: NodeId, claimed: Holding, until: Time, doubted: bool) -> bool {
        let turn = match self.asked.get(&claimed.repository) {
            None => true,
            Some(asked) => !doubted && (asked.doubted || claimed.version > asked.holding.version),
        };
        if !turn || !(self.is_newer(claimed) || !doubted && self.is_other(claimed)) {
            return false;
        }
        self.asked.insert(claimed.repository, Asked { node, holding: claimed, until, doubted, hearsay: false });
        true
    }

    /// Notes that the question to this peer rests on an announcement that it passed on.
    pub fn on_hearsay(&mut self, node: NodeId, repository: RepositoryId) {
        if let Some(asked) = self.asked.get_mut(&repository).filter(|asked| asked.node == node) {
            asked.hearsay = true;
        }
    }

    /// A peer says itself that it holds what it was asked for too early: it may be asked once more.
    pub fn has_it_now(&mut self, node: NodeId, claimed: Holding) {
        let early = |asked: &Asked| asked.node == node && asked.hearsay && claimed.version >= asked.holding.version;
        if self.asked.get(&claimed.repository).is_some_and(early) {
            self.asked.remove(&claimed.repository);
        }
    }

    /// Whether this peer was asked for this repository's pack.
    #[must_use]
    pub fn asked(&self, node: NodeId, repository: RepositoryId) -> bool {
        self.asked.get(&repository).is_some_and(|asked| asked.node == node)
    }

    /// Forgets a question that was answered, by whatever, or whose peer is gone.
    pub fn answered(&mut self, node: NodeId, repository: RepositoryId) {
        if self.asked.get(&repository).is_some_and(|asked| asked.node == node) {
            self.asked.remove(&repository);
        }
    }

    /// Forgets the questions that a peer took with it; returns their repositories, to ask others.
    pub fn lost(&mut self, node: NodeId) -> Vec<RepositoryId> {
        let lost: Vec<_> =
            self.asked.iter().filter(|(_, asked)| asked.node == node).map(|(repository, _)| *repository).collect();
        for repository in &lost {
            self.asked.remove(repository);
        }
        lost
    }

    /// Forgets the questions that stayed unanswered; returns who did not answer, and what.
    pub fn overdue(&mut self, now: Time) -> Vec<(NodeId, RepositoryId)> {
        let due: Vec<_> = self
            .asked
            .iter()
            .filter(|(_, asked)| asked.until <= now)
            .map(|(repository, asked)| (asked.node, *repository))
            .collect();
        for (_, repository) in &due {
            self.asked.remove(repository);
        }
        due
    }

    /// When [`Catalog::overdue`] has something to say next.
    #[must_use]
    pub fn wake_at(&self) -> Option<Time> {
        self.asked.values().map(|asked| asked.until).min()
    }
}

/// What a digest says of one repository's metadata.
#[must_use]
pub fn holding(verified: &Verified) -> Holding {
    Holding {
        repository: verified.repository(),
        version: MetadataVersion { root: verified.root_version(), timestamp: verified.timestamp_version() },
        pack: verified.pack_hash(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn newest() -> impl Strategy<Value = Newest> {
        // Few distinct values, so that repositories, versions and ties collide often.
        let holding = (0u8..3, 0u64..3, 0u64..3, 0u8..3).prop_map(|(repository, root, timestamp, pack)| Holding {
            repository: RepositoryId([repository; 32]),
            version: MetadataVersion { root, timestamp },
            pack: Hash([pack; 32]),
        });
        proptest::collection::vec(holding, 0..12).prop_map(|holdings| {
            let mut newest = Newest::default();
            for holding in holdings {
                newest.take(holding);
            }
            newest
        })
    }

    fn merged(a: &Newest, b: &Newest) -> Newest {
        let mut out = a.clone();
        out.merge(b);
        out
    }

    proptest! {
        #[test]
        fn merge_is_commutative_associative_and_idempotent(a in newest(), b in newest(), c in newest()) {
            prop_assert_eq!(merged(&a, &b), merged(&b, &a));
            prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
            prop_assert_eq!(merged(&a, &a), a);
        }
    }
}
