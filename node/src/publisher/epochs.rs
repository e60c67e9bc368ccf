//! Sealing at the publisher: the keys of its fleets, one an epoch, kept as its other private keys are.
//!
//! ```text
//! <home>/fleets/<fleet>/epoch-<n>.<list>.key[.age]        64 hex digits, mode 0600
//!       /repository/targets/fleet/<fleet>/<sha256>.epoch-<n>.keys     the list that gives it to the fleet's devices
//! ```
//!
//! A key is on disk before anything is sealed by it, beside the BLAKE3 of the list that gives it away: each proposal of an
//! epoch has a key of its own, so whoever was given one that never came about can't read what came instead. Which list
//! counts is what the signed metadata says.

use std::{
    fs,
    path::{Path, PathBuf},
};

use burr_protocol::{
    Hash, SealKey, label,
    member::{Capability, Certificate},
    release::{Capacitor, Payload},
    seal::{self, Epoch, EpochKey, Owner, ReleaseKey, SUITE, Sealed},
    trust::{
        Fleet,
        write::{Draft, Repository},
    },
};
use sha2::{Digest as _, Sha256};

use super::{
    Publication, Publisher, Source,
    keys::{KeyRing, random},
    now, refused,
    releases::Added,
};
use crate::{
    bundle::{self, Packed, Progress},
    error::{Error, Kind},
    store::home::write_atomically,
};

const FLEETS: &str = "fleets";

impl Publisher {
    /// Begins the next epoch of a fleet, for all that are members now and read what is sealed: kiosks and relays carry it
    /// unread.
    ///
    /// # Errors
    /// As [`Publisher::members`] and [`Publisher::rotate`].
    pub fn rotate_for_members(&mut self, fleet: &str, passphrase: Option<&str>) -> Result<(Draft, bool), Error> {
        let reads = |member: &Certificate| member.not_after >= now() && member.may(Capability::reads);
        let members = self.members(fleet)?.into_iter().filter(reads);
        let devices: Vec<SealKey> = members.map(|member| member.seal_key).collect();
        self.rotate(fleet, &devices, passphrase)
    }

    /// Begins the next epoch of a fleet: makes its key and gives it to these devices and no others; the answer is its
    /// draft with all signatures that can be made here, and whether it holds already.
    ///
    /// # Errors
    /// [`Kind::BadInput`] for a fleet that is not there or a device's key that is none, otherwise as
    /// [`Publisher::publish`].
    pub fn rotate(
        &mut self,
        fleet: &str,
        devices: &[SealKey],
        passphrase: Option<&str>,
    ) -> Result<(Draft, bool), Error> {
        self.attempt(passphrase, |publisher, repository| {
            let number = newest_epoch(fleet_of(repository, fleet)?) + 1;
            let epoch = epoch_of(repository, fleet, number);
            let ring = publisher.ring(passphrase)?;
            let key = random()?;
            let bytes = seal::share(&epoch, &EpochKey::from_bytes(*key), devices, *random()?).map_err(bad_device)?;
            let list = Payload { blob: Hash::of(&bytes), size: bytes.len() as u64 };
            let sha256: [u8; 32] = Sha256::digest(&bytes).into();
            let draft = repository.propose_keys(fleet, number, &list, sha256, now()).map_err(refused)?;
            ring.beside(&publisher.keys_directory(fleet)).keep_secret(&key_name(number, &list), &key)?;
            let kept = publisher.drafted_keys(fleet, number, &list);
            let directory = kept.parent().expect("a draft lies in a directory");
            let written = fs::create_dir_all(directory).and_then(|()| write_atomically(&kept, &bytes));
            written.map_err(|error| Error::file("write", &kept, error))?;
            Ok((draft, Some(Added { from: kept.clone(), path: fleet_keys_path(fleet, number), sha256, kept })))
        })
    }

    /// What a new device of a fleet is handed at its enrolment: the keys of the listed epochs, as far as they are here,
    /// sealed to it, so that it reads what is released already; nothing for a fleet that has no key yet.
    ///
    /// # Errors
    /// [`Kind::BadInput`] for a fleet that is not there or a key that is none, [`Kind::Key`] if the newest epoch's key
    /// is not here, or one does not open.
    pub fn hand_over(&self, fleet: &str, device: SealKey, passphrase: Option<&str>) -> Result<Vec<u8>, Error> {
        let listed = &fleet_of(&self.repository, fleet)?.keys;
        let Some((newest, _)) = listed.last_key_value() else { return Ok(Vec::new()) };
        let ring = self.ring(passphrase)?;
        let mut keys = Vec::new();
        for (number, list) in listed {
            let epoch = epoch_of(&self.repository, fleet, *number);
            let key = if number == newest {
                Some(self.need_key_of(&ring, &epoch, list)?)
            } else {
                self.key_of(&ring, &epoch, list)?
            };
            keys.extend(key.map(|key| (epoch, key)));
        }
        seal::hand_over(keys, device, *random()?).map_err(bad_device)
    }

