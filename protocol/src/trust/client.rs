//! A client of any TUF repository: the detailed client workflow of the TUF specification (1.0.x, section 5) as a state
//! machine without a network, a disk or a clock (`protocol/README.md` §4.10).
//!
//! A [`Client`] lives for one refresh, at one fixed time. It says what it needs next, and the caller does it:
//!
//! ```text
//! loop {
//!     match client.step()? {
//!         Step::Kept { role, limit } => client.give(what the metadata directory holds of the role)?,
//!         Step::Fetch { name, limit } => client.give(what the repository has under the name)?,
//!         Step::Keep { role, bytes } => write the bytes durably, as they are,
//!         Step::Forget { role } => remove them,
//!         Step::Done => break,
//!     }
//! }
//! ```
//!
//! [`Client::find`] then starts a search for a target, which goes on by the same loop. Whatever is kept was verified
//! first, and is verified again when it is read: a metadata directory that someone else wrote to can delay, not deceive.

mod delegation;
mod document;
mod error;
mod target;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use sigstore_tuf::{Key, MetaFile, Metadata, Role, RoleKeys, Root, Snapshot, Targets, Timestamp, TrustedMetadataSet};

use super::{TrustError, provider};
use crate::Wall;
use delegation::Edge;
use document::{check_pin, check_threshold, read};
pub use error::ClientError;
pub use target::{Target, TargetCheck};

/// Bytes of a root at most.
pub const MAX_ROOT: u64 = 512_000;
/// Bytes of a timestamp at most.
pub const MAX_TIMESTAMP: u64 = 16_384;
/// Bytes of a snapshot at most.
pub const MAX_SNAPSHOT: u64 = 2_000_000;
/// Bytes of a targets document, delegated or not, at most.
pub const MAX_TARGETS: u64 = 5_000_000;
/// Keys that one document names at most.
pub const MAX_KEYS: usize = 1024;
/// Signatures under one document at most.
pub const MAX_SIGNATURES: usize = 256;
/// New roots that one refresh follows at most.
pub const MAX_ROTATIONS: u64 = 256;
/// Delegated roles that one search visits at most.
pub const MAX_VISITS: usize = 32;

const TOP: &str = "targets";

/// What a [`Client`] needs next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Hand in, by [`Client::give`], the document that is kept of a role; nothing if there is none or it is longer.
    Kept {
        /// `root`, `timestamp`, `snapshot`, `targets` or a delegated role's name, not encoded.
        role: String,
        /// Bytes at most.
        limit: u64,
    },
    /// Hand in, by [`Client::give`], what the repository serves under a name; nothing if it has no such file.
    Fetch {
        /// File name, encoded for a URL, below where the repository's metadata lies.
        name: String,
        /// Bytes at most: what goes on beyond is not the document, so stop reading there.
        limit: u64,
    },
    /// Keep these bytes as the role's document, on disk, before the next step. They are verified.
    Keep {
        /// As in [`Step::Kept`].
        role: String,
        /// As they were served.
        bytes: Arc<[u8]>,
    },
    /// Remove the role's document before the next step: its key was revoked.
    Forget {
        /// As in [`Step::Kept`].
        role: String,
    },
    /// The refresh is complete, or the search is over.
    Done,
}

/// Where a client is: what it waits for.
#[derive(Debug, Clone)]
enum Stage {
    KeptRoot,
    Root,
    KeptTimestamp,
    Timestamp,
    KeptSnapshot,
    Snapshot,
    KeptTargets(Edge),
    Targets(Edge),
    Ready,
    Failed(ClientError),
}

/// A search for a target.
#[derive(Debug)]
struct Search {
    path: String,
    /// Roles to ask; the last one is next.
    ahead: Vec<Edge>,
    visited: BTreeSet<String>,
    found: Option<Target>,
}

/// One refresh of a repository's metadata, and searches in what it trusts then.
#[derive(Debug)]
pub struct Client {
    /// The start of the refresh, which no document may expire at or before.
    now: jiff::Timestamp,
    trusted: Option<TrustedMetadataSet>,
    /// The snapshot that was kept: the floor of the next one, whether or not the newest timestamp names it.
    floor: Option<Snapshot>,
    targets: BTreeMap<String, Metadata<Targets>>,
    rotations: u64,
    search: Option<Search>,
    out: VecDeque<Step>,
    stage: Stage,
}

