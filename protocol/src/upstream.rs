//! Upstreams: web servers with the static files of repositories, as a node's own HTTP gives them. What is taken from one is
//! verified like everything else; here is decided when, and what is asked for next.
//!
//! An upstream is the last resort. [`LastResort`] names a payload only when no peer brought anything of it for a while.
//! [`Gather`] puts a repository's files together to the pack that they are; nothing of it is believed before it is
//! verified as any pack.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use crate::{
    Hash, Time,
    config::MAX_JOBS,
    fact::Fact,
    trust::{
        Verified,
        pack::{
            MAX_DELEGATED, MAX_PACK, MAX_ROLE_NAME, MAX_ROOT, MAX_ROOTS, MAX_SNAPSHOT, MAX_TARGETS, MAX_TIMESTAMP, Pack,
        },
    },
};

/// How long peers have to bring something of a payload before an upstream is asked for it.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// The longest wait after failures.
const LONGEST: Duration = Duration::from_secs(3600);

/// The payloads that are being fetched, and since when nothing of each came.
#[derive(Debug, Default)]
pub struct LastResort {
    waiting: BTreeMap<Hash, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    size: u64,
    since: Time,
    failures: u32,
}

impl Waiting {
    fn due(&self) -> Time {
        self.since + (PATIENCE * 2_u32.saturating_pow(self.failures.min(16))).min(LONGEST)
    }
}

impl LastResort {
    /// Takes in what the node tells.
    pub fn told(&mut self, fact: &Fact, now: Time) {
        match fact {
            Fact::FetchStarted { blob, size, .. } => self.waits(*blob, *size, now),
            Fact::FetchProgress { blob, .. } => {
                if let Some(waiting) = self.waiting.get_mut(blob) {
                    waiting.since = now;
                }
            }
            Fact::FetchCompleted { blob, .. } | Fact::FetchLeft { blob } => self.forget(*blob),
            _ => {}
        }
    }

    /// Takes in all that is being fetched now, by blob and size, where facts were missed.
    pub fn fetched(&mut self, all: &[(Hash, u64)], now: Time) {
        self.waiting.retain(|blob, _| all.iter().any(|(fetched, _)| fetched == blob));
        for (blob, size) in all {
            if !self.waiting.contains_key(blob) {
                self.waits(*blob, *size, now);
            }
        }
    }

    fn waits(&mut self, blob: Hash, size: u64, now: Time) {
        if self.waiting.len() < MAX_JOBS || self.waiting.contains_key(&blob) {
            self.waiting.insert(blob, Waiting { size, since: now, failures: 0 });
        }
    }

    /// The payload that is to be taken from an upstream now, with its size: the one that waits longest.
    #[must_use]
    pub fn due(&self, now: Time) -> Option<(Hash, u64)> {
        let due = self.waiting.iter().filter(|(_, waiting)| waiting.due() <= now);
        due.min_by_key(|(_, waiting)| waiting.due()).map(|(blob, waiting)| (*blob, waiting.size))
    }

    /// No upstream had it; each time it takes twice as long until it is tried again.
    pub fn failed(&mut self, blob: Hash, now: Time) {
        if let Some(waiting) = self.waiting.get_mut(&blob) {
            waiting.failures += 1;
            waiting.since = now;
        }
    }

    /// It is not to be taken yet; that is nobody's failure.
    pub fn later(&mut self, blob: Hash, now: Time) {
        if let Some(waiting) = self.waiting.get_mut(&blob) {
            waiting.since = now;
        }
    }

    /// It is here, or nobody wants it any more.
    pub fn forget(&mut self, blob: Hash) {
        self.waiting.remove(&blob);
    }

    /// When [`LastResort::due`] has something to say next.
    #[must_use]
    pub fn wake_at(&self) -> Option<Time> {
        self.waiting.values().map(Waiting::due).min()
    }
}

/// A repository's static files on their way to a pack.
#[derive(Debug)]
pub struct Gather {
    /// What is held, with the roots and the documents that need not be asked for again.
    held: Option<Verified>,
    roots: Vec<Vec<u8>>,
    all_roots: bool,
    timestamp: Option<Vec<u8>>,
    snapshot: Option<Vec<u8>>,
    targets: Option<Vec<u8>>,
    delegated: BTreeMap<String, Vec<u8>>,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Get this file, of so many bytes at most, and [give](Gather::give) it.
    File {
        /// Its name in the repository's `metadata`.
        name: String,
        /// Bytes at most.
        limit: usize,
    },
    /// All is here: a pack that nobody verified.
    Pack(Vec<u8>),
    /// The server has what is held already.
    Nothing,
}

/// Files that make no pack.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoPack(String);

