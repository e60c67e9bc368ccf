//! What happens to a fleet at known times: releases, faults, meetings, recorded contacts.

use std::{cmp::Reverse, collections::BinaryHeap};

use burr_protocol::Time;

use super::Fleet;
use crate::{scenario::quantity::Span, world::NodeIndex};

/// Something that happens to the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Act {
    /// The release of this number.
    Release(usize),
    /// The publisher signs its timestamp anew.
    Renew,
    /// The fault of this number begins.
    Begin(usize),
    /// It is over.
    End(usize),
    /// What it left behind is over too.
    After(usize),
    /// Two nodes meet at random, and the next do later.
    Meet,
    /// Two nodes that met part.
    Part(u32, u32),
    /// The recorded contact of this number begins or ends.
    Contact(usize),
    /// What went wrong is over.
    Heal,
}

/// What is to happen, in the order of time, and as it was put in.
#[derive(Debug, Default)]
pub(super) struct Script {
    acts: BinaryHeap<Reverse<(Time, u64, Act)>>,
    count: u64,
}

impl Script {
    pub(super) fn push(&mut self, at: Span, act: Act) {
        self.count += 1;
        self.acts.push(Reverse((Time(at.0), self.count, act)));
    }

    pub(super) fn pop(&mut self, end: Time) -> Option<(Time, Act)> {
        let due = self.acts.peek().is_some_and(|Reverse((at, ..))| *at <= end);
        due.then(|| self.acts.pop()).flatten().map(|Reverse((at, _, act))| (at, act))
    }
}

impl Fleet {
    pub(super) fn act(&mut self, act: Act) {
        match act {
            Act::Release(number) => self.release(number),
            Act::Renew => {
                self.publisher.renew(self.world.now().wall.expect("the world has a clock"));
                self.offer();
                if let Some(renew) = self.scenario.renew {
                    self.script.push(Span(self.world.time().0 + renew.0), Act::Renew);
                }
            }
            Act::Begin(number) => self.begin(number),
            Act::End(number) => self.end_fault(number),
            Act::After(number) => self.after_fault(number),
            Act::Meet => self.meet(),
            Act::Part(a, b) => self.world.unlink(a as usize, b as usize),
            Act::Contact(number) => {
                let contact = self.contacts[number];
                let (a, b) = (contact.a as usize, contact.b as usize);
                let rate = self.scenario.trace.as_ref().map_or(1, |trace| trace.rate.0);
                if contact.up {
                    self.world.link(a, b, std::time::Duration::from_millis(1), rate);
                } else {
                    self.world.unlink(a, b);
                }
                if let Some(next) = self.contacts.get(number + 1) {
                    self.script.push(Span(next.at), Act::Contact(number + 1));
                }
            }
            Act::Heal => self.healed = true,
        }
    }

    fn release(&mut self, number: usize) {
        let planned = self.scenario.releases[number].clone();
        let size = planned.size.draw(&mut crate::random::Stream::of(self.seed, number as u64, "release"));
        let now = self.world.now().wall.expect("the world has a clock");
        let release = self.publisher.release(&planned.version, size.0, now);
        if planned.bad {
            self.world.make_unhealthy(release.bundle);
        }
        let time = self.world.time();
        self.world.released(&release);
        self.world.ledger_mut().begin(&release, time);
        self.released.push(release);
        self.offer();
    }

    /// The publisher's node has what its publisher has, as after each start.
    pub(super) fn offer(&mut self) {
        if self.world.is_on(self.source) {
            let blob = self.released.last().map(|release| (release.payload.blob, release.payload.size));
            self.world.import(self.source, self.publisher.id(), blob, self.publisher.pack());
        }
    }

    /// The two that meet now, and when the next two do: meetings of all pairs together are one Poisson process.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a wait")]
    fn meet(&mut self) {
        let Some(meetings) = self.scenario.meetings else { return };
        let count = self.world.len();
        let pairs = count as f64 * (count as f64 - 1.0) / 2.0;
        let wait = self.meetings.exponential(meetings.every.0 as f64 / pairs);
        let a = self.meetings.index(count);
        let b = (a + 1 + self.meetings.index(count - 1)) % count;
        let (a, b) = (a.min(b), a.max(b));
        self.together(a, b);
        // Waits are shorter than the clock's millisecond in a crowd: what is left over is carried.
        self.meeting_carry += wait;
        let whole = self.meeting_carry.floor();
        self.meeting_carry -= whole;
        self.script.push(Span(self.world.time().0 + whole as u64), Act::Meet);
    }

    fn together(&mut self, a: NodeIndex, b: NodeIndex) {
        let Some(meetings) = self.scenario.meetings else { return };
        if self.world.is_linked(a, b) {
            return;
        }
        self.world.link(a, b, std::time::Duration::from_millis(1), meetings.rate.0);
        let number = |node| u32::try_from(node).expect("fewer nodes than 2^32");
        let part = Act::Part(number(a), number(b));
        self.script.push(Span(self.world.time().0 + meetings.lasting.0), part);
    }
}
