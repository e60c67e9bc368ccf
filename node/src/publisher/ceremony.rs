//! The ceremony of several people: drafts that are signed elsewhere, changes of keys and channels, keys that are handed
//! over to a machine that is always on, and the log of all that.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    process,
};

use burr_protocol::{
    Hash, Wall,
    release::{Payload, Release},
    trust::{
        audit::{self, Act, Entry},
        pack::MAX_PACK,
        write::{Change, Difference, Draft, Repository, Role, Signers, WriteError, key_id},
    },
};
use ed25519_dalek::{SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

use super::{
    KEYS, Publication, Publisher, UNFINISHED,
    epochs::{fleet_keys_path, pack_for},
    keys::KeyRing,
    lock, now, refused,
    repository::NewTarget,
};
use crate::{
    bundle::{Progress, sync_dir},
    error::{Error, Kind},
};

const DRAFTS: &str = "drafts";

impl Publisher {
    /// Packs a bundle and drafts its release, signed by nobody yet. Its payload stays here until it is submitted.
    ///
    /// # Errors
    /// As [`Publisher::publish`], except for keys: none is needed but that of a fleet that it is sealed for.
    pub fn propose_release(
        &mut self,
        publication: &Publication<'_>,
        passphrase: Option<&str>,
        progress: &Progress<'_>,
    ) -> Result<Draft, Error> {
        let _lock = lock(&self.home)?;
        let repository = self.newest()?;
        self.check(&repository, publication)?;
        // Nobody is asked for a passphrase for nothing.
        let seal = match publication.encrypt_to {
            Some(_) => self.seal_for(&repository, &self.ring(passphrase)?, publication)?,
            None => None,
        };
        self.remove_unfinished()?;
        let packing = self.home.join(format!("{UNFINISHED}{}", process::id()));
        let (packed, enc, capacitor) = pack_for(seal, publication.source, &packing, progress)?;
        let release = self.release_of(&repository, publication, &packed, enc, capacitor);
        let drafted = repository.propose_release(&release, packed.sha256, now()).map_err(refused).and_then(|draft| {
            let at = self.drafted(&release);
            let directory = self.home.join(DRAFTS);
            let kept = fs::create_dir_all(&directory)
                .and_then(|()| fs::rename(&packing, &at))
                .and_then(|()| sync_dir(&directory));
            kept.map(|()| draft).map_err(|error| Error::file("write", &at, error))
        });
        if drafted.is_err() {
            let _ = fs::remove_file(&packing);
        }
        self.repository = repository;
        drafted
    }

    /// Makes a change of channels or keys, if the keys at hand are enough; the answer is its draft with all signatures
    /// that can be made here, and whether it holds already.
    ///
    /// # Errors
    /// [`Kind::BadInput`] if the change is not possible, otherwise as [`Publisher::publish`].
    pub fn change(&mut self, change: &Change, passphrase: Option<&str>) -> Result<(Draft, bool), Error> {
        self.attempt(passphrase, |_, repository| Ok((repository.propose(change, now()).map_err(refused)?, None)))
    }

    /// Signs a draft with the keys that are here.
    ///
    /// # Errors
    /// [`Kind::Key`] if none of them may sign it, or they don't open.
    pub fn sign(&self, draft: &mut Draft, passphrase: Option<&str>) -> Result<Vec<Role>, Error> {
        let mut roles = Vec::new();
        let mut refusal = None;
        for key in self.ring(passphrase)?.all()? {
            match draft.sign(&key) {
                Ok(signed) => roles.extend(signed),
                Err(error) => refusal = Some(error),
            }
        }
        match (roles.is_empty(), refusal) {
            (false, _) => Ok(roles),
            (true, Some(error)) => Err(refused(error).with_hint("give the key file with --key")),
            (true, None) => {
                Err(Error::new(Kind::Key, "there is no key here").with_hint("give the key file with --key"))
            }
        }
    }

    /// Puts a draft that has all its signatures into the repository. The payload of a release is the one that was
    /// proposed here, unless its file is given.
    ///
    /// # Errors
    /// [`Kind::Key`] if signatures are missing, of the draft or of the keys of snapshot and timestamp; [`Kind::BadInput`]
    /// if the repository has moved on or the payload is not the draft's; otherwise as [`Publisher::publish`].
    pub fn submit(&mut self, draft: Draft, payload: Option<&Path>, passphrase: Option<&str>) -> Result<(), Error> {
        let _lock = lock(&self.home)?;
        let files = self.files();
        let mut repository = self.newest()?;
        let keys = self.ring(passphrase)?.all()?;
        // What can be refused is refused before a payload is read.
        repository.clone().submit(&draft, &refs(&keys), now()).map_err(refused)?;
        files.remove_leftovers(&repository)?;
        self.remove_unfinished()?;
        match draft.differences().iter().find_map(|difference| self.drafted_target(difference)) {
            None => self.commit(&mut repository, draft, None, &keys)?,
            Some(drafted) => {
                let at = self.home.join(format!("{UNFINISHED}{}", process::id()));
                let from = payload.unwrap_or(&drafted.kept);
                let committed = take_target(from, &at, &drafted).and_then(|()| {
                    let target = NewTarget { at: at.clone(), path: drafted.path.clone(), sha256: drafted.sha256.0 };
                    self.commit(&mut repository, draft, Some(&target), &keys)
                });
                if committed.is_err() {
                    let _ = fs::remove_file(&at);
                }
                committed?;
                // What stays is removed by hand at worst: nothing names it any more.
                let _ = fs::remove_file(&drafted.kept);
            }
        }
        self.repository = repository;
        Ok(())
    }

    /// Signs snapshot and timestamp anew if half of their time is over, by their keys alone; says whether it did.
    ///
    /// # Errors
    /// As [`Publisher::refresh`].
    pub fn renew_online(&mut self, now: Wall, passphrase: Option<&str>) -> Result<bool, Error> {
        if !self.files().open()?.is_renewal_due(now).map_err(refused)? {
            return Ok(false);
        }
        let _lock = lock(&self.home)?;
        let keys = self.ring(passphrase)?.online()?;
        self.renew_with(&keys, now)?;
        Ok(true)
    }

    /// Whether the keys of snapshot and timestamp are here.
    ///
    /// # Errors
    /// [`Kind::Storage`] if the directory of keys can't be read.
    pub fn has_online_keys(&self) -> Result<bool, Error> {
        let directory = self.home.join(KEYS);
        let entries = fs::read_dir(&directory).map_err(|error| Error::file("read", &directory, error))?;
        Ok(entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("timestamp.")))
    }

    /// Makes one more key for a role here; it counts once a change names it.
    ///
    /// # Errors
    /// [`Kind::Key`] if the keys here don't open, [`Kind::Storage`] for the disk.
    pub fn new_key(&self, role: &Role, passphrase: Option<&str>) -> Result<VerifyingKey, Error> {
        let _lock = lock(&self.home)?;
        self.ring(passphrase)?.add(&role.to_string())
    }

    /// Moves the keys of snapshot and timestamp, with a copy of the repository and the log, to a new data directory for
    /// a machine that is always on. From then on that one alone makes new metadata: two that do would write two
    /// histories.
    ///
    /// # Errors
    /// [`Kind::BadInput`] if the directory is there already, [`Kind::Key`] if the keys are not here, [`Kind::Storage`]
    /// and [`Kind::NoSpace`] for the disk. Then nothing was moved.
    pub fn export_online(&mut self, to: &Path, passphrase: Option<&str>) -> Result<(), Error> {
        let _lock = lock(&self.home)?;
        if to.exists() {
            let words = format!("{} is there already", to.display());
            return Err(Error::new(Kind::BadInput, words).with_hint("name a directory that is not there yet"));
        }
        let files = self.files();
        let repository = files.open()?;
        let ring = self.ring(passphrase)?;
        let keys = ring.online()?;
        for role in [Role::Snapshot, Role::Timestamp] {
            self.need(&repository, &role, &keys)?;
        }
        files.remove_leftovers(&repository)?;
        self.check_log(&repository)?;
        let act = Act {
            kind: "export",
            what: vec!["the keys of snapshot and timestamp went to another machine".to_owned()],
            by: keys.iter().map(|key| key_id(&key.verifying_key())).collect(),
        };
        let entry = self.entry(&repository, act, &keys)?;
        files.commit(&repository, None, Some(entry))?;
        let home = to.join(super::PUBLISH).join(&self.app);
        let copied = fs::create_dir_all(&home)
            .and_then(|()| copy_tree(&self.home.join("repository"), &home.join("repository")))
            .and_then(|()| fs::copy(self.home.join("audit.log"), home.join("audit.log")).map(drop))
            .map_err(|error| Error::file("write", &home, error))
            .and_then(|()| ring.export_online(&home.join(KEYS)))
            .and_then(|()| Self::open(to, &self.app).map(drop))
            .and_then(|()| sync_dir(&home).map_err(|error| Error::file("write", &home, error)));
        if let Err(error) = copied {
            let _ = fs::remove_dir_all(to);
            return Err(error);
        }
        ring.remove_online()?;
        files.remove_log()
    }

    /// The log of acts, checked against the repository.
    ///
    /// # Errors
    /// [`Kind::NotWhole`] if it was edited, cut or reordered, or is not here.
    pub fn audit(&self) -> Result<Vec<Entry>, Error> {
        let (files, repository) = (self.files(), self.files().open()?);
        let lines = files.log()?;
        audit::verify(&repository, lines.iter().map(String::as_str)).map_err(|error| {
            let hint = match self.has_online_keys() {
                Ok(false) => "the log goes on where the keys of snapshot and timestamp are: ask there",
                _ => "put audit.log back from a copy; whoever changed it could write to this directory",
            };
            let words = format!("the log of {} is not what its publisher wrote", self.app);
            Error::new(Kind::NotWhole, words).with_source(error).with_hint(hint)
        })
    }

    /// Who may sign what.
    #[must_use]
    pub fn signers(&self) -> std::collections::BTreeMap<Role, Signers> {
        self.repository.signers()
    }

    /// The ids of the keys that are here.
    ///
    /// # Errors
    /// [`Kind::Key`] if they don't open.
    pub fn key_ids(&self, passphrase: Option<&str>) -> Result<Vec<String>, Error> {
        Ok(self.ring(passphrase)?.all()?.iter().map(|key| key_id(&key.verifying_key())).collect())
    }

    /// The file that a difference would add to the repository.
    fn drafted_target(&self, difference: &Difference) -> Option<Drafted> {
        Some(match difference {
            Difference::Release { release, sha256, .. } => Drafted {
                path: release.target_path(),
                payload: release.payload.clone(),
                sha256: *sha256,
                kept: self.drafted(release),
                what: format!("the payload of {} {}", release.app, release.version),
            },
            Difference::Keys { fleet, epoch, list, sha256 } => Drafted {
                path: fleet_keys_path(fleet, *epoch),
                payload: list.clone(),
                sha256: *sha256,
                kept: self.drafted_keys(fleet, *epoch, list),
                what: format!("the list of keys of epoch {epoch} of fleet {fleet}"),
            },
            _ => return None,
        })
    }

    /// The file of a proposed list of keys.
    pub(super) fn drafted_keys(&self, fleet: &str, epoch: u64, list: &Payload) -> PathBuf {
        self.home.join(DRAFTS).join(format!("fleet.{fleet}.{epoch}.{}.keys", list.blob))
    }

    /// The file of a proposed release's payload.
    #[must_use]
    pub fn drafted(&self, release: &Release) -> PathBuf {
        let Release { channel, seq, payload, .. } = release;
        self.home.join(DRAFTS).join(format!("{channel}.{seq}.{}.burr", payload.blob))
    }

    pub(super) fn ring(&self, passphrase: Option<&str>) -> Result<KeyRing, Error> {
        KeyRing::open(&self.home.join(KEYS), passphrase)
    }

    /// Refuses, with what to do instead, if these keys can't sign for a role.
    pub(super) fn need(&self, repository: &Repository, role: &Role, keys: &[SigningKey]) -> Result<(), Error> {
        let signers = repository.signers().remove(role).unwrap_or_default();
        let here = keys.iter().filter(|key| signers.keys.contains_key(&key_id(&key.verifying_key()))).count();
        if here >= signers.threshold {
            return Ok(());
        }
        let (app, need, of) = (&self.app, signers.threshold, signers.keys.len());
        if let (Role::Channel(channel), true) = (role, of > 1) {
            let words = format!("a release on {channel} needs {need} of {of} keys, here are {here}");
            let hint = format!(
                "propose it, and let the others sign the file: burr release propose SOURCE --app {app} --channel \
                 {channel} --version VERSION --out FILE"
            );
            return Err(Error::new(Kind::Key, words).with_hint(hint));
        }
        let at = self.home.join(KEYS).join(format!("{role}.key"));
        let what = if at.exists() { "not the one that the repository names for its role" } else { "missing" };
        let words = format!("the private key {} is {what}", at.display());
        let hint = match role {
            Role::Snapshot | Role::Timestamp => {
                "put the file that `burr init` made back in its place, or submit on the machine that it was handed over to"
            }
            _ => "put the file that `burr init` made back in its place",
        };
        Err(Error::new(Kind::Key, words).with_hint(hint))
    }

    /// Signs a draft, puts it into the repository and both on disk, with its entry in the log.
    pub(super) fn commit(
        &self,
        repository: &mut Repository,
        mut draft: Draft,
        target: Option<&NewTarget>,
        keys: &[SigningKey],
    ) -> Result<(), Error> {
        draft.sign_where_named(&refs(keys));
        let kind = |difference: &Difference| match difference {
            Difference::Release { .. } => Some("release"),
            Difference::Rules { .. } => Some("rules"),
            Difference::Revoked { .. } => Some("revoke"),
            _ => None,
        };
        let mut by: Vec<String> = draft.signed_by().map(|(_, id)| id.to_owned()).collect();
        by.dedup();
        let act = Act {
            kind: draft.differences().iter().find_map(kind).unwrap_or("keys"),
            what: draft.differences().iter().map(ToString::to_string).collect(),
            by,
        };
        self.check_log(repository)?;
        let entry = self.logged(repository, act, keys, |repository| repository.submit(&draft, &refs(keys), now()))?;
        self.files().commit(repository, target, Some(entry))
    }

    pub(super) fn renew_with(&mut self, keys: &[SigningKey], now: Wall) -> Result<(), Error> {
        let files = self.files();
        let mut repository = files.open()?;
        for role in [Role::Snapshot, Role::Timestamp] {
            self.need(&repository, &role, keys)?;
        }
        files.remove_leftovers(&repository)?;
        self.check_log(&repository)?;
        let renew = |repository: &mut Repository| repository.renew(&refs(keys), now);
        let mut renewed = repository.clone();
        renewed.set_log(files.log()?.iter().map(String::as_str));
        renew(&mut renewed).map_err(refused)?;
        // Snapshot and timestamp tell their own times; the log tells what offline keys did.
        let entry = if renewed.offline_state() == repository.offline_state() {
            repository = renewed;
            None
        } else {
            let by = keys.iter().map(|key| key_id(&key.verifying_key())).collect();
            let act = Act { kind: "renew", what: vec!["targets and channels were signed anew".to_owned()], by };
            Some(self.logged(&mut repository, act, keys, renew)?)
        };
        files.commit(&repository, None, entry)?;
        self.repository = repository;
        Ok(())
    }

    /// Nothing is added to a log that was tampered with, so that it shows at the next act at the latest.
    pub(super) fn check_log(&self, repository: &Repository) -> Result<(), Error> {
        let lines = self.files().log()?;
        audit::verify(repository, lines.iter().map(String::as_str)).map(drop).map_err(|error| {
            Error::new(Kind::Storage, format!("the log {} is damaged", self.home.join("audit.log").display()))
                .with_source(error)
                .with_hint("put it back from a copy, and find out who changed it")
        })
    }

    /// Makes a change whose snapshot tells of its own entry in the log, which is returned: the entry names the state
    /// that the change leads to, so the change is made once to see it and once for good.
    fn logged(
        &self,
        repository: &mut Repository,
        act: Act,
        keys: &[SigningKey],
        change: impl Fn(&mut Repository) -> Result<(), WriteError>,
    ) -> Result<String, Error> {
        let mut after = repository.clone();
        change(&mut after).map_err(refused)?;
        let entry = self.entry(&after, act, keys)?;
        let mut lines = self.files().log()?;
        lines.push(entry.clone());
        repository.set_log(lines.iter().map(String::as_str));
        change(repository).map_err(refused)?;
        Ok(entry)
    }

    fn entry(&self, repository: &Repository, act: Act, keys: &[SigningKey]) -> Result<String, Error> {
        let lines = self.files().log()?;
        audit::next(repository, lines.last().map(String::as_str), act, &refs(keys), now()).map_err(refused)
    }

    /// The repository, with what this machine's node has heard since from the machine that has the online keys.
    pub(super) fn newest(&self) -> Result<Repository, Error> {
        let mut repository = self.files().open()?;
        if self.has_online_keys()? {
            return Ok(repository);
        }
        let data = self.home.parent().and_then(Path::parent).expect("a home lies two levels below the data directory");
        let at = data.join("metadata").join(format!("{}.pack", repository.id()));
        let mut pack = Vec::new();
        let read = File::open(&at).and_then(|file| file.take(MAX_PACK as u64 + 1).read_to_end(&mut pack));
        if read.is_ok() && repository.adopt(&pack).is_ok() {
            self.files().commit(&repository, None, None)?;
        }
        Ok(repository)
    }
}

