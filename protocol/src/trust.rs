//! Trust: from bytes of strangers to metadata that the publisher's keys signed.
//!
//! Metadata is TUF 1.0.x and travels as a trust pack. [`verify`] takes a pack whole or not at all: the root chain from
//! the repository's name, then timestamp, snapshot, targets and the role of every channel, each signed to its
//! threshold and pinned by the one above it, none older than what is held (`protocol/README.md` sections 4 and 5).
//! Expiry is not judged here: devices boot without a clock, so `policy` weighs [`Verified::expires`] later.

pub mod audit;
pub(crate) mod certificate;
pub mod checkpoint;
pub mod client;
mod document;
mod error;
mod files;
mod fleets;
mod memory;
pub mod pack;
mod provider;
mod releases;
pub mod version;
pub mod write;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use sigstore_tuf::{MetaFile, Metadata, RoleKeys, Root, Snapshot, Targets, Timestamp, TrustedMetadataSet};

use crate::{
    Hash, RepositoryId, Wall,
    release::{Payload, Release},
    seal::Epoch,
};
use checkpoint::Checkpoint;
use document::Authority;
pub use error::TrustError;
pub use fleets::Fleet;
pub use memory::Memory;
use pack::{MAX_TIMESTAMP, Pack};
use write::Signers;

/// Seconds from a timestamp's signing to its expiry at most: 366 days.
pub const MAX_LIFETIME: i64 = 366 * 24 * 3600;

/// Metadata of one repository whose every signature, version, length and hash was checked. Made by [`verify`] alone.
///
/// Written down as its pack, which is verified again when it is read back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "(RepositoryId, Vec<u8>)", into = "(RepositoryId, Vec<u8>)")]
pub struct Verified(Arc<Content>);

/// What was verified. All who hold it share it: it never changes.
#[derive(Debug, PartialEq, Eq)]
struct Content {
    repository: RepositoryId,
    root_version: u64,
    timestamp_version: u64,
    snapshot_version: u64,
    /// Versions that the snapshot pins, by file name: the floors of what comes next.
    pinned: BTreeMap<String, u64>,
    pack: Arc<[u8]>,
    pack_hash: Hash,
    checkpoint: Option<Checkpoint>,
    issued: Wall,
    expires: Wall,
    releases: Vec<Release>,
    fleets: BTreeMap<String, Fleet>,
}

impl From<Verified> for (RepositoryId, Vec<u8>) {
    fn from(verified: Verified) -> Self {
        (verified.repository(), verified.pack().to_vec())
    }
}

impl TryFrom<(RepositoryId, Vec<u8>)> for Verified {
    type Error = TrustError;

    fn try_from((repository, pack): (RepositoryId, Vec<u8>)) -> Result<Self, TrustError> {
        verify(repository, None, &pack)
    }
}

impl Verified {
    /// Which repository.
    #[must_use]
    pub fn repository(&self) -> RepositoryId {
        self.0.repository
    }

    /// The newest root's version.
    #[must_use]
    pub fn root_version(&self) -> u64 {
        self.0.root_version
    }

    /// The timestamp's version.
    #[must_use]
    pub fn timestamp_version(&self) -> u64 {
        self.0.timestamp_version
    }

    /// The trust pack that was verified, as it travels.
    #[must_use]
    pub fn pack(&self) -> &Arc<[u8]> {
        &self.0.pack
    }

    /// The pack's name.
    #[must_use]
    pub fn pack_hash(&self) -> Hash {
        self.0.pack_hash
    }

    /// The signed timestamp: what an announcement carries.
    #[must_use]
    pub fn timestamp(&self) -> &[u8] {
        self.documents().timestamp
    }

    /// When the timestamp was signed, by its own words (`x-issued`).
    #[must_use]
    pub fn issued(&self) -> Wall {
        self.0.issued
    }

    /// The earliest expiry of all documents.
    #[must_use]
    pub fn expires(&self) -> Wall {
        self.0.expires
    }

    /// Where the publisher's log of acts stands, if it keeps one.
    #[must_use]
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.0.checkpoint.as_ref()
    }

    /// The releases of every channel, in the order of channel and number.
    pub fn releases(&self) -> impl Iterator<Item = &Release> {
        self.0.releases.iter()
    }

    /// A fleet, if the targets delegate to it.
    #[must_use]
    pub fn fleet(&self, name: &str) -> Option<&Fleet> {
        self.0.fleets.get(name)
    }

    /// All fleets, by name.
    pub fn fleets(&self) -> impl Iterator<Item = (&str, &Fleet)> {
        self.0.fleets.iter().map(|(name, fleet)| (name.as_str(), fleet))
    }

    /// The lists of keys of all fleets, by epoch.
    pub fn keys(&self) -> impl Iterator<Item = (Epoch, &Payload)> {
        let epoch = |fleet: &str, number| Epoch { repository: self.0.repository, fleet: fleet.to_owned(), number };
        self.fleets()
            .flat_map(move |(name, fleet)| fleet.keys.iter().map(move |(number, list)| (epoch(name, *number), list)))
    }

    fn documents(&self) -> Pack<'_> {
        Pack::decode(&self.0.pack).expect("a verified pack was decoded before")
    }
}

