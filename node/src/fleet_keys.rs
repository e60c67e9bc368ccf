//! The keys of fleets on a device: kept in its data directory, readable by its owner alone.
//!
//! ```text
//! <data>/fleets/<repository>/<fleet>.<epoch>.key      64 hex digits, mode 0600
//! ```

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use burr_protocol::{
    Hash, RepositoryId,
    action::NoKey,
    label,
    seal::{self, DeviceKey, Epoch, EpochKey, Lock, ReleaseKey},
};
use zeroize::Zeroizing;

use crate::{
    bundle::sync_dir,
    error::{Error, Kind},
    identity,
    store::home::write_atomically,
};

/// The keys below one data directory.
#[derive(Debug, Clone)]
pub(crate) struct FleetKeys {
    directory: PathBuf,
    device: Arc<DeviceKey>,
}

impl FleetKeys {
    /// Opens the keys of a data directory, and makes the device's own if there is none yet.
    pub(crate) fn open(data: &Path) -> Result<Self, Error> {
        Ok(Self { directory: data.join("fleets"), device: Arc::new(identity::seal_key(data)?) })
    }

    /// The key of a sealed release.
    pub(crate) fn release_key(&self, lock: &Lock) -> Result<ReleaseKey, Error> {
        let epoch = &lock.owner.epoch;
        let missing = || Error::new(Kind::Key, format!("the key of {epoch} is not here"));
        let key = self.read(epoch)?.ok_or_else(missing)?;
        key.unwrap(lock).map_err(|error| {
            Error::new(Kind::Key, format!("the key of {epoch} does not open the release")).with_source(error)
        })
    }

    /// Sees whether a release can be opened; if not, looks for the key in a list, by its name, and keeps it.
    pub(crate) fn unlock(&self, lock: &Lock, list: Option<(Hash, impl Read)>) -> Result<(), NoKey> {
        let epoch = &lock.owner.epoch;
        if self.release_key(lock).is_ok() {
            return Ok(());
        }
        // One that is damaged, or does not open the release, is looked for anew.
        let Some((name, list)) = list else { return Err(NoKey::Missing) };
        let failed = |error: &dyn std::fmt::Display| NoKey::Failed(error.to_string());
        let mut bytes = Vec::new();
        list.take(seal::MAX_KEYS + 1).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
        let found = seal::find(&bytes, epoch, &self.device).map_err(|error| failed(&error))?;
        let key = found.ok_or(NoKey::NotAMember(name))?;
        key.unwrap(lock).map_err(|error| failed(&error))?;
        self.keep(epoch, &key).map_err(|error| failed(&error))
    }

    /// Keeps the keys that an enroller handed to this device.
    pub(crate) fn take_over(&self, handed: &[u8], repository: RepositoryId, fleet: &str) -> Result<(), Error> {
        let taken = seal::take_over(handed, repository, fleet, &self.device);
        let taken = taken.map_err(|error| {
            Error::new(Kind::Key, format!("the keys of fleet {fleet} that came are not for this device"))
                .with_source(error)
                .with_hint("ask for a new invitation, and join again")
        })?;
        taken.iter().try_for_each(|(epoch, key)| self.keep(epoch, key))
    }

    /// Keeps a key, durably.
    pub(crate) fn keep(&self, epoch: &Epoch, key: &EpochKey) -> Result<(), Error> {
        let at = self.path(epoch);
        let directory = at.parent().expect("it is in a directory");
        let text = Zeroizing::new(format!("{}\n", Hash(*key.as_bytes())));
        // Made for this user alone, as every temporary file is.
        let kept = fs::create_dir_all(directory)
            .and_then(|()| write_atomically(&at, text.as_bytes()))
            .and_then(|()| sync_dir(&self.directory));
        kept.map_err(|error| Error::file("write", &at, error))
    }

    fn read(&self, epoch: &Epoch) -> Result<Option<EpochKey>, Error> {
        let at = self.path(epoch);
        match fs::read_to_string(&at).map(Zeroizing::new) {
            Ok(text) => match text.trim().parse::<Hash>() {
                Ok(key) => Ok(Some(EpochKey::from_bytes(key.0))),
                Err(_) => Err(Error::new(Kind::Key, format!("{} is damaged", at.display()))),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::file("read", &at, error)),
        }
    }

    fn path(&self, epoch: &Epoch) -> PathBuf {
        let Epoch { repository, fleet, number } = epoch;
        assert_eq!(label::check_name("fleet", fleet), Ok(()), "names of fleets are checked where they come in");
        self.directory.join(repository.to_string()).join(format!("{fleet}.{number}.key"))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use burr_protocol::seal::Owner;

    use super::*;

    fn epoch(number: u64) -> Epoch {
        Epoch { repository: RepositoryId([1; 32]), fleet: "stores".to_owned(), number }
    }

    fn lock(number: u64, key: &EpochKey) -> Lock {
        let owner = Owner { epoch: epoch(number), app: "shop".to_owned(), channel: "stable".to_owned(), seq: 1 };
        Lock { owner: owner.clone(), key: key.wrap(&ReleaseKey::new(owner, [3; 32]), [4; 24]) }
    }

    #[test]
    fn a_key_is_found_once_and_stays_its_owners_alone() {
        let data = tempfile::tempdir().unwrap();
        let keys = FleetKeys::open(data.path()).unwrap();
        let (key, nothing) = (EpochKey::from_bytes([7; 32]), None::<(Hash, &[u8])>);
        let lock = lock(1, &key);
        assert_eq!(keys.unlock(&lock, nothing), Err(NoKey::Missing));
        let list = |devices: &[_]| seal::share(&epoch(1), &key, devices, [9; 32]).unwrap();
        let others = list(&[DeviceKey::from_bytes(&[1; 32]).public()]);
        let name = Hash::of(&others);
        assert_eq!(keys.unlock(&lock, Some((name, &others[..]))), Err(NoKey::NotAMember(name)));
        let ours = list(&[keys.device.public()]);
        assert_eq!(keys.unlock(&lock, Some((name, &ours[..]))), Ok(()));

        let at = keys.path(&epoch(1));
        assert_eq!(fs::metadata(&at).unwrap().permissions().mode() & 0o777, 0o600);
        let again = FleetKeys::open(data.path()).unwrap();
        assert_eq!(again.unlock(&lock, nothing), Ok(()), "it needs no list any more");
        assert!(again.release_key(&lock).is_ok());

        fs::write(&at, "nonsense").unwrap();
        assert_eq!(again.unlock(&lock, nothing), Err(NoKey::Missing), "what is damaged is looked for anew");
        assert_eq!(again.unlock(&lock, Some((name, &ours[..]))), Ok(()));
    }

    #[test]
    fn a_key_that_does_not_open_the_release_is_not_kept() {
        let data = tempfile::tempdir().unwrap();
        let keys = FleetKeys::open(data.path()).unwrap();
        let other = EpochKey::from_bytes([8; 32]);
        let list = seal::share(&epoch(1), &other, &[keys.device.public()], [9; 32]).unwrap();
        let lock = lock(1, &EpochKey::from_bytes([7; 32]));
        assert!(matches!(keys.unlock(&lock, Some((Hash::of(&list), &list[..]))), Err(NoKey::Failed(_))));
        assert!(!keys.path(&epoch(1)).exists());
    }
}
