//! A client of any TUF repository over HTTP: what `burr tuf` does. `burr_protocol::trust::client` decides; here are the
//! network and the directory that it decides about. Everything waits, so nothing here is for the node's runtime.

mod directory;

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use burr_protocol::{
    Wall,
    trust::client::{self, Client, ClientError, Step, Target, encode},
};

use crate::{
    error::{Error, Kind},
    http::client::Client as Http,
};
use directory::Directory;

/// Starts to trust a repository: puts a root, which a person vouches for, into a metadata directory. Its version.
///
/// # Errors
/// [`Kind::BadInput`] if the root is not signed as it says itself, or the directory has another one already;
/// [`Kind::Storage`] if the directory can't be written; [`Kind::Busy`] if another process is at it.
pub fn init(metadata: &Path, root: &[u8]) -> Result<u64, Error> {
    let version =
        client::check_root(root).map_err(|error| Error::new(Kind::BadInput, "no root to trust").with_source(error))?;
    let directory = Directory::open(metadata)?;
    match directory.read("root", client::MAX_ROOT)? {
        Some(held) if held != root => {
            let words = format!("{} has another root already", metadata.display());
            Err(Error::new(Kind::BadInput, words)
                .with_hint("`burr tuf refresh` follows it; or take an empty directory"))
        }
        Some(_) => Ok(version),
        None => directory.keep("root", root).map(|()| version),
    }
}

/// A repository whose metadata was refreshed, for as long as its directory is locked.
#[derive(Debug)]
pub struct Refreshed {
    client: Client,
    directory: Directory,
    http: Http,
    metadata_url: String,
}

/// A target that is in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downloaded {
    /// Where.
    pub path: PathBuf,
    /// Its size in bytes.
    pub length: u64,
    /// Whether it was there before and nothing had to be asked for.
    pub was_there: bool,
}

/// Brings a metadata directory up to what the repository serves, as of now.
///
/// # Errors
/// [`Kind::NotWhole`] if the repository serves what must not be trusted, or nothing that is fresh; [`Kind::Network`] if
/// it can't be reached or is too slow; [`Kind::BadInput`] without a root; [`Kind::Storage`], [`Kind::Busy`].
pub fn refresh(metadata: &Path, metadata_url: &str) -> Result<Refreshed, Error> {
    let directory = Directory::open(metadata)?;
    let mut refreshed =
        Refreshed { client: Client::new(now()), directory, http: Http::new(), metadata_url: metadata_url.to_owned() };
    refreshed.run()?;
    Ok(refreshed)
}

impl Refreshed {
    /// The version that is trusted of a role, if it was needed.
    #[must_use]
    pub fn version(&self, role: &str) -> Option<u64> {
        self.client.version(role)
    }

    /// Finds a target by its path and puts it into `directory`, under its path as one encoded file name. One that is
    /// there already is checked and not asked for again.
    ///
    /// # Errors
    /// As [`refresh`]; [`Kind::NotWhole`] too if no role names the target, or its bytes are not the signed ones. After an
    /// error of the search, only a new refresh goes on.
    pub fn download(&mut self, path: &str, target_base_url: &str, directory: &Path) -> Result<Downloaded, Error> {
        self.client.find(path).map_err(refused)?;
        self.run()?;
        let Some(target) = self.client.found() else {
            return Err(Error::new(Kind::NotWhole, format!("the repository has no target {path:?}")));
        };
        let place = directory.join(file_name(path));
        let was_there = is_there(&place, target);
        if !was_there {
            fs::create_dir_all(directory).map_err(|error| Error::file("make", directory, error))?;
            self.fetch(target, target_base_url, directory, &place)?;
        }
        Ok(Downloaded { path: place, length: target.length(), was_there })
    }

    /// Does what the client says until it is done.
    fn run(&mut self) -> Result<(), Error> {
        loop {
            match self.client.step().map_err(refused)? {
                Step::Kept { role, limit } => {
                    let bytes = self.directory.read(&role, limit)?;
                    self.client.give(bytes).map_err(refused)?;
                }
                Step::Fetch { name, limit } => {
                    let mut bytes = Vec::new();
                    let found = self.http.get(&join(&self.metadata_url, &name), limit, &mut |part| {
                        bytes.extend_from_slice(part);
                        Ok(())
                    })?;
                    self.client.give(found.then_some(bytes)).map_err(refused)?;
                }
                Step::Keep { role, bytes } => self.directory.keep(&role, &bytes)?,
                Step::Forget { role } => self.directory.forget(&role)?,
                Step::Done => return Ok(()),
            }
        }
    }

    fn fetch(&self, target: &Target, base_url: &str, directory: &Path, place: &Path) -> Result<(), Error> {
        let storage = |error| Error::file("write", place, error);
        let name = target.name().split('/').map(encode).collect::<Vec<_>>().join("/");
        let mut file = tempfile::NamedTempFile::new_in(directory).map_err(storage)?;
        let mut check = target.check();
        let found = self.http.get(&join(base_url, &name), target.length(), &mut |part| {
            check.update(part).map_err(|error| refused(error.into()))?;
            file.write_all(part).map_err(storage)
        })?;
        if !found {
            return Err(refused(ClientError::Absent { name }));
        }
        check.finish().map_err(|error| refused(error.into()))?;
        file.as_file().sync_all().map_err(storage)?;
        file.persist(place).map_err(|error| storage(error.error))?;
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(storage)
    }
}

/// Whether a file is the target. One that can't be read is not.
fn is_there(place: &Path, target: &Target) -> bool {
    let compare = || -> io::Result<bool> {
        let mut file = File::open(place)?;
        let mut check = target.check();
        let mut buffer = vec![0; 64 << 10];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(check.finish().is_ok()),
                read if check.update(&buffer[..read]).is_err() => return Ok(false),
                _ => {}
            }
        }
    };
    compare().unwrap_or(false)
}

fn file_name(path: &str) -> String {
    match path {
        // The two names that encoding leaves alone and that are no files.
        "." | ".." => path.replace('.', "%2E"),
        _ => encode(path),
    }
}

fn join(base: &str, name: &str) -> String {
    format!("{}/{name}", base.trim_end_matches('/'))
}

fn now() -> Wall {
    let seconds = |duration: std::time::Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => Wall(seconds(after)),
        Err(before) => Wall(-seconds(before.duration())),
    }
}

fn refused(error: ClientError) -> Error {
    match error {
        ClientError::NoRoot => Error::new(Kind::BadInput, "the metadata directory has no root")
            .with_hint("begin with `burr tuf --metadata-dir DIR init ROOT.json`"),
        error => Error::new(Kind::NotWhole, "the repository is refused").with_source(error),
    }
}
