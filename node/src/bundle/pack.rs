//! Packing: a directory or a zip archive becomes a payload file.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use burr_protocol::{
    Hash,
    manifest::{Content, Entry, Manifest, ManifestError, check_path},
    release::MAX_PAYLOAD,
    seal::{self, ReleaseKey},
};
use sha2::{Digest as _, Sha256};

use super::{
    Progress, archive,
    hash::{self, CopyError},
    sealed::SealedWriter,
    tree::{self, Found, Stamp, What},
};
use crate::error::{Error, Kind};

/// zstd's own default: faster than most disks, and a second core is used by [`WORKERS`].
const LEVEL: i32 = 3;
/// Compressing threads beside the one that reads. More would not be fed.
const WORKERS: u32 = 2;

/// A bundle as a payload file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// What is in it.
    pub manifest: Manifest,
    /// The bundle's name: the hash of its manifest, which is sealed if the payload is.
    pub bundle: Hash,
    /// Where the payload is.
    pub path: PathBuf,
    /// The payload's name as a blob.
    pub blob: Hash,
    /// The payload's SHA-256, for standard TUF clients.
    pub sha256: [u8; 32],
    /// The payload's size in bytes.
    pub size: u64,
}

/// Where the bytes of one file of a bundle are.
pub(super) enum Origin {
    /// In a file of the source directory, as it was when it was hashed.
    File { at: PathBuf, stamp: Stamp },
    /// In the spool that the files of an archive were unpacked to, from this offset.
    Spool { offset: u64 },
}

/// A bundle's entries, hashed, and where their bytes are; `None` for links.
pub(super) type Listed = Vec<(Entry, Option<Origin>)>;

/// Packs the directory, zip archive (by its ending) or single file `source` into the payload file `out`, which must not exist.
///
/// The payload is on disk, synced, when this returns.
///
/// # Errors
/// [`Kind::BadInput`] for a source that is no bundle or can't be read, [`Kind::Changed`] if it changed meanwhile,
/// [`Kind::NoSpace`] and [`Kind::Storage`] for `out` and the disk it is on. Then there is no file `out`.
pub fn pack(source: &Path, out: &Path, progress: &Progress<'_>) -> Result<Packed, Error> {
    pack_with(source, out, None, progress)
}

/// As [`pack`], sealed by a key that has sealed nothing yet: the payload can be read, and the bundle's name made, with
/// this key alone.
///
/// # Errors
/// As [`pack`].
pub fn pack_sealed(source: &Path, out: &Path, key: &ReleaseKey, progress: &Progress<'_>) -> Result<Packed, Error> {
    pack_with(source, out, Some(key), progress)
}

fn pack_with(source: &Path, out: &Path, key: Option<&ReleaseKey>, progress: &Progress<'_>) -> Result<Packed, Error> {
    let metadata = fs::metadata(source).map_err(|error| {
        Error::new(Kind::BadInput, format!("cannot read {}", source.display()))
            .with_hint("give the finished build: a directory, a .zip archive or a single file")
            .with_source(error)
    })?;
    let is_archive = source.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("zip"));
    if metadata.is_dir() {
        let listed = hash_all(source, tree::walk(source)?, progress)?;
        let unchanged = |manifest: &Manifest| check_same_names(source, manifest);
        return pack_listed(source, listed, None, out, key, progress, unchanged);
    }
    if metadata.is_file() && is_archive {
        let beside = out.parent().unwrap_or(Path::new("."));
        let mut spool = tempfile::tempfile_in(beside).map_err(|error| Error::file("make a file in", beside, error))?;
        let listed = archive::unpack(source, &mut spool)?;
        return pack_listed(source, listed, Some(spool), out, key, progress, |_| Ok(()));
    }
    if metadata.is_file() {
        let listed = hash_all(source, tree::single(source)?, progress)?;
        return pack_listed(source, listed, None, out, key, progress, |_| Ok(()));
    }
    let words = format!("{} is neither a directory nor a file", source.display());
    Err(Error::new(Kind::BadInput, words))
}

