//! One provider of a blob: what it holds, how fast it is, how much may be asked of it at a time.
//!
//! As much is asked ahead as keeps its pipe full and no more, so that what it brings can be passed on soon: the window
//! grows with each piece that comes quickly, and shrinks with each that had to queue.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    alone::{GROWS, LASTS},
    pieces::Pieces,
};
use crate::{Time, config::Config};

/// Pieces that may be asked for before anything is known: one is on its way while the next is asked for.
pub(super) const FIRST_WINDOW: u64 = 2;
/// What the time of a piece says of the pipe.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// A piece that is here so soon after the shortest time ever seen found room.
    quick: Duration,
    /// One that took so much longer stood in a queue.
    queued: Duration,
}

/// On a LAN, a piece that stands in one provider's queue may be had sooner of another by then.
const NEAR: Pace = Pace { quick: Duration::from_millis(50), queued: Duration::from_millis(200) };
const FAR: Pace = Pace { quick: Duration::from_millis(250), queued: Duration::from_millis(600) };
/// A provider that brings nothing for this long while something is asked of it holds things up; one that is far may take
/// longer, since what another brings instead crosses the uplink twice.
const SHORTEST_STALL: Duration = Duration::from_secs(4);
const SHORTEST_STALL_FAR: Duration = Duration::from_secs(8);
/// A source of which nothing was asked for this long may have room.
const UNKNOWN: Duration = Duration::from_secs(1);

/// A provider, or one that fetches the same blob and may be one soon.
#[derive(Debug, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each holds or not, whatever the others do")]
pub(super) struct Provider {
    pub(super) held: Pieces,
    /// It fetches the blob itself.
    pub(super) fetches: bool,
    /// It does, or did when this node did: it came by the blob as this node does.
    pub(super) fellow: bool,
    /// It shares this node's site: what goes between the two is cheap.
    pub(super) near: bool,
    /// It knows nodes of other sites.
    pub(super) outward: bool,
    /// Bytes that are asked of it and did not come yet.
    pub(super) asked: u64,
    /// Bytes that may be asked of it at a time.
    window: u64,
    /// The shortest time that a piece took.
    pub(super) delay: Option<Duration>,
    /// How long pieces take, smoothed.
    pub(super) takes: Option<Duration>,
    /// When it last said what it has, or that it has what was not at this node's site.
    pub(super) heard: Time,
    /// When it last brought something, or was asked while nothing was under way.
    pub(super) moved: Time,
    /// When it was asked last after a pause, and the bytes that it brought since.
    busy: (Time, u64),
    /// When the last answer began: the bytes that it had brought of those, and how long that took.
    pace: Option<(u64, Duration)>,
    /// It brought something, and did not fail since.
    pub(super) proven: bool,
    /// Failures since it last brought something.
    strikes: u32,
    /// It is not asked before.
    pub(super) rests: Option<Time>,
}

/// The window after a piece that took so long, where none took less than `delay`.
fn adapted(window: u64, took: Duration, delay: Duration, pace: Pace, piece: u64, config: &Config) -> u64 {
    let least = FIRST_WINDOW * piece;
    if took <= delay + pace.quick {
        (window + piece).min(config.provider_bytes.max(least))
    } else if took > delay + pace.queued {
        (window - piece).max(least)
    } else {
        window
    }
}

impl Provider {
    pub(super) fn new(size: u64, piece: u64, now: Time) -> Self {
        Self {
            held: Pieces::none(size),
            fetches: false,
            fellow: false,
            near: false,
            outward: true,
            asked: 0,
            window: FIRST_WINDOW * piece,
            delay: None,
            takes: None,
            heard: now,
            moved: now,
            busy: (now, 0),
            pace: None,
            proven: false,
            strikes: 0,
            rests: None,
        }
    }

    /// Whether it had all before this node began, and so is one from whom pieces spread. A fellow that has all by now is
    /// none: nobody has to be kept from it, and its uplink is no better than it was.
    pub(super) fn is_source(&self) -> bool {
        !self.fellow && self.held.is_all()
    }

    /// Whether what it says to have counts as being somewhere else than with sources: it brought something, and did not fail
    /// since. What others merely say would keep those that fetch from sharing out what the sources alone have.
    pub(super) fn is_copy(&self) -> bool {
        !self.is_source() && self.proven
    }

    /// Whether it is one of those among whom pieces are shared out: it lacks some, and did not fail.
    pub(super) fn may_claim(&self) -> bool {
        self.fetches && !self.held.is_all() && !self.is_struck()
    }

    /// Whether it shares its window with others of its kind ([`Afar`]).
    pub(super) fn is_pooled(&self) -> bool {
        !self.near && !self.is_source()
    }

    /// Whether it failed since it last brought something.
    pub(super) fn is_struck(&self) -> bool {
        self.strikes > 0
    }

    /// Bytes that may be asked of it now.
    pub(super) fn room(&self) -> u64 {
        if self.rests.is_some() { 0 } else { self.window.saturating_sub(self.asked) }
    }

    /// How full its pipe is, in thousandths.
    pub(super) fn load(&self) -> u64 {
        self.asked * 1000 / self.window
    }

    /// Whether what is asked of it takes nothing from those who wait for it: it answers at once, or nothing was asked of it
    /// for a while. On a LAN even a source that many wait for answers quickly, so that says nothing there.
    pub(super) fn has_spare(&self, now: Time) -> bool {
        let quick = self.takes.zip(self.delay).is_none_or(|(takes, delay)| takes <= delay + FAR.quick);
        (quick && !self.near) || (self.asked == 0 && now.since(self.moved) >= UNKNOWN)
    }

