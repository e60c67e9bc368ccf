//! A payload from a web server: put together in a file of its own, which a kill or a broken line leaves for the next try,
//! and worth nothing before its hash is right. Each server has a file of its own, so that none can spoil another's.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use burr_protocol::{Hash, fetch::MIN_PIECE};
use tokio::runtime::Handle;

use super::{ended, held};
use crate::{
    error::{Error, Kind},
    http::client::Client,
    pace::Pace,
};

/// Bytes that are asked for at once at most: what is asked for is taken from the budget before.
const MAX_ASKED: u64 = 4 << 20;

/// Where a payload is put together.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) directory: PathBuf,
    pub(super) blob: Hash,
    pub(super) size: u64,
}

/// The file of a payload from one address.
fn path_of(directory: &Path, blob: Hash, url: &str) -> PathBuf {
    directory.join(format!("{blob}.{}.part", Hash::of(url.as_bytes()).short()))
}

/// Whether a file is part of this payload.
fn is_of(path: &Path, blob: Hash) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(&blob.to_string()))
}

/// Makes the directory if need be, and removes parts of what is not wanted any more.
pub(super) fn keep_only(directory: &Path, wanted: &BTreeSet<Hash>) -> Result<(), Error> {
    let storage = |error| Error::file("use", directory, error);
    fs::create_dir_all(directory).map_err(storage)?;
    for entry in fs::read_dir(directory).map_err(storage)? {
        let path = entry.map_err(storage)?.path();
        if !wanted.iter().any(|blob| is_of(&path, *blob)) {
            fs::remove_file(&path).map_err(|error| Error::file("remove", &path, error))?;
        }
    }
    Ok(())
}

impl Part {
    /// Gets what is missing; the file, once it is whole and right, or none, if the server has no such file. It is asked for
    /// piece by piece, as `allowance` lets it.
    ///
    /// # Errors
    /// [`Kind::Network`] if the server failed or lied, [`Kind::Storage`] or [`Kind::NoSpace`] for the disk, and those of
    /// the allowance.
    pub(super) fn get(&self, client: &Client, url: &str, mut allowance: Allowance) -> Result<Option<PathBuf>, Error> {
        let path = path_of(&self.directory, self.blob, url);
        let storage = |error: io::Error| Error::file("write", &path, error);
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(storage)?;
        let mut hasher = blake3::Hasher::new();
        let mut held = hash_held(&mut file, &mut hasher).map_err(storage)?;
        let mut first = true;
        while held < self.size || self.size == 0 && first {
            first = false;
            let asked = held..self.size.min(held + allowance.some(self.size.saturating_sub(held))?);
            let found = client.get_range(url, asked.clone(), self.size, &mut |place, bytes| {
                if place == 0 && held > 0 {
                    // A server that knows no ranges begins anew.
                    file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).map_err(storage)?;
                    hasher.reset();
                    held = 0;
                }
                allowance.came(bytes.len() as u64)?;
                hasher.update(bytes);
                held += bytes.len() as u64;
                file.write_all(bytes).map_err(storage)
            });
            match found {
                Err(error) => {
                    // A server that goes on when all is here names something else by this name.
                    if held >= self.size {
                        remove(&path)?;
                    }
                    return Err(error);
                }
                Ok(false) => return Ok(None),
                Ok(true) if held < asked.end => {
                    let words = format!("{url} ended after {held} of {} bytes; the rest is asked for later", self.size);
                    return Err(Error::new(Kind::Network, words));
                }
                Ok(true) => {}
            }
        }
        if Hash(*hasher.finalize().as_bytes()) != self.blob || held != self.size {
            remove(&path)?;
            return Err(Error::new(Kind::Network, format!("{url} is not what its name says; it was thrown away")));
        }
        file.sync_all().map_err(storage)?;
        Ok(Some(path))
    }
}

/// What a transfer may take of the node's budget, asked for by a thread that may wait.
#[derive(Debug)]
pub(super) struct Allowance {
    pace: Pace,
    node: Handle,
    /// Set when nobody waits for the payload any more.
    stopped: Arc<AtomicBool>,
    /// Taken from the budget, and not come yet.
    left: u64,
}

impl Allowance {
    pub(super) fn new(pace: Pace, node: Handle, stopped: Arc<AtomicBool>) -> Self {
        Self { pace, node, stopped, left: 0 }
    }

    /// Bytes that may be asked for now, of so many that are missing.
    fn some(&mut self, missing: u64) -> Result<u64, Error> {
        if self.left == 0 {
            self.take(missing.min(MIN_PIECE), missing.min(MAX_ASKED))?;
        }
        Ok(self.left)
    }

    /// Bytes came. More than was asked for is taken now: a server that knows no ranges sends all.
    fn came(&mut self, bytes: u64) -> Result<(), Error> {
        let over = bytes.saturating_sub(self.left);
        self.take(over, over)?;
        self.left -= bytes;
        Ok(())
    }

    fn take(&mut self, least: u64, most: u64) -> Result<(), Error> {
        if self.stopped.load(Ordering::Relaxed) {
            return Err(ended());
        }
        if most > 0 {
            self.left += self.node.block_on(self.pace.take(least, most)).map_err(|hold| held(&hold))?;
        }
        Ok(())
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        if self.left > 0 {
            self.node.block_on(self.pace.give_back(self.left));
        }
    }
}

/// Bytes of disk that parts take: of each payload that is wanted one a server at most.
pub(super) fn taken(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| entry.metadata().ok()).map(|part| part.blocks() * 512).sum()
}

/// Removes what was put together of a payload that is not needed any more.
pub(super) fn discard(directory: &Path, blob: Hash) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| is_of(path, blob)) {
        // What is left is removed at the next start.
        let _ = fs::remove_file(path);
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    fs::remove_file(path).map_err(|error| Error::file("remove", path, error))
}

/// Hashes what is there and leaves the file at its end. How much that is.
fn hash_held(file: &mut File, hasher: &mut blake3::Hasher) -> io::Result<u64> {
    let mut buffer = vec![0; 64 << 10];
    let mut held = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(held),
            read => {
                hasher.update(&buffer[..read]);
                held += read as u64;
            }
        }
    }
}