/// What a signed timestamp says to one who holds verified metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announced {
    /// There is newer metadata.
    Newer {
        /// The timestamp's version.
        version: u64,
    },
    /// What is held is as new, or newer.
    NotNewer,
    /// It is of a newer root than the one held, so it can't be judged: ask for the pack, and don't forward.
    OtherRoot,
}

/// Verifies a trust pack whole. `held` is what is known of the repository already; nothing may go back behind it.
///
/// # Errors
/// [`TrustError`] for the first thing that is wrong; [`TrustError::is_lie`] says whether its sender is to blame.
///
/// # Panics
/// If `held` is of another repository: the caller's mistake.
pub fn verify(repository: RepositoryId, held: Option<&Verified>, pack: &[u8]) -> Result<Verified, TrustError> {
    assert!(held.is_none_or(|held| held.repository() == repository), "held metadata is of the same repository");
    provider::install();
    let documents = Pack::decode(pack)?;
    let (roots, mut trusted) = read_roots(repository, &documents.roots)?;
    let root = roots.last().expect("a pack has at least one root");
    check_root_floor(held, &documents.roots)?;

    let timestamp = read_timestamp(root, documents.timestamp)?;
    // Expiry is the policy's question, so each step is asked as of the earliest time there is.
    let now = jiff::Timestamp::MIN;
    trusted.update_timestamp(documents.timestamp, now).map_err(|error| TrustError::tuf("the timestamp", &error))?;
    let held = held.map(|held| Floor::new(held, &roots));
    check_timestamp_floor(held.as_ref(), &timestamp, root.version)?;
    let issued = document::issued("the timestamp", &timestamp.signed().extra)?;
    if let Some(Floor { held, rotated: false }) = &held
        && issued < held.issued()
    {
        return Err(TrustError::Earlier { held: held.issued(), offered: issued });
    }
    check_lifetime(issued, wall(timestamp.signed().expires))?;

    check_pin("the snapshot", timestamp.signed().snapshot_meta(), documents.snapshot)?;
    let snapshot: Metadata<Snapshot> = document::read("the snapshot", documents.snapshot)?;
    check_signed_by_root("the snapshot", &snapshot, root, "snapshot")?;
    trusted.update_snapshot(documents.snapshot, now).map_err(|error| TrustError::tuf("the snapshot", &error))?;
    let pinned: BTreeMap<String, u64> =
        snapshot.signed().meta.iter().map(|(name, meta)| (name.clone(), meta.version)).collect();
    let checkpoint = Checkpoint::read(&snapshot.signed().extra);
    let checkpoint = checkpoint.map_err(|problem| TrustError::malformed("the snapshot", problem))?;
    // A second history is told as what it is, before what it takes back.
    check_log_floor(held.as_ref(), checkpoint.as_ref())?;
    check_snapshot_floor(held.as_ref(), snapshot.signed().version, &pinned)?;

    check_pin("the targets", snapshot.signed().meta.get("targets.json"), documents.targets)?;
    let targets: Metadata<Targets> = document::read("the targets", documents.targets)?;
    check_signed_by_root("the targets", &targets, root, "targets")?;
    trusted.update_targets(documents.targets, now).map_err(|error| TrustError::tuf("the targets", &error))?;

    let ends = [root.expires, timestamp.signed().expires, snapshot.signed().expires, targets.signed().expires];
    let delegated = read_delegated(&mut trusted, targets.signed(), snapshot.signed(), &documents)?;
    check_fleets_floor(held.as_ref(), &delegated.fleets)?;
    let expires = ends.into_iter().chain(delegated.ends).min().expect("four documents always expire");

    Ok(Verified(Arc::new(Content {
        repository,
        root_version: root.version,
        timestamp_version: timestamp.signed().version,
        snapshot_version: snapshot.signed().version,
        pinned,
        pack: pack.into(),
        pack_hash: Hash::of(pack),
        checkpoint,
        issued,
        expires: wall(expires),
        releases: delegated.releases,
        fleets: delegated.fleets,
    })))
}

