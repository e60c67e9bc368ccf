//! The publisher's side of trust: makes, extends and refreshes a repository's signed metadata. Keys and time are
//! arguments. Whatever is written is verified by the reader before it is handed out (`protocol/README.md` section 4).

mod documents;

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;

use super::{TrustError, Verified, pack::Pack, releases, verify, version};
use crate::{
    RepositoryId, Wall,
    label::{self, LabelError},
    release::{Release, ReleaseError},
};
pub use documents::{key_id, sign};

/// Releases that a channel's document keeps; the oldest make room.
pub const KEPT_RELEASES: usize = 50;

/// A repository's private keys, one for each role and none for two of them.
#[derive(Clone)]
pub struct Keys {
    /// Signs who may sign what else. Rarely needed, so it can stay offline: `None` where it is not at hand.
    pub root: Option<SigningKey>,
    /// Signs which channels there are. `None` where it is not at hand.
    pub targets: Option<SigningKey>,
    /// Signs which documents belong together.
    pub snapshot: SigningKey,
    /// Signs what is newest.
    pub timestamp: SigningKey,
    /// Sign releases, by channel; only the channels at hand.
    pub channels: BTreeMap<String, SigningKey>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("channels", &self.channels.keys()).finish_non_exhaustive()
    }
}

/// Metadata that can't be written as asked. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// A name is not usable.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// The release breaks a rule.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// A key is not at hand.
    #[error("the key of {role} is missing; give the key that `init` made for it")]
    MissingKey {
        /// Of which role.
        role: String,
    },
    /// A key is not the one that the repository names.
    #[error("the key of {role} is not the one that the repository names; give the key that `init` made for it")]
    WrongKey {
        /// Of which role.
        role: String,
    },
    /// One key in two roles.
    #[error("{first} and {second} have the same key; make one for each, so that losing one does not lose both")]
    SharedKey {
        /// The one role.
        first: String,
        /// The other role.
        second: String,
    },
    /// A repository without channels.
    #[error("a repository needs at least one channel; name one, such as `stable`")]
    NoChannel,
    /// The release is of another app, or of a channel that the repository does not have.
    #[error("the repository has no channel {channel:?} of app {app:?}; it has {has}")]
    UnknownChannel {
        /// The release's app.
        app: String,
        /// The release's channel.
        channel: String,
        /// What there is.
        has: String,
    },
    /// Not the newest release number.
    #[error("release {offered} is not newer than release {newest} of {channel}; the next number is {}", newest + 1)]
    SeqNotNewer {
        /// Of which channel.
        channel: String,
        /// Its newest number.
        newest: u64,
        /// The number given.
        offered: u64,
    },
    /// Not the newest version.
    #[error("version {offered} is not newer than version {newest} of {channel}; give a higher version")]
    VersionNotNewer {
        /// Of which channel.
        channel: String,
        /// Its newest version.
        newest: String,
        /// The version given.
        offered: String,
    },
    /// A time that metadata can't hold.
    #[error("the time {0} (seconds since 1970) is out of range; set the clock")]
    Time(i64),
    /// A file of the repository is not there.
    #[error("{0} is missing or unreadable; restore it from a copy of the repository's metadata")]
    MissingFile(String),
    /// The metadata does not verify.
    #[error("the repository's metadata does not verify: {0}")]
    Trust(#[from] TrustError),
}

/// A repository as its publisher holds it: metadata that verifies, and can be extended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    verified: Verified,
    /// App and channel by role.
    channels: BTreeMap<String, (String, String)>,
}

impl Repository {
    /// Makes the first metadata of an app: every document in version 1, no release yet.
    ///
    /// # Errors
    /// [`WriteError`] if a name is not usable, a key is missing, or two roles share a key.
    pub fn create(app: &str, channels: &[&str], keys: &Keys, now: Wall) -> Result<Self, WriteError> {
        label::check_name("app", app)?;
        channels.iter().try_for_each(|channel| label::check_name("channel", channel))?;
        if channels.is_empty() {
            return Err(WriteError::NoChannel);
        }
        check_distinct(keys)?;
        let root = documents::root(keys, now)?;
        let targets = documents::targets(app, channels, keys, now)?;
        let mut delegated = BTreeMap::new();
        for channel in channels {
            let role = releases::role_name(app, channel);
            delegated.insert(role, documents::channel(channel_key(keys, channel)?, now)?);
        }
        let snapshot = documents::snapshot(1, &targets, &delegated, &keys.snapshot, now)?;
        let timestamp = documents::timestamp(1, &snapshot, &keys.timestamp, now)?;
        let id = RepositoryId::of_root(&root);
        let pack = join(&[&root], &timestamp, &snapshot, &targets, &delegated)?;
        Self::from_verified(verify(id, None, &pack)?)
    }

