//! What this node may send and take, by what the way costs: rates by the hour of the day, metered links, bytes a month.
//!
//! [`Budgets`] are the settings, [`Budget`] is what is left of them. Whoever is about to ask a provider for bytes, or to
//! give bytes to a node, looks for [`Budget::room`] first and notes what it does with [`Budget::spend`]. Each rate is a
//! token bucket that may go into debt by one request, so that over time exactly the rate is kept, whatever the size of
//! requests. Bytes count as they are on the wire ([`on_wire`]). What counts against the month is written down before it
//! is used, a lease at a time, so that no kill lets the cap be passed.

mod bucket;
mod schedule;

use std::{fmt, ops::RangeInclusive, time::Duration};

use serde::{Deserialize, Serialize};

use self::bucket::Bucket;
pub use self::schedule::{MAX_SPANS, Rate, RateError, Schedule};
use crate::{Time, Wall, fetch::MIN_PIECE, policy::Conditions};

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// To this node.
    Down,
    /// From this node.
    Up,
}

/// What a way costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// Within this node's site: no uplink is crossed.
    Lan,
    /// Across an uplink.
    Wan,
    /// Across an uplink that is paid for by the byte.
    Metered,
}

/// How fast a link may be used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes a second to this node.
    pub down: Schedule,
    /// Bytes a second from this node.
    pub up: Schedule,
}

/// What may be used of each link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budgets {
    /// With nodes of this site.
    pub lan: Limits,
    /// With others.
    pub wan: Limits,
    /// With others, while the uplink is metered.
    pub metered: Limits,
    /// Whether the uplink is metered.
    pub is_metered: bool,
    /// Bytes a calendar month, UTC, in both directions together, with nodes of other sites; no cap if `None`.
    pub month: Option<u64>,
}

impl Default for Budgets {
    /// No limits, but nothing is given to other sites while each byte is paid for.
    fn default() -> Self {
        let metered = Limits { up: Schedule::of(Rate(Some(0))), ..Limits::default() };
        Self { lan: Limits::default(), wan: Limits::default(), metered, is_metered: false, month: None }
    }
}

impl Budgets {
    fn of(&self, link: Link) -> &Limits {
        match link {
            Link::Lan => &self.lan,
            Link::Wan => &self.wan,
            Link::Metered => &self.metered,
        }
    }
}

/// What so many bytes of blobs are on the wire, as an interface counts them: with their proofs and frames, and the
/// headers of TCP, IP and Ethernet in packets of 1500 bytes. One byte in sixteen more.
#[must_use]
pub fn on_wire(bytes: u64) -> u64 {
    bytes.saturating_add(bytes / 16)
}

/// Bytes of the month's cap that are written down as used before they are: what a kill may lose of it.
fn lease(cap: u64) -> u64 {
    (cap / 256).clamp(1 << 20, 64 << 20)
}

/// Of a month's cap, what may be used in a direction: the last quarter is not for what others ask for. They may be anybody,
/// and ask as often as they like; that must not cost this node its own updates.
fn share(cap: u64, direction: Direction) -> u64 {
    match direction {
        Direction::Down => cap,
        Direction::Up => cap - cap / 4,
    }
}

/// How long after a failure the month's use is written down again.
const WRITE_AGAIN: Duration = Duration::from_secs(60);
/// While a month's cap or hours are set, the clock is looked at this often at least: it may have been set.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);

/// A calendar month and what was used of its cap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Month {
    /// Months since January 1970, UTC.
    pub number: u32,
    /// Bytes that were used, or are written down as if they were.
    pub bytes: u64,
}

impl Month {
    /// The month of a time, of which nothing is used.
    #[must_use]
    pub fn of(wall: Wall) -> Self {
        let (year, month) = civil(wall.0.max(0).unsigned_abs() / 86_400);
        Self { number: u32::try_from((year - 1970) * 12 + month - 1).unwrap_or(u32::MAX), bytes: 0 }
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", 1970 + self.number / 12, self.number % 12 + 1)
    }
}

/// Year and month of a day since 1970-01-01 (Hinnant, "chrono-compatible low-level date algorithms", 2021).
fn civil(day: u64) -> (u64, u64) {
    let day = day + 719_468;
    let of_era = day % 146_097;
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + day / 146_097 * 400 + u64::from(month <= 2), month)
}