pub(super) fn refs(keys: &[SigningKey]) -> Vec<&SigningKey> {
    keys.iter().collect()
}

/// Whether these keys can sign snapshot and timestamp once the draft holds.
pub(super) fn has_online(repository: &Repository, draft: &Draft, keys: &[SigningKey]) -> bool {
    !matches!(repository.clone().submit(draft, &refs(keys), now()), Err(WriteError::Unsigned(_)))
}

/// A file that a draft adds.
struct Drafted {
    path: String,
    payload: Payload,
    sha256: Hash,
    /// Where it was kept when it was proposed here.
    kept: PathBuf,
    /// What it is, for people.
    what: String,
}

/// Copies a file that a draft adds, and checks it on the way.
fn take_target(from: &Path, to: &Path, drafted: &Drafted) -> Result<(), Error> {
    let read = |error| {
        Error::new(Kind::BadInput, format!("can't read {} from {}", drafted.what, from.display()))
            .with_source(error)
            .with_hint("it stayed where it was proposed; give a copy of it with --payload")
    };
    let mut source = File::open(from).map_err(read)?.take(drafted.payload.size.saturating_add(1));
    let written = |error| Error::file("write", to, error);
    let mut target = File::create(to).map_err(written)?;
    let (mut blake3, mut sha, mut size) = (blake3::Hasher::new(), Sha256::new(), 0);
    let mut buffer = vec![0; 256 << 10];
    loop {
        let length = source.read(&mut buffer).map_err(read)?;
        if length == 0 {
            break;
        }
        blake3.update(&buffer[..length]);
        sha.update(&buffer[..length]);
        size += length as u64;
        target.write_all(&buffer[..length]).map_err(written)?;
    }
    target.sync_all().map_err(written)?;
    let whole = size == drafted.payload.size
        && Hash(*blake3.finalize().as_bytes()) == drafted.payload.blob
        && Hash(sha.finalize().into()) == drafted.sha256;
    if whole {
        return Ok(());
    }
    let _ = fs::remove_file(to);
    let words = format!("{} is not {}", from.display(), drafted.what);
    Err(Error::new(Kind::BadInput, words).with_hint("give the file that was made when it was proposed"))
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
            File::open(&target)?.sync_all()?;
        }
    }
    sync_dir(to)
}
