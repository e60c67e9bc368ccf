//! A publisher: an app's private keys and its signed repository on this machine.
//!
//! ```text
//! <data>/publish/<app>/keys/...                                      private, see `publisher/keys.rs`
//!                     /repository/metadata/...                       TUF metadata with consistent snapshots
//!                                /targets/app/<app>/<channel>/<sha256>.<seq>.burr
//!                     /audit.log                                     every act, see `burr_protocol::trust::audit`
//!                     /drafts/...                                    payloads of releases that are proposed
//!                     /fleets/...                                    invitations and members, see `publisher/fleet.rs`
//!                     /lock                                          held while somebody publishes
//! ```
//!
//! `repository/` is a static TUF repository: any web server can serve it, any TUF client can check it. A publish counts
//! from one moment on, an atomic renaming; until then the repository is wholly what it was, and what a crash left behind
//! is removed by the next publish (`publisher/repository.rs`).
//!
//! Here is the one-step way of who holds all keys; `publisher/ceremony.rs` has that of several people.

mod ceremony;
mod epochs;
mod export;
pub mod fleet;
pub mod halting;
mod keys;
mod releases;
mod repository;
mod source;

pub use keys::{create_key_file, read_key_file};
pub use source::Source;

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    process, thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use burr_protocol::{
    RepositoryId, Wall, label,
    release::{Capacitor, Payload, Release},
    rules::Rules,
    seal::Sealed,
    trust::{
        audit::{self, Act},
        write::{self, Role, WriteError},
    },
};

use crate::{
    bundle::{Packed, Progress, sync_dir},
    error::{Error, Kind},
};
use epochs::pack_for;
use keys::KeyRing;
use repository::{Files, NewTarget};

const PUBLISH: &str = "publish";
const KEYS: &str = "keys";
const LOCK: &str = "lock";
/// Names of what is not finished start like this; no app's name does.
const UNFINISHED: &str = ".unfinished-";

/// What is to be published.
#[derive(Debug, Clone)]
pub struct Publication<'a> {
    /// The finished build.
    pub source: Source<'a>,
    /// The channel.
    pub channel: &'a str,
    /// The version: newer than every one before it on the channel.
    pub version: &'a str,
    /// Which devices take it, and when.
    pub rules: Rules,
    /// The fleet whose devices alone can read it; `None` if anybody may.
    pub encrypt_to: Option<&'a str>,
}

impl<'a> Publication<'a> {
    /// A build for every device.
    #[must_use]
    pub fn new(source: impl Into<Source<'a>>, channel: &'a str, version: &'a str) -> Self {
        Self { source: source.into(), channel, version, rules: Rules::default(), encrypt_to: None }
    }
}

/// An app that is published from this machine.
#[derive(Debug)]
pub struct Publisher {
    app: String,
    home: PathBuf,
    repository: write::Repository,
}

