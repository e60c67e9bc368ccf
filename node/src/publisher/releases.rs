//! What becomes of a release after it was published: other rules, another channel, and back again. Its bundle is never
//! copied: what is signed anew names the payload that is there.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
};

use burr_protocol::{
    Hash,
    release::Release,
    rules::Rules,
    trust::write::{Draft, Repository},
};

use super::{
    Publisher, UNFINISHED,
    ceremony::{has_online, refs},
    lock, now, refused,
    repository::NewTarget,
};
use crate::error::{Error, Kind};

impl Publisher {
    /// Changes the rules of a release of a channel, if the keys at hand are enough; the answer is the draft with all
    /// signatures that can be made here, and whether it holds already. `change` is given the rules that hold once nobody
    /// else is at it: what another process signed in the meantime, a pause perhaps, is not lost.
    ///
    /// # Errors
    /// [`Kind::BadInput`] if there is no such release, it has these rules already, or they break a bound; what `change`
    /// says; otherwise as [`Publisher::publish`].
    pub fn change_rules(
        &mut self,
        channel: &str,
        seq: u64,
        change: impl FnOnce(Rules) -> Result<Rules, Error>,
        passphrase: Option<&str>,
    ) -> Result<(Draft, bool), Error> {
        self.attempt(passphrase, |_, repository| {
            let mut listed = repository.verified().releases();
            let listed = listed.find(|release| release.channel == channel && release.seq == seq);
            let rules = change(listed.map(|release| release.rules.clone()).unwrap_or_default())?;
            Ok((repository.propose_rules(channel, seq, &rules, now()).map_err(refused)?, None))
        })
    }

    /// Releases what a channel has on another channel too, by other rules.
    ///
    /// # Errors
    /// [`Kind::BadInput`] if there is no such release, or its version is not newer than those of the other channel;
    /// otherwise as [`Publisher::change_rules`].
    pub fn promote(
        &mut self,
        channel: &str,
        seq: u64,
        to: &str,
        rules: &Rules,
        passphrase: Option<&str>,
    ) -> Result<(Draft, bool), Error> {
        self.again(channel, seq, to, rules, passphrase)
    }

    /// Releases an earlier version of a channel once more, under a new number: the way back for devices that never go
    /// back in numbers.
    ///
    /// # Errors
    /// As [`Publisher::change_rules`].
    pub fn bring_back(&mut self, channel: &str, seq: u64, passphrase: Option<&str>) -> Result<(Draft, bool), Error> {
        let rules = Rules { brings_back: Some(seq), ..Rules::default() };
        self.again(channel, seq, channel, &rules, passphrase)
    }

    fn again(
        &mut self,
        channel: &str,
        seq: u64,
        to: &str,
        rules: &Rules,
        passphrase: Option<&str>,
    ) -> Result<(Draft, bool), Error> {
        let held = self.repository.listed(channel, seq).map_err(refused)?.clone();
        let missing = || {
            Error::new(Kind::Storage, format!("the payload of {} {} is not here", held.app, held.version))
                .with_hint("do it where the release was published, or publish the build again")
        };
        let path = self.payload_path(&held).ok_or_else(missing)?;
        let sha256 = sha256_of(&path).ok_or_else(missing)?;
        self.attempt(passphrase, |publisher, repository| {
            let next = repository.next_seq(to);
            let release = Release { channel: to.to_owned(), seq: next, rules: rules.clone(), ..held.clone() };
            let draft = repository.propose_release(&release, sha256.0, now()).map_err(refused)?;
            let kept = publisher.drafted(&release);
            Ok((draft, Some(Added { from: path.clone(), path: release.target_path(), sha256: sha256.0, kept })))
        })
    }

    /// Makes a change at once if the keys here are enough.
    pub(super) fn attempt(
        &mut self,
        passphrase: Option<&str>,
        propose: impl FnOnce(&Self, &Repository) -> Result<(Draft, Option<Added>), Error>,
    ) -> Result<(Draft, bool), Error> {
        let _lock = lock(&self.home)?;
        let mut repository = self.newest()?;
        let (mut draft, added) = propose(self, &repository)?;
        let keys = self.ring(passphrase)?.all()?;
        draft.sign_where_named(&refs(&keys));
        let holds = draft.missing().is_empty() && has_online(&repository, &draft, &keys);
        if holds {
            self.files().remove_leftovers(&repository)?;
        }
        match &added {
            None if holds => self.commit(&mut repository, draft.clone(), None, &keys)?,
            Some(Added { from, path, sha256, kept }) if holds => {
                self.remove_unfinished()?;
                let at = self.home.join(format!("{UNFINISHED}{}", process::id()));
                share(from, &at)?;
                let target = NewTarget { at: at.clone(), path: path.clone(), sha256: *sha256 };
                let committed = self.commit(&mut repository, draft.clone(), Some(&target), &keys);
                if committed.is_err() {
                    // Gone if it was moved already; what can't be removed now is removed by the next publish.
                    let _ = fs::remove_file(&at);
                }
                committed?;
                if from == kept {
                    // What stays is removed by hand at worst: nothing names it any more.
                    let _ = fs::remove_file(kept);
                }
            }
            // Kept for the submission, as that of a release that is proposed.
            Some(Added { from, kept, .. }) => {
                let directory = kept.parent().expect("a draft lies in a directory");
                fs::create_dir_all(directory).map_err(|error| Error::file("create", directory, error))?;
                share(from, kept)?;
            }
            None => {}
        }
        self.repository = repository;
        Ok((draft, holds))
    }
}

/// A file that a change adds to the repository.
pub(super) struct Added {
    /// Where it is, and stays.
    pub from: PathBuf,
    /// The target's path.
    pub path: String,
    /// Its SHA-256.
    pub sha256: [u8; 32],
    /// Where it is kept while signatures are missing.
    pub kept: PathBuf,
}

/// A payload file is named by its SHA-256.
fn sha256_of(path: &Path) -> Option<Hash> {
    path.file_name()?.to_str()?.split('.').next()?.parse().ok()
}

/// One more name for a payload, which is never written again; a copy where the file system has one name a file.
fn share(from: &Path, to: &Path) -> Result<(), Error> {
    let shared = match fs::hard_link(from, to) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(_) => fs::copy(from, to).and_then(|_| fs::File::open(to)?.sync_all()),
        linked => linked,
    };
    shared.map_err(|error| Error::file("write", to, error))
}
