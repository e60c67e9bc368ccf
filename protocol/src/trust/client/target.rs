//! A target that signed metadata names: where it is to be asked for, and whether bytes are it.

use std::collections::BTreeMap;

use serde_json::Value;
use sha2::{Digest as _, Sha256, Sha512};
use sigstore_tuf::TargetFile;

use crate::trust::{TrustError, document::hex};

/// A target file as the role that may sign for its path describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    path: String,
    length: u64,
    hashes: BTreeMap<String, String>,
    custom: Option<Value>,
    consistent: bool,
}

impl Target {
    pub(super) fn new(path: &str, file: &TargetFile, consistent: bool) -> Result<Self, TrustError> {
        let known = file.hashes.iter().filter(|(name, _)| matches!(name.as_str(), "sha256" | "sha512"));
        let hashes: BTreeMap<_, _> = known.map(|(name, hash)| (name.clone(), hash.to_ascii_lowercase())).collect();
        if hashes.is_empty() {
            let path = path.chars().take(200).collect::<String>();
            return Err(TrustError::malformed(&format!("the target {path:?}"), "it has no hash that is known here"));
        }
        let (path, custom) = (path.to_owned(), file.custom.clone());
        Ok(Self { path, length: file.length, hashes, custom, consistent })
    }

    /// Its target path, as signed.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Its size in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// What its signers say of it beside: any JSON.
    #[must_use]
    pub fn custom(&self) -> Option<&Value> {
        self.custom.as_ref()
    }

    /// Where it lies below the repository's targets: `dir/HASH.name` with consistent snapshots, else the path. It is
    /// not yet encoded for a URL.
    #[must_use]
    pub fn name(&self) -> String {
        let hash = self.hashes.values().next().expect("a target has a hash that is known here");
        match self.path.rsplit_once('/') {
            _ if !self.consistent => self.path.clone(),
            Some((directory, file)) => format!("{directory}/{hash}.{file}"),
            None => format!("{hash}.{}", self.path),
        }
    }

    /// Begins to check bytes as they arrive.
    #[must_use]
    pub fn check(&self) -> TargetCheck<'_> {
        TargetCheck { target: self, length: 0, sha256: Sha256::new(), sha512: Sha512::new() }
    }

    fn mismatch(&self, problem: String) -> TrustError {
        let path = self.path.chars().take(200).collect::<String>();
        TrustError::Mismatch { document: format!("the target {path:?}"), problem }
    }
}

/// The check of a target's bytes, piece by piece.
#[derive(Debug, Clone)]
pub struct TargetCheck<'a> {
    target: &'a Target,
    length: u64,
    sha256: Sha256,
    sha512: Sha512,
}

impl TargetCheck<'_> {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`TrustError::Mismatch`] as soon as they are more than the target has.
    pub fn update(&mut self, bytes: &[u8]) -> Result<(), TrustError> {
        self.length = self.length.saturating_add(bytes.len() as u64);
        if self.length > self.target.length {
            return Err(self.target.mismatch(format!("it is longer than {} bytes", self.target.length)));
        }
        for name in self.target.hashes.keys() {
            match name.as_str() {
                "sha256" => self.sha256.update(bytes),
                _ => self.sha512.update(bytes),
            }
        }
        Ok(())
    }

    /// Judges the whole.
    ///
    /// # Errors
    /// [`TrustError::Mismatch`] if the bytes are not the target's.
    pub fn finish(self) -> Result<(), TrustError> {
        if self.length != self.target.length {
            let problem = format!("it has {} bytes, not {}", self.length, self.target.length);
            return Err(self.target.mismatch(problem));
        }
        let (sha256, sha512) = (hex(&self.sha256.finalize()), hex(&self.sha512.finalize()));
        for (name, signed) in &self.target.hashes {
            if *signed != *(if name == "sha256" { &sha256 } else { &sha512 }) {
                return Err(self.target.mismatch(format!("its {name} is another")));
            }
        }
        Ok(())
    }
}
