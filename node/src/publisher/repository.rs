//! The repository's files, and the one order in which they change.
//!
//! ```text
//! <home>/repository/metadata, targets     what counts, as static files
//!       /audit.log                        the log of acts
//!       /next                             a new state that counts already and is being put in its place
//! ```
//!
//! New files are written to `next.part`; its renaming to `next` is the moment from which all of them count. Then they
//! are put in their places, roots first and `timestamp.json` last, so that a reader of the static files never finds one
//! that names what is not there. A crash before the moment leaves the old state, and a crash after it the new one, which
//! whoever comes next goes on with.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use burr_protocol::{
    Hash,
    release::Release,
    trust::{
        pack::MAX_PACK,
        write::{Repository, WriteError},
    },
};

use crate::{
    bundle::sync_dir,
    error::{Error, Kind},
};

const TIMESTAMP: &str = "timestamp.json";
/// The new entry of the log among the files of a new state.
const ENTRY: &str = "audit.entry";
/// Bytes of the log at most: tens of thousands of acts.
const MAX_LOG: u64 = 64 << 20;

/// A repository as files.
pub(super) struct Files {
    metadata: PathBuf,
    targets: PathBuf,
    log: PathBuf,
    next: PathBuf,
    part: PathBuf,
}

/// The file of a new target, finished and synced.
pub(super) struct NewTarget {
    /// Where it is now, on the repository's file system.
    pub at: PathBuf,
    /// The target's path.
    pub path: String,
    /// Its SHA-256.
    pub sha256: [u8; 32],
}

/// One step of a commit. Up to `Commit` the repository is what it was; from then on it is the new one.
enum Step<'a> {
    Target(&'a NewTarget),
    Write(String, Vec<u8>),
    Commit,
    Place(String),
    Finish,
}

impl Files {
    /// Those of a publisher's home.
    pub(super) fn at(home: &Path) -> Self {
        let repository = home.join("repository");
        Self {
            metadata: repository.join("metadata"),
            targets: repository.join("targets"),
            log: home.join("audit.log"),
            next: home.join("next"),
            part: home.join("next.part"),
        }
    }

    /// Reads and verifies the repository.
    pub(super) fn open(&self) -> Result<Repository, Error> {
        // Without a lock: a commit of another process in between can mix two states, a second look is at one.
        let opened = self.read_all().or_else(|_| self.read_all());
        opened.map_err(|error| {
            Error::new(Kind::Storage, format!("the repository in {} is damaged", self.metadata.display()))
                .with_hint("put its files back from a copy; devices keep what they have")
                .with_source(error)
        })
    }

    fn read_all(&self) -> Result<Repository, WriteError> {
        Repository::open(|name| {
            // What counts already and is not in its place yet comes first.
            [&self.next, &self.metadata].into_iter().find_map(|directory| {
                let mut bytes = Vec::new();
                let file = File::open(directory.join(name)).ok()?;
                file.take(MAX_PACK as u64 + 1).read_to_end(&mut bytes).ok()?;
                Some(bytes)
            })
        })
    }

