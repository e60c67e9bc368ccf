//! The node's own keys in the data directory, readable by its owner alone: the Ed25519 key that is its identity, and the
//! X25519 key for what is sealed to it. Neither is ever made of the other.

use std::{fs, io::ErrorKind, path::Path};

use burr_protocol::seal::DeviceKey;
use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

use crate::{
    error::{Error, Kind},
    membership::write_private,
};

/// Reads the identity, or makes one the first time.
///
/// # Errors
/// [`Kind::Key`] if the file is no key, [`Kind::Storage`] if it can't be read or written.
pub(crate) fn load_or_make(data: &Path) -> Result<SigningKey, Error> {
    let hint = "restore it from a backup, or remove it: the node then gets a new identity";
    secret(&data.join("identity.key"), hint).map(|seed| SigningKey::from_bytes(&seed))
}

/// Reads the key for what is sealed to this node, or makes one the first time.
///
/// # Errors
/// As [`load_or_make`].
pub(crate) fn seal_key(data: &Path) -> Result<DeviceKey, Error> {
    let hint = "restore it from a backup, or remove it and enrol the node anew";
    secret(&data.join("seal.key"), hint).map(|bytes| DeviceKey::from_bytes(&bytes))
}

/// Reads a secret of 32 bytes, or makes one the first time.
///
/// # Errors
/// As [`load_or_make`].
pub(crate) fn secret(path: &Path, hint: &'static str) -> Result<Zeroizing<[u8; 32]>, Error> {
    match fs::read_to_string(path).map(Zeroizing::new) {
        Ok(text) => match text.trim().parse::<burr_protocol::Hash>() {
            Ok(secret) => Ok(Zeroizing::new(secret.0)),
            Err(_) => Err(Error::new(Kind::Key, format!("{} is damaged", path.display())).with_hint(hint)),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => make(path),
        Err(error) => Err(Error::file("read", path, error)),
    }
}

fn make(path: &Path) -> Result<Zeroizing<[u8; 32]>, Error> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut_slice())
        .map_err(|error| Error::new(Kind::Key, format!("the system gives no random numbers: {error}")))?;
    let text = Zeroizing::new(format!("{}\n", burr_protocol::Hash(*seed)));
    // Under another name first: a key that is half written must never be found.
    write_private(path, text.as_bytes())?;
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_is_its_owners_alone() {
        let data = tempfile::tempdir().unwrap();
        let key = load_or_make(data.path()).unwrap();
        assert_eq!(load_or_make(data.path()).unwrap().to_bytes(), key.to_bytes());
        let mode = fs::metadata(data.path().join("identity.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let sealed_to = seal_key(data.path()).unwrap().public();
        assert_eq!(seal_key(data.path()).unwrap().public(), sealed_to);
        let mode = fs::metadata(data.path().join("seal.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_ne!(
            fs::read(data.path().join("seal.key")).unwrap(),
            fs::read(data.path().join("identity.key")).unwrap()
        );
        fs::write(data.path().join("identity.key"), "nonsense").unwrap();
        assert_eq!(load_or_make(data.path()).unwrap_err().kind(), Kind::Key);
    }
}
