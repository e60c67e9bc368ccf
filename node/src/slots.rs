//! Slots: where a device keeps the bundles of its apps, and the one that counts.
//!
//! ```text
//! <data>/apps/<app>/slots/<bundle>/manifest
//!                                 /tree/...      the app's files
//!                  /current -> slots/<bundle>/tree
//!                  /staging-...                  leftovers of a crash, removed at the next start
//! ```
//!
//! A slot appears under its name by one rename, whole and synced; `current` changes by one rename. So a crash or a
//! power cut at any point leaves the old or the new, and a reader of `current` never sees anything between them.
//! Whoever opens the slots must be the only process at this data directory.

use std::{
    fs::{self, Permissions},
    io::{self, Read},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
};

use burr_protocol::{Hash, action::StageFailure, label, seal::ReleaseKey};

use crate::{
    bundle::{self, Fault, sync_dir},
    error::{Error, Kind, is_no_space},
};

const APPS: &str = "apps";
const SLOTS: &str = "slots";
const CURRENT: &str = "current";
const STAGING: &str = "staging-";

/// The slots of all apps below one data directory.
#[derive(Debug, Clone)]
pub struct Slots {
    apps: PathBuf,
}

impl Slots {
    /// Opens the slots below a data directory and removes what a crash left half done.
    ///
    /// # Errors
    /// [`Kind::Storage`] or [`Kind::NoSpace`] if the directory can't be
    /// read or written.
    pub fn open(data: &Path) -> Result<Self, Error> {
        let apps = data.join(APPS);
        fs::create_dir_all(&apps).map_err(|error| Error::file("create", &apps, error))?;
        for app in list(&apps).map_err(|error| Error::file("read", &apps, error))? {
            let app = apps.join(app);
            if !app.is_dir() {
                continue;
            }
            for name in list(&app).map_err(|error| Error::file("read", &app, error))? {
                if name.starts_with(STAGING) {
                    let at = app.join(name);
                    remove(&at).map_err(|error| Error::file("remove", &at, error))?;
                }
            }
        }
        Ok(Self { apps })
    }

    /// An app's directory, which need not exist.
    ///
    /// # Panics
    /// If `app` is no name of an app: it would be a path to anywhere.
    #[must_use]
    pub fn path(&self, app: &str) -> PathBuf {
        assert_eq!(label::check_name("app", app), Ok(()), "names of apps are checked where they come in");
        self.apps.join(app)
    }

    /// The files of a staged bundle.
    #[must_use]
    pub fn tree(&self, app: &str, bundle: Hash) -> PathBuf {
        self.slot(app, bundle).join(bundle::TREE)
    }

    fn slot(&self, app: &str, bundle: Hash) -> PathBuf {
        self.path(app).join(SLOTS).join(bundle.to_string())
    }

    /// Unpacks a payload into the bundle's own slot and verifies all of it; `files` and `bytes` are what the release
    /// declares, `sealed` is the key that opens it, with the size of the sealed payload. A slot that holds the bundle already is left as it is, one that was altered is replaced.
    ///
    /// # Errors
    /// [`StageFailure`]; then no slot was made or changed.
    pub fn stage(
        &self,
        app: &str,
        bundle: Hash,
        payload: impl Read,
        files: u64,
        bytes: u64,
        sealed: Option<(&ReleaseKey, u64)>,
    ) -> Result<(), StageFailure> {
        let slot = self.slot(app, bundle);
        let occupied = slot.exists();
        if occupied && bundle::holds(&slot, bundle, sealed.map(|(key, _)| key)) {
            return Ok(());
        }
        self.make_app(app).map_err(|error| failed(&slot, &error))?;
        let staging = self.staging(app);
        match sealed {
            None => bundle::unpack(payload, &staging, bundle, files, bytes)?,
            Some((key, size)) => bundle::unpack_sealed(payload, size, key, &staging, bundle, files, bytes)?,
        }
        let moved = if occupied { swap_in(&staging, &slot) } else { fs::rename(&staging, &slot) };
        let moved = moved.and_then(|()| sync_dir(&self.path(app).join(SLOTS))).and_then(|()| sync_dir(&self.path(app)));
        if occupied || moved.is_err() {
            // What can't be removed now is removed at the next start.
            let _ = remove(&staging);
        }
        moved.map_err(|error| failed(&slot, &error))
    }

