//! What is to happen, in the order of time; at one moment in the order in which it was caused.
//!
//! A radix heap (Ahuja, Mehlhorn, Orlin and Tarjan, "Faster algorithms for the shortest path problem", JACM 1990): times
//! are read as digits, and as time never goes back, an entry lies in the bucket of the highest digit in which its time
//! differs from now, and of the value that it has there. It moves to lower digits alone, so that each costs at most a
//! short move a digit and no comparison with others. Buckets are lists of blocks, so that many entries are never copied to
//! make room, nor in memory twice while they move.

use std::collections::VecDeque;

use burr_protocol::Time;

const DIGIT_BITS: u32 = 4;
/// Values of a digit.
const VALUES: usize = 1 << DIGIT_BITS;
const DIGITS: usize = (u64::BITS / DIGIT_BITS) as usize;
/// Entries of a block.
const BLOCK: usize = 256;
/// Empty blocks that are kept for the next that come.
const SPARE: usize = 64;

type Block<T> = VecDeque<(Time, T)>;
type Bucket<T> = VecDeque<Block<T>>;

/// A queue of events. Time only goes on: nothing is put in before what was taken last.
#[derive(Debug)]
pub struct Queue<T> {
    now: Time,
    length: usize,
    /// What is to happen now.
    due: Bucket<T>,
    /// What is to happen later: a bucket for each value of each digit.
    buckets: Vec<Bucket<T>>,
    /// Of each digit, a bit for each value whose bucket has entries.
    filled: [u16; DIGITS],
    spare: Vec<Block<T>>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            now: Time::default(),
            length: 0,
            due: VecDeque::new(),
            buckets: std::iter::repeat_with(VecDeque::new).take(DIGITS * VALUES).collect(),
            filled: [0; DIGITS],
            spare: Vec::new(),
        }
    }
}

impl<T> Queue<T> {
    /// Puts an event in.
    pub fn push(&mut self, at: Time, event: T) {
        assert!(at >= self.now, "nothing happens in the past");
        self.length += 1;
        self.place(at, event);
    }

    fn place(&mut self, at: Time, event: T) {
        let bucket = match (at.0 ^ self.now.0).checked_ilog2() {
            None => &mut self.due,
            Some(highest) => {
                let digit = highest / DIGIT_BITS;
                let value = usize::try_from(at.0 >> (digit * DIGIT_BITS) & (VALUES as u64 - 1)).expect("a digit");
                self.filled[digit as usize] |= 1 << value;
                &mut self.buckets[digit as usize * VALUES + value]
            }
        };
        match bucket.back_mut() {
            Some(block) if block.len() < BLOCK => block.push_back((at, event)),
            _ => {
                let mut block = self.spare.pop().unwrap_or_default();
                block.push_back((at, event));
                bucket.push_back(block);
            }
        }
    }

    fn put_by(&mut self, block: Block<T>) {
        if self.spare.len() < SPARE {
            self.spare.push(block);
        }
    }

    /// Digit and value of the bucket with the next events after now.
    fn next_bucket(&self) -> Option<(usize, usize)> {
        let digit = self.filled.iter().position(|values| *values != 0)?;
        Some((digit, self.filled[digit].trailing_zeros() as usize))
    }

    /// When the next event is.
    #[must_use]
    pub fn next_at(&self) -> Option<Time> {
        if !self.due.is_empty() {
            return Some(self.now);
        }
        let (digit, value) = self.next_bucket()?;
        self.buckets[digit * VALUES + value].iter().flatten().map(|(at, _)| *at).min()
    }

    /// Takes the next event out if it is not after `end`.
    pub fn pop(&mut self, end: Time) -> Option<(Time, T)> {
        if self.due.is_empty() {
            let (digit, value) = self.next_bucket()?;
            self.now = self.next_at().filter(|next| *next <= end)?;
            self.filled[digit] &= !(1 << value);
            let bucket = digit * VALUES + value;
            if digit == 0 {
                // All are of one moment.
                std::mem::swap(&mut self.due, &mut self.buckets[bucket]);
            } else {
                let mut moving = std::mem::take(&mut self.buckets[bucket]);
                for mut block in moving.drain(..) {
                    block.drain(..).for_each(|(at, event)| self.place(at, event));
                    self.put_by(block);
                }
                // Its room is kept for the next that come.
                self.buckets[bucket] = moving;
            }
        }
        if self.now > end {
            return None;
        }
        let block = self.due.front_mut()?;
        let next = block.pop_front();
        if block.is_empty()
            && let Some(block) = self.due.pop_front()
        {
            self.put_by(block);
        }
        self.length -= 1;
        next
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
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn events_come_by_time_and_then_as_they_were_caused(
            steps in prop::collection::vec((prop::bool::weighted(0.6), prop_oneof![0u64..50, 1u64 << 20..(1 << 20) + 500]), 1..1500),
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
