//! What to keep under the quota: which blobs to fetch for others, and which to let go.
//!
//! The quota is one of disk: a blob counts with all that its store writes for it, whole from its first byte on, until its
//! files are gone.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{Hash, fetch::GROUP, table::Table};

/// Bytes of disk that the store's database takes when it holds nothing.
pub const BASE: u64 = 4 << 20;
/// Bytes of a block of the file system.
const BLOCK: u64 = 4096;

/// Bytes of disk that a blob of this size takes at most: itself, the hashes of its groups, the sizes that were told with
/// them, which of them are here, each a file in blocks, and its part of the database.
#[must_use]
pub fn on_disk(size: u64) -> u64 {
    let groups = size.div_ceil(GROUP);
    let blocks = |bytes: u64| bytes.div_ceil(BLOCK).saturating_mul(BLOCK);
    blocks(size)
        .saturating_add(blocks(groups.saturating_mul(64)))
        .saturating_add(blocks(groups.saturating_mul(8)))
        .saturating_add(2 * BLOCK)
}

/// What is in the store of one blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Blobs to remove once nobody reads them.
    pub condemned: Table<Hash, ()>,
    /// Wished for, but over the quota.
    pub no_room: Vec<(Hash, u64)>,
}

/// What is on the disk, and why it may not go.
#[derive(Debug, Clone, Copy)]
pub struct Disk<'a> {
    /// Every blob, whole or in part.
    pub store: &'a Table<Hash, Stored>,
    /// Those that an update of this device needs: they stay, and count first.
    pub pinned: &'a BTreeSet<Hash>,
    /// Those that are being read for others.
    pub read: &'a BTreeSet<Hash>,
    /// Those that are being removed, and take their space until then.
    pub leaving: &'a Table<Hash, u64>,
}