    /// Makes a staged bundle the current one, or none, in one atomic step that survives a power cut. Its files are read
    /// whole before that: whatever happened to them since they were staged, what becomes current is the bundle.
    ///
    /// # Errors
    /// [`Kind::NotWhole`] if the bundle is no longer what was staged, [`Kind::Storage`] if it is not staged or the disk
    /// can't be used; then `current` is what it was.
    pub fn switch(&self, app: &str, bundle: Option<Hash>) -> Result<(), Error> {
        let directory = self.path(app);
        let current = directory.join(CURRENT);
        let switched = match bundle {
            Some(bundle) => {
                let tree = self.tree(app, bundle);
                fs::metadata(&tree).map_err(|error| Error::file("switch to", &tree, error))?;
                check_whole(&self.slot(app, bundle))?;
                let link = self.staging(app);
                let target = Path::new(SLOTS).join(bundle.to_string()).join(bundle::TREE);
                symlink(target, &link).and_then(|()| fs::rename(&link, &current))
            }
            None => match fs::remove_file(&current) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                removed => removed,
            },
        };
        switched.and_then(|()| sync_dir(&directory)).map_err(|error| Error::file("switch", &current, error))
    }

    /// The current bundle of an app, if there is one and its files are there.
    #[must_use]
    pub fn current(&self, app: &str) -> Option<Hash> {
        let bundle = self.named_current(app)?;
        self.tree(app, bundle).is_dir().then_some(bundle)
    }

    fn named_current(&self, app: &str) -> Option<Hash> {
        let target = fs::read_link(self.path(app).join(CURRENT)).ok()?;
        let slot = target.strip_prefix(SLOTS).ok()?.parent()?;
        slot.to_str()?.parse().ok()
    }

    /// The bundles that an app has slots of, in the order of their names.
    #[must_use]
    pub fn staged(&self, app: &str) -> Vec<Hash> {
        let names = list(&self.path(app).join(SLOTS)).unwrap_or_default();
        let mut staged: Vec<Hash> = names.iter().filter_map(|name| name.parse().ok()).collect();
        staged.sort_unstable();
        staged
    }

    /// Removes all slots of an app but these and the current one.
    ///
    /// # Errors
    /// [`Kind::Storage`] if one can't be removed; the others are gone then.
    pub fn clean(&self, app: &str, keep: &[Hash]) -> Result<(), Error> {
        let current = self.named_current(app);
        let mut result = Ok(());
        for bundle in self.staged(app).into_iter().filter(|bundle| !keep.contains(bundle) && current != Some(*bundle)) {
            // Out of the way first: a slot that is half removed must not be found under its name.
            let (slot, away) = (self.slot(app, bundle), self.staging(app));
            let removed = fs::rename(&slot, &away).and_then(|()| remove(&away));
            result = result.and(removed.map_err(|error| Error::file("remove", &slot, error)));
        }
        result
    }

    fn make_app(&self, app: &str) -> io::Result<()> {
        let slots = self.path(app).join(SLOTS);
        if slots.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(&slots)?;
        for directory in [&slots, &self.path(app)] {
            fs::set_permissions(directory, Permissions::from_mode(0o755))?;
        }
        sync_dir(&self.path(app))?;
        sync_dir(&self.apps)
    }

    fn staging(&self, app: &str) -> PathBuf {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        self.path(app).join(format!("{STAGING}{}-{number}", process::id()))
    }
}

fn check_whole(slot: &Path) -> Result<(), Error> {
    let verdict = bundle::verify(slot, &|_, _| ())?;
    let Some(first) = verdict.findings.first() else { return Ok(()) };
    let what = match first.fault {
        Fault::Missing => "is missing",
        Fault::Altered => "was altered",
        Fault::Extra => "was added",
    };
    let (count, path, at) = (verdict.findings.len(), &first.path, slot.display());
    let more = if count > 1 { format!(", and {} more", count - 1) } else { String::new() };
    Err(Error::new(Kind::NotWhole, format!("in {at}, {path} {what} since it was staged{more}")))
}

fn failed(slot: &Path, error: &io::Error) -> StageFailure {
    let words = format!("cannot create {}: {error}", slot.display());
    if is_no_space(error) { StageFailure::NoSpace(words) } else { StageFailure::Other(words) }
}

/// Puts a new slot in the place of one that may be the current one, without a moment in which there is none.
#[cfg(target_os = "linux")]
fn swap_in(new: &Path, old: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, new, CWD, old, RenameFlags::EXCHANGE)?)
}

#[cfg(not(target_os = "linux"))]
fn swap_in(new: &Path, old: &Path) -> io::Result<()> {
    let away = new.with_extension("old");
    fs::rename(old, &away)?;
    fs::rename(new, old)?;
    remove(&away)
}

/// The names in a directory; those that are not UTF-8 are none of ours.
fn list(directory: &Path) -> io::Result<Vec<String>> {
    let names = fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
    names.filter_map(Result::transpose).collect()
}

fn remove(at: &Path) -> io::Result<()> {
    if fs::symlink_metadata(at)?.is_dir() { fs::remove_dir_all(at) } else { fs::remove_file(at) }
}