impl Client {
    /// Begins a refresh. `now` is its fixed start: time that passes while it runs expires nothing.
    #[must_use]
    pub fn new(now: Wall) -> Self {
        provider::install();
        Self {
            now: jiff::Timestamp::from_second(now.0).unwrap_or(jiff::Timestamp::MAX),
            trusted: None,
            floor: None,
            targets: BTreeMap::new(),
            rotations: 0,
            search: None,
            out: VecDeque::new(),
            stage: Stage::KeptRoot,
        }
    }

    /// What to do next.
    ///
    /// # Errors
    /// The error that a step before ended with.
    pub fn step(&mut self) -> Result<Step, ClientError> {
        if let Some(step) = self.out.pop_front() {
            return Ok(step);
        }
        let kept = |role: &str, limit| Step::Kept { role: role.to_owned(), limit };
        Ok(match &self.stage {
            Stage::KeptRoot => kept("root", MAX_ROOT),
            Stage::Root => Step::Fetch { name: format!("{}.root.json", self.root().version + 1), limit: MAX_ROOT },
            Stage::KeptTimestamp => kept("timestamp", MAX_TIMESTAMP),
            Stage::Timestamp => Step::Fetch { name: "timestamp.json".to_owned(), limit: MAX_TIMESTAMP },
            Stage::KeptSnapshot => kept("snapshot", MAX_SNAPSHOT),
            Stage::Snapshot => self.fetch("snapshot", self.snapshot_pin(), MAX_SNAPSHOT),
            Stage::KeptTargets(edge) => kept(&edge.role, MAX_TARGETS),
            Stage::Targets(edge) => {
                let pin = self.targets_pin(&edge.role).expect("asked for when the snapshot named it");
                self.fetch(&edge.role, pin, MAX_TARGETS)
            }
            Stage::Ready => Step::Done,
            Stage::Failed(error) => return Err(error.clone()),
        })
    }

    /// Hands in what [`Step::Kept`] or [`Step::Fetch`] asked for; `None` says that there is no such document.
    ///
    /// # Errors
    /// [`ClientError`] if the refresh or search ends here. What [`Step::Keep`] gave out before stays valid.
    ///
    /// # Panics
    /// If nothing was asked for: the caller's mistake.
    pub fn give(&mut self, bytes: Option<Vec<u8>>) -> Result<(), ClientError> {
        assert!(self.out.is_empty(), "what was verified is kept before more is read");
        let result = match self.stage.clone() {
            Stage::KeptRoot => self.take_kept_root(bytes),
            Stage::Root => self.take_root(bytes),
            Stage::KeptTimestamp => {
                // One that does not verify is as good as none: its successor comes from the repository.
                if let Some(bytes) = bytes {
                    let _ = self.take_kept_timestamp(&bytes);
                }
                self.stage = Stage::Timestamp;
                Ok(())
            }
            Stage::Timestamp => self.take_timestamp(bytes),
            Stage::KeptSnapshot => self.take_kept_snapshot(bytes),
            Stage::Snapshot => self.take_snapshot(bytes),
            Stage::KeptTargets(edge) => {
                if bytes.is_some_and(|bytes| self.accept_targets(&edge, &bytes).is_ok()) {
                    self.go_on(&edge.role)
                } else {
                    self.stage = Stage::Targets(edge);
                    Ok(())
                }
            }
            Stage::Targets(edge) => self.take_targets(&edge, bytes),
            Stage::Ready => panic!("nothing was asked for"),
            Stage::Failed(error) => Err(error),
        };
        result.inspect_err(|error| {
            self.out.clear();
            self.stage = Stage::Failed(error.clone());
        })
    }

    /// Begins the search for a target by its path. Steps go on until [`Step::Done`]; [`Client::found`] is its outcome.
    ///
    /// # Errors
    /// [`ClientError`] if it ends before anything needs to be asked for.
    ///
    /// # Panics
    /// If the refresh, or the search before, is not done: the caller's mistake.
    pub fn find(&mut self, path: &str) -> Result<(), ClientError> {
        assert!(matches!(self.stage, Stage::Ready) && self.out.is_empty(), "a search follows a complete refresh");
        self.search = Some(Search { path: path.to_owned(), ahead: vec![top()], visited: BTreeSet::new(), found: None });
        self.visit().inspect_err(|error| self.stage = Stage::Failed(error.clone()))
    }

