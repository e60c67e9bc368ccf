//! What is to happen, in the order of time; at one moment in the order in which it was caused.
//!
//! A radix heap (Ahuja, Mehlhorn, Orlin and Tarjan, "Faster algorithms for the shortest path problem", JACM 1990): as
//! time never goes back, an entry lies in the bucket of the highest bit in which its time differs from now, and moves
//! to lower buckets alone, so that each costs at most 64 short moves and no comparison with others.

use burr_protocol::Time;

/// A bucket for each bit of a time, and one for now.
const BUCKETS: usize = 65;

/// A queue of events. Time only goes on: nothing is put in before what was taken last.
#[derive(Debug)]
pub struct Queue<T> {
    now: Time,
    length: usize,
    buckets: Vec<Vec<(Time, T)>>,
    /// Of the bucket of now, the entries before this are taken.
    taken: usize,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            now: Time::default(),
            length: 0,
            buckets: std::iter::repeat_with(Vec::new).take(BUCKETS).collect(),
            taken: 0,
        }
    }
}

impl<T: Default> Queue<T> {
    /// Puts an event in.
    pub fn push(&mut self, at: Time, event: T) {
        assert!(at >= self.now, "nothing happens in the past");
        let bucket = self.bucket(at);
        self.buckets[bucket].push((at, event));
        self.length += 1;
    }

    /// When the next event is.
    #[must_use]
    pub fn next_at(&self) -> Option<Time> {
        if self.taken < self.buckets[0].len() {
            return Some(self.now);
        }
        let bucket = self.buckets[1..].iter().find(|bucket| !bucket.is_empty())?;
        bucket.iter().map(|(at, _)| *at).min()
    }

    /// Takes the next event out if it is not after `end`.
    pub fn pop(&mut self, end: Time) -> Option<(Time, T)> {
        if self.taken == self.buckets[0].len() {
            self.buckets[0].clear();
            self.taken = 0;
            let bucket = (1..BUCKETS).find(|bucket| !self.buckets[*bucket].is_empty())?;
            let next = self.buckets[bucket].iter().map(|(at, _)| *at).min().filter(|next| *next <= end)?;
            self.now = next;
            let mut moving = std::mem::take(&mut self.buckets[bucket]);
            for (at, event) in moving.drain(..) {
                let lower = self.bucket(at);
                self.buckets[lower].push((at, event));
            }
            // Its room is kept for the next that come.
            if moving.capacity() <= 1024 {
                self.buckets[bucket] = moving;
            }
        }
        if self.now > end {
            return None;
        }
        let (at, event) = &mut self.buckets[0][self.taken];
        self.taken += 1;
        self.length -= 1;
        Some((*at, std::mem::take(event)))
    }

    /// How many events wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn bucket(&self, at: Time) -> usize {
        let differ = at.0 ^ self.now.0;
        usize::try_from(u64::BITS - differ.leading_zeros()).expect("at most 64")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn events_come_by_time_and_then_as_they_were_caused(
            steps in prop::collection::vec((prop::bool::ANY, 0u64..50), 1..400),
        ) {
            let mut queue = Queue::default();
            let mut model: Vec<(u64, usize)> = Vec::new();
            let mut now = 0;
            for (number, (push, wait)) in steps.into_iter().enumerate() {
                if push {
                    queue.push(Time(now + wait), number);
                    model.push((now + wait, number));
                } else {
                    let next = model.iter().min().copied();
                    prop_assert_eq!(queue.next_at(), next.map(|(at, _)| Time(at)));
                    prop_assert_eq!(queue.pop(Time(u64::MAX)), next.map(|(at, event)| (Time(at), event)));
                    model.retain(|entry| Some(*entry) != next);
                    now = next.map_or(now, |(at, _)| at);
                }
                prop_assert_eq!(queue.len(), model.len());
            }
        }
    }

    #[test]
    fn what_is_after_the_end_stays() {
        let mut queue = Queue::default();
        queue.push(Time(5), 1);
        assert_eq!(queue.pop(Time(4)), None);
        queue.push(Time(4), 2);
        assert_eq!(queue.pop(Time(4)), Some((Time(4), 2)));
        assert_eq!(queue.pop(Time(5)), Some((Time(5), 1)));
        assert!(queue.is_empty());
    }
}