/// Judges the signed timestamp of an announcement against held metadata, as a relay does before it forwards.
/// `root_version` is the root that the announcement claims to be signed under.
///
/// # Errors
/// [`TrustError`] if the timestamp is not signed by the held root's timestamp role, or is another one under the
/// version held: a lie in each case.
pub fn check_announcement(held: &Verified, root_version: u64, timestamp: &[u8]) -> Result<Announced, TrustError> {
    provider::install();
    match root_version.cmp(&held.root_version()) {
        std::cmp::Ordering::Less => return Ok(Announced::NotNewer),
        std::cmp::Ordering::Greater => return Ok(Announced::OtherRoot),
        std::cmp::Ordering::Equal => {}
    }
    let documents = held.documents();
    let root = documents.roots.last().expect("a pack has at least one root");
    let root: Metadata<Root> = document::read("the held root", root)?;
    let offered = read_timestamp(root.signed(), timestamp)?;
    let version = offered.signed().version;
    if version > held.timestamp_version() {
        return Ok(Announced::Newer { version });
    }
    let same = read_timestamp(root.signed(), documents.timestamp)?.signed_canonical() == offered.signed_canonical();
    if version == held.timestamp_version() && !same {
        return Err(TrustError::Equivocation { document: "the timestamp".to_owned(), version });
    }
    Ok(Announced::NotNewer)
}

/// Walks the root chain: the first one named by the repository, each next one signed by the one before and by itself.
fn read_roots(repository: RepositoryId, chain: &[&[u8]]) -> Result<(Vec<Root>, TrustedMetadataSet), TrustError> {
    let found = RepositoryId::of_root(chain[0]);
    if found != repository {
        return Err(TrustError::WrongRepository { expected: repository, found });
    }
    let mut roots: Vec<Root> = Vec::with_capacity(chain.len());
    let mut trusted = None;
    for (bytes, version) in chain.iter().zip(1_u64..) {
        let name = format!("root {version}");
        let root: Metadata<Root> = document::read(&name, bytes)?;
        check_root(&name, root.signed(), version)?;
        let before = roots.last();
        let authorities: Vec<Authority<'_>> =
            before.into_iter().chain([root.signed()]).map(|root| authority(root, "root")).collect::<Result<_, _>>()?;
        document::check_signatures(&name, &root, &authorities)?;
        let step = match trusted.take() {
            None => TrustedMetadataSet::from_root(bytes),
            Some(mut set) => TrustedMetadataSet::update_root(&mut set, bytes).map(|()| set),
        };
        trusted = Some(step.map_err(|error| TrustError::tuf(&name, &error))?);
        roots.push(root.into_signed());
    }
    Ok((roots, trusted.expect("a pack has at least one root")))
}

fn check_root(name: &str, root: &Root, version: u64) -> Result<(), TrustError> {
    if root.version != version {
        let problem = format!("version {version} must stand here, it says {}", root.version);
        return Err(TrustError::malformed(name, problem));
    }
    if !root.consistent_snapshot {
        return Err(TrustError::malformed(name, "it does not use consistent snapshots"));
    }
    let roles = ["root", "timestamp", "snapshot", "targets"];
    if roles.iter().any(|role| !root.roles.contains_key(*role)) {
        return Err(TrustError::malformed(name, "it lacks one of the four roles"));
    }
    document::check_keys(name, &root.keys, root.roles.iter().map(|(role, keys)| (role.as_str(), keys.clone())))
}

fn authority<'a>(root: &'a Root, role: &str) -> Result<Authority<'a>, TrustError> {
    let role = root.role(role).ok_or_else(|| TrustError::malformed("the root", "it lacks one of the four roles"))?;
    Ok(Authority { keys: &root.keys, role })
}

fn check_signed_by_root<T: sigstore_tuf::Role>(
    name: &str,
    metadata: &Metadata<T>,
    root: &Root,
    role: &str,
) -> Result<(), TrustError> {
    let authority = authority(root, role)?;
    document::check_signatures(name, metadata, std::slice::from_ref(&authority))?;
    metadata.verify_threshold(authority.keys, authority.role, role).map_err(|error| TrustError::tuf(name, &error))
}

fn read_timestamp(root: &Root, bytes: &[u8]) -> Result<Metadata<Timestamp>, TrustError> {
    if bytes.len() > MAX_TIMESTAMP {
        return Err(TrustError::malformed("the timestamp", format!("it is over {MAX_TIMESTAMP} bytes")));
    }
    let timestamp = document::read("the timestamp", bytes)?;
    check_signed_by_root("the timestamp", &timestamp, root, "timestamp")?;
    Ok(timestamp)
}