/// Packs one file as all that there is, even if it is an archive.
///
/// # Errors
/// As [`pack`].
pub fn pack_file(source: &Path, out: &Path, progress: &Progress<'_>) -> Result<Packed, Error> {
    let listed = hash_all(source, tree::single(source)?, progress)?;
    pack_listed(source, listed, None, out, None, progress, |_| Ok(()))
}

/// Writes the payload of what was listed; it counts if the source is `unchanged` at the end.
fn pack_listed(
    source: &Path,
    mut listed: Listed,
    mut spool: Option<File>,
    out: &Path,
    key: Option<&ReleaseKey>,
    progress: &Progress<'_>,
    unchanged: impl FnOnce(&Manifest) -> Result<(), Error>,
) -> Result<Packed, Error> {
    // The manifest sorts its entries in the same way.
    listed.sort_by(|(a, _), (b, _)| a.path.cmp(&b.path));
    let (entries, origins): (Vec<Entry>, Vec<Option<Origin>>) = listed.into_iter().unzip();
    let manifest = Manifest::new(entries).map_err(|error| bad_bundle(source, error))?;
    let mut output = Output::create(out)?;
    match key {
        None => compress(&manifest, &origins, spool.as_mut(), &mut output, progress)?,
        Some(key) => {
            let mut sealed = SealedWriter::new(&mut output, key);
            compress(&manifest, &origins, spool.as_mut(), &mut sealed, progress)?;
            sealed.finish().map_err(unwritable)?;
        }
    }
    unchanged(&manifest)?;
    let bundle = key.map_or_else(|| manifest.bundle(), |key| seal::bundle_name(key, &manifest.encode()));
    output.finish(manifest, bundle)
}

pub(super) fn bad_bundle(source: &Path, error: ManifestError) -> Error {
    Error::new(Kind::BadInput, format!("{} can't be a bundle", source.display())).with_source(error)
}

fn hash_all(source: &Path, mut found: Vec<Found>, progress: &Progress<'_>) -> Result<Listed, Error> {
    found.retain(|found| found.what != What::EmptyDirectory);
    found.iter().try_for_each(|found| check_path(&found.path)).map_err(|error| bad_bundle(source, error))?;
    let total = 2 * found.iter().map(size).sum::<u64>();
    let done = AtomicU64::new(0);
    hash::on_all_cores(&found, |found, buffer| {
        let hashed = hash_one(found, buffer)?;
        progress(done.fetch_add(size(found), Ordering::Relaxed) + size(found), total);
        Ok(hashed)
    })
}

fn size(found: &Found) -> u64 {
    if let What::File(stamp) = &found.what { stamp.size } else { 0 }
}

fn hash_one(found: &Found, buffer: &mut Vec<u8>) -> Result<(Entry, Option<Origin>), Error> {
    let Found { path, at, what } = found;
    let stamp = match what {
        What::File(stamp) => stamp,
        What::Link { target } => {
            let content = Content::Link { target: target.clone() };
            return Ok((Entry { path: path.clone(), content }, None));
        }
        What::EmptyDirectory => unreachable!("empty directories were left out"),
    };
    let hash = read_same(at, stamp, &mut io::sink(), buffer, None)?;
    let content = Content::File { size: stamp.size, executable: stamp.executable, hash };
    Ok((Entry { path: path.clone(), content }, Some(Origin::File { at: at.clone(), stamp: stamp.clone() })))
}

/// Reads a file that must be as it was when it was stamped, before and after, and have the hash it had, if any.
fn read_same(
    at: &Path,
    stamp: &Stamp,
    to: &mut impl Write,
    buffer: &mut Vec<u8>,
    expected: Option<Hash>,
) -> Result<Hash, Error> {
    let mut file = hash::open(at).map_err(|error| tree::unreadable(at, error))?;
    let (size, hash) =
        hash::copy(&mut (&mut file).take(stamp.size), to, stamp.size, buffer).map_err(|error| match error {
            CopyError::Read(error) => tree::unreadable(at, error),
            CopyError::Write(error) => unwritable(error),
        })?;
    let now = Stamp::of(&file.metadata().map_err(|error| tree::unreadable(at, error))?);
    if now != *stamp || size != stamp.size || expected.is_some_and(|expected| expected != hash) {
        return Err(tree::changed(at));
    }
    Ok(hash)
}

