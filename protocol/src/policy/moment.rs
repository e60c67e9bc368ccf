//! Now? When a device that has a release staged switches to it.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    Wall,
    rules::{Rules, Urgency, Window},
};

/// What only the device itself knows of the moment. The driver tells it when it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conditions {
    /// Whether a switch disturbs nobody.
    pub idle: bool,
    /// Seconds that the local time is ahead of UTC.
    pub utc_offset: i32,
}

impl Default for Conditions {
    /// A device that nobody uses, in UTC.
    fn default() -> Self {
        Self { idle: true, utc_offset: 0 }
    }
}

/// Why a staged release waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Later {
    /// For one of its windows.
    Window(Vec<Window>),
    /// For a clock, without which no window can be kept.
    NoClock,
    /// For the device to be idle, or to start again.
    Busy,
    /// For someone at the device.
    Told,
}

/// Whether a staged release is switched to now: if not, why, and how long until time alone may change that.
///
/// `wall` is the device's clock, if it has one; `starting` is whether the device has just started, so that a switch
/// disturbs nobody.
///
/// # Errors
/// [`Later`] is no failure.
pub fn moment(
    rules: &Rules,
    conditions: Conditions,
    wall: Option<Wall>,
    starting: bool,
) -> Result<(), (Later, Option<Duration>)> {
    match rules.urgency {
        Urgency::Critical => return Ok(()),
        Urgency::Manual => return Err((Later::Told, None)),
        Urgency::Normal | Urgency::Background => {}
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
            Self::Told => write!(f, "it waits for `burr apply`"),
        }
    }
}
