//! A publisher's private keys on disk, one file a role, so that any of them can be taken elsewhere.
//!
//! ```text
//! keys/root.key  targets.key  snapshot.key  timestamp.key  channel.<channel>.key    64 hex digits, mode 0600
//! keys/passphrase.age      with a passphrase: an age identity sealed by it
//!     /<role>.key.age      and every key sealed to that identity
//! ```
//!
//! One identity in between means one costly opening and one place where a passphrase is wrong. The files are plain age
//! files: any age program opens them.

use std::{
    collections::BTreeMap,
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
use burr_protocol::{Hash, trust::write::Keys};
use ed25519_dalek::SigningKey;

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
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| {
        Error::new(Kind::Key, "the system gives no random numbers to make a key from").with_source(error)
    })?;
    Ok(SigningKey::from_bytes(&secret))
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

    /// The keys that a release on a channel takes, and no others.
    pub(super) fn for_channel(&self, channel: &str) -> Result<Keys, Error> {
        let role = channel_role(channel);
        Ok(Keys {
            root: None,
            targets: None,
            snapshot: self.need("snapshot")?,
            timestamp: self.need("timestamp")?,
            channels: BTreeMap::from([(channel.to_owned(), self.need(&role)?)]),
        })
    }

    /// The keys that are there; `channels` are pairs of app and channel.
    pub(super) fn at_hand<'a>(&self, channels: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Keys, Error> {
        let mut found = BTreeMap::new();
        for (_, channel) in channels {
            if let Some(key) = self.get(&channel_role(channel))? {
                found.insert(channel.to_owned(), key);
            }
        }
        Ok(Keys {
            root: self.get("root")?,
            targets: self.get("targets")?,
            snapshot: self.need("snapshot")?,
            timestamp: self.need("timestamp")?,
            channels: found,
        })
    }

    fn put(&self, role: &str, key: &SigningKey) -> Result<(), Error> {
        // Hex of 32 bytes, as any other name of 32 bytes is written.
        let text = format!("{}\n", Hash(key.to_bytes()));
        match &self.identity {
            None => self.write(&format!("{role}.key"), text.as_bytes()),
            Some(identity) => self.write(&format!("{role}.key.age"), &seal(&identity.to_public(), text.as_bytes())?),
        }
    }

    fn need(&self, role: &str) -> Result<SigningKey, Error> {
        self.get(role)?.ok_or_else(|| {
            let at = self.directory.join(self.file_name(role));
            Error::new(Kind::Key, format!("the private key {} is missing", at.display()))
                .with_hint("put the file that `burr init` made back in its place")
        })
    }

    fn get(&self, role: &str) -> Result<Option<SigningKey>, Error> {
        let name = self.file_name(role);
        let Some(bytes) = self.read(&name)? else { return Ok(None) };
        let bytes = match &self.identity {
            None => bytes,
            Some(identity) => age::decrypt(identity, &bytes).map_err(|error| self.damaged(&name).with_source(error))?,
        };
        let key = std::str::from_utf8(&bytes).ok().and_then(|text| text.trim_end().parse::<Hash>().ok());
        let key = key.ok_or_else(|| self.damaged(&name))?;
        Ok(Some(SigningKey::from_bytes(&key.0)))
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
        let at = self.directory.join(name);
        let written = File::options().write(true).create_new(true).mode(0o600).open(&at).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        written.map_err(|error| Error::file("write", &at, error))
    }
}

fn channel_role(channel: &str) -> String {
    format!("channel.{channel}")
}

fn seal(to: &impl age::Recipient, bytes: &[u8]) -> Result<Vec<u8>, Error> {
    age::encrypt(to, bytes).map_err(|error| Error::new(Kind::Key, "a key can't be sealed").with_source(error))
}
