//! Quantities with units, as text: times, sizes, rates; and ranges of them, from which a run draws.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::random::Stream;

/// A time, in milliseconds; as text with a unit, `90s` or `2days 3h`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub u64);

/// A size in bytes; as text with a unit, `50 MB` or `8 MiB`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A rate in bytes a second; as text with a unit, `8 Mbit/s` or `500 KB/s`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(pub u64);

/// How many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count(pub u64);

/// A text that is no such quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct BadQuantity {
    text: String,
    expected: &'static str,
}

impl BadQuantity {
    fn new(text: &str, expected: &'static str) -> Self {
        Self { text: text.to_owned(), expected }
    }
}

impl Span {
    /// As the standard library's.
    #[must_use]
    pub fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl FromStr for Span {
    type Err = BadQuantity;

    fn from_str(text: &str) -> Result<Self, BadQuantity> {
        let bad = || BadQuantity::new(text, "a time with a unit, such as 30s or 2days");
        let span = humantime::parse_duration(text).map_err(|_| bad())?;
        u64::try_from(span.as_millis()).ok().filter(|ms| *ms < 1 << 50).map(Self).ok_or_else(bad)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", humantime::format_duration(self.duration()))
    }
}

impl FromStr for Size {
    type Err = BadQuantity;

    fn from_str(text: &str) -> Result<Self, BadQuantity> {
        let size = text.parse::<bytesize::ByteSize>();
        size.map(|size| Self(size.as_u64()))
            .map_err(|_| BadQuantity::new(text, "a size with a unit, such as 500 MB or 10 GiB"))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} B", self.0)
    }
}

impl FromStr for Rate {
    type Err = BadQuantity;

    fn from_str(text: &str) -> Result<Self, BadQuantity> {
        let bad = || BadQuantity::new(text, "a rate with a unit, such as 8 Mbit/s or 500 KB/s");
        let amount = text.trim().strip_suffix("/s").ok_or_else(bad)?;
        let bits = [("Gbit", 1e9), ("Mbit", 1e6), ("kbit", 1e3), ("bit", 1.0)];
        let bits = bits.into_iter().find_map(|(unit, factor)| Some((amount.strip_suffix(unit)?, factor)));
        let rate = match bits {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked, and whole bytes")]
            Some((number, factor)) => {
                let bytes = number.trim().parse::<f64>().map_err(|_| bad())? * factor / 8.0;
                if !(1.0..1e15).contains(&bytes) {
                    return Err(bad());
                }
                bytes as u64
            }
            None => amount.parse::<bytesize::ByteSize>().map_err(|_| bad())?.as_u64(),
        };
        if rate == 0 { Err(bad()) } else { Ok(Self(rate)) }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} B/s", self.0)
    }
}

impl FromStr for Count {
    type Err = BadQuantity;

    fn from_str(text: &str) -> Result<Self, BadQuantity> {
        text.parse().map(Self).map_err(|_| BadQuantity::new(text, "a whole number"))
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A value as a scenario writes it: text, or a number where that needs no unit.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

impl Written {
    fn text(self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text,
        }
    }
}

macro_rules! as_text {
    ($($name:ident),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Written::deserialize(deserializer)?.text().parse().map_err(D::Error::custom)
            }
        }

        impl From<u64> for $name {
            fn from(number: u64) -> Self {
                Self(number)
            }
        }

        impl From<$name> for u64 {
            fn from(quantity: $name) -> Self {
                quantity.0
            }
        }
    )*};
}

as_text!(Span, Size, Rate, Count);

/// A value, or from a least to a most, both included, of which a run draws one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range<T> {
    /// The least.
    pub least: T,
    /// The most.
    pub most: T,
}

impl<T: Copy + PartialEq + From<u64> + Into<u64>> Range<T> {
    /// One value.
    #[must_use]
    pub fn of(value: T) -> Self {
        Self { least: value, most: value }
    }

    /// Draws a value.
    pub fn draw(&self, stream: &mut Stream) -> T {
        T::from(stream.between(self.least.into(), self.most.into()))
    }
}

impl<T: Copy + PartialEq + Serialize> Serialize for Range<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.least == self.most {
            self.least.serialize(serializer)
        } else {
            [self.least, self.most].serialize(serializer)
        }
    }
}

impl<'de, T: Copy + PartialOrd + FromStr<Err = BadQuantity>> Deserialize<'de> for Range<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum OneOrTwo {
            One(Written),
            Two([Written; 2]),
        }
        let read = |written: Written| written.text().parse::<T>().map_err(D::Error::custom);
        let (least, most) = match OneOrTwo::deserialize(deserializer)? {
            OneOrTwo::One(value) => {
                let value = read(value)?;
                (value, value)
            }
            OneOrTwo::Two([least, most]) => (read(least)?, read(most)?),
        };
        if least > most {
            return Err(D::Error::custom("the least is more than the most"));
        }
        Ok(Self { least, most })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_with_their_units_and_written_back() {
        assert_eq!("8 Mbit/s".parse(), Ok(Rate(1_000_000)));
        assert_eq!("500 KB/s".parse(), Ok(Rate(500_000)));
        assert_eq!("50 MB".parse(), Ok(Size(50_000_000)));
        assert_eq!("2days 3h".parse(), Ok(Span(51 * 3_600_000)));
        for text in ["8", "8 Mbit", "0 bit/s", "-1 Mbit/s", "fast"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
        for rate in [Rate(1), Rate(123_456_789)] {
            assert_eq!(rate.to_string().parse(), Ok(rate));
        }
        for span in [Span(1), Span(86_400_001)] {
            assert_eq!(span.to_string().parse(), Ok(span));
        }
    }
}