    /// Reads a repository back from its files, by the names of [`Repository::files`]; `read` is asked for one after
    /// the other and says `None` if there is none. All of it is verified.
    ///
    /// # Errors
    /// [`WriteError::MissingFile`] or [`WriteError::Trust`] if the files are not a whole repository.
    pub fn open(read: impl Fn(&str) -> Option<Vec<u8>>) -> Result<Self, WriteError> {
        let need = |name: &str| read(name).ok_or_else(|| WriteError::MissingFile(name.to_owned()));
        let mut roots = vec![need("1.root.json")?];
        while roots.len() < super::pack::MAX_ROOTS {
            let Some(next) = read(&format!("{}.root.json", roots.len() + 1)) else { break };
            roots.push(next);
        }
        let timestamp = need("timestamp.json")?;
        let versions = documents::pinned("the timestamp", &timestamp)?;
        let version = versions.get("snapshot.json").copied().unwrap_or_default();
        let snapshot = need(&format!("{version}.snapshot.json"))?;
        let mut delegated = BTreeMap::new();
        let mut targets = Vec::new();
        for (name, version) in documents::pinned("the snapshot", &snapshot)? {
            let bytes = need(&format!("{version}.{name}"))?;
            match name.strip_suffix(".json") {
                Some("targets") => targets = bytes,
                role => {
                    delegated.insert(role.unwrap_or(&name).to_owned(), bytes);
                }
            }
        }
        let id = RepositoryId::of_root(&roots[0]);
        let roots: Vec<&[u8]> = roots.iter().map(Vec::as_slice).collect();
        let pack = join(&roots, &timestamp, &snapshot, &targets, &delegated)?;
        Self::from_verified(verify(id, None, &pack)?)
    }

    /// Publishes a release: its channel, the snapshot and the timestamp go up by one version.
    ///
    /// `payload_sha256` is the SHA-256 of the payload, for standard TUF clients.
    ///
    /// # Errors
    /// [`WriteError`] if the release breaks a rule, is not newer than the channel's newest, or a key is missing or
    /// wrong; then nothing is changed.
    pub fn release(
        &mut self,
        release: &Release,
        payload_sha256: [u8; 32],
        keys: &Keys,
        now: Wall,
    ) -> Result<(), WriteError> {
        release.check()?;
        let role = self.role(&release.app, &release.channel)?;
        if let Some(newest) = self.newest(&release.channel) {
            let channel = release.channel.clone();
            if release.seq <= newest.seq {
                return Err(WriteError::SeqNotNewer { channel, newest: newest.seq, offered: release.seq });
            }
            if !version::is_newer(&release.version, &newest.version) {
                let (newest, offered) = (newest.version.clone(), release.version.clone());
                return Err(WriteError::VersionNotNewer { channel, newest, offered });
            }
        }
        let key = channel_key(keys, &release.channel)?;
        let now = self.not_before_issued(now);
        let held = self.documents();
        self.check_key(&role, key)?;
        let document = held.delegated(&role).expect("the pack carries the role of every channel");
        let document = documents::with_release(document, release, payload_sha256, key, now)?;
        self.update(&BTreeMap::from([(role, document)]), None, keys, now)
    }

    /// Signs anew what would expire: the timestamp and snapshot each time, and of the targets and channels those that
    /// are past half of their time and whose key is at hand.
    ///
    /// # Errors
    /// [`WriteError`] if a key is wrong; then nothing is changed.
    pub fn refresh(&mut self, keys: &Keys, now: Wall) -> Result<(), WriteError> {
        let now = self.not_before_issued(now);
        let held = self.documents();
        let mut delegated = BTreeMap::new();
        for (role, (_, channel)) in &self.channels {
            let document = held.delegated(role).expect("the pack carries the role of every channel");
            let Some(key) = keys.channels.get(channel) else { continue };
            if documents::is_past_half(document, now)? {
                self.check_key(role, key)?;
                delegated.insert(role.clone(), documents::again(document, documents::CHANNEL_LIFE, key, now)?);
            }
        }
        let targets = match &keys.targets {
            Some(key) if documents::is_past_half(held.targets, now)? => {
                self.check_key("targets", key)?;
                Some(documents::again(held.targets, documents::TARGETS_LIFE, key, now)?)
            }
            _ => None,
        };
        self.update(&delegated, targets, keys, now)
    }

    /// The metadata, verified.
    #[must_use]
    pub fn verified(&self) -> &Verified {
        &self.verified
    }

    /// The repository's name.
    #[must_use]
    pub fn id(&self) -> RepositoryId {
        self.verified.repository()
    }

    /// The trust pack, as it travels.
    #[must_use]
    pub fn pack(&self) -> &[u8] {
        self.verified.pack()
    }