    /// The lists of keys that the metadata names, with the files that they are in.
    pub fn key_lists(&self) -> impl Iterator<Item = (Payload, PathBuf)> {
        let fleets = self.repository.verified().fleets();
        let lists = fleets.flat_map(|(name, fleet)| fleet.keys.iter().map(move |(epoch, list)| (name, *epoch, list)));
        lists.filter_map(|(fleet, epoch, list)| Some((list.clone(), self.files().keys_path(fleet, epoch)?)))
    }

    /// A fresh key for what is published, if it is to be sealed, and what the release says of it.
    pub(super) fn seal_for(
        &self,
        repository: &Repository,
        ring: &KeyRing,
        publication: &Publication<'_>,
    ) -> Result<Option<(ReleaseKey, Sealed)>, Error> {
        let Publication { channel, encrypt_to: Some(fleet), .. } = *publication else { return Ok(None) };
        let listed = &fleet_of(repository, fleet)?.keys;
        let Some((number, list)) = listed.last_key_value().map(|(number, list)| (*number, list)) else {
            let words = format!("fleet {fleet} has no key yet");
            let hint = format!("make one: burr fleet rotate {fleet} --app {}", self.app);
            return Err(Error::new(Kind::BadInput, words).with_hint(hint));
        };
        let epoch = epoch_of(repository, fleet, number);
        let epoch_key = self.need_key_of(ring, &epoch, list)?;
        let seq = repository.next_seq(channel);
        let owner = Owner { epoch, app: self.app.clone(), channel: channel.to_owned(), seq };
        let key = ReleaseKey::new(owner, *random()?);
        let (fleet, channel, suite) = (fleet.to_owned(), channel.to_owned(), SUITE.to_owned());
        let key_of_release = epoch_key.wrap(&key, *random()?);
        Ok(Some((key, Sealed { fleet, epoch: number, channel, seq, suite, key: key_of_release })))
    }

    fn keys_directory(&self, fleet: &str) -> PathBuf {
        assert_eq!(label::check_name("fleet", fleet), Ok(()), "names of fleets are checked where they come in");
        self.home.join(FLEETS).join(fleet)
    }

    fn key_of(&self, ring: &KeyRing, epoch: &Epoch, list: &Payload) -> Result<Option<EpochKey>, Error> {
        let key = ring.beside(&self.keys_directory(&epoch.fleet)).secret(&key_name(epoch.number, list))?;
        Ok(key.map(|key| EpochKey::from_bytes(*key)))
    }

    fn need_key_of(&self, ring: &KeyRing, epoch: &Epoch, list: &Payload) -> Result<EpochKey, Error> {
        self.key_of(ring, epoch, list)?.ok_or_else(|| {
            let directory = self.keys_directory(&epoch.fleet);
            let words = format!("the key of {epoch} is not in {}", directory.display());
            Error::new(Kind::Key, words).with_hint("put the file back from a copy, or begin another epoch")
        })
    }
}

/// Packs a bundle, sealed if there is a key for it.
pub(super) fn pack_for(
    seal: Option<(ReleaseKey, Sealed)>,
    source: Source<'_>,
    out: &Path,
    progress: &Progress<'_>,
) -> Result<(Packed, Option<Sealed>, Option<Capacitor>), Error> {
    let Some((key, sealed)) = seal else {
        let (packed, capacitor) = source.pack(out, progress)?;
        return Ok((packed, None, capacitor));
    };
    match source {
        Source::Build(path) => Ok((bundle::pack_sealed(path, out, &key, progress)?, Some(sealed), None)),
        Source::Capacitor { zip, .. } => {
            let words = format!("{} can't be sealed for a fleet: no gateway could give it to an app", zip.display());
            Err(Error::new(Kind::BadInput, words).with_hint("encrypt it with `npx @capgo/cli bundle encrypt` instead"))
        }
    }
}

/// The target that is an epoch's list of keys.
pub(super) fn fleet_keys_path(fleet: &str, epoch: u64) -> String {
    format!("fleet/{fleet}/epoch-{epoch}.keys")
}

fn key_name(number: u64, list: &Payload) -> String {
    format!("epoch-{number}.{}", list.blob)
}

fn fleet_of<'a>(repository: &'a Repository, fleet: &str) -> Result<&'a Fleet, Error> {
    repository.verified().fleet(fleet).ok_or_else(|| {
        let has: Vec<&str> = repository.verified().fleets().map(|(name, _)| name).collect();
        let hint = if has.is_empty() {
            format!("make it first: burr fleet create {fleet} --app {}", repository.app())
        } else {
            format!("there are {}", has.join(", "))
        };
        Error::new(Kind::BadInput, format!("there is no fleet {fleet:?}")).with_hint(hint)
    })
}

fn epoch_of(repository: &Repository, fleet: &str, number: u64) -> Epoch {
    Epoch { repository: repository.id(), fleet: fleet.to_owned(), number }
}

fn newest_epoch(fleet: &Fleet) -> u64 {
    fleet.keys.last_key_value().map_or(0, |(newest, _)| *newest)
}

fn bad_device(error: seal::KeysError) -> Error {
    Error::new(Kind::BadInput, "the fleet's key can't be given to its devices").with_source(error)
}
