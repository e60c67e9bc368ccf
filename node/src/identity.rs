//! The node's identity: one Ed25519 key in the data directory, readable by its owner alone.

use std::{
    fs,
    io::{ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use ed25519_dalek::SigningKey;

use crate::error::{Error, Kind};

/// Reads the key, or makes one the first time.
///
/// # Errors
/// [`Kind::Key`] if the file is no key, [`Kind::Storage`] if it can't be read or written.
pub(crate) fn load_or_make(data: &Path) -> Result<SigningKey, Error> {
    let path = data.join("identity.key");
    match fs::read_to_string(&path) {
        Ok(text) => parse(text.trim()).ok_or_else(|| {
            Error::new(Kind::Key, format!("{} is damaged", path.display()))
                .with_hint("restore it from a backup, or remove it: the node then gets a new identity")
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => make(&path),
        Err(error) => Err(Error::file("read", &path, error)),
    }
}

fn parse(text: &str) -> Option<SigningKey> {
    text.parse::<burr_protocol::Hash>().ok().map(|seed| SigningKey::from_bytes(&seed.0))
}

fn make(path: &Path) -> Result<SigningKey, Error> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)
        .map_err(|error| Error::new(Kind::Key, format!("the system gives no random numbers: {error}")))?;
    let text = format!("{}\n", burr_protocol::Hash(seed));
    // Under another name first: a key that is half written must never be found.
    let temporary = path.with_extension("new");
    let _ = fs::remove_file(&temporary);
    let written =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, path)?;
            fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
        });
    written.map_err(|error| Error::file("write", path, error))?;
    Ok(SigningKey::from_bytes(&seed))
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
