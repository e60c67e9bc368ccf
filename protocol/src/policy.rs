//! For me? Now? The decision whether this device takes a release, with the reason in words.

use std::fmt;

use crate::{
    Wall,
    config::Freshness,
    record::{AppRecord, Installed},
    release::Release,
    trust::Verified,
};

/// A release that this device decided to take. Made by [`decide`] alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    release: Release,
    issued: Wall,
}

impl Offer {
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

/// Decides what a device with this record takes from a channel. `now` is the trusted time: the later of the device's
/// clock and the newest signed time seen.
///
/// # Errors
/// [`Skip`] is no failure: it says why there is nothing to do.
pub fn decide(
    verified: &Verified,
    channel: &str,
    record: &AppRecord,
    freshness: Freshness,
    now: Wall,
) -> Result<Offer, Skip> {
    let newest = verified.releases().filter(|release| release.channel == channel).max_by_key(|release| release.seq);
    let Some(release) = newest else { return Err(Skip::Nothing) };
    // Versions only go up, whatever the metadata of the day lists. A change of channel starts its own count.
    let same_channel = |installed: &&Installed| installed.channel == channel;
    if record.active.as_ref().filter(same_channel).is_some_and(|active| active.seq >= release.seq) {
        return Err(Skip::UpToDate);
    }
    if record.bad.contains(&release.seq) {
        return Err(Skip::Bad { seq: release.seq });
    }
    let grace = match freshness {
        Freshness::Strict => std::time::Duration::ZERO,
        Freshness::Tolerant { max_staleness } => max_staleness,
    };
    if now - grace > verified.expires() {
        return Err(Skip::Stale { expired_for: now.0.saturating_sub(verified.expires().0) });
    }
    Ok(Offer { release: release.clone(), issued: verified.issued() })
}
