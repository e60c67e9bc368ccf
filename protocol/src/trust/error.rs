//! Why metadata was refused, and whether the one who sent it lied.

use super::pack::PackError;
use crate::{RepositoryId, Wall};

/// Metadata that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// No trust pack at all.
    #[error("not a trust pack: {0}")]
    Pack(#[from] PackError),
    /// Another repository's metadata.
    #[error("the metadata is of repository {found}, expected {expected}")]
    WrongRepository {
        /// Which was expected.
        expected: RepositoryId,
        /// What the first root hashes to.
        found: RepositoryId,
    },
    /// A document that breaks a rule of its form.
    #[error("{document} is malformed: {problem}")]
    Malformed {
        /// Which document.
        document: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A document that its role's keys did not sign.
    #[error("{document} is not signed as it must be: {problem}")]
    Forged {
        /// Which document.
        document: String,
        /// What is missing or false.
        problem: String,
    },
    /// A document that is not the one that the signed document above it names.
    #[error("{document} is not the one that the signed metadata names: {problem}")]
    Mismatch {
        /// Which document.
        document: String,
        /// What differs.
        problem: String,
    },
    /// Another document than the held one under the same version: the publisher's keys signed two histories.
    #[error(
        "{document} version {version} differs from the one held under that version; ask its publisher which is right"
    )]
    Equivocation {
        /// Which document.
        document: String,
        /// Its version.
        version: u64,
    },
    /// A log of acts that parts from the one that was seen: the publisher's keys signed two histories.
    #[error("entry {entry} of its publisher's log differs from the one seen before; ask its publisher which is right")]
    Forked {
        /// The first entry that differs.
        entry: u64,
    },
    /// A signed release that breaks a rule.
    #[error("the release at {path} is refused: {problem}")]
    Release {
        /// Its target path.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Signed before what is held, or before the earliest time that this device believes.
    #[error("the metadata was signed {} hours before the earliest that is believed here", (held.0 - offered.0) / 3600)]
    Earlier {
        /// The earliest that is believed.
        held: Wall,
        /// When it was signed.
        offered: Wall,
    },
    /// Signed in a form of the future.
    #[error("the release at {path} has format {version}, this program knows 1; update it")]
    Unsupported {
        /// Its target path.
        path: String,
        /// Its format.
        version: String,
    },
    /// Not newer than what is held.
    #[error("{document} version {offered} is not newer than version {held}, which is held")]
    Old {
        /// Which document.
        document: String,
        /// The version held.
        held: u64,
        /// The version offered.
        offered: u64,
    },
    /// Newer metadata that takes a part of it back to an older version: its publisher's fault.
    #[error("newer metadata takes {document} back from version {held} to {offered}; its publisher must release again")]
    Rollback {
        /// Which document.
        document: String,
        /// The version held.
        held: u64,
        /// The version offered; 0 if it is gone.
        offered: u64,
    },
}

impl TrustError {
    /// Whether no honest node would have sent this: forged, altered, or of another repository. What is merely old, taken
    /// back by its publisher, or of a newer format is no lie of the one who carries it; nor is a second history, which
    /// was all that its carrier was shown.
    #[must_use]
    pub fn is_lie(&self) -> bool {
        let innocent =
            matches!(self, Self::Old { .. } | Self::Rollback { .. } | Self::Earlier { .. } | Self::Unsupported { .. });
        !innocent && !self.is_fork()
    }

    /// Whether the publisher's own keys signed two histories: somebody has to look into it.
    #[must_use]
    pub fn is_fork(&self) -> bool {
        matches!(self, Self::Equivocation { .. } | Self::Forked { .. })
    }

    pub(super) fn malformed(document: &str, problem: impl Into<String>) -> Self {
        Self::Malformed { document: document.to_owned(), problem: shown(&problem.into()) }
    }

    pub(super) fn forged(document: &str, problem: impl Into<String>) -> Self {
        Self::Forged { document: document.to_owned(), problem: shown(&problem.into()) }
    }

    /// What the TUF state machine said about a document.
    pub(super) fn tuf(document: &str, error: &sigstore_tuf::Error) -> Self {
        use sigstore_tuf::Error as Tuf;
        let problem = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source())
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(": ");
        match error {
            Tuf::ThresholdNotMet { .. }
            | Tuf::DuplicateSignature { .. }
            | Tuf::UnusableKey { .. }
            | Tuf::UnsupportedScheme { .. }
            | Tuf::Crypto(_) => Self::forged(document, problem),
            Tuf::IntegrityMismatch(_) => Self::Mismatch { document: document.to_owned(), problem: shown(&problem) },
            _ => Self::malformed(document, problem),
        }
    }
}

/// What is wrong, short enough for a log: a parser's words may repeat what it read, however long a stranger made that.
pub(super) fn shown(problem: &str) -> String {
    problem.chars().take(300).collect()
}