/// Bytes that went, as they are on the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// From nodes of this site.
    pub lan_down: u64,
    /// To nodes of this site.
    pub lan_up: u64,
    /// From other sites.
    pub wan_down: u64,
    /// To other sites.
    pub wan_up: u64,
}

impl Traffic {
    fn of(&mut self, near: bool, direction: Direction) -> &mut u64 {
        match (near, direction) {
            (true, Direction::Down) => &mut self.lan_down,
            (true, Direction::Up) => &mut self.lan_up,
            (false, Direction::Down) => &mut self.wan_down,
            (false, Direction::Up) => &mut self.wan_up,
        }
    }
}

/// Why bytes may not go now, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// The rate; they may soon.
    Soon(String),
    /// Nothing may, until the hour, the month or a setting is another.
    Shut(String),
}

/// What is left.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Budget {
    far: Option<Link>,
    /// What is used of the month.
    month: Month,
    /// What limits there are: most nodes have none.
    bounds: Option<Box<Bounds>>,
    traffic: Traffic,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Bounds {
    /// Near and far, each down and up.
    buckets: [[Bucket; 2]; 2],
    /// Up to where the month's use is written down, or being written down.
    written: u64,
    writing: Option<u64>,
    /// After a failure, when to write it down again.
    again: Time,
    /// When the rates may be others.
    changes: Option<Time>,
    /// Until when somebody waits who found no room.
    waits: Option<Time>,
    /// That the month's cap is used up was told.
    told: bool,
}

impl Budget {
    /// What is left of a month of which so much was used before this start.
    #[must_use]
    pub fn after(month: Month) -> Self {
        let bounds = Bounds { written: month.bytes, ..Bounds::default() };
        Self { month, bounds: Some(Box::new(bounds)), ..Self::default() }
    }

    /// Brings the rates in line with settings, hours and conditions. `trusted` is the time as far as it is trusted: months
    /// go on, and back only where the clock was ahead by more than a month. `wall` is the device's clock, without which hours are not kept and the usual rates hold.
    pub fn refresh(&mut self, budgets: &Budgets, conditions: Conditions, wall: Option<Wall>, trusted: Wall, now: Time) {
        let is_metered = conditions.metered.unwrap_or(budgets.is_metered);
        let far = if is_metered { Link::Metered } else { Link::Wan };
        self.far = Some(far);
        let local = wall.map(|wall| wall.0.saturating_add(conditions.utc_offset.into()));
        let rates = [Link::Lan, far].map(|link| {
            let limits = budgets.of(link);
            [&limits.down, &limits.up].map(|schedule| schedule.at(local))
        });
        let lasts =
            rates.as_flattened().iter().filter_map(|(_, lasts)| *lasts).chain(budgets.month.map(|_| LOOK_AGAIN));
        let changes = lasts.min().map(|wait| now + wait.min(LOOK_AGAIN));
        let somebody_waits = self.bounds.as_ref().is_some_and(|bounds| bounds.waits.is_some());
        if somebody_waits || changes.is_some() || rates.as_flattened().iter().any(|(rate, _)| *rate != Rate(None)) {
            let bounds = self.bounds.get_or_insert_default();
            bounds.changes = changes;
            for (bucket, (rate, _)) in bounds.buckets.as_flattened_mut().iter_mut().zip(rates.as_flattened()) {
                bucket.set(*rate, now);
            }
        } else {
            self.bounds = None;
        }
        let month = Month::of(trusted);
        let is_next = month.number > self.month.number;
        // The clock was far ahead, and is set now. What was used stays used: nobody gains by a wrong clock.
        let is_set = wall == Some(trusted) && self.month.number > month.number + 1;
        if let Some(bounds) = self.bounds.as_mut().filter(|_| is_next || is_set) {
            bounds.writing = None;
            if is_next {
                bounds.written = 0;
            }
        }
        if is_next {
            self.month = month;
        } else if is_set {
            self.month.number = month.number;
        }
    }

    fn bucket(&self, near: bool, direction: Direction) -> Option<&Bucket> {
        Some(&self.bounds.as_ref()?.buckets[usize::from(!near)][direction as usize])
    }

