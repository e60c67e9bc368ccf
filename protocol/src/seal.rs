//! Sealing: releases that the devices of a fleet can read and nobody on the way (`protocol/README.md` section 12).
//!
//! ```text
//!   payload, manifest ─ release key ─▶ sealed bytes, named by their BLAKE3     a fresh key a release  (seal/stream.rs)
//!         release key ─ epoch key ───▶ in the signed release                   a key a fleet and epoch  (seal/epoch.rs)
//!           epoch key ─ device keys ─▶ a blob that the signed metadata names   HPKE, a device at a time  (seal/keys.rs)
//! ```
//!
//! Whatever is sealed belongs to one repository, fleet, epoch and release, and opens as nothing else. Randomness comes in
//! as values. Keys are wiped from memory when they are dropped, and print as nothing.

mod epoch;
mod handover;
mod keys;
mod stream;

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{RepositoryId, wire};
pub use epoch::{EpochKey, WrappedKey};
pub use handover::{hand_over, take_over};
pub use keys::{DeviceKey, KeysError, MAX_KEYS, MAX_MEMBERS, devices_in, find, share};
pub use stream::{Opening, SEGMENT, Sealing, TAG, bundle_name, plain_size, sealed_size};

/// The algorithms of this format, as a release names them.
pub const SUITE: &str = "xchacha20poly1305-stream64k";
/// Epochs of a fleet stay below this, so that every JSON reader holds them exactly.
pub const MAX_EPOCH: u64 = 1 << 53;

/// An epoch of a fleet: from one change of its key to the next.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Epoch {
    /// The repository whose fleet it is.
    pub repository: RepositoryId,
    /// The fleet: a label.
    pub fleet: String,
    /// Its number, from 1; only goes up.
    pub number: u64,
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {} of fleet {}", self.number, self.fleet)
    }
}

/// What is sealed belongs to exactly one release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// For whom it is sealed.
    pub epoch: Epoch,
    /// The app.
    pub app: String,
    /// The channel.
    pub channel: String,
    /// The release's number.
    pub seq: u64,
}

/// What of a release is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Part {
    /// The list of its files.
    Manifest,
    /// The whole tree, packed and compressed.
    Payload,
}

/// What a sealed release says of its sealing: `enc` in its signed fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// For which fleet.
    pub fleet: String,
    /// Under the key of which epoch.
    pub epoch: u64,
    /// The channel for which it was sealed: the release's own, unless it was promoted from another.
    pub channel: String,
    /// The number of the release for which it was sealed: its own, unless it was promoted or brought back.
    pub seq: u64,
    /// By which algorithms: [`SUITE`].
    pub suite: String,
    /// The release's key, which the epoch's key opens.
    pub key: WrappedKey,
}

/// What stands between a device and a sealed release: a key that the key of its owner's epoch opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// Whose it is.
    pub owner: Owner,
    /// The release's key.
    pub key: WrappedKey,
}

/// The key of one release, random and used for nothing else.
pub struct ReleaseKey {
    owner: Owner,
    bytes: Zeroizing<[u8; 32]>,
}

impl ReleaseKey {
    /// A key of fresh random bytes. Using them for two releases would give both away.
    #[must_use]
    pub fn new(owner: Owner, entropy: [u8; 32]) -> Self {
        Self { owner, bytes: Zeroizing::new(entropy) }
    }
}

impl fmt::Debug for ReleaseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReleaseKey")
    }
}

/// Sealed bytes that do not open: cut, altered, moved, of something else, or under another key. Which of these it was
/// can't be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sealed bytes do not open: they are not what was sealed for this release and fleet, or the key is another")]
pub struct NotSealed;

/// The bytes that bind what is sealed to its use and its owner. Their lengths are in them, so no two uses have the same.
fn bound_to(what: &str, owner: &impl Serialize) -> Vec<u8> {
    wire::encode(&(what, owner))
}
