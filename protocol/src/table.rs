//! A map in the order of its keys that is no larger than what is in it. Few rows are one list, quick to walk, and nothing
//! else; as putting one in moves those after it, more than a few are a B-tree, which alone takes room for eleven at once.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, btree_map},
    ops::Bound::{Included, Unbounded},
    slice,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Rows of a list at most.
const FEW: usize = 64;

/// Values by key.
#[derive(Debug, Clone)]
pub struct Table<K, V>(Rows<K, V>);

#[derive(Debug, Clone)]
#[expect(clippy::box_collection, reason = "a table is no larger than its list")]
enum Rows<K, V> {
    Few(Box<[(K, V)]>),
    Many(Box<BTreeMap<K, V>>),
}

/// Rows in the order of their keys. Most tables are empty when they are walked, which has to cost nothing.
#[derive(Debug)]
enum Iter<'a, K, V> {
    Few(slice::Iter<'a, (K, V)>),
    Many(btree_map::Range<'a, K, V>),
}

#[derive(Debug)]
enum IterMut<'a, K, V> {
    Few(slice::IterMut<'a, (K, V)>),
    Many(btree_map::IterMut<'a, K, V>),
}

impl<K, V> Clone for Iter<'_, K, V> {
    fn clone(&self) -> Self {
        match self {
            Self::Few(rows) => Self::Few(rows.clone()),
            Self::Many(rows) => Self::Many(rows.clone()),
        }
    }
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Few(rows) => rows.next().map(|(key, value)| (key, value)),
            Self::Many(rows) => rows.next(),
        }
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Self::Few(rows) => rows.size_hint(),
            Self::Many(rows) => rows.size_hint(),
        }
    }
}

impl<'a, K, V> Iterator for IterMut<'a, K, V> {
    type Item = (&'a K, &'a mut V);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Few(rows) => rows.next().map(|(key, value)| (&*key, value)),
            Self::Many(rows) => rows.next(),
        }
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Self::Few(rows) => rows.size_hint(),
            Self::Many(rows) => rows.size_hint(),
        }
    }
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self(Rows::Few(Box::default()))
    }
}

impl<K: Ord, V> From<BTreeMap<K, V>> for Table<K, V> {
    fn from(rows: BTreeMap<K, V>) -> Self {
        Self(if rows.len() <= FEW { Rows::Few(rows.into_iter().collect()) } else { Rows::Many(Box::new(rows)) })
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for Table<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(rows: I) -> Self {
        rows.into_iter().collect::<BTreeMap<K, V>>().into()
    }
}

impl<K: Ord, V: PartialEq> PartialEq for Table<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<K: Ord, V: Eq> Eq for Table<K, V> {}

impl<K: Ord + Serialize, V: Serialize> Serialize for Table<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de, K: Ord + Deserialize<'de>, V: Deserialize<'de>> Deserialize<'de> for Table<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::from_iter)
    }
}

#[inline]
fn place<K: Borrow<Q>, V, Q: Ord + ?Sized>(rows: &[(K, V)], key: &Q) -> Result<usize, usize> {
    rows.binary_search_by(|(other, _)| other.borrow().cmp(key))
}

fn put<K, V>(rows: &mut Box<[(K, V)]>, at: usize, key: K, value: V) {
    let mut list = std::mem::take(rows).into_vec();
    list.reserve_exact(1);
    list.insert(at, (key, value));
    *rows = list.into_boxed_slice();
}

fn take<K, V>(rows: &mut Box<[(K, V)]>, at: usize) -> (K, V) {
    let mut list = std::mem::take(rows).into_vec();
    let row = list.remove(at);
    *rows = list.into_boxed_slice();
    row
}

impl<K: Ord, V> Table<K, V> {
    /// The list becomes a tree if it would be too long with this key.
    fn make_room(&mut self, key: &K) {
        if let Rows::Few(rows) = &mut self.0
            && rows.len() == FEW
            && place(rows, key).is_err()
        {
            self.0 = Rows::Many(Box::new(std::mem::take(rows).into_iter().collect()));
        }
    }