impl Publisher {
    /// Makes the keys and the empty repository of an app; with a passphrase, the keys are sealed by it.
    ///
    /// # Errors
    /// [`Kind::BadInput`] if a name is not usable or the app is there already, [`Kind::Storage`] and
    /// [`Kind::NoSpace`] for the disk. Then nothing was made.
    pub fn init(data: &Path, app: &str, channels: &[&str], passphrase: Option<&str>) -> Result<RepositoryId, Error> {
        label::check_name("app", app).map_err(|error| refused(WriteError::Label(error)))?;
        let all = data.join(PUBLISH);
        fs::create_dir_all(&all).map_err(|error| Error::file("create", &all, error))?;
        let _lock = lock(&all)?;
        let home = all.join(app);
        if home.exists() {
            let words = format!("{app} is already set up in {}", home.display());
            let hint = "publish with it; to start over, with new keys that no device trusts, move it away first";
            return Err(Error::new(Kind::BadInput, words).with_hint(hint));
        }
        let unfinished = all.join(format!("{UNFINISHED}{app}"));
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).map_err(|error| Error::file("remove", &unfinished, error))?;
        }
        let made = Self::make(&unfinished, app, channels, passphrase).and_then(|id| {
            let moved = fs::rename(&unfinished, &home).and_then(|()| sync_dir(&all));
            moved.map(|()| id).map_err(|error| Error::file("create", &home, error))
        });
        if made.is_err() {
            // What can't be removed now is removed by the next attempt.
            let _ = fs::remove_dir_all(&unfinished);
        }
        made
    }

    fn make(home: &Path, app: &str, channels: &[&str], passphrase: Option<&str>) -> Result<RepositoryId, Error> {
        let keys = keys::generate(channels)?;
        let repository = write::Repository::create(app, channels, &keys, now()).map_err(refused)?;
        fs::create_dir(home).map_err(|error| Error::file("create", home, error))?;
        KeyRing::create(&home.join(KEYS), &keys, passphrase)?;
        let signers = repository.signers();
        let act = Act {
            kind: "init",
            what: channels.iter().map(|channel| format!("{app} with channel {channel}")).collect(),
            by: signers.get(&Role::Root).into_iter().flat_map(|root| root.keys.keys().cloned()).collect(),
        };
        let entry = audit::next(&repository, None, act, &keys.all(), now()).map_err(refused)?;
        Files::at(home).commit(&repository, None, Some(entry))?;
        sync_dir(home).map_err(|error| Error::file("write", home, error))?;
        Ok(repository.id())
    }

    /// Opens an app that was set up by [`Publisher::init`]; everything in its repository is verified.
    ///
    /// # Errors
    /// [`Kind::BadInput`] if there is no such app, [`Kind::Storage`] if its repository is damaged.
    pub fn open(data: &Path, app: &str) -> Result<Self, Error> {
        label::check_name("app", app).map_err(|error| refused(WriteError::Label(error)))?;
        let home = data.join(PUBLISH).join(app);
        if !home.is_dir() {
            let words = format!("{app} is not set up in {}", data.join(PUBLISH).display());
            let hint = format!("set it up first: burr init --app {app}");
            return Err(Error::new(Kind::BadInput, words).with_hint(hint));
        }
        let repository = Files::at(&home).open()?;
        Ok(Self { app: app.to_owned(), home, repository })
    }

    /// The apps that are set up below a data directory, in the order of their names.
    #[must_use]
    pub fn apps(data: &Path) -> Vec<String> {
        let entries = fs::read_dir(data.join(PUBLISH)).into_iter().flatten().flatten();
        let directories = entries.filter(|entry| entry.path().is_dir());
        let names = directories.filter_map(|entry| entry.file_name().into_string().ok());
        let mut apps: Vec<String> = names.filter(|name| label::check_name("app", name).is_ok()).collect();
        apps.sort_unstable();
        apps
    }

    /// Packs a build and publishes it as the newest version of a channel.
    ///
    /// # Errors
    /// [`Kind::BadInput`] for a source, channel or version that can't be used, [`Kind::Changed`] for a source that
    /// changed meanwhile, [`Kind::Key`] for a key that is missing or a wrong passphrase, [`Kind::Busy`] if somebody else
    /// publishes this app, [`Kind::NoSpace`] and [`Kind::Storage`] for the disk. Then nothing was published.
    pub fn publish(
        &mut self,
        publication: &Publication<'_>,
        passphrase: Option<&str>,
        progress: &Progress<'_>,
    ) -> Result<Release, Error> {
        let _lock = lock(&self.home)?;
        let files = self.files();
        let mut repository = files.open()?;
        // What can be refused is refused before the long work.
        self.check(&repository, publication)?;
        let ring = self.ring(passphrase)?;
        let keys = ring.all()?;
        for role in [Role::Channel(publication.channel.to_owned()), Role::Snapshot, Role::Timestamp] {
            self.need(&repository, &role, &keys)?;
        }
        let seal = self.seal_for(&repository, &ring, publication)?;
        files.remove_leftovers(&repository)?;
        self.remove_unfinished()?;

        let packing = self.home.join(format!("{UNFINISHED}{}", process::id()));
        let (packed, enc, capacitor) = pack_for(seal, publication.source, &packing, progress)?;
        let release = self.release_of(&repository, publication, &packed, enc, capacitor);
        let committed = repository.propose_release(&release, packed.sha256, now()).map_err(refused).and_then(|draft| {
            let target = NewTarget { at: packing.clone(), path: release.target_path(), sha256: packed.sha256 };
            self.commit(&mut repository, draft, Some(&target), &keys)
        });
        if committed.is_err() {
            // Gone if it was moved already; what can't be removed now is removed by the next publish.
            let _ = fs::remove_file(&packing);
        }
        committed?;
        self.repository = repository;
        Ok(release)
    }

    /// Signs anew what would expire, with the keys that are at hand.
    ///
    /// # Errors
    /// As [`Publisher::publish`]; then nothing was changed.
    pub fn refresh(&mut self, passphrase: Option<&str>) -> Result<(), Error> {
        let _lock = lock(&self.home)?;
        let keys = self.ring(passphrase)?.all()?;
        self.renew_with(&keys, now())
    }

    /// The app.
    #[must_use]
    pub fn app(&self) -> &str {
        &self.app
    }

    /// The repository's name, which devices pin.
    #[must_use]
    pub fn id(&self) -> RepositoryId {
        self.repository.id()
    }

    /// The trust pack, as a node takes it in.
    #[must_use]
    pub fn pack(&self) -> &[u8] {
        self.repository.pack()
    }

    /// The releases of every channel, in the order of channel and number.
    pub fn releases(&self) -> impl Iterator<Item = &Release> {
        self.repository.verified().releases()
    }

    /// Where the payload of a listed release is, if it is there.
    #[must_use]
    pub fn payload_path(&self, release: &Release) -> Option<PathBuf> {
        self.files().payload_path(release)
    }

    /// The release that a packed bundle would be.
    fn release_of(
        &self,
        repository: &write::Repository,
        publication: &Publication<'_>,
        packed: &Packed,
        enc: Option<Sealed>,
        capacitor: Option<Capacitor>,
    ) -> Release {
        Release {
            app: self.app.clone(),
            channel: publication.channel.to_owned(),
            seq: repository.next_seq(publication.channel),
            version: publication.version.to_owned(),
            bundle: packed.bundle,
            payload: Payload { blob: packed.blob, size: packed.size },
            files: packed.manifest.files(),
            unpacked: packed.manifest.bytes(),
            rules: publication.rules.clone(),
            enc,
            capacitor,
        }
    }

    fn files(&self) -> Files {
        Files::at(&self.home)
    }

    /// What can be refused before the long work.
    fn check(&self, repository: &write::Repository, publication: &Publication<'_>) -> Result<(), Error> {
        let Publication { channel, version, rules, .. } = publication;
        label::check_version(version).map_err(|error| refused(WriteError::Label(error)))?;
        rules.check().map_err(|error| refused(WriteError::Release(error.into())))?;
        if !repository.channels().any(|(app, named)| app == self.app && named == *channel) {
            let has: Vec<&str> = repository.channels().map(|(_, channel)| channel).collect();
            let words = format!("{} has no channel {channel:?}", self.app);
            return Err(Error::new(Kind::BadInput, words).with_hint(format!("it has {}", has.join(", "))));
        }
        repository.check_version(channel, version).map_err(refused)
    }

    fn remove_unfinished(&self) -> Result<(), Error> {
        let entries = fs::read_dir(&self.home).map_err(|error| Error::file("read", &self.home, error))?;
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                fs::remove_file(entry.path()).map_err(|error| Error::file("remove", &entry.path(), error))?;
            }
        }
        Ok(())
    }
}

