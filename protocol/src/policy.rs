//! For me? Now? The decision whether this device takes a release, with the reason in words.
//!
//! A device takes the newest release of its channel that it may take by the release's own rules: one that is rolled
//! out to a few, paused or taken back leaves the one before it to the others.

pub mod explain;
mod moment;
mod needs;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    Hash, NodeId, RepositoryId, Shared, Wall,
    config::{Freshness, Install},
    record::{AppRecord, ReleaseId},
    release::Release,
    rules::{Against, Subject, Tally},
    seal::{Epoch, Lock},
    trust::Verified,
};

pub use moment::{Conditions, Later, Moment, moment};
pub use needs::{BadNeed, Needs, Power, Unmet};

/// Releases of a channel that caches keep for those who still take them.
const MAX_CURRENT: usize = 4;

/// A release that this device decided to take. Made by [`decide`] alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer(Shared<Offered>);

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Offered {
    repository: RepositoryId,
    #[serde(with = "crate::flight::json")]
    release: Release,
    issued: Wall,
}

impl Offer {
    /// Whose release.
    #[must_use]
    pub fn repository(&self) -> RepositoryId {
        self.0.repository
    }

    /// What is taken.
    #[must_use]
    pub fn release(&self) -> &Release {
        &self.0.release
    }

    /// The release's name.
    #[must_use]
    pub fn id(&self) -> ReleaseId {
        ReleaseId::of(self.0.repository, &self.0.release)
    }

    /// The issue time of the metadata that says so.
    #[must_use]
    pub fn issued(&self) -> Wall {
        self.0.issued
    }
}

/// Why a device does not take anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Skip {
    /// The channel has no release.
    Nothing,
    /// The newest release is active.
    UpToDate,
    /// The newest release is not for this device, or not now; nor is any between it and the active one.
    Refused {
        /// Its version.
        version: String,
        /// Its release number.
        seq: u64,
        /// Why: at least one reason.
        why: Vec<Refusal>,
    },
    /// It would be fetched, but not as the device is now.
    NotNow {
        /// Its version.
        version: String,
        /// What is missing: at least one thing.
        why: Vec<Unmet>,
    },
    /// It is here, and is switched to later.
    Later {
        /// Its version.
        version: String,
        /// What it waits for.
        why: Later,
    },
    /// The metadata is past its expiry, further than the policy permits.
    Stale {
        /// Seconds past the earliest expiry.
        expired_for: i64,
    },
}

/// Why a device does not take a certain release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// It is the active one, or an older one.
    NotNewer,
    /// It failed here before.
    Bad,
    /// Someone at the device went back, and holds it there.
    Held,
    /// It failed on more devices than its publisher permits.
    Halted(Tally),
    /// The device is pinned to another version.
    Pinned(String),
    /// The jump from the active version is longer than the release permits.
    TooFar {
        /// The active version.
        active: String,
    },
    /// Its own rules are against it.
    Rule(Against),
    /// It is sealed for a fleet, and this device can't open it.
    Sealed {
        /// For which fleet, in which epoch.
        epoch: Epoch,
        /// How far the way to its key is; `None` before it was begun.
        access: Option<Access>,
    },
}

/// How far a device is on its way to the key of an epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// The key is here.
    Open,
    /// Nobody has given it the key yet.
    NeedsKey,
    /// The fleet's key of this epoch was given to others, by this list.
    NotAMember(Hash),
    /// Something is wrong with the key, in words.
    Failed(String),
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => write!(f, "the channel has no release"),
            Self::UpToDate => write!(f, "the newest release is active"),
            Self::Refused { version, seq, why } => {
                write!(f, "{version} (release {seq}) is not taken: ")?;
                why.iter().enumerate().try_for_each(|(at, why)| {
                    let between = if at == 0 { "" } else { "; " };
                    write!(f, "{between}{why}")
                })
            }
            Self::NotNow { version, why } => {
                write!(f, "{version} is not fetched yet; it waits for {}", needs::listed(why))
            }
            Self::Later { version, why } => write!(f, "{version} is staged; {why}"),
            Self::Stale { expired_for } => {
                write!(f, "the signed metadata expired {} hours ago; waiting for fresh metadata", expired_for / 3600)
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotNewer => write!(f, "it is not newer than the active one"),
            Self::Bad => write!(f, "it failed here; waiting for a newer one, or `burr retry`"),
            Self::Held => write!(f, "someone at this device went back, and it stays so until `burr retry`"),
            Self::Halted(tally) => write!(f, "it halts by its own rules: {tally}"),
            Self::Pinned(version) => write!(f, "this device is pinned to {version}"),
            Self::TooFar { active } => write!(f, "it is too far from {active}, which is active"),
            Self::Rule(against) => against.fmt(f),
            Self::Sealed { epoch: Epoch { fleet, number, .. }, access } => {
                write!(f, "it is sealed for fleet {fleet}; ")?;
                match access {
                    None | Some(Access::Open) => write!(f, "looking for the key of its epoch {number}"),
                    Some(Access::NeedsKey) => write!(f, "this device needs the key of epoch {number}"),
                    Some(Access::NotAMember(_)) => {
                        write!(f, "this device is not a member of fleet {fleet} in epoch {number}")
                    }
                    Some(Access::Failed(why)) => write!(f, "the key of epoch {number} can't be used: {why}"),
                }
            }
        }
    }
}

