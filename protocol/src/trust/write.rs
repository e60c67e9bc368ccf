//! The publisher's side of trust: makes, extends and refreshes a repository's signed metadata. Keys and time are
//! arguments. Whatever is written is verified by the reader before it is handed out (`protocol/README.md` section 4).

mod change;
mod documents;
mod draft;
mod error;
mod roles;
mod summary;

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;

use super::{Fleet, TrustError, Verified, checkpoint::Checkpoint, pack::Pack, releases, verify, version};
use crate::{
    Hash, NodeId, RepositoryId, Wall, label,
    release::{Payload, Release, ReleaseError},
    rules::Rules,
};
pub use change::Change;
pub(in crate::trust) use documents::canonical;
pub use documents::{key_id, sign};
use draft::Signed;
pub use draft::{Draft, MAX_DRAFT, Missing, When};
pub use error::WriteError;
pub use roles::{Role, Signers, parse_key};
pub use summary::Difference;

/// Releases that a channel's document keeps; the oldest make room.
pub const KEPT_RELEASES: usize = 50;

/// Private keys, one for each role and none for two of them: what a repository starts with. Roles may get more keys,
/// and thresholds, by a [`Change`].
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

impl Keys {
    /// Every key, whatever its role.
    #[must_use]
    pub fn all(&self) -> Vec<&SigningKey> {
        let fixed = self.root.iter().chain(&self.targets).chain([&self.snapshot, &self.timestamp]);
        fixed.chain(self.channels.values()).collect()
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("channels", &self.channels.keys()).finish_non_exhaustive()
    }
}

