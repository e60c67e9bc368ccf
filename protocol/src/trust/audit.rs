//! A publisher's log of acts: JSON lines, each of which names the one before by its BLAKE3 and is signed by the key of
//! the timestamp role, which every act needs. An entry also names the state that it led to, and the repository itself is
//! the last state; so a line that is changed, moved or missing shows, be it the last one (`protocol/README.md` section 4).

use ed25519_dalek::{Signer as _, SigningKey};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sigstore_tuf::{Metadata, Root, canonical_json};

use super::{
    document::{self, hex, unhex},
    provider,
    write::{Repository, Role, Signers, WriteError, key_id},
};
use crate::{Hash, RepositoryId, Wall};

/// Bytes of one entry at most.
pub const MAX_ENTRY: usize = 64 << 10;

/// One act of a publisher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its number, from 1.
    pub seq: u64,
    /// The BLAKE3 of the line before; for the first, the repository's name.
    pub prev: Hash,
    /// When, in seconds since 1970 by the publisher's clock; never before the entry before.
    pub time: i64,
    /// The act: `init`, `release`, `keys`, `enrol`, `revoke`, `renew` or `export`.
    pub act: String,
    /// What it changed, in words.
    pub what: Vec<String>,
    /// The ids of the keys that signed for it.
    pub by: Vec<String>,
    /// The version of the newest root after it.
    pub root: u64,
    /// What the offline keys' documents are after it: [`Repository::offline_state`].
    pub state: Hash,
    /// The id of the key that signed this entry: one of the timestamp role in that root.
    pub key: String,
    /// Its signature over the canonical JSON of all other fields, in hex.
    pub sig: String,
}

impl Entry {
    /// Its name: the BLAKE3 of its line.
    #[must_use]
    pub fn name(&self) -> Hash {
        Hash::of(&canonical(self))
    }
}

/// An act before it is written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// Its kind, as [`Entry::act`].
    pub kind: &'static str,
    /// What it changed, in words.
    pub what: Vec<String>,
    /// The ids of the keys that signed for it.
    pub by: Vec<String>,
}

/// A log that is not what a publisher wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {line} of the log: {problem}")]
pub struct AuditError {
    /// Which line, from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: &'static str,
}

/// The line that follows `last` in a log, for an act that led to what `repository` is now; without its line feed.
///
/// # Errors
/// [`WriteError::MissingKey`] if none of `keys` is of the timestamp role.
///
/// # Panics
/// If `last` is no entry: read it with [`verify`] first.
pub fn next(
    repository: &Repository,
    last: Option<&str>,
    act: Act,
    keys: &[&SigningKey],
    now: Wall,
) -> Result<String, WriteError> {
    let timestamp = repository.signers().remove(&Role::Timestamp).unwrap_or_default();
    let named = |key: &&&SigningKey| timestamp.keys.contains_key(&key_id(&key.verifying_key()));
    let key = keys.iter().find(named).ok_or_else(|| WriteError::MissingKey { role: Role::Timestamp.to_string() })?;
    let before: Option<Entry> = last.map(|line| serde_json::from_str(line).expect("the last line was verified"));
    let mut entry = Entry {
        seq: before.as_ref().map_or(1, |before| before.seq + 1),
        prev: last.map_or(first(repository.id()), |line| Hash::of(line.as_bytes())),
        time: before.map_or(now.0, |before| before.time.max(now.0)),
        act: act.kind.to_owned(),
        // An entry is one line, and canonical JSON escapes no line feed.
        what: act.what.iter().flat_map(|what| what.lines()).map(|line| line.replace(char::is_control, " ")).collect(),
        by: act.by,
        root: repository.verified().root_version(),
        state: repository.offline_state(),
        key: key_id(&key.verifying_key()),
        sig: String::new(),
    };
    entry.sig = hex(&key.sign(&message(&entry)).to_bytes());
    Ok(String::from_utf8(canonical(&entry)).expect("JSON is UTF-8"))
}

/// Checks a whole log against the repository that it tells of, and reads it.
///
/// # Errors
/// [`AuditError`] for the first line that does not fit; for a log that ends too early, the line that is missing.
pub fn verify<'a>(repository: &Repository, lines: impl Iterator<Item = &'a str>) -> Result<Vec<Entry>, AuditError> {
    let timestamps = timestamp_signers(repository);
    let mut entries: Vec<Entry> = Vec::new();
    let mut names = vec![first(repository.id())];
    for (line, number) in lines.zip(1_usize..) {
        let wrong = |problem| AuditError { line: number, problem };
        if line.len() > MAX_ENTRY {
            return Err(wrong("it is over 64 KiB"));
        }
        let entry: Entry = serde_json::from_str(line).map_err(|_| wrong("it is no entry"))?;
        if canonical(&entry) != line.as_bytes() {
            return Err(wrong("it is not written as entries are"));
        }
        let before = entries.last();
        if entry.seq != before.map_or(1, |before| before.seq + 1) || Some(&entry.prev) != names.last() {
            return Err(wrong("it does not follow on the one before: something was changed, moved or taken out"));
        }
        if before.is_some_and(|before| entry.time < before.time || entry.root < before.root) {
            return Err(wrong("it goes back behind the one before"));
        }
        let at = usize::try_from(entry.root).ok().and_then(|root| timestamps.get(root.checked_sub(1)?));
        let public = at.and_then(|signers| unhex(signers.keys.get(&entry.key)?));
        let signature = unhex(&entry.sig).unwrap_or_default();
        if !public.is_some_and(|public| provider::is_signed(&public, &message(&entry), &signature)) {
            return Err(wrong("its signature is not by a timestamp key of its root"));
        }
        names.push(entry.name());
        entries.push(entry);
    }
    if repository.verified().checkpoint().is_some_and(|checkpoint| !checkpoint.is_of(&names[1..])) {
        let problem = "the log is not the one that the signed snapshot names";
        return Err(AuditError { line: entries.len(), problem });
    }
    let (state, root) = (repository.offline_state(), repository.verified().root_version());
    if entries.last().is_some_and(|last| last.state == state && last.root == root) {
        Ok(entries)
    } else {
        let problem = "it is missing: the repository is not in the state that the log ends with";
        Err(AuditError { line: entries.len() + 1, problem })
    }
}

fn first(repository: RepositoryId) -> Hash {
    Hash(repository.0)
}

/// The timestamp role of every root, in their order.
fn timestamp_signers(repository: &Repository) -> Vec<Signers> {
    let documents = repository.verified().documents();
    let of = |root: &&[u8]| {
        let root: Metadata<Root> = document::read("the root", root).expect("a verified root is read back");
        Signers::of_role(root.signed(), &Role::Timestamp)
    };
    documents.roots.iter().map(of).collect()
}

fn message(entry: &Entry) -> Vec<u8> {
    let mut value = serde_json::to_value(entry).expect("an entry has plain fields");
    value.as_object_mut().expect("an entry is an object").remove("sig");
    canonical_value(&value)
}

fn canonical(entry: &Entry) -> Vec<u8> {
    canonical_value(&serde_json::to_value(entry).expect("an entry has plain fields"))
}

fn canonical_value(value: &Value) -> Vec<u8> {
    canonical_json::to_canonical_bytes(value).expect("an entry holds whole numbers alone")
}
