//! A repository as static files for any web server: an upstream for nodes, and a TUF repository for everybody.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use burr_protocol::{Hash, trust::verify};

use super::Publisher;
use crate::{
    error::{Error, Kind},
    store::home::write_atomically,
};

/// What a directory has after an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Payloads and lists of keys that were not there before.
    pub added: usize,
    /// All of them that there are.
    pub blobs: usize,
    /// Releases whose payload is not on this machine any more, by version.
    pub missing: Vec<String>,
}

impl Publisher {
    /// Writes `blobs/` and `repositories/` below a directory, laid out as a gateway serves them. What is there already
    /// stays; the timestamp comes last, so that whoever reads meanwhile finds all that it leads to.
    ///
    /// # Errors
    /// [`Kind::Storage`] or [`Kind::NoSpace`] for the disk, [`Kind::NotWhole`] if the repository here is damaged.
    pub fn export(&self, to: &Path) -> Result<Exported, Error> {
        let damaged = |error| Error::new(Kind::NotWhole, "the repository here is damaged").with_source(error);
        let verified = verify(self.id(), None, self.pack()).map_err(damaged)?;
        let (blobs, repository) = (to.join("blobs"), to.join("repositories").join(self.id().to_string()));
        let metadata = repository.join("metadata");
        for directory in [&blobs, &metadata] {
            fs::create_dir_all(directory).map_err(|error| Error::file("make", directory, error))?;
        }
        let mut exported = Exported { added: 0, blobs: 0, missing: Vec::new() };
        let mut put = |blob: Hash, from: &Path| -> Result<PathBuf, Error> {
            let place = blobs.join(blob.to_string());
            exported.blobs += 1;
            exported.added += usize::from(copy(from, &place)?);
            Ok(place)
        };
        for (keys, from) in self.key_lists() {
            put(keys.blob, &from)?;
        }
        for (path, release) in verified.payload_paths() {
            match self.payload_path(release) {
                Some(from) => {
                    let (blob, target) = (put(release.payload.blob, &from)?, repository.join("targets").join(path));
                    let directory = target.parent().expect("a target lies in a directory");
                    fs::create_dir_all(directory).map_err(|error| Error::file("make", directory, error))?;
                    link(&blob, &target)?;
                }
                None => exported.missing.push(release.version.clone()),
            }
        }
        let (last, first): (Vec<_>, Vec<_>) =
            verified.files().into_iter().partition(|(name, _)| name == "timestamp.json");
        for (name, bytes) in first.into_iter().chain(last) {
            let path = metadata.join(name);
            write_atomically(&path, &bytes).map_err(|error| Error::file("write", &path, error))?;
        }
        Ok(exported)
    }
}

/// Puts a file there, unless one of its size is. Whether it had to.
fn copy(from: &Path, place: &Path) -> Result<bool, Error> {
    let size = |path: &Path| fs::metadata(path).map(|found| found.len());
    let wanted = size(from).map_err(|error| Error::file("read", from, error))?;
    if size(place).is_ok_and(|held| held == wanted) {
        return Ok(false);
    }
    let storage = |error: io::Error| Error::file("write", place, error);
    // A crash must not leave a part under this name.
    let part = place.with_extension("part");
    fs::copy(from, &part).map_err(storage)?;
    fs::rename(&part, place).map_err(storage)?;
    Ok(true)
}

/// A second name of a file, or where there are none, a copy.
fn link(file: &Path, name: &Path) -> Result<(), Error> {
    match fs::hard_link(file, name) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(_) => copy(file, name).map(drop),
    }
}
