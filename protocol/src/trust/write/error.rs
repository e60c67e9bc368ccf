//! What stands in the way of writing metadata, in words for a publisher.

use super::{Role, TrustError, draft::Missing};
use crate::{NodeId, label::LabelError, release::ReleaseError};

/// Metadata that can't be written as asked. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// A name is not usable.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// The release breaks a rule.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// A key is not at hand.
    #[error("the key of {role} is missing; give the key that `init` made for it")]
    MissingKey {
        /// Of which role.
        role: String,
    },
    /// A key is not the one that the repository names.
    #[error("the key of {role} is not the one that the repository names; give the key that `init` made for it")]
    WrongKey {
        /// Of which role.
        role: String,
    },
    /// One key in two roles.
    #[error("{first} and {second} have the same key; make one for each, so that losing one does not lose both")]
    SharedKey {
        /// The one role.
        first: String,
        /// The other role.
        second: String,
    },
    /// A repository without channels.
    #[error("a repository needs at least one channel; name one, such as `stable`")]
    NoChannel,
    /// The release is of another app, or of a channel that the repository does not have.
    #[error("the repository has no channel {channel:?} of app {app:?}; it has {has}")]
    UnknownChannel {
        /// The release's app.
        app: String,
        /// The release's channel.
        channel: String,
        /// What there is.
        has: String,
    },
    /// Not the newest release number.
    #[error("release {offered} is not newer than release {newest} of {channel}; the next number is {}", newest + 1)]
    SeqNotNewer {
        /// Of which channel.
        channel: String,
        /// Its newest number.
        newest: u64,
        /// The number given.
        offered: u64,
    },
    /// Not the newest version.
    #[error("version {offered} is not newer than version {newest} of {channel}; give a higher version")]
    VersionNotNewer {
        /// Of which channel.
        channel: String,
        /// Its newest version.
        newest: String,
        /// The version given.
        offered: String,
    },
    /// A release that the channel does not list.
    #[error("{channel} lists no such release {seq}; `burr release list` shows those that it does")]
    UnknownRelease {
        /// Which channel.
        channel: String,
        /// Which number.
        seq: u64,
    },
    /// A time that metadata can't hold.
    #[error("the time {0} (seconds since 1970) is out of range; set the clock")]
    Time(i64),
    /// A file of the repository is not there.
    #[error("{0} is missing or unreadable; restore it from a copy of the repository's metadata")]
    MissingFile(String),
    /// The metadata does not verify.
    #[error("the repository's metadata does not verify: {0}")]
    Trust(#[from] TrustError),
    /// A text that names no role.
    #[error("{0:?} is no role; there are root, targets, snapshot, timestamp, channel.NAME and fleet.NAME")]
    NoRole(String),
    /// A role that the repository does not have.
    #[error("the repository has no role {0}")]
    UnknownRole(Role),
    /// A text that is no public key.
    #[error("{0:?} is no public key; give the 64 hex digits that `burr key new` printed")]
    NoKey(String),
    /// A threshold that can't be met, or is zero.
    #[error("{role} would need {threshold} of {keys} keys; the threshold must be between 1 and the number of keys")]
    Threshold {
        /// Of which role.
        role: Role,
        /// The threshold.
        threshold: usize,
        /// Keys that there would be.
        keys: usize,
    },
    /// More keys than a role may name.
    #[error("{role} would have {keys} keys, at most {} are allowed", crate::trust::document::MAX_KEYS)]
    TooManyKeys {
        /// Of which role.
        role: Role,
        /// Keys that there would be.
        keys: usize,
    },
    /// A key that the role does not name.
    #[error("{role} has no key {key_id}")]
    UnknownKey {
        /// Of which role.
        role: Role,
        /// Which key.
        key_id: String,
    },
    /// A change that changes nothing.
    #[error("that would change nothing: {0}")]
    NoChange(String),
    /// The channel is there already.
    #[error("the channel {0} is there already; change its keys with `burr key`")]
    ChannelExists(String),
    /// The fleet is there already.
    #[error("the fleet {0} is there already; change its keys with `burr key`")]
    FleetExists(String),
    /// An epoch that does not follow on the newest one.
    #[error("fleet {fleet} is in epoch {newest}; {offered} does not follow on it")]
    EpochNotNext {
        /// The fleet.
        fleet: String,
        /// Its newest epoch; 0 if it has none.
        newest: u64,
        /// What was offered.
        offered: u64,
    },
    /// The member was revoked before, or the list is full.
    #[error("node {node} can't be revoked from fleet {fleet}: it was before, or 4096 are already")]
    NotRevocable {
        /// From which fleet.
        fleet: String,
        /// Whom.
        node: NodeId,
    },
    /// Signatures are missing.
    #[error("{}", missing_words(.0))]
    Unsigned(Vec<Missing>),
    /// The key may sign nothing in this draft.
    #[error("key {key_id} may sign nothing here; {} may", list(.may_sign))]
    NotASigner {
        /// Which key.
        key_id: String,
        /// Who may.
        may_sign: Vec<String>,
    },
    /// A signature in a draft that does not hold.
    #[error("the signature of key {key_id} on {role} does not hold; take it out or get the file again")]
    BadSignature {
        /// Under which document.
        role: Role,
        /// Which key.
        key_id: String,
    },
    /// Drafts that are not copies of one.
    #[error("these are not copies of one draft: they propose different things")]
    OtherDraft,
    /// The repository is no longer what the draft started from.
    #[error(
        "the repository has moved on since this was proposed ({0}); propose it again, in the repository as it is now"
    )]
    MovedOn(String),
    /// Bytes that are no draft.
    #[error("this is no draft that can be used: {0}")]
    Draft(String),
}

fn missing_words(missing: &[Missing]) -> String {
    let words: Vec<String> = missing.iter().map(ToString::to_string).collect();
    format!("signatures are missing: {}", words.join("; "))
}

pub(super) fn list(keys: &[String]) -> String {
    if keys.is_empty() { "nobody else".to_owned() } else { keys.join(", ") }
}
