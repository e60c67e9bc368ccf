//! A metadata directory: one file for each trusted role, byte for byte as it was served, and one process at a time.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use burr_protocol::trust::client::encode;
use rustix::fs::{FlockOperation, flock};

use crate::{
    error::{Error, Kind},
    store::home::write_atomically,
};

#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    lock: File,
}

impl Directory {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let storage = |error| Error::file("use the metadata directory", path, error);
        fs::create_dir_all(path).map_err(storage)?;
        let lock = path.join(".lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(lock).map_err(storage)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            let words = format!("the metadata directory {} is in use by another process", path.display());
            Error::new(Kind::Busy, words).with_hint("wait until it is done")
        })?;
        Ok(Self { path: path.to_owned(), lock })
    }

    /// A role's document; nothing if there is none, or one that is longer than it may be.
    pub(super) fn read(&self, role: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let path = self.file(role);
        let read = || -> io::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            File::open(&path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        match read() {
            Ok(bytes) => Ok(Some(bytes).filter(|bytes| bytes.len() as u64 <= limit)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::file("read", &path, error)),
        }
    }

    pub(super) fn keep(&self, role: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.file(role);
        write_atomically(&path, bytes).map_err(|error| Error::file("write", &path, error))
    }

    pub(super) fn forget(&self, role: &str) -> Result<(), Error> {
        let path = self.file(role);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::file("remove", &path, error)),
            _ => Ok(()),
        }
    }

    /// The role's name comes out of a document, so it is encoded: it can't leave the directory.
    fn file(&self, role: &str) -> PathBuf {
        self.path.join(format!("{}.json", encode(role)))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Closing is not enough while a child that another thread just started holds a copy of the descriptor.
        let _ = flock(&self.lock, FlockOperation::Unlock);
    }
}