/// The device that decides.
#[derive(Debug, Clone, Copy)]
pub struct Device<'a> {
    /// Who it is.
    pub node: NodeId,
    /// Its attributes.
    pub attributes: &'a BTreeMap<String, String>,
    /// Groups that it is in, by its certificate.
    pub groups: &'a BTreeSet<String>,
    /// How the app is installed on it.
    pub install: &'a Install,
    /// How the app stands on it.
    pub record: &'a AppRecord,
    /// How far it is on its way to the keys of sealed releases.
    pub keys: &'a BTreeMap<Epoch, Access>,
    /// The releases that failed too often, by what is known here.
    pub halted: &'a BTreeMap<ReleaseId, Tally>,
    /// The trusted time: the later of its clock and the newest signed time seen.
    pub now: Wall,
}

/// The releases of an app on a channel, the newest first.
fn newest_first<'a>(verified: &'a Verified, app: &str, channel: &str) -> Vec<&'a Release> {
    let of_channel = |release: &&Release| release.app == app && release.channel == channel;
    let mut releases: Vec<&Release> = verified.releases().filter(of_channel).collect();
    releases.sort_by_key(|release| std::cmp::Reverse(release.seq));
    releases
}

/// The releases of a channel that some device may still take, the newest first, at most four: those that are held
/// back from some, down to the first that is for everyone.
#[must_use]
pub fn current<'a>(verified: &'a Verified, app: &str, channel: &str) -> Vec<&'a Release> {
    let mut current = Vec::new();
    for release in newest_first(verified, app, channel) {
        if release.rules.yanked.is_some() {
            continue;
        }
        current.push(release);
        if release.rules.is_for_everyone() || current.len() == MAX_CURRENT {
            break;
        }
    }
    current
}

/// Everything that keeps a device from a release; nothing if it takes it, provided that it takes no newer one and the
/// metadata is fresh.
#[must_use]
pub fn refusals(repository: RepositoryId, release: &Release, device: &Device<'_>) -> Vec<Refusal> {
    let mut why = Vec::new();
    let id = ReleaseId::of(repository, release);
    let active = device.record.active.as_ref();
    if !is_newer(repository, release, device) {
        why.push(Refusal::NotNewer);
    }
    if device.record.bad.contains(&id) {
        why.push(Refusal::Bad);
    }
    why.extend(device.record.held.then_some(Refusal::Held));
    why.extend(device.halted.get(&id).copied().map(Refusal::Halted));
    let pin = device.install.pin.as_ref();
    why.extend(pin.filter(|pin| **pin != release.version).map(|pin| Refusal::Pinned(pin.clone())));
    let active = active.map(|active| active.version.as_str());
    if let Some(active) = active.filter(|active| release.rules.is_too_far(active, &release.version)) {
        why.push(Refusal::TooFar { active: active.to_owned() });
    }
    let Device { node, attributes, groups, now, .. } = *device;
    let subject = Subject { device: node, attributes, groups, active, now };
    let against = release.rules.against(repository, &release.channel, release.seq, &subject);
    why.extend(against.into_iter().map(Refusal::Rule));
    if let Some(Lock { owner, .. }) = release.lock(repository) {
        let access = device.keys.get(&owner.epoch);
        if access != Some(&Access::Open) {
            why.push(Refusal::Sealed { access: access.cloned(), epoch: owner.epoch });
        }
    }
    why
}

/// Numbers only go up, whatever the metadata of the day lists. Another channel starts its own count.
fn is_newer(repository: RepositoryId, release: &Release, device: &Device<'_>) -> bool {
    let same_line = |other: &ReleaseId| other.repository == repository && other.channel == release.channel;
    let active = device.record.active.as_ref();
    active.is_none_or(|active| !same_line(&active.id) || active.id.seq < release.seq)
}

/// The releases of an app that a device would take if it could open them, the newest first, at most four.
#[must_use]
pub fn locked(verified: &Verified, app: &str, device: &Device<'_>) -> Vec<Lock> {
    let repository = verified.repository();
    let only_sealed = |release: &&Release| {
        release.enc.is_some() && matches!(refusals(repository, release, device)[..], [Refusal::Sealed { .. }])
    };
    let releases = newest_first(verified, app, &device.install.channel).into_iter().filter(only_sealed);
    releases.filter_map(|release| release.lock(repository)).take(MAX_CURRENT).collect()
}

/// Decides what a device takes of an app.
///
/// # Errors
/// [`Skip`] is no failure: it says why there is nothing to do.
pub fn decide(verified: &Verified, app: &str, device: &Device<'_>) -> Result<Offer, Skip> {
    let repository = verified.repository();
    let mut first = None;
    for release in newest_first(verified, app, &device.install.channel) {
        // What a device looks at most is the release that it has: no rule of it matters then.
        if !is_newer(repository, release, device) {
            return Err(first.unwrap_or(Skip::UpToDate));
        }
        let why = refusals(repository, release, device);
        if why.is_empty() {
            check_fresh(verified, device)?;
            let offered = Offered { repository, release: release.clone(), issued: verified.issued() };
            return Ok(Offer(offered.into()));
        }
        first.get_or_insert(Skip::Refused { version: release.version.clone(), seq: release.seq, why });
    }
    Err(first.unwrap_or(Skip::Nothing))
}

fn check_fresh(verified: &Verified, device: &Device<'_>) -> Result<(), Skip> {
    let grace = match device.install.freshness {
        Freshness::Strict => Duration::ZERO,
        Freshness::Tolerant { max_staleness } => max_staleness,
    };
    if device.now - grace > verified.expires() {
        return Err(Skip::Stale { expired_for: device.now.0.saturating_sub(verified.expires().0) });
    }
    Ok(())
}
