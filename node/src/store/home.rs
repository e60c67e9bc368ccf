//! The data directory: one process at a time, and never a format that this program does not know.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::fs::{FlockOperation, flock};

use crate::{
    bundle::sync_dir,
    error::{Error, Kind},
};

/// The layout of the data directory that this program reads and writes.
const FORMAT: u32 = 1;

/// A locked data directory. Other processes are kept out until this is dropped.
#[derive(Debug)]
pub struct Home {
    path: PathBuf,
    lock: File,
}

impl Drop for Home {
    fn drop(&mut self) {
        // Said aloud: a child process that is just being started holds a copy of the file for a moment.
        let _ = flock(&self.lock, FlockOperation::Unlock);
    }
}

impl Home {
    /// Makes the directory if need be, and locks it.
    ///
    /// # Errors
    /// [`Kind::Busy`] if another process has it, [`Kind::NewerFormat`] if a newer program wrote it,
    /// [`Kind::Storage`] if it can't be made or written.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let storage = |source| Error::file("use the data directory", path, source);
        fs::create_dir_all(path).map_err(storage)?;
        let lock =
            OpenOptions::new().create(true).truncate(false).write(true).open(path.join("lock")).map_err(storage)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            Error::new(Kind::Busy, format!("the data directory {} is in use by another process", path.display()))
                .with_hint("stop that `burr run`, or give another directory with --data")
        })?;
        check_format(path)?;
        let format = path.join("format");
        if !format.exists() {
            write_atomically(&format, format!("{FORMAT}\n").as_bytes()).map_err(storage)?;
        }
        Ok(Self { path: path.to_owned(), lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Refuses a data directory of a newer format; one without any is new.
///
/// # Errors
/// [`Kind::NewerFormat`], or [`Kind::Storage`] if the mark can't be read.
pub fn check_format(path: &Path) -> Result<(), Error> {
    let text = match fs::read_to_string(path.join("format")) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(Error::file("read", &path.join("format"), error));
        }
    };
    match text.trim().parse::<u32>() {
        Ok(found) if found <= FORMAT => Ok(()),
        _ => {
            let words = format!(
                "the data directory {} has format {:?}, this program knows {FORMAT}",
                path.display(),
                text.trim()
            );
            Err(Error::new(Kind::NewerFormat, words)
                .with_hint("a newer burr wrote it: update this one; nothing was changed"))
        }
    }
}

/// Writes a file so that a crash leaves the old content or the new, never a part: temporary file, fsync, rename,
/// fsync of the directory.
///
/// # Errors
/// Any of the system's; the old content stays.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    sync_dir(directory)
}

/// Moves what is damaged out of the way, under a name that says so, which is returned. The one that was set aside last is
/// kept, for whoever wants to look at it; earlier ones go, or a failing disk would fill up with them.
pub(super) fn set_aside(path: &Path) -> std::io::Result<PathBuf> {
    let name = path.file_name().and_then(|name| name.to_str()).expect("one of the store's own names");
    let directory = path.parent().expect("it lies in the data directory");
    let marked = format!("{name}.damaged-");
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if !entry.file_name().to_str().is_some_and(|name| name.starts_with(&marked)) {
            continue;
        }
        let earlier = entry.path();
        let removed = if earlier.is_dir() { fs::remove_dir_all(&earlier) } else { fs::remove_file(&earlier) };
        if let Err(error) = removed {
            tracing::warn!(path = %earlier.display(), "can't remove what was set aside before: {error}");
        }
    }
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    let mut aside = directory.join(format!("{marked}{seconds}"));
    let mut count = 1;
    while aside.exists() {
        aside = directory.join(format!("{marked}{seconds}-{count}"));
        count += 1;
    }
    fs::rename(path, &aside)?;
    Ok(aside)
}

/// Whether the disk lets this process write in a directory, and read and write the files there: then what can't be opened
/// is damaged, else the disk is full, read-only or failing, and nothing is to be set aside for that.
pub(super) fn check_disk(directory: &Path) -> std::io::Result<()> {
    tempfile::NamedTempFile::new_in(directory)?.write_all(&vec![0; 64 << 10])?;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_file() {
            OpenOptions::new().read(true).write(true).open(path)?;
        }
    }
    Ok(())
}