/// Keeps others out of a directory until it is dropped; the end of the process drops it too.
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Said aloud: a child process that is just being started holds a copy of the file for a moment.
        let _ = self.0.unlock();
    }
}

/// How long another process is waited for: a node that signs by itself is done in a moment.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
const LOCK_LOOK: Duration = Duration::from_millis(50);

fn lock(directory: &Path) -> Result<Lock, Error> {
    let at = directory.join(LOCK);
    let file = File::options().create(true).truncate(false).write(true).open(&at);
    let file = file.map_err(|error| Error::file("open", &at, error))?;
    let until = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Lock(file)),
            Err(TryLockError::WouldBlock) if Instant::now() < until => thread::sleep(LOCK_LOOK),
            Err(TryLockError::WouldBlock) => {
                let words = format!("another process is publishing from {}", directory.display());
                return Err(Error::new(Kind::Busy, words).with_hint("wait until it is done, then try again"));
            }
            Err(TryLockError::Error(error)) => return Err(Error::file("lock", &at, error)),
        }
    }
}

/// A publisher's clock is as good as the machine's; devices don't rely on it alone.
pub(crate) fn now() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

fn refused(error: WriteError) -> Error {
    let kind = match error {
        WriteError::MissingKey { .. }
        | WriteError::WrongKey { .. }
        | WriteError::SharedKey { .. }
        | WriteError::Unsigned(_)
        | WriteError::NotASigner { .. } => Kind::Key,
        WriteError::MissingFile(_) | WriteError::Trust(_) => Kind::Storage,
        _ => Kind::BadInput,
    };
    if kind == Kind::Storage {
        return Error::new(kind, "the repository can't be extended").with_source(error);
    }
    Error::new(kind, "refused").with_source(error)
}