/// A repository as its publisher holds it: metadata that verifies, and can be extended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    verified: Verified,
    /// App and channel by role.
    channels: BTreeMap<String, (String, String)>,
    /// Where its log of acts stands once the next snapshot is signed.
    log: Option<Checkpoint>,
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
            delegated.insert(role, sign(&documents::channel(now)?.into(), &[channel_key(keys, channel)?]));
        }
        let snapshot = sign(&documents::snapshot(1, &targets, &delegated, None, now)?.into(), &[&keys.snapshot]);
        let timestamp = sign(&documents::timestamp(1, &snapshot, now)?.into(), &[&keys.timestamp]);
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
        let draft = self.propose_release(release, payload_sha256, now)?;
        self.check_named(&Role::Channel(release.channel.clone()), channel_key(keys, &release.channel)?)?;
        self.check_named(&Role::Snapshot, &keys.snapshot)?;
        self.check_named(&Role::Timestamp, &keys.timestamp)?;
        self.sign_and_submit(draft, &keys.all(), now)
    }

    /// Drafts a release, to be signed by the channel's keys and then given to [`Repository::submit`].
    ///
    /// # Errors
    /// As [`Repository::release`], except for keys.
    pub fn propose_release(&self, release: &Release, payload_sha256: [u8; 32], now: Wall) -> Result<Draft, WriteError> {
        release.check()?;
        let role = self.role(&release.app, &release.channel)?;
        check_newer(&self.verified, release)?;
        let now = self.not_before_issued(now);
        let held = self.documents();
        let document = held.delegated(&role).expect("the pack carries the role of every channel");
        let signed = documents::with_release(document, release, payload_sha256, now)?;
        Draft::new(self.verified.clone(), vec![(Role::Channel(release.channel.clone()), signed)])
    }

    /// Drafts other rules for a release of a channel, to be signed by the channel's keys.
    ///
    /// # Errors
    /// [`WriteError::UnknownRelease`] if the channel does not list it, [`WriteError::NoChange`] if it has these rules,
    /// [`WriteError::Release`] if they break a bound.
    pub fn propose_rules(&self, channel: &str, seq: u64, rules: &Rules, now: Wall) -> Result<Draft, WriteError> {
        let app = self.app();
        let role = self.role(app, channel)?;
        let before = self.listed(channel, seq)?;
        rules.check().map_err(ReleaseError::from)?;
        if before.rules == *rules {
            return Err(WriteError::NoChange(format!("release {seq} of {channel} has these rules already")));
        }
        let now = self.not_before_issued(now);
        let held = self.documents();
        let document = held.delegated(&role).expect("the pack carries the role of every channel");
        let signed = documents::with_rules(document, before, rules, now)?;
        Draft::new(self.verified.clone(), vec![(Role::Channel(channel.to_owned()), signed)])
    }

    /// Whether a version may be the next on a channel.
    ///
    /// # Errors
    /// [`WriteError::VersionNotNewer`] if the channel lists it, or a later one.
    pub fn check_version(&self, channel: &str, version: &str) -> Result<(), WriteError> {
        check_version(&self.verified, channel, version)
    }

    /// A release that a channel lists.
    ///
    /// # Errors
    /// [`WriteError::UnknownRelease`] if there is none of that number.
    pub fn listed(&self, channel: &str, seq: u64) -> Result<&Release, WriteError> {
        let is = |release: &&Release| release.channel == channel && release.seq == seq;
        let unknown = || WriteError::UnknownRelease { channel: channel.to_owned(), seq };
        self.verified.releases().find(is).ok_or_else(unknown)
    }

    /// Drafts a change of channels or keys: the next root or targets, and whatever its old signatures no longer cover.
    ///
    /// # Errors
    /// [`WriteError`] if the change is not possible.
    pub fn propose(&self, change: &Change, now: Wall) -> Result<Draft, WriteError> {
        change::propose(self, change, self.not_before_issued(now))
    }

    /// Drafts that a member of a fleet, by all certificates up to this serial, is none any more.
    ///
    /// # Errors
    /// [`WriteError::UnknownRole`] without such a fleet, [`WriteError::NotRevocable`] if there is nothing to revoke.
    pub fn propose_revocation(&self, fleet: &str, node: NodeId, serial: u64, now: Wall) -> Result<Draft, WriteError> {
        let role = Role::Fleet(fleet.to_owned());
        let held = self.verified.fleet(fleet).ok_or_else(|| WriteError::UnknownRole(role.clone()))?;
        let refusal = || WriteError::NotRevocable { fleet: fleet.to_owned(), node };
        let revoked = held.revoked.with(node, serial).ok_or_else(refusal)?;
        let documents = self.documents();
        let document = documents.delegated(&role.to_string()).expect("the pack carries every delegated role");
        let signed = documents::with_revoked(document, fleet, &revoked, self.not_before_issued(now))?;
        Draft::new(self.verified.clone(), vec![(role, signed)])
    }

    /// Drafts the next epoch of a fleet, whose key `list` gives to its devices; `list_sha256` is for standard TUF clients.
    ///
    /// # Errors
    /// [`WriteError::UnknownRole`] without such a fleet, [`WriteError::EpochNotNext`] for another number than the next.
    pub fn propose_keys(
        &self,
        fleet: &str,
        epoch: u64,
        list: &Payload,
        list_sha256: [u8; 32],
        now: Wall,
    ) -> Result<Draft, WriteError> {
        let role = Role::Fleet(fleet.to_owned());
        let held = self.verified.fleet(fleet).ok_or_else(|| WriteError::UnknownRole(role.clone()))?;
        check_next_epoch(held, fleet, epoch)?;
        let documents = self.documents();
        let document = documents.delegated(&role.to_string()).expect("the pack carries every delegated role");
        let signed = documents::with_keys(document, fleet, epoch, list, list_sha256, self.not_before_issued(now))?;
        Draft::new(self.verified.clone(), vec![(role, signed)])
    }

    /// Signs a draft with every key that may and submits it: the one step of who holds all keys.
    ///
    /// # Errors
    /// As [`Repository::submit`].
    pub fn sign_and_submit(&mut self, mut draft: Draft, keys: &[&SigningKey], now: Wall) -> Result<(), WriteError> {
        draft.sign_where_named(keys);
        self.submit(&draft, keys, now)
    }

    /// Takes in a draft that has all its signatures, and signs snapshot and timestamp over it with those of `online`
    /// that may.
    ///
    /// # Errors
    /// [`WriteError::MovedOn`] if what it follows on is no longer the newest, [`WriteError::Unsigned`] if signatures are
    /// missing, of the draft or of snapshot and timestamp; then nothing is changed.
    pub fn submit(&mut self, draft: &Draft, online: &[&SigningKey], now: Wall) -> Result<(), WriteError> {
        let draft = draft.rebased(&self.verified)?;
        let missing = draft.missing();
        if !missing.is_empty() {
            return Err(WriteError::Unsigned(missing));
        }
        self.update(draft.into_documents(), online, self.not_before_issued(now))
    }

    /// Takes in newer metadata of this repository, which was written elsewhere.
    ///
    /// # Errors
    /// [`WriteError::Trust`] if it does not verify or is not newer; then nothing is changed.
    pub fn adopt(&mut self, pack: &[u8]) -> Result<(), WriteError> {
        *self = Self::from_verified(verify(self.id(), Some(&self.verified), pack)?)?;
        Ok(())
    }

    /// Signs anew what would expire: the timestamp and snapshot each time, and of the targets and channels those that
    /// are past half of their time and whose key is at hand.
    ///
    /// # Errors
    /// [`WriteError`] if a key is wrong; then nothing is changed.
    pub fn refresh(&mut self, keys: &Keys, now: Wall) -> Result<(), WriteError> {
        self.check_named(&Role::Snapshot, &keys.snapshot)?;
        self.check_named(&Role::Timestamp, &keys.timestamp)?;
        self.renew(&keys.all(), now)
    }

    /// As [`Repository::refresh`], with any keys: each signs where the repository names it, and what they can't sign to
    /// its threshold stays as it is. Snapshot and timestamp are a must.
    ///
    /// # Errors
    /// [`WriteError::Unsigned`] if snapshot or timestamp lack signatures; then nothing is changed.
    pub fn renew(&mut self, keys: &[&SigningKey], now: Wall) -> Result<(), WriteError> {
        let now = self.not_before_issued(now);
        let held = self.documents();
        let mut renewed = Signed::default();
        for (role, signers) in self.signers() {
            let document = match &role {
                Role::Targets => held.targets,
                Role::Channel(_) | Role::Fleet(_) => {
                    let document = held.delegated(&role.document(self.app()));
                    document.expect("the pack carries every delegated role")
                }
                _ => continue,
            };
            let life = documents::life(&role);
            if !documents::is_past_half(document, now)? {
                continue;
            }
            let Ok(document) = documents::signed_by(&documents::again(document, life, now)?, &role, &signers, keys)
            else {
                continue;
            };
            match role {
                Role::Targets => renewed.targets = Some(document),
                role => drop(renewed.delegated.insert(role.document(self.app()), document)),
            }
        }
        self.update(renewed, keys, now)
    }

    /// From the next change or renewal on, the snapshot tells that the log of acts has these lines.
    pub fn set_log<'a>(&mut self, lines: impl ExactSizeIterator<Item = &'a str>) {
        self.log = Checkpoint::of(lines);
    }

    /// Whether snapshot or timestamp are past half of the time from their signing to their expiry.
    ///
    /// # Errors
    /// [`WriteError::Trust`] for a document without its times.
    pub fn is_renewal_due(&self, now: Wall) -> Result<bool, WriteError> {
        Ok(documents::is_online_past_half(self.documents().snapshot, self.documents().timestamp, now)?)
    }

    /// Who may sign what.
    #[must_use]
    pub fn signers(&self) -> BTreeMap<Role, Signers> {
        let held = self.documents();
        let root = held.roots.last().expect("a pack has at least one root");
        roles::of_documents(root, held.targets).expect("verified documents are read back")
    }

    /// The name of what offline keys signed: roots, targets and channels. A renewal of snapshot and timestamp leaves it.
    #[must_use]
    pub fn offline_state(&self) -> Hash {
        let held = self.documents();
        let channels = held.delegated.iter().map(|(_, document)| *document);
        let names: Vec<u8> = (held.roots.iter().copied().chain([held.targets]).chain(channels))
            .flat_map(|document| Hash::of(document).0)
            .collect();
        Hash::of(&names)
    }

    /// The app.
    #[must_use]
    pub fn app(&self) -> &str {
        let first = self.channels.values().next();
        first.map(|(app, _)| app.as_str()).expect("a repository has at least one channel")
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
        newest(&self.verified, channel)
    }

    /// The number that a channel's next release has.
    #[must_use]
    pub fn next_seq(&self, channel: &str) -> u64 {
        self.newest(channel).map_or(1, |newest| newest.seq + 1)
    }

    /// The documents as static files, by name: [`Verified::files`]. `timestamp.json` is to be written last, since it makes
    /// the others count.
    #[must_use]
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        self.verified.files()
    }

    fn from_verified(verified: Verified) -> Result<Self, WriteError> {
        let channels = documents::channels(verified.documents().targets)?;
        let log = verified.checkpoint().cloned();
        Ok(Self { verified, channels, log })
    }

    fn documents(&self) -> Pack<'_> {
        self.verified.documents()
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

    fn check_named(&self, role: &Role, key: &SigningKey) -> Result<(), WriteError> {
        let named = self.signers().remove(role).unwrap_or_default();
        if named.keys.contains_key(&key_id(&key.verifying_key())) {
            Ok(())
        } else {
            Err(WriteError::WrongKey { role: role.to_string() })
        }
    }

    /// Puts new documents in the place of old ones and signs snapshot and timestamp over all of them.
    fn update(&mut self, new: Signed, keys: &[&SigningKey], now: Wall) -> Result<(), WriteError> {
        let held = self.documents();
        let mut roots = held.roots.clone();
        roots.extend(new.root.as_deref());
        let targets = new.targets.unwrap_or_else(|| held.targets.to_vec());
        let mut all: BTreeMap<String, Vec<u8>> =
            held.delegated.iter().map(|(role, document)| ((*role).to_owned(), document.to_vec())).collect();
        all.extend(new.delegated);
        let newest = roots.last().expect("a pack has at least one root");
        let mut signers = roles::of_documents(newest, &targets)?;
        let mut sign = |signed, role: Role| {
            let signers = signers.remove(&role).unwrap_or_default();
            documents::signed_by(&signed, &role, &signers, keys)
        };
        let version = self.verified.0.snapshot_version + 1;
        let snapshot = sign(documents::snapshot(version, &targets, &all, self.log.as_ref(), now)?, Role::Snapshot)?;
        let version = self.verified.timestamp_version() + 1;
        let timestamp = sign(documents::timestamp(version, &snapshot, now)?, Role::Timestamp)?;
        let pack = join(&roots, &timestamp, &snapshot, &targets, &all)?;
        *self = Self::from_verified(verify(self.id(), Some(&self.verified), &pack)?)?;
        Ok(())
    }
}

