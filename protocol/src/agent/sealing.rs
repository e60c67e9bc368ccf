//! Sealed releases: on the way to the keys of the epochs that this device needs. The keys themselves never come in here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Agent;
use crate::{
    Hash, RepositoryId,
    action::{Action, NoKey},
    policy::Access,
    release::Payload,
    seal::{Epoch, Lock},
    table::Table,
};

/// Where the device is on its way to the keys that it needs.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Sealed {
    /// Of each epoch whose key is needed, a release that it must open.
    locks: Table<Epoch, Lock>,
    /// How far the way to those keys is; nothing of one that is being looked for the first time.
    keys: BTreeMap<Epoch, Access>,
}

impl Agent {
    /// How far the way to each key is.
    pub(super) fn keys(&self) -> &BTreeMap<Epoch, Access> {
        static NONE: BTreeMap<Epoch, Access> = BTreeMap::new();
        self.sealed.as_ref().map_or(&NONE, |sealed| &sealed.keys)
    }

    /// Looks for the keys of releases that this device would take, unless it is on its way to them already.
    pub(super) fn look_for_keys(&mut self, locks: Vec<Lock>, actions: &mut Vec<Action>) {
        for lock in locks {
            let locks = &mut self.sealed.get_or_insert_default().locks;
            if !locks.contains_key(&lock.owner.epoch) {
                locks.insert(lock.owner.epoch.clone(), lock.clone());
                self.unlock(&lock, actions);
            }
        }
    }

    /// Whether a key is not here.
    pub(super) fn misses_keys(&self) -> bool {
        self.sealed.iter().flat_map(|sealed| sealed.keys.values()).any(|access| *access != Access::Open)
    }

    /// Looks again for all keys that are not here: an enrolment may have brought one meanwhile.
    pub(super) fn look_for_keys_again(&mut self, actions: &mut Vec<Action>) {
        let Some(Sealed { locks, keys }) = self.sealed.as_deref() else { return };
        let missing = |lock: &&Lock| keys.get(&lock.owner.epoch).is_some_and(|access| *access != Access::Open);
        let missing: Vec<Lock> = locks.values().filter(missing).cloned().collect();
        for lock in &missing {
            self.unlock(lock, actions);
        }
    }

    fn unlock(&self, lock: &Lock, actions: &mut Vec<Action>) {
        let listed = self.keys_of(&lock.owner.epoch);
        let whole = |keys: &&Payload| self.store.get(&keys.blob).is_some_and(|stored| stored.whole);
        actions.push(Action::Unlock { lock: Box::new(lock.clone()), keys: listed.filter(whole).cloned() });
    }

    /// A blob is whole: it may be the list of keys that is waited for.
    pub(super) fn look_into_keys(&mut self, blob: Hash, actions: &mut Vec<Action>) {
        let Some(Sealed { locks, keys }) = self.sealed.as_deref() else { return };
        let waits = |lock: &&Lock| {
            let epoch = &lock.owner.epoch;
            keys.get(epoch) == Some(&Access::NeedsKey) && self.keys_of(epoch).is_some_and(|keys| keys.blob == blob)
        };
        let waiting: Vec<Lock> = locks.values().filter(waits).cloned().collect();
        for lock in &waiting {
            self.unlock(lock, actions);
        }
    }

    /// The driver looked for a key.
    pub(super) fn unlocked(&mut self, epoch: Epoch, result: Result<(), NoKey>, actions: &mut Vec<Action>) {
        let access = match result {
            Ok(()) => Access::Open,
            Err(NoKey::Missing) => Access::NeedsKey,
            Err(NoKey::NotAMember(list)) => Access::NotAMember(list),
            Err(NoKey::Failed(why)) => Access::Failed(why),
        };
        let keys = self.keys_of(&epoch).map(|keys| keys.blob);
        match self.keys().get(&epoch) {
            Some(known) if *known == access => return,
            // Looked for without the list, which was read before and need not come again.
            Some(Access::NotAMember(read)) if access == Access::NeedsKey && keys == Some(*read) => return,
            _ => {}
        }
        self.sealed.get_or_insert_default().keys.insert(epoch, access);
        // A list that is needed is fetched; one that was read may go.
        self.plan(actions);
        // It may have arrived while the driver looked without it.
        if let Some(blob) = keys.filter(|blob| self.store.get(blob).is_some_and(|stored| stored.whole)) {
            self.look_into_keys(blob, actions);
        }
        self.decide_all(actions);
    }

    /// The lists of keys that this device must look into.
    pub(super) fn wanted_keys(&self) -> Vec<(RepositoryId, Hash, u64)> {
        let needed = self.keys().iter().filter(|(_, access)| **access == Access::NeedsKey);
        let listed = needed.filter_map(|(epoch, _)| Some((epoch.repository, self.keys_of(epoch)?)));
        listed.map(|(repository, keys)| (repository, keys.blob, keys.size)).collect()
    }

    /// Newer metadata is here: what no release needs any more is forgotten, and what came to
    /// nothing may go well with a new list.
    pub(super) fn forget_keys(&mut self) {
        let Self { sealed, catalog, .. } = self;
        let Some(Sealed { locks, keys }) = sealed.as_deref_mut() else { return };
        locks.retain(|epoch, lock| {
            let verified = catalog.verified(epoch.repository);
            let listed = verified.is_some_and(|verified| {
                verified.releases().any(|release| release.lock(epoch.repository).as_ref() == Some(lock))
            });
            let newer_list = |read: &Hash| {
                let list = verified.and_then(|verified| verified.keys().find(|(listed, _)| listed == epoch));
                list.is_some_and(|(_, list)| list.blob != *read)
            };
            listed
                && match keys.get(epoch) {
                    Some(Access::NotAMember(read)) => !newer_list(read),
                    Some(Access::Failed(_)) => false,
                    _ => true,
                }
        });
        keys.retain(|epoch, _| locks.contains_key(epoch));
        if locks.is_empty() {
            *sealed = None;
        }
    }

    fn keys_of(&self, epoch: &Epoch) -> Option<&Payload> {
        let verified = self.catalog.verified(epoch.repository)?;
        verified.keys().find(|(listed, _)| listed == epoch).map(|(_, keys)| keys)
    }
}