    /// The target that the last search found; nothing if no role that may sign for the path names it.
    #[must_use]
    pub fn found(&self) -> Option<&Target> {
        self.search.as_ref().filter(|_| matches!(self.stage, Stage::Ready)).and_then(|search| search.found.as_ref())
    }

    /// The version that is trusted of a role, if it was read.
    #[must_use]
    pub fn version(&self, role: &str) -> Option<u64> {
        let trusted = self.trusted.as_ref()?;
        match role {
            "root" => Some(trusted.root().version),
            "timestamp" => trusted.timestamp().map(|timestamp| timestamp.version),
            "snapshot" => trusted.snapshot().map(|snapshot| snapshot.version),
            _ => self.targets.get(role).map(|targets| targets.signed().version),
        }
    }

    fn trusted(&self) -> &TrustedMetadataSet {
        self.trusted.as_ref().expect("the root comes first")
    }

    fn trusted_mut(&mut self) -> &mut TrustedMetadataSet {
        self.trusted.as_mut().expect("the root comes first")
    }

    fn root(&self) -> &Root {
        self.trusted().root()
    }

    fn take_kept_root(&mut self, bytes: Option<Vec<u8>>) -> Result<(), ClientError> {
        let bytes = bytes.ok_or(ClientError::NoRoot)?;
        check_root(&bytes)?;
        let trusted = TrustedMetadataSet::from_root(&bytes).map_err(|error| TrustError::tuf("the root", &error))?;
        self.trusted = Some(trusted);
        self.stage = Stage::Root;
        Ok(())
    }

    fn take_root(&mut self, bytes: Option<Vec<u8>>) -> Result<(), ClientError> {
        let Some(bytes) = bytes else {
            self.check_fresh("the root", self.root().expires)?;
            self.stage = Stage::KeptTimestamp;
            return Ok(());
        };
        let version = self.root().version;
        if self.rotations == MAX_ROTATIONS {
            return Err(ClientError::TooManyRoots { version, limit: MAX_ROTATIONS });
        }
        let name = format!("root {}", version + 1);
        check_length(&name, &bytes, MAX_ROOT)?;
        let next: Metadata<Root> = read(&name, &bytes)?;
        if next.signed().version != version + 1 {
            let problem = format!("it says that it is version {}", next.signed().version);
            return Err(TrustError::Mismatch { document: name, problem }.into());
        }
        check_signed_by(&name, &next, self.root(), "root")?;
        check_signed_by(&name, &next, next.signed(), "root")?;
        let revoked = ["timestamp", "snapshot"].iter().any(|role| is_revoked(self.root(), next.signed(), role));
        self.trusted_mut().update_root(&bytes).map_err(|error| TrustError::tuf(&name, &error))?;
        self.rotations += 1;
        if revoked {
            // Before the root is kept: a crash in between must not leave behind what a stolen key signed far ahead.
            self.out.extend(["timestamp", "snapshot"].map(|role| Step::Forget { role: role.to_owned() }));
        }
        self.keep("root", bytes);
        Ok(())
    }

    fn take_kept_timestamp(&mut self, bytes: &[u8]) -> Result<(), TrustError> {
        let kept: Metadata<Timestamp> = read("the kept timestamp", bytes)?;
        check_signed_by("the kept timestamp", &kept, self.root(), "timestamp")?;
        // However old it is, it is a floor; whether it may still be used is asked afterwards.
        let step = self.trusted_mut().update_timestamp(bytes, jiff::Timestamp::MIN);
        step.map_err(|error| TrustError::tuf("the kept timestamp", &error))
    }

