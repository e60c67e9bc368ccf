//! Why a refresh or a search stopped.

use crate::trust::TrustError;

/// What a [`Client`](super::Client) could not go on from. It stays where it is: start a new one to try again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// A document that was refused; what was trusted before still is.
    #[error(transparent)]
    Refused(#[from] TrustError),
    /// There is no root to start from.
    #[error("there is no trusted root to start from")]
    NoRoot,
    /// The repository does not have a document that its signed metadata names.
    #[error("the repository has no {name}")]
    Absent {
        /// Its file name.
        name: String,
    },
    /// A document was valid once. Either nobody signs any more, or someone on the way holds newer ones back.
    #[error("{document} expired at {expires}; the repository may be held back on the way, or have no one to sign it")]
    Expired {
        /// Which document.
        document: String,
        /// When, in the form of TUF's `expires`.
        expires: String,
    },
    /// More new roots than one refresh follows. Those that were verified are kept, so another refresh goes on.
    #[error("over {limit} new roots at once; refresh again to go on from version {version}")]
    TooManyRoots {
        /// The version reached.
        version: u64,
        /// How many one refresh follows.
        limit: u64,
    },
    /// A search that was sent through too many delegated roles.
    #[error("the search for {path:?} was sent through over {limit} delegated roles")]
    TooManyRoles {
        /// The target path.
        path: String,
        /// How many one search visits.
        limit: usize,
    },
}