    /// How long a piece is likely to take of it, if anything is known: as long as the last ones, or, when nothing was asked of
    /// it for a while, as the quickest.
    pub(super) fn expected(&self, now: Time) -> Option<Duration> {
        if self.asked == 0 && now.since(self.moved) >= UNKNOWN { self.delay } else { self.takes }
    }

    pub(super) fn ask(&mut self, bytes: u64, now: Time) {
        if self.asked == 0 {
            if self.busy.1 == 0 || now.since(self.moved) >= UNKNOWN {
                (self.busy, self.pace) = ((now, 0), None);
            }
            self.moved = now;
        }
        self.asked += bytes;
    }

    /// Bytes of a run that may be asked of it where nobody waits for pieces: [`GROWS`] times what it brought in one go, and
    /// no more than it brings in [`LASTS`].
    pub(super) fn run(&self) -> u64 {
        let Some((bytes, lasted)) = self.pace else { return 0 };
        let in_time = u128::from(bytes) * LASTS.as_millis() / lasted.as_millis().max(1);
        u64::try_from(in_time).unwrap_or(u64::MAX).min(self.busy.1 * GROWS)
    }

    /// An answer begins. What it brings at once says nothing: one that keeps a rate on average may owe it by then.
    pub(super) fn begins(&mut self, now: Time) {
        let (since, bytes) = self.busy;
        let lasted = now.since(since);
        if bytes > 0 {
            self.pace = Some((bytes, lasted));
        }
        if lasted > LASTS * 4 {
            // What was long ago says less and less.
            self.busy = (since + lasted / 2, bytes / 2);
        }
    }

    /// A piece came.
    pub(super) fn brought(&mut self, bytes: u64, now: Time) {
        self.asked = self.asked.saturating_sub(bytes);
        self.busy.1 += bytes;
        self.moved = now;
    }

    /// It brings something, for the first time or again.
    pub(super) fn prove(&mut self) {
        (self.proven, self.strikes) = (true, 0);
    }

    /// A piece that was asked for at `since` is here.
    pub(super) fn took(&mut self, since: Time, now: Time, piece: u64, config: &Config) {
        let took = now.since(since);
        let delay = self.delay.map_or(took, |delay| delay.min(took));
        self.delay = Some(delay);
        self.takes = Some(self.takes.map_or(took, |takes| (takes * 3 + took) / 4));
        self.window = adapted(self.window, took, delay, if self.near { NEAR } else { FAR }, piece, config);
    }

    /// What was asked of it is not waited for any more.
    pub(super) fn released(&mut self, bytes: u64) {
        self.asked = self.asked.saturating_sub(bytes);
    }

    /// It failed, or was so slow that another had to step in: it rests, longer each time, and begins small again.
    pub(super) fn strike(&mut self, now: Time, piece: u64, config: &Config) {
        let rest = config.dial_backoff.0 * 2u32.pow(self.strikes.min(16));
        self.rests = Some(now + rest.min(config.patience.max(config.dial_backoff.0)));
        self.strikes = self.strikes.saturating_add(1);
        self.proven = false;
        self.window = FIRST_WINDOW * piece;
    }

    /// Whether it holds up what is asked of it.
    pub(super) fn is_stalled(&self, now: Time) -> bool {
        self.stalls_at().is_some_and(|at| at <= now)
    }

    /// When it does, if it brings nothing; never, while nothing is asked of it.
    pub(super) fn stalls_at(&self) -> Option<Time> {
        let shortest = if self.near { SHORTEST_STALL } else { SHORTEST_STALL_FAR };
        let patience = self.takes.map_or(shortest, |takes| (takes * 3).max(shortest));
        // Longer each time: one that is merely slow comes to its end.
        let patience = patience * 2u32.pow(self.strikes.min(6));
        (self.asked > 0).then(|| self.moved + patience)
    }
}

/// All providers together that are far and no sources. Each has an uplink that it shares with its site, so a little that is
/// asked of each of many would wait for long: they have one window.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Afar {
    window: u64,
    /// The shortest time that a piece took, and how long pieces take, smoothed.
    delay: Option<Duration>,
    takes: Option<Duration>,
    /// When the last piece came from afar, sources included, and the time between two, smoothed.
    last: Option<Time>,
    every: Option<Duration>,
}

impl Afar {
    pub(super) fn new(piece: u64) -> Self {
        Self { window: FIRST_WINDOW * piece, delay: None, takes: None, last: None, every: None }
    }

    /// A piece came from afar, by a source, or by one of these, which was asked for it at `pooled`.
    pub(super) fn brought(&mut self, pooled: Option<Time>, now: Time, piece: u64, config: &Config) {
        if let Some(last) = self.last.replace(now) {
            let passed = now.since(last);
            self.every = Some(self.every.map_or(passed, |every| (every * 7 + passed) / 8));
        }
        if let Some(since) = pooled {
            let took = now.since(since);
            let delay = self.delay.map_or(took, |delay| delay.min(took));
            self.delay = Some(delay);
            self.takes = Some(self.takes.map_or(took, |takes| (takes * 3 + took) / 4));
            self.window = adapted(self.window, took, delay, FAR, piece, config);
        }
    }

    /// Whether they take longer than a far source, though others wait for that: then it is the better way.
    pub(super) fn is_slower(&self, source: &Provider) -> bool {
        !source.near && self.takes.zip(source.takes).is_some_and(|(these, source)| source < these)
    }

    /// Whether one more piece may be asked of these, when so many bytes are asked and so many pieces are to come from
    /// afar: what would be the last to come is left to the sources.
    pub(super) fn is_open(&self, asked: u64, missing: usize) -> bool {
        let missing = u32::try_from(missing).unwrap_or(u32::MAX);
        let in_time = self.takes.zip(self.every).is_none_or(|(takes, every)| takes <= every.saturating_mul(missing));
        asked < self.window && in_time
    }
}