/// Plans for `wishes` in the order of their worth. What fits under `quota` bytes of disk stays or is fetched; everything
/// else in the store goes. A fetch begins when there is space for it, which may be after others are gone.
#[must_use]
pub fn plan(wishes: &[(Hash, u64)], disk: Disk<'_>, quota: u64) -> Plan {
    let Disk { store, pinned, read, leaving } = disk;
    let taken = |of: &mut dyn Iterator<Item = u64>| of.fold(BASE, |taken, size| taken.saturating_add(on_disk(size)));
    let sizes = store.iter().map(|(hash, held)| (hash, held.size));
    let mut room =
        quota.saturating_sub(taken(&mut sizes.clone().filter(|(hash, _)| pinned.contains(hash)).map(|(_, size)| size)));
    let mut free = quota.saturating_sub(taken(&mut sizes.map(|(_, size)| size).chain(leaving.values().copied())));
    let mut plan = Plan::default();
    let mut stays = pinned.clone();
    let mut planned = BTreeSet::new();
    for (hash, size) in wishes {
        if !stays.contains(hash) {
            if on_disk(*size) > room {
                plan.no_room.push((*hash, *size));
                continue;
            }
            room -= on_disk(*size);
            stays.insert(*hash);
        }
        let held = store.get(hash);
        if held.is_some_and(|held| held.whole) || !planned.insert(*hash) {
            continue;
        }
        if held.is_none() {
            if leaving.contains_key(hash) || on_disk(*size) > free {
                continue;
            }
            free -= on_disk(*size);
        }
        plan.fetch.push((*hash, *size));
    }
    let goes = store.keys().filter(|hash| !stays.contains(hash)).copied();
    let (condemned, delete): (Vec<Hash>, Vec<Hash>) = goes.partition(|hash| read.contains(hash));
    (plan.condemned, plan.delete) = (condemned.into_iter().map(|hash| (hash, ())).collect(), delete);
    plan
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    fn hash(n: u8) -> Hash {
        Hash([n; 32])
    }

    /// A quota that has room for so many blobs of 60 KB.
    fn quota(blobs: u64) -> u64 {
        BASE + blobs * on_disk(60_000)
    }

    fn whole(names: &[u8]) -> Table<Hash, Stored> {
        names.iter().map(|name| (hash(*name), Stored { size: 60_000, whole: true })).collect()
    }

    static NONE: BTreeSet<Hash> = BTreeSet::new();
    static NOTHING: LazyLock<Table<Hash, u64>> = LazyLock::new(Table::default);

    fn disk(store: &Table<Hash, Stored>) -> Disk<'_> {
        Disk { store, pinned: &NONE, read: &NONE, leaving: &NOTHING }
    }

    #[test]
    fn the_most_wanted_is_kept_and_the_rest_goes() {
        let mut store = whole(&[1, 2]);
        store.insert(hash(9), Stored { size: 5000, whole: false });
        let wishes = [(hash(3), 60_000), (hash(2), 60_000), (hash(1), 60_000)];
        let first = plan(&wishes, disk(&store), quota(2));
        assert_eq!(first.delete, [hash(1), hash(9)]);
        assert_eq!(first.no_room, [(hash(1), 60_000)]);
        // Its space is taken until the others are gone.
        assert_eq!(first.fetch, []);
        let leaving = [(hash(1), 60_000)].into_iter().collect();
        let store = whole(&[2]);
        assert_eq!(plan(&wishes, Disk { leaving: &leaving, ..disk(&store) }, quota(2)).fetch, []);
        assert_eq!(plan(&wishes, disk(&store), quota(2)).fetch, [(hash(3), 60_000)]);
    }

    #[test]
    fn what_is_in_use_stays_whatever_the_quota() {
        let (store, pinned) = (whole(&[1]), BTreeSet::from([hash(1)]));
        let plan = plan(&[(hash(2), 50_000)], Disk { pinned: &pinned, ..disk(&store) }, quota(1));
        assert_eq!(plan, Plan { no_room: vec![(hash(2), 50_000)], ..Plan::default() });
    }

    #[test]
    fn what_is_being_read_goes_later_and_what_came_in_its_stead_stays() {
        let (store, read) = (whole(&[1, 2]), BTreeSet::from([hash(1), hash(2)]));
        let plan = plan(&[(hash(2), 60_000)], Disk { read: &read, ..disk(&store) }, quota(1));
        assert_eq!(plan, Plan { condemned: [(hash(1), ())].into_iter().collect(), ..Plan::default() });
    }

    proptest! {
        #[test]
        fn the_quota_holds(
            wishes in proptest::collection::vec((0u8..20, 0u64..100_000), 0..20),
            store in proptest::collection::btree_map(0u8..20, (0u64..100_000, any::<bool>()), 0..20),
            leaving in proptest::collection::btree_map(15u8..24, 0u64..100_000, 0..4),
            room in 0u64..2_000_000,
        ) {
            let size = |n: u8| store.get(&n).map_or(u64::from(n) * 3000, |held| held.0);
            let wishes: Vec<_> = wishes.iter().map(|(n, _)| (hash(*n), size(*n))).collect();
            let leaving: Table<_, _> =
                leaving.iter().filter(|(n, _)| !store.contains_key(n)).map(|(n, size)| (hash(*n), *size)).collect();
            let store: Table<_, _> =
                store.iter().map(|(n, (size, whole))| (hash(*n), Stored { size: *size, whole: *whole })).collect();
            let plan = plan(&wishes, Disk { leaving: &leaving, ..disk(&store) }, BASE + room);
            let on_it = |hash: &&(Hash, u64)| store.contains_key(&hash.0);
            let there: u64 = store.values().map(|held| on_disk(held.size)).chain(leaving.values().map(|size| on_disk(*size))).sum();
            let begins: u64 = plan.fetch.iter().filter(|wish| !on_it(wish)).map(|(_, size)| on_disk(*size)).sum();
            prop_assert!(begins == 0 || there + begins <= room);
            let goes_on = plan.fetch.iter().filter(on_it).map(|(hash, _)| *hash);
            let kept: BTreeSet<Hash> =
                store.keys().filter(|hash| !plan.delete.contains(hash)).copied().chain(goes_on).collect();
            let kept: u64 = kept.iter().map(|hash| on_disk(store.get(hash).expect("it is there").size)).sum();
            prop_assert!(kept <= room);
        }
    }
}
