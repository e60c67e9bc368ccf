//! The node's keys in its data directory, readable by its owner alone: the Ed25519 key that is its identity, and the
//! X25519 key for what is sealed to it.

use std::{fs, io::ErrorKind, path::Path};

use burr_protocol::SealKey;
use ed25519_dalek::SigningKey;
use x25519_dalek::{PublicKey, StaticSecret};

use crate::{
    error::{Error, Kind},
    membership::write_private,
};

/// Reads the key, or makes one the first time.
///
/// # Errors
/// [`Kind::Key`] if the file is no key, [`Kind::Storage`] if it can't be read or written.
pub(crate) fn load_or_make(data: &Path) -> Result<SigningKey, Error> {
    let hint = "restore it from a backup, or remove it: the node then gets a new identity";
    Ok(SigningKey::from_bytes(&secret(&data.join("identity.key"), hint)?))
}

/// The public half of the key for what is sealed to this device. It is made here, once, and never of the identity.
///
/// # Errors
/// As [`load_or_make`].
pub(crate) fn seal_key(data: &Path) -> Result<SealKey, Error> {
    let hint = "restore it from a backup, or remove it and enrol this device anew";
    let secret = StaticSecret::from(secret(&data.join("seal.key"), hint)?);
    Ok(SealKey(PublicKey::from(&secret).to_bytes()))
}

/// 32 secret bytes in a file of their own, made the first time.
fn secret(path: &Path, hint: &str) -> Result<[u8; 32], Error> {
    match fs::read_to_string(path) {
        Ok(text) => text
            .trim()
            .parse::<burr_protocol::Hash>()
            .map(|seed| seed.0)
            .map_err(|_| Error::new(Kind::Key, format!("{} is damaged", path.display())).with_hint(hint)),
        Err(error) if error.kind() == ErrorKind::NotFound => make(path),
        Err(error) => Err(Error::file("read", path, error)),
    }
}

fn make(path: &Path) -> Result<[u8; 32], Error> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)
        .map_err(|error| Error::new(Kind::Key, format!("the system gives no random numbers: {error}")))?;
    // Under another name first: a key that is half written must never be found.
    write_private(&path.to_owned(), format!("{}\n", burr_protocol::Hash(seed)).as_bytes())?;
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
        fs::write(data.path().join("identity.key"), "nonsense").unwrap();
        assert_eq!(load_or_make(data.path()).unwrap_err().kind(), Kind::Key);
    }
}
