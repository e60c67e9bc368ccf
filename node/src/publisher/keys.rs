//! A publisher's private keys on disk, one file a role, so that any of them can be taken elsewhere.
//!
//! ```text
//! keys/root.key  targets.key  snapshot.key  timestamp.key  channel.<channel>.key    64 hex digits, mode 0600
//!     /<role>.<key id>.key                                  a role's later keys, by the first digits of their ids
//! keys/passphrase.age      with a passphrase: an age identity sealed by it
//!     /<role>.key.age      and every key sealed to that identity
//! ```
//!
//! The names are for people: what a key may sign is what the repository says. One identity in between means one costly opening and one place where a passphrase is wrong. The files are plain age
//! files: any age program opens them.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    str::FromStr,
};

use age::{
    DecryptError, scrypt,
    secrecy::{ExposeSecret, SecretString},
    x25519,
};
use burr_protocol::{
    Hash,
    trust::write::{Keys, key_id},
};
use ed25519_dalek::{SigningKey, VerifyingKey};
use zeroize::Zeroizing;

use crate::{
    bundle::sync_dir,
    error::{Error, Kind},
};

const PASSPHRASE: &str = "passphrase.age";
/// Bytes of a key file at most; real ones have a few hundred.
const MAX_FILE: u64 = 64 << 10;

/// Makes a new key for every role of a repository with these channels.
pub(super) fn generate(channels: &[&str]) -> Result<Keys, Error> {
    let channels = channels.iter().map(|channel| Ok(((*channel).to_owned(), new_key()?)));
    Ok(Keys {
        root: Some(new_key()?),
        targets: Some(new_key()?),
        snapshot: new_key()?,
        timestamp: new_key()?,
        channels: channels.collect::<Result<_, Error>>()?,
    })
}

fn new_key() -> Result<SigningKey, Error> {
    Ok(SigningKey::from_bytes(&*random()?))
}

/// Fresh random bytes.
pub(super) fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, Error> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(bytes.as_mut_slice()).map_err(|error| {
        Error::new(Kind::Key, "the system gives no random numbers to make a key from").with_source(error)
    })?;
    Ok(bytes)
}

/// The directory of keys, opened with its passphrase if it has one.
pub(super) struct KeyRing {
    directory: PathBuf,
    identity: Option<x25519::Identity>,
}

impl KeyRing {
    /// Writes all keys to a new directory.
    pub(super) fn create(directory: &Path, keys: &Keys, passphrase: Option<&str>) -> Result<(), Error> {
        let made = fs::DirBuilder::new().mode(0o700).create(directory);
        made.map_err(|error| Error::file("create", directory, error))?;
        let mut ring = Self { directory: directory.to_owned(), identity: None };
        if let Some(passphrase) = passphrase {
            if passphrase.is_empty() {
                return Err(
                    Error::new(Kind::BadInput, "the passphrase is empty").with_hint("give one, or leave it out")
                );
            }
            let identity = x25519::Identity::generate();
            let recipient = scrypt::Recipient::new(SecretString::from(passphrase.to_owned()));
            ring.write(PASSPHRASE, &seal(&recipient, identity.to_string().expose_secret().as_bytes())?)?;
            ring.identity = Some(identity);
        }
        let fixed = [("root", keys.root.as_ref()), ("targets", keys.targets.as_ref())];
        let online = [("snapshot", Some(&keys.snapshot)), ("timestamp", Some(&keys.timestamp))];
        let channels = keys.channels.iter().map(|(channel, key)| (channel_role(channel), key));
        let named = fixed.into_iter().chain(online).filter_map(|(role, key)| Some((role.to_owned(), key?)));
        for (role, key) in named.chain(channels) {
            ring.put(&role, key)?;
        }
        sync_dir(directory).map_err(|error| Error::file("write", directory, error))
    }

    /// Opens a directory of keys.
    pub(super) fn open(directory: &Path, passphrase: Option<&str>) -> Result<Self, Error> {
        let mut ring = Self { directory: directory.to_owned(), identity: None };
        let Some(sealed) = ring.read(PASSPHRASE)? else { return Ok(ring) };
        let Some(passphrase) = passphrase else {
            let words = format!("the keys in {} are sealed by a passphrase", directory.display());
            return Err(Error::new(Kind::Key, words).with_hint("give the passphrase that they were made with"));
        };
        let opened = age::decrypt(&scrypt::Identity::new(SecretString::from(passphrase.to_owned())), &sealed);
        let opened = opened.map_err(|error| match error {
            DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed | DecryptError::NoMatchingKeys => {
                let words = format!("the passphrase does not open the keys in {}", directory.display());
                Error::new(Kind::Key, words).with_hint("give the passphrase that they were made with")
            }
            error => ring.damaged(PASSPHRASE).with_source(error),
        })?;
        let identity = std::str::from_utf8(&opened).ok().and_then(|text| x25519::Identity::from_str(text).ok());
        ring.identity = Some(identity.ok_or_else(|| ring.damaged(PASSPHRASE))?);
        Ok(ring)
    }

