//! The manifest.

/// Files and links in one bundle at most.
pub const MAX_FILES: u64 = 100_000;
/// Bytes of all files of one bundle at most: 64 GiB.
pub const MAX_BYTES: u64 = 64 << 30;