impl Gather {
    /// Begins, knowing what is held.
    #[must_use]
    pub fn new(held: Option<Verified>) -> Self {
        let roots = held.as_ref().and_then(|held| Pack::decode(held.pack()).ok().map(|pack| owned(&pack.roots)));
        let (timestamp, snapshot, targets, delegated) = (None, None, None, BTreeMap::new());
        Self { held, roots: roots.unwrap_or_default(), all_roots: false, timestamp, snapshot, targets, delegated }
    }

    /// What is needed next.
    ///
    /// # Errors
    /// [`NoPack`] for files that can't belong to a repository.
    pub fn next(&self) -> Result<Next, NoPack> {
        let file = |name: String, limit| Ok(Next::File { name, limit });
        if !self.all_roots {
            return file(format!("{}.root.json", self.roots.len() + 1), MAX_ROOT);
        }
        let Some(timestamp) = &self.timestamp else { return file("timestamp.json".to_owned(), MAX_TIMESTAMP) };
        let held = self.held.as_ref().and_then(|held| Pack::decode(held.pack()).ok());
        if held.is_some_and(|held| held.timestamp == timestamp && held.roots.len() == self.roots.len()) {
            return Ok(Next::Nothing);
        }
        let Some(snapshot) = &self.snapshot else {
            let version =
                versions(timestamp)?.remove("snapshot.json").ok_or_else(|| no("a timestamp of no snapshot"))?;
            return file(format!("{version}.snapshot.json"), MAX_SNAPSHOT);
        };
        let mut named = versions(snapshot)?;
        let version = named.remove("targets.json").ok_or_else(|| no("a snapshot of no targets"))?;
        let Some(targets) = &self.targets else { return file(format!("{version}.targets.json"), MAX_TARGETS) };
        if named.len() > MAX_DELEGATED {
            return Err(no("a snapshot of too many roles"));
        }
        for (name, version) in &named {
            if !self.delegated.contains_key(role(name)?) {
                return file(format!("{version}.{name}"), MAX_TARGETS);
            }
        }
        let delegated = self.delegated.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        let roots = self.roots.iter().map(Vec::as_slice).collect();
        let pack = Pack { roots, timestamp, snapshot, targets, delegated };
        pack.encode().map(Next::Pack).map_err(|error| NoPack(error.to_string()))
    }

    /// Takes in the file that was needed; none, if the server has none.
    ///
    /// # Errors
    /// [`NoPack`] if it can't go on without it, or there are too many bytes.
    pub fn give(&mut self, bytes: Option<Vec<u8>>) -> Result<(), NoPack> {
        let Next::File { name, .. } = self.next()? else { return Ok(()) };
        let Some(bytes) = bytes else {
            if self.all_roots || self.roots.is_empty() {
                return Err(NoPack(format!("there is no {name}")));
            }
            self.all_roots = true;
            return Ok(());
        };
        if !self.all_roots {
            self.roots.push(bytes);
            self.all_roots = self.roots.len() == MAX_ROOTS;
        } else if self.timestamp.is_none() {
            self.timestamp = Some(bytes);
        } else if self.snapshot.is_none() {
            self.snapshot = Some(bytes);
        } else if self.targets.is_none() {
            self.targets = Some(bytes);
        } else {
            let (_, name) = name.split_once('.').expect("made above");
            self.delegated.insert(role(name)?.to_owned(), bytes);
        }
        let documents = [&self.timestamp, &self.snapshot, &self.targets].into_iter().flatten();
        let held = self.roots.iter().chain(documents).chain(self.delegated.values()).map(Vec::len).sum::<usize>();
        if held > MAX_PACK { Err(no("more than a pack may have")) } else { Ok(()) }
    }
}

fn no(what: &str) -> NoPack {
    NoPack(format!("the server has {what}"))
}

fn owned(documents: &[&[u8]]) -> Vec<Vec<u8>> {
    documents.iter().map(|document| document.to_vec()).collect()
}

/// The versions that a timestamp or snapshot names, unverified, by file name.
fn versions(document: &[u8]) -> Result<BTreeMap<String, u64>, NoPack> {
    let value: Value = serde_json::from_slice(document).map_err(|error| NoPack(format!("no JSON: {error}")))?;
    let meta = value["signed"]["meta"].as_object().ok_or_else(|| no("a document that names no others"))?;
    let version = |(name, meta): (&String, &Value)| Some((name.clone(), meta["version"].as_u64()?));
    Ok(meta.iter().filter_map(version).collect())
}

/// The role of a document's name, which becomes part of an address: nothing that could lead elsewhere.
fn role(name: &str) -> Result<&str, NoPack> {
    let role = name.strip_suffix(".json").ok_or_else(|| no("a document that is no JSON"))?;
    let usable = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    if (1..=MAX_ROLE_NAME).contains(&role.len()) && role.bytes().all(usable) {
        return Ok(role);
    }
    Err(no("a role with a name that is none"))
}
