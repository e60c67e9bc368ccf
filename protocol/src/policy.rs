//! For me? Now? The decision whether this device takes a release, with the reason in words.

use std::{fmt, time::Duration};

use crate::{
    RepositoryId, Wall,
    config::Freshness,
    record::{AppRecord, ReleaseId},
    release::Release,
    trust::Verified,
};

/// A release that this device decided to take. Made by [`decide`] alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    repository: RepositoryId,
    release: Release,
    issued: Wall,
}

impl Offer {
    /// Whose release.
    #[must_use]
    pub fn repository(&self) -> RepositoryId {
        self.repository
    }

    /// What is taken.
    #[must_use]
    pub fn release(&self) -> &Release {
        &self.release
    }

    /// The issue time of the metadata that says so.
    #[must_use]
    pub fn issued(&self) -> Wall {
        self.issued
    }
}

/// Why a device does not take anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Skip {
    /// The channel has no release.
    Nothing,
    /// The newest release is active.
    UpToDate,
    /// The newest release failed here before.
    Bad {
        /// Its release number.
        seq: u64,
    },
    /// The metadata is past its expiry, further than the policy permits.
    Stale {
        /// Seconds past the earliest expiry.
        expired_for: i64,
    },
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => write!(f, "the channel has no release"),
            Self::UpToDate => write!(f, "the newest release is active"),
            Self::Bad { seq } => write!(f, "release {seq} failed here; waiting for a newer one"),
            Self::Stale { expired_for } => {
                write!(f, "the signed metadata expired {} hours ago; waiting for fresh metadata", expired_for / 3600)
            }
        }
    }
}

/// The newest release of an app on a channel.
#[must_use]
pub fn newest<'a>(verified: &'a Verified, app: &str, channel: &str) -> Option<&'a Release> {
    verified.releases().filter(|release| release.app == app && release.channel == channel).max_by_key(|r| r.seq)
}

/// Decides what a device with this record takes of an app. `now` is the trusted time: the later of the device's
/// clock and the newest signed time seen.
///
/// # Errors
/// [`Skip`] is no failure: it says why there is nothing to do.
pub fn decide(
    verified: &Verified,
    app: &str,
    channel: &str,
    record: &AppRecord,
    freshness: Freshness,
    now: Wall,
) -> Result<Offer, Skip> {
    let repository = verified.repository();
    let Some(release) = newest(verified, app, channel) else { return Err(Skip::Nothing) };
    let id = ReleaseId::of(repository, release);
    // Versions only go up, whatever the metadata of the day lists. Another channel starts its own count.
    let same_line = |other: &ReleaseId| other.repository == repository && other.channel == channel;
    if record.active.as_ref().is_some_and(|active| same_line(&active.id) && active.id.seq >= release.seq) {
        return Err(Skip::UpToDate);
    }
    if record.bad.contains(&id) {
        return Err(Skip::Bad { seq: release.seq });
    }
    let grace = match freshness {
        Freshness::Strict => Duration::ZERO,
        Freshness::Tolerant { max_staleness } => max_staleness,
    };
    if now - grace > verified.expires() {
        return Err(Skip::Stale { expired_for: now.0.saturating_sub(verified.expires().0) });
    }
    Ok(Offer { repository, release: release.clone(), issued: verified.issued() })
}
