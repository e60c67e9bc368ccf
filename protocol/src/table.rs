//! A map as one list in the order of its keys: quick to walk, no larger than what is in it, and a pointer while it is
//! empty. For what a node has few of, and walks more often than it changes; putting one in moves those after it.

use std::{borrow::Borrow, collections::BTreeMap};

use serde::{Deserialize, Serialize};

/// Values by key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::box_collection, reason = "most tables of an idle agent are empty: a pointer each")]
pub struct Table<K, V>(Option<Box<Vec<(K, V)>>>);

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self(None)
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for Table<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(rows: I) -> Self {
        let rows: BTreeMap<K, V> = rows.into_iter().collect();
        Self((!rows.is_empty()).then(|| Box::new(rows.into_iter().collect())))
    }
}

impl<K: Ord, V> Table<K, V> {
    /// Nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self(None)
    }

    fn rows(&self) -> &[(K, V)] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }

    fn rows_mut(&mut self) -> &mut [(K, V)] {
        self.0.as_deref_mut().map_or(&mut [], Vec::as_mut_slice)
    }

    fn place<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        self.rows().binary_search_by(|(other, _)| other.borrow().cmp(key))
    }

    fn put(&mut self, at: usize, key: K, value: V) {
        let rows = self.0.get_or_insert_default();
        if rows.len() == rows.capacity() {
            // A list's own growth would leave room for three more beside the first.
            rows.reserve_exact(1 + rows.len() / 2);
        }
        rows.insert(at, (key, value));
    }

    fn take(&mut self, at: usize) -> (K, V) {
        let rows = self.0.as_mut().expect("there is a row to take");
        let row = rows.remove(at);
        if rows.is_empty() {
            self.0 = None;
        }
        row
    }

    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.place(key).ok().map(|at| &self.rows()[at].1)
    }

    /// The value of a key, to be changed.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.place(key).ok().map(|at| &mut self.rows_mut()[at].1)
    }

    /// Whether a key has a value.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.place(key).is_ok()
    }

    /// Gives a key a value; returns the one that it had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.place(&key) {
            Ok(at) => Some(std::mem::replace(&mut self.rows_mut()[at].1, value)),
            Err(at) => {
                self.put(at, key, value);
                None
            }
        }
    }

    /// The value of a key, which is made and put in if there is none.
    pub fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let at = self.place(&key).unwrap_or_else(|at| {
            self.put(at, key, make());
            at
        });
        &mut self.rows_mut()[at].1
    }

    /// Takes a value out.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.place(key).ok().map(|at| self.take(at).1)
    }

    /// Takes the value of the lowest key out.
    pub fn pop_first(&mut self) -> Option<(K, V)> {
        self.0.is_some().then(|| self.take(0))
    }

    /// Keeps those of which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        if let Some(rows) = &mut self.0 {
            rows.retain(|(key, value)| keep(key, value));
            if rows.is_empty() {
                self.0 = None;
            }
        }
    }

    /// The lowest key and its value.
    #[must_use]
    pub fn first(&self) -> Option<(&K, &V)> {
        self.rows().first().map(|(key, value)| (key, value))
    }

    /// The highest key and its value.
    #[must_use]
    pub fn last(&self) -> Option<(&K, &V)> {
        self.rows().last().map(|(key, value)| (key, value))
    }

    /// The values of this key and all higher ones.
    pub fn from<'a>(&'a self, key: &K) -> impl Iterator<Item = (&'a K, &'a V)> + Clone + use<'a, K, V> {
        let first = self.place(key).unwrap_or_else(|at| at);
        self.rows()[first..].iter().map(|(key, value)| (key, value))
    }

    /// How many keys have a value.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows().len()
    }

    /// Whether none has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// All, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> + Clone {
        self.rows().iter().map(|(key, value)| (key, value))
    }

    /// All, by key, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.rows_mut().iter_mut().map(|(key, value)| (&*key, value))
    }

    /// All keys.
    pub fn keys(&self) -> impl Iterator<Item = &K> + Clone {
        self.rows().iter().map(|(key, _)| key)
    }

    /// All values.
    pub fn values(&self) -> impl Iterator<Item = &V> + Clone {
        self.rows().iter().map(|(_, value)| value)
    }

    /// All values, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.rows_mut().iter_mut().map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_table_is_a_map(steps in prop::collection::vec((0u8..4, 0u8..12, any::<u8>()), 0..60)) {
            let (mut table, mut map) = (Table::default(), BTreeMap::new());
            for (what, key, value) in steps {
                match what {
                    0 => prop_assert_eq!(table.insert(key, value), map.insert(key, value)),
                    1 => prop_assert_eq!(table.remove(&key), map.remove(&key)),
                    2 => prop_assert_eq!(*table.get_or_insert_with(key, || value), *map.entry(key).or_insert(value)),
                    _ => prop_assert_eq!(table.pop_first(), map.pop_first()),
                }
                prop_assert!(table.iter().eq(map.iter()) && table.len() == map.len());
                prop_assert!(table.from(&key).eq(map.range(key..)));
                prop_assert_eq!(table.get(&key), map.get(&key));
                prop_assert_eq!((table.first(), table.last()), (map.first_key_value(), map.last_key_value()));
            }
        }
    }
}