    fn take_timestamp(&mut self, bytes: Option<Vec<u8>>) -> Result<(), ClientError> {
        const NAME: &str = "the timestamp";
        let bytes = bytes.ok_or_else(|| ClientError::Absent { name: "timestamp.json".to_owned() })?;
        check_length(NAME, &bytes, MAX_TIMESTAMP)?;
        let offered: Metadata<Timestamp> = read(NAME, &bytes)?;
        check_signed_by(NAME, &offered, self.root(), "timestamp")?;
        let offered = offered.signed();
        if let Some(held) = self.trusted().timestamp() {
            check_floor(NAME, held.version, offered.version)?;
            if held.version == offered.version {
                self.check_fresh(NAME, held.expires)?;
                self.stage = Stage::KeptSnapshot;
                return Ok(());
            }
            let version = |timestamp: &Timestamp| timestamp.snapshot_meta().map_or(0, |pin| pin.version);
            check_floor("the snapshot", version(held), version(offered))?;
        }
        self.check_fresh(NAME, offered.expires)?;
        let at = self.instant();
        self.trusted_mut().update_timestamp(&bytes, at).map_err(|error| TrustError::tuf(NAME, &error))?;
        self.keep("timestamp", bytes);
        check_limit("the snapshot", self.snapshot_pin(), MAX_SNAPSHOT)?;
        self.stage = Stage::KeptSnapshot;
        Ok(())
    }

    fn take_kept_snapshot(&mut self, bytes: Option<Vec<u8>>) -> Result<(), ClientError> {
        const NAME: &str = "the kept snapshot";
        self.stage = Stage::Snapshot;
        let Some(bytes) = bytes else { return Ok(()) };
        let Ok(kept) = read::<Snapshot>(NAME, &bytes) else { return Ok(()) };
        if check_signed_by(NAME, &kept, self.root(), "snapshot").is_err() {
            return Ok(());
        }
        let current = self.accept_snapshot(&bytes, &kept).is_ok();
        self.floor = Some(kept.into_signed());
        if current { self.want_targets(top()) } else { Ok(()) }
    }

    fn take_snapshot(&mut self, bytes: Option<Vec<u8>>) -> Result<(), ClientError> {
        const NAME: &str = "the snapshot";
        let bytes = bytes.ok_or_else(|| self.absent())?;
        check_length(NAME, &bytes, MAX_SNAPSHOT)?;
        // The signed pin comes before the parser.
        check_pin(NAME, self.snapshot_pin(), &bytes)?;
        let offered: Metadata<Snapshot> = read(NAME, &bytes)?;
        check_signed_by(NAME, &offered, self.root(), "snapshot")?;
        self.accept_snapshot(&bytes, &offered)?;
        self.keep("snapshot", bytes);
        self.want_targets(top())
    }

    fn accept_snapshot(&mut self, bytes: &[u8], offered: &Metadata<Snapshot>) -> Result<(), ClientError> {
        const NAME: &str = "the snapshot";
        let pin = self.snapshot_pin();
        check_pin(NAME, pin, bytes)?;
        let signed = offered.signed();
        check_version(NAME, pin, signed.version)?;
        if let Some(floor) = &self.floor {
            check_floor(NAME, floor.version, signed.version)?;
            for (file, held) in &floor.meta {
                let version = signed.meta.get(file).map_or(0, |pin| pin.version);
                check_floor(file, held.version, version)?;
            }
        }
        self.check_fresh(NAME, signed.expires)?;
        let at = self.instant();
        let step = self.trusted_mut().update_snapshot(bytes, at);
        Ok(step.map_err(|error| TrustError::tuf(NAME, &error))?)
    }

    /// Asks for a targets role, if the snapshot names it.
    fn want_targets(&mut self, edge: Edge) -> Result<(), ClientError> {
        let name = describe(&edge.role);
        let pin = self.targets_pin(&edge.role).ok_or_else(|| TrustError::Mismatch {
            document: name.clone(),
            problem: "the snapshot does not name it".to_owned(),
        })?;
        check_limit(&name, pin, MAX_TARGETS)?;
        self.stage = Stage::KeptTargets(edge);
        Ok(())
    }

    fn take_targets(&mut self, edge: &Edge, bytes: Option<Vec<u8>>) -> Result<(), ClientError> {
        let bytes = bytes.ok_or_else(|| self.absent())?;
        self.accept_targets(edge, &bytes)?;
        self.keep(&edge.role, bytes);
        self.go_on(&edge.role)
    }