    fn bucket_mut(&mut self, near: bool, direction: Direction) -> Option<&mut Bucket> {
        Some(&mut self.bounds.as_mut()?.buckets[usize::from(!near)][direction as usize])
    }

    /// What a way to a node costs now.
    #[must_use]
    pub fn link(&self, near: bool) -> Link {
        if near { Link::Lan } else { self.far.unwrap_or(Link::Wan) }
    }

    /// Bytes of blobs that may be asked for, or given, in one request now: none, or `least` and more.
    pub fn room(&mut self, budgets: &Budgets, near: bool, direction: Direction, least: u64, now: Time) -> u64 {
        let Some(bounds) = &mut self.bounds else { return u64::MAX };
        let longest = match bounds.buckets[usize::from(!near)][direction as usize].open(now) {
            Ok(longest) => longest.max(least),
            Err(wait) => {
                bounds.waits = bounds.waits.into_iter().chain(wait).min();
                return 0;
            }
        };
        if near {
            return longest;
        }
        let left = self.left_of_month(budgets, direction);
        if left < on_wire(least) { 0 } else { longest.min(left - left / 16) }
    }

    /// Bytes of blobs that go by other ways than requests and answers of this protocol.
    pub fn carried(&mut self, near: bool, direction: Direction, bytes: u64, now: Time) {
        self.bucket_mut(near, direction).into_iter().for_each(|bucket| bucket.fill(now));
        self.spend(near, direction, bytes);
    }

    /// How many bytes may be [carried](Self::carried) now, of a number within a range: its start, and more if there is room.
    ///
    /// # Errors
    /// [`Held`] if not so many may.
    pub fn may_carry(
        &self,
        budgets: &Budgets,
        near: bool,
        direction: Direction,
        range: RangeInclusive<u64>,
        now: Time,
    ) -> Result<u64, Held> {
        let (least, most) = range.into_inner();
        let longest = self.bucket(near, direction).map_or(Some(u64::MAX), |bucket| bucket.longest(now));
        let left = if near { u64::MAX } else { self.left_of_month(budgets, direction) };
        if let Some(longest) = longest
            && left >= on_wire(least)
        {
            return Ok(most.min(longest).min(left - left / 16).max(least));
        }
        if !near && self.has_no_room_for(least, budgets, direction) {
            return Err(Held::Shut(self.used_up(budgets)));
        }
        match self.why(budgets, near, direction).filter(|_| longest.is_none()) {
            Some(why) if self.rate(near, direction) == Rate(Some(0)) => Err(Held::Shut(why)),
            Some(why) => Err(Held::Soon(why)),
            None => Err(Held::Soon("the month's budget is being written down".to_owned())),
        }
    }

    /// Bytes that are asked for, or given.
    pub fn spend(&mut self, near: bool, direction: Direction, bytes: u64) {
        let bytes = on_wire(bytes);
        self.bucket_mut(near, direction).into_iter().for_each(|bucket| bucket.take(bytes));
        *self.traffic.of(near, direction) += bytes;
        if !near {
            self.month.bytes = self.month.bytes.saturating_add(bytes);
        }
    }

    /// Bytes that were noted as spent and did not go.
    pub fn unspend(&mut self, near: bool, direction: Direction, bytes: u64) {
        let bytes = on_wire(bytes);
        self.bucket_mut(near, direction).into_iter().for_each(|bucket| bucket.put(bytes));
        let went = self.traffic.of(near, direction);
        *went = went.saturating_sub(bytes);
        if !near {
            self.month.bytes = self.month.bytes.saturating_sub(bytes);
        }
    }

    /// Bytes on the wire that may be used now: of the cap, and of what is written down.
    fn left_of_month(&self, budgets: &Budgets, direction: Direction) -> u64 {
        let written = self.bounds.as_ref().map_or(0, |bounds| bounds.written);
        let left = |cap| written.min(share(cap, direction)).saturating_sub(self.month.bytes);
        budgets.month.map_or(u64::MAX, left)
    }

