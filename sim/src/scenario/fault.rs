//! What goes wrong, as data: named, drawn before a run begins, and small enough to read.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::quantity::Span;

/// One node, or one site: its group and its number in it, from 0; as text `device/3`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Who {
    /// The group's name in the scenario.
    pub group: String,
    /// Which of them.
    pub number: usize,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.group, self.number)
    }
}

impl FromStr for Who {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.rsplit_once('/').and_then(|(group, number)| Some((group, number.parse().ok()?)));
        let (group, number) = parts.ok_or_else(|| format!("{text:?} is not GROUP/NUMBER, such as device/3"))?;
        Ok(Self { group: group.to_owned(), number })
    }
}

impl Serialize for Who {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Who {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Something that goes wrong, and, where it lasts, is over after a while.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// When it begins.
    pub at: Span,
    /// How long it lasts.
    #[serde(rename = "for", default)]
    pub lasting: Span,
    /// What.
    #[serde(flatten)]
    pub kind: FaultKind,
}

/// In which way something goes wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FaultKind {
    /// Power is cut: what is not durable is lost. It comes back.
    Crash {
        /// Of which node.
        node: Who,
    },
    /// The same, and the wall clock is unset after it for as long again.
    RebootWithoutClock {
        /// Of which node.
        node: Who,
    },
    /// The wall clock is wrong by so many hours.
    ClockStep {
        /// Of which node.
        node: Who,
        /// Later, or earlier if negative.
        hours: i64,
    },
    /// Power is cut at a whole site.
    PowerCycle {
        /// Which.
        site: Who,
    },
    /// A site's uplink is gone.
    Partition {
        /// Which.
        site: Who,
    },
    /// What a node says arrives nowhere, though it hears the others.
    OneWay {
        /// Which.
        node: Who,
    },
    /// A site's uplink has a fraction of its rate.
    Clog {
        /// Which.
        site: Who,
        /// In percent of the rate, at least 1.
        percent: u64,
    },
    /// Nothing can be written.
    DiskFull {
        /// On which node.
        node: Who,
    },
    /// A piece of the newest payload is damaged, found out at a restart.
    CorruptRange {
        /// On which node.
        node: Who,
        /// Which piece, modulo how many there are.
        piece: usize,
    },
    /// The database is damaged and set aside, at a restart.
    LostRecords {
        /// On which node.
        node: Who,
    },
    /// It promises every piece of what others look for, and serves altered bytes.
    AltersBytes {
        /// Which node.
        node: Who,
    },
    /// It promises every piece, and says that it has none when it is asked.
    Boasts {
        /// Which node.
        node: Who,
    },
    /// It promises every piece, and brings a byte a second.
    Trickles {
        /// Which node.
        node: Who,
    },
    /// It promises every piece, and never answers.
    Stalls {
        /// Which node.
        node: Who,
    },
    /// It alters the metadata that it passes on.
    AltersMetadata {
        /// Which node.
        node: Who,
    },
    /// It answers with the first metadata that it ever held.
    ReplaysMetadata {
        /// Which node.
        node: Who,
    },
    /// It is slow.
    SlowPeer {
        /// Which node.
        node: Who,
        /// In percent of its rate, at least 1.
        percent: u64,
    },
    /// The keys that release and renew were stolen and are replaced; from then on a thief releases with the old ones, on
    /// a node of its own, which is to be given in the scenario.
    StolenKeys {
        /// The thief's node.
        node: Who,
    },
}

impl FaultKind {
    /// Its name, as a scenario writes it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Crash { .. } => "crash",
            Self::RebootWithoutClock { .. } => "reboot_without_clock",
            Self::ClockStep { .. } => "clock_step",
            Self::PowerCycle { .. } => "power_cycle",
            Self::Partition { .. } => "partition",
            Self::OneWay { .. } => "one_way",
            Self::Clog { .. } => "clog",
            Self::DiskFull { .. } => "disk_full",
            Self::CorruptRange { .. } => "corrupt_range",
            Self::LostRecords { .. } => "lost_records",
            Self::AltersBytes { .. } => "alters_bytes",
            Self::Boasts { .. } => "boasts",
            Self::Trickles { .. } => "trickles",
            Self::Stalls { .. } => "stalls",
            Self::AltersMetadata { .. } => "alters_metadata",
            Self::ReplaysMetadata { .. } => "replays_metadata",
            Self::SlowPeer { .. } => "slow_peer",
            Self::StolenKeys { .. } => "stolen_keys",
        }
    }

    /// The node that it is about, if it is about one.
    #[must_use]
    pub fn node(&self) -> Option<&Who> {
        match self {
            Self::Crash { node }
            | Self::RebootWithoutClock { node }
            | Self::ClockStep { node, .. }
            | Self::OneWay { node }
            | Self::DiskFull { node }
            | Self::CorruptRange { node, .. }
            | Self::LostRecords { node }
            | Self::AltersBytes { node }
            | Self::Boasts { node }
            | Self::Trickles { node }
            | Self::Stalls { node }
            | Self::AltersMetadata { node }
            | Self::ReplaysMetadata { node }
            | Self::SlowPeer { node, .. }
            | Self::StolenKeys { node } => Some(node),
            Self::PowerCycle { .. } | Self::Partition { .. } | Self::Clog { .. } => None,
        }
    }

    /// The site that it is about, if it is about one.
    #[must_use]
    pub fn site(&self) -> Option<&Who> {
        match self {
            Self::PowerCycle { site } | Self::Partition { site } | Self::Clog { site, .. } => Some(site),
            _ => None,
        }
    }
}