    /// Every key that is there, whatever it is for: the repository says which of them counts.
    pub(super) fn all(&self) -> Result<Vec<SigningKey>, Error> {
        self.those(|_| true)
    }

    /// The keys of snapshot and timestamp, and no others.
    pub(super) fn online(&self) -> Result<Vec<SigningKey>, Error> {
        self.those(is_online)
    }

    fn those(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<SigningKey>, Error> {
        let names = self.names()?.into_iter().filter(|name| wanted(name));
        names.filter_map(|name| self.get(&name).transpose()).collect()
    }

    /// The names of the keys that are there, in order.
    pub(super) fn names(&self) -> Result<Vec<String>, Error> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::file("read", &self.directory, error)),
        };
        let end = if self.identity.is_some() { ".key.age" } else { ".key" };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter_map(|name| Some(name.strip_suffix(end)?.to_owned())).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Makes one more key for a role, in a file named after both.
    pub(super) fn add(&self, role: &str) -> Result<VerifyingKey, Error> {
        let key = new_key()?;
        let id = key_id(&key.verifying_key());
        self.put(&format!("{role}.{}", &id[..8]), &key)?;
        sync_dir(&self.directory).map_err(|error| Error::file("write", &self.directory, error))?;
        Ok(key.verifying_key())
    }

    /// Keys in another directory, sealed as these are.
    pub(super) fn beside(&self, directory: &Path) -> Self {
        Self { directory: directory.to_owned(), identity: self.identity.clone() }
    }

    /// Keeps a secret that is no signing key, durably, where there is none of this name.
    pub(super) fn keep_secret(&self, name: &str, secret: &[u8; 32]) -> Result<(), Error> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory);
        made.map_err(|error| Error::file("create", &self.directory, error))?;
        self.put_text(name, &Zeroizing::new(format!("{}\n", Hash(*secret))))?;
        let above = self.directory.parent().unwrap_or(&self.directory);
        let synced = sync_dir(&self.directory).and_then(|()| sync_dir(above));
        synced.map_err(|error| Error::file("write", &self.directory, error))
    }

    /// A secret that is no signing key.
    pub(super) fn secret(&self, name: &str) -> Result<Option<Zeroizing<[u8; 32]>>, Error> {
        self.get_text(name)?.map(|text| parse(&text).ok_or_else(|| self.damaged(&self.file_name(name)))).transpose()
    }

    /// Copies the keys of snapshot and timestamp to a new directory, not sealed: a machine that is always on has nobody
    /// to ask for a passphrase.
    pub(super) fn export_online(&self, to: &Path) -> Result<(), Error> {
        fs::DirBuilder::new().mode(0o700).create(to).map_err(|error| Error::file("create", to, error))?;
        let ring = Self { directory: to.to_owned(), identity: None };
        for name in self.names()?.into_iter().filter(|name| is_online(name)) {
            if let Some(key) = self.get(&name)? {
                ring.put(&name, &key)?;
            }
        }
        sync_dir(to).map_err(|error| Error::file("write", to, error))
    }

    /// Removes the keys of snapshot and timestamp.
    pub(super) fn remove_online(&self) -> Result<(), Error> {
        for name in self.names()?.into_iter().filter(|name| is_online(name)) {
            let at = self.directory.join(self.file_name(&name));
            fs::remove_file(&at).map_err(|error| Error::file("remove", &at, error))?;
        }
        sync_dir(&self.directory).map_err(|error| Error::file("write", &self.directory, error))
    }

    fn put(&self, role: &str, key: &SigningKey) -> Result<(), Error> {
        self.put_text(role, &text_of(key))
    }

    fn get(&self, role: &str) -> Result<Option<SigningKey>, Error> {
        Ok(self.secret(role)?.map(|secret| SigningKey::from_bytes(&secret)))
    }

    fn put_text(&self, name: &str, text: &str) -> Result<(), Error> {
        match &self.identity {
            None => self.write(&format!("{name}.key"), text.as_bytes()),
            Some(identity) => self.write(&format!("{name}.key.age"), &seal(&identity.to_public(), text.as_bytes())?),
        }
    }

    fn get_text(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        let name = self.file_name(name);
        let Some(bytes) = self.read(&name)?.map(Zeroizing::new) else { return Ok(None) };
        match &self.identity {
            None => Ok(Some(bytes)),
            Some(identity) => match age::decrypt(identity, &bytes) {
                Ok(opened) => Ok(Some(Zeroizing::new(opened))),
                Err(error) => Err(self.damaged(&name).with_source(error)),
            },
        }
    }

    fn file_name(&self, role: &str) -> String {
        if self.identity.is_some() { format!("{role}.key.age") } else { format!("{role}.key") }
    }

    fn damaged(&self, name: &str) -> Error {
        let words = format!("the private key {} is damaged", self.directory.join(name).display());
        Error::new(Kind::Key, words).with_hint("put the file that `burr init` made back in its place")
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let at = self.directory.join(name);
        let mut bytes = Vec::new();
        match File::open(&at).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes)) {
            Ok(_) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::new(Kind::Key, format!("cannot read {}", at.display())).with_source(error)),
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        write_private(&self.directory.join(name), bytes)
    }
}