    /// What is to be written down next, before more of the month is used; nothing while one is under way.
    pub fn lease(&mut self, budgets: &Budgets, now: Time) -> Option<Month> {
        let cap = budgets.month?;
        let lease = lease(cap);
        let bounds = self.bounds.get_or_insert_default();
        if bounds.writing.is_some()
            || now < bounds.again
            || bounds.written >= cap
            || bounds.written.saturating_sub(self.month.bytes) > lease / 2
        {
            return None;
        }
        let bytes = self.month.bytes.max(bounds.written).saturating_add(lease).min(cap);
        bounds.writing = Some(bytes);
        Some(Month { bytes, ..self.month })
    }

    /// What [`Budget::lease`] said is on disk, or could not be written.
    pub fn leased(&mut self, month: Month, written: bool, now: Time) {
        let Some(bounds) = &mut self.bounds else { return };
        if month.number != self.month.number || bounds.writing != Some(month.bytes) {
            return;
        }
        bounds.writing = None;
        if written {
            bounds.written = month.bytes;
        } else {
            bounds.again = now + WRITE_AGAIN;
            bounds.waits = Some(bounds.again);
        }
    }

    /// When rates change, or one who found no room may find some.
    #[must_use]
    pub fn wake_at(&self) -> Option<Time> {
        let bounds = self.bounds.as_ref()?;
        bounds.changes.into_iter().chain(bounds.waits).min()
    }

    /// Whether rates are to be brought in line again.
    #[must_use]
    pub fn is_due(&self, now: Time) -> bool {
        self.bounds.as_ref().and_then(|bounds| bounds.changes).is_some_and(|at| at <= now)
    }

    /// Whether those that found no room may look again; notes that they do.
    pub fn may_go_on(&mut self, now: Time) -> bool {
        let Some(bounds) = &mut self.bounds else { return false };
        let may = bounds.waits.is_some_and(|at| at <= now);
        if may {
            bounds.waits = None;
        }
        may
    }

    /// Bytes that went.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// The month, and what is used of it.
    #[must_use]
    pub fn month(&self) -> Month {
        self.month
    }

    /// Whether nothing more may be used of this month's cap.
    #[must_use]
    pub fn is_used_up(&self, budgets: &Budgets) -> bool {
        // Less than a piece is left.
        self.has_no_room_for(MIN_PIECE, budgets, Direction::Down)
    }

    /// Whether so many bytes would pass the month's cap.
    fn has_no_room_for(&self, bytes: u64, budgets: &Budgets, direction: Direction) -> bool {
        budgets.month.is_some_and(|cap| self.month.bytes.saturating_add(on_wire(bytes)) > share(cap, direction))
    }

    fn used_up(&self, budgets: &Budgets) -> String {
        let next = Month { number: self.month.number + 1, bytes: 0 };
        let what = if self.is_used_up(budgets) {
            "the month's budget is used up"
        } else {
            "the rest of the month's budget is for what this node fetches"
        };
        format!("{what}; it goes on in {next}")
    }

    /// The month, once, when nothing more of its cap may be used.
    pub fn newly_used_up(&mut self, budgets: &Budgets) -> Option<Month> {
        let used_up = self.is_used_up(budgets);
        let told = self.bounds.as_mut().map(|bounds| std::mem::replace(&mut bounds.told, used_up));
        let news = used_up && told == Some(false);
        news.then_some(self.month)
    }

    /// The rate that holds now.
    #[must_use]
    pub fn rate(&self, near: bool, direction: Direction) -> Rate {
        self.bucket(near, direction).map_or(Rate(None), Bucket::rate)
    }

    /// What holds up bytes of this kind now, in words: the month's cap, or the rate; nothing if nothing does.
    #[must_use]
    pub fn why(&self, budgets: &Budgets, near: bool, direction: Direction) -> Option<String> {
        if !near && self.has_no_room_for(MIN_PIECE, budgets, direction) {
            return Some(self.used_up(budgets));
        }
        let setting = format!("budget.{}_{}", self.link(near), direction);
        match self.rate(near, direction) {
            Rate(None) => None,
            Rate(Some(0)) => Some(format!("{setting} permits nothing now")),
            rate => Some(format!("{setting} permits {rate} now")),
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Down => "down",
            Self::Up => "up",
        })
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lan => "lan",
            Self::Wan => "wan",
            Self::Metered => "metered",
        })
    }
}
