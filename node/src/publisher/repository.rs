//! The repository's files, and the one order in which they may change: payload, versioned metadata, `timestamp.json`.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use burr_protocol::{
    Hash,
    release::Release,
    trust::{pack::MAX_PACK, write::Repository},
};

use crate::{
    bundle::sync_dir,
    error::{Error, Kind},
};

const METADATA: &str = "metadata";
const TARGETS: &str = "targets";
const TIMESTAMP: &str = "timestamp.json";
/// Ends the names of files that are being written.
const PART: &str = ".part";

/// A repository as files.
pub(super) struct Files {
    metadata: PathBuf,
    targets: PathBuf,
}

/// The payload of a new release, finished and synced.
pub(super) struct NewPayload<'a> {
    /// Where it is now, on the repository's file system.
    pub at: PathBuf,
    /// Of which release.
    pub release: &'a Release,
    /// Its SHA-256.
    pub sha256: [u8; 32],
}

/// One step of a commit. After each of them but the last the repository is what it was before the first.
enum Step<'a> {
    Payload(&'a NewPayload<'a>),
    Metadata(String, Vec<u8>),
}

impl Files {
    pub(super) fn at(directory: &Path) -> Self {
        Self { metadata: directory.join(METADATA), targets: directory.join(TARGETS) }
    }

    /// Reads and verifies the repository.
    pub(super) fn open(&self) -> Result<Repository, Error> {
        // A root after the newest one is a leftover that must not count, but roots are only ever written by `init`.
        let opened = Repository::open(|name| {
            let mut bytes = Vec::new();
            let file = File::open(self.metadata.join(name)).ok()?;
            file.take(MAX_PACK as u64 + 1).read_to_end(&mut bytes).ok()?;
            Some(bytes)
        });
        opened.map_err(|error| {
            Error::new(Kind::Storage, format!("the repository in {} is damaged", self.metadata.display()))
                .with_hint("put its files back from a copy; devices keep what they have")
                .with_source(error)
        })
    }

    /// Makes a repository's new state the one on disk: wholly, or, on an error, not at all.
    pub(super) fn commit(&self, repository: &Repository, payload: Option<&NewPayload<'_>>) -> Result<(), Error> {
        let mut made = Vec::new();
        let done = self.steps(repository, payload).into_iter().try_for_each(|step| self.take(step, &mut made));
        if done.is_err() {
            for at in made {
                // What can't be removed now is removed by the next publish.
                let _ = fs::remove_file(at);
            }
        }
        done
    }

    fn steps<'a>(&self, repository: &Repository, payload: Option<&'a NewPayload<'a>>) -> Vec<Step<'a>> {
        let mut files = repository.files();
        let timestamp = files.remove_entry(TIMESTAMP).expect("a repository has a timestamp");
        let new = files.into_iter().filter(|(name, _)| !self.metadata.join(name).exists());
        let metadata = new.chain([timestamp]).map(|(name, bytes)| Step::Metadata(name, bytes));
        payload.map(Step::Payload).into_iter().chain(metadata).collect()
    }

    /// Carries a step out, durably, and notes what to remove if a later one fails.
    fn take(&self, step: Step<'_>, made: &mut Vec<PathBuf>) -> Result<(), Error> {
        match step {
            Step::Payload(payload) => {
                let directory = self.channel(payload.release);
                let at = directory.join(format!("{}.{}.burr", Hash(payload.sha256), payload.release.seq));
                made.push(at.clone());
                let moved = make_directories(&directory)
                    .and_then(|()| fs::rename(&payload.at, &at))
                    .and_then(|()| sync_dir(&directory));
                moved.map_err(|error| Error::file("write", &at, error))
            }
            Step::Metadata(name, bytes) => {
                let at = self.metadata.join(&name);
                let part = self.metadata.join(format!("{name}{PART}"));
                made.push(part.clone());
                if name != TIMESTAMP {
                    made.push(at.clone());
                }
                let written = make_directories(&self.metadata)
                    .and_then(|()| write_synced(&part, &bytes))
                    .and_then(|()| fs::rename(&part, &at));
                written.map_err(|error| Error::file("write", &at, error))?;
                let synced = sync_dir(&self.metadata).map_err(|error| Error::file("write", &self.metadata, error));
                if name == TIMESTAMP {
                    // It counts from the rename on: nothing may be taken back any more.
                    made.clear();
                }
                synced
            }
        }
    }

    /// Removes documents that the repository does not name: leftovers of a crash and what the last publish superseded,
    /// which stays until the next one for clients that are just reading it.
    pub(super) fn remove_superseded(&self, repository: &Repository) -> Result<(), Error> {
        let named = repository.files();
        remove_all_but(&self.metadata, |name| named.contains_key(name))
    }

    /// Removes payloads that the repository does not name: leftovers of a crash.
    pub(super) fn remove_stray_payloads(&self, repository: &Repository) -> Result<(), Error> {
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
        Ok(())
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
    use burr_protocol::{Wall, release::Payload};

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
            files.commit(&old, None).unwrap();

            let publish = |new: &mut Repository, sha256: u8, steps: usize| -> usize {
                let at = dir.path().join("packed");
                fs::write(&at, b"blob").unwrap();
                let release = release(new.next_seq("stable"));
                new.release(&release, [sha256; 32], &keys, Wall(2_000_000)).unwrap();
                let payload = NewPayload { at, release: &release, sha256: [sha256; 32] };
                let all = files.steps(new, Some(&payload));
                let count = all.len();
                let mut made = Vec::new();
                all.into_iter().take(steps).for_each(|step| files.take(step, &mut made).unwrap());
                count
            };
            let mut new = old.clone();
            let steps = publish(&mut new, 1, crash_after);
            let found = files.open().unwrap();
            let finished = crash_after == steps;
            assert_eq!(found, if finished { new } else { old }, "after {crash_after} of {steps} steps");

            // Half a file under the name of what comes next, as a crash within a step leaves it.
            fs::write(files.metadata.join("timestamp.json.part"), b"{").unwrap();
            files.remove_stray_payloads(&found).unwrap();
            files.remove_superseded(&found).unwrap();
            let mut next = found;
            publish(&mut next, 2, steps);
            assert_eq!(files.open().unwrap(), next);
            for release in next.verified().releases() {
                let sha256 = if finished && release.seq == 1 { 1 } else { 2 };
                let path = files.payload_path(release).unwrap();
                assert!(path.ends_with(format!("{}.{}.burr", Hash([sha256; 32]), release.seq)));
            }
            assert!(!files.metadata.join("timestamp.json.part").exists());
            if finished {
                assert!(steps >= 4, "payload, channel, snapshot and timestamp");
                break;
            }
            crash_after += 1;
        }
    }
}
