//! Maintenance windows in a device's local time: `22:00-05:00`, `mon-fri 22:00-05:00`, `sat,sun 00:00-24:00`.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const MINUTES_A_DAY: u16 = 24 * 60;
const MINUTES_A_WEEK: u16 = 7 * MINUTES_A_DAY;
/// 1970-01-01 was a Thursday.
const EPOCH_DAY: i64 = 3;

/// A span of hours that begins on some days of the week. One that ends at or before its begin ends on the next day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Window {
    /// The days on which it begins, from Monday.
    days: [bool; 7],
    /// Minutes after midnight, below a day.
    begin: u16,
    /// Minutes that it lasts, 1 to a day.
    lasts: u16,
}

/// A text that is no window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no window; write it like 22:00-05:00, mon-fri 22:00-05:00 or sat,sun 08:00-20:00")]
pub struct WindowError(pub String);

impl Window {
    /// How long until it is open, in whole seconds, at this local time in seconds since the epoch; zero if it is open.
    #[must_use]
    pub fn opens_in(&self, local: i64) -> Duration {
        let week = i64::from(MINUTES_A_WEEK) * 60;
        let second_of_week = local.rem_euclid(week) + EPOCH_DAY * 86_400;
        let begins = (0..7_u16).filter(|day| self.days[usize::from(*day)]).map(|day| day * MINUTES_A_DAY + self.begin);
        let wait = begins.map(|begin| {
            let since = (second_of_week - i64::from(begin) * 60).rem_euclid(week);
            if since < i64::from(self.lasts) * 60 { 0 } else { week - since }
        });
        Duration::from_secs(wait.min().expect("a window has a day").unsigned_abs())
    }

    /// How long until it opens or closes, in whole seconds, at this local time.
    #[must_use]
    pub fn changes_in(&self, local: i64) -> Duration {
        let opens = self.opens_in(local);
        if !opens.is_zero() {
            return opens;
        }
        let since = local.rem_euclid(86_400) - i64::from(self.begin) * 60;
        let left = i64::from(self.lasts) * 60 - since.rem_euclid(86_400);
        Duration::from_secs(left.max(1).unsigned_abs())
    }
}

impl FromStr for Window {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Self, WindowError> {
        let bad = || WindowError(text.chars().take(80).collect());
        let (days, hours) = text.trim().rsplit_once(' ').unwrap_or(("", text.trim()));
        let (begin, end) = hours.split_once('-').ok_or_else(bad)?;
        let (begin, end) = (minutes(begin).ok_or_else(bad)?, minutes(end).ok_or_else(bad)?);
        if begin == MINUTES_A_DAY {
            return Err(bad());
        }
        let lasts = if end > begin { end - begin } else { end + MINUTES_A_DAY - begin };
        Ok(Self { days: parse_days(days).ok_or_else(bad)?, begin, lasts })
    }
}

/// Minutes after midnight of `hh:mm`, up to 24:00.
fn minutes(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let two = |digits: &str| -> Option<u16> {
        let plain = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_digit());
        if plain { digits.parse().ok() } else { None }
    };
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    (minutes < 60 && hours * 60 + minutes <= MINUTES_A_DAY).then_some(hours * 60 + minutes)
}

fn parse_days(text: &str) -> Option<[bool; 7]> {
    if text.is_empty() {
        return Some([true; 7]);
    }
    let number = |name: &str| DAYS.iter().position(|day| *day == name);
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        let count = (last + 7 - first) % 7;
        (first..=first + count).for_each(|day| days[day % 7] = true);
    }
    Some(days)
}

impl TryFrom<String> for Window {
    type Error = WindowError;

    fn try_from(text: String) -> Result<Self, WindowError> {
        text.parse()
    }
}

impl From<Window> for String {
    fn from(window: Window) -> Self {
        window.to_string()
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days != [true; 7] {
            let days: Vec<&str> = DAYS.iter().zip(self.days).filter(|(_, is)| *is).map(|(day, _)| *day).collect();
            write!(f, "{} ", days.join(","))?;
        }
        let end = match (self.begin + self.lasts) % MINUTES_A_DAY {
            0 => MINUTES_A_DAY,
            end => end,
        };
        write!(f, "{:02}:{:02}-{:02}:{:02}", self.begin / 60, self.begin % 60, end / 60, end % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Monday 2026-01-05, at this hour and minute.
    fn monday(hour: i64, minute: i64) -> i64 {
        1_767_571_200 + hour * 3600 + minute * 60
    }

    #[test]
    fn a_window_over_midnight_is_open_on_both_sides() {
        let window: Window = "mon-fri 22:00-05:00".parse().expect("a window");
        assert_eq!(window.opens_in(monday(22, 0)), Duration::ZERO);
        assert_eq!(window.opens_in(monday(28, 59)), Duration::ZERO, "Tuesday 04:59");
        assert_eq!(window.opens_in(monday(29, 0)), Duration::from_secs(17 * 3600));
        assert_eq!(window.opens_in(monday(21, 59)), Duration::from_secs(60));
        // Saturday 05:00 to Monday 22:00.
        assert_eq!(window.opens_in(monday(5 * 24 + 5, 0)), Duration::from_secs((24 + 19 + 22) * 3600));
        assert_eq!(window.changes_in(monday(28, 59)), Duration::from_secs(60), "it closes");
        assert_eq!(window.changes_in(monday(22, 0)), Duration::from_secs(7 * 3600));
        assert_eq!(window.changes_in(monday(21, 59)), Duration::from_secs(60), "it opens");
    }

    #[test]
    fn windows_read_as_they_are_written() {
        for (text, again) in [
            ("22:00-05:00", "22:00-05:00"),
            ("fri-mon 00:00-24:00", "mon,fri,sat,sun 00:00-24:00"),
            ("sat,sun 08:30-20:00", "sat,sun 08:30-20:00"),
            ("03:00-03:00", "03:00-03:00"),
        ] {
            let window: Window = text.parse().expect("a window");
            assert_eq!(window.to_string(), again);
            assert_eq!(again.parse(), Ok(window));
        }
        for bad in ["", "22-05", "24:00-25:00", "24:00-01:00", "1:00-2:00", "mon", "xyz 01:00-02:00", "+1:00-02:00"] {
            assert!(bad.parse::<Window>().is_err(), "{bad:?}");
        }
    }
}