    fn accept_targets(&mut self, edge: &Edge, bytes: &[u8]) -> Result<(), ClientError> {
        let name = describe(&edge.role);
        check_length(&name, bytes, MAX_TARGETS)?;
        let pin = self.targets_pin(&edge.role).expect("asked for when the snapshot named it");
        check_pin(&name, pin, bytes)?;
        let offered: Metadata<Targets> = read(&name, bytes)?;
        check_version(&name, pin, offered.signed().version)?;
        self.check_edge(&name, edge, &offered)?;
        self.check_fresh(&name, offered.signed().expires)?;
        let at = self.instant();
        let trusted = self.trusted_mut();
        let step = match edge.role.as_str() {
            TOP => trusted.update_targets(bytes, at),
            role => trusted.update_delegated_targets(bytes, role, &edge.delegator, at),
        };
        step.map_err(|error| TrustError::tuf(&name, &error))?;
        self.targets.insert(edge.role.clone(), offered);
        Ok(())
    }

    /// Checks a role's signatures by the keys of the one who delegates to it.
    fn check_edge(&self, name: &str, edge: &Edge, metadata: &Metadata<Targets>) -> Result<(), TrustError> {
        if edge.role == TOP {
            return check_signed_by(name, metadata, self.root(), TOP);
        }
        let (keys, role) = self.authority(edge).expect("an edge comes out of its delegator's document");
        check_threshold(name, metadata, keys, &role)
    }

    fn authority(&self, edge: &Edge) -> Option<(&BTreeMap<String, Key>, RoleKeys)> {
        let delegations = self.targets.get(&edge.delegator)?.signed().delegations.as_ref()?;
        let role = delegations.roles.iter().find(|role| role.name == edge.role)?;
        Some((&delegations.keys, role.role_keys()))
    }

    /// What follows once a targets role is trusted: the search for which it was needed, if there is one.
    fn go_on(&mut self, role: &str) -> Result<(), ClientError> {
        if self.search.is_none() {
            self.stage = Stage::Ready;
            return Ok(());
        }
        self.look_into(role)?;
        self.visit()
    }

    /// Goes on with the search until it is over or needs a document.
    fn visit(&mut self) -> Result<(), ClientError> {
        loop {
            let search = self.search.as_mut().expect("there is a search");
            let Some(edge) = search.ahead.pop() else {
                self.stage = Stage::Ready;
                return Ok(());
            };
            if search.visited.contains(&edge.role) {
                continue;
            }
            if search.visited.len() > MAX_VISITS {
                let path = search.path.chars().take(200).collect();
                return Err(ClientError::TooManyRoles { path, limit: MAX_VISITS });
            }
            search.visited.insert(edge.role.clone());
            let Some(metadata) = self.targets.get(&edge.role) else { return self.want_targets(edge) };
            // It was reached before, perhaps by another's delegation and other keys.
            self.check_edge(&describe(&edge.role), &edge, metadata)?;
            self.look_into(&edge.role)?;
        }
    }

    /// Looks for the target in a trusted role, else puts the roles that it delegates the path to ahead.
    fn look_into(&mut self, role: &str) -> Result<(), ClientError> {
        let consistent = self.root().consistent_snapshot;
        let targets = self.targets.get(role).expect("a role is trusted before it is looked into").signed();
        let search = self.search.as_mut().expect("there is a search");
        if let Some(file) = targets.targets.get(&search.path) {
            search.found = Some(Target::new(&search.path, file, consistent)?);
            search.ahead.clear();
            return Ok(());
        }
        let (edges, terminating) = delegation::edges(role, targets, &search.path);
        if terminating {
            search.ahead.clear();
        }
        search.ahead.extend(edges.into_iter().rev());
        Ok(())
    }

    fn keep(&mut self, role: &str, bytes: Vec<u8>) {
        self.out.push_back(Step::Keep { role: role.to_owned(), bytes: bytes.into() });
    }

    fn snapshot_pin(&self) -> &MetaFile {
        let timestamp = self.trusted().timestamp().expect("the timestamp comes before the snapshot");
        timestamp.snapshot_meta().expect("a timestamp names the snapshot")
    }

    fn targets_pin(&self, role: &str) -> Option<&MetaFile> {
        let snapshot = self.trusted().snapshot().expect("the snapshot comes before the targets");
        snapshot.meta.get(&format!("{role}.json"))
    }