    /// The tree becomes a list once that would not be long.
    fn shrink(&mut self) {
        if let Rows::Many(rows) = &mut self.0
            && rows.len() <= FEW / 4
        {
            self.0 = Rows::Few(std::mem::take(&mut **rows).into_iter().collect());
        }
    }

    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        match &self.0 {
            Rows::Few(rows) => place(rows, key).ok().map(|at| &rows[at].1),
            Rows::Many(rows) => rows.get(key),
        }
    }

    /// The value of a key, to be changed.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        match &mut self.0 {
            Rows::Few(rows) => place(rows, key).ok().map(|at| &mut rows[at].1),
            Rows::Many(rows) => rows.get_mut(key),
        }
    }

    /// Whether a key has a value.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// Gives a key a value; returns the one that it had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.make_room(&key);
        match &mut self.0 {
            Rows::Few(rows) => match place(rows, &key) {
                Ok(at) => Some(std::mem::replace(&mut rows[at].1, value)),
                Err(at) => {
                    put(rows, at, key, value);
                    None
                }
            },
            Rows::Many(rows) => rows.insert(key, value),
        }
    }

    /// The value of a key, which is made and put in if there is none.
    pub fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        self.make_room(&key);
        match &mut self.0 {
            Rows::Few(rows) => {
                let at = place(rows, &key).unwrap_or_else(|at| {
                    put(rows, at, key, make());
                    at
                });
                &mut rows[at].1
            }
            Rows::Many(rows) => rows.entry(key).or_insert_with(make),
        }
    }

    /// Takes a value out.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let value = match &mut self.0 {
            Rows::Few(rows) => place(rows, key).ok().map(|at| take(rows, at).1),
            Rows::Many(rows) => rows.remove(key),
        };
        self.shrink();
        value
    }

    /// Takes the value of the lowest key out.
    pub fn pop_first(&mut self) -> Option<(K, V)> {
        let row = match &mut self.0 {
            Rows::Few(rows) => (!rows.is_empty()).then(|| take(rows, 0)),
            Rows::Many(rows) => rows.pop_first(),
        };
        self.shrink();
        row
    }

    /// Keeps those of which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        match &mut self.0 {
            Rows::Few(rows) => {
                let mut list = std::mem::take(rows).into_vec();
                list.retain(|(key, value)| keep(key, value));
                *rows = list.into_boxed_slice();
            }
            Rows::Many(rows) => rows.retain(|key, value| keep(key, value)),
        }
        self.shrink();
    }

    /// The lowest key and its value.
    #[must_use]
    pub fn first(&self) -> Option<(&K, &V)> {
        match &self.0 {
            Rows::Few(rows) => rows.first().map(|(key, value)| (key, value)),
            Rows::Many(rows) => rows.first_key_value(),
        }
    }

    /// The highest key and its value.
    #[must_use]
    pub fn last(&self) -> Option<(&K, &V)> {
        match &self.0 {
            Rows::Few(rows) => rows.last().map(|(key, value)| (key, value)),
            Rows::Many(rows) => rows.last_key_value(),
        }
    }

    /// The values of this key and all higher ones.
    pub fn from<'a>(&'a self, key: &K) -> impl Iterator<Item = (&'a K, &'a V)> + Clone + use<'a, K, V> {
        match &self.0 {
            Rows::Few(rows) => Iter::Few(rows[place(rows, key).unwrap_or_else(|at| at)..].iter()),
            Rows::Many(rows) => Iter::Many(rows.range((Included(key), Unbounded))),
        }
    }

    /// How many keys have a value.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Rows::Few(rows) => rows.len(),
            Rows::Many(rows) => rows.len(),
        }
    }

    /// Whether none has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> + Clone {
        match &self.0 {
            Rows::Few(rows) => Iter::Few(rows.iter()),
            Rows::Many(rows) => Iter::Many(rows.range::<K, _>(..)),
        }
    }

    /// All, by key, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        match &mut self.0 {
            Rows::Few(rows) => IterMut::Few(rows.iter_mut()),
            Rows::Many(rows) => IterMut::Many(rows.iter_mut()),
        }
    }

    /// All keys.
    pub fn keys(&self) -> impl Iterator<Item = &K> + Clone {
        self.iter().map(|(key, _)| key)
    }

    /// All values.
    pub fn values(&self) -> impl Iterator<Item = &V> + Clone {
        self.iter().map(|(_, value)| value)
    }

    /// All values, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.iter_mut().map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A hundred keys and up to 600 steps, so that it becomes a tree, and a list again.
        #[test]
        fn a_table_is_a_map(steps in prop::collection::vec((0u8..12, 0u8..100, any::<u8>()), 0..600)) {
            let (mut table, mut map) = (Table::default(), BTreeMap::new());
            for (what, key, value) in steps {
                match what {
                    0..6 => prop_assert_eq!(table.insert(key, value), map.insert(key, value)),
                    6 | 7 => prop_assert_eq!(table.remove(&key), map.remove(&key)),
                    8 => prop_assert_eq!(*table.get_or_insert_with(key, || value), *map.entry(key).or_insert(value)),
                    9 => prop_assert_eq!(table.pop_first(), map.pop_first()),
                    10 => table.iter_mut().zip(map.iter_mut()).for_each(|((_, a), (_, b))| (*a, *b) = (value, value)),
                    // Seldom all but a few go.
                    _ if value < 16 => {
                        table.retain(|key, _| key % 16 == value);
                        map.retain(|key, _| key % 16 == value);
                    }
                    _ => {}
                }
                prop_assert!(table.iter().eq(map.iter()) && table.len() == map.len());
                prop_assert!(table.from(&key).eq(map.range(key..)));
                prop_assert_eq!(table.get(&key), map.get(&key));
                prop_assert_eq!((table.first(), table.last()), (map.first_key_value(), map.last_key_value()));
            }
            let other: Table<_, _> = map.into();
            prop_assert_eq!(table, other);
        }
    }

    #[test]
    fn what_is_in_it_makes_its_size() {
        assert_eq!(size_of::<Table<u64, u64>>(), size_of::<Box<[(u64, u64)]>>());
        let mut table: Table<usize, ()> = (0..=FEW).map(|number| (number, ())).collect();
        assert!(matches!(table.0, Rows::Many(_)));
        table.retain(|number, ()| *number < FEW / 4);
        assert!(matches!(table.0, Rows::Few(_)));
    }
}
