//! Trust: from bytes of strangers to metadata that the publisher's keys signed.

use std::sync::Arc;

use crate::{Hash, RepositoryId, Wall, release::Release};

/// Metadata of one repository whose every signature, version, length and hash was checked. Made by [`verify`] alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    repository: RepositoryId,
    root_version: u64,
    timestamp_version: u64,
    pack: Arc<[u8]>,
    pack_hash: Hash,
    issued: Wall,
    expires: Wall,
    releases: Vec<Release>,
}

impl Verified {
    /// Which repository.
    #[must_use]
    pub fn repository(&self) -> RepositoryId {
        self.repository
    }

    /// The newest root's version.
    #[must_use]
    pub fn root_version(&self) -> u64 {
        self.root_version
    }

    /// The timestamp's version.
    #[must_use]
    pub fn timestamp_version(&self) -> u64 {
        self.timestamp_version
    }

    /// The trust pack that was verified, as it travels.
    #[must_use]
    pub fn pack(&self) -> &Arc<[u8]> {
        &self.pack
    }

    /// The pack's name.
    #[must_use]
    pub fn pack_hash(&self) -> Hash {
        self.pack_hash
    }

    /// When the timestamp was signed, by its own words (`x-issued`).
    #[must_use]
    pub fn issued(&self) -> Wall {
        self.issued
    }

    /// The earliest expiry of all documents.
    #[must_use]
    pub fn expires(&self) -> Wall {
        self.expires
    }

    /// The releases of every channel, in the order of channel and number.
    pub fn releases(&self) -> impl Iterator<Item = &Release> {
        self.releases.iter()
    }
}
