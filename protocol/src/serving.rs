//! Who is given what was asked for, and when: questions of other nodes wait here for their turn.
//!
//! A node that was given nothing yet comes first, so that a new piece of a swarm's only source goes to many hands; then
//! the one that was given least since it came (start-time fair queueing: Goyal, Vin, Cheng 1996), one answer a node at a
//! time. An answer that takes long holds up no others. What can't be given soon is declined, and asked of another.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Hash, NodeId, Time, config::MAX_PEERS, table::Table};

/// The driver's own name for a question for a part of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct QuestionId(pub u64);

/// Bytes of one question at most: whoever asks for more is told that it is too much.
pub const MAX_QUESTION_BYTES: u64 = 16 << 20;
/// Questions of one node that wait at a time; the driver does not read more.
pub const MAX_QUESTIONS: usize = 4;
/// Answers at a time, not counting those that take long.
const AT_ONCE: usize = 16;
/// An answer that takes longer than this is slow through no fault of others.
const SLOW: Duration = Duration::from_millis(250);
/// A question that waits longer is declined, before its node gives up.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

#[derive(Debug, Serialize, Deserialize)]
struct Question {
    id: QuestionId,
    blob: Hash,
    bytes: u64,
    since: Time,
}

#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    node: NodeId,
    /// Whether it was counted as bytes that stay within the site.
    near: bool,
    blob: Hash,
    bytes: u64,
    since: Time,
}

/// Questions that wait, and answers under way. While nobody asks, as most nodes are never asked, it is a pointer.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Serving(Option<Box<Asked>>);

#[derive(Debug, Default, Serialize, Deserialize)]
struct Asked {
    waiting: Table<NodeId, VecDeque<Question>>,
    answers: Table<QuestionId, Answer>,
    /// Bytes that each connected node was given, counted from what the least served one had when it came.
    given: Table<NodeId, u64>,
    /// That of the one that was served last.
    level: u64,
}

/// What becomes of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It is answered now.
    Now(QuestionId),
    /// It is not answered.
    Never(QuestionId),
}

impl Serving {
    /// A node asks for so many bytes of a blob.
    pub fn asked(&mut self, id: QuestionId, node: NodeId, blob: Hash, bytes: u64, now: Time) -> Option<Turn> {
        let Asked { waiting, .. } = &mut **self.0.get_or_insert_default();
        let full = waiting.len() >= MAX_PEERS && !waiting.contains_key(&node);
        if full
            || bytes > MAX_QUESTION_BYTES
            || waiting.get(&node).is_some_and(|waiting| waiting.len() >= MAX_QUESTIONS)
        {
            return Some(Turn::Never(id));
        }
        waiting.get_or_insert_with(node, VecDeque::new).push_back(Question { id, blob, bytes, since: now });
        None
    }

    /// An answer ended after so many bytes; returns the bytes that did not go, and whether they were counted as near.
    pub fn answered(&mut self, id: QuestionId, bytes: u64) -> Option<(bool, u64)> {
        let answer = self.0.as_mut()?.answers.remove(&id)?;
        Some((answer.near, answer.bytes.saturating_sub(bytes)))
    }

    /// A node is gone, and its questions with it.
    pub fn without(&mut self, node: NodeId) {
        let Some(asked) = &mut self.0 else { return };
        asked.waiting.remove(&node);
        asked.given.remove(&node);
        if asked.waiting.is_empty() && asked.given.is_empty() && asked.answers.is_empty() {
            self.0 = None;
        }
    }

    /// The next questions that are answered or declined, as far as `allow` has room for so many bytes to near nodes, or to
    /// others.
    pub fn turns(
        &mut self,
        now: Time,
        is_near: impl Fn(NodeId) -> bool,
        mut allow: impl FnMut(bool, u64) -> bool,
    ) -> Vec<Turn> {
        let mut turns = Vec::new();
        let Some(asked) = self.0.as_mut().filter(|asked| !asked.waiting.is_empty()) else { return turns };
        let Asked { waiting: all, answers, given: served, level } = &mut **asked;
        for waiting in all.values_mut() {
            while waiting.front().is_some_and(|question| now.since(question.since) >= LONGEST_WAIT) {
                turns.extend(waiting.pop_front().map(|question| Turn::Never(question.id)));
            }
        }
        all.retain(|_, waiting| !waiting.is_empty());
        let mut quick = answers.values().filter(|answer| now.since(answer.since) < SLOW).count();
        let mut order: Vec<(bool, u64, NodeId)> = all
            .keys()
            .filter(|node| answers.values().all(|answer| answer.node != **node))
            .map(|node| {
                let given = served.get(node);
                (given.is_some(), given.map_or(*level, |given| *given), *node)
            })
            .collect();
        order.sort_unstable();
        for (_, given, node) in order {
            if quick >= AT_ONCE {
                break;
            }
            let Some(waiting) = all.get_mut(&node) else { continue };
            let near = is_near(node);
            let Some(question) = waiting.front().filter(|question| allow(near, question.bytes)) else { continue };
            let answer = Answer { node, near, blob: question.blob, bytes: question.bytes, since: now };
            turns.push(Turn::Now(question.id));
            answers.insert(question.id, answer);
            *level = (*level).max(given);
            served.insert(node, *level + question.bytes);
            quick += 1;
            waiting.pop_front();
            if waiting.is_empty() {
                all.remove(&node);
            }
        }
        turns
    }

