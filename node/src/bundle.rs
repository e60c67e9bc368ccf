//! Bundles on this machine: a directory or a zip archive becomes a payload, a payload becomes a directory again.
//!
//! A payload (`protocol/README.md` section 3) is one zstd frame of: the manifest's length as a big-endian `u32`, the
//! manifest, and the contents of its files in its order; nothing follows. The manifest comes first, so an unpacker
//! knows each file's hash before the first of its bytes, and can stop at the first byte that is wrong.
//!
//! [`pack`] reads its source twice, to hash and to compress, and notices a source that changes meanwhile. [`unpack`]
//! believes nothing: what it leaves on disk is the bundle that was asked for, or nothing. Both write a *slot
//! directory* or a file that did not exist before, and remove it when they fail.

mod archive;
mod hash;
mod pack;
mod sealed;
mod spool;
mod tree;
mod unpack;
mod verify;

pub use pack::{Packed, pack, pack_file, pack_sealed};
pub(crate) use spool::{Spooled, spool_zip, zip_tree};
pub(crate) use unpack::sync_dir;
pub use unpack::{unpack, unpack_sealed};
pub(crate) use verify::holds;
pub use verify::{Fault, Finding, Verdict, verify};

/// The bundle's files in a slot directory.
pub const TREE: &str = "tree";
/// The bundle's encoded manifest in a slot directory.
pub const MANIFEST: &str = "manifest";
/// The manifest's hash in the slot directory of a sealed bundle, which is named by its sealed manifest.
pub const SEALED: &str = "sealed";

/// What is told of long work: bytes done, bytes to do. Called from several threads.
pub type Progress<'a> = dyn Fn(u64, u64) + Sync + 'a;
