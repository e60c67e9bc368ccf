//! Where a node is over time: always at one place, there now and then, or on a route.

use std::{sync::Arc, time::Duration};

use burr_protocol::Time;

use super::{Event, NodeIndex, World, place::PlaceIndex};

/// A round of stops, gone round again and again.
#[derive(Debug, Clone)]
pub struct Route {
    /// Where, and for how long.
    pub stops: Vec<(PlaceIndex, Duration)>,
    /// From a stop to the next.
    pub travel: Duration,
}

/// How a node comes and goes.
#[derive(Debug, Clone)]
pub enum Habit {
    /// It is always there.
    Always(PlaceIndex),
    /// Its radio is on for a while once each period, first after `phase`.
    Duty {
        /// Where.
        place: PlaceIndex,
        /// For how long.
        on: Duration,
        /// How often.
        every: Duration,
        /// When first.
        phase: Duration,
    },
    /// It goes round, and is at the first stop after `phase`.
    Route {
        /// Where to.
        route: Arc<Route>,
        /// When first.
        phase: Duration,
    },
}

/// What a habit comes down to, in milliseconds.
#[derive(Debug)]
enum Turns {
    Duty { place: PlaceIndex, on: u64, off: u64 },
    Route(Arc<Route>),
}

/// Where a node is, and what comes next.
#[derive(Debug, Default)]
pub(super) struct Presence {
    turns: Option<Turns>,
    place: Option<PlaceIndex>,
    since: Time,
    /// Milliseconds with the radio on.
    on: u64,
    /// Turns so far: comings and goings.
    turn: u32,
}

impl Presence {
    /// Where the node is.
    pub(super) fn place(&self) -> Option<PlaceIndex> {
        self.place
    }

    pub(super) fn arrive(&mut self, place: PlaceIndex, now: Time) {
        (self.place, self.since) = (Some(place), now);
    }

    pub(super) fn depart(&mut self, now: Time) -> Option<PlaceIndex> {
        let place = self.place.take()?;
        self.on += now.0 - self.since.0;
        self.since = now;
        Some(place)
    }

    /// Since when it is there, or nowhere.
    pub(super) fn since(&self) -> Time {
        self.since
    }

    fn radio(&self, now: Time) -> Duration {
        let running = if self.place.is_some() { now.0 - self.since.0 } else { 0 };
        Duration::from_millis(self.on + running)
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl World {
    /// A node lives like this from now on.
    pub fn settle_down(&mut self, node: NodeIndex, habit: Habit) {
        self.leave(node);
        let (turns, phase) = match habit {
            Habit::Always(place) => return self.enter(node, place),
            Habit::Duty { place, on, every, phase } => {
                (Turns::Duty { place, on: millis(on), off: millis(every.saturating_sub(on)) }, phase)
            }
            Habit::Route { route, phase } => (Turns::Route(route), phase),
        };
        self.machines[node].presence.turns = Some(turns);
        self.machines[node].presence.turn = 0;
        self.cause_anyway(self.time + phase, node, Event::Turn);
    }

    /// A node comes or goes, as its habit has it.
    pub(super) fn turn(&mut self, node: NodeIndex) {
        let presence = &mut self.machines[node].presence;
        let Some(turns) = &presence.turns else { return };
        let turn = presence.turn;
        presence.turn += 1;
        let coming = turn.is_multiple_of(2);
        let (place, wait) = match turns {
            Turns::Duty { place, on, off } => (*place, if coming { *on } else { *off }),
            Turns::Route(route) => {
                let (place, stay) = route.stops[turn as usize / 2 % route.stops.len()];
                (place, millis(if coming { stay } else { route.travel }))
            }
        };
        if wait > 0 {
            self.cause_anyway(self.time + Duration::from_millis(wait), node, Event::Turn);
        }
        if coming { self.enter(node, place) } else { self.leave(node) }
    }

    /// Where a node is.
    #[must_use]
    pub fn place(&self, node: NodeIndex) -> Option<PlaceIndex> {
        self.machines[node].presence.place
    }

    /// How long a node's radio was on at a place.
    #[must_use]
    pub fn radio(&self, node: NodeIndex) -> Duration {
        self.machines[node].presence.radio(self.time)
    }
}
