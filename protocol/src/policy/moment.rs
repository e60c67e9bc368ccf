//! Now? When a device that has a release staged switches to it.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::needs::{Needs, Power, Unmet, listed};
use crate::{
    Wall,
    rules::{Rules, Urgency, Window, time},
};

/// What only the device itself knows of the moment. The driver tells it when it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conditions {
    /// Whether a switch disturbs nobody.
    pub idle: bool,
    /// Seconds that the local time is ahead of UTC.
    pub utc_offset: i32,
    /// Where its power comes from, if it says so.
    pub power: Option<Power>,
    /// The charge of its battery in percent, if it says so.
    pub battery: Option<u8>,
    /// Whether its link is paid by the byte, if it says so.
    pub metered: Option<bool>,
}

impl Default for Conditions {
    /// A device that nobody uses, in UTC, of which nothing else is known.
    fn default() -> Self {
        Self { idle: true, utc_offset: 0, power: None, battery: None, metered: None }
    }
}

/// Why a staged release waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Later {
    /// For one of its windows.
    Window(Vec<Window>),
    /// For a clock, without which no window can be kept.
    NoClock,
    /// For the device to be idle, or to start again.
    Busy,
    /// For someone at the device.
    Told,
    /// For what the device's settings ask.
    Needs(Vec<Unmet>),
    /// For the time until which someone at the device put it off.
    Deferred(Wall),
}

/// A device at the moment at which it has a release staged.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'a> {
    /// What it says of itself.
    pub conditions: &'a Conditions,
    /// What its settings ask of that.
    pub needs: &'a Needs,
    /// Its clock, if it has one.
    pub wall: Option<Wall>,
    /// Whether it has just started, so that a switch disturbs nobody.
    pub starting: bool,
    /// Until when someone put the release off.
    pub deferred: Option<Wall>,
}

/// Whether a staged release is switched to now: if not, why, and how long until time alone may change that. What the
/// device's own settings ask holds for every release; nothing else does for a critical one.
///
/// # Errors
/// [`Later`] is no failure.
pub fn moment(rules: &Rules, device: &Moment<'_>) -> Result<(), (Later, Option<Duration>)> {
    let Moment { conditions, needs, wall, starting, deferred } = *device;
    let unmet = needs.unmet(conditions);
    if !unmet.is_empty() {
        return Err((Later::Needs(unmet), None));
    }
    match rules.urgency {
        Urgency::Critical => return Ok(()),
        Urgency::Manual => return Err((Later::Told, None)),
        Urgency::Normal | Urgency::Background => {}
    }
    if let (Some(until), Some(wall)) = (deferred, wall) {
        let left = u64::try_from(until.0.saturating_sub(wall.0)).unwrap_or_default();
        return Err((Later::Deferred(until), Some(Duration::from_secs(left))));
    }
    if !rules.windows.is_empty() {
        let Some(wall) = wall else { return Err((Later::NoClock, None)) };
        let local = wall.0.saturating_add(conditions.utc_offset.into());
        let opens = rules.windows.iter().map(|window| window.opens_in(local)).min().unwrap_or_default();
        if !opens.is_zero() {
            return Err((Later::Window(rules.windows.clone()), Some(opens)));
        }
    }
    if rules.urgency == Urgency::Background && !conditions.idle && !starting {
        return Err((Later::Busy, None));
    }
    Ok(())
}

impl fmt::Display for Later {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Window(windows) => {
                let windows: Vec<String> = windows.iter().map(Window::to_string).collect();
                write!(f, "it waits for its window, {} in local time", windows.join(" or "))
            }
            Self::NoClock => write!(f, "it has a window, and this device has no clock to keep it by"),
            Self::Busy => write!(f, "it waits until this device is idle, or starts again"),
            Self::Needs(unmet) => write!(f, "it waits for {}", listed(unmet)),
            Self::Deferred(until) => write!(f, "someone at this device put it off until {}", time(*until)),
            Self::Told => write!(f, "it waits for `burr apply`"),
        }
    }
}
