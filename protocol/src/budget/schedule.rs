//! Rates by the hour, as text: `2 MB/s`, `unlimited`, `none`, `unlimited; mon-fri 08:00-18:00 500 kB/s; 22:00-05:00 none`.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::rules::Window;

/// Hours with a rate of their own that a schedule has at most.
pub const MAX_SPANS: usize = 16;

/// Bytes a second; no limit if `None`, nothing at all if 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate(pub Option<u64>);

/// A text that is no rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no rate; write it like 500 kB/s, unlimited or none, and with hours like unlimited; mon-fri 08:00-18:00 500 kB/s"
)]
pub struct RateError(pub String);

/// A rate, and others at certain hours of local time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Schedule {
    usual: Rate,
    /// The first one that is open counts; at most [`MAX_SPANS`].
    spans: Vec<(Window, Rate)>,
}

impl Schedule {
    /// One rate at all hours.
    #[must_use]
    pub fn of(usual: Rate) -> Self {
        Self { usual, spans: Vec::new() }
    }

    /// The highest of its rates: more goes at no hour.
    #[must_use]
    pub fn highest(&self) -> Rate {
        let mut rates = self.spans.iter().map(|(_, rate)| rate.0).chain([self.usual.0]);
        Rate(rates.try_fold(0, |highest, rate| Some(highest.max(rate?))))
    }

    /// The rate at a local time in seconds since the epoch, and for how long it holds at least; the usual one where
    /// there is no clock.
    pub(super) fn at(&self, local: Option<i64>) -> (Rate, Option<Duration>) {
        let Some(local) = local.filter(|_| !self.spans.is_empty()) else { return (self.usual, None) };
        let open = self.spans.iter().find(|(window, _)| window.opens_in(local).is_zero());
        let lasts = self.spans.iter().map(|(window, _)| window.changes_in(local)).min();
        (open.map_or(self.usual, |(_, rate)| *rate), lasts)
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let text = text.trim();
        match text {
            "unlimited" => return Ok(Self(None)),
            "none" => return Ok(Self(Some(0))),
            _ => {}
        }
        let size = text.strip_suffix("/s").and_then(|size| size.trim().parse::<bytesize::ByteSize>().ok());
        // Above a tebibyte a second there is nothing to limit.
        let rate = size.map(|size| size.as_u64()).filter(|rate| *rate <= 1 << 40);
        rate.map(|rate| Self(Some(rate))).ok_or_else(|| RateError(text.chars().take(80).collect()))
    }
}

impl FromStr for Schedule {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let bad = |part: &str| RateError(part.trim().chars().take(80).collect());
        let mut parts = text.split(';');
        let usual = parts.next().unwrap_or_default().parse()?;
        let spans = parts.map(|part| {
            // The hours end at the first word with a colon, the days before it are a word without.
            let part = part.trim();
            let hours = part.find(':').ok_or_else(|| bad(part))?;
            let end = part[hours..].find(' ').map(|end| hours + end).ok_or_else(|| bad(part))?;
            let window = part[..end].parse().map_err(|_| bad(part))?;
            Ok((window, part[end..].parse().map_err(|_| bad(part))?))
        });
        let spans = spans.collect::<Result<Vec<_>, _>>()?;
        if spans.len() > MAX_SPANS { Err(bad(text)) } else { Ok(Self { usual, spans }) }
    }
}

impl TryFrom<String> for Schedule {
    type Error = RateError;

    fn try_from(text: String) -> Result<Self, RateError> {
        text.parse()
    }
}

impl From<Schedule> for String {
    fn from(schedule: Schedule) -> Self {
        schedule.to_string()
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("unlimited"),
            Some(0) => f.write_str("none"),
            // Exact, so that it reads as it was written.
            Some(rate) => {
                [(1 << 30, "GiB"), (1 << 20, "MiB"), (1_000_000, "MB"), (1 << 10, "KiB"), (1000, "kB"), (1, "B")]
                    .into_iter()
                    .find(|(unit, _)| rate.is_multiple_of(*unit))
                    .map_or(Ok(()), |(unit, name)| write!(f, "{} {name}/s", rate / unit))
            }
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.usual)?;
        self.spans.iter().try_for_each(|(window, rate)| write!(f, "; {window} {rate}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_read_as_they_are_written() {
        for (text, again) in [
            ("unlimited", "unlimited"),
            ("2MB/s", "2 MB/s"),
            ("0 B/s", "none"),
            ("1 MiB/s; 22:00-05:00 unlimited", "1 MiB/s; 22:00-05:00 unlimited"),
            (
                "none ;sat,sun 08:00-20:00 1500 B/s; 09:00-10:00 none",
                "none; sat,sun 08:00-20:00 1500 B/s; 09:00-10:00 none",
            ),
        ] {
            let schedule: Schedule = text.parse().expect("a schedule");
            assert_eq!(schedule.to_string(), again);
            assert_eq!(again.parse(), Ok(schedule));
        }
        let many = format!("none{}", "; 01:00-02:00 none".repeat(MAX_SPANS + 1));
        for bad in ["", "2 MB", "fast", "1 MB/s; 22:00-05:00", "1 MB/s; 2 MB/s", "2 TB/h", "9 EB/s", "1 MB/s;", &many] {
            assert!(bad.parse::<Schedule>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_first_open_span_counts_and_without_a_clock_the_usual_rate() {
        let schedule: Schedule = "none; 08:00-18:00 1 kB/s; 17:00-19:00 2 kB/s".parse().expect("a schedule");
        let hour = |hour: i64| Some(hour * 3600);
        assert_eq!(schedule.at(hour(7)), (Rate(Some(0)), Some(Duration::from_secs(3600))));
        assert_eq!(schedule.at(hour(17)), (Rate(Some(1000)), Some(Duration::from_secs(3600))));
        assert_eq!(schedule.at(hour(18)), (Rate(Some(2000)), Some(Duration::from_secs(3600))));
        assert_eq!(schedule.at(None), (Rate(Some(0)), None));
        assert_eq!(schedule.highest(), Rate(Some(2000)));
        let schedule: Schedule = "1 kB/s; 08:00-18:00 unlimited".parse().expect("a schedule");
        assert_eq!(schedule.highest(), Rate(None));
    }
}