/// A timestamp is good for a while from its signing on, and no longer than a year: so who stole its key, and keeps a device
/// from all others, can't have it believe the same for good.
fn check_lifetime(issued: Wall, expires: Wall) -> Result<(), TrustError> {
    let problem = match expires.0.saturating_sub(issued.0) {
        ..=0 => "it was issued at or after its own expiry",
        1..=MAX_LIFETIME => return Ok(()),
        _ => "it is good for more than 366 days",
    };
    Err(TrustError::malformed("the timestamp", problem))
}

/// Checks a document's bytes against the signed document above it, before they are parsed. Length and SHA-256 are
/// optional in TUF; here they are not, so that a timestamp fixes every byte below it.
fn check_pin(name: &str, pin: Option<&MetaFile>, bytes: &[u8]) -> Result<(), TrustError> {
    let pin = pin.ok_or_else(|| TrustError::malformed(name, "the document above does not name it"))?;
    let hash = pin.hashes.as_ref().and_then(|hashes| hashes.get("sha256"));
    let (Some(length), Some(hash)) = (pin.length, hash) else {
        return Err(TrustError::malformed(name, "the document above does not give its length and SHA-256"));
    };
    if length != bytes.len() as u64 || *hash != document::sha256(bytes) {
        return Err(TrustError::Mismatch {
            document: name.to_owned(),
            problem: format!("{} bytes with another SHA-256 or length", bytes.len()),
        });
    }
    Ok(())
}

/// What the delegated roles say.
struct Delegated {
    releases: Vec<Release>,
    fleets: BTreeMap<String, Fleet>,
    ends: Option<jiff::Timestamp>,
}

/// Reads the role of every channel and fleet, in the order of their delegations. The pack holds these roles and no other.
fn read_delegated(
    trusted: &mut TrustedMetadataSet,
    targets: &Targets,
    snapshot: &Snapshot,
    documents: &Pack<'_>,
) -> Result<Delegated, TrustError> {
    // A standard client would find a target here before it looks into a delegated role.
    if targets.targets.keys().any(|path| path.starts_with("app/") || path.starts_with("fleet/")) {
        return Err(TrustError::malformed("the targets", "releases and fleets stand in roles of their own, not here"));
    }
    let Some(delegations) = &targets.delegations else {
        return Err(TrustError::malformed("the targets", "they delegate to no channel"));
    };
    let roles = &delegations.roles;
    let names: BTreeSet<&str> = roles.iter().map(|role| role.name.as_str()).collect();
    let carried = documents.delegated.iter().map(|(name, _)| *name);
    if names.len() != roles.len() || !names.iter().copied().eq(carried) {
        return Err(TrustError::malformed("the pack", "it does not carry exactly the roles that the targets name"));
    }
    let keys = roles.iter().map(|role| (role.name.as_str(), role.role_keys()));
    document::check_keys("the targets", &delegations.keys, keys)?;
    let (mut releases, mut fleets, mut ends) = (Vec::new(), BTreeMap::new(), None);
    let mut apps = BTreeSet::new();
    for role in roles {
        let name = role.name.as_str();
        let bytes = documents.delegated(name).expect("the pack carries exactly these roles");
        check_pin(name, snapshot.meta.get(&format!("{name}.json")), bytes)?;
        let metadata: Metadata<Targets> = document::read(name, bytes)?;
        let keys: RoleKeys = role.role_keys();
        document::check_signatures(name, &metadata, &[Authority { keys: &delegations.keys, role: &keys }])?;
        trusted
            .update_delegated_targets(bytes, name, "targets", jiff::Timestamp::MIN)
            .map_err(|error| TrustError::tuf(name, &error))?;
        if let Some(fleet) = fleets::name(role) {
            let signers = Signers::of(&keys, &delegations.keys);
            fleets.insert(fleet.to_owned(), fleets::read(metadata.signed(), fleet, signers)?);
        } else {
            let (app, channel) = releases::channel(role)?;
            apps.insert(app);
            releases.extend(releases::read(metadata.signed(), app, channel)?);
        }
        let end = metadata.signed().expires;
        ends = Some(ends.map_or(end, |ends: jiff::Timestamp| ends.min(end)));
    }
    if apps.len() != 1 {
        let problem = format!("they delegate to channels of {} apps, a repository is of one", apps.len());
        return Err(TrustError::malformed("the targets", problem));
    }
    releases.sort_by(|a, b| (&a.channel, a.seq, &a.app).cmp(&(&b.channel, b.seq, &b.app)));
    Ok(Delegated { releases, fleets, ends })
}