    /// The apps and channels that there are, in the order of their roles.
    pub fn channels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.channels.values().map(|(app, channel)| (app.as_str(), channel.as_str()))
    }

    /// The newest release of a channel.
    #[must_use]
    pub fn newest(&self, channel: &str) -> Option<&Release> {
        self.verified.releases().filter(|release| release.channel == channel).last()
    }

    /// The number that a channel's next release has.
    #[must_use]
    pub fn next_seq(&self, channel: &str) -> u64 {
        self.newest(channel).map_or(1, |newest| newest.seq + 1)
    }

    /// The documents as static files of a TUF repository with consistent snapshots, by name: `1.root.json`,
    /// `4.snapshot.json`, ... `timestamp.json` is to be written last, since it makes the others count.
    #[must_use]
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let held = self.documents();
        let mut files = BTreeMap::new();
        for (root, version) in held.roots.iter().zip(1..) {
            files.insert(format!("{version}.root.json"), root.to_vec());
        }
        files.insert(format!("{}.snapshot.json", self.verified.snapshot_version), held.snapshot.to_vec());
        files.insert(format!("{}.targets.json", self.version("targets")), held.targets.to_vec());
        for (role, document) in &held.delegated {
            files.insert(format!("{}.{role}.json", self.version(role)), document.to_vec());
        }
        files.insert("timestamp.json".to_owned(), held.timestamp.to_vec());
        files
    }

    fn from_verified(verified: Verified) -> Result<Self, WriteError> {
        let channels = documents::channels(verified.documents().targets)?;
        Ok(Self { verified, channels })
    }

    fn documents(&self) -> Pack<'_> {
        self.verified.documents()
    }

    fn version(&self, role: &str) -> u64 {
        self.verified.pinned.get(&format!("{role}.json")).copied().unwrap_or_default()
    }

    fn role(&self, app: &str, channel: &str) -> Result<String, WriteError> {
        let role = releases::role_name(app, channel);
        let is = |(a, c): &(String, String)| a == app && c == channel;
        if self.channels.get(&role).is_some_and(is) {
            return Ok(role);
        }
        let has: Vec<String> = self.channels().map(|(app, channel)| format!("{app}/{channel}")).collect();
        Err(WriteError::UnknownChannel { app: app.to_owned(), channel: channel.to_owned(), has: has.join(", ") })
    }

    /// Signed time only goes up, even if the publisher's clock went back.
    fn not_before_issued(&self, now: Wall) -> Wall {
        now.max(self.verified.issued())
    }

    fn check_key(&self, role: &str, key: &SigningKey) -> Result<(), WriteError> {
        let held = self.documents();
        let root = held.roots.last().expect("a pack has at least one root");
        if documents::names_key(root, held.targets, role, &key_id(&key.verifying_key()))? {
            Ok(())
        } else {
            Err(WriteError::WrongKey { role: role.to_owned() })
        }
    }

    /// Puts new documents in the place of old ones and signs snapshot and timestamp over all of them.
    fn update(
        &mut self,
        delegated: &BTreeMap<String, Vec<u8>>,
        targets: Option<Vec<u8>>,
        keys: &Keys,
        now: Wall,
    ) -> Result<(), WriteError> {
        self.check_key("snapshot", &keys.snapshot)?;
        self.check_key("timestamp", &keys.timestamp)?;
        let held = self.documents();
        let mut all: BTreeMap<String, Vec<u8>> =
            held.delegated.iter().map(|(role, document)| ((*role).to_owned(), document.to_vec())).collect();
        all.extend(delegated.iter().map(|(role, document)| (role.clone(), document.clone())));
        let targets = targets.unwrap_or_else(|| held.targets.to_vec());
        let version = self.verified.snapshot_version + 1;
        let snapshot = documents::snapshot(version, &targets, &all, &keys.snapshot, now)?;
        let version = self.verified.timestamp_version + 1;
        let timestamp = documents::timestamp(version, &snapshot, &keys.timestamp, now)?;
        let pack = join(&held.roots, &timestamp, &snapshot, &targets, &all)?;
        self.verified = verify(self.id(), Some(&self.verified), &pack)?;
        Ok(())
    }
}

fn join(
    roots: &[&[u8]],
    timestamp: &[u8],
    snapshot: &[u8],
    targets: &[u8],
    delegated: &BTreeMap<String, Vec<u8>>,
) -> Result<Vec<u8>, WriteError> {
    let delegated = delegated.iter().map(|(role, document)| (role.as_str(), document.as_slice())).collect();
    let pack = Pack { roots: roots.to_vec(), timestamp, snapshot, targets, delegated };
    Ok(pack.encode().map_err(TrustError::from)?)
}

fn channel_key<'a>(keys: &'a Keys, channel: &str) -> Result<&'a SigningKey, WriteError> {
    keys.channels.get(channel).ok_or_else(|| WriteError::MissingKey { role: format!("channel {channel}") })
}

fn check_distinct(keys: &Keys) -> Result<(), WriteError> {
    let mut seen: BTreeMap<[u8; 32], String> = BTreeMap::new();
    let fixed = [("root", keys.root.as_ref()), ("targets", keys.targets.as_ref())];
    let online = [("snapshot", Some(&keys.snapshot)), ("timestamp", Some(&keys.timestamp))];
    let named = fixed.into_iter().chain(online).filter_map(|(role, key)| Some((role.to_owned(), key?)));
    let channels = keys.channels.iter().map(|(channel, key)| (format!("channel {channel}"), key));
    for (role, key) in named.chain(channels) {
        if let Some(first) = seen.insert(key.verifying_key().to_bytes(), role.clone()) {
            return Err(WriteError::SharedKey { first, second: role });
        }
    }
    Ok(())
}
