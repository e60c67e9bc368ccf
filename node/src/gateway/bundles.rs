//! Bundles in the form that Capgo's plugin takes: a zip, and each of its files under its SHA-256.
//!
//! ```text
//! <data>/gateway/<bundle>/bundle.zip     as it was published, or made from the bundle's files
//!                        /files          the contents of its files, one after the other
//!                        /index.json     what is where, written last
//!               /part                    what is being made; removed at the next start
//! ```
//!
//! A directory appears by one rename, whole and synced. All of it can be made again from the payload.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, BufReader, Read, Seek as _, SeekFrom},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use burr_protocol::{Hash, release::Release};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    bundle::{self, Spooled, sync_dir},
    error::{Error, Kind},
    store::home::write_atomically,
};

const PART: &str = "part";
const ZIP: &str = "bundle.zip";
const FILES: &str = "files";
const INDEX: &str = "index.json";
/// Files of a bundle that a device may be told of one by one; of more, it gets the zip.
pub(super) const MAX_LISTED: usize = 10_000;
/// Bytes of what is written of a bundle besides its files: an entry for each, with room for names and headers.
const MAX_INDEX: u64 = 4 << 20;

/// A bundle that is ready to be sent.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Prepared {
    /// Bytes of the zip.
    pub(super) size: u64,
    /// The zip's SHA-256, in hex.
    pub(super) checksum: String,
    /// The BLAKE3 of all contents in a row.
    contents: Hash,
    /// The files in it; none if it can't be looked into, or has too many.
    pub(super) files: Vec<Listed>,
}

impl Prepared {
    /// The file with this content.
    pub(super) fn file(&self, sha256: &str) -> Option<&Listed> {
        self.files.iter().find(|file| file.sha256 == sha256)
    }
}

/// A file of a bundle.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listed {
    pub(super) path: String,
    /// Of its content, in hex.
    pub(super) sha256: String,
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// Bytes of disk that a release's bundle takes at most while it is made: its files unpacked, in a zip, and in a row.
pub(super) fn most(release: &Release) -> u64 {
    release.unpacked.saturating_mul(3).saturating_add(MAX_INDEX)
}

/// All bundles that are ready.
#[derive(Debug)]
pub(super) struct Bundles {
    directory: PathBuf,
    ready: RwLock<BTreeMap<Hash, Arc<Prepared>>>,
}

impl Bundles {
    /// Opens the directory and removes what a crash left half made.
    pub(super) fn open(data: &Path) -> Result<Self, Error> {
        let directory = data.join("gateway");
        let storage = |error| Error::file("use", &directory, error);
        fs::create_dir_all(&directory).map_err(storage)?;
        remove(&directory.join(PART)).map_err(storage)?;
        Ok(Self { ready: RwLock::default(), directory })
    }

    /// A bundle, if it is ready.
    pub(super) fn get(&self, bundle: Hash) -> Option<Arc<Prepared>> {
        self.ready.read().unwrap_or_else(PoisonError::into_inner).get(&bundle).cloned()
    }

    /// Bytes of disk that a bundle takes, if it was made.
    pub(super) fn taken(&self, bundle: Hash) -> Option<u64> {
        let at = self.directory.join(bundle.to_string());
        let of = |name| fs::metadata(at.join(name)).map(|file| file.blocks() * 512).ok();
        Some(of(ZIP)? + of(FILES)? + of(INDEX)?)
    }

    /// The zip of a bundle.
    pub(super) fn zip(&self, bundle: Hash) -> PathBuf {
        self.directory.join(bundle.to_string()).join(ZIP)
    }

    /// The contents of a bundle's files.
    pub(super) fn contents(&self, bundle: Hash) -> PathBuf {
        self.directory.join(bundle.to_string()).join(FILES)
    }

    /// Makes a release's bundle ready from its payload, unless it is. Takes its time, on a thread that may block.
    pub(super) fn prepare(&self, release: &Release, payload: impl Read) -> Result<(), Error> {
        if self.get(release.bundle).is_some() {
            return Ok(());
        }
        let at = self.directory.join(release.bundle.to_string());
        let prepared = match found(&at) {
            Some(prepared) => prepared,
            None => self.make(release, payload, &at)?,
        };
        self.ready.write().unwrap_or_else(PoisonError::into_inner).insert(release.bundle, Arc::new(prepared));
        Ok(())
    }

    /// Removes all bundles but these, and says whether there were any. Who is just reading one reads on.
    pub(super) fn retain(&self, keep: &BTreeSet<Hash>) -> Result<bool, Error> {
        let mut removed = false;
        self.ready.write().unwrap_or_else(PoisonError::into_inner).retain(|bundle, _| keep.contains(bundle));
        let storage = |error| Error::file("clean", &self.directory, error);
        for entry in fs::read_dir(&self.directory).map_err(storage)? {
            let entry = entry.map_err(storage)?;
            let bundle = entry.file_name().to_str().and_then(|name| name.parse::<Hash>().ok());
            if bundle.is_some_and(|bundle| !keep.contains(&bundle)) {
                remove(&entry.path()).map_err(storage)?;
                removed = true;
            }
        }
        Ok(removed)
    }

