//! Trust packs as plain files, one a repository: the root of truth that survives the loss of every index.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use burr_protocol::{RepositoryId, record::Record};

use super::home::write_atomically;
use crate::error::Error;

/// Bytes of a file that is read back at most: a pack of 4 MiB and not more.
const MAX_FILE: u64 = 4 << 20;

/// The directory of trust packs.
#[derive(Debug, Clone)]
pub struct Metadata(PathBuf);

impl Metadata {
    /// Makes the directory if need be.
    ///
    /// # Errors
    /// [`Kind::Storage`](crate::Kind::Storage).
    pub fn open(data: &Path) -> Result<Self, Error> {
        let path = data.join("metadata");
        fs::create_dir_all(&path).map_err(|error| Error::file("create", &path, error))?;
        Ok(Self(path))
    }

    /// Writes a repository's pack in the place of the one before.
    ///
    /// # Errors
    /// The system's; the one before stays.
    pub fn write(&self, repository: RepositoryId, pack: &[u8]) -> std::io::Result<()> {
        write_atomically(&self.0.join(format!("{repository}.pack")), pack)
    }

    /// Whether there is a pack of a repository.
    #[must_use]
    pub fn holds(&self, repository: RepositoryId) -> bool {
        self.0.join(format!("{repository}.pack")).exists()
    }

    /// All packs, as records that the agent verifies again. What is no pack by its name or size is passed over.
    ///
    /// # Errors
    /// [`Kind::Storage`](crate::Kind::Storage) if the directory can't be read.
    pub fn read_all(&self) -> Result<Vec<Record>, Error> {
        let storage = |error| Error::file("read", &self.0, error);
        let mut records = Vec::new();
        for entry in fs::read_dir(&self.0).map_err(storage)? {
            let path = entry.map_err(storage)?.path();
            let name = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
            let (Some(repository), Some("pack")) = (name, path.extension().and_then(|end| end.to_str())) else {
                continue;
            };
            match fs::metadata(&path) {
                Ok(found) if found.is_file() && found.len() <= MAX_FILE => {}
                _ => continue,
            }
            match fs::read(&path) {
                Ok(pack) => records.push(Record::Metadata { repository, pack }),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(storage(error)),
            }
        }
        Ok(records)
    }
}