    /// When [`Serving::turns`] has something to say, if nothing else happens before.
    #[must_use]
    pub fn wake_at(&self, now: Time) -> Option<Time> {
        let Asked { waiting, answers, .. } = &**self.0.as_ref()?;
        let first = waiting.values().filter_map(VecDeque::front).map(|question| question.since).min()?;
        let slow = answers.values().map(|answer| answer.since + SLOW).filter(|slow| *slow > now);
        slow.chain([first + LONGEST_WAIT]).min()
    }

    /// Whether a blob is being read for an answer.
    #[must_use]
    pub fn reads(&self, blob: Hash) -> bool {
        self.0.as_ref().is_some_and(|asked| asked.answers.values().any(|answer| answer.blob == blob))
    }

    /// Whether one of these nodes waits.
    pub fn waits(&self, of: impl Fn(NodeId) -> bool) -> bool {
        self.0.as_ref().is_some_and(|asked| asked.waiting.keys().any(|node| of(*node)))
    }

    /// Nodes whose questions wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.as_ref().map_or(0, |asked| asked.waiting.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOB: Hash = Hash([7; 32]);

    fn node(number: u8) -> NodeId {
        NodeId([number; 32])
    }

    fn anywhere(_: NodeId) -> bool {
        true
    }

    fn now(turns: &[Turn]) -> Vec<u64> {
        turns.iter().filter_map(|turn| if let Turn::Now(id) = turn { Some(id.0) } else { None }).collect()
    }

    #[test]
    fn who_has_nothing_yet_comes_first_and_then_who_has_least() {
        let mut serving = Serving::default();
        let one = |allowed: &mut u32| {
            let first = *allowed == 0;
            *allowed += 1;
            first
        };
        let mut served = Vec::new();
        let mut next = 0;
        for round in 0..9 {
            for number in 1..=if round < 4 { 2 } else { 3 } {
                if !serving.waits(|waiting| waiting == node(number)) {
                    serving.asked(QuestionId(next * 10 + u64::from(number)), node(number), BLOB, 100, Time(round));
                    next += 1;
                }
            }
            let mut allowed = 0;
            let turns = now(&serving.turns(Time(round), anywhere, |_, _| one(&mut allowed)));
            served.extend(turns.iter().map(|id| id % 10));
            for id in turns {
                serving.answered(QuestionId(id), 100);
            }
        }
        assert_eq!(served, [1, 2, 1, 2, 3, 1, 2, 3, 1], "the third came late: it is first once, and then one of three");
    }

    #[test]
    fn those_that_take_nothing_hold_up_nobody_and_nobody_waits_in_vain() {
        let mut serving = Serving::default();
        let stalls = u8::try_from(AT_ONCE).expect("few");
        for number in 0..=stalls {
            assert_eq!(serving.asked(QuestionId(number.into()), node(number), BLOB, 1, Time(0)), None);
        }
        assert!(!serving.reads(BLOB));
        assert_eq!(now(&serving.turns(Time(0), anywhere, |_, _| true)).len(), AT_ONCE);
        assert!(serving.reads(BLOB));
        assert_eq!(serving.wake_at(Time(0)), Some(Time(250)));
        assert_eq!(now(&serving.turns(Time(249), anywhere, |_, _| true)), [0; 0]);
        assert_eq!(now(&serving.turns(Time(250), anywhere, |_, _| true)), [u64::from(stalls)]);
        // Where there is no room, it is said in time.
        for id in 100..100 + MAX_QUESTIONS as u64 {
            assert_eq!(serving.asked(QuestionId(id), node(100), BLOB, 1, Time(1000)), None);
        }
        assert_eq!(serving.asked(QuestionId(200), node(100), BLOB, 1, Time(1000)), Some(Turn::Never(QuestionId(200))));
        assert_eq!(serving.turns(Time(5999), anywhere, |_, _| false), []);
        assert_eq!(serving.turns(Time(6000), anywhere, |_, _| false).len(), MAX_QUESTIONS);
        assert_eq!(serving.wake_at(Time(6000)), None);
    }
}