    /// The lines of the log of acts.
    pub(super) fn log(&self) -> Result<Vec<String>, Error> {
        let mut text = String::new();
        let read = File::open(&self.log).and_then(|file| file.take(MAX_LOG + 1).read_to_string(&mut text));
        match read {
            // What is left out of it would be lost at the next act, which writes the log anew.
            Ok(bytes) if bytes as u64 > MAX_LOG => {
                let words = format!("the log {} has over {} MiB, more than is read", self.log.display(), MAX_LOG >> 20);
                return Err(Error::new(Kind::Storage, words)
                    .with_hint("if it is what Burr wrote, nothing more can be signed from here: tell Burr's authors"));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::file("read", &self.log, error));
            }
            _ => {}
        }
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if !text.is_empty() && !text.ends_with('\n') {
            // A crash cut the last line short; the whole of it is still among the files of the new state.
            lines.pop();
        }
        if let Ok(entry) = fs::read_to_string(self.next.join(ENTRY))
            && lines.last() != Some(&entry)
        {
            lines.push(entry);
        }
        Ok(lines)
    }

    /// Takes the log away.
    pub(super) fn remove_log(&self) -> Result<(), Error> {
        fs::remove_file(&self.log).map_err(|error| Error::file("remove", &self.log, error))
    }

    /// Makes a repository's new state the one on disk, with what the log says of it: wholly, or, on an error before it
    /// counts, not at all. The home is locked.
    pub(super) fn commit(
        &self,
        repository: &Repository,
        target: Option<&NewTarget>,
        entry: Option<String>,
    ) -> Result<(), Error> {
        self.recover()?;
        if let Ok(current) = self.read_all() {
            self.remove_superseded(&current)?;
        }
        let mut made = Vec::new();
        let mut steps = self.steps(repository, target, entry).into_iter();
        let done = steps
            .by_ref()
            .take_while(|step| !matches!(step, Step::Commit))
            .try_for_each(|step| self.take(step, &mut made));
        if let Err(error) = done.and_then(|()| self.take(Step::Commit, &mut made)) {
            for at in made {
                // What can't be removed now is removed by the next publish.
                let _ = fs::remove_file(at);
            }
            let _ = fs::remove_dir_all(&self.part);
            return Err(error);
        }
        steps.try_for_each(|step| self.take(step, &mut Vec::new()))
    }

    /// Goes on with a commit that a crash cut short, or takes back one that does not count yet. The home is locked.
    fn recover(&self) -> Result<(), Error> {
        if self.part.exists() {
            fs::remove_dir_all(&self.part).map_err(|error| Error::file("remove", &self.part, error))?;
        }
        if self.next.exists() {
            let names = fs::read_dir(&self.next).map_err(|error| Error::file("read", &self.next, error))?;
            let names = names.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
            in_order(names).into_iter().try_for_each(|name| self.take(Step::Place(name), &mut Vec::new()))?;
            self.take(Step::Finish, &mut Vec::new())?;
        }
        Ok(())
    }

    fn steps<'a>(
        &self,
        repository: &Repository,
        target: Option<&'a NewTarget>,
        entry: Option<String>,
    ) -> Vec<Step<'a>> {
        let files = repository.files();
        let new = files.into_iter().filter(|(name, _)| name == TIMESTAMP || !self.metadata.join(name).exists());
        let new: Vec<(String, Vec<u8>)> =
            new.chain(entry.map(|entry| (ENTRY.to_owned(), entry.into_bytes()))).collect();
        let names = in_order(new.iter().map(|(name, _)| name.clone()).collect());
        target
            .map(Step::Target)
            .into_iter()
            .chain(new.into_iter().map(|(name, bytes)| Step::Write(name, bytes)))
            .chain([Step::Commit])
            .chain(names.into_iter().map(Step::Place))
            .chain([Step::Finish])
            .collect()
    }

    /// Carries a step out, durably, and notes what to remove if a later one fails.
    fn take(&self, step: Step<'_>, made: &mut Vec<PathBuf>) -> Result<(), Error> {
        match step {
            Step::Target(target) => {
                let at = self.target(&target.path, target.sha256);
                let directory = at.parent().expect("it is below the targets").to_owned();
                made.push(at.clone());
                let moved = make_directories(&directory)
                    .and_then(|()| fs::rename(&target.at, &at))
                    .and_then(|()| sync_dir(&directory));
                moved.map_err(|error| Error::file("write", &at, error))
            }
            Step::Write(name, bytes) => {
                let at = self.part.join(name);
                let written = make_directories(&self.part).and_then(|()| write_synced(&at, &bytes));
                written.map_err(|error| Error::file("write", &at, error))
            }
            Step::Commit => {
                let home = self.next.parent().expect("it is in a home");
                let moved = sync_dir(&self.part)
                    .and_then(|()| make_directories(&self.metadata))
                    .and_then(|()| fs::rename(&self.part, &self.next))
                    .and_then(|()| sync_dir(home));
                moved.map_err(|error| Error::file("write", &self.next, error))
            }
            Step::Place(name) if name == ENTRY => {
                let text = self.log()?.join("\n") + "\n";
                let part = self.log.with_extension("part");
                let written = write_synced(&part, text.as_bytes()).and_then(|()| fs::rename(&part, &self.log));
                written.map_err(|error| Error::file("write", &self.log, error))
            }
            Step::Place(name) => {
                let at = self.metadata.join(&name);
                let moved = fs::rename(self.next.join(&name), &at).and_then(|()| sync_dir(&self.metadata));
                moved.map_err(|error| Error::file("write", &at, error))
            }
            Step::Finish => {
                let home = self.next.parent().expect("it is in a home");
                let removed = fs::remove_dir_all(&self.next).and_then(|()| sync_dir(home));
                removed.map_err(|error| Error::file("remove", &self.next, error))
            }
        }
    }

    /// Removes documents that the repository does not name: what the last commit superseded, which stays until the next
    /// one for clients that are just reading it.
    fn remove_superseded(&self, repository: &Repository) -> Result<(), Error> {
        let named = repository.files();
        remove_all_but(&self.metadata, |name| named.contains_key(name))
    }

    /// Removes what a crash left, before long work: it may fill the disk.
    pub(super) fn remove_leftovers(&self, repository: &Repository) -> Result<(), Error> {
        self.recover()?;
        for (app, channel) in repository.channels() {
            let releases = repository.verified().releases();
            let kept: BTreeSet<String> = releases
                .filter(|release| release.app == app && release.channel == channel)
                .map(|release| release.seq.to_string())
                .collect();
            remove_all_but(&self.targets.join("app").join(app).join(channel), |name| {
                seq_of(name).is_some_and(|seq| kept.contains(seq))
            })?;
        }
        for (fleet, listed) in repository.verified().fleets() {
            let kept: Vec<String> = listed.keys.keys().map(|epoch| format!(".epoch-{epoch}.keys")).collect();
            remove_all_but(&self.targets.join("fleet").join(fleet), |name| kept.iter().any(|end| name.ends_with(end)))?;
        }
        Ok(())
    }

    /// The file of an epoch's list of keys, if it is there.
    pub(super) fn keys_path(&self, fleet: &str, epoch: u64) -> Option<PathBuf> {
        let ending = format!(".epoch-{epoch}.keys");
        let entries = fs::read_dir(self.targets.join("fleet").join(fleet)).ok()?.flatten();
        let mut named = entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(&ending));
        named.next().map(|entry| entry.path())
    }

    /// Where a target's file lies, as clients with consistent snapshots ask for it.
    fn target(&self, path: &str, sha256: [u8; 32]) -> PathBuf {
        let (directory, name) = path.rsplit_once('/').expect("a target lies in a directory");
        self.targets.join(directory).join(format!("{}.{name}", Hash(sha256)))
    }

    /// The payload file of a release, found by its number: two of one number never stay.
    pub(super) fn payload_path(&self, release: &Release) -> Option<PathBuf> {
        let wanted = release.seq.to_string();
        let entries = fs::read_dir(self.channel(release)).ok()?.flatten();
        let mut named = entries.filter(|entry| entry.file_name().to_str().and_then(seq_of) == Some(wanted.as_str()));
        named.next().map(|entry| entry.path())
    }

    fn channel(&self, release: &Release) -> PathBuf {
        self.targets.join("app").join(&release.app).join(&release.channel)
    }
}

