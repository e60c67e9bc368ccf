//! What went wrong in the node, in words for people: what happened, what to do, and the cause beneath.

use std::{error::Error as StdError, fmt, io, path::Path};

use serde::{Deserialize, Serialize};

/// What sort of thing went wrong: what a program may want to tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// Another process listens on the port that was asked for.
    PortInUse,
    /// The network can't be used as asked: an address that is none, no such interface, no permission.
    Network,
    /// The disk: not writable, full, damaged, or held by another process.
    Storage,
    /// The disk, or a quota on it, is full.
    NoSpace,
    /// What was given can't be used: a bundle, a name, a version, a directory that is taken.
    BadInput,
    /// A source changed while it was read.
    Changed,
    /// A private key is missing or does not open.
    Key,
    /// Another process is at it.
    Busy,
    /// The data directory was written by a newer Burr.
    NewerFormat,
    /// A setting that does not exist, or a value that it can't have.
    Config,
    /// The node has ended, or does not run.
    Ended,
    /// What was checked is not what it should be.
    NotWhole,
}

/// An error of the node.
pub struct Error {
    kind: Kind,
    words: String,
    hint: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error that says what happened, without a full stop.
    #[must_use]
    pub fn new(kind: Kind, words: impl Into<String>) -> Self {
        Self { kind, words: words.into(), hint: None, source: None }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the cause beneath.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// A failed operation on a file, such as `cannot read index.html`; a full disk is told apart.
    pub(crate) fn file(what: &str, path: &Path, source: io::Error) -> Self {
        let words = format!("cannot {what} {}", path.display());
        if is_no_space(&source) {
            let hint = "free some space on that disk and try again; nothing was changed";
            return Self::new(Kind::NoSpace, words).with_hint(hint).with_source(source);
        }
        Self::new(Kind::Storage, words).with_source(source)
    }

    /// What sort of thing went wrong.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What to do about it, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)?;
        let mut cause = self.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.kind)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as &(dyn StdError + 'static))
    }
}

/// Whether an operation failed because the disk or a quota on it is full.
pub(crate) fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
