//! A map in the order of its keys that is no larger than what is in it: nothing is a null pointer, and one row lies where
//! that points. A few rows are one list, quick to walk; as putting one in moves those after it, more are a B-tree, which
//! alone takes room for eleven at once.

use std::{
    borrow::Borrow,
    cmp::Ordering,
    collections::{BTreeMap, btree_map},
    ops::Bound::{Included, Unbounded},
    slice,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Rows of a list at most.
const FEW: usize = 64;

/// Values by key.
#[derive(Debug, Clone)]
pub struct Table<K, V>(Option<Box<Rows<K, V>>>);

#[derive(Debug, Clone)]
enum Rows<K, V> {
    One((K, V)),
    Few(Vec<(K, V)>),
    Many(BTreeMap<K, V>),
}

/// A list or a tree, or a walk along one. Most tables are empty when they are walked, which has to cost nothing.
#[derive(Debug, Clone)]
enum Order<L, T> {
    List(L),
    Tree(T),
}

impl<'a, K, V> Iterator for Order<slice::Iter<'a, (K, V)>, btree_map::Range<'a, K, V>> {
    type Item = (&'a K, &'a V);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::List(rows) => rows.next().map(|(key, value)| (key, value)),
            Self::Tree(rows) => rows.next(),
        }
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Self::List(rows) => rows.size_hint(),
            Self::Tree(rows) => rows.size_hint(),
        }
    }
}

impl<'a, K, V> Iterator for Order<slice::IterMut<'a, (K, V)>, btree_map::IterMut<'a, K, V>> {
    type Item = (&'a K, &'a mut V);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::List(rows) => rows.next().map(|(key, value)| (&*key, value)),
            Self::Tree(rows) => rows.next(),
        }
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Self::List(rows) => rows.size_hint(),
            Self::Tree(rows) => rows.size_hint(),
        }
    }
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self(None)
    }
}

impl<K: Ord, V> From<BTreeMap<K, V>> for Table<K, V> {
    fn from(mut rows: BTreeMap<K, V>) -> Self {
        Self(match rows.len() {
            0 => None,
            1 => rows.pop_first().map(|row| Box::new(Rows::One(row))),
            2..=FEW => Some(Box::new(Rows::Few(rows.into_iter().collect()))),
            _ => Some(Box::new(Rows::Many(rows))),
        })
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

impl<K: Ord, V: PartialOrd> PartialOrd for Table<K, V> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.iter().partial_cmp(other.iter())
    }
}

impl<K: Ord, V: Ord> Ord for Table<K, V> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter().cmp(other.iter())
    }
}

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
    match rows {
        [] => Err(0),
        // What most hold is one row.
        [(only, _)] => match only.borrow().cmp(key) {
            Ordering::Less => Err(1),
            Ordering::Equal => Ok(0),
            Ordering::Greater => Err(0),
        },
        _ => rows.binary_search_by(|(other, _)| other.borrow().cmp(key)),
    }
}

impl<K: Ord, V> Rows<K, V> {
    /// The value of a key, which is made and put in if there is none.
    fn value(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        self.make_room(&key);
        match self {
            Self::One((_, value)) => value,
            Self::Few(rows) => {
                let at = place(rows, &key).unwrap_or_else(|at| {
                    rows.reserve_exact(1);
                    rows.insert(at, (key, make()));
                    at
                });
                &mut rows[at].1
            }
            Self::Many(rows) => rows.entry(key).or_insert_with(make),
        }
    }

    /// One row becomes a list with this key, if it is another one's; a list becomes a tree, if it would be too long.
    fn make_room(&mut self, key: &K) {
        let is_full = match self {
            Self::One((only, _)) => only != key,
            Self::Few(rows) => rows.len() == FEW && place(rows, key).is_err(),
            Self::Many(_) => false,
        };
        if is_full {
            *self = match std::mem::replace(self, Self::Few(Vec::new())) {
                Self::One(row) => {
                    let mut rows = Vec::with_capacity(2);
                    rows.push(row);
                    Self::Few(rows)
                }
                Self::Few(rows) => Self::Many(rows.into_iter().collect()),
                many @ Self::Many(_) => many,
            };
        }
    }
}

impl<K: Ord, V> Table<K, V> {
    #[inline]
    fn rows(&self) -> Order<&[(K, V)], &BTreeMap<K, V>> {
        match self.0.as_deref() {
            None => Order::List(&[]),
            Some(Rows::One(row)) => Order::List(slice::from_ref(row)),
            Some(Rows::Few(rows)) => Order::List(rows),
            Some(Rows::Many(rows)) => Order::Tree(rows),
        }
    }

    #[inline]
    fn rows_mut(&mut self) -> Order<&mut [(K, V)], &mut BTreeMap<K, V>> {
        match self.0.as_deref_mut() {
            None => Order::List(&mut []),
            Some(Rows::One(row)) => Order::List(slice::from_mut(row)),
            Some(Rows::Few(rows)) => Order::List(rows),
            Some(Rows::Many(rows)) => Order::Tree(rows),
        }
    }