/// Makes a key in a file of its own, sealed by a passphrase if one is given: for a machine that holds nothing else.
///
/// # Errors
/// [`Kind::BadInput`] if the file is there already, or for an empty passphrase; [`Kind::Storage`] for the disk.
pub fn create_key_file(at: &Path, passphrase: Option<&str>) -> Result<VerifyingKey, Error> {
    if at.exists() {
        let words = format!("{} is there already", at.display());
        return Err(Error::new(Kind::BadInput, words).with_hint("give another name; no key is ever overwritten"));
    }
    let key = new_key()?;
    let text = text_of(&key);
    match passphrase {
        None => write_private(at, text.as_bytes())?,
        Some("") => {
            return Err(Error::new(Kind::BadInput, "the passphrase is empty").with_hint("give one, or leave it out"));
        }
        Some(passphrase) => {
            let recipient = scrypt::Recipient::new(SecretString::from(passphrase.to_owned()));
            write_private(at, &seal(&recipient, text.as_bytes())?)?;
        }
    }
    Ok(key.verifying_key())
}

/// Reads a key from a file of its own, as [`create_key_file`] makes it.
///
/// # Errors
/// [`Kind::Key`] if it can't be read, is no key, or the passphrase does not open it.
pub fn read_key_file(at: &Path, passphrase: Option<&str>) -> Result<SigningKey, Error> {
    let mut bytes = Vec::new();
    let read = File::open(at).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes));
    read.map_err(|error| Error::new(Kind::Key, format!("cannot read the key {}", at.display())).with_source(error))?;
    if bytes.starts_with(b"age-encryption.org/") {
        let Some(passphrase) = passphrase else {
            let words = format!("the key {} is sealed by a passphrase", at.display());
            return Err(Error::new(Kind::Key, words).with_hint("give the passphrase that it was made with"));
        };
        bytes =
            age::decrypt(&scrypt::Identity::new(SecretString::from(passphrase.to_owned())), &bytes).map_err(|_| {
                Error::new(Kind::Key, format!("the passphrase does not open the key {}", at.display()))
                    .with_hint("give the passphrase that it was made with")
            })?;
    }
    parse(&bytes).map(|secret| SigningKey::from_bytes(&secret)).ok_or_else(|| {
        Error::new(Kind::Key, format!("{} is no private key", at.display()))
            .with_hint("give the file that `burr key new` made, not its .pub")
    })
}

fn write_private(at: &Path, bytes: &[u8]) -> Result<(), Error> {
    let written = File::options().write(true).create_new(true).mode(0o600).open(at).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|error| Error::file("write", at, error))
}

/// Hex of 32 bytes, as any other name of 32 bytes is written.
fn text_of(key: &SigningKey) -> String {
    format!("{}\n", Hash(key.to_bytes()))
}

fn parse(bytes: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let secret: Hash = std::str::from_utf8(bytes).ok()?.trim_end().parse().ok()?;
    Some(Zeroizing::new(secret.0))
}

fn is_online(name: &str) -> bool {
    let role = name.split('.').next().unwrap_or_default();
    role == "snapshot" || role == "timestamp"
}

fn channel_role(channel: &str) -> String {
    format!("channel.{channel}")
}

fn seal(to: &impl age::Recipient, bytes: &[u8]) -> Result<Vec<u8>, Error> {
    age::encrypt(to, bytes).map_err(|error| Error::new(Kind::Key, "a key can't be sealed").with_source(error))
}
