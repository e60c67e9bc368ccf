//! Devices behind a gateway: apps with Capgo's plugin, which speak HTTP and hold no key of Burr's.
//!
//! What such a device is offered, and on which channel it is, is decided here, and so is what becomes of its reports:
//! receipts that the gateway signs and that say so ([`Via`]). Such a device is known by an id of its own choosing, so it
//! is a device of that gateway alone: nobody can speak for a node, or for the devices of another gateway.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

use crate::{
    Hash, NodeId, Wall,
    config::Install,
    policy::{self, Device, Offer, Skip},
    receipt::Outcome,
    record::{AppRecord, Installed, ReleaseId},
    release::Release,
    rules::{Against, NATIVE, PLATFORM, Tally},
    trust::{Verified, version},
};

/// Bytes of a device's own id at most.
pub const MAX_DEVICE: usize = 64;
/// Devices that chose a channel, at most.
pub const MAX_ASSIGNED: usize = 1 << 17;
/// Outcomes in one report at most: as many events as the plugin gathers while it is offline.
pub const MAX_OUTCOMES: usize = 200;

/// What a device's id is hashed with for its name in receipts, so that it is no other hash.
const CONTEXT: &[u8] = b"burr device behind a gateway v1\0";
/// The same for its place in rollouts.
const DRAWN: &[u8] = b"burr device behind any gateway v1\0";

/// Whether this can be a device's own id: 1 to [`MAX_DEVICE`] of `A-Z a-z 0-9 . _ -`.
#[must_use]
pub fn is_device(id: &str) -> bool {
    let usable = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=MAX_DEVICE).contains(&id.len()) && id.bytes().all(usable)
}

/// Who speaks for a device in a receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Via {
    /// The gateway, which signed.
    pub gateway: NodeId,
    /// The device's own id.
    pub device: String,
}

impl Via {
    /// The name that the device has in receipts: bound to its gateway, and nobody's key.
    #[must_use]
    pub fn name(&self) -> NodeId {
        NodeId(Hash::of(&[CONTEXT, &self.gateway.0, self.device.as_bytes()].concat()).0)
    }
}

/// A device that asks for an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check<'a> {
    /// The device's own id.
    pub device: &'a str,
    /// The version of the bundle that it runs; empty or `builtin` for the one that it was installed with.
    pub version: &'a str,
    /// The version of the native app around it: the attribute [`NATIVE`].
    pub native: &'a str,
    /// What it runs on: the attribute [`PLATFORM`].
    pub platform: &'a str,
}

impl<'a> Check<'a> {
    /// The version that runs.
    fn runs(&self) -> &'a str {
        match self.version {
            "" | "builtin" => self.native,
            version => version,
        }
    }

    /// What runs, as a node would remember it: by its number where the channel knows the version.
    fn active(&self, verified: &Verified, app: &str, channel: &str) -> Installed {
        let runs =
            |release: &&Release| release.app == app && release.channel == channel && release.version == self.runs();
        match verified.releases().filter(runs).max_by_key(|release| release.seq) {
            Some(release) => Installed {
                id: ReleaseId::of(verified.repository(), release),
                version: release.version.clone(),
                bundle: release.bundle,
                bytes: release.unpacked,
            },
            None => Installed {
                id: ReleaseId { repository: verified.repository(), channel: String::new(), seq: 0 },
                version: self.runs().to_owned(),
                bundle: Hash([0; 32]),
                bytes: 0,
            },
        }
    }
}

/// Why a device is not offered anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// What it should have is not here yet.
    NotHere,
    /// It runs a version that came from elsewhere and is newer than this one.
    Newer {
        /// The version that it would be offered.
        version: String,
    },
    /// As a node would skip it.
    Skip(Skip),
}

impl Refusal {
    /// Whether a newer native app is what the device needs.
    #[must_use]
    pub fn needs_native(&self) -> bool {
        let Self::Skip(Skip::Refused { why, .. }) = self else { return false };
        why.iter().any(|why| matches!(why, policy::Refusal::Rule(Against::Native { .. })))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotHere => write!(f, "the version for this device is still on its way to this gateway"),
            Self::Newer { version } => write!(f, "the device's version is newer than {version}, the newest here"),
            Self::Skip(skip) => skip.fmt(f),
        }
    }
}

/// The channel that a device is on: the one that it chose here, else the one that its app names, else the gateway's.
#[must_use]
pub fn channel<'a>(assigned: Option<&'a str>, named: &'a str, usual: &'a str) -> &'a str {
    match (assigned, named) {
        (Some(assigned), _) => assigned,
        (None, "") => usual,
        (None, named) => named,
    }
}