    /// After something was taken out, nothing takes room that is not needed: a list that is half empty is cut, a tree
    /// that would be no long list becomes one.
    fn shrink(&mut self) {
        let Some(rows) = &mut self.0 else { return };
        match &mut **rows {
            Rows::Few(list) => match list.len() {
                0 => self.0 = None,
                1 => **rows = Rows::One(list.swap_remove(0)),
                few if few <= list.capacity() / 2 => list.shrink_to_fit(),
                _ => {}
            },
            Rows::Many(tree) if tree.len() <= FEW / 4 => {
                **rows = Rows::Few(std::mem::take(tree).into_iter().collect());
                // `retain` may have left less than a list.
                self.shrink();
            }
            Rows::One(_) | Rows::Many(_) => {}
        }
    }

    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        match self.rows() {
            Order::List(rows) => place(rows, key).ok().map(|at| &rows[at].1),
            Order::Tree(rows) => rows.get(key),
        }
    }

    /// The value of a key, to be changed.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        match self.rows_mut() {
            Order::List(rows) => place(rows, key).ok().map(|at| &mut rows[at].1),
            Order::Tree(rows) => rows.get_mut(key),
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
        let mut value = Some(value);
        let place = self.get_or_insert_with(key, || value.take().expect("made once"));
        value.map(|value| std::mem::replace(place, value))
    }

    /// The value of a key, which is made and put in if there is none.
    pub fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        match &mut self.0 {
            Some(rows) => rows.value(key, make),
            none => match &mut **none.insert(Box::new(Rows::One((key, make())))) {
                Rows::One((_, value)) => value,
                _ => unreachable!("there is one row"),
            },
        }
    }

    /// Takes a value out.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let value = match self.0.as_deref_mut()? {
            Rows::One((only, _)) if (*only).borrow() != key => None,
            Rows::One(_) => return self.pop_first().map(|(_, value)| value),
            Rows::Few(rows) => place(rows, key).ok().map(|at| rows.remove(at).1),
            Rows::Many(rows) => rows.remove(key),
        };
        self.shrink();
        value
    }

    /// Takes the value of the lowest key out.
    pub fn pop_first(&mut self) -> Option<(K, V)> {
        let row = match self.0.as_deref_mut()? {
            Rows::One(_) => match self.0.take().map(|rows| *rows) {
                Some(Rows::One(row)) => Some(row),
                _ => None,
            },
            Rows::Few(rows) => Some(rows.remove(0)),
            Rows::Many(rows) => rows.pop_first(),
        };
        self.shrink();
        row
    }

    /// Keeps those of which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        match self.0.as_deref_mut() {
            Some(Rows::One((key, value))) if !keep(key, value) => self.0 = None,
            Some(Rows::One(_)) | None => {}
            Some(Rows::Few(rows)) => rows.retain(|(key, value)| keep(key, value)),
            Some(Rows::Many(rows)) => rows.retain(|key, value| keep(key, value)),
        }
        self.shrink();
    }

    /// The lowest key and its value.
    #[must_use]
    pub fn first(&self) -> Option<(&K, &V)> {
        match self.rows() {
            Order::List(rows) => rows.first().map(|(key, value)| (key, value)),
            Order::Tree(rows) => rows.first_key_value(),
        }
    }

    /// The highest key and its value.
    #[must_use]
    pub fn last(&self) -> Option<(&K, &V)> {
        match self.rows() {
            Order::List(rows) => rows.last().map(|(key, value)| (key, value)),
            Order::Tree(rows) => rows.last_key_value(),
        }
    }

    /// The values of this key and all higher ones.
    pub fn from<'a>(&'a self, key: &K) -> impl Iterator<Item = (&'a K, &'a V)> + Clone + use<'a, K, V> {
        match self.rows() {
            Order::List(rows) => Order::List(rows[place(rows, key).unwrap_or_else(|at| at)..].iter()),
            Order::Tree(rows) => Order::Tree(rows.range((Included(key), Unbounded))),
        }
    }

    /// How many keys have a value.
    #[must_use]
    pub fn len(&self) -> usize {
        match self.rows() {
            Order::List(rows) => rows.len(),
            Order::Tree(rows) => rows.len(),
        }
    }

    /// Whether none has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// All, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> + Clone {
        match self.rows() {
            Order::List(rows) => Order::List(rows.iter()),
            Order::Tree(rows) => Order::Tree(rows.range::<K, _>(..)),
        }
    }

    /// All, by key, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        match self.rows_mut() {
            Order::List(rows) => Order::List(rows.iter_mut()),
            Order::Tree(rows) => Order::Tree(rows.iter_mut()),
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
        assert_eq!(size_of::<Table<u64, u64>>(), size_of::<usize>());
        let mut table: Table<usize, ()> = (0..=FEW).map(|number| (number, ())).collect();
        assert!(matches!(table.0.as_deref(), Some(Rows::Many(_))));
        table.retain(|number, ()| *number < FEW / 4);
        assert!(matches!(table.0.as_deref(), Some(Rows::Few(_))));
        table.retain(|number, ()| *number == 1);
        assert!(matches!(table.0.as_deref(), Some(Rows::One((1, ())))));
        table.remove(&1);
        assert!(table.0.is_none() && table.is_empty());
    }
}