    fn make(&self, release: &Release, payload: impl Read, at: &Path) -> Result<Prepared, Error> {
        let part = self.directory.join(PART);
        let storage = |error| Error::file("write", &part, error);
        remove(&part).and_then(|()| fs::create_dir(&part)).map_err(storage)?;
        let slot = part.join("slot");
        bundle::unpack(payload, &slot, release.bundle, release.files, release.unpacked).map_err(|failure| {
            Error::new(Kind::Storage, format!("can't unpack {} {}", release.app, release.version))
                .with_source(format!("{failure:?}"))
        })?;
        let tree = slot.join(bundle::TREE);
        let (zip, contents) = (part.join(ZIP), part.join(FILES));
        let mut spool = File::options().read(true).write(true).create_new(true).open(&contents).map_err(storage)?;
        let spooled = match published_zip(&tree).map_err(storage)? {
            Some(published) => {
                fs::rename(published, &zip).map_err(storage)?;
                // One that is encrypted can't be looked into, and need not be: it is sent as it is.
                bundle::spool_zip(&zip, &mut spool).unwrap_or_default()
            }
            None => bundle::zip_tree(&tree, &slot, &zip, &mut spool)?,
        };
        let files = if spooled.len() > MAX_LISTED { Vec::new() } else { list(&mut spool, spooled).map_err(storage)? };
        if files.is_empty() {
            spool.set_len(0).map_err(storage)?;
        }
        let (size, checksum) = sha256_of(&zip).map_err(storage)?;
        let prepared = Prepared { size, checksum, contents: blake3_of(&contents).map_err(storage)?, files };
        let index = serde_json::to_vec(&prepared).expect("our own types are JSON");
        let finished = File::open(&zip)
            .and_then(|zip| zip.sync_all())
            .and_then(|()| spool.sync_all())
            .and_then(|()| fs::remove_dir_all(&slot))
            .and_then(|()| write_atomically(&part.join(INDEX), &index))
            // What is there is not what its index says.
            .and_then(|()| remove(at))
            .and_then(|()| fs::rename(&part, at))
            .and_then(|()| sync_dir(&self.directory));
        finished.map_err(storage)?;
        Ok(prepared)
    }
}

/// What is in a directory from before, if it is all that its index says.
fn found(at: &Path) -> Option<Prepared> {
    let prepared: Prepared = serde_json::from_slice(&fs::read(at.join(INDEX)).ok()?).ok()?;
    let zip = sha256_of(&at.join(ZIP)).ok()?;
    let contents = blake3_of(&at.join(FILES)).ok()?;
    ((zip.0, &zip.1) == (prepared.size, &prepared.checksum) && contents == prepared.contents).then_some(prepared)
}

/// The one file of a bundle that was published as a zip, as it is.
fn published_zip(tree: &Path) -> io::Result<Option<PathBuf>> {
    let mut entries = fs::read_dir(tree)?;
    let (Some(first), None) = (entries.next().transpose()?, entries.next()) else { return Ok(None) };
    let is_zip = first.path().extension().is_some_and(|ending| ending.eq_ignore_ascii_case("zip"));
    Ok((is_zip && first.file_type()?.is_file()).then(|| first.path()))
}

/// Hashes each spooled file.
fn list(spool: &mut File, spooled: Vec<Spooled>) -> io::Result<Vec<Listed>> {
    let mut listed = Vec::with_capacity(spooled.len());
    for Spooled { path, offset, size } in spooled {
        spool.seek(SeekFrom::Start(offset))?;
        let mut hasher = Sha256::new();
        copy_into(&mut hasher, spool.take(size))?;
        listed.push(Listed { path, sha256: Hash(hasher.finalize().into()).to_string(), offset, size });
    }
    Ok(listed)
}

fn sha256_of(path: &Path) -> io::Result<(u64, String)> {
    let mut hasher = Sha256::new();
    let size = copy_into(&mut hasher, File::open(path)?)?;
    Ok((size, Hash(hasher.finalize().into()).to_string()))
}

fn blake3_of(path: &Path) -> io::Result<Hash> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(Hash(*hasher.finalize().as_bytes()))
}

fn copy_into(hasher: &mut Sha256, from: impl Read) -> io::Result<u64> {
    let mut from = BufReader::with_capacity(256 << 10, from);
    io::copy(&mut from, &mut Hashing(hasher))
}

struct Hashing<'a>(&'a mut Sha256);

impl io::Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