/// What is held, as the floor of what is offered.
struct Floor<'a> {
    held: &'a Verified,
    /// Whether a newer root gave the timestamp or snapshot other keys: then their old versions are void, which is how
    /// a repository recovers when a stolen key signed versions far ahead (TUF 5.3.11).
    rotated: bool,
}

impl<'a> Floor<'a> {
    fn new(held: &'a Verified, roots: &[Root]) -> Self {
        let known = usize::try_from(held.root_version()).unwrap_or(usize::MAX).min(roots.len());
        let rotated = roots[known - 1..].windows(2).any(|pair| {
            ["timestamp", "snapshot"].iter().any(|role| pair[0].roles.get(*role) != pair[1].roles.get(*role))
        });
        Self { held, rotated }
    }
}

fn old(document: &str, held: u64, offered: u64) -> TrustError {
    TrustError::Old { document: document.to_owned(), held, offered }
}

fn check_root_floor(held: Option<&Verified>, offered: &[&[u8]]) -> Result<(), TrustError> {
    let Some(held) = held else { return Ok(()) };
    let known = held.documents().roots;
    // The keys of a root that was replaced may be stolen: a second history from there is refused.
    if let Some(at) = known.iter().zip(offered).position(|(known, offered)| known != offered) {
        return Err(TrustError::Equivocation { document: "the root".to_owned(), version: at as u64 + 1 });
    }
    if offered.len() < known.len() { Err(old("the root", held.root_version(), offered.len() as u64)) } else { Ok(()) }
}

fn check_timestamp_floor(
    floor: Option<&Floor<'_>>,
    timestamp: &Metadata<Timestamp>,
    root_version: u64,
) -> Result<(), TrustError> {
    let Some(Floor { held, rotated: false }) = floor else { return Ok(()) };
    let offered = timestamp.signed().version;
    let name = "the timestamp";
    match offered.cmp(&held.timestamp_version()) {
        std::cmp::Ordering::Greater => Ok(()),
        std::cmp::Ordering::Less => Err(old(name, held.timestamp_version(), offered)),
        std::cmp::Ordering::Equal => {
            let known: Metadata<Timestamp> = document::read(name, held.documents().timestamp)?;
            if known.signed_canonical() != timestamp.signed_canonical() {
                Err(TrustError::Equivocation { document: name.to_owned(), version: offered })
            } else if root_version == held.root_version() {
                Err(old(name, held.timestamp_version(), offered))
            } else {
                Ok(())
            }
        }
    }
}

fn check_snapshot_floor(
    floor: Option<&Floor<'_>>,
    version: u64,
    pinned: &BTreeMap<String, u64>,
) -> Result<(), TrustError> {
    let Some(Floor { held, rotated: false }) = floor else { return Ok(()) };
    let rollback =
        |document: &str, held, offered| Err(TrustError::Rollback { document: document.to_owned(), held, offered });
    if version < held.0.snapshot_version {
        return rollback("the snapshot", held.0.snapshot_version, version);
    }
    for (name, known) in &held.0.pinned {
        let offered = pinned.get(name).copied().unwrap_or(0);
        if offered < *known {
            return rollback(name, *known, offered);
        }
    }
    Ok(())
}

/// A fleet's list of revocations has a sequence of its own, so that even its own keys can't take one back unseen. It is
/// void as versions are: otherwise stolen keys could count it to its end, and nobody could be revoked any more.
fn check_fleets_floor(floor: Option<&Floor<'_>>, offered: &BTreeMap<String, Fleet>) -> Result<(), TrustError> {
    let Some(Floor { held, rotated: false }) = floor else { return Ok(()) };
    for (name, fleet) in &held.0.fleets {
        let seq = offered.get(name).map_or(0, |offered| offered.revoked.seq());
        if seq < fleet.revoked.seq() {
            let document = format!("the revocations of fleet {name}");
            return Err(TrustError::Rollback { document, held: fleet.revoked.seq(), offered: seq });
        }
    }
    Ok(())
}

fn check_log_floor(floor: Option<&Floor<'_>>, offered: Option<&Checkpoint>) -> Result<(), TrustError> {
    let Some(Floor { held, rotated: false }) = floor else { return Ok(()) };
    let Some(known) = held.checkpoint() else { return Ok(()) };
    let size = offered.map_or(0, Checkpoint::size);
    if size < known.size() {
        return Err(TrustError::Rollback { document: "the log of acts".to_owned(), held: known.size(), offered: size });
    }
    match offered.and_then(|offered| known.fork(offered)) {
        Some(entry) => Err(TrustError::Forked { entry }),
        None => Ok(()),
    }
}

fn wall(time: jiff::Timestamp) -> Wall {
    Wall(time.as_second())
}