fn unwritable(error: io::Error) -> Error {
    Error::file("write", Path::new("the payload"), error)
}

fn compress(
    manifest: &Manifest,
    origins: &[Option<Origin>],
    mut spool: Option<&mut File>,
    output: &mut impl Write,
    progress: &Progress<'_>,
) -> Result<(), Error> {
    let encoded = manifest.encode();
    let length = u32::try_from(encoded.len()).expect("a manifest is at most MAX_MANIFEST bytes");
    let mut frame = zstd::Encoder::new(output, LEVEL).map_err(unwritable)?;
    frame.multithread(WORKERS).map_err(unwritable)?;
    frame.set_pledged_src_size(Some(4 + encoded.len() as u64 + manifest.bytes())).map_err(unwritable)?;
    frame.write_all(&length.to_be_bytes()).and_then(|()| frame.write_all(&encoded)).map_err(unwritable)?;

    let mut done = manifest.bytes();
    let mut buffer = Vec::new();
    for (entry, origin) in manifest.entries().iter().zip(origins) {
        let (Content::File { size, hash, .. }, Some(origin)) = (&entry.content, origin) else { continue };
        match origin {
            Origin::File { at, stamp } => {
                read_same(at, stamp, &mut frame, &mut buffer, Some(*hash))?;
            }
            Origin::Spool { offset } => {
                let spool = spool.as_mut().expect("what an archive holds was unpacked to the spool");
                copy_spooled(spool, *offset, *size, &mut frame)?;
            }
        }
        done += size;
        progress(done, 2 * manifest.bytes());
    }
    frame.finish().map_err(unwritable)?;
    Ok(())
}

fn copy_spooled(spool: &mut File, offset: u64, size: u64, to: &mut impl Write) -> Result<(), Error> {
    spool.seek(SeekFrom::Start(offset)).map_err(unwritable)?;
    let copied = io::copy(&mut spool.take(size), to).map_err(unwritable)?;
    assert_eq!(copied, size, "the spool is a private file of ours");
    Ok(())
}

/// Files that came or went while the others were read belong to a build that was not finished.
fn check_same_names(source: &Path, manifest: &Manifest) -> Result<(), Error> {
    let now = tree::walk(source)?;
    let now = now.iter().filter(|found| found.what != What::EmptyDirectory).map(|found| found.path.as_str());
    if now.eq(manifest.entries().iter().map(|entry| entry.path.as_str())) { Ok(()) } else { Err(tree::changed(source)) }
}

/// The payload file: hashed on its way to disk, removed again unless it was finished.
struct Output {
    file: File,
    path: PathBuf,
    blake3: blake3::Hasher,
    sha256: Sha256,
    size: u64,
    finished: bool,
}

impl Output {
    fn create(path: &Path) -> Result<Self, Error> {
        let file = File::options().write(true).create_new(true).open(path);
        Ok(Self {
            file: file.map_err(|error| Error::file("create", path, error))?,
            path: path.to_owned(),
            blake3: blake3::Hasher::new(),
            sha256: Sha256::new(),
            size: 0,
            finished: false,
        })
    }

    fn finish(mut self, manifest: Manifest, bundle: Hash) -> Result<Packed, Error> {
        if self.size > MAX_PAYLOAD {
            let words = format!("the payload of {} bytes is over the limit of {MAX_PAYLOAD}", self.size);
            return Err(Error::new(Kind::BadInput, words).with_hint("split the bundle"));
        }
        self.file.sync_all().map_err(|error| Error::file("write", &self.path, error))?;
        self.finished = true;
        Ok(Packed {
            bundle,
            manifest,
            path: self.path.clone(),
            blob: Hash(*self.blake3.finalize().as_bytes()),
            sha256: self.sha256.clone().finalize().into(),
            size: self.size,
        })
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.blake3.update(&bytes[..written]);
        self.sha256.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.finished {
            // What can't be removed now is cleaned up as a leftover later.
            let _ = fs::remove_file(&self.path);
        }
    }
}
