//! The manifest: the canonical list of a bundle's files and links. Its BLAKE3 names the bundle, so a list has exactly
//! one encoding and a decoder takes no other (`protocol/README.md` section 2; the payload form is section 3).

mod code;
mod names;
mod order;

use crate::Hash;

pub use code::HEAD;
pub use names::{LinkProblem, PathProblem, check_path};

/// Files and links in one bundle at most.
pub const MAX_FILES: u64 = 100_000;
/// Bytes of all files of one bundle at most: 64 GiB.
pub const MAX_BYTES: u64 = 64 << 30;
/// Bytes of an encoded manifest at most: 64 MiB.
pub const MAX_MANIFEST: usize = 64 << 20;
/// Bytes of a path, and of a link's target, at most.
pub const MAX_PATH: usize = 1024;
/// Bytes of one component of a path at most.
pub const MAX_COMPONENT: usize = 255;
/// Components of a path at most.
pub const MAX_DEPTH: usize = 64;
/// The window of a payload's zstd frame is at most 2 to this power: 8 MiB. A decoder needs no more memory than that.
pub const MAX_WINDOW_LOG: u32 = 23;

/// One file or link of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is, relative to the bundle's top, with `/` between components; see [`check_path`].
    pub path: String,
    /// What it is.
    pub content: Content,
}

/// What a path of a bundle holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A regular file.
    File {
        /// Its size in bytes.
        size: u64,
        /// Its mode: 0755 if it is executable, else 0644.
        executable: bool,
        /// The BLAKE3 of its bytes.
        hash: Hash,
    },
    /// A symbolic link.
    Link {
        /// A path relative to the link's own directory that names a file or directory of the same bundle.
        target: String,
    },
}

/// A list of files that is no manifest, or bytes that encode none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// A path that some device could not hold, or that leaves the bundle.
    #[error("{path:?} {problem}")]
    Path {
        /// The path, cut to 200 characters.
        path: String,
        /// What is wrong with it.
        problem: PathProblem,
    },
    /// The same path twice.
    #[error("{0:?} is listed twice; keep one of them")]
    Duplicate(String),
    /// Two names that are one name on some file system.
    #[error("{first:?} and {second:?} are the same name on file systems that fold case or Unicode; rename one")]
    Collision {
        /// The one.
        first: String,
        /// The other.
        second: String,
    },
    /// A file or link where other paths need a directory.
    #[error("{0:?} is both a file (or link) and a directory; rename one")]
    FileAndDirectory(String),
    /// A link that a device must not make.
    #[error("the link {path:?} to {target:?} {problem}")]
    Link {
        /// Where the link is.
        path: String,
        /// Where it points, cut to 200 characters.
        target: String,
        /// What is wrong with it.
        problem: LinkProblem,
    },
    /// A bundle without files.
    #[error("the bundle is empty; give a directory with at least one file")]
    Empty,
    /// More than a bundle may have.
    #[error("{what}: {value} is over the limit of {limit}; split the bundle")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How much there is, or the first count that is too much.
        value: u64,
        /// How much there may be.
        limit: u64,
    },
    /// The release says otherwise.
    #[error("the release declares {declared} for {what}, its manifest has {found}; the bundle is refused")]
    Declared {
        /// Of what.
        what: &'static str,
        /// By the release.
        declared: u64,
        /// In the manifest.
        found: u64,
    },
    /// Bytes that are not the canonical encoding of any manifest.
    #[error("not a manifest: {what} at byte {at}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
        /// Where.
        at: usize,
    },
}

/// A bundle's files and links, in strict byte order of their paths, every rule of section 2 checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    entries: Vec<Entry>,
    bytes: u64,
}

impl Manifest {
    /// Sorts and checks the entries of a bundle.
    ///
    /// # Errors
    /// [`ManifestError`] for the first rule that does not hold; it names the path and what to do.
    pub fn new(mut entries: Vec<Entry>) -> Result<Self, ManifestError> {
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        let bytes = order::check(&entries)?;
        at_most("the manifest's size in bytes", code::len(&entries), MAX_MANIFEST as u64)?;
        Ok(Self { entries, bytes })
    }

    /// The canonical bytes, at most [`MAX_MANIFEST`].
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        code::encode(&self.entries)
    }

    /// Reads canonical bytes from outside.
    ///
    /// # Errors
    /// [`ManifestError`] if they are not the one encoding of a manifest.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        at_most("the manifest's size in bytes", bytes.len() as u64, MAX_MANIFEST as u64)?;
        let entries = code::decode(bytes)?;
        let bytes = order::check(&entries)?;
        Ok(Self { entries, bytes })
    }

    /// Checks the first [`HEAD`] bytes of the manifest of a release, which declares exactly how many files it has: so one
    /// of many more entries is refused before they are read.
    ///
    /// # Errors
    /// [`ManifestError`] if a manifest does not begin so, or the number differs.
    pub fn check_head(head: &[u8; HEAD], files: u64) -> Result<(), ManifestError> {
        declared("the number of files", files, code::count(head)?.into())
    }

    /// Reads the manifest of a release, which declares exactly how many files and bytes it has.
    ///
    /// # Errors
    /// As [`Manifest::decode`], and [`ManifestError::Declared`] if a number differs.
    pub fn decode_within(bytes: &[u8], files: u64, unpacked: u64) -> Result<Self, ManifestError> {
        let manifest = Self::decode(bytes)?;
        declared("the number of files", files, manifest.files())?;
        declared("the unpacked size", unpacked, manifest.bytes())?;
        Ok(manifest)
    }

    /// The bundle's name: the BLAKE3 of the canonical bytes.
    #[must_use]
    pub fn bundle(&self) -> Hash {
        Hash::of(&self.encode())
    }

    /// How many files and links, at most [`MAX_FILES`].
    #[must_use]
    pub fn files(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Bytes of all files together, at most [`MAX_BYTES`].
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The files and links, in strict byte order of their paths.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

fn declared(what: &'static str, declared: u64, found: u64) -> Result<(), ManifestError> {
    if declared == found { Ok(()) } else { Err(ManifestError::Declared { what, declared, found }) }
}

fn at_most(what: &'static str, value: u64, limit: u64) -> Result<(), ManifestError> {
    if value > limit { Err(ManifestError::TooMuch { what, value, limit }) } else { Ok(()) }
}