/// Epochs are counted without a gap.
fn check_next_epoch(held: &Fleet, fleet: &str, offered: u64) -> Result<(), WriteError> {
    let newest = held.keys.last_key_value().map_or(0, |(newest, _)| *newest);
    let fleet = fleet.to_owned();
    if offered == newest + 1 { Ok(()) } else { Err(WriteError::EpochNotNext { fleet, newest, offered }) }
}

fn newest<'a>(verified: &'a Verified, channel: &str) -> Option<&'a Release> {
    verified.releases().filter(|release| release.channel == channel).last()
}

/// Number and version of a channel's releases only go up; an earlier version comes back as what it was, under a new
/// number.
fn check_newer(verified: &Verified, release: &Release) -> Result<(), WriteError> {
    let Some(newest) = newest(verified, &release.channel) else { return Ok(()) };
    let channel = release.channel.clone();
    if release.seq <= newest.seq {
        return Err(WriteError::SeqNotNewer { channel, newest: newest.seq, offered: release.seq });
    }
    let of_channel = || verified.releases().filter(|listed| listed.channel == release.channel);
    if let Some(seq) = release.rules.brings_back {
        let what =
            |release: &Release| (release.version.clone(), release.bundle, release.payload.clone(), release.enc.clone());
        let is = |listed: &Release| listed.seq == seq && what(listed) == what(release);
        return if of_channel().any(is) { Ok(()) } else { Err(WriteError::UnknownRelease { channel, seq }) };
    }
    check_version(verified, &release.channel, &release.version)
}

/// A version is newer than every one that its channel lists.
fn check_version(verified: &Verified, channel: &str, version: &str) -> Result<(), WriteError> {
    let is_newer = |listed: &Release| version::is_newer(version, &listed.version);
    match verified.releases().find(|listed| listed.channel == channel && !is_newer(listed)) {
        Some(listed) => {
            let (newest, offered) = (listed.version.clone(), version.to_owned());
            Err(WriteError::VersionNotNewer { channel: channel.to_owned(), newest, offered })
        }
        None => Ok(()),
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
