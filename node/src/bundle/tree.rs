//! Walking a directory: which files and links it has, and nothing else is in it.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use burr_protocol::manifest::{MAX_DEPTH, MAX_FILES};

use crate::error::{Error, Kind};

/// A file or link found in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Relative to the top, with `/` between components.
    pub path: String,
    pub at: PathBuf,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    File(Stamp),
    Link {
        target: String,
    },
    /// A directory without anything in it, which a manifest does not list.
    EmptyDirectory,
}

/// What tells that a file is still the same without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    pub size: u64,
    pub executable: bool,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    inode: u64,
}

impl Stamp {
    pub(super) fn of(metadata: &fs::Metadata) -> Self {
        Self {
            size: metadata.len(),
            executable: metadata.mode() & 0o100 != 0,
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            inode: metadata.ino(),
        }
    }
}

/// One file as all that there is, under the name that it is given by: it may be a link to the newest image.
pub(super) fn single(at: &Path) -> Result<Vec<Found>, Error> {
    let file = fs::canonicalize(at).map_err(|error| unreadable(at, error))?;
    let metadata = fs::metadata(&file).map_err(|error| unreadable(at, error))?;
    let name = at.file_name().and_then(|name| name.to_str());
    let path = name.ok_or_else(|| {
        Error::new(Kind::BadInput, format!("the name of {} is not UTF-8", at.display())).with_hint("rename it")
    })?;
    Ok(vec![Found { path: path.to_owned(), at: file, what: What::File(Stamp::of(&metadata)) }])
}

/// Lists all that is below a directory, in the order of paths. Links are not followed.
pub(super) fn walk(top: &Path) -> Result<Vec<Found>, Error> {
    let mut found = Vec::new();
    let mut open = vec![(top.to_owned(), String::new(), 0)];
    while let Some((directory, prefix, depth)) = open.pop() {
        if depth > MAX_DEPTH {
            let words = format!("{prefix:?} is more than {MAX_DEPTH} directories deep");
            return Err(Error::new(Kind::BadInput, words).with_hint("flatten it"));
        }
        let entries = fs::read_dir(&directory).map_err(|error| unreadable(&directory, error))?;
        let mut empty = true;
        for entry in entries {
            let entry = entry.map_err(|error| unreadable(&directory, error))?;
            empty = false;
            let at = entry.path();
            let name = entry.file_name().into_string().map_err(|_| {
                Error::new(Kind::BadInput, format!("the name of {} is not UTF-8", at.display())).with_hint("rename it")
            })?;
            let path = format!("{prefix}{name}");
            let metadata = entry.metadata().map_err(|error| unreadable(&at, error))?;
            if metadata.is_dir() {
                open.push((at, format!("{path}/"), depth + 1));
                continue;
            }
            let what = inspect(&at, &metadata)?;
            found.push(Found { path, at, what });
            check_count(found.len() + open.len())?;
        }
        if empty && depth > 0 {
            let path = prefix.trim_end_matches('/').to_owned();
            found.push(Found { path, at: directory, what: What::EmptyDirectory });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn check_count(count: usize) -> Result<(), Error> {
    if count as u64 <= MAX_FILES {
        return Ok(());
    }
    let words = format!("there are more than {MAX_FILES} files");
    Err(Error::new(Kind::BadInput, words).with_hint("give the directory of the finished build, or split the bundle"))
}

fn inspect(at: &Path, metadata: &fs::Metadata) -> Result<What, Error> {
    let kind = metadata.file_type();
    if kind.is_file() {
        return Ok(What::File(Stamp::of(metadata)));
    }
    if kind.is_symlink() {
        let target = fs::read_link(at).map_err(|error| unreadable(at, error))?;
        let target = target.into_os_string().into_string().map_err(|_| {
            Error::new(Kind::BadInput, format!("what {} points to is not UTF-8", at.display())).with_hint("rename it")
        })?;
        return Ok(What::Link { target });
    }
    let what = match kind {
        kind if kind.is_fifo() => "a named pipe",
        kind if kind.is_socket() => "a socket",
        _ => "a device",
    };
    let words = format!("{} is {what}; a bundle has files and links only", at.display());
    Err(Error::new(Kind::BadInput, words).with_hint("remove it"))
}

pub(super) fn unreadable(at: &Path, error: io::Error) -> Error {
    // Gone between the listing and the look at it: somebody is at work there.
    if error.kind() == io::ErrorKind::NotFound {
        return changed(at);
    }
    Error::new(Kind::BadInput, format!("cannot read {}", at.display()))
        .with_hint("make it readable for this user, or remove it")
        .with_source(error)
}

pub(super) fn changed(at: &Path) -> Error {
    Error::new(Kind::Changed, format!("{} changed while it was being published", at.display()))
        .with_hint("publish again when the build is finished; nothing was published")
}
