//! What to keep under the quota: which blobs to fetch for others, and which to let go.

use std::collections::{BTreeMap, BTreeSet};

use crate::Hash;

/// What is in the store of one blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Its whole size in bytes; a part counts in full, for it is on its way to be whole.
    pub size: u64,
    /// Whether all of it is here.
    pub whole: bool,
}

/// What follows from a list of wishes and a quota.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Blobs to fetch, most wanted first, with their sizes.
    pub fetch: Vec<(Hash, u64)>,
    /// Blobs to remove.
    pub delete: Vec<Hash>,
    /// Wished for, but over the quota.
    pub no_room: Vec<(Hash, u64)>,
}

/// Plans for `wishes` in the order of their worth. What fits under `quota` bytes stays or is fetched; everything
/// else in the store goes. `pinned` blobs are in use: they stay and count first.
#[must_use]
pub fn plan(wishes: &[(Hash, u64)], pinned: &BTreeSet<Hash>, store: &BTreeMap<Hash, Stored>, quota: u64) -> Plan {
    let mut plan = Plan::default();
    let mut room =
        quota.saturating_sub(store.iter().filter(|(hash, _)| pinned.contains(hash)).map(|(_, held)| held.size).sum());
    let mut stays = pinned.clone();
    let mut planned = BTreeSet::new();
    for (hash, size) in wishes {
        if !stays.contains(hash) {
            if *size > room {
                plan.no_room.push((*hash, *size));
                continue;
            }
            room -= size;
            stays.insert(*hash);
        }
        if !store.get(hash).is_some_and(|held| held.whole) && planned.insert(*hash) {
            plan.fetch.push((*hash, *size));
        }
    }
    plan.delete = store.keys().filter(|hash| !stays.contains(hash)).copied().collect();
    plan
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hash(n: u8) -> Hash {
        Hash([n; 32])
    }

    #[test]
    fn the_most_wanted_is_kept_and_the_rest_goes() {
        let store = BTreeMap::from([
            (hash(1), Stored { size: 60, whole: true }),
            (hash(2), Stored { size: 60, whole: true }),
            (hash(9), Stored { size: 5, whole: false }),
        ]);
        let wishes = [(hash(3), 40), (hash(2), 60), (hash(1), 60)];
        let plan = plan(&wishes, &BTreeSet::new(), &store, 100);
        assert_eq!(plan.fetch, [(hash(3), 40)]);
        assert_eq!(plan.delete, [hash(1), hash(9)]);
        assert_eq!(plan.no_room, [(hash(1), 60)]);
    }

    #[test]
    fn what_is_in_use_stays_whatever_the_quota() {
        let store = BTreeMap::from([(hash(1), Stored { size: 60, whole: true })]);
        let plan = plan(&[(hash(2), 50)], &BTreeSet::from([hash(1)]), &store, 100);
        assert_eq!(plan, Plan { no_room: vec![(hash(2), 50)], ..Plan::default() });
    }

    proptest! {
        #[test]
        fn the_quota_holds(
            wishes in proptest::collection::vec((0u8..20, 0u64..100), 0..20),
            store in proptest::collection::btree_map(0u8..20, (0u64..100, any::<bool>()), 0..20),
            quota in 0u64..500,
        ) {
            let size = |n: u8| store.get(&n).map_or(u64::from(n) * 3, |held| held.0);
            let wishes: Vec<_> = wishes.iter().map(|(n, _)| (hash(*n), size(*n))).collect();
            let store: BTreeMap<_, _> =
                store.iter().map(|(n, (size, whole))| (hash(*n), Stored { size: *size, whole: *whole })).collect();
            let plan = plan(&wishes, &BTreeSet::new(), &store, quota);
            let fetched: u64 = plan.fetch.iter().filter(|(h, _)| !store.contains_key(h)).map(|(_, size)| size).sum();
            let kept: u64 = store.iter().filter(|(h, _)| !plan.delete.contains(h)).map(|(_, held)| held.size).sum();
            prop_assert!(kept + fetched <= quota);
        }
    }
}