/// The order in which new files take their places: the log, roots, what the timestamp names, the timestamp.
fn in_order(mut names: Vec<String>) -> Vec<String> {
    names.sort_by_key(|name| match name.as_str() {
        ENTRY => 0,
        TIMESTAMP => 3,
        name if name.ends_with(".root.json") => 1,
        _ => 2,
    });
    names
}

/// The release number in the name of a payload file: `<sha256>.<seq>.burr`.
fn seq_of(name: &str) -> Option<&str> {
    let (sha256, seq) = name.strip_suffix(".burr")?.split_once('.')?;
    sha256.parse::<Hash>().ok().map(|_| seq)
}

fn remove_all_but(directory: &Path, keep: impl Fn(&str) -> bool) -> Result<(), Error> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|error| Error::file("read", directory, error))?,
    };
    for entry in entries.flatten() {
        if !entry.file_name().to_str().is_some_and(&keep) && entry.path().is_file() {
            fs::remove_file(entry.path()).map_err(|error| Error::file("remove", &entry.path(), error))?;
        }
    }
    Ok(())
}

fn write_synced(at: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(at)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes a directory and those above it, each one durably.
fn make_directories(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let above = directory.parent().unwrap_or(Path::new("/"));
    make_directories(above)?;
    fs::create_dir(directory)?;
    sync_dir(above)
}

#[cfg(test)]
mod tests {
    use burr_protocol::{
        Wall,
        release::Payload,
        trust::write::{Change, Role, key_id},
    };
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::publisher::keys;

    fn release(seq: u64) -> Release {
        Release {
            app: "shop".to_owned(),
            channel: "stable".to_owned(),
            seq,
            version: seq.to_string(),
            bundle: Hash::of(b"bundle"),
            payload: Payload { blob: Hash::of(b"blob"), size: 4 },
            files: 1,
            unpacked: 1,
            rules: burr_protocol::rules::Rules::default(),
            enc: None,
            capacitor: None,
        }
    }

    #[test]
    fn a_crash_after_any_step_leaves_the_old_or_the_new_state_and_the_next_publish_cleans_up() {
        let keys = keys::generate(&["stable", "beta"]).unwrap();
        let mut crash_after = 0;
        loop {
            let dir = tempfile::tempdir().unwrap();
            let files = Files::at(dir.path());
            let old = Repository::create("shop", &["stable", "beta"], &keys, Wall(1_000_000)).unwrap();
            files.commit(&old, None, Some("0".to_owned())).unwrap();

            let publish = |new: &mut Repository, sha256: u8, steps: usize| -> usize {
                let at = dir.path().join("packed");
                fs::write(&at, b"blob").unwrap();
                let release = release(new.next_seq("stable"));
                new.release(&release, [sha256; 32], &keys, Wall(2_000_000)).unwrap();
                let target = NewTarget { at, path: release.target_path(), sha256: [sha256; 32] };
                let all = files.steps(new, Some(&target), Some(sha256.to_string()));
                let count = all.len();
                let mut made = Vec::new();
                all.into_iter().take(steps).for_each(|step| files.take(step, &mut made).unwrap());
                count
            };
            let mut new = old.clone();
            let steps = publish(&mut new, 1, crash_after);
            let found = files.open().unwrap();
            let counts = files.next.exists() || crash_after == steps;
            assert_eq!(found, if counts { new } else { old }, "after {crash_after} of {steps} steps");
            assert_eq!(files.log().unwrap(), if counts { vec!["0", "1"] } else { vec!["0"] });

            // Half a file, as a crash within a step leaves it.
            fs::create_dir_all(&files.part).unwrap();
            fs::write(files.part.join("timestamp.json"), b"{").unwrap();
            files.remove_leftovers(&found).unwrap();
            assert_eq!(files.open().unwrap(), found);
            let mut next = found;
            publish(&mut next, 2, steps);
            assert_eq!(files.open().unwrap(), next);
            for release in next.verified().releases() {
                let sha256 = if counts && release.seq == 1 { 1 } else { 2 };
                let path = files.payload_path(release).unwrap();
                assert!(path.ends_with(format!("{}.{}.burr", Hash([sha256; 32]), release.seq)));
            }
            assert!(!files.part.exists() && !files.next.exists());
            assert_eq!(files.log().unwrap().last().unwrap(), "2");
            if crash_after == steps {
                assert!(steps >= 8, "payload, writes of channel, snapshot and timestamp, commit, and their places");
                break;
            }
            crash_after += 1;
        }
    }

    #[test]
    fn a_crash_while_all_keys_change_leaves_the_old_or_the_new_root_and_a_repository_that_verifies() {
        let keys = keys::generate(&["stable"]).unwrap();
        let new_timestamp = SigningKey::from_bytes(&[9; 32]);
        for crash_after in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let files = Files::at(dir.path());
            let old = Repository::create("shop", &["stable"], &keys, Wall(1_000_000)).unwrap();
            files.commit(&old, None, None).unwrap();
            let mut new = old.clone();
            let change = Change::RotateKey {
                role: Role::Timestamp,
                key_id: key_id(&keys.timestamp.verifying_key()),
                key: new_timestamp.verifying_key(),
            };
            let draft = new.propose(&change, Wall(2_000_000)).unwrap();
            let mut all = keys.all();
            all.push(&new_timestamp);
            new.sign_and_submit(draft, &all, Wall(2_000_000)).unwrap();
            let steps = files.steps(&new, None, None);
            let count = steps.len();
            steps.into_iter().take(crash_after).for_each(|step| files.take(step, &mut Vec::new()).unwrap());
            let counts = files.next.exists() || crash_after == count;
            let expected = if counts { &new } else { &old };
            assert_eq!(&files.open().unwrap(), expected, "after {crash_after} of {count} steps");
            files.remove_leftovers(expected).unwrap();
            assert_eq!(&files.open().unwrap(), expected);
            assert!(!files.part.exists() && !files.next.exists());
            if crash_after == count {
                break;
            }
        }
    }

    #[test]
    fn a_log_that_is_too_long_to_be_read_is_no_shorter_log() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::at(dir.path());
        File::create(&files.log).and_then(|log| log.set_len(MAX_LOG)).unwrap();
        assert_eq!(files.log().unwrap(), Vec::<String>::new(), "no line has an end");
        File::options()
            .append(true)
            .open(&files.log)
            .and_then(|mut log| io::Write::write_all(&mut log, b"\n"))
            .unwrap();
        let refused = files.log().unwrap_err();
        assert!(refused.to_string().contains("over 64 MiB"), "{refused}");
    }
}