    fn fetch(&self, role: &str, pin: &MetaFile, limit: u64) -> Step {
        let role = encode(role);
        let name = if self.root().consistent_snapshot {
            format!("{}.{role}.json", pin.version)
        } else {
            format!("{role}.json")
        };
        Step::Fetch { name, limit: pin.length.unwrap_or(limit).min(limit) }
    }

    fn absent(&mut self) -> ClientError {
        match self.step() {
            Ok(Step::Fetch { name, .. }) => ClientError::Absent { name },
            _ => unreachable!("a document is absent where it was asked for"),
        }
    }

    fn check_fresh(&self, document: &str, expires: jiff::Timestamp) -> Result<(), ClientError> {
        if expires > self.now {
            return Ok(());
        }
        Err(ClientError::Expired { document: document.to_owned(), expires: expires.to_string() })
    }

    /// The time by which the trusted set is asked: it lets pass what expires at that very instant, TUF does not.
    fn instant(&self) -> jiff::Timestamp {
        self.now.checked_add(jiff::SignedDuration::from_nanos(1)).unwrap_or(jiff::Timestamp::MAX)
    }
}

/// Checks a root that someone wants to start from: its form, and that it is signed as it says itself. Its version.
///
/// # Errors
/// [`ClientError::Refused`] if it can't be trusted by anybody. Whether it is the right one only a person can know.
pub fn check_root(bytes: &[u8]) -> Result<u64, ClientError> {
    provider::install();
    check_length("the root", bytes, MAX_ROOT)?;
    let root: Metadata<Root> = read("the root", bytes)?;
    check_signed_by("the root", &root, root.signed(), "root")?;
    Ok(root.signed().version)
}

/// A role's or target's name as one part of a URL or as a file name: every byte but letters, digits and `-_.~` as `%XX`.
#[must_use]
pub fn encode(name: &str) -> String {
    name.bytes().fold(String::with_capacity(name.len()), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            use std::fmt::Write as _;
            write!(text, "%{byte:02X}").expect("writing to a string does not fail");
        }
        text
    })
}

fn top() -> Edge {
    Edge { role: TOP.to_owned(), delegator: "root".to_owned() }
}

fn describe(role: &str) -> String {
    if role == TOP {
        return "the targets".to_owned();
    }
    let role: String = role.chars().take(100).collect();
    format!("the role {role:?}")
}

fn check_signed_by<T: Role>(name: &str, metadata: &Metadata<T>, root: &Root, role: &str) -> Result<(), TrustError> {
    let keys = root.role(role).expect("a root has the four roles");
    check_threshold(name, metadata, &root.keys, keys)
}

/// Whether a newer root takes a key from a role.
fn is_revoked(old: &Root, new: &Root, role: &str) -> bool {
    let keys = |root: &Root| -> BTreeSet<String> {
        let named = root.role(role).expect("a root has the four roles").keyids.iter();
        named.filter_map(|id| root.keys.get(id)).map(|key| key.keyval.public.trim().to_owned()).collect()
    };
    !keys(old).is_subset(&keys(new))
}

fn check_length(name: &str, bytes: &[u8], limit: u64) -> Result<(), TrustError> {
    if bytes.len() as u64 <= limit { Ok(()) } else { Err(TrustError::malformed(name, format!("over {limit} bytes"))) }
}

fn check_limit(name: &str, pin: &MetaFile, limit: u64) -> Result<(), TrustError> {
    match pin.length.filter(|length| *length > limit) {
        None => Ok(()),
        Some(length) => Err(TrustError::malformed(name, format!("it has {length} bytes, over the limit of {limit}"))),
    }
}

fn check_version(name: &str, pin: &MetaFile, version: u64) -> Result<(), TrustError> {
    if pin.version == version {
        return Ok(());
    }
    let problem = format!("it is version {version}, not {}", pin.version);
    Err(TrustError::Mismatch { document: name.to_owned(), problem })
}

fn check_floor(document: &str, held: u64, offered: u64) -> Result<(), TrustError> {
    if offered >= held {
        return Ok(());
    }
    let document = document.chars().take(120).collect();
    Err(TrustError::Rollback { document, held, offered })
}