/// Decides what a device is offered of a channel: what a node in its place would take, by the release's own rules. The
/// device's place in a rollout goes by its own id alone, so every gateway draws the same. `now` is the trusted time.
///
/// # Errors
/// [`Refusal`] is no failure: it says why there is nothing to offer.
pub fn decide(
    verified: &Verified,
    app: &str,
    channel: &str,
    check: Check<'_>,
    halted: &BTreeMap<ReleaseId, Tally>,
    now: Wall,
) -> Result<Offer, Refusal> {
    let attributes = [(PLATFORM, check.platform), (NATIVE, check.native)];
    let attributes = attributes.into_iter().filter(|(_, value)| !value.is_empty());
    let attributes = attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let active = check.active(verified, app, channel);
    let (is_known, install) = (active.id.seq > 0, Install::of(channel));
    let record = AppRecord { active: Some(active.into()), ..AppRecord::default() };
    let node = drawn_as(check.device);
    // A gateway can't open what is sealed, and so has no key to give.
    let keys = BTreeMap::new();
    // Nor has it a certificate, which alone says groups.
    let groups = BTreeSet::new();
    let (attributes, groups, keys) = (&attributes, &groups, &keys);
    let device = Device { node, attributes, groups, install: &install, record: &record, keys, halted, now };
    let offer = policy::decide(verified, app, &device).map_err(Refusal::Skip)?;
    let version = &offer.release().version;
    if !is_known && !version::is_newer(version, check.runs()) {
        return Err(Refusal::Newer { version: version.clone() });
    }
    Ok(offer)
}

/// The name by which a device behind a gateway has its place in rollouts: the same behind each.
#[must_use]
pub fn drawn_as(device: &str) -> NodeId {
    NodeId(Hash::of(&[DRAWN, device.as_bytes()].concat()).0)
}

/// What a device tells its gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Of which app.
    pub app: String,
    /// The device's own id.
    pub device: String,
    /// What.
    pub what: Told,
}

/// The content of a [`Report`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told {
    /// It chose a channel, or none.
    Channel(Option<String>),
    /// Updates ended, oldest first; at most [`MAX_OUTCOMES`].
    Outcomes(Vec<Ended>),
}

/// How an update ended on a device behind a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The channel that the device is on.
    pub channel: String,
    /// The version that was tried.
    pub version: String,
    /// The version that is active after it, if it was said.
    pub active: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
}

/// Why a report is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Declined {
    /// Of an app that is not followed here.
    #[error("this app is not served here")]
    UnknownApp,
    /// Not an id that can be kept.
    #[error("the device's id is not 1 to 64 of A-Z a-z 0-9 . _ -")]
    BadDevice,
    /// The app has no such channel.
    #[error("the app has no such channel")]
    UnknownChannel,
    /// Over a bound, or the disk is behind: try again later.
    #[error("there is no room for it now; try again later")]
    Busy,
    /// It could not be written.
    #[error("it could not be written down; try again later")]
    Storage,
}

/// The channels that devices chose, by app and device; while none did, a pointer.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Assigned(Option<Box<Choices>>);

#[derive(Debug, Default, Serialize, Deserialize)]
struct Choices {
    channels: BTreeMap<String, BTreeMap<String, String>>,
    count: usize,
}

impl Assigned {
    /// Whether one more device may choose, or this one did already.
    #[must_use]
    pub fn has_room(&self, app: &str, device: &str) -> bool {
        self.0.as_ref().is_none_or(|choices| choices.count < MAX_ASSIGNED) || self.of(app, device).is_some()
    }

    /// The channel that a device chose.
    #[must_use]
    pub fn of(&self, app: &str, device: &str) -> Option<&str> {
        self.0.as_ref()?.channels.get(app)?.get(device).map(String::as_str)
    }

    /// Notes a choice, or its end.
    pub fn set(&mut self, app: &str, device: &str, channel: Option<String>) {
        let Choices { channels, count } = &mut **self.0.get_or_insert_default();
        let devices = channels.entry(app.to_owned()).or_default();
        let before = match channel {
            Some(channel) => {
                *count += 1;
                devices.insert(device.to_owned(), channel)
            }
            None => devices.remove(device),
        };
        *count -= usize::from(before.is_some());
    }

    /// All choices: app, device, channel.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.0.iter().flat_map(|choices| &choices.channels).flat_map(|(app, devices)| {
            devices.iter().map(|(device, channel)| (app.as_str(), device.as_str(), channel.as_str()))
        })
    }
}
