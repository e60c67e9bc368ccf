//! Verifying: does a directory still hold exactly the files that its manifest lists?

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use burr_protocol::{
    Hash,
    manifest::{Content, Entry, MAX_MANIFEST, Manifest},
    seal::{self, ReleaseKey},
};

use super::{
    MANIFEST, Progress, SEALED, TREE, hash,
    tree::{self, Found, What},
};
use crate::error::{Error, Kind};

/// What was found out about a slot directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The bundle that it says it holds: the name of its manifest, or of the slot, if the bundle was sealed.
    pub bundle: Hash,
    /// Files and links that its manifest lists.
    pub files: u64,
    /// Bytes of all files together that its manifest lists.
    pub bytes: u64,
    /// What is not as it should be, in the order of paths.
    pub findings: Vec<Finding>,
}

impl Verdict {
    /// Whether all is as the manifest says.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty()
    }
}

/// A path that is not as the manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which, relative to the bundle's top.
    pub path: String,
    /// What is wrong there.
    pub fault: Fault,
}

/// What is wrong with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is listed and not there.
    Missing,
    /// It has other contents, another mode, or is of another kind.
    Altered,
    /// It is there and not listed.
    Extra,
}

/// Reads a slot directory, or the tree inside it, whole and compares it with the manifest beside the tree.
///
/// A slot that is named by a bundle must hold that bundle: a manifest that was altered with the files is an error.
///
/// # Errors
/// [`Kind::BadInput`] if there is no manifest, or another one than the directory's name says; [`Kind::Storage`] if the
/// disk can't be read.
pub fn verify(at: &Path, progress: &Progress<'_>) -> Result<Verdict, Error> {
    let slot = find_slot(at)?;
    let file = slot.join(MANIFEST);
    let encoded = read_within(&file, MAX_MANIFEST)?;
    let hash = Hash::of(&encoded);
    let name = slot.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<Hash>().ok());
    let mark = slot.join(SEALED);
    // A sealed bundle's name is that of the sealed manifest, which can't be made here: a mark stands for it.
    let (bundle, expected) = if mark.exists() {
        let mark = read_within(&mark, 64)?;
        let mark = std::str::from_utf8(&mark).ok().and_then(|mark| mark.parse().ok());
        (name.unwrap_or(hash), Some(mark.unwrap_or(Hash([0; 32]))))
    } else {
        (hash, name)
    };
    if let Some(named) = expected.filter(|named| *named != hash) {
        let words = format!("{} is of another bundle than {}", file.display(), named.short());
        return Err(Error::new(Kind::BadInput, words).with_hint("the slot was altered; install the version anew"));
    }
    let manifest = Manifest::decode(&encoded)
        .map_err(|error| Error::new(Kind::BadInput, format!("{} is damaged", file.display())).with_source(error))?;
    let findings = compare(&manifest, &slot.join(TREE), progress)?;
    Ok(Verdict { bundle, files: manifest.files(), bytes: manifest.bytes(), findings })
}

/// Whether a slot holds exactly this bundle, which `key` has sealed if there is one.
pub(crate) fn holds(slot: &Path, bundle: Hash, key: Option<&ReleaseKey>) -> bool {
    let named = |encoded: Vec<u8>| key.map_or_else(|| Hash::of(&encoded), |key| seal::bundle_name(key, &encoded));
    read_within(&slot.join(MANIFEST), MAX_MANIFEST).is_ok_and(|encoded| named(encoded) == bundle)
        && verify(slot, &|_, _| ()).is_ok_and(|verdict| verdict.is_whole())
}

/// Reads a file, and no more of it than a byte past the limit.
fn read_within(at: &Path, limit: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let read = hash::open(at).and_then(|file| file.take(limit as u64 + 1).read_to_end(&mut bytes));
    read.map(|_| bytes).map_err(|error| Error::file("read", at, error))
}

fn find_slot(at: &Path) -> Result<PathBuf, Error> {
    let at = fs::canonicalize(at).map_err(|error| {
        Error::new(Kind::BadInput, format!("cannot read {}", at.display()))
            .with_hint("give a slot's directory, or an app's `current`")
            .with_source(error)
    })?;
    let holds = |at: &Path| at.join(MANIFEST).is_file() && at.join(TREE).is_dir();
    let above = at.parent().filter(|above| at.ends_with(TREE) && holds(above)).map(Path::to_owned);
    match above {
        Some(above) => Ok(above),
        None if holds(&at) => Ok(at),
        None => Err(Error::new(Kind::BadInput, format!("{} is no slot: it has no manifest", at.display()))
            .with_hint("give a slot's directory, or an app's `current`")),
    }
}

fn compare(manifest: &Manifest, tree: &Path, progress: &Progress<'_>) -> Result<Vec<Finding>, Error> {
    let mut found: BTreeMap<String, Found> =
        tree::walk(tree)?.into_iter().map(|found| (found.path.clone(), found)).collect();
    let listed: Vec<(&Entry, Option<Found>)> =
        manifest.entries().iter().map(|entry| (entry, found.remove(&entry.path))).collect();
    let done = std::sync::atomic::AtomicU64::new(0);
    let faults = hash::on_all_cores(&listed, |(entry, found), buffer| {
        let fault = judge(entry, found.as_ref(), buffer)?;
        if let Content::File { size, .. } = entry.content {
            progress(done.fetch_add(size, std::sync::atomic::Ordering::Relaxed) + size, manifest.bytes());
        }
        Ok(fault)
    })?;
    let listed = listed.iter().zip(faults);
    let mut findings: Vec<Finding> = listed
        .filter_map(|((entry, _), fault)| Some(Finding { path: entry.path.clone(), fault: fault? }))
        .chain(found.into_keys().map(|path| Finding { path, fault: Fault::Extra }))
        .collect();
    findings.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(findings)
}

fn judge(entry: &Entry, found: Option<&Found>, buffer: &mut Vec<u8>) -> Result<Option<Fault>, Error> {
    let Some(found) = found else { return Ok(Some(Fault::Missing)) };
    let same = match (&entry.content, &found.what) {
        (Content::Link { target }, What::Link { target: found }) => target == found,
        (Content::File { size, executable, hash }, What::File(stamp)) => {
            *size == stamp.size && *executable == stamp.executable && *hash == hash_of(&found.at, *size, buffer)?
        }
        _ => false,
    };
    Ok((!same).then_some(Fault::Altered))
}

fn hash_of(at: &Path, size: u64, buffer: &mut Vec<u8>) -> Result<Hash, Error> {
    let mut file: File = hash::open(at).map_err(|error| Error::file("read", at, error))?;
    match hash::copy(&mut file, &mut io::sink(), size, buffer) {
        Ok((_, hash)) => Ok(hash),
        Err(hash::CopyError::Read(error) | hash::CopyError::Write(error)) => Err(Error::file("read", at, error)),
    }
}
